/* What the shared object offers, and the records that cross from Python (kernels/native/binding.py has the same).
 *
 * Whoever calls has checked every argument but the token ids of `encode`: nothing here looks at sizes twice. Functions that
 * need memory return 0, or NO_MEMORY where there is none. Pointers to floats and integers need no alignment.
 */
#ifndef LIFELONG_API_H
#define LIFELONG_API_H

#include "weight.h"

#define NO_MEMORY -1
#define NO_SUCH_WORD -2

/* in_scale [width]: what is multiplied with a row when it is quantized for the matrix that reads it; NULL: nothing. */
typedef struct {
    const float *gain, *bias, *in_scale;
    float eps;
} Norm;

/* word [num_words, width] int8 with a scale for each row; position [positions, width] already holds the segment's row. */
typedef struct {
    int64_t num_words;
    const int8_t *word;
    const float *word_scale, *position;
    Norm norm;
} Embedding;

typedef struct {
    const Weight *qkv, *out, *up, *down;
    Norm norm1, norm2;
} Block;

typedef struct {
    int32_t width, heads, inner, layers;
    Embedding embedding;
    const Block *blocks;
} Encoder;

/* How many rows of how many floats, dense. */
typedef struct {
    int64_t rows, width;
} Shape;

/* One set for each way to compute (see dot.h). */
typedef struct {
    const char *name;
    int (*runs_here)(void);
    /* q [rows, width] u8, ranges [rows] of (step, low) */
    void (*quantize_rows)(const float *x, Shape shape, uint8_t *q, float *ranges);
    /* sums [rows, num_out] of q [rows, num_in] */
    int (*accumulate)(const uint8_t *q, int64_t rows, const Weight *w, int32_t *sums);
    /* y [rows, num_out]; finish 0: plain, 1: gelu, 2: added to what y holds */
    int (*linear)(int finish, const float *x, int64_t rows, const Weight *w, float *y);
    void (*norm_rows)(float *x, Shape shape, const Norm *norm);
    /* out [tokens, heads * head] of qkv [tokens, 3 * heads * head]; sequence i is tokens offsets[i] to offsets[i + 1] */
    int (*attention)(const float *qkv, const int32_t *offsets, int sequences, int heads, int head, float *out);
    void (*embed)(const Embedding *e, int width, const int64_t *ids, const int32_t *offsets, int sequences, float *x);
    void (*mean_rows)(const float *x, int width, const int32_t *offsets, int sequences, float *out);
    /* out [sequences, width], of length 1 each, sequence i in row rows[i]; where `rows` is NULL instead every token's row
     * behind `layers` blocks. NO_SUCH_WORD for an id that is none. */
    int (*encode)(const Encoder *e, int layers, const int64_t *ids, const int32_t *offsets, const int32_t *rows,
                  int sequences, int threads, float *out);
} Kernels;

#endif
