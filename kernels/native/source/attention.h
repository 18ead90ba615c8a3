/* Attention of each sequence to itself, in 8-bit integers: kernels/attention_i8/reference.py defines it, to the bit.
 *
 *     q, k, v of a head --pack--> integers        up to 32 queries at a time:
 *     queries x keys --dot--> scores --powers--> weights x values --dot--> out
 *
 * Both products are those of dot.h. In the first the keys are the rows and the queries lie in the lanes, so that maximum,
 * exponential and sum are done for all queries at once and nothing is ever reduced across lanes: for a text of ten tokens
 * that was most of the time. In the second the queries are the rows, read where the first left their weights.
 *
 * Rejected: blocks of keys with a running maximum (Milakov and Gimelshein, arXiv:1805.02867): the scores of 32 queries fit
 * into the second-level cache for every text that the encoder takes, and weights would depend on the block. And four heads
 * of a short text side by side, step by step: no faster, so a head does not wait for itself.
 */
#ifndef LIFELONG_ATTENTION_H
#define LIFELONG_ATTENTION_H

#include "heads.h"

/* CALL(rows), compiled for as many keys or queries as are multiplied at once, and for half where no more are left. */
#define WITH_TILE(left, CALL)                                                                                           \
    if (left > MOST_ROWS / 2) CALL(MOST_ROWS);                                                                          \
    else CALL(MOST_ROWS / 2);

INLINE uint16_t *pair_at(HeadScratch *s, int key, int lane) { return s->scores + key / 2 * (2 * QUERIES) + 2 * lane; }

/* scores <- keys x queries, 16 * vectors of these. The two products are compiled for each number of vectors, with distances
 * that never change as constants: worked out at every call, they took as long as a short text's products. */
INLINE void score_tile(int rows, int vectors, int first, Head h, HeadScratch *s)
{
    int32_t sums[MOST_ROWS][QUERIES];
    Panel panel = {(const uint8_t *)s->queries, QUERIES * QUAD, h.width / QUAD};
    dot_rows(rows, vectors, plain_rows(s->keys + first * h.width, h.width), panel, (Sums){sums[0], QUERIES});
    UNROLL for (int r = 0; r < rows; r += 2)
        UNROLL for (int n = 0; n < vectors * LANES; n += LANES) {
            Shorts pair = pair_up(load16i(sums[r] + n) >> s->score_shift, load16i(sums[r + 1] + n) >> s->score_shift);
            memcpy(pair_at(s, first + r, n), &pair, sizeof pair);
        }
}

INLINE void score_keys(int vectors, Head h, HeadScratch *s)
{
    for (int first = 0; first < h.num_tokens; first += MOST_ROWS) {
#define TILE(ROWS) score_tile(ROWS, vectors, first, h, s)
        WITH_TILE(h.num_tokens - first, TILE)
#undef TILE
    }
}

static void score_one_vector(Head h, HeadScratch *s) { score_keys(1, h, s); }
static void score_two_vectors(Head h, HeadScratch *s) { score_keys(2, h, s); }

INLINE Shorts pair_of(HeadScratch *s, int key, int lane)
{
    Shorts pair;
    memcpy(&pair, pair_at(s, key, lane), sizeof pair);
    return pair;
}

/* In both halves of each pair. */
INLINE Shorts greatest_scores(int num_tokens, int lane, HeadScratch *s)
{
    Shorts most[2] = {pair_of(s, 0, lane), pair_of(s, 2, lane)};
    for (int t = QUAD; t < num_tokens; t += QUAD)
        UNROLL for (int p = 0; p < 2; p++) most[p] = greater(most[p], pair_of(s, t + 2 * p, lane));
    Shorts either = greater(most[0], most[1]);
    return greater(either, swap_pair(either));
}

/* Of 16 queries so far. Each pair of a quad has running sums of its own. */
typedef struct {
    Shorts sums[2];
    Bytes last; /* their upper bytes */
    IntLanes total;
} Weighed;

/* The four keys from `t` on, of which `count` are there. */
INLINE void weigh_quad(Weighed *w, int t, int count, int lane, Shorts most, Shorts rate, HeadScratch *s)
{
    UNROLL for (int p = 0; p < 2; p++) {
        Shorts power = powers(most - pair_of(s, t + 2 * p, lane), rate);
        w->sums[p] += count < QUAD ? power & one_of_first(count, p) : power;
    }
    Bytes upper = upper_bytes(w->sums[0], w->sums[1]), weights = side_by_side(upper - w->last);
    memcpy(s->weights + t * QUERIES + lane * QUAD, &weights, sizeof weights);
    w->total = add_quads(w->total, weights), w->last = upper;
}

/* scores -> weights of 16 queries, whose lanes begin at `lane`; returns one over their sums. A weight is what its power
 * adds to the upper byte of a running sum: what rounding leaves over goes to the fourth key from here, so that the many
 * small ones of a long text count for what they are together. */
INLINE Lanes weigh_keys(int num_tokens, int lane, HeadScratch *s)
{
    Shorts most = greatest_scores(num_tokens, lane, s), half = all32(128), rate = all32(s->score_rate);
    Weighed w = {.sums = {half, half}};
    int whole = num_tokens / QUAD * QUAD;
    for (int t = 0; t < whole; t += QUAD) weigh_quad(&w, t, QUAD, lane, most, rate, s);
    if (whole < num_tokens) weigh_quad(&w, whole, num_tokens - whole, lane, most, rate, s);
    return 1.0f / __builtin_convertvector(w.total, Lanes);
}

/* out[r] = middle + step * (weights x values) / sum of weights for queries from `first` on, 16 * vectors columns from `i` */
INLINE void mix_tile(int rows, int vectors, int first, int queries, int i, Head h, Matrix out, HeadScratch *s)
{
    int32_t sums[MOST_ROWS][QUERIES];
    ByteRows x = plain_rows(s->weights + first * QUAD, QUAD);
    x.step = QUERIES * QUAD;
    Panel panel = {s->values + i * QUAD, h.width * QUAD, (h.num_tokens + QUAD - 1) / QUAD};
    dot_rows(rows, vectors, x, panel, (Sums){sums[0], QUERIES});
    UNROLL for (int n = 0; n < vectors * LANES; n += LANES) {
        Lanes step = load16(s->step + i + n), middle = load16(s->middle + i + n);
        UNROLL for (int r = 0; r < rows; r++) {
            Lanes mean = __builtin_convertvector(load16i(sums[r] + n), Lanes) * s->inverse_sums[first + r];
            if (first + r < queries) store16(element(out, first + r, i + n), fused16(mean, step, middle));
        }
    }
}

INLINE void mix_values(int vectors, Head h, int queries, int i, Matrix out, HeadScratch *s)
{
    for (int first = 0; first < queries; first += MOST_ROWS) {
#define TILE(ROWS) mix_tile(ROWS, vectors, first, queries, i, h, out, s)
        WITH_TILE(queries - first, TILE)
#undef TILE
    }
}

static void mix_one_vector(Head h, int queries, int i, Matrix out, HeadScratch *s) { mix_values(1, h, queries, i, out, s); }
static void mix_two_vectors(Head h, int queries, int i, Matrix out, HeadScratch *s) { mix_values(2, h, queries, i, out, s); }

/* Queries from `first` on, up to QUERIES, into the rows of `out`. */
INLINE void attend_queries(Head h, int first, Matrix out, HeadScratch *s)
{
    int queries = h.num_tokens - first < QUERIES ? h.num_tokens - first : QUERIES, vectors = queries > LANES ? 2 : 1;
    for (int c = 0; c < vectors; c++) pack_queries(h, first + c * LANES, c * LANES, s);
    (vectors == 2 ? score_two_vectors : score_one_vector)(h, s);
    for (int c = 0; c < vectors; c++) store16(s->inverse_sums + c * LANES, weigh_keys(h.num_tokens, c * LANES, s));
    for (int i = 0; i < h.width; i += 2 * LANES)
        (h.width - i > LANES ? mix_two_vectors : mix_one_vector)(h, queries, i, out, s);
}

/* out: `num_tokens` rows of num_heads * head floats, of as many rows with q, k and v side by side. */
static void attend(Matrix qkv, int num_tokens, int num_heads, int head, float *out, HeadScratch *s)
{
    int64_t width = (int64_t)num_heads * head;
    for (int64_t column = 0; column < width; column += head, out += head) {
        Head h = {qkv, column, width + column, 2 * width + column, num_tokens, head};
        pack_keys(h, s);
        scan_queries(h, s);
        pack_values(h, s);
        for (int first = 0; first < num_tokens; first += QUERIES) attend_queries(h, first, dense(out + first * width, width), s);
    }
}

#endif
