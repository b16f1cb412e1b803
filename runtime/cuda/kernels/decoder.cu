/* p2's decoder for NVIDIA GPUs: one launch of a grid that stays writes, or reads, a block of characters.
 *
 * Every block owns UNITS units of each layer: all rows of the weights that make them, their states, their cells. After
 * each layer the blocks tell each other the new states and meet. While a block waits for the others it multiplies what
 * it has already: the next layer's product with its old state. */
#include "platform.cuh"

#include "types.cuh"

#include "cells.cuh"
#include "choice.cuh"
#include "grid.cuh"
#include "noise.cuh"
#include "states.cuh"

static_assert(sizeof(Job) == JOB_BYTES, "job.py has another Job");

struct Run {
    const Job &j;
    char *shared;
    Meeting meeting;

    template <typename T> DEVICE T *at(int offset) const { return (T *)(shared + offset); }
    DEVICE int *tokens() const { return at<int>(AT_TOKENS); }
    DEVICE float *sums_x(int l) const { return at<float>(AT_SX + l * SX_BYTES); }
    DEVICE float *sums_h(int l) const { return at<float>(AT_SH + l * SH_BYTES); }
    DEVICE char *value(int slot) const { return at<char>(AT_X + slot * STREAMS * AT_X_STRIDE); }

    DEVICE Own own(int l) const {
        const int before = l * STREAMS * UNITS;
        float *c = at<float>(AT_C) + before;
        return Own{at<float>(AT_H) + before, c, c, FUSED && l == LAYERS - 1 ? at<exchanged>(AT_TOLD) : nullptr};
    }

    DEVICE Sums sums(const Product &p, const float *at, int width) const {
        return Sums{at, p.block ? HIDDEN / p.block : 1, width};
    }
    DEVICE Sums from_input(int l) const {
        return l ? sums(j.layer[l].x, sums_x(l), WIDTH(ROWS_X)) : Sums{nullptr, 0, 0};
    }
    DEVICE Sums from_state(int l) const { return sums(j.layer[l].h, sums_h(l), WIDTH(ROWS_H)); }

    /* Where the states of a layer travel: two places by turns. */
    DEVICE exchanged *slot(int turn, int number) const {
        return (exchanged *)j.exchange + (i64)((turn & 1) * SLOTS + number) * STREAMS * KP;
    }

    DEVICE bool meet() {
        arrive_at(meeting);
        return met(meeting);
    }

#if !MANY
    template <int ROWS> DEVICE void multiply_by(const Product &p, int slot_, float *into) const {
#if KIND == FLOAT32
        product<ROWS>(p, shared, value(slot_), into);
        sync();
#else
        product<ROWS>(p, shared, value(slot_), into, at<sum_type>(AT_SCRATCH));
#endif
    }
    DEVICE void multiply_state(int l) const { multiply_by<ROWS_H>(j.layer[l].h, l, sums_h(l)); }
    DEVICE void multiply_input(int l) const { multiply_by<ROWS_X>(j.layer[l].x, l - 1, sums_x(l)); }

    /* Bring what the others have told into shared memory. */
    DEVICE void fetch(const exchanged *from, int slot_) const {
        constexpr int ROW = KP * (int)sizeof(exchanged) / 16;
        for (int i = thread(); i < j.streams * ROW; i += THREADS) {
            const int s = i / ROW, k = i % ROW;
            *(Four *)(value(slot_) + s * AT_X_STRIDE + k * 16) = load_l2((const Four *)(from + (i64)s * KP) + k);
        }
        sync();
    }
#endif

    /* What the new states of a layer are multiplied with: the layer above, and its own at the next character. */
    DEVICE void multiply_new(int turn, int l, bool above) {
#if MANY
        const exchanged *values = slot(turn, l);
        if (above && l + 1 < LAYERS)
            products<ROWS_X, ROWS_H>(j, &j.layer[l + 1].x, &j.layer[l].h, shared, values, sums_x(l + 1), sums_h(l));
        else products<ROWS_H, 0>(j, &j.layer[l].h, nullptr, shared, values, sums_h(l), nullptr);
#else
        if (above && l + 1 < LAYERS) multiply_input(l + 1);
        multiply_state(l);
#endif
    }

    DEVICE auto telling(int turn, int number) const {
        exchanged *to = slot(turn, number);
        return [=](int s, int unit, exchanged told) { to[(i64)s * KP + unit] = told; };
    }

    /* The biases of a layer for each text; in layer 0 those of its newest character. */
    template <typename Token> DEVICE auto biases(int l, Token token) const {
        const float *first = j.layer[l].bias;
        return [=](int s) { return l ? first : first + (i64)token(s) * GRID * UNITS * BIASES; };
    }

#if STAGED
    /* After r * h has been told: the candidate's product, and the new state. */
    template <typename Biases, typename Tell> DEVICE void finish_candidates(int turn, int l, Biases bias, Tell tell) {
        const Product &p = j.layer[l].candidate;
        float *into = at<float>(AT_SC);
#if MANY
        products<UNITS, 0>(j, &p, nullptr, shared, slot(turn, LAYERS + l), into, nullptr);
#else
        fetch(slot(turn, LAYERS + l), LAYERS);
        multiply_by<UNITS>(p, LAYERS, into);
#endif
        candidates(j, own(l), from_input(l), sums(p, into, WIDTH(UNITS)), bias, tell);
    }
#endif

    /* Copy a matrix's first rows or tiles into shared memory. */
    DEVICE void keep(const Product &p, int rows) const {
#if KIND == FLOAT32
        const int unit = KP / 4, all = rows; /* of 16 bytes */
#else
        const int unit = TILES * 32, all = tiles_of(rows);
#endif
        const Four *from = (const Four *)p.weights + (i64)block() * all * unit;
        for (int i = thread(); i < p.resident * unit; i += THREADS) at<Four>(p.place)[i] = load_stream(from + i);
    }

    /* States, weights, and sums with the states that are there. False if the grid could not meet. */
    DEVICE bool begin(bool all) {
        for (int l = 0; l < LAYERS; l++) {
            const Layer &layer = j.layer[l];
            if (l) keep(layer.x, ROWS_X);
            keep(layer.h, ROWS_H);
            if (STAGED) keep(layer.candidate, UNITS);
            const Own mine = own(l);
            each_unit(j, [&](int u, int s, int unit) {
                const i64 from = l * j.state_stride + (i64)s * KP + unit;
                mine.h[s * UNITS + u] = j.h[from];
                if (CELL == LSTM) mine.c[s * UNITS + u] = j.c[from];
                if (MANY) slot(1, l)[(i64)s * KP + unit] = to_exchanged(j.h[from]);
            });
        }
#if MANY
        if (!meet()) return false;
        for (int l = 0; l < LAYERS; l++) multiply_new(1, l, false);
#else
        for (int i = thread(); i < (LAYERS + (STAGED)) * STREAMS * AT_X_STRIDE / 4; i += THREADS)
            at<u32>(AT_X)[i] = 0;
        sync();
        for (int l = 0; l < LAYERS; l++)
            for (int i = thread(); i < j.streams * HIDDEN; i += THREADS) {
                const int s = i / HIDDEN, k = i % HIDDEN;
                ((exchanged *)(value(l) + s * AT_X_STRIDE))[k] = to_exchanged(j.h[l * j.state_stride + (i64)s * KP + k]);
            }
        sync();
        for (int l = 0; l < (all ? LAYERS : 1); l++) multiply_state(l);
#endif
        return true;
    }

    /* Put the states back. */
    DEVICE void end() const {
        for (int l = 0; l < LAYERS; l++) {
            const Own mine = own(l);
            each_unit(j, [&](int u, int s, int unit) {
                const i64 to = l * j.state_stride + (i64)s * KP + unit;
                j.h[to] = mine.h[s * UNITS + u];
                if (CELL == LSTM) j.c[to] = mine.c[s * UNITS + u];
            });
        }
    }

    /* Noise times temperature, as contract/noise.py defines it; none for a text that is written without. */
    DEVICE float drawn(int s, int step, int v) const {
        const Text &text = j.texts[s];
        if (!text.drawn) return 0;
        const u32 word = noise_word(text.seed, text.stream, text.position + (u64)step, VOCAB, v);
        return mul(gumbel_of(word), text.temperature);
    }
    DEVICE float given(int s, int step, int v) const { return j.noise[step * j.noise_stride + (i64)s * VOCAB + v]; }

#if FUSED
    /* This block's share of the logits: what its units add to each. */
    DEVICE void add_to_logits(int step) const {
        sync();
        const exchanged *told = at<exchanged>(AT_TOLD);
        const output_weight *weights = at<output_weight>(AT_OUT);
        i64 *sums = j.sums + (i64)(step % 3) * STREAMS * VOCAB;
        const int units = HIDDEN - block() * UNITS < UNITS ? HIDDEN - block() * UNITS : UNITS;
        for (int i = thread(); i < j.streams * VOCAB; i += THREADS) {
            const int s = i / VOCAB, v = i % VOCAB;
            i64 sum = 0;
            for (int u = 0; u < units; u++) sum += term(j, weights[v * UNITS + u], told[s * UNITS + u]);
            add_to(sums + i, sum);
        }
    }

    /* This block's share of the noise of a step, from the last thread on: the first warps have products to make. */
    DEVICE void make_noise(int step) const {
        if (j.noise) return;
        float *made = j.made + (i64)(step % 3) * STREAMS * VOCAB;
        for (int i = (THREADS - 1 - thread()) * GRID + block(); i < j.streams * VOCAB; i += GRID * THREADS)
            made[i] = drawn(i / VOCAB, step, i % VOCAB);
    }

    /* Every block reads the logits and chooses alike. */
    DEVICE void choose_all(int step) const {
        float *logits = at<float>(AT_LOGITS), *noise = at<float>(AT_NOISE);
        const i64 *sums = j.sums + (i64)(step % 3) * STREAMS * VOCAB;
        const float *made = j.made + (i64)(step % 3) * STREAMS * VOCAB;
        for (int i = thread(); i < j.streams * VOCAB; i += THREADS) {
            const int s = i / VOCAB, v = i % VOCAB;
            logits[i] = logit(j, load_l2(sums + i), v);
            noise[i] = j.noise ? given(s, step, v) : load_l2(made + i);
        }
        sync();
        for (int s = warp(); s < j.streams; s += THREADS / 32) {
            const float *l = logits + s * VOCAB, *n = noise + s * VOCAB;
            const int chosen = choose(j.texts[s], WarpTeam(), [=](int v) { return l[v]; }, [=](int v) { return n[v]; });
            if (lane() == 0) {
                tokens()[s] = chosen;
                if (block() == 0) j.written[s * j.written_stride + step] = chosen;
            }
        }
        sync();
    }

    /* For the step after next: nobody reads these any more, and nobody has begun to add. */
    DEVICE void clear_logits(int step) const {
        if (block() != 0) return;
        i64 *sums = j.sums + (i64)((step + 2) % 3) * STREAMS * VOCAB;
        for (int i = thread(); i < j.streams * VOCAB; i += THREADS) sums[i] = 0;
    }
#else
    /* Some rows of the output layer times all texts, four at a time. */
    DEVICE void make_logits(int turn) const;

    /* Some texts' characters. */
    DEVICE void choose_some(int step) const {
        const BlockTeam team = {at<char>(AT_SCRATCH)};
        for (int s = block(); s < j.streams; s += GRID) {
            const float *l = j.logits + (i64)s * VOCAB;
            const int chosen = choose(
                j.texts[s], team, [=](int v) { return load_l2(l + v); },
                [=](int v) { return j.noise ? given(s, step, v) : drawn(s, step, v); });
            if (thread() == 0) {
                j.tokens[s] = chosen;
                j.written[s * j.written_stride + step] = chosen;
            }
        }
    }
#endif

    DEVICE bool write();
    DEVICE bool read();
};

/* A lane's part of the sum over a row of the output layer and a state. */
template <typename Load> DEVICE i64 part_of_logit(const Job &j, int v, Load load) {
    struct alignas(4 * sizeof(output_weight)) Weights {
        output_weight of[4];
    };
    i64 sum = 0;
    for (int k = lane() * 4; k < KP; k += 128) {
        const Weights w = *(const Weights *)((const output_weight *)j.out + (i64)v * KP + k);
        const auto h = load(k);
#pragma unroll
        for (int i = 0; i < 4; i++) sum += term(j, w.of[i], h.of[i]);
    }
    return sum;
}

/* Four numbers of a state. */
struct alignas(4 * sizeof(exchanged)) States {
    exchanged of[4];
};
DEVICE States load_states(const exchanged *at) {
    States h;
#if KIND == FLOAT32
    *(Four *)&h = load_l2((const Four *)at);
#elif INTEGERS
    *(u32 *)&h = load_l2((const u32 *)at);
#else
    *(Two *)&h = load_l2((const Two *)at);
#endif
    return h;
}

DEVICE i64 over_lanes(i64 sum) {
    return WarpTeam().joined(sum, [](i64 a, i64 b) { return a + b; });
}

#if !FUSED
DEVICE void Run::make_logits(int turn) const {
    constexpr int TEXTS = STREAMS < 4 ? STREAMS : 4, GROUPS = STREAMS / TEXTS;
    const exchanged *states = slot(turn, LAYERS - 1);
    const int rows = (VOCAB - block() + GRID - 1) / GRID;
    for (int item = warp(); item < rows * GROUPS; item += THREADS / 32) {
        const int v = block() + item / GROUPS * GRID, first = item % GROUPS * TEXTS;
        for (int s = first; s < first + TEXTS && s < j.streams; s++) {
            const exchanged *h = states + (i64)s * KP;
            const i64 sum = over_lanes(part_of_logit(j, v, [=](int k) { return load_states(h + k); }));
            if (lane() == 0) j.logits[(i64)s * VOCAB + v] = logit(j, sum, v);
        }
    }
}
#endif

DEVICE bool Run::write() {
    for (int i = thread(); i < j.streams; i += THREADS) tokens()[i] = load_l2(j.tokens + i);
    if (!begin(false)) return false; /* they have met in there */
#if FUSED
    for (int i = thread(); i < VOCAB * UNITS; i += THREADS) {
        const int v = i / UNITS, unit = block() * UNITS + i % UNITS;
        at<output_weight>(AT_OUT)[i] = unit < HIDDEN ? ((const output_weight *)j.out)[(i64)v * KP + unit] : output_weight(0);
    }
    make_noise(0);
#endif
    for (int step = 0; step < j.count; step++) {
        const int *newest = tokens();
        for (int l = 0; l < LAYERS; l++) {
            const auto bias = biases(l, [=](int s) { return newest[s]; });
            const auto tell = telling(step, l);
#if STAGED
            advance(j, own(l), from_input(l), from_state(l), bias, telling(step, LAYERS + l));
            if (!meet()) return false;
            finish_candidates(step, l, bias, tell);
#else
            advance(j, own(l), from_input(l), from_state(l), bias, tell);
#endif
#if FUSED
            if (l == LAYERS - 1) add_to_logits(step);
#endif
            arrive_at(meeting);
#if !MANY
            if (LAYERS > 1) multiply_state((l + 1) % LAYERS); /* in the shadow of the meeting */
#endif
#if FUSED
            if (l == LAYERS - 1) make_noise(step + 1);
#endif
            if (!met(meeting)) return false;
#if MANY
            multiply_new(step, l, true);
#else
            fetch(slot(step, l), l);
            if (l + 1 < LAYERS) multiply_input(l + 1);
            else if (LAYERS == 1) multiply_state(0);
#endif
        }
#if FUSED
        clear_logits(step);
        choose_all(step);
#else
        make_logits(step);
        if (!meet()) return false;
        choose_some(step);
        if (!meet()) return false;
        for (int i = thread(); i < j.streams; i += THREADS) tokens()[i] = load_l2(j.tokens + i);
        sync();
#endif
    }
#if FUSED
    if (block() == 0)
        for (int i = thread(); i < j.streams; i += THREADS) j.tokens[i] = tokens()[i];
#endif
    end();
    return true;
}

/* All layers at once, each one character behind the one below: one meeting a character. */
DEVICE bool Run::read() {
    if (!begin(true)) return false;
    for (int tick = 0; tick < j.count + LAYERS - 1; tick++) {
        const auto active = [&](int l) { return tick >= l && tick - l < j.count; };
        const i32 *text = j.written + tick;
        const i64 stride = j.written_stride;
        const auto token = [=](int s) { return text[s * stride]; };
#if STAGED
        for (int l = 0; l < LAYERS; l++)
            if (active(l)) advance(j, own(l), from_input(l), from_state(l), biases(l, token), telling(tick, LAYERS + l));
        if (!meet()) return false;
#endif
        for (int l = 0; l < LAYERS; l++) {
            if (!active(l)) continue;
            const auto tell_all = telling(tick, l);
            exchanged *top = l == LAYERS - 1 ? (exchanged *)j.top : nullptr;
            const int character = tick - l, count = j.count;
            const auto tell = [=](int s, int unit, exchanged told) {
                tell_all(s, unit, told);
                if (top) top[((i64)s * count + character) * KP + unit] = told;
            };
#if STAGED
            finish_candidates(tick, l, biases(l, token), tell);
#else
            advance(j, own(l), from_input(l), from_state(l), biases(l, token), tell);
#endif
        }
        if (!meet()) return false;
#if !MANY
        for (int l = 0; l < LAYERS; l++)
            if (active(l)) fetch(slot(tick, l), l);
#endif
        for (int l = 0; l < LAYERS; l++)
            if (active(l)) multiply_new(tick, l, true);
    }
    end();
    return true;
}

/* The launch's description, and the meeting, in shared memory. */
DEVICE Run open(const Job *given) {
    char *shared = shared_memory();
    u32 *words = (u32 *)(shared + AT_JOB);
    for (int i = thread(); i < (int)sizeof(Job) / 4; i += THREADS) words[i] = load_l2((const u32 *)given + i);
    int *failed = (int *)(shared + AT_TOKENS) + STREAMS;
    if (thread() == 0) *failed = 0;
    sync();
    const Job &j = *(const Job *)words;
    return Run{j, shared, Meeting{j.barrier, 0, failed, j.patience}};
}

KERNEL(p2_write)(const Job *given) {
    Run run = open(given);
    run.write();
}

KERNEL(p2_read)(const Job *given) {
    Run run = open(given);
    run.read();
}

/* Logits of the states that p2_read kept: a warp for each character and each text's position. */
PLAIN_KERNEL(p2_logits)(const Job *given) {
    const Job &j = *given;
    const i64 places = (i64)j.streams * j.count, warps = (i64)blocks() * (threads() / 32);
    for (i64 item = block() * (threads() / 32) + warp(); item < places * VOCAB; item += warps) {
        const int v = (int)(item % VOCAB);
        const i64 place = item / VOCAB, s = place / j.count, step = place % j.count;
        const exchanged *h = (const exchanged *)j.top + place * KP;
        const i64 sum = over_lanes(part_of_logit(j, v, [=](int k) { return *(const States *)(h + k); }));
        if (lane() == 0) j.predicted[s * j.predicted_stride + step * VOCAB + v] = logit(j, sum, v);
    }
}
