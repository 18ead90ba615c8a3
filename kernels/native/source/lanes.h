/* Vectors of 16 lanes of float32 or int32: every kernel here is written in them, on every processor.
 *
 * The compiler turns a Lanes into one 512-bit register, two of 256 bits, or four of 128 bits. It does not contract
 * expressions (-ffp-contract=off): on every processor, `fma16` rounds once and `a * b + c` twice, and sums have the same
 * order. So all processors compute the same bits.
 *
 * A number in a name counts lanes: `max16` works on 16 lanes of 32 bits, `max32` on 32 lanes of 16 bits.
 */
#ifndef LIFELONG_LANES_H
#define LIFELONG_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

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

INLINE int64_t min_int(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max_int(int64_t a, int64_t b) { return a > b ? a : b; }

/* The least multiple of `to` that is not below `value`. */
INLINE int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

#define HUGE_PAGE (2 << 20)
#define MANY_PAGES (4 * HUGE_PAGE) /* from this size on, memory in small pages would exceed the TLB */

/* Uninitialised memory, to be freed with `free`; NULL if there is none. */
static void *allocate(int64_t bytes)
{
#if defined(MADV_HUGEPAGE)
    if (bytes >= MANY_PAGES) {
        void *memory = aligned_alloc(HUGE_PAGE, (size_t)round_up(bytes, HUGE_PAGE));
        if (memory) madvise(memory, (size_t)bytes, MADV_HUGEPAGE); /* without huge pages it works as well */
        return memory;
    }
#endif
    return aligned_alloc(64, (size_t)round_up(bytes, 64));
}

/* A block of memory from which parts are reserved. If `memory` is NULL, it only counts their bytes. */
typedef struct {
    uint8_t *memory;
    int64_t used;
} Arena;

INLINE void *reserve(Arena *a, int64_t bytes)
{
    void *part = a->memory ? a->memory + a->used : NULL;
    a->used += round_up(bytes, 64);
    return part;
}

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

/* Loads the first `count` of 16 floats; the other lanes are `fill`. */
INLINE Lanes load_part(const float *from, int count, float fill)
{
    float lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = i < count ? from[i] : fill;
    return load16(lanes);
}

INLINE Lanes all16(float x) { return x - (Lanes){0}; }

/* a * b + c, rounded once, on every processor. Without such an instruction it takes many times as long. */
INLINE Lanes fma16(Lanes a, Lanes b, Lanes c)
{
#if defined(__AVX512F__)
    return (Lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
    union { Lanes all; __m256 half[2]; } x = {a}, y = {b}, z = {c};
    z.half[0] = _mm256_fmadd_ps(x.half[0], y.half[0], z.half[0]);
    z.half[1] = _mm256_fmadd_ps(x.half[1], y.half[1], z.half[1]);
    return z.all;
#else
    for (int i = 0; i < LANES; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

/* The minimum of each lane. If one value is NaN the result may be either (callers pass finite values). */
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

/* Adds the upper half of the lanes to the lower half until one is left: the same order of additions on every
 * processor. */
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

INLINE float min_lane(Lanes v)
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

INLINE float max_lane(Lanes v)
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

/* Adding 1.5 * 2**23 rounds to the nearest integer (half to even) and leaves it in the low bits, for |v| < 2**22. */
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

/* The low four bits are the whole part of v * factor, which is from 0 to 15. */
INLINE IntLanes whole_bits16(Lanes v, float factor)
{
#if defined(__AVX512F__)
    return (IntLanes)_mm512_fmadd_round_ps((__m512)v, _mm512_set1_ps(factor), _mm512_set1_ps(ROUNDER),
                                           _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
    Lanes nearest = fma16(v, all16(factor), all16(ROUNDER));
    Lanes above = fma16(v, all16(factor), ROUNDER - nearest);
    return (IntLanes)nearest + (above < 0.0f); /* true is -1: the nearest integer lies above */
#endif
}

/* The entries of a table of 16 at the places in the low four bits. */
INLINE Lanes look_up16(const float table[LANES], IntLanes places)
{
#if defined(__AVX512F__)
    return (Lanes)_mm512_permutexvar_ps((__m512i)places, (__m512)load16(table));
#elif defined(__AVX2__)
    union { IntLanes all; __m256i half[2]; } at = {places};
    union { Lanes all; __m256 half[2]; } entries;
    for (int i = 0; i < 2; i++) {
        __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), at.half[i]);
        __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), at.half[i]);
        __m256 is_high = _mm256_castsi256_ps(_mm256_slli_epi32(at.half[i], 28)); /* the bit of 8 becomes the sign */
        entries.half[i] = _mm256_blendv_ps(low, high, is_high);
    }
    return entries.all;
#else
    Lanes entries;
    for (int i = 0; i < LANES; i++) entries[i] = table[places[i] & 15];
    return entries;
#endif
}

INLINE Shorts all32(uint16_t x) { return x - (Shorts){0}; }

/* The upper 16 bits of the unsigned 32-bit product of each lane. */
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

/* Shifts each lane by its own count; 16 or more give 0. */
INLINE Shorts shift_right(Shorts a, Shorts by)
{
#if defined(__AVX512BW__)
    return (Shorts)_mm512_srlv_epi16((__m512i)a, (__m512i)by);
#else
    return (a >> (by & 15)) & (Shorts)(by < 16);
#endif
}

/* The maximum of each lane as signed integers. */
INLINE Shorts max32(Shorts a, Shorts b)
{
#if defined(__AVX512BW__)
    return (Shorts)_mm512_max_epi16((__m512i)a, (__m512i)b);
#else
    typedef int16_t Signed __attribute__((vector_size(64)));
    Shorts more = (Shorts)((Signed)a > (Signed)b);
    return (a & more) | (b & ~more);
#endif
}

/* Narrows 16 lanes of `a` and 16 of `b` to 16 bits, in the order of the processor's pack instruction: four of `a`, four
 * of `b`, the next four of `a` ... Such a vector is a pair. The values must fit into 16 signed bits. */
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
    for (int i = 0; i < LANES; i++) {
        pairs[i / 4 * 8 + i % 4] = (uint16_t)a[i];
        pairs[i / 4 * 8 + 4 + i % 4] = (uint16_t)b[i];
    }
    return pairs;
#endif
}

/* Shuffles bytes within each 16: byte i of the result is byte order[i]. */
INLINE Bytes shuffle_bytes(Bytes v, ByteLanes order)
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

/* Swaps the two halves of a pair: the lanes of `a` and those of `b`. */
INLINE Shorts swap_halves(Shorts v)
{
    return (Shorts)shuffle_bytes((Bytes)v, (ByteLanes){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
}

/* All bits of the lanes of the first (0) or second (1) vector of a pair. */
INLINE Shorts pair_mask(int which)
{
    const Shorts number = {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1};
    return (Shorts)(number == (uint16_t)which);
}

/* The number of the lane of either vector that lies in each lane of a pair. */
INLINE Shorts pair_lanes(void)
{
    return (Shorts){0, 1, 2,  3,  0, 1, 2,  3,  4,  5,  6,  7,  4,  5,  6,  7,
                    8, 9, 10, 11, 8, 9, 10, 11, 12, 13, 14, 15, 12, 13, 14, 15};
}

/* The lane mask of a partial quad. A quad is four vectors a, b, c, d, stored as pair 0 (a, b) and pair 1 (c, d). All
 * bits of a lane are set if its vector is among the first `count` of the four. */
INLINE Shorts partial_quad_mask(int count, int pair)
{
    const Shorts number = {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1};
    return (Shorts)(number + (uint16_t)(2 * pair) < (uint16_t)count);
}

/* The high bytes of two pairs: in every 16 bits, the low byte comes from the first pair and the high byte from the
 * second. */
INLINE Bytes high_bytes(Shorts first, Shorts second) { return (Bytes)(first >> 8 | (second & 0xFF00)); }

/* Interleaves the first eight bytes of each 16 with the last eight. After high_bytes, each 32-bit lane then holds the
 * four bytes a, b, c, d of a quad. */
INLINE Bytes interleave_halves(Bytes v)
{
    return shuffle_bytes(v, (ByteLanes){0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15});
}

/* reference.exp2_fixed, to the bit: 65280 * 2**(-distance * rate / 65536). The product is a fixed-point exponent: its
 * upper 16 bits are the integer part, a shift, and its lower 16 bits the fraction, the argument of a parabola. */
INLINE Shorts exp2_fixed(Shorts distance, Shorts rate)
{
    Shorts fraction = distance * rate, slope = 43729 - high_half(fraction, all32(11089));
    return shift_right(65280 - high_half(fraction, slope), high_half(distance, rate));
}

#endif
