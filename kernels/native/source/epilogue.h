/* The epilogue of a product, which computes float32 results from int32 sums, and the matrices of operands and results. */
#ifndef LIFELONG_EPILOGUE_H
#define LIFELONG_EPILOGUE_H

#include "dot.h"
#include "rows.h"

/* PLAIN stores y, GELU stores gelu(y), ADD adds y to the stored value, ADD_GELU stores gelu of that sum. SUMS stores the
 * int32 sums themselves, through a pointer to float: only `accumulate` in kernels.c asks for it. */
typedef enum { PLAIN, GELU, ADD, ADD_GELU, SUMS } Epilogue;

INLINE int is_added(Epilogue epilogue) { return epilogue == ADD || epilogue == ADD_GELU; }

/* `rows` quantized rows with their scales and minima. */
typedef struct {
    int rows;
    ByteRows integers;
    const QuantParams *qparams;
} QuantizedRows;

/* A matrix of floats: `stride` between rows, `pitch` between panels of 64 columns. If these are the width and PANEL, the
 * matrix is dense (row-major). If they are PANEL and rows * PANEL, it is stored panel by panel, for readers of a few
 * columns. */
typedef struct {
    float *at;
    int64_t stride, pitch;
} Matrix;

/* A weight, and a bias that replaces the weight's bias if several layers share the weight: a whole number of panels, or
 * NULL. */
typedef struct {
    const Weight *weight;
    const float *bias;
} BiasedWeight;

INLINE const float *bias_of(BiasedWeight w, int panel)
{
    return w.bias ? w.bias + panel * PANEL : weight_floats(w.weight, panel) + PANEL;
}

INLINE Matrix dense(float *at, int64_t width) { return (Matrix){at, width, PANEL}; }

INLINE float *element(Matrix m, int64_t row, int64_t column)
{
    return m.at + row * m.stride + column / PANEL * m.pitch + column % PANEL;
}

INLINE ByteRows rows_from(ByteRows x, int row)
{
    x.q += row * x.stride;
    if (x.group_sums) x.group_sums += row * x.num_groups;
    return x;
}

/* reference.epilogue, to the bit, followed by `epilogue`, for 16 sums of one row, whose parameters are `row`. */
INLINE void apply_epilogue(Epilogue epilogue, IntLanes sums, Lanes scale, Lanes bias, Lanes ksum, QuantParams row,
                           float *to)
{
    if (epilogue == SUMS) {
        store16(to, (Lanes)sums);
        return;
    }
    Lanes sum = __builtin_convertvector(sums, Lanes);
    Lanes v = fma16(sum * scale, all16(row.scale), fma16(all16(row.min), ksum, bias));
    if (is_added(epilogue)) v += load16(to);
    if (epilogue == GELU || epilogue == ADD_GELU) v = gelu16(v);
    store16(to, v);
}

#endif
