/* Attention of each sequence to itself: softmax(q k^T / sqrt(d)) v, head by head, without a score matrix in memory.
 *
 *     16 queries x a block of 64 keys -> scores -> exp2 -> weighted values; a running maximum and sum for each query
 *     correct what came from earlier blocks (Milakov and Gimelshein, arXiv:1805.02867, algorithm 3)
 *
 * Sixteen queries lie in the lanes of a vector, so that maximum, exponential and sum are done for all of them at once and
 * nothing is ever reduced across lanes: for a text of ten tokens that was most of the time. Where the processor multiplies
 * pairs of bfloat16 (twice the rate), q, k, v and the weights are rounded to it; sums and the exponential stay float32.
 *
 * A Cell is what one lane multiplies at once: two bfloat16, or one float32.
 */
#ifndef LIFELONG_ATTENTION_H
#define LIFELONG_ATTENTION_H

#include "linear.h"

#define KEY_BLOCK 64
#define KEYS 8    /* scored together */
#define QUERIES 4 /* weighted together */
#define MAX_HEAD 256
#define LOG2_E 1.44269504f

#if defined(__AVX512BF16__)

#define PER_CELL 2
typedef uint32_t Cell;
typedef __m512i CellLanes;

/* cells[i] = (a[i], b[i]) */
INLINE void join16(Lanes a, Lanes b, Cell *cells)
{
    static const int16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    _mm512_storeu_si512(cells, _mm512_permutexvar_epi16(_mm512_loadu_si512(order), halves));
}

/* cells[i] = (v[2i], v[2i + 1]) */
INLINE void fold16(Lanes v, Cell *cells) { _mm256_storeu_si256((__m256i *)cells, (__m256i)_mm512_cvtneps_pbh((__m512)v)); }

INLINE CellLanes load_cells(const Cell *from) { return _mm512_loadu_si512(from); }

/* Assembly for the same reason as in dot.h. */
INLINE Lanes add_product(Lanes sum, const Cell *x, CellLanes y)
{
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(y), "m"(*x));
    return sum;
}

#else

#define PER_CELL 1
typedef float Cell;
typedef Lanes CellLanes;

INLINE void join16(Lanes a, Lanes b, Cell *cells)
{
    (void)b;
    store16(cells, a);
}

INLINE void fold16(Lanes v, Cell *cells) { store16(cells, v); }

INLINE CellLanes load_cells(const Cell *from) { return load16(from); }

INLINE Lanes add_product(Lanes sum, const Cell *x, CellLanes y) { return fma16(all16(*x), y, sum); }

#endif

/* What one thread needs. `keys` and `values` follow, for the longest sequence. */
typedef struct {
    Cell queries[MAX_HEAD / PER_CELL][LANES];
    Cell weights[KEY_BLOCK / PER_CELL][LANES];
    float scores[KEY_BLOCK][LANES];
    float spare[MAX_HEAD]; /* where the results of queries go that are not there */
} HeadScratch;

/* A head of a sequence: rows of q, k and v, `stride` floats apart. */
typedef struct {
    const float *q, *k, *v;
    int64_t stride;
    int num_tokens, width;
} Head;

/* to[i][r] = from[r][i] for 16 rows, `stride` cells apart, and 8 cells of each */
INLINE void transpose(const Cell *from, int64_t stride, Cell (*to)[LANES])
{
#if defined(__AVX512F__)
    __m512i v[8], a[8], b[8];
    for (int r = 0; r < 8; r++) /* rows r and r + 8 */
        v[r] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(from + r * stride))),
                                  _mm256_loadu_si256((const __m256i *)(from + (r + 8) * stride)), 1);
    for (int r = 0; r < 4; r++) { /* a[r], a[r + 4]: cells of rows 2r, 2r + 1 in turn */
        a[r] = _mm512_unpacklo_epi32(v[2 * r], v[2 * r + 1]);
        a[r + 4] = _mm512_unpackhi_epi32(v[2 * r], v[2 * r + 1]);
    }
    for (int r = 0; r < 2; r++) { /* b: four rows; cells 0 and 4, 1 and 5, 2 and 6, 3 and 7 */
        b[4 * r + 0] = _mm512_unpacklo_epi64(a[2 * r], a[2 * r + 1]);
        b[4 * r + 1] = _mm512_unpackhi_epi64(a[2 * r], a[2 * r + 1]);
        b[4 * r + 2] = _mm512_unpacklo_epi64(a[2 * r + 4], a[2 * r + 5]);
        b[4 * r + 3] = _mm512_unpackhi_epi64(a[2 * r + 4], a[2 * r + 5]);
    }
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(to[i], _mm512_permutex2var_epi64(b[i], low, b[4 + i]));
        _mm512_storeu_si512(to[i + 4], _mm512_permutex2var_epi64(b[i], high, b[4 + i]));
    }
#else
    for (int i = 0; i < 8; i++)
        for (int r = 0; r < LANES; r++) to[i][r] = from[r * stride + i];
#endif
}

INLINE int64_t head_scratch_bytes(int64_t tokens, int width)
{
    return (int64_t)sizeof(HeadScratch) + 2 * round_up(tokens, KEYS) * (width / PER_CELL) * (int64_t)sizeof(Cell);
}

/* keys [tokens][width / PER_CELL], values [tokens / PER_CELL][width]; rows behind the last token are zero. */
INLINE void pack_head(Head h, Cell *keys, Cell *values)
{
    int rows = (int)round_up(h.num_tokens, KEYS);
    for (int j = 0; j < rows; j++)
        for (int i = 0; i < h.width; i += LANES)
            fold16(j < h.num_tokens ? load16(h.k + j * h.stride + i) : all16(0.0f), keys + (j * h.width + i) / PER_CELL);
    for (int j = 0; j < h.num_tokens; j += PER_CELL)
        for (int i = 0; i < h.width; i += LANES)
            join16(load16(h.v + j * h.stride + i),
                   j + 1 < h.num_tokens ? load16(h.v + (j + 1) * h.stride + i) : all16(0.0f),
                   values + j / PER_CELL * h.width + i);
}

/* queries[i][r] = cell i of query first + r; missing queries repeat the last. */
INLINE void pack_queries(Head h, int first, HeadScratch *s)
{
    float scale = LOG2_E / sqrtf((float)h.width);
    Cell rows[LANES][MAX_HEAD / PER_CELL];
    for (int r = 0; r < LANES; r++) {
        int query = first + r < h.num_tokens ? first + r : h.num_tokens - 1;
        for (int i = 0; i < h.width; i += LANES)
            fold16(load16(h.q + query * h.stride + i) * scale, rows[r] + i / PER_CELL);
    }
    for (int i = 0; i < h.width / PER_CELL; i += 8) transpose(&rows[0][i], MAX_HEAD / PER_CELL, s->queries + i);
}

INLINE void score(int keys, int cells, const Cell *key, const HeadScratch *s, float (*scores)[LANES])
{
    Lanes sum[KEYS];
    UNROLL for (int j = 0; j < keys; j++) sum[j] = all16(0.0f);
    for (int i = 0; i < cells; i++) {
        CellLanes queries = load_cells(s->queries[i]);
        UNROLL for (int j = 0; j < keys; j++) sum[j] = add_product(sum[j], key + j * cells + i, queries);
    }
    UNROLL for (int j = 0; j < keys; j++) store16(scores[j], sum[j]);
}

/* scores -> weights of `count` keys; returns their sum. */
INLINE Lanes weights_of(int count, Lanes most, HeadScratch *s)
{
    Lanes sum = all16(0.0f);
    for (int j = 0; j < count; j += PER_CELL) {
        Lanes first = exp2_16(load16(s->scores[j]) - most), second = all16(0.0f);
        if (PER_CELL == 2 && j + 1 < count) second = exp2_16(load16(s->scores[j + 1]) - most);
        sum += first + second;
        join16(first, second, s->weights[j / PER_CELL]);
    }
    return sum;
}

/* out[r] = (out[r] * keep[r] + weighted values) * last[r] for QUERIES rows and `vectors` times 16 columns */
INLINE void weigh(int vectors, int count, const Cell *values, int width, const Cell (*weights)[LANES], const float *keep,
                  const float *last, float *const *out)
{
    Lanes sum[QUERIES][2];
    UNROLL for (int r = 0; r < QUERIES; r++)
        UNROLL for (int c = 0; c < vectors; c++)
            sum[r][c] = keep ? load16(out[r] + c * LANES) * keep[r] : all16(0.0f);
    for (int j = 0; j < (count + PER_CELL - 1) / PER_CELL; j++) {
        CellLanes left = load_cells(values + j * width), right = left;
        if (vectors == 2) right = load_cells(values + j * width + LANES);
        UNROLL for (int r = 0; r < QUERIES; r++) {
            sum[r][0] = add_product(sum[r][0], &weights[j][r], left);
            if (vectors == 2) sum[r][1] = add_product(sum[r][1], &weights[j][r], right);
        }
    }
    UNROLL for (int r = 0; r < QUERIES; r++)
        UNROLL for (int c = 0; c < vectors; c++) store16(out[r] + c * LANES, sum[r][c] * last[r]);
}

/* Queries first to first + 15 of a head, those that there are. `out` rows are `stride` floats apart. */
INLINE void attend_queries(Head h, int first, const Cell *keys, const Cell *values, float *out, int64_t stride,
                           HeadScratch *s)
{
    int cells = h.width / PER_CELL, queries = h.num_tokens - first < LANES ? h.num_tokens - first : LANES;
    Lanes best = all16(-INFINITY), total = all16(0.0f);
    float keep[LANES], last[LANES];
    for (int b = 0; b < h.num_tokens; b += KEY_BLOCK) {
        int count = h.num_tokens - b < KEY_BLOCK ? h.num_tokens - b : KEY_BLOCK, j = 0;
        for (; j + KEYS / 2 < count; j += KEYS) score(KEYS, cells, keys + (b + j) * cells, s, s->scores + j);
        if (j < count) score(KEYS / 2, cells, keys + (b + j) * cells, s, s->scores + j);
        Lanes most = best;
        for (j = 0; j < count; j++) most = max16(most, load16(s->scores[j]));
        Lanes sum = weights_of(count, most, s);
        if (b) {
            Lanes kept = exp2_16(best - most);
            store16(keep, kept);
            sum += total * kept;
        }
        best = most, total = sum;
        store16(last, b + count == h.num_tokens ? 1.0f / total : all16(1.0f));
        for (int r = 0; r < queries; r += QUERIES) {
            float *rows[QUERIES];
            for (int i = 0; i < h.width; i += 2 * LANES) {
                for (int q = 0; q < QUERIES; q++) rows[q] = (r + q < queries ? out + (r + q) * stride : s->spare) + i;
                const Cell *from = values + (int64_t)(b / PER_CELL) * h.width + i;
                const Cell(*weights)[LANES] = (const Cell(*)[LANES])(s->weights[0] + r);
                if (h.width - i >= 2 * LANES)
                    weigh(2, count, from, h.width, weights, b ? keep + r : NULL, last + r, rows);
                else
                    weigh(1, count, from, h.width, weights, b ? keep + r : NULL, last + r, rows);
            }
        }
    }
}

/* out: `num_tokens` rows of num_heads * head floats, of as many rows with q, k and v side by side. */
static void attend(const float *qkv, int num_tokens, int num_heads, int head, float *out, HeadScratch *s)
{
    int64_t width = (int64_t)num_heads * head;
    Cell *keys = (Cell *)(s + 1), *values = keys + round_up(num_tokens, KEYS) * (head / PER_CELL);
    for (int i = 0; i < num_heads; i++, qkv += head, out += head) {
        Head h = {qkv, qkv + width, qkv + 2 * width, 3 * width, num_tokens, head};
        pack_head(h, keys, values);
        for (int first = 0; first < num_tokens; first += LANES) {
            pack_queries(h, first, s);
            attend_queries(h, first, keys, values, out + first * width, width, s);
        }
    }
}

#endif
