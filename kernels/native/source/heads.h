/* The quantization of one head of a sequence, and the layout in which attention multiplies it.
 *
 *     q --one scale, symmetric--> s8, queries in the lanes
 *     k --a minimum per channel, one scale--> u8, keys as rows
 *     v --a minimum and a scale per channel--> s8, four tokens of a channel in one lane
 */
#ifndef LIFELONG_HEADS_H
#define LIFELONG_HEADS_H

#include "linear.h"

#define QUERIES (2 * LANES) /* the number of queries that are processed together, if a sequence has so many */
#define MAX_HEAD 256
#define UNSEEN ((uint16_t)0x8000) /* below every score: the score of a key that a query does not see */
#define MIN_BLOCK 16              /* the smallest block of keys */

/* The columns of qkv, and the columns of the result. */
INLINE int qkv_width(const HeadShape *h) { return (h->heads + 2 * h->kv_heads) * h->head_width; }
INLINE int mixed_width(const HeadShape *h) { return h->heads * h->head_width; }

/* One head of a sequence: the rows of qkv, and the columns where q, k and v begin. */
typedef struct {
    Matrix qkv;
    int64_t q, k, v;
    int num_tokens, width;
} Head;

/* Keys as rows of bytes, and values in quads: of a whole head, or only the keys that a tile of queries sees. */
typedef struct {
    const uint8_t *keys, *values;
    int count, width;
} Keys;

/* Keys from `first` to `end`. After they are gathered, they are rows from `at` on. */
typedef struct {
    int first, end, at;
} KeyRange;

typedef struct {
    float inverse;
    uint16_t rate;
} QueryScale;

/* The scratch memory of one thread, for the longest sequence, rounded up to a whole number of quads. */
typedef struct {
    uint8_t *keys;    /* [tokens][width] */
    uint8_t *values;  /* [tokens / 4][width][4], signed */
    uint8_t *weights; /* [tokens / 4][queries][4] */
    uint16_t *scores; /* [tokens / 2][queries / 16] pairs of lanes.h, signed: the scores of two keys for 16 queries */
    int score_shift;  /* a score is a product shifted right by this, so that it fits into 16 bits */
    uint16_t score_rate; /* a score of 1 is this many 65536ths of a halving of the weight */
    float inverse_query_scale, key_scale;
    /* only for heads that do not see all keys (spans.h) */
    uint8_t *near_keys, *near_values, *bounds, *pooled, *is_chosen;
    int64_t *block_scores;
    int32_t *best;
    KeyRange *ranges;
    /* one for each of the heads that share their keys */
    QueryScale *scales;
    uint32_t (*group_queries)[QUERIES];
    /* parameters of the values' channels: v ~ center + scale * q */
    _Alignas(64) float min[MAX_HEAD], scale[MAX_HEAD], center[MAX_HEAD];
    _Alignas(64) float inverse_sums[QUERIES]; /* 1 / the sum of each query's weights */
    _Alignas(64) uint32_t queries[MAX_HEAD / QUAD][QUERIES];
} HeadScratch;

/* The size of the scratch memory: the tokens of a sequence, the width of a head, and the number of heads that share
 * keys. */
typedef struct {
    int64_t tokens;
    int width, group, has_spans;
} HeadExtent;

INLINE void extend(HeadExtent *e, const HeadShape *h)
{
    e->width = (int)max_int(e->width, h->head_width), e->group = (int)max_int(e->group, h->heads / h->kv_heads);
    e->has_spans |= h->num_spans > 0;
}

/* Reserves the scratch memory; returns NULL if the arena only counts. */
static HeadScratch *reserve_heads(Arena *a, HeadExtent e)
{
    int64_t tokens = round_up(e.tokens, QUAD), blocks = round_up(tokens / MIN_BLOCK + 1, PANEL), key_bytes = tokens * e.width;
    HeadScratch *s = reserve(a, sizeof *s), parts = {0};
    parts.keys = reserve(a, key_bytes);
    parts.values = reserve(a, key_bytes);
    parts.weights = reserve(a, tokens * QUERIES);
    parts.scores = reserve(a, 2 * tokens * QUERIES);
    if (e.has_spans) {
        parts.near_keys = reserve(a, key_bytes);
        parts.near_values = reserve(a, key_bytes);
        parts.bounds = reserve(a, blocks * 2 * e.width);
        parts.pooled = reserve(a, 2 * e.width);
        parts.is_chosen = reserve(a, blocks);
        parts.block_scores = reserve(a, blocks * (int64_t)sizeof *parts.block_scores);
        parts.best = reserve(a, blocks * (int64_t)sizeof *parts.best);
        parts.ranges = reserve(a, (blocks + 2) * (int64_t)sizeof *parts.ranges);
        parts.scales = reserve(a, e.group * (int64_t)sizeof *parts.scales);
        parts.group_queries = reserve(a, (int64_t)e.group * e.width / QUAD * (int64_t)sizeof *parts.group_queries);
    }
    if (s) memcpy(s, &parts, offsetof(HeadScratch, min));
    return s;
}

/* min <- the minimum of each channel from column `first` on; scale <- its range, maximum - minimum */
INLINE void scan_channels(int64_t first, Head h, HeadScratch *s)
{
    for (int i = 0; i < h.width; i += LANES) {
        const float *x = element(h.qkv, 0, first + i);
        Lanes min = load16(x), max = min;
        for (int t = 1; t < h.num_tokens; t++) {
            Lanes v = load16(x + t * h.qkv.stride);
            min = min16(min, v), max = max16(max, v);
        }
        store16(s->min + i, min), store16(s->scale + i, max - min);
    }
}

/* Keys have one scale for all channels and a minimum for each channel. The minima add the same to all scores of a query,
 * which does not change its softmax. The last key is repeated up to a whole quad. */
INLINE void pack_keys(Head h, HeadScratch *s)
{
    scan_channels(h.k, h, s);
    Lanes widest = load16(s->scale);
    for (int i = LANES; i < h.width; i += LANES) widest = max16(widest, load16(s->scale + i));
    float range = max_lane(widest);
    Lanes inverse = all16(255.0f / (range + EPSILON));
    s->key_scale = range / 255.0f;
    for (int i = 0; i < h.width; i += LANES) {
        const float *k = element(h.qkv, 0, h.k + i);
        Lanes min = load16(s->min + i);
        for (int t = 0; t < h.num_tokens; t++)
            store_bytes(s->keys + t * h.width + i, nearest16((load16(k + t * h.qkv.stride) - min) * inverse), LANES);
    }
    uint8_t *last = s->keys + (h.num_tokens - 1) * h.width;
    for (int t = h.num_tokens; t % QUAD; t++) memcpy(s->keys + t * h.width, last, (size_t)h.width);
}

/* Packs four tokens of a channel into one lane, as signed bytes. */
INLINE IntLanes four_values(const float *v, int64_t stride, int count, Lanes min, Lanes inverse)
{
    IntLanes word = {0};
    UNROLL for (int n = 0; n < count; n++)
        word |= (nearest16((load16(v + n * stride) - min) * inverse) ^ 128) << 8 * n;
    return word;
}

INLINE void pack_values(Head h, HeadScratch *s)
{
    scan_channels(h.v, h, s);
    for (int i = 0; i < h.width; i += LANES) {
        Lanes min = load16(s->min + i), range = load16(s->scale + i);
        Lanes inverse = all16(255.0f) / (range + EPSILON), scale = range / 255.0f;
        store16(s->scale + i, scale), store16(s->center + i, fma16(all16(128.0f), scale, min));
        const float *v = element(h.qkv, 0, h.v + i);
        int64_t stride = h.qkv.stride;
        uint8_t *to = s->values + i * QUAD;
        int t = 0;
        for (; t + QUAD <= h.num_tokens; t += QUAD) {
            IntLanes word = four_values(v + t * stride, stride, QUAD, min, inverse);
            memcpy(to + t * h.width, &word, sizeof word);
        }
        if (t == h.num_tokens) continue;
        IntLanes word = four_values(v + t * stride, stride, h.num_tokens - t, min, inverse);
        memcpy(to + t * h.width, &word, sizeof word);
    }
}

/* Computes the scale of the queries, and how fast weights fall with the scores: score_shift and score_rate. */
INLINE void scan_queries(Head h, HeadScratch *s)
{
    Lanes max_abs = all16(0.0f);
    for (int i = 0; i < h.width; i += LANES)
        for (int t = 0; t < h.num_tokens; t++) {
            Lanes v = load16(element(h.qkv, t, h.q + i));
            max_abs = max16(max_abs, max16(v, -v));
        }
    float max = max_lane(max_abs);
    s->inverse_query_scale = 127.0f / (max + EPSILON);
    float scale = s->key_scale * (max / 127.0f * (LOG2_E / sqrtf((float)h.width)));
    for (s->score_shift = 0; 1 << s->score_shift < h.width;) s->score_shift++;
    float rate = scale * (float)(65536 << s->score_shift);
    s->score_rate = (uint16_t)lrintf(rate < 65535.0f ? rate : 65535.0f);
}

/* to[i][r] = from[r][i] for 16 rows of 4 words */
INLINE void transpose(const uint32_t (*from)[QUAD], uint32_t (*to)[QUERIES])
{
#if defined(__AVX512F__)
    __m512i v[4], a[4];
    for (int r = 0; r < 4; r++) { /* v[r]: rows r, r + 4, r + 8, r + 12 */
        __m128i part[4];
        for (int i = 0; i < 4; i++) part[i] = _mm_loadu_si128((const __m128i *)from[r + 4 * i]);
        __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part[0]), part[1], 1);
        __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part[2]), part[3], 1);
        v[r] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    for (int r = 0; r < 2; r++) { /* a[r]: words 0 and 1 of two rows, interleaved; a[r + 2]: words 2 and 3 */
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

/* Packs 16 queries from `first` on into the lanes from `lane` on; beyond the last query it repeats that one. */
INLINE void pack_queries(Head h, int first, int lane, uint32_t (*to)[QUERIES], HeadScratch *s)
{
    Lanes inverse = all16(s->inverse_query_scale);
    for (int i = 0; i < h.width; i += LANES) {
        uint32_t rows[LANES][QUAD];
        for (int r = 0; r < LANES; r++) {
            int row = first + r < h.num_tokens ? first + r : h.num_tokens - 1;
            store_bytes((uint8_t *)rows[r], nearest16(load16(element(h.qkv, row, h.q + i)) * inverse), LANES);
        }
        transpose(rows, (uint32_t (*)[QUERIES])(to[i / QUAD] + lane));
    }
}

#endif
