/* The microkernel: a few rows of 8-bit integers times one panel, of a weight or of a head, in exact int32.
 *
 *     sums[r][n] = sum over k of x[r][k] * w[n][k]        x unsigned, w signed
 *
 * This file and tiles.h hold the products of each instruction set. Three implementations here give the same integers:
 *
 * - AVX512-VNNI: `vpdpbusd` on 16 outputs at a time; all sums stay in registers (6 x 4 of 32, or 8 x 2). It is written
 *   in assembly because GCC puts a register copy around the intrinsic, which halves the rate.
 * - AVX2: widens to 16 bits first, because the instruction for 8 bits saturates.
 * - any other processor: plain C.
 */
#ifndef LIFELONG_DOT_H
#define LIFELONG_DOT_H

#include "lanes.h"
#include "weight.h"

#define DOT_ROWS 6     /* rows at a time, times the four vectors of a panel */
#define MAX_DOT_ROWS 8 /* rows at a time, times two vectors or one */

/* Rows of integers: `stride` bytes between rows, `quad_stride` between the quads of a row; each row is readable up to a
 * whole quad. INT4 weights also need `group_sums`, the sum of each group of 64 integers, `num_groups` a row, and a
 * `quad_stride` of QUAD. While the rows are multiplied, memory from `prefetch` on is fetched into the cache, 64 bytes
 * for every quad (two cache lines a quad cost more than they gain). */
typedef struct {
    const uint8_t *q;
    int64_t stride, quad_stride;
    const int32_t *group_sums;
    int num_groups;
    const uint8_t *prefetch;
} ByteRows;

/* The right-hand operand: for every quad, QUAD bytes of each output. The next quad is `pitch` bytes ahead. */
typedef struct {
    const uint8_t *from;
    int64_t pitch;
    int num_quads;
} Panel;

/* The destination: the sums of row r are stored at to + r * stride. */
typedef struct {
    int32_t *to;
    int64_t stride;
} Sums;

INLINE ByteRows plain_rows(const uint8_t *q, int64_t stride)
{
    return (ByteRows){.q = q, .stride = stride, .quad_stride = QUAD, .prefetch = q};
}

INLINE int32_t quad_of(const uint8_t *x)
{
    int32_t quad;
    memcpy(&quad, x, sizeof quad);
    return quad;
}

#if defined(__AVX512VNNI__)

INLINE void multiply_add(__m512i *sum, __m512i x, __m512i w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(x), "v"(w));
}

INLINE void dot_rows(int rows, int vectors, ByteRows x, Panel panel, Sums sums)
{
    __m512i sum[MAX_DOT_ROWS][4];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < vectors; c++) sum[r][c] = _mm512_setzero_si512();
    for (int k = 0; k < panel.num_quads; k++) {
        __m512i w[4];
        _mm_prefetch(x.prefetch + k * 64, _MM_HINT_T0);
        UNROLL for (int c = 0; c < vectors; c++) w[c] = _mm512_loadu_si512(panel.from + k * panel.pitch + c * 64);
        UNROLL for (int r = 0; r < rows; r++) {
            __m512i quad = _mm512_set1_epi32(quad_of(x.q + r * x.stride + k * x.quad_stride));
            UNROLL for (int c = 0; c < vectors; c++) multiply_add(&sum[r][c], quad, w[c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < vectors; c++) _mm512_storeu_si512(sums.to + r * sums.stride + c * 16, sum[r][c]);
}

#elif defined(__AVX2__)

INLINE void dot_rows(int rows, int vectors, ByteRows x, Panel panel, Sums sums)
{
    for (int n = 0; n < vectors * 16; n += 16) {
        for (int r = 0; r < rows; r++) {
            __m256i pairs[4]; /* pairs[c]: outputs 4c..4c+3, two partial sums each */
            for (int c = 0; c < 4; c++) pairs[c] = _mm256_setzero_si256();
            for (int k = 0; k < panel.num_quads; k++) {
                __m256i quad = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad_of(x.q + r * x.stride + k * x.quad_stride)));
                for (int c = 0; c < 4; c++) {
                    const uint8_t *from = panel.from + k * panel.pitch + (n + c * 4) * QUAD;
                    __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
                    pairs[c] = _mm256_add_epi32(pairs[c], _mm256_madd_epi16(quad, w));
                }
            }
            for (int c = 0; c < 4; c += 2) { /* hadd works within 128-bit halves and gives outputs 0 1 4 5 | 2 3 6 7 */
                __m256i both = _mm256_permute4x64_epi64(_mm256_hadd_epi32(pairs[c], pairs[c + 1]), 0xD8);
                _mm256_storeu_si256((__m256i *)(sums.to + r * sums.stride + n + c * 4), both);
            }
        }
    }
}

#else

INLINE void dot_rows(int rows, int vectors, ByteRows x, Panel panel, Sums sums)
{
    for (int r = 0; r < rows; r++) {
        int32_t *to = sums.to + r * sums.stride;
        memset(to, 0, (size_t)vectors * 16 * sizeof *to);
        for (int k = 0; k < panel.num_quads; k++) {
            const uint8_t *quad = x.q + r * x.stride + k * x.quad_stride;
            const int8_t *w = (const int8_t *)panel.from + k * panel.pitch;
            for (int n = 0; n < vectors * 16; n++, w += QUAD)
                to[n] += quad[0] * w[0] + quad[1] * w[1] + quad[2] * w[2] + quad[3] * w[3];
        }
    }
}

#endif

/* INT4 weights are multiplied in excess-8, as integers from 0 to 15. The excess of a group's sum is 8 times the sum of
 * the row's integers, so each partial sum starts from minus this excess. Then it is multiplied by the group's multiplier.
 * All of this is exact. */
#if defined(__AVX512VNNI__)

INLINE void dot_rows_i4(int rows, ByteRows x, const uint8_t *panel, const uint8_t *multipliers, int32_t (*sums)[PANEL])
{
    const __m512i low_half = _mm512_set1_epi8(15);
    for (int n = 0; n < PANEL; n += 32) { /* half a panel: its sums and the partial sums of a group fit into registers */
        __m512i sum[DOT_ROWS][2];
        UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
        for (int g = 0; g < x.num_groups; g++) {
            __m512i part[DOT_ROWS][2];
            UNROLL for (int r = 0; r < rows; r++)
                part[r][0] = part[r][1] = _mm512_set1_epi32(-8 * x.group_sums[r * x.num_groups + g]);
            for (int k = g * GROUP; k < (g + 1) * GROUP; k += 2 * QUAD) {
                const uint8_t *from = panel + (int64_t)k * PANEL / 2 + n * QUAD;
                __m512i both[2] = {_mm512_loadu_si512(from), _mm512_loadu_si512(from + 64)};
                UNROLL for (int half = 0; half < 2; half++) {
                    __m512i w[2];
                    UNROLL for (int c = 0; c < 2; c++)
                        w[c] = _mm512_and_si512(half ? _mm512_srli_epi16(both[c], 4) : both[c], low_half);
                    UNROLL for (int r = 0; r < rows; r++) {
                        __m512i quad = _mm512_set1_epi32(quad_of(x.q + r * x.stride + k + half * QUAD));
                        UNROLL for (int c = 0; c < 2; c++) multiply_add(&part[r][c], quad, w[c]);
                    }
                }
            }
            UNROLL for (int c = 0; c < 2; c++) {
                const uint8_t *from = multipliers + g * PANEL + n + c * 16;
                __m512i m = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
                UNROLL for (int r = 0; r < rows; r++)
                    sum[r][c] = _mm512_add_epi32(sum[r][c], _mm512_mullo_epi32(part[r][c], m));
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int c = 0; c < 2; c++) _mm512_storeu_si512(sums[r] + n + c * 16, sum[r][c]);
    }
}

#else

INLINE void dot_rows_i4(int rows, ByteRows x, const uint8_t *panel, const uint8_t *multipliers, int32_t (*sums)[PANEL])
{
    int8_t unpacked[GROUP / QUAD][PANEL * QUAD];
    int32_t part[DOT_ROWS][PANEL];
    memset(sums, 0, (size_t)rows * sizeof sums[0]);
    for (int g = 0; g < x.num_groups; g++) {
        for (int k = 0; k < GROUP / QUAD; k += 2) {
            const uint8_t *from = panel + (int64_t)(g * GROUP / QUAD + k) * PANEL * QUAD / 2;
            for (int i = 0; i < PANEL * QUAD; i++) {
                unpacked[k][i] = (int8_t)((from[i] & 15) - 8);
                unpacked[k + 1][i] = (int8_t)((from[i] >> 4) - 8);
            }
        }
        Panel from = {(const uint8_t *)unpacked, PANEL * QUAD, GROUP / QUAD};
        dot_rows(rows, 4, plain_rows(x.q + g * GROUP, x.stride), from, (Sums){part[0], PANEL});
        for (int r = 0; r < rows; r++)
            for (int n = 0; n < PANEL; n++) sums[r][n] += part[r][n] * multipliers[g * PANEL + n];
    }
}

#endif

/* Expands to CALL(rows). If sums are kept in registers, CALL is compiled once for each number of rows up to DOT_ROWS,
 * and UNROLL_SUMS unrolls its loops. */
#if defined(__AVX512VNNI__)
#define UNROLL_SUMS UNROLL
#define WITH_ROWS(rows, CALL)                                                                                           \
    switch (rows) {                                                                                                     \
    case 1: CALL(1); break;                                                                                             \
    case 2: CALL(2); break;                                                                                             \
    case 3: CALL(3); break;                                                                                             \
    case 4: CALL(4); break;                                                                                             \
    case 5: CALL(5); break;                                                                                             \
    default: CALL(6);                                                                                                   \
    }
#else
#define UNROLL_SUMS
#define WITH_ROWS(rows, CALL) CALL(rows);
#endif

/* sums[0..rows) <- x times panel `panel` of `w`, or with INT8 its first `vectors` of 16 outputs; `bits` and `vectors` are
 * compile-time constants, rows is from 1 to DOT_ROWS. */
INLINE void dot_panel(int bits, int rows, int vectors, ByteRows x, const Weight *w, int panel, int32_t (*sums)[PANEL])
{
    Panel from = {weight_panel(w, panel), PANEL * QUAD, w->num_quads};
    x.quad_stride = QUAD;
    if (bits == 4) dot_rows_i4(rows, x, from.from, weight_multipliers(w, panel), sums);
    else dot_rows(rows, vectors, x, from, (Sums){sums[0], PANEL});
}

/* sums plus the sum of the four bytes of each lane */
INLINE IntLanes add_quads(IntLanes sums, Bytes v)
{
#if defined(__AVX512VNNI__)
    multiply_add((__m512i *)&sums, (__m512i)v, _mm512_set1_epi8(1));
    return sums;
#else
    BitLanes quads = (BitLanes)v, pairs = (quads & 0x00FF00FF) + (quads >> 8 & 0x00FF00FF);
    return sums + (IntLanes)((pairs & 0xFFFF) + (pairs >> 16));
#endif
}

#endif
