/* A head of a sequence in 8-bit integers, in the order in which attention multiplies them.
 *
 *     q --by one step--> s8, queries in the lanes       k --channels shifted, one step--> u8, keys the rows
 *     v --channels shifted, a step each--> s8, four tokens of a channel a lane
 */
#ifndef LIFELONG_HEADS_H
#define LIFELONG_HEADS_H

#include "linear.h"

#define QUERIES (2 * LANES) /* attended together, where a sequence has so many */
#define MAX_HEAD 256
#define LOG2_E 1.44269504f

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
    uint16_t *scores; /* [tokens / 2][queries / 16] pairs of lanes.h, signed: two tokens' scores of 16 queries */
    int score_shift;  /* what products are shifted by to become scores: so they fit into 16 bits */
    uint16_t score_rate;
    float query_inverse, key_step;
    _Alignas(64) float low[MAX_HEAD], step[MAX_HEAD], middle[MAX_HEAD]; /* of values' channels: v ~ middle + step * q */
    _Alignas(64) float inverse_sums[QUERIES]; /* of weights */
    _Alignas(64) uint32_t queries[MAX_HEAD / QUAD][QUERIES];
} HeadScratch;

INLINE int64_t head_scratch_bytes(int64_t tokens, int width)
{
    tokens = round_up(tokens, QUAD);
    return round_up((int64_t)sizeof(HeadScratch), 64) + round_up(2 * tokens * width, 64) + tokens * QUERIES * 3;
}

INLINE HeadScratch *head_scratch(void *memory, int64_t tokens, int width)
{
    HeadScratch *s = memory;
    tokens = round_up(tokens, QUAD);
    s->keys = (uint8_t *)memory + round_up((int64_t)sizeof *s, 64);
    s->values = s->keys + tokens * width;
    s->weights = s->keys + round_up(2 * tokens * width, 64);
    s->scores = (uint16_t *)(s->weights + tokens * QUERIES);
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

/* Keys have one step for all channels, and lows of their own: they add the same to all scores of a query. What fills up the
 * last quad repeats the last key. */
INLINE void pack_keys(Head h, HeadScratch *s)
{
    scan_channels(h.k, h, s);
    Lanes widest = load16(s->step);
    for (int i = LANES; i < h.width; i += LANES) widest = max16(widest, load16(s->step + i));
    float range = greatest_lane(widest);
    Lanes inverse = all16(255.0f / (range + EPSILON));
    s->key_step = range / 255.0f;
    for (int i = 0; i < h.width; i += LANES) {
        const float *k = element(h.qkv, 0, h.k + i);
        Lanes low = load16(s->low + i);
        for (int t = 0; t < h.num_tokens; t++)
            store_bytes(s->keys + t * h.width + i, nearest16((load16(k + t * h.qkv.stride) - low) * inverse), LANES);
    }
    uint8_t *last = s->keys + (h.num_tokens - 1) * h.width;
    for (int t = h.num_tokens; t % QUAD; t++) memcpy(s->keys + t * h.width, last, (size_t)h.width);
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

/* How fast weights fall with the scores: the 65536th part of a halving for each. */
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
    float step = s->key_step * (greatest / 127.0f * (LOG2_E / sqrtf((float)h.width)));
    for (s->score_shift = 0; 1 << s->score_shift < h.width;) s->score_shift++;
    float rate = step * (float)(65536 << s->score_shift);
    s->score_rate = (uint16_t)lrintf(rate < 65535.0f ? rate : 65535.0f);
}

/* to[i][r] = from[r][i] for 16 rows of 4 words */
INLINE void transpose(const uint32_t (*from)[QUAD], uint32_t (*to)[QUERIES])
{
#if defined(__AVX512F__)
    __m512i v[4], a[4];
    for (int r = 0; r < 4; r++) { /* rows r, r + 4, r + 8, r + 12 */
        __m128i part[4];
        for (int i = 0; i < 4; i++) part[i] = _mm_loadu_si128((const __m128i *)from[r + 4 * i]);
        __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part[0]), part[1], 1);
        __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part[2]), part[3], 1);
        v[r] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    for (int r = 0; r < 2; r++) { /* words 0 and 1, or 2 and 3, of two rows in turn */
        a[r] = _mm512_unpacklo_epi32(v[2 * r], v[2 * r + 1]);
        a[r + 2] = _mm512_unpackhi_epi32(v[2 * r], v[2 * r + 1]);
    }
    for (int i = 0; i < 4; i += 2) {
        _mm512_storeu_si512(to[i], _mm512_unpacklo_epi64(a[i], a[i + 1]));
        _mm512_storeu_si512(to[i + 1], _mm512_unpackhi_epi64(a[i], a[i + 1]));
    }
#else
    for (int i = 0; i < QUAD; i++)
        for (int r = 0; r < LANES; r++) to[i][r] = from[r][i];
#endif
}

/* 16 queries from `first` on into the lanes from `lane` on; those that are not there repeat the last. */
INLINE void pack_queries(Head h, int first, int lane, HeadScratch *s)
{
    Lanes inverse = all16(s->query_inverse);
    for (int i = 0; i < h.width; i += LANES) {
        uint32_t rows[LANES][QUAD];
        for (int r = 0; r < LANES; r++) {
            int row = first + r < h.num_tokens ? first + r : h.num_tokens - 1;
            store_bytes((uint8_t *)rows[r], nearest16(load16(element(h.qkv, row, h.q + i)) * inverse), LANES);
        }
        transpose(rows, (uint32_t (*)[QUERIES])(s->queries[i / QUAD] + lane));
    }
}

#endif
