/* y = x w^T + bias for quantized rows, and what is done to y before it leaves the registers.
 *
 * Panel by panel; a panel (24 KB at 384 inputs) stays in the first-level cache while all rows pass by, six at a time. Where
 * there are tiles, tiles.h does it.
 * Every row's result depends on that row alone, not on which rows it was computed with.
 */
#ifndef LIFELONG_LINEAR_H
#define LIFELONG_LINEAR_H

#include "tiles.h"

#define AHEAD (72 << 10) /* bytes; measured */

INLINE void copy_rows(int rows, int width, const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int r = 0; r < rows; r++) memcpy(to + r * to_stride, from + r * from_stride, (size_t)width * sizeof *to);
}

/* A few rows of a panel. With `bits`, as with `rows`, a constant, everything between the product and y stays in registers
 * where the processor has enough. Where the last panel has spare outputs they are finished beside y. */
INLINE void linear_tile(Finish finish, int bits, int rows, ByteRows x, const Range *ranges, const Weight *w, int panel,
                        Matrix y)
{
    int32_t sums[DOT_ROWS][PANEL];
    float part[DOT_ROWS][PANEL];
    int left = w->num_out - panel * PANEL;
    float *to = left < PANEL ? part[0] : y.at;
    int64_t stride = left < PANEL ? PANEL : y.stride;
    if (left < PANEL && finish == ADD) {
        memset(part, 0, sizeof part);
        copy_rows(rows, left, y.at, y.stride, to, stride);
    }
    dot_panel(bits, rows, x, w, panel, sums);
    const float *floats = weight_floats(w, panel);
    UNROLL_SUMS for (int n = 0; n < PANEL; n += LANES) {
        Lanes scale = load16(floats + n), bias = load16(floats + PANEL + n), ksum = load16(floats + 2 * PANEL + n);
        UNROLL_SUMS for (int r = 0; r < rows; r++)
            finish_vector(finish, load16i(sums[r] + n), scale, bias, ksum, ranges[r], to + r * stride + n);
    }
    if (left < PANEL) copy_rows(rows, left, to, stride, y.at, y.stride);
}

/* With few rows, a panel is done before the processor's own guess has brought the next from the third-level cache, so each
 * of the first four tiles fetches a quarter of what comes AHEAD bytes behind this panel. What follows the last panel is
 * the next weight's. A single tile would wait for what it asks for. */
INLINE const uint8_t *ahead_of(const Weight *w, int panel, int row, int rows)
{
    const uint8_t *from = weight_panel(w, panel);
    int quarter = row / DOT_ROWS;
    return quarter < 4 && rows > DOT_ROWS ? from + AHEAD + (int64_t)quarter * w->num_quads * 64 : from;
}

INLINE void linear_in_panels(Finish finish, int bits, QuantizedRows x, const Weight *w, Matrix y)
{
    for (int panel = 0; panel < w->num_panels; panel++)
        for (int row = 0; row < x.rows; row += DOT_ROWS) {
            ByteRows tile = rows_from(x.integers, row);
            tile.ahead = ahead_of(w, panel, row, x.rows);
            Matrix to = {element(y, row, (int64_t)panel * PANEL), y.stride, y.pitch};
            int rows = x.rows - row < DOT_ROWS ? x.rows - row : DOT_ROWS;
#define TILE(R) linear_tile(finish, bits, R, tile, x.ranges + row, w, panel, to)
            WITH_ROWS(rows, TILE)
#undef TILE
        }
}

/* So few rows that dot.h takes them at once are done there before a tile is full. */
INLINE void linear_finishing(Finish finish, QuantizedRows x, const Weight *w, Matrix y)
{
#if defined(__AMX_INT8__)
    if (x.rows > DOT_ROWS && fits_tiles(w)) {
        linear_in_tiles(finish, x, w, y);
        return;
    }
#endif
    if (w->bits == 4) linear_in_panels(finish, 4, x, w, y);
    else linear_in_panels(finish, 8, x, w, y);
}

/* y [rows, num_out] */
static void linear(Finish finish, QuantizedRows x, const Weight *w, Matrix y)
{
    if (finish == GELU) linear_finishing(GELU, x, w, y);
    else if (finish == ADD) linear_finishing(ADD, x, w, y);
    else if (finish == SUMS) linear_finishing(SUMS, x, w, y);
    else linear_finishing(PLAIN, x, w, y);
}

/* Scratch for `rows` quantized rows of `width`, and as many more as a tile of the last may read: integers (a whole number
 * of 64 bytes a row), group sums, ranges. */
typedef struct {
    uint8_t *q;
    int64_t stride;
    int32_t *group_sums;
    Range *ranges;
} RowScratch;

INLINE int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

INLINE int64_t row_scratch_bytes(int64_t rows, int width)
{
    int64_t groups = width / GROUP;
    rows += ROW_TILE - 1;
    return rows * round_up(width, 64) + round_up(rows * groups * 4, 64) + round_up(rows * (int64_t)sizeof(Range), 64);
}

INLINE RowScratch row_scratch(uint8_t *memory, int64_t rows, int width)
{
    RowScratch s;
    rows += ROW_TILE - 1;
    s.stride = round_up(width, 64);
    s.q = memory;
    s.group_sums = (int32_t *)(memory + rows * s.stride);
    s.ranges = (Range *)((uint8_t *)s.group_sums + round_up(rows * (width / GROUP) * 4, 64));
    return s;
}

INLINE void sum_groups(const uint8_t *q, int num_groups, int32_t *sums)
{
    for (int g = 0; g < num_groups; g++) {
        int32_t sum = 0;
        for (int i = 0; i < GROUP; i++) sum += q[g * GROUP + i];
        sums[g] = sum;
    }
}

/* What row `row`, whose integers are there, also needs for weights of `bits`: zeros up to a whole quad, group sums. */
INLINE void complete_row(RowScratch *s, int row, int width, int bits)
{
    uint8_t *q = s->q + row * s->stride;
    for (int i = width; i % QUAD; i++) q[i] = 0;
    if (bits == 4) sum_groups(q, width / GROUP, s->group_sums + row * (width / GROUP));
}

/* Up to FEW_ROWS dense rows from `x` on, times `scale`, become rows from `first` on, for weights of `bits`. */
INLINE void quantize_few(RowScratch *s, int first, int rows, const float *x, const float *scale, int width,
                         const Span *spans, int bits)
{
    for (int r = 0; r < rows; r++) {
        s->ranges[first + r] = quantize_row(spans[r], x + r * width, scale, width, s->q + (first + r) * s->stride);
        complete_row(s, first + r, width, bits);
    }
}

/* `rows` rows of `s` from `first` on <- as many of x. */
static void quantize_into(RowScratch *s, int first, int rows, const float *x, int width, int bits)
{
    for (int end = first + rows; first < end; first += FEW_ROWS, x += FEW_ROWS * width) {
        Span spans[FEW_ROWS];
        int few = end - first < FEW_ROWS ? end - first : FEW_ROWS;
        for (int r = 0; r < few; r++) spans[r] = row_span(x + r * width, width);
        quantize_few(s, first, few, x, NULL, width, spans, bits);
    }
}

INLINE QuantizedRows quantized(const RowScratch *s, int first, int rows, int width)
{
    ByteRows integers = plain_rows(s->q, s->stride);
    integers.group_sums = s->group_sums, integers.num_groups = width / GROUP;
    return (QuantizedRows){rows, rows_from(integers, first), s->ranges + first};
}

#endif
