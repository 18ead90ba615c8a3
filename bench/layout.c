/* One product in three orders of memory: the same weights, the same integers, and the same sums.
 *
 *     layout ORDER NUM_OUT NUM_IN ROWS LAYERS PASSES
 *
 *     plain      weights row by row; a row of x times one output after the other
 *     blocked    weights row by row; the tiles and loops of `packed`, whose operands are collected from 16 rows
 *     packed     weights in panels of 64 outputs, in the order in which the kernel reads them (source/weight.h)
 *
 * `blocked` and `packed` differ only in the addresses of the weights. All use the multiply-add of the instruction set for
 * which the file is compiled: AVX512-VNNI, or AVX2, which valgrind can simulate. LAYERS matrices are read one after the
 * other, like the layers of an encoder. ROWS is a multiple of 6, and the other sizes are multiples of 64.
 *
 * Prints a checksum of the sums of the last pass, and the shortest time of a pass in microseconds.
 */
#include "../kernels/native/source/dot.h"

#include <stdio.h>
#include <time.h>

typedef struct {
    int num_out, num_in, rows, layers;
} Size;

/* The sum of the products of one row and one output, over all inputs. */
INLINE int32_t dot_one(const uint8_t *x, const int8_t *w, int num_in)
{
#if defined(__AVX512VNNI__)
    __m512i sum = _mm512_setzero_si512();
    for (int k = 0; k < num_in; k += 64) multiply_add(&sum, _mm512_loadu_si512(x + k), _mm512_loadu_si512(w + k));
    return _mm512_reduce_add_epi32(sum);
#else
    __m256i sum = _mm256_setzero_si256();
    for (int k = 0; k < num_in; k += 16) {
        __m256i a = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(x + k)));
        __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + k)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    }
    int32_t parts[8], total = 0;
    _mm256_storeu_si256((__m256i *)parts, sum);
    for (int i = 0; i < 8; i++) total += parts[i];
    return total;
#endif
}

static void plain(Size s, const uint8_t *x, const uint8_t *w, int32_t *sums)
{
    for (int r = 0; r < s.rows; r++)
        for (int n = 0; n < s.num_out; n++)
            sums[(int64_t)r * s.num_out + n] =
                dot_one(x + (int64_t)r * s.num_in, (const int8_t *)w + (int64_t)n * s.num_in, s.num_in);
}

/* sums of 16 outputs plus the products of a quad of a row, in each lane, and a quad of each output. */
INLINE IntLanes add_products(IntLanes sums, int32_t quad, Bytes w)
{
#if defined(__AVX512VNNI__)
    multiply_add((__m512i *)&sums, _mm512_set1_epi32(quad), (__m512i)w);
    return sums;
#else
    union { Bytes all; __m128i quarter[4]; } of = {w};
    union { IntLanes all; __m256i half[2]; } to = {sums};
    __m256i wide = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad));
    for (int i = 0; i < 2; i++) {
        __m256i low = _mm256_madd_epi16(wide, _mm256_cvtepi8_epi16(of.quarter[2 * i]));
        __m256i high = _mm256_madd_epi16(wide, _mm256_cvtepi8_epi16(of.quarter[2 * i + 1]));
        __m256i both = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xD8);
        to.half[i] = _mm256_add_epi32(to.half[i], both);
    }
    return to.all;
#endif
}

/* The quads of 16 outputs, which lie one after the other, or `num_in` bytes apart. */
INLINE Bytes load_quads(int is_packed, const uint8_t *from, int num_in)
{
    Bytes w;
    if (is_packed) {
        memcpy(&w, from, sizeof w);
        return w;
    }
#if defined(__AVX512VNNI__)
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (Bytes)_mm512_i32gather_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(num_in)), from, 1);
#else
    for (int n = 0; n < LANES; n++) memcpy((uint8_t *)&w + n * QUAD, from + (int64_t)n * num_in, QUAD);
    return w;
#endif
}

/* A few rows times 64 outputs, from `from` on, in the order of the AVX512 kernel (dot_rows in dot.h). */
INLINE void tile(int is_packed, int rows, const uint8_t *x, const uint8_t *from, int num_in, int32_t *to, int64_t stride)
{
    IntLanes sums[DOT_ROWS][4];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < 4; c++) sums[r][c] = (IntLanes){0};
    for (int k = 0; k < num_in; k += QUAD) {
        Bytes w[4];
        UNROLL for (int c = 0; c < 4; c++)
            w[c] = load_quads(is_packed, is_packed ? from + k * PANEL + c * LANES * QUAD : from + c * LANES * num_in + k,
                              num_in);
        UNROLL for (int r = 0; r < rows; r++) {
            int32_t quad = quad_of(x + (int64_t)r * num_in + k);
            UNROLL for (int c = 0; c < 4; c++) sums[r][c] = add_products(sums[r][c], quad, w[c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < 4; c++)
        memcpy(to + r * stride + c * LANES, &sums[r][c], sizeof sums[r][c]);
}

INLINE void in_panels(int is_packed, Size s, const uint8_t *x, const uint8_t *w, int32_t *sums)
{
    for (int n = 0; n < s.num_out; n += PANEL)
        for (int row = 0; row < s.rows; row += DOT_ROWS)
            tile(is_packed, DOT_ROWS, x + (int64_t)row * s.num_in, w + (int64_t)n * s.num_in, s.num_in,
                 sums + (int64_t)row * s.num_out + n, s.num_out);
}

/* The place of weight [n][k] in bytes. */
static int64_t weight_place(int is_packed, int num_in, int n, int k)
{
    if (!is_packed) return (int64_t)n * num_in + k;
    return (int64_t)(n / PANEL) * PANEL * num_in + (int64_t)(k / QUAD) * PANEL * QUAD + n % PANEL * QUAD + k % QUAD;
}

int main(int count, char **words)
{
    if (count != 7 || atoi(words[2]) % PANEL || atoi(words[3]) % PANEL || atoi(words[4]) % DOT_ROWS) return 2;
    int is_packed = !strcmp(words[1], "packed"), is_plain = !strcmp(words[1], "plain");
    Size s = {atoi(words[2]), atoi(words[3]), atoi(words[4]), atoi(words[5])};
    int64_t weights = (int64_t)s.num_out * s.num_in, cells = (int64_t)s.rows * s.num_out;
    uint8_t *x = allocate((int64_t)s.rows * s.num_in), *w = allocate(weights * s.layers);
    int32_t *sums = allocate(4 * cells);
    if (!x || !w || !sums) return 1;
    for (int64_t i = 0; i < (int64_t)s.rows * s.num_in; i++) x[i] = (uint8_t)(i * 7 + i / 251);
    for (int layer = 0; layer < s.layers; layer++)
        for (int n = 0; n < s.num_out; n++)
            for (int k = 0; k < s.num_in; k++)
                w[layer * weights + weight_place(is_packed, s.num_in, n, k)] = (uint8_t)(n * 13 + k * 5 + k * n % 61 + layer);
    double shortest = 1e30;
    int64_t checksum = 0;
    for (int pass = 0; pass < atoi(words[6]); pass++) {
        struct timespec from, to;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        checksum = 0;
        for (int layer = 0; layer < s.layers; layer++) {
            const uint8_t *of_layer = w + layer * weights;
            if (is_plain) plain(s, x, of_layer, sums);
            else if (is_packed) in_panels(1, s, x, of_layer, sums);
            else in_panels(0, s, x, of_layer, sums);
            checksum += sums[(layer * 7919) % cells] + sums[cells - 1];
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        double us = 1e6 * (double)(to.tv_sec - from.tv_sec) + 1e-3 * (double)(to.tv_nsec - from.tv_nsec);
        if (us < shortest) shortest = us;
    }
    printf("%lld %.3f\n", (long long)checksum, shortest);
    return 0;
}
