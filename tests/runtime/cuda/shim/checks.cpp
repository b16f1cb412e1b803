/* What -fsanitize=alignment,bounds,shift-exponent calls in the kernels, instead of a library: a GPU stops at such an address, or goes
 * on with numbers that the standard does not define. */
#include "fibres.h"

namespace {
struct Place {
    const char *file;
    u32 line, column;
};
}  // namespace

extern "C" {
void __ubsan_handle_type_mismatch_v1(const Place *place, unsigned long address) {
    p2_fail("%s:%u: block %d: thread %d uses the address %#lx, which is no multiple of what is there", place->file,
            place->line, p2_here->block, p2_here->thread, address);
}
void __ubsan_handle_out_of_bounds(const Place *place, unsigned long index) {
    p2_fail("%s:%u: block %d: thread %d uses index %ld of an array, which has less", place->file, place->line,
            p2_here->block, p2_here->thread, (long)index);
}
void __ubsan_handle_shift_out_of_bounds(const Place *place, unsigned long, unsigned long by) {
    p2_fail("%s:%u: block %d: thread %d shifts by %ld", place->file, place->line, p2_here->block, p2_here->thread, (long)by);
}
}
