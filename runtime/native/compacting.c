/* Puts panels of float32 weights into 28 bits: see compact.h. */

#include "compact.h"

#include <string.h>

/* The exponent field of a float: 0 is zero and what is smaller than 2**-126. */
static int exponent_of(uint32_t bits) { return bits >> 23 & 255; }

/* Where the numbers of panels go: see compact.h. */
typedef struct {
    uint8_t *bytes, *places, *exponents;
    outlier *outliers;
    int32_t *outlier_ends;
} packed;

/* `weights` float [rows][vectors * 16]; `bytes` takes rows * vectors * 48, `places` rows * vectors * 8,
 * `exponents` 16, `outlier_ends` a number for every PIECE rows, counted on from `count`, `outliers` at most up to
 * number `most`.
 *
 * The new count, or -1 where there would be more outliers than that, or a number is not finite. */
static int64_t compact_panel(const float *weights, int rows, int vectors, packed made, int64_t count, int64_t most) {
    const int columns = vectors * 16;
    int largest = 15;
    for (size_t i = 0; i < (size_t)rows * columns; i++) {
        uint32_t bits;
        memcpy(&bits, weights + i, 4);
        if (exponent_of(bits) > largest) largest = exponent_of(bits);
    }
    if (largest == 255) return -1;
    made.exponents[0] = 0;
    for (int place = 1; place < 16; place++) made.exponents[place] = largest - 15 + place;
    memset(made.places, 0, groups_of(rows, vectors) * PLACES_BYTES);
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
            const size_t number = (size_t)row * columns + column;
            const int vector = number / 16 % 4, lane = number % 16, at = 16 * (lane / 4) + 4 * vector + lane % 4;
            uint8_t *group = made.bytes + number / 64 * GROUP_BYTES;
            uint32_t bits;
            memcpy(&bits, weights + number, 4);
            int place = exponent_of(bits) - (largest - 15);
            uint32_t kept = bits << 1 & 0xffffff; /* the sign comes last */
            if (place < 1) {
                place = 0;
                kept = 0;
                if (weights[number] != 0) {
                    if (count == most) return -1;
                    made.outliers[count++] = (outlier){row, column, weights[number]};
                }
            }
            kept |= bits >> 31;
            for (int byte = 0; byte < 3; byte++) group[byte * 64 + at] = kept >> 8 * byte;
            made.places[number / 64 * PLACES_BYTES + at / 2] |= place << 4 * (at % 2);
        }
        if (row % PIECE == PIECE - 1 || row == rows - 1) made.outlier_ends[row / PIECE] = count;
    }
    return count;
}

int64_t p2_compact(const float *weights, int panels, int rows, int vectors, uint8_t *bytes, uint8_t *places,
                   uint8_t *exponents, outlier *outliers, int32_t *outlier_ends, int64_t most) {
    const size_t groups = groups_of(rows, vectors), pieces = (rows + PIECE - 1) / PIECE;
    int64_t count = 0;
    for (int panel = 0; panel < panels && count >= 0; panel++) {
        const packed made = {bytes + panel * groups * GROUP_BYTES, places + panel * groups * PLACES_BYTES,
                             exponents + panel * 16, outliers, outlier_ends + panel * pieces};
        count = compact_panel(weights + panel * groups * 64, rows, vectors, made, count, most);
    }
    return count;
}
