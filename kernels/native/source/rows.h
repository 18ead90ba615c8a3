/* The operations on one row of float32 between two products: quantization, GELU, LayerNorm. */
#ifndef LIFELONG_ROWS_H
#define LIFELONG_ROWS_H

#include "api.h"
#include "lanes.h"
#include <math.h>

#define EPSILON 1e-8f
#define LOG2_E 1.44269504f
#define FEW_ROWS 4

/* The parameters of a quantized row: x ~ min + scale * q, with q from 0 to 255. */
typedef struct {
    float scale, min;
} QuantParams;

INLINE void store_bytes(uint8_t *to, IntLanes v, int count)
{
    ByteLanes bytes = __builtin_convertvector(v, ByteLanes);
    memcpy(to, &bytes, (size_t)count);
}

/* Stores 64 integers from 0 to 255 as bytes. */
INLINE void store_64_bytes(uint8_t *to, const IntLanes v[4])
{
#if defined(__AVX512BW__)
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i low = _mm512_packus_epi32((__m512i)v[0], (__m512i)v[1]);
    __m512i high = _mm512_packus_epi32((__m512i)v[2], (__m512i)v[3]);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
#else
    for (int i = 0; i < 4; i++) store_bytes(to + i * LANES, v[i], LANES);
#endif
}

/* A reduction over a row keeps CHAINS accumulators and reads CHAINS vectors at a time: with one accumulator, each
 * addition would wait for the one before. */
#define CHAINS 4
#define EACH_VECTOR(i, c, width)                                                                                        \
    for (int i##0 = 0; i##0 < (width); i##0 += CHAINS * LANES)                                                          \
        UNROLL for (int c = 0, i = i##0; c < CHAINS && i < (width); c++, i += LANES)

/* The minimum of a row and its range, maximum - minimum. */
typedef struct {
    float min, range;
} MinRange;

/* The minimum and maximum of the vectors of a row read so far, by chain and lane. */
typedef struct {
    Lanes min[CHAINS], max[CHAINS];
} MinMax;

INLINE MinMax min_max_from(Lanes min, Lanes max)
{
    return (MinMax){{min, min, min, min}, {max, max, max, max}};
}

INLINE void update_min_max(MinMax *e, int chain, Lanes v)
{
    e->min[chain] = min16(e->min[chain], v);
    e->max[chain] = max16(e->max[chain], v);
}

INLINE MinRange min_range_of(const MinMax *e)
{
    Lanes min = min16(min16(e->min[0], e->min[1]), min16(e->min[2], e->min[3]));
    Lanes max = max16(max16(e->max[0], e->max[1]), max16(e->max[2], e->max[3]));
    float least = min_lane(min);
    return (MinRange){least, max_lane(max) - least};
}

/* The minimum and range of the row x * in_scale; in_scale may be NULL, which is 1, and otherwise the width must be a
 * multiple of 16. */
INLINE MinRange row_min_range(const float *x, const float *in_scale, int width)
{
    Lanes first = all16(in_scale ? x[0] * in_scale[0] : x[0]);
    MinMax e = min_max_from(first, first);
    int whole = width - width % LANES;
    EACH_VECTOR(i, c, whole) update_min_max(&e, c, in_scale ? load16(x + i) * load16(in_scale + i) : load16(x + i));
    if (whole < width) update_min_max(&e, 0, load_part(x + whole, width - whole, x[0]));
    return min_range_of(&e);
}

/* x * in_scale - min, for 16 values from x + i on; in_scale may be NULL, which is 1. */
INLINE Lanes above_min(Lanes min, const float *x, const float *in_scale, int i)
{
    return in_scale ? fma16(load16(x + i), load16(in_scale + i), -min) : load16(x + i) - min;
}

/* reference.quantize_rows, to the bit, of the row x * in_scale, whose minimum and range are `min_range`. in_scale may
 * be NULL, which is 1; otherwise the width must be a multiple of 16. Stores exactly `width` integers to `q`. */
INLINE QuantParams quantize_row(MinRange min_range, const float *x, const float *in_scale, int width, uint8_t *q)
{
    Lanes min = all16(min_range.min), inverse = all16(255.0f / (min_range.range + EPSILON));
    int i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES) {
        IntLanes v[4];
        UNROLL for (int c = 0; c < 4; c++) v[c] = nearest16(above_min(min, x, in_scale, i + c * LANES) * inverse);
        store_64_bytes(q + i, v);
    }
    for (; i + LANES <= width; i += LANES) store_bytes(q + i, nearest16(above_min(min, x, in_scale, i) * inverse), LANES);
    if (i < width) store_bytes(q + i, nearest16((load_part(x + i, width - i, min_range.min) - min) * inverse), width - i);
    return (QuantParams){min_range.range / 255.0f, min_range.min};
}

/* The GELU, x * Phi(x), within 1e-4: an eighth of the 8-bit resolution of the narrowest row that MiniLM produces.
 *
 * It is x / 2 + h(|x|). h is a parabola in each of 15 pieces of [0, 4.2] and a straight line beyond; one vector holds one
 * coefficient of all pieces. */
INLINE Lanes gelu16(Lanes x)
{
    static const float constant[LANES] = {
        -2.5394509e-05f, -0.0052611167f, -0.036300443f, -0.11163283f, -0.2242866f, -0.33954617f, -0.41518712f, -0.4264268f,
        -0.3769089f, -0.29136562f, -0.19921653f, -0.12146192f, -0.06644085f, -0.032760315f, -0.014614304f, 0.0f};
    static const float slope[LANES] = {
        0.0013456773f, 0.035850532f, 0.14505056f, 0.3241989f, 0.52624434f, 0.69224232f, 0.78352135f, 0.79579973f,
        0.75193858f, 0.68407685f, 0.61813235f, 0.56748956f, 0.53461736f, 0.51603454f, 0.50673485f, 0.5f};
    static const float curve[LANES] = {
        0.38963199f, 0.33200687f, 0.23549287f, 0.12874211f, 0.038034618f, -0.021779338f, -0.049328241f, -0.052668761f,
        -0.042953756f, -0.029491665f, -0.017691348f, -0.0094438903f, -0.0045333863f, -0.0019698862f, -0.00077827956f, 0.0f};
    Lanes a = (Lanes)((IntLanes)x & 0x7FFFFFFF);
    IntLanes piece = whole_bits16(min16(a, all16(4.3f)), 15 / 4.2f);
    Lanes h = fma16(look_up16(curve, piece), a, look_up16(slope, piece));
    return fma16(x, all16(0.5f), fma16(h, a, look_up16(constant, piece)));
}

/* The logistic function 1 / (1 + exp(-x)), within 3e-7. exp is 2**whole * 2**part, with a polynomial for |part| <= 1/2. */
INLINE Lanes logistic16(Lanes x)
{
    Lanes power = min16(max16(x * -LOG2_E, all16(-125.0f)), all16(125.0f));
    IntLanes whole = nearest16(power);
    Lanes part = power - __builtin_convertvector(whole, Lanes);
    Lanes p = fma16(all16(0.0013390863f), part, all16(0.009676032f));
    p = fma16(p, part, all16(0.05550357f));
    p = fma16(p, part, all16(0.24022107f));
    p = fma16(p, part, all16(0.6931472f));
    p = fma16(p, part, all16(1.0000001f));
    return 1.0f / (1.0f + p * (Lanes)((whole + 127) << 23));
}

/* The approximation of the GELU by tanh (Hendrycks and Gimpel, arXiv:1606.08415): x / 2 * (1 + tanh(y / 2)) = x *
 * logistic(y), with y = 2 * sqrt(2 / pi) * (x + 0.044715 * x**3). */
INLINE Lanes gelu_tanh16(Lanes x) { return x * logistic16(x * fma16(x * x, all16(0.071354814f), all16(1.5957692f))); }

INLINE Lanes silu16(Lanes x) { return x * logistic16(x); }

INLINE void gate_rows_by(Activation activation, float *x, int rows, int inner)
{
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < inner; i += LANES) {
            const float *gate = x + (int64_t)r * 2 * inner + i;
            Lanes v = load16(gate);
            v = activation == GEGLU ? gelu16(v) : activation == GEGLU_TANH ? gelu_tanh16(v) : silu16(v);
            store16(x + (int64_t)r * inner + i, v * load16(gate + inner));
        }
}

/* Dense rows of x [rows, inner] <- f(gate) * value of rows [rows, 2 * inner], in place: no row is written before it is
 * read. `inner` is a multiple of 16. */
static void gate_rows(Activation activation, float *x, int rows, int inner)
{
    if (activation == GEGLU) gate_rows_by(GEGLU, x, rows, inner);
    else if (activation == GEGLU_TANH) gate_rows_by(GEGLU_TANH, x, rows, inner);
    else gate_rows_by(SWIGLU, x, rows, inner);
}

INLINE float sum_chains(const Lanes v[CHAINS]) { return sum_lanes((v[0] + v[1]) + (v[2] + v[3])); }

INLINE float row_mean(const float *x, int width)
{
    Lanes sum[CHAINS] = {{0}};
    EACH_VECTOR(i, c, width) sum[c] += load16(x + i);
    return sum_chains(sum) / (float)width;
}

INLINE float row_deviation(const float *x, int width, float mean, float eps)
{
    Lanes squares[CHAINS] = {{0}};
    EACH_VECTOR(i, c, width)
    {
        Lanes v = load16(x + i) - mean;
        squares[c] = fma16(v, v, squares[c]);
    }
    return sqrtf(sum_chains(squares) / (float)width + eps);
}

/* x <- (x - mean) / deviation * gain + bias; returns the minimum and range of the result times in_scale */
INLINE MinRange norm_row(float *x, int width, float mean, float deviation, const Norm *norm, const float *in_scale)
{
    MinMax e = min_max_from(all16(INFINITY), all16(-INFINITY));
    Lanes inverse = all16(1.0f / deviation);
    EACH_VECTOR(i, c, width)
    {
        Lanes v = fma16((load16(x + i) - mean) * inverse, load16(norm->gain + i), load16(norm->bias + i));
        store16(x + i, v);
        update_min_max(&e, c, in_scale ? v * load16(in_scale + i) : v);
    }
    return min_range_of(&e);
}

/* Normalises up to FEW_ROWS dense rows in place; the width is a multiple of 16. Each step runs for all rows before the
 * next: a single row would wait for its own sums most of the time. */
INLINE void norm_few(float *x, int rows, int width, const Norm *norm, const float *in_scale, MinRange *min_ranges)
{
    float mean[FEW_ROWS], deviation[FEW_ROWS];
    for (int r = 0; r < rows; r++) mean[r] = norm->is_rms ? 0.0f : row_mean(x + r * width, width);
    for (int r = 0; r < rows; r++) deviation[r] = row_deviation(x + r * width, width, mean[r], norm->eps);
    for (int r = 0; r < rows; r++) min_ranges[r] = norm_row(x + r * width, width, mean[r], deviation[r], norm, in_scale);
}

#endif
