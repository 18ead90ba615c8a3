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
 * into the second-level cache for every text that the encoder takes, and weights would depend on the block.
 */
#ifndef LIFELONG_ATTENTION_H
#define LIFELONG_ATTENTION_H

#include "linear.h"

#define QUERIES (2 * LANES) /* attended together, where a sequence has so many */
#define MAX_HEAD 256
#define LOG2_E 1.44269504f
#define NO_SCORE (-(1 << 30)) /* of keys that fill up the last quad */

/* A head of a sequence: q, k and v begin at these columns. */
typedef struct {
    Matrix qkv;
    int64_t q, k, v;
    int num_tokens, width;
} Head;

/* What one thread needs, for the longest sequence; a whole number of quads. */
typedef struct {
    uint8_t *keys;    /* [tokens][width] */
    uint8_t *values;  /* [tokens / 4][width][4], signed */
    uint8_t *weights; /* [tokens / 4][queries][4] */
    int32_t *scores;  /* [tokens][queries] */
    float low[MAX_HEAD], step[MAX_HEAD], middle[MAX_HEAD]; /* of the channels of values: v ~ middle + step * q */
    float score_step;                                      /* what an integer score counts, in powers of two */
    float query_inverse;
    uint32_t queries[MAX_HEAD / QUAD][QUERIES];
    int32_t sums[QUERIES][QUERIES];
} HeadScratch;

INLINE int64_t head_scratch_bytes(int64_t tokens, int width)
{
    tokens = round_up(tokens, QUAD);
    return round_up((int64_t)sizeof(HeadScratch), 64) + round_up(2 * tokens * width, 64) + tokens * QUERIES * 5;
}

INLINE HeadScratch *head_scratch(void *memory, int64_t tokens, int width)
{
    HeadScratch *s = memory;
    tokens = round_up(tokens, QUAD);
    s->keys = (uint8_t *)memory + round_up((int64_t)sizeof *s, 64);
    s->values = s->keys + tokens * width;
    s->weights = s->keys + round_up(2 * tokens * width, 64);
    s->scores = (int32_t *)(s->weights + tokens * QUERIES);
    return s;
}

/* low and step <- least value and range of each channel, from column `first` on */
INLINE void scan_channels(int64_t first, Head h, HeadScratch *s)
{
    for (int i = 0; i < h.width; i += LANES) {
        const float *x = element(h.qkv, 0, first + i);
        Lanes least = load16(x), greatest = least;
        for (int t = 1; t < h.num_tokens; t++) {
            Lanes v = load16(x + t * h.qkv.stride);
            least = min16(least, v), greatest = max16(greatest, v);
        }
        store16(s->low + i, least), store16(s->step + i, greatest - least);
    }
}

/* Keys have one step for all channels, and lows of their own: they add the same to all scores of a query. */
INLINE void pack_keys(Head h, HeadScratch *s)
{
    scan_channels(h.k, h, s);
    Lanes widest = load16(s->step);
    for (int i = LANES; i < h.width; i += LANES) widest = max16(widest, load16(s->step + i));
    float range = greatest_lane(widest);
    Lanes inverse = all16(255.0f / (range + EPSILON));
    s->score_step = range / 255.0f;
    for (int i = 0; i < h.width; i += LANES) {
        const float *k = element(h.qkv, 0, h.k + i);
        Lanes low = load16(s->low + i);
        for (int t = 0; t < h.num_tokens; t++)
            store_bytes(s->keys + t * h.width + i, nearest16((load16(k + t * h.qkv.stride) - low) * inverse), LANES);
    }
}

/* Four tokens of a channel are one lane. */
INLINE IntLanes four_values(const float *v, int64_t stride, int count, Lanes low, Lanes inverse)
{
    IntLanes word = {0};
    UNROLL for (int n = 0; n < count; n++)
        word |= (nearest16((load16(v + n * stride) - low) * inverse) ^ 128) << 8 * n;
    return word;
}

INLINE void pack_values(Head h, HeadScratch *s)
{
    scan_channels(h.v, h, s);
    for (int i = 0; i < h.width; i += LANES) {
        Lanes low = load16(s->low + i), range = load16(s->step + i);
        Lanes inverse = all16(255.0f) / (range + EPSILON), step = range / 255.0f;
        store16(s->step + i, step), store16(s->middle + i, fused16(all16(128.0f), step, low));
        const float *v = element(h.qkv, 0, h.v + i);
        int64_t stride = h.qkv.stride;
        uint8_t *to = s->values + i * QUAD;
        int t = 0;
        for (; t + QUAD <= h.num_tokens; t += QUAD) {
            IntLanes word = four_values(v + t * stride, stride, QUAD, low, inverse);
            memcpy(to + t * h.width, &word, sizeof word);
        }
        if (t == h.num_tokens) continue;
        IntLanes word = four_values(v + t * stride, stride, h.num_tokens - t, low, inverse);
        memcpy(to + t * h.width, &word, sizeof word);
    }
}

INLINE void scan_queries(Head h, HeadScratch *s)
{
    Lanes most = all16(0.0f);
    for (int i = 0; i < h.width; i += LANES)
        for (int t = 0; t < h.num_tokens; t++) {
            Lanes v = load16(element(h.qkv, t, h.q + i));
            most = max16(most, max16(v, -v));
        }
    float greatest = greatest_lane(most);
    s->query_inverse = 127.0f / (greatest + EPSILON);
    s->score_step *= greatest / 127.0f * (LOG2_E / sqrtf((float)h.width));
}

/* to[i][r] = from[r][i] for 16 rows of 8 words, `stride` words apart; rows of `to` are QUERIES words apart */
INLINE void transpose(const uint32_t *from, int64_t stride, uint32_t *to)
{
#if defined(__AVX512F__)
    __m512i v[8], a[8], b[8];
    for (int r = 0; r < 8; r++) /* rows r and r + 8 */
        v[r] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(from + r * stride))),
                                  _mm256_loadu_si256((const __m256i *)(from + (r + 8) * stride)), 1);
    for (int r = 0; r < 4; r++) { /* a[r], a[r + 4]: words of rows 2r, 2r + 1 in turn */
        a[r] = _mm512_unpacklo_epi32(v[2 * r], v[2 * r + 1]);
        a[r + 4] = _mm512_unpackhi_epi32(v[2 * r], v[2 * r + 1]);
    }
    for (int r = 0; r < 2; r++) { /* b: four rows; words 0 and 4, 1 and 5, 2 and 6, 3 and 7 */
        b[4 * r + 0] = _mm512_unpacklo_epi64(a[2 * r], a[2 * r + 1]);
        b[4 * r + 1] = _mm512_unpackhi_epi64(a[2 * r], a[2 * r + 1]);
        b[4 * r + 2] = _mm512_unpacklo_epi64(a[2 * r + 4], a[2 * r + 5]);
        b[4 * r + 3] = _mm512_unpackhi_epi64(a[2 * r + 4], a[2 * r + 5]);
    }
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(to + i * QUERIES, _mm512_permutex2var_epi64(b[i], low, b[4 + i]));
        _mm512_storeu_si512(to + (i + 4) * QUERIES, _mm512_permutex2var_epi64(b[i], high, b[4 + i]));
    }
#else
    for (int i = 0; i < 8; i++)
        for (int r = 0; r < LANES; r++) to[i * QUERIES + r] = from[r * stride + i];
#endif
}

/* 16 queries from `first` on into the lanes from `lane` on; those that are not there repeat the last. */
INLINE void pack_queries(Head h, int first, int lane, HeadScratch *s)
{
    uint32_t rows[LANES][MAX_HEAD / QUAD];
    Lanes inverse = all16(s->query_inverse);
    for (int r = 0; r < LANES; r++) {
        int row = first + r < h.num_tokens ? first + r : h.num_tokens - 1;
        for (int i = 0; i < h.width; i += LANES)
            store_bytes((uint8_t *)rows[r] + i, nearest16(load16(element(h.qkv, row, h.q + i)) * inverse), LANES);
    }
    for (int i = 0; i < h.width / QUAD; i += 8) transpose(&rows[0][i], MAX_HEAD / QUAD, s->queries[i] + lane);
}

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

/* out[r] = middle + step * (weights x values) / sum of weights, columns i to i + 16 * vectors */
INLINE void mix_values(Head h, int queries, int i, const float *inverse_sums, float *out, int64_t stride, HeadScratch *s)
{
    int vectors = h.width - i >= 2 * LANES ? 2 : 1;
    ByteRows rows = {.q = s->weights, .stride = QUAD, .step = QUERIES * QUAD, .ahead = s->weights};
    Panel panel = {s->values + i * QUAD, h.width * QUAD, (h.num_tokens + QUAD - 1) / QUAD};
    (vectors == 2 ? dot_two_vectors : dot_one_vector)(queries, rows, panel, (Sums){s->sums[0], QUERIES});
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
    Panel panel = {(const uint8_t *)s->queries, QUERIES * QUAD, h.width / QUAD};
    ByteRows keys = plain_rows(s->keys, h.width);
    (vectors == 2 ? dot_two_vectors : dot_one_vector)(h.num_tokens, keys, panel, (Sums){s->scores, QUERIES});
    for (int t = h.num_tokens; t % QUAD; t++)
        for (int c = 0; c < QUERIES; c++) s->scores[t * QUERIES + c] = NO_SCORE;
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
