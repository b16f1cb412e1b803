/* How kernels keep to the registers. Loads stay near what needs them. Moved ahead, as the compiler likes it, they take the registers of sums,
 * which then go to the memory and back; processors look ahead by themselves. */
#ifndef P2_NEON_TIGHT_H
#define P2_NEON_TIGHT_H

#ifndef __clang__
#pragma GCC optimize("no-schedule-insns")
#endif

/* Vectors of 16 outputs that a kernel meets at once where there is room for so many; and then, of the three or four that
 * a panel has, those that are left. */
#define AT_ONCE(room) ((room) >= 4 ? 4 : (room) >= 2 ? 2 : 1)
#define REST(at_once) ((at_once) == 4 ? 3 : 1)

#endif
