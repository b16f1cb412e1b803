/* AMX on a processor that has none: its instructions are illegal there, and the handler of that signal does what they
 * would have done. As Intel's Software Developer's Manual, volumes 1 (chapter 18) and 2, has them; those only that the
 * decoder uses. What would have been a fault on a processor with AMX is one here. */

#define _GNU_SOURCE

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, BYTES = 64 };

typedef struct {
    uint8_t palette, start_row, none[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} shapes;

/* A processor's, so a thread's. */
static __thread shapes shape;
static __thread uint8_t tiles[TILES][ROWS][BYTES];

static struct sigaction before;
static atomic_long done; /* products */

static const int REGISTER[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* The fields of an instruction that begins with three bytes of VEX. */
typedef struct {
    int prefix, opcode, reg, other, rm, mod, size;
    uintptr_t address; /* of what is no register: base and distance */
    int64_t index;     /* times its scale; 0 without one */
    int has_index;
} instruction;

static int read_instruction(const uint8_t *code, const greg_t *registers, instruction *i) {
    if (code[0] != 0xc4 || (code[1] & 31) != 2 || code[2] & 0x84) return 0; /* map 0F38, W and L are 0 */
    const int b = ~code[1] >> 5 & 1, x = ~code[1] >> 6 & 1, r = ~code[1] >> 7 & 1;
    const uint8_t *at = code + 4, modrm = *at++;
    *i = (instruction){.prefix = code[2] & 3, .opcode = code[3], .reg = (modrm >> 3 & 7) + 8 * r,
                       .other = ~code[2] >> 3 & 15, .rm = modrm & 7, .mod = modrm >> 6};
    if (i->mod == 3) {
        i->rm += 8 * b;
        i->size = at - code;
        return 1;
    }
    int base = i->rm;
    if (base == 4) {
        const uint8_t sib = *at++;
        const int index = (sib >> 3 & 7) + 8 * x;
        base = sib & 7;
        i->has_index = 1;
        if (index != 4) i->index = registers[REGISTER[index]] << (sib >> 6);
    }
    if (i->mod == 0 && base == 5) return 0; /* from the instruction's own address, or without a base: not used */
    i->address = registers[REGISTER[base + 8 * b]];
    if (i->mod == 1) i->address += (int8_t)*at++;
    if (i->mod == 2) {
        int32_t distance;
        memcpy(&distance, at, 4);
        i->address += distance;
        at += 4;
    }
    i->size = at - code;
    return 1;
}

static int configure(const shapes *given) {
    static const uint8_t none[14];
    if (given->palette != 1 || given->start_row || memcmp(given->none, none, 14)) return 0;
    for (int t = 0; t < 16; t++) {
        if (given->rows[t] > ROWS || given->bytes[t] > BYTES || !given->rows[t] != !given->bytes[t]) return 0;
        if (t >= TILES && given->rows[t]) return 0;
    }
    shape = *given;
    memset(tiles, 0, sizeof tiles);
    return 1;
}

static int is_configured(int tile) { return shape.palette && tile < TILES && shape.rows[tile]; }

static int load(int tile, uintptr_t from, int64_t stride) {
    if (!is_configured(tile)) return 0;
    memset(tiles[tile], 0, sizeof tiles[tile]);
    for (int row = 0; row < shape.rows[tile]; row++)
        memcpy(tiles[tile][row], (const void *)(from + row * stride), shape.bytes[tile]);
    return 1;
}

static int store(int tile, uintptr_t to, int64_t stride) {
    if (!is_configured(tile)) return 0;
    for (int row = 0; row < shape.rows[tile]; row++)
        memcpy((void *)(to + row * stride), tiles[tile][row], shape.bytes[tile]);
    return 1;
}

/* TDPBUSD: sums of 32 bits, without saturation, of bytes without a sign times bytes with one. */
static int multiply(int sums, int plain, int with_sign) {
    if (!is_configured(sums) || !is_configured(plain) || !is_configured(with_sign)) return 0;
    if (sums == plain || sums == with_sign || plain == with_sign) return 0;
    const int m = shape.rows[sums], k = shape.bytes[plain] / 4, n = shape.bytes[sums] / 4;
    if (shape.bytes[sums] % 4 || shape.bytes[plain] % 4 || shape.bytes[with_sign] != shape.bytes[sums]) return 0;
    if (shape.rows[plain] != m || shape.rows[with_sign] != k) return 0;
    for (int row = 0; row < m; row++)
        for (int column = 0; column < n; column++) {
            uint32_t sum;
            memcpy(&sum, tiles[sums][row] + 4 * column, 4);
            for (int four = 0; four < k; four++)
                for (int byte = 0; byte < 4; byte++)
                    sum += (uint32_t)(tiles[plain][row][4 * four + byte] *
                                      (int8_t)tiles[with_sign][four][4 * column + byte]);
            memcpy(tiles[sums][row] + 4 * column, &sum, 4);
        }
    done++;
    return 1;
}

enum { PLAIN = 0, X66 = 1, XF3 = 2, XF2 = 3 };

static int execute(const instruction *i) {
    const int memory = i->mod != 3;
    if (i->opcode == 0x5e) return i->prefix == X66 && !memory && multiply(i->reg, i->rm, i->other);
    if (i->other) return 0;
    if (i->opcode == 0x4b && memory && i->has_index) {
        if (i->prefix == XF2) return load(i->reg, i->address, i->index);
        if (i->prefix == XF3) return store(i->reg, i->address, i->index);
    }
    if (i->opcode == 0x49 && i->prefix == PLAIN && !i->reg) {
        if (memory) return configure((const shapes *)(i->address + i->index));
        if (!i->rm) {
            memset(&shape, 0, sizeof shape);
            return 1;
        }
    }
    return 0;
}

static void handle(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    instruction i;
    (void)signal;
    (void)info;
    if (read_instruction((const uint8_t *)registers[REG_RIP], registers, &i) && execute(&i)) registers[REG_RIP] += i.size;
    else sigaction(SIGILL, &before, NULL); /* it comes again, and the other one hears of it */
}

void begin(void) {
    struct sigaction own = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &own, &before);
}

/* How many products were made since the last end. */
long end(void) {
    sigaction(SIGILL, &before, NULL);
    return atomic_exchange(&done, 0);
}

/* Whether tiles are still configured here. */
int configured(void) { return shape.palette; }
