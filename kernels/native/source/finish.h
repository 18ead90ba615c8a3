/* What becomes of the sums of a product, and where it goes. */
#ifndef LIFELONG_FINISH_H
#define LIFELONG_FINISH_H

#include "dot.h"
#include "rows.h"

/* SUMS stores the integers themselves, into a matrix of int32 that is passed as one of floats. */
typedef enum { PLAIN, GELU, ADD, SUMS } Finish;

/* `rows` quantized rows with their ranges. */
typedef struct {
    int rows;
    ByteRows integers;
    const Range *ranges;
} QuantizedRows;

/* Floats whose rows lie `stride` apart and whose panels, of 64 columns each, `pitch`: dense where the two are the width
 * and PANEL; the other way round, panel by panel, where a few columns of all rows are read together. */
typedef struct {
    float *at;
    int64_t stride, pitch;
} Matrix;

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

/* reference.finish, to the bit, then `finish`, for 16 sums of a row: ADD adds to what is there. */
INLINE void finish_vector(Finish finish, IntLanes sums, Lanes scale, Lanes bias, Lanes ksum, Range range, float *to)
{
    if (finish == SUMS) {
        store16(to, (Lanes)sums);
        return;
    }
    Lanes sum = __builtin_convertvector(sums, Lanes);
    Lanes v = fused16(sum * scale, all16(range.step), fused16(all16(range.low), ksum, bias));
    if (finish == GELU) v = gelu16(v);
    if (finish == ADD) v += load16(to);
    store16(to, v);
}

#endif
