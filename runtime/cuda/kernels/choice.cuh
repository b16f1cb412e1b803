/* The choice of a character, as contract/sampling.py defines it, by a team of threads: a warp or a whole block.
 *
 * Nothing is sorted. Every filter lets pass what is not below some logit; each of these bounds is found by halving the
 * range of the logits' bits. Probabilities are added as integers, so their sum depends on no order. */
#ifndef P2_CHOICE_CUH
#define P2_CHOICE_CUH

#include "platform.cuh"
#include "types.cuh"

enum { NOBODY = 0x7fffffff };

struct Score {
    float value;
    int at;
};

DEVICE bool beats(Score a, Score b) { return a.value > b.value || (a.value == b.value && a.at < b.at); }

struct WarpTeam {
    DEVICE int first() const { return lane(); }
    DEVICE int size() const { return 32; }
    template <typename T, typename Join> DEVICE T joined(T value, Join join) const {
#pragma unroll
        for (int mask = 16; mask; mask >>= 1) value = join(value, shuffle_xor(value, mask));
        return value;
    }
    DEVICE Score best(Score mine) const {
#pragma unroll
        for (int mask = 16; mask; mask >>= 1) {
            const Score other = {shuffle_xor(mine.value, mask), shuffle_xor(mine.at, mask)};
            if (beats(other, mine)) mine = other;
        }
        return mine;
    }
};

/* `scratch`: 16 bytes of shared memory for each warp. */
struct BlockTeam {
    char *scratch;
    DEVICE int first() const { return thread(); }
    DEVICE int size() const { return THREADS; }
    template <typename T, typename Join> DEVICE T joined(T value, Join join) const {
        value = WarpTeam().joined(value, join);
        T *of_warps = (T *)scratch;
        sync();
        if (lane() == 0) of_warps[warp()] = value;
        sync();
        value = of_warps[0];
        for (int i = 1; i < THREADS / 32; i++) value = join(value, of_warps[i]);
        return value;
    }
    DEVICE Score best(Score mine) const {
        mine = WarpTeam().best(mine);
        Score *of_warps = (Score *)scratch;
        sync();
        if (lane() == 0) of_warps[warp()] = mine;
        sync();
        mine = of_warps[0];
        for (int i = 1; i < THREADS / 32; i++)
            if (beats(of_warps[i], mine)) mine = of_warps[i];
        return mine;
    }
};

/* Bits in the order of the numbers; both zeros are the same. */
DEVICE u32 order_of(float x) {
    const u32 b = bits(add(x, 0.0f));
    return b & 0x80000000u ? ~b : b | 0x80000000u;
}

DEVICE float number_of(u32 order) { return from_bits(order & 0x80000000u ? order & 0x7fffffffu : ~order); }

/* The least number from `low` to `high` for which `holds`, which does not fail again once it holds; it holds for `high`. */
template <typename Holds> DEVICE u32 least_that(u32 low, u32 high, Holds holds) {
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        if (holds(middle)) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* The least order of a logit that survives top-k and top-p, and the highest logit. */
template <typename Team, typename Logits>
DEVICE u32 least_kept(const Text &text, const Team &team, Logits logits, float &highest) {
    const auto sum = [](i64 a, i64 b) { return a + b; };
    const auto larger = [](u32 a, u32 b) { return a > b ? a : b; };
    const auto smaller = [](u32 a, u32 b) { return a < b ? a : b; };
    u32 top = 0, bottom = ~0u;
    for (int v = team.first(); v < VOCAB; v += team.size()) {
        const u32 o = order_of(logits(v));
        top = larger(top, o), bottom = smaller(bottom, o);
    }
    top = team.joined(top, larger), bottom = team.joined(bottom, smaller);
    highest = number_of(top);
    const auto count = [&](u32 above) { /* logits of a higher order */
        i64 found = 0;
        for (int v = team.first(); v < VOCAB; v += team.size()) found += order_of(logits(v)) > above;
        return team.joined(found, sum);
    };
    /* The k-th highest is the least that fewer than k exceed. */
    if (text.top_k < VOCAB) bottom = least_that(bottom, top, [&](u32 x) { return count(x) < text.top_k; });
    if (!(text.top_p < 1)) return bottom;
    const auto weight = [&](float l) { return to_fixed(mul(exp32(mul(sub(l, highest), text.tau)), 0x1p40f)); };
    const auto mass = [&](u32 above) {
        i64 found = 0;
        for (int v = team.first(); v < VOCAB; v += team.size()) {
            const float l = logits(v);
            if (order_of(l) > above) found += weight(l);
        }
        return team.joined(found, sum);
    };
    /* Of equal ones at the bound only so many count. */
    const i64 alike = text.top_k - count(bottom);
    const double total = (double)(mass(bottom) + alike * weight(number_of(bottom)));
    return least_that(bottom, top, [&](u32 x) { return (double)mass(x) < (double)text.top_p * total; });
}

/* The chosen character; all of the team get it. logits(v) and noise(v) give its numbers. */
template <typename Team, typename Logits, typename Noise>
DEVICE int choose(const Text &text, const Team &team, Logits logits, Noise noise) {
    u32 least = 0;
    float highest = 0;
    if (text.filtered) least = least_kept(text, team, logits, highest);
    Score mine = {from_bits(0xff800000u), NOBODY}; /* minus infinity */
    for (int v = team.first(); v < VOCAB; v += team.size()) {
        const float l = logits(v);
        if (text.filtered) {
            if (order_of(l) < least) continue;
            if (text.min_p > 0 && !(exp32(mul(sub(l, highest), text.tau)) >= text.min_p)) continue;
        }
        const float value = add(l, noise(v));
        if (value > mine.value) mine = {value, v};
    }
    mine = team.best(mine);
    return mine.at == NOBODY ? 0 : mine.at;
}

#endif
