/* y = x w^T + bias for quantized rows, with the epilogue applied before y leaves the registers.
 *
 * The weight is read panel by panel. A panel (24 KB at 384 inputs) stays in the first-level cache while all rows pass
 * by, six at a time. On processors with AMX, tiles.h does the product. A row's result depends on that row alone, not on
 * the rows that it was computed with.
 */
#ifndef LIFELONG_LINEAR_H
#define LIFELONG_LINEAR_H

#include "sparse.h"
#include "tiles.h"

#define PREFETCH_BYTES (72 << 10) /* how far ahead weights are prefetched; measured */

INLINE void copy_rows(int rows, int width, const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int r = 0; r < rows; r++) memcpy(to + r * to_stride, from + r * from_stride, (size_t)width * sizeof *to);
}

/* A few rows times one panel, or its first `vectors` of 16 outputs. `bits`, `rows` and `vectors` are compile-time
 * constants, so that everything between the product and y stays in registers if the processor has enough. The outputs
 * of a partial last panel are computed in `part` and copied. */
INLINE void linear_tile(Epilogue epilogue, int bits, int rows, int vectors, ByteRows x, const QuantParams *qparams, BiasedWeight biased,
                        int panel, Matrix y)
{
    const Weight *w = biased.weight;
    int32_t sums[DOT_ROWS][PANEL];
    float part[DOT_ROWS][PANEL];
    int left = w->num_out - panel * PANEL;
    float *to = left < PANEL ? part[0] : y.at;
    int64_t stride = left < PANEL ? PANEL : y.stride;
    if (left < PANEL && is_added(epilogue)) {
        memset(part, 0, sizeof part);
        copy_rows(rows, left, y.at, y.stride, to, stride);
    }
    dot_panel(bits, rows, vectors, x, w, panel, sums);
    const float *floats = weight_floats(w, panel), *biases = bias_of(biased, panel);
    UNROLL_SUMS for (int n = 0; n < vectors * LANES; n += LANES) {
        Lanes scale = load16(floats + n), bias = load16(biases + n), ksum = load16(floats + 2 * PANEL + n);
        UNROLL_SUMS for (int r = 0; r < rows; r++)
            apply_epilogue(epilogue, load16i(sums[r] + n), scale, bias, ksum, qparams[r], to + r * stride + n);
    }
    if (left < PANEL) copy_rows(rows, left, to, stride, y.at, y.stride);
}

/* The address from which the tile of rows from `row` on prefetches. With few rows, a panel is done before the hardware
 * prefetcher has brought the next one from the third-level cache. So each of the first four tiles fetches a quarter of
 * the panel that is PREFETCH_BYTES ahead; the next weight follows the last panel. A single tile prefetches nothing new,
 * because it would wait for the data. */
INLINE const uint8_t *prefetch_address(const Weight *w, int panel, int row, int rows)
{
    const uint8_t *from = weight_panel(w, panel);
    int quarter = row / DOT_ROWS;
    return quarter < 4 && rows > DOT_ROWS ? from + PREFETCH_BYTES + (int64_t)quarter * w->num_quads * 64 : from;
}

INLINE void linear_in_panels(Epilogue epilogue, int bits, QuantizedRows x, BiasedWeight w, Matrix y)
{
    for (int panel = 0; panel < w.weight->num_panels; panel++) {
        int is_half = epilogue == PLAIN && bits == 8 && w.weight->num_out - panel * PANEL <= PANEL / 2;
        for (int row = 0; row < x.rows; row += DOT_ROWS) {
            ByteRows tile = rows_from(x.integers, row);
            tile.prefetch = prefetch_address(w.weight, panel, row, x.rows);
            Matrix to = {element(y, row, (int64_t)panel * PANEL), y.stride, y.pitch};
            int rows = x.rows - row < DOT_ROWS ? x.rows - row : DOT_ROWS;
#define TILE(R) linear_tile(epilogue, bits, R, 4, tile, x.qparams + row, w, panel, to)
#define HALF_TILE(R) linear_tile(PLAIN, 8, R, 2, tile, x.qparams + row, w, panel, to)
            if (is_half) {
                WITH_ROWS(rows, HALF_TILE)
            } else {
                WITH_ROWS(rows, TILE)
            }
#undef TILE
#undef HALF_TILE
        }
    }
}

/* Up to DOT_ROWS rows use dot.h, which is faster than a partly filled tile. */
INLINE void linear_with_epilogue(Epilogue epilogue, QuantizedRows x, BiasedWeight w, Matrix y)
{
    if (w.weight->is_sparse) {
        linear_in_blocks(epilogue, x, w, y);
        return;
    }
#if defined(__AMX_INT8__)
    if (x.rows > DOT_ROWS && fits_tiles(w.weight)) {
        linear_in_tiles(epilogue, x, w, y);
        return;
    }
#endif
    if (w.weight->bits == 4) linear_in_panels(epilogue, 4, x, w, y);
    else linear_in_panels(epilogue, 8, x, w, y);
}

/* y [rows, num_out] */
static void linear(Epilogue epilogue, QuantizedRows x, BiasedWeight w, Matrix y)
{
    if (epilogue == GELU) linear_with_epilogue(GELU, x, w, y);
    else if (epilogue == ADD) linear_with_epilogue(ADD, x, w, y);
    else if (epilogue == ADD_GELU) linear_with_epilogue(ADD_GELU, x, w, y);
    else if (epilogue == SUMS) linear_with_epilogue(SUMS, x, w, y);
    else linear_with_epilogue(PLAIN, x, w, y);
}

/* Scratch memory for quantized rows, and for the rows that a tile reads beyond the last: the integers (`stride` bytes a
 * row, a multiple of 64), the group sums, and the scales and minima. */
typedef struct {
    uint8_t *q;
    int64_t stride;
    int32_t *group_sums;
    QuantParams *qparams;
} RowScratch;

INLINE int64_t row_scratch_bytes(int64_t rows, int width)
{
    int64_t groups = width / GROUP;
    rows += ROW_TILE - 1;
    return rows * round_up(width, 64) + round_up(rows * groups * 4, 64) +
           round_up(rows * (int64_t)sizeof(QuantParams), 64);
}

INLINE RowScratch row_scratch(uint8_t *memory, int64_t rows, int width)
{
    RowScratch s;
    rows += ROW_TILE - 1;
    s.stride = round_up(width, 64);
    s.q = memory;
    s.group_sums = (int32_t *)(memory + rows * s.stride);
    s.qparams = (QuantParams *)((uint8_t *)s.group_sums + round_up(rows * (width / GROUP) * 4, 64));
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

/* Completes row `row`, whose integers are stored, for weights of `bits`: zeros up to a whole quad, and group sums. */
INLINE void complete_row(RowScratch *s, int row, int width, int bits)
{
    uint8_t *q = s->q + row * s->stride;
    for (int i = width; i % QUAD; i++) q[i] = 0;
    if (bits == 4) sum_groups(q, width / GROUP, s->group_sums + row * (width / GROUP));
}

/* Rows of `s` from `first` on <- up to FEW_ROWS dense rows from `x` on times in_scale, for weights of `bits`. */
INLINE void quantize_few(RowScratch *s, int first, int rows, const float *x, const float *in_scale, int width,
                         const MinRange *min_ranges, int bits)
{
    for (int r = 0; r < rows; r++) {
        uint8_t *q = s->q + (first + r) * s->stride;
        s->qparams[first + r] = quantize_row(min_ranges[r], x + r * width, in_scale, width, q);
        complete_row(s, first + r, width, bits);
    }
}

INLINE void quantize_scaled(RowScratch *s, int first, int rows, const float *x, const float *in_scale, int width, int bits)
{
    for (int end = first + rows; first < end; first += FEW_ROWS, x += FEW_ROWS * width) {
        MinRange min_ranges[FEW_ROWS];
        int few = end - first < FEW_ROWS ? end - first : FEW_ROWS;
        for (int r = 0; r < few; r++) min_ranges[r] = row_min_range(x + r * width, in_scale, width);
        quantize_few(s, first, few, x, in_scale, width, min_ranges, bits);
    }
}

/* Rows of `s` from `first` on <- `rows` dense rows from `x` on, for weights of `bits`. */
static void quantize_into(RowScratch *s, int first, int rows, const float *x, int width, int bits)
{
    quantize_scaled(s, first, rows, x, NULL, width, bits);
}

INLINE QuantizedRows quantized(const RowScratch *s, int first, int rows, int width)
{
    ByteRows integers = plain_rows(s->q, s->stride);
    integers.group_sums = s->group_sums, integers.num_groups = width / GROUP;
    return (QuantizedRows){rows, rows_from(integers, first), s->qparams + first};
}

#endif
