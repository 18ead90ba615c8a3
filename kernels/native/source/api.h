/* The interface of the shared object, and the records that Python fills in (kernels/native/binding.py declares the
 * same).
 *
 * The caller has checked all arguments except the token ids of `encode`; no function here checks sizes again. A function
 * that allocates memory returns 0, or NO_MEMORY if the allocation failed. Pointers to floats and integers need no
 * alignment.
 */
#ifndef LIFELONG_API_H
#define LIFELONG_API_H

#include "weight.h"

#define NO_MEMORY -1
#define NO_SUCH_WORD -2

/* Layer normalisation, or RMSNorm, which does not subtract the mean. The normalised row is multiplied by in_scale [width]
 * when it is quantized for the matrix that reads it; NULL stands for 1. If `gain` is NULL, there is no norm. */
typedef struct {
    const float *gain, *bias, *in_scale;
    float eps;
    int32_t is_rms;
} Norm;

/* word [num_words, word_width] is int8 with one scale for each row. With `multipliers` [num_words, word_width / 64], it
 * is signed nibbles (even columns are low nibbles), which are multiplied by the multipliers. `expand` [width, word_width]
 * widens the words; it may be NULL. position [positions, width] includes the segment's row. Its rows are
 * `position_stride` floats apart; 0 if all positions share one row. */
typedef struct {
    int64_t num_words;
    const uint8_t *word, *multipliers;
    const float *word_scale, *position;
    const Weight *expand;
    int32_t word_width, position_stride;
    Norm norm;
} Embedding;

/* The cosines and sines [positions, head_width / 2] by which queries and keys are rotated; NULL for no rotation. */
typedef struct {
    const float *cosine, *sine;
} Rotations;

/* The keys that `heads` heads attend to: the keys that are at most `window` tokens away, the first `sinks` keys, and the
 * `topk` blocks of `block` keys that the router chooses for 32 queries. In a sequence of fewer than `dense_below` tokens,
 * the heads attend to all keys. */
typedef struct {
    int32_t heads, window, sinks, block, topk, dense_below;
} Span;

/* The heads of an attention: query head h reads the keys and values of kv head h / (heads / kv_heads). Rows of qkv are
 * [q of each head | k of each kv head | v of each kv head], each `head_width` wide. The spans cover all heads in order;
 * heads with the same kv head have the same span. Without spans, every head attends to all keys. */
typedef struct {
    int32_t heads, kv_heads, head_width, num_spans;
    const Span *spans;
} HeadShape;

/* A matrix as one block uses it: y = weight(x) + bias + b(a(x)). `bias`, a whole number of panels, replaces the bias in
 * the weight; NULL keeps the bias in the weight. a [rank, inputs] and b [outputs, rank], INT8, are a low-rank addition
 * (LoRA, Hu et al., arXiv:2106.09685); both are NULL without one. */
typedef struct {
    const Weight *weight, *a, *b;
    const float *bias;
} Linear;

/* What follows `up`: the GELU, or a gated unit f(gate) * value (Shazeer, arXiv:2002.05202), whose f is the GELU, its
 * approximation by tanh, or the SiLU. */
typedef enum { GELU_UNIT, GEGLU, GEGLU_TANH, SWIGLU } Activation;

/* qkv [(heads + 2 * kv_heads) * head_width, width], out [width, heads * head_width], up [inner, width], down [width,
 * inner]. `rank` is the largest rank of their low-rank additions. A gated unit has up [2 * inner, width]: first the rows
 * of the gate. With `is_post_norm`, x = norm1(x + out(..)), x = norm2(x + down(..)). Otherwise, x = x +
 * out_norm(out(attention of norm1(x))), x = x + down_norm(down(.. norm2(x))). `final_norm` and `project` [width, width]
 * follow the last block. All of these norms and `project` may be missing. q_norm and k_norm are [head_width]. */
typedef struct {
    HeadShape heads;
    int32_t inner, rank, activation, is_post_norm;
    Linear qkv, out, up, down, project;
    Norm norm1, norm2, out_norm, down_norm, q_norm, k_norm, final_norm;
    Rotations rotations;
} Block;

/* A sequence's vector is the mean of its rows or, with `pools_first`, the first of them; `unit` scales it to length 1. */
typedef struct {
    int32_t width, layers, pools_first, unit;
    Embedding embedding;
    const Block *blocks;
} Encoder;

/* The shape of a dense matrix of floats. */
typedef struct {
    int64_t rows, width;
} Shape;

/* A batch of images and a 3 x 3 convolution of it: [images, height, width, num_in] to [images, height, width, num_out],
 * with a border of zeros one pixel wide. */
typedef struct {
    int32_t images, height, width, num_in, num_out;
} ConvShape;

/* The kernels of one instruction set (see dot.h). */
typedef struct {
    const char *name;
    int (*runs_here)(void);
    /* q [rows, width] u8, qparams [rows] of (scale, min) */
    void (*quantize_rows)(const float *x, Shape shape, uint8_t *q, float *qparams);
    /* sums [rows, num_out] <- q [rows, num_in] times the integers of the weight, without an epilogue */
    int (*accumulate)(const uint8_t *q, int64_t rows, const Weight *w, int32_t *sums);
    /* y [rows, num_out]; epilogue 0 stores, 1 applies the GELU, 2 adds to the values that y holds */
    int (*linear)(int epilogue, const float *x, int64_t rows, const Weight *w, float *y);
    void (*norm_rows)(float *x, Shape shape, const Norm *norm);
    /* dense rows of x [rows, width] <- f(gate) * value of rows [rows, 2 * width]; the width is a multiple of 16 */
    void (*gate_rows)(int activation, float *x, Shape shape);
    /* out [tokens, heads * head_width] <- self-attention. The rows of qkv are `stride` floats apart, and its panels of 64
     * columns `pitch` floats apart. Sequence i is tokens offsets[i] to offsets[i + 1]. */
    int (*attention)(const float *qkv, int64_t stride, int64_t pitch, const int32_t *offsets, int sequences,
                     const HeadShape *heads, float *out);
    void (*embed)(const Embedding *e, int width, const int64_t *ids, const int32_t *offsets, int sequences, float *x);
    void (*mean_rows)(const float *x, int width, const int32_t *offsets, int sequences, float *out);
    /* out [sequences, width] <- the vectors of all sequences; the vector of sequence i is row rows[i]. If `rows` is NULL,
     * out [tokens, width] <- the row of every token after `layers` blocks. Returns NO_SUCH_WORD for an id outside the
     * vocabulary. */
    int (*encode)(const Encoder *e, int layers, const int64_t *ids, const int32_t *offsets, const int32_t *rows,
                  int sequences, int threads, float *out);
    /* out [sequences, width] <- the same bits as `encode`, from x [tokens, width], the row of every token after `layer`
     * blocks. `rows` has the same meaning as for `encode`. */
    int (*encode_from)(const Encoder *e, int layer, const float *x, const int32_t *offsets, const int32_t *rows,
                       int sequences, int threads, float *out);
    /* packed <- the filters of F(tile x tile, 3x3) and the bias, or NULL, in the layout of winograd.h */
    void (*pack_winograd)(int tile, const float *w, const float *bias, int num_out, int num_in, int adjoint, float *packed);
    /* y <- the convolution of x with these filters; tile is 2 or 4 */
    int (*winograd)(int tile, const float *x, const ConvShape *images, const float *packed, int threads, float *y);
    /* y <- the convolution in 8-bit integers; the inputs of the weight are 3 columns of 3 rows of num_in channels, rounded
     * up to a whole quad */
    int (*convolve)(const float *x, const ConvShape *images, const Weight *w, int threads, float *y);
    /* the same bits by F(2x2,3x3): filters [panels of 32 outputs][16 points][pairs of inputs][32][2], scaled by 4, and
     * floats (scale, bias, scaled_ksum) of all outputs, rounded up to a whole panel */
    int (*convolve_winograd)(const float *x, const ConvShape *images, const int16_t *filters, const float *floats, int threads,
                             float *y);
} Kernels;

#endif
