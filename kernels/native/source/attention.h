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

#define NO_SCORE (-(1 << 30)) /* of keys that fill up the last quad */

/* scores <- keys x queries, 16 * vectors of these. The two products are compiled for each number of vectors, with distances
 * that never change as constants: worked out at every call, they took as long as a short text's products. */
INLINE void score_keys(int vectors, Head h, HeadScratch *s)
{
    Panel panel = {(const uint8_t *)s->queries, QUERIES * QUAD, h.width / QUAD};
    dot_many(h.num_tokens, vectors, plain_rows(s->keys, h.width), panel, (Sums){s->scores, QUERIES});
    for (int t = h.num_tokens; t % QUAD; t++)
        for (int c = 0; c < QUERIES; c++) s->scores[t * QUERIES + c] = NO_SCORE;
}

static void score_one_vector(Head h, HeadScratch *s) { score_keys(1, h, s); }
static void score_two_vectors(Head h, HeadScratch *s) { score_keys(2, h, s); }

INLINE IntLanes greatest_scores(int num_tokens, const int32_t *scores)
{
    IntLanes most[QUAD];
    for (int n = 0; n < QUAD; n++) most[n] = load16i(scores + n * QUERIES);
    for (int t = QUAD; t < num_tokens; t += QUAD)
        UNROLL for (int n = 0; n < QUAD; n++) most[n] = max16i(most[n], load16i(scores + (t + n) * QUERIES));
    return max16i(max16i(most[0], most[1]), max16i(most[2], most[3]));
}

/* scores -> weights of 16 queries, whose lanes begin at `lane`; returns one over their sums. A weight is what its power
 * adds to the second byte of the running sum: what rounding leaves over goes to the next key, so that the many small ones
 * of a long text count for what they are together. */
INLINE Lanes weigh_keys(int num_tokens, int lane, HeadScratch *s)
{
    const int32_t *scores = s->scores + lane;
    IntLanes most = greatest_scores(num_tokens, scores), sum = {0};
    BitLanes last = {0};
    for (int t = 0; t < num_tokens; t += QUAD, scores += QUAD * QUERIES) {
        IntLanes sums[QUAD];
        UNROLL for (int n = 0; n < QUAD; n++) {
            Lanes below = __builtin_convertvector(load16i(scores + n * QUERIES) - most, Lanes);
            if (t + n < num_tokens) sum += powers16(below * s->score_step);
            sums[n] = sum;
        }
        BitLanes bytes = second_bytes(sums), before = bytes << 8 | last >> 24;
        Bytes weights = (Bytes)bytes - (Bytes)before;
        memcpy(s->weights + t * QUERIES + lane * QUAD, &weights, sizeof weights);
        last = bytes;
    }
    return 1.0f / __builtin_convertvector(sum >> 8, Lanes);
}

/* sums <- weights x values, 16 * vectors columns from `i` on */
INLINE void sum_values(int vectors, Head h, int queries, int i, HeadScratch *s)
{
    ByteRows rows = {.q = s->weights, .stride = QUAD, .step = QUERIES * QUAD, .ahead = s->weights};
    Panel panel = {s->values + i * QUAD, h.width * QUAD, (h.num_tokens + QUAD - 1) / QUAD};
    dot_many(queries, vectors, rows, panel, (Sums){s->sums[0], QUERIES});
}

static void sum_one_vector(Head h, int queries, int i, HeadScratch *s) { sum_values(1, h, queries, i, s); }
static void sum_two_vectors(Head h, int queries, int i, HeadScratch *s) { sum_values(2, h, queries, i, s); }

/* out[r] = middle + step * (weights x values) / sum of weights, columns i to i + 16 * vectors */
INLINE void mix_values(Head h, int queries, int i, const float *inverse_sums, float *out, int64_t stride, HeadScratch *s)
{
    int vectors = h.width - i >= 2 * LANES ? 2 : 1;
    (vectors == 2 ? sum_two_vectors : sum_one_vector)(h, queries, i, s);
    for (int c = 0; c < vectors; c++, i += LANES) {
        Lanes step = load16(s->step + i), middle = load16(s->middle + i);
        for (int r = 0; r < queries; r++) {
            Lanes mean = __builtin_convertvector(load16i(s->sums[r] + c * LANES), Lanes) * inverse_sums[r];
            store16(out + r * stride + i, fused16(mean, step, middle));
        }
    }
}

/* Queries from `first` on, up to QUERIES. `out` rows are `stride` floats apart. */
INLINE void attend_queries(Head h, int first, float *out, int64_t stride, HeadScratch *s)
{
    int queries = h.num_tokens - first < QUERIES ? h.num_tokens - first : QUERIES, vectors = queries > LANES ? 2 : 1;
    float inverse_sums[QUERIES];
    for (int c = 0; c < vectors; c++) pack_queries(h, first + c * LANES, c * LANES, s);
    (vectors == 2 ? score_two_vectors : score_one_vector)(h, s);
    for (int c = 0; c < vectors; c++) store16(inverse_sums + c * LANES, weigh_keys(h.num_tokens, c * LANES, s));
    for (int i = 0; i < h.width; i += 2 * LANES) mix_values(h, queries, i, inverse_sums, out, stride, s);
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
        for (int first = 0; first < num_tokens; first += QUERIES) attend_queries(h, first, out + first * width, width, s);
    }
}

#endif
