/* Self-attention of each sequence in 8-bit integers: kernels/attention_i8/reference.py defines it, to the bit.
 *
 *     q, k, v of a head --pack--> integers        up to 32 queries at a time:
 *     queries x keys --dot--> scores --softmax, exp2--> weights x values --dot--> out
 *
 * dot.h computes both products. In the first, the keys are the rows and the queries are in the lanes, so that
 * maximum, exponential and sum are computed for all queries at once and no reduction crosses lanes: for a text of ten
 * tokens, such reductions took most of the time. In the second product the queries are the rows; it reads their weights
 * where the softmax has stored them.
 *
 * Rejected: blocks of keys with a running maximum (online softmax, Milakov and Gimelshein, arXiv:1805.02867), because
 * the scores of 32 queries fit into the second-level cache for every text that the encoder takes, and the weights would
 * depend on the block. Rejected: four heads of a short text interleaved step by step. It was not faster, because a single
 * head does not wait for its own results.
 */
#ifndef LIFELONG_ATTENTION_H
#define LIFELONG_ATTENTION_H

#include "heads.h"

/* Expands to CALL(rows), compiled for MAX_DOT_ROWS keys or queries, and for half as many if no more are left. */
#define WITH_TILE(left, CALL)                                                                                           \
    if (left > MAX_DOT_ROWS / 2) CALL(MAX_DOT_ROWS);                                                                    \
    else CALL(MAX_DOT_ROWS / 2);

INLINE uint16_t *pair_at(HeadScratch *s, int key, int lane) { return s->scores + key / 2 * (2 * QUERIES) + 2 * lane; }

/* scores <- keys x queries, for 16 * vectors queries. Both products are compiled for each number of vectors, with
 * constant strides: computing the strides at every call took as long as the products of a short text. */
INLINE void score_tile(int rows, int vectors, int first, Keys k, const uint32_t (*queries)[QUERIES], HeadScratch *s)
{
    int32_t sums[MAX_DOT_ROWS][QUERIES];
    Panel panel = {(const uint8_t *)queries, QUERIES * QUAD, k.width / QUAD};
    dot_rows(rows, vectors, plain_rows(k.keys + (int64_t)first * k.width, k.width), panel, (Sums){sums[0], QUERIES});
    UNROLL for (int r = 0; r < rows; r += 2)
        UNROLL for (int n = 0; n < vectors * LANES; n += LANES) {
            Shorts pair = pair_up(load16i(sums[r] + n) >> s->score_shift, load16i(sums[r + 1] + n) >> s->score_shift);
            memcpy(pair_at(s, first + r, n), &pair, sizeof pair);
        }
}

INLINE void score_keys(int vectors, Keys k, const uint32_t (*queries)[QUERIES], HeadScratch *s)
{
    for (int first = 0; first < k.count; first += MAX_DOT_ROWS) {
#define TILE(ROWS) score_tile(ROWS, vectors, first, k, queries, s)
        WITH_TILE(k.count - first, TILE)
#undef TILE
    }
}

static void score_keys_1(const Keys *k, const uint32_t (*queries)[QUERIES], HeadScratch *s) { score_keys(1, *k, queries, s); }
static void score_keys_2(const Keys *k, const uint32_t (*queries)[QUERIES], HeadScratch *s) { score_keys(2, *k, queries, s); }

INLINE Shorts pair_of(HeadScratch *s, int key, int lane)
{
    Shorts pair;
    memcpy(&pair, pair_at(s, key, lane), sizeof pair);
    return pair;
}

/* The maximum score of each of 16 queries, in both halves of a pair. */
INLINE Shorts max_scores(int count, int lane, HeadScratch *s)
{
    Shorts max_score[2] = {pair_of(s, 0, lane), pair_of(s, 2, lane)};
    for (int t = QUAD; t < count; t += QUAD)
        UNROLL for (int p = 0; p < 2; p++) max_score[p] = max32(max_score[p], pair_of(s, t + 2 * p, lane));
    Shorts either = max32(max_score[0], max_score[1]);
    return max32(either, swap_halves(either));
}

/* The softmax of 16 queries over the keys read so far. Every fourth key shares a running sum (error diffusion). */
typedef struct {
    Shorts sums[2]; /* the running sums of the four keys of a quad, as two pairs */
    Bytes last;     /* their high bytes after the last quad */
    IntLanes total; /* the sum of the weights */
} SoftmaxState;

/* Weighs the four keys from `t` on, of which `count` exist. With `masked`, a score may be UNSEEN. */
INLINE void softmax_quad(SoftmaxState *state, int masked, int t, int count, int lane, Shorts max_score, Shorts rate,
                         HeadScratch *s)
{
    UNROLL for (int p = 0; p < 2; p++) {
        Shorts score = pair_of(s, t + 2 * p, lane), power = exp2_fixed(max_score - score, rate);
        if (masked) power &= (Shorts)(score != UNSEEN);
        state->sums[p] += count < QUAD ? power & partial_quad_mask(count, p) : power;
    }
    Bytes high = high_bytes(state->sums[0], state->sums[1]), weights = interleave_halves(high - state->last);
    memcpy(s->weights + (int64_t)t * QUERIES + lane * QUAD, &weights, sizeof weights);
    state->total = add_quads(state->total, weights), state->last = high;
}

/* weights <- softmax of the scores of 16 queries, whose lanes begin at `lane`; returns 1 / the sum of each query's
 * weights.
 *
 * The weights are rounded to bytes by error diffusion: a key's power is added to a running sum, and its weight is the
 * increment of that sum's high byte. The rounding error, the low byte, is carried to the fourth key from here, so that
 * the many small weights of a long text keep their sum. */
INLINE Lanes softmax_rows(int masked, int count, int lane, HeadScratch *s)
{
    Shorts max_score = max_scores(count, lane, s), half = all32(128), rate = all32(s->score_rate);
    SoftmaxState state = {.sums = {half, half}};
    int whole = count / QUAD * QUAD;
    for (int t = 0; t < whole; t += QUAD) softmax_quad(&state, masked, t, QUAD, lane, max_score, rate, s);
    if (whole < count) softmax_quad(&state, masked, whole, count - whole, lane, max_score, rate, s);
    return 1.0f / __builtin_convertvector(state.total, Lanes);
}

/* out[r] <- center + scale * (weights x values) / sum of weights, for queries from `first` on and for 16 * vectors
 * columns from `i` on */
INLINE void weights_times_values_tile(int rows, int vectors, int first, int queries, int i, Keys k, Matrix out,
                                      HeadScratch *s)
{
    int32_t sums[MAX_DOT_ROWS][QUERIES];
    ByteRows x = plain_rows(s->weights + first * QUAD, QUAD);
    x.quad_stride = QUERIES * QUAD;
    Panel panel = {k.values + i * QUAD, k.width * QUAD, (k.count + QUAD - 1) / QUAD};
    dot_rows(rows, vectors, x, panel, (Sums){sums[0], QUERIES});
    UNROLL for (int n = 0; n < vectors * LANES; n += LANES) {
        Lanes scale = load16(s->scale + i + n), center = load16(s->center + i + n);
        UNROLL for (int r = 0; r < rows; r++) {
            Lanes mean = __builtin_convertvector(load16i(sums[r] + n), Lanes) * s->inverse_sums[first + r];
            if (first + r < queries) store16(element(out, first + r, i + n), fma16(mean, scale, center));
        }
    }
}

INLINE void weights_times_values(int vectors, int queries, int i, Keys k, Matrix out, HeadScratch *s)
{
    for (int first = 0; first < queries; first += MAX_DOT_ROWS) {
#define TILE(ROWS) weights_times_values_tile(ROWS, vectors, first, queries, i, k, out, s)
        WITH_TILE(queries - first, TILE)
#undef TILE
    }
}

static void weights_times_values_1(int queries, int i, const Keys *k, Matrix out, HeadScratch *s)
{
    weights_times_values(1, queries, i, *k, out, s);
}

static void weights_times_values_2(int queries, int i, const Keys *k, Matrix out, HeadScratch *s)
{
    weights_times_values(2, queries, i, *k, out, s);
}

/* Rows of `out` <- the weighted means of the values, by the scores of at most QUERIES queries. */
INLINE void mix_values(int masked, int queries, const Keys *k, Matrix out, HeadScratch *s)
{
    for (int lane = 0; lane < queries; lane += LANES)
        store16(s->inverse_sums + lane, softmax_rows(masked, k->count, lane, s));
    for (int i = 0; i < k->width; i += 2 * LANES) {
        void (*multiply)(int, int, const Keys *, Matrix, HeadScratch *) =
            k->width - i > LANES ? weights_times_values_2 : weights_times_values_1;
        multiply(queries, i, k, out, s);
    }
}

/* Packs at most QUERIES queries from `first` on; returns how many there are. */
INLINE int pack_tile(Head h, int first, uint32_t (*to)[QUERIES], HeadScratch *s)
{
    int queries = h.num_tokens - first < QUERIES ? h.num_tokens - first : QUERIES;
    for (int lane = 0; lane < queries; lane += LANES) pack_queries(h, first + lane, lane, to, s);
    return queries;
}

/* Rows of `out` <- attention of the queries from `first` on, at most QUERIES of them, to all keys. */
INLINE void attend_queries(Head h, int first, Matrix out, HeadScratch *s)
{
    Keys all = {s->keys, s->values, h.num_tokens, h.width};
    int queries = pack_tile(h, first, s->queries, s);
    if (queries > LANES) score_keys_2(&all, s->queries, s);
    else score_keys_1(&all, s->queries, s);
    mix_values(0, queries, &all, out, s);
}

#endif
