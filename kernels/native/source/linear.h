/* y = x w^T + bias for quantized rows, and what is done to y before it leaves the registers.
 *
 * Panel by panel; a panel (24 KB at 384 inputs) stays in the first-level cache while all rows pass by, six at a time.
 * Every row's result depends on that row alone, not on which rows it was computed with.
 */
#ifndef LIFELONG_LINEAR_H
#define LIFELONG_LINEAR_H

#include "dot.h"
#include "rows.h"

#define AHEAD (100 << 10) /* bytes; measured */

typedef enum { PLAIN, GELU, ADD } Finish;

/* `rows` quantized rows with their ranges. */
typedef struct {
    int rows;
    ByteRows integers;
    const Range *ranges;
} QuantizedRows;

INLINE ByteRows rows_from(ByteRows x, int row)
{
    x.q += row * x.stride;
    if (x.group_sums) x.group_sums += row * x.num_groups;
    return x;
}

/* reference.finish, to the bit, then `finish`: ADD adds to what y holds. `y` is the tile's first row, in its panel. */
INLINE void finish_tile(Finish finish, int rows, int32_t (*sums)[PANEL], const Range *ranges, const Weight *w, int panel,
                        float *y)
{
    const float *floats = weight_floats(w, panel);
    for (int n = 0; n < PANEL && panel * PANEL + n < w->num_out; n += LANES) {
        Lanes scale = load16(floats + n), bias = load16(floats + PANEL + n), ksum = load16(floats + 2 * PANEL + n);
        int left = w->num_out - panel * PANEL - n;
        for (int r = 0; r < rows; r++) {
            float *to = y + (int64_t)r * w->num_out + n;
            Lanes sum = __builtin_convertvector(load16i(sums[r] + n), Lanes);
            Lanes v = fused16(sum * scale, all16(ranges[r].step), fused16(all16(ranges[r].low), ksum, bias));
            if (finish == GELU) v = gelu16(v);
            if (left >= LANES)
                store16(to, finish == ADD ? v + load16(to) : v);
            else
                store_part(to, finish == ADD ? v + load_part(to, left, 0.0f) : v, left);
        }
    }
}

/* The share of what comes AHEAD bytes behind this panel that tile `tile` of the first four fetches while it computes: with
 * few rows, a panel is done before the processor's own guess has brought the next from the third-level cache. What
 * follows the last panel is the next weight's. */
INLINE Ahead ahead_of(const Weight *w, int panel, int tile, int rows)
{
    int lines = rows > 3 * TILE_ROWS ? 1 : rows > TILE_ROWS ? 2 : 0;
    return (Ahead){(const char *)weight_panel(w, panel) + AHEAD + (int64_t)tile * lines * w->num_quads * 64, lines};
}

INLINE void linear_finishing(Finish finish, QuantizedRows x, const Weight *w, float *y)
{
    int32_t sums[TILE_ROWS][PANEL];
    for (int panel = 0; panel < w->num_panels; panel++) {
        int first = panel * PANEL;
        for (int row = 0; row < x.rows; row += TILE_ROWS) {
            int rows = x.rows - row < TILE_ROWS ? x.rows - row : TILE_ROWS;
            ByteRows tile = rows_from(x.integers, row);
            if (row < 4 * TILE_ROWS) tile.ahead = ahead_of(w, panel, row / TILE_ROWS, x.rows);
            dot_panel(rows, tile, w, panel, sums);
            finish_tile(finish, rows, sums, x.ranges + row, w, panel, y + (int64_t)row * w->num_out + first);
        }
    }
}

/* y [rows, num_out], dense. */
static void linear(Finish finish, QuantizedRows x, const Weight *w, float *y)
{
    if (finish == GELU) linear_finishing(GELU, x, w, y);
    else if (finish == ADD) linear_finishing(ADD, x, w, y);
    else linear_finishing(PLAIN, x, w, y);
}

/* Scratch for `rows` quantized rows of `width`: integers (a whole number of 64 bytes a row), group sums, ranges. */
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
    return rows * round_up(width, 64) + round_up(rows * groups * 4, 64) + round_up(rows * (int64_t)sizeof(Range), 64);
}

INLINE RowScratch row_scratch(uint8_t *memory, int64_t rows, int width)
{
    RowScratch s;
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

/* Quantizes row `row`, whose extremes are `e`, for weights of `bits`. */
INLINE void quantize_between_into(RowScratch *s, int row, const Extremes *e, const float *x, int width, int bits)
{
    uint8_t *q = s->q + row * s->stride;
    s->ranges[row] = quantize_between(e, x, width, q);
    for (int i = width; i % QUAD; i++) q[i] = 0;
    if (bits == 4) sum_groups(q, width / GROUP, s->group_sums + row * (width / GROUP));
}

INLINE void quantize_into(RowScratch *s, int row, const float *x, int width, int bits)
{
    Extremes e = extremes_of(x, width);
    quantize_between_into(s, row, &e, x, width, bits);
}

INLINE QuantizedRows quantized(const RowScratch *s, int first, int rows, int width)
{
    ByteRows integers = plain_rows(s->q, s->stride);
    integers.group_sums = s->group_sums, integers.num_groups = width / GROUP;
    return (QuantizedRows){rows, rows_from(integers, first), s->ranges + first};
}

#endif
