/* Sixteen lanes of float32 or int32: what every kernel here is written in, whatever the processor has.
 *
 * The compiler turns a Lanes into one 512-bit register, two of 256 bits, or four of 128. Nothing is contracted behind our
 * back (-ffp-contract=off): `fma16` is a fused multiply-add where the processor has one, `a * b + c` is two roundings
 * everywhere, and that is what the definitions in reference.py ask for.
 */
#ifndef LIFELONG_LANES_H
#define LIFELONG_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define LANES 16
#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

typedef float Lanes __attribute__((vector_size(64)));
typedef int32_t IntLanes __attribute__((vector_size(64)));
typedef uint32_t BitLanes __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(64)));
typedef uint8_t ByteLanes __attribute__((vector_size(16)));

INLINE Lanes load16(const float *from)
{
    Lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store16(float *to, Lanes v) { memcpy(to, &v, sizeof v); }

INLINE IntLanes load16i(const int32_t *from)
{
    IntLanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* The first `count` of 16 floats; the other lanes are `fill`. */
INLINE Lanes load_part(const float *from, int count, float fill)
{
    float lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = i < count ? from[i] : fill;
    return load16(lanes);
}

INLINE Lanes all16(float x) { return x - (Lanes){0}; }

INLINE Lanes fma16(Lanes a, Lanes b, Lanes c)
{
#if defined(__AVX512F__)
    return (Lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    union { Lanes all; __m256 half[2]; } x = {a}, y = {b}, z = {c};
    z.half[0] = _mm256_fmadd_ps(x.half[0], y.half[0], z.half[0]);
    z.half[1] = _mm256_fmadd_ps(x.half[1], y.half[1], z.half[1]);
    return z.all;
#else
    return a * b + c;
#endif
}

/* The same, in one rounding everywhere: for what is defined to the bit. */
INLINE Lanes fused16(Lanes a, Lanes b, Lanes c)
{
#if defined(__FMA__)
    return fma16(a, b, c);
#else
    for (int i = 0; i < LANES; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

/* Lane by lane; of two values of which one is NaN either may come out (values are finite: the callers' contract). */
INLINE Lanes min16(Lanes a, Lanes b)
{
#if defined(__AVX512F__)
    return (Lanes)_mm512_min_ps((__m512)a, (__m512)b);
#else
    IntLanes less = a < b;
    return (Lanes)(((IntLanes)a & less) | ((IntLanes)b & ~less));
#endif
}

INLINE Lanes max16(Lanes a, Lanes b)
{
#if defined(__AVX512F__)
    return (Lanes)_mm512_max_ps((__m512)a, (__m512)b);
#else
    IntLanes more = a > b;
    return (Lanes)(((IntLanes)a & more) | ((IntLanes)b & ~more));
#endif
}

/* Folding halves onto each other: the same order of additions on every processor. */
INLINE float sum_lanes(Lanes v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float lanes[LANES];
    store16(lanes, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
#endif
}

INLINE float least_lane(Lanes v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_min_ps((__m512)v);
#else
    float lanes[LANES];
    store16(lanes, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i + half] < lanes[i] ? lanes[i + half] : lanes[i];
    return lanes[0];
#endif
}

INLINE float greatest_lane(Lanes v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float lanes[LANES];
    store16(lanes, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i];
    return lanes[0];
#endif
}

/* Adding 1.5 * 2**23 leaves the nearest integer (half to even) in the low bits: for |v| < 2**22. */
#define ROUNDER 12582912.0f
#define ROUNDER_BITS 0x4B400000

INLINE IntLanes nearest16(Lanes v)
{
#if defined(__AVX512F__)
    return (IntLanes)_mm512_cvtps_epi32((__m512)v);
#else
    return (IntLanes)(v + ROUNDER) - ROUNDER_BITS;
#endif
}

INLINE IntLanes max16i(IntLanes a, IntLanes b)
{
#if defined(__AVX512F__)
    return (IntLanes)_mm512_max_epi32((__m512i)a, (__m512i)b);
#else
    IntLanes more = a > b;
    return (a & more) | (b & ~more);
#endif
}

/* The second byte of each of four, side by side. */
INLINE BitLanes second_bytes(const IntLanes v[4])
{
#if defined(__AVX512BW__)
    const __m512i second = _mm512_broadcast_i32x4(_mm_setr_epi32(0x01010101, 0x05050505, 0x09090909, 0x0D0D0D0D));
    __m512i bytes = _mm512_shuffle_epi8((__m512i)v[0], second);
    bytes = _mm512_mask_shuffle_epi8(bytes, 0x2222222222222222, (__m512i)v[1], second);
    bytes = _mm512_mask_shuffle_epi8(bytes, 0x4444444444444444, (__m512i)v[2], second);
    return (BitLanes)_mm512_mask_shuffle_epi8(bytes, 0x8888888888888888, (__m512i)v[3], second);
#else
    return (BitLanes)((v[0] >> 8 & 255) | (v[1] & 255 << 8) | (v[2] & 255 << 8) << 8 | (v[3] & 255 << 8) << 16);
#endif
}

/* reference.powers, to the bit: 65280 * 2**v for v <= 0, to the nearest integer. A polynomial on [-0.5, 0.5], the rest
 * goes into the exponent. */
INLINE IntLanes powers16(Lanes v)
{
#if defined(__AVX512F__)
    Lanes whole = (Lanes)_mm512_roundscale_ps((__m512)v, 0);
#else
    v = max16(v, all16(-126.0f));
    Lanes shifted = v + ROUNDER, whole = shifted - ROUNDER;
#endif
    Lanes f = v - whole;
    Lanes p = fused16(all16(15658.322f), f, all16(45888.043f));
    p = fused16(p, f, all16(65280.0f));
#if defined(__AVX512F__)
    return nearest16((Lanes)_mm512_scalef_ps((__m512)p, (__m512)whole));
#else
    return nearest16((Lanes)((IntLanes)p + (((IntLanes)shifted) << 23)));
#endif
}

#endif
