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
typedef uint16_t Shorts __attribute__((vector_size(64)));
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

INLINE Shorts all32(uint16_t x) { return x - (Shorts){0}; }

/* The upper halves of 32 products. */
INLINE Shorts high_half(Shorts a, Shorts b)
{
#if defined(__AVX512BW__)
    return (Shorts)_mm512_mulhi_epu16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    union { Shorts all; __m256i half[2]; } x = {a}, y = {b};
    for (int i = 0; i < 2; i++) x.half[i] = _mm256_mulhi_epu16(x.half[i], y.half[i]);
    return x.all;
#else
    for (int i = 0; i < 2 * LANES; i++) a[i] = (uint16_t)((uint32_t)a[i] * b[i] >> 16);
    return a;
#endif
}

/* Lane by lane; 16 or more leave nothing. */
INLINE Shorts shift_right(Shorts a, Shorts by)
{
#if defined(__AVX512BW__)
    return (Shorts)_mm512_srlv_epi16((__m512i)a, (__m512i)by);
#else
    return (a >> (by & 15)) & (Shorts)(by < 16);
#endif
}

/* As signed integers. */
INLINE Shorts greater(Shorts a, Shorts b)
{
#if defined(__AVX512BW__)
    return (Shorts)_mm512_max_epi16((__m512i)a, (__m512i)b);
#else
    typedef int16_t Signed __attribute__((vector_size(64)));
    Shorts more = (Shorts)((Signed)a > (Signed)b);
    return (a & more) | (b & ~more);
#endif
}

/* What follows keeps to the order in which the processor packs: four of `a`, four of `b`, the next four of `a` ... Values
 * must fit into 16 bits, signed. */
INLINE Shorts pair_up(IntLanes a, IntLanes b)
{
#if defined(__AVX512BW__)
    return (Shorts)_mm512_packs_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    union { IntLanes all; __m256i half[2]; } x = {a}, y = {b};
    for (int i = 0; i < 2; i++) x.half[i] = _mm256_packs_epi32(x.half[i], y.half[i]);
    return (Shorts)x.all;
#else
    Shorts pairs;
    for (int i = 0; i < LANES; i++) pairs[i / 4 * 8 + i % 4] = (uint16_t)a[i], pairs[i / 4 * 8 + 4 + i % 4] = (uint16_t)b[i];
    return pairs;
#endif
}

/* In each 16 bytes, byte order[i] as the i-th. */
INLINE Bytes rearranged(Bytes v, ByteLanes order)
{
#if defined(__AVX512BW__)
    return (Bytes)_mm512_shuffle_epi8((__m512i)v, _mm512_broadcast_i32x4((__m128i)order));
#elif defined(__AVX2__)
    union { Bytes all; __m256i half[2]; } x = {v};
    for (int i = 0; i < 2; i++) x.half[i] = _mm256_shuffle_epi8(x.half[i], _mm256_broadcastsi128_si256((__m128i)order));
    return x.all;
#else
    Bytes moved;
    for (int i = 0; i < 4 * LANES; i++) moved[i] = v[i / 16 * 16 + order[i % 16]];
    return moved;
#endif
}

/* What was a's is b's, and the other way round. */
INLINE Shorts swap_pair(Shorts v)
{
    return (Shorts)rearranged((Bytes)v, (ByteLanes){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
}

/* All ones where a lane is one of the first `count` of four that two pairs are made of, the `pair`-th of these. */
INLINE Shorts one_of_first(int count, int pair)
{
    const Shorts number = {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1};
    return (Shorts)(number + (uint16_t)(2 * pair) < (uint16_t)count);
}

/* The upper bytes of two pairs: in every 16 bits, one of the first and one of the second. */
INLINE Bytes upper_bytes(Shorts first, Shorts second) { return (Bytes)(first >> 8 | (second & 0xFF00)); }

/* Four bytes a lane, of two pairs' four, from upper_bytes. */
INLINE Bytes side_by_side(Bytes v)
{
    return rearranged(v, (ByteLanes){0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15});
}

/* reference.powers, to the bit: 65280 / 2**(below * rate / 65536). The product's upper half says how often it is halved, a
 * parabola of its lower half what is left. */
INLINE Shorts powers(Shorts below, Shorts rate)
{
    Shorts fraction = below * rate, slope = 43729 - high_half(fraction, all32(11089));
    return shift_right(65280 - high_half(fraction, slope), high_half(below, rate));
}

#endif
