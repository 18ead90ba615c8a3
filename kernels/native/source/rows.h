/* What happens to one row of float32 between two multiplications: quantization, GELU, LayerNorm. */
#ifndef LIFELONG_ROWS_H
#define LIFELONG_ROWS_H

#include "lanes.h"
#include <math.h>

#define EPSILON 1e-8f

/* A quantized row: 8-bit integers and what they mean, x ~ low + step * q. */
typedef struct {
    float step, low;
} Range;

INLINE void store_bytes(uint8_t *to, IntLanes v, int count)
{
    ByteLanes bytes = __builtin_convertvector(v, ByteLanes);
    memcpy(to, &bytes, (size_t)count);
}

/* reference.quantize_rows, to the bit. `q` gets `width` integers; what lies behind them is not touched. */
INLINE Range quantize_row(const float *x, int width, uint8_t *q)
{
    int whole = width - width % LANES, rest = width - whole;
    Lanes least = all16(x[0]), greatest = least;
    for (int i = 0; i < whole; i += LANES) {
        Lanes v = load16(x + i);
        least = min16(least, v);
        greatest = max16(greatest, v);
    }
    Lanes tail = load_part(x + whole, rest, x[0]);
    float low = least_lane(min16(least, tail));
    float range = greatest_lane(max16(greatest, tail)) - low;
    Lanes low16 = all16(low), inverse = all16(255.0f / (range + EPSILON));
    for (int i = 0; i < whole; i += LANES) store_bytes(q + i, nearest16((load16(x + i) - low16) * inverse), LANES);
    if (rest) store_bytes(q + whole, nearest16((tail - low16) * inverse), rest);
    return (Range){range / 255.0f, low};
}

/* x * Phi(x) within 1e-4: an odd polynomial stands for Phi - 1/2 on [-4.2, 4.2] and reaches 1/2 at the ends.
 * An eighth of what 8 bits resolve in the narrowest row that MiniLM makes. */
INLINE Lanes gelu16(Lanes x)
{
    Lanes c = max16(min16(x, all16(4.2f)), all16(-4.2f));
    Lanes t = c * c;
    Lanes p = fma16(all16(-9.04503472e-10f), t, all16(7.96118655e-8f));
    p = fma16(p, t, all16(-3.04376522e-6f));
    p = fma16(p, t, all16(6.69802539e-5f));
    p = fma16(p, t, all16(-9.51421796e-4f));
    p = fma16(p, t, all16(9.30177886e-3f));
    p = fma16(p, t, all16(-6.55362457e-2f));
    p = fma16(p, t, all16(3.98472399e-1f));
    return x * fma16(c, p, all16(0.5f));
}

/* In place: (x - mean) / sqrt(variance + eps) * gain + bias; the width is a multiple of 16. */
INLINE void norm_row(float *x, int width, const float *gain, const float *bias, float eps)
{
    Lanes sum = all16(0.0f), squares = all16(0.0f);
    for (int i = 0; i < width; i += LANES) sum += load16(x + i);
    Lanes mean = all16(sum_lanes(sum) / (float)width);
    for (int i = 0; i < width; i += LANES) {
        Lanes v = load16(x + i) - mean;
        squares = fma16(v, v, squares);
    }
    Lanes inverse = all16(1.0f / sqrtf(sum_lanes(squares) / (float)width + eps));
    for (int i = 0; i < width; i += LANES) {
        Lanes v = (load16(x + i) - mean) * inverse;
        store16(x + i, fma16(v, load16(gain + i), load16(bias + i)));
    }
}

#endif
