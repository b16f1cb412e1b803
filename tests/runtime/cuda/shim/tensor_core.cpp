/* mma.m16n8k16 and mma.m16n8k32 by their definition: which lane has which numbers is in PTX's manual. In which order a tensor
 * core adds is not known; here it is that of k, each sum rounded to float32. */
#include "numbers.h"

namespace {

template <typename Number, int PER_WORD, typename Read> void multiply(const P2Matrices &all, Read read) {
    constexpr int K = 8 * PER_WORD, BITS = 32 / PER_WORD;
    Number left[16][K], right[K][8];
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane / 4, first = lane % 4 * PER_WORD;
        for (int i = 0; i < PER_WORD; i++) {
            for (int word = 0; word < 4; word++)
                left[group + word % 2 * 8][first + word / 2 * (K / 2) + i] = read(all.a[lane][word] >> i * BITS);
            for (int word = 0; word < 2; word++)
                right[first + word * (K / 2) + i][group] = read(all.b[lane][word] >> i * BITS);
        }
    }
    for (int row = 0; row < 16; row++) {
        Number sums[8];
        const auto place = [&](int column) { /* of a sum */
            return (Number *)all.c[row % 8 * 4 + column / 2] + row / 8 * 2 + column % 2;
        };
        for (int column = 0; column < 8; column++) sums[column] = *place(column);
        for (int k = 0; k < K; k++)
            for (int column = 0; column < 8; column++) sums[column] += left[row][k] * right[k][column];
        for (int column = 0; column < 8; column++) *place(column) = sums[column];
    }
}

}  // namespace

void p2_tensor_core(P2Meeting kind, const P2Matrices &all) {
    if (kind == P2_HALF)
        multiply<float, 2>(all, [](u32 word) { return half_to_float((u16)word); });
    else if (kind == P2_BRAIN)
        multiply<float, 2>(all, [](u32 word) { return brain_to_float((u16)word); });
    else
        multiply<i32, 4>(all, [](u32 word) { return (i32)(i8)word; });
}
