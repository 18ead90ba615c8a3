/* y = x w^T + bias for quantized rows and a sparse weight, in exact int32: only the blocks that are stored are multiplied.
 *
 * A block is multiplied by the quads of up to 16 rows: one load of the block, and a load and a multiply-add for each row,
 * so that all sums of a tile stay in registers. A tile of rows (24 KB at 1536 inputs) stays in the first-level cache while
 * the weight passes by. Constant blocks of 4 x 1 and their rate: Shen et al., arXiv:2306.16601, section 3.
 *
 * Rejected, measured: rows interleaved by quad, so that a block reads one cache line (no faster, and the rows would have
 * to be transposed first), and 24 rows a tile (equal).
 */
#ifndef LIFELONG_SPARSE_H
#define LIFELONG_SPARSE_H

#include "blocks.h"
#include "epilogue.h"

#define SPARSE_ROWS 16
#define UNROLL_ROWS _Pragma("GCC unroll 16")

/* `count` blocks and their quads. */
typedef struct {
    const uint8_t *blocks;
    const uint16_t *quads;
    int count;
} BlockRun;

#if defined(__AVX512VNNI__)

#define MAX_CHAINS 4

/* sums[0..rows) <- x times the blocks; `rows` is a compile-time constant. With few rows, several sums for each hide the
 * latency of the instruction. */
INLINE void dot_blocks(int rows, ByteRows x, BlockRun run, IntLanes *sums)
{
    int chains = SPARSE_ROWS / rows < MAX_CHAINS ? SPARSE_ROWS / rows : MAX_CHAINS, b = 0;
    __m512i sum[MAX_CHAINS][SPARSE_ROWS];
    UNROLL_ROWS for (int c = 0; c < chains; c++)
        UNROLL_ROWS for (int r = 0; r < rows; r++) sum[c][r] = _mm512_setzero_si512();
    for (; b + chains <= run.count; b += chains)
        UNROLL_ROWS for (int c = 0; c < chains; c++) {
            const uint8_t *q = x.q + run.quads[b + c] * QUAD;
            __m512i w = _mm512_loadu_si512(run.blocks + (int64_t)(b + c) * BLOCK_BYTES);
            UNROLL_ROWS for (int r = 0; r < rows; r++)
                multiply_add(&sum[c][r], _mm512_set1_epi32(quad_of(q + r * x.stride)), w);
        }
    for (; b < run.count; b++) {
        const uint8_t *q = x.q + run.quads[b] * QUAD;
        __m512i w = _mm512_loadu_si512(run.blocks + (int64_t)b * BLOCK_BYTES);
        UNROLL_ROWS for (int r = 0; r < rows; r++)
            multiply_add(&sum[0][r], _mm512_set1_epi32(quad_of(q + r * x.stride)), w);
    }
    UNROLL_ROWS for (int r = 0; r < rows; r++) {
        UNROLL_ROWS for (int c = 1; c < chains; c++) sum[0][r] = _mm512_add_epi32(sum[0][r], sum[c][r]);
        sums[r] = (IntLanes)sum[0][r];
    }
}

#elif defined(__AVX2__)

INLINE void dot_blocks(int rows, ByteRows x, BlockRun run, IntLanes *sums)
{
    for (int r = 0; r < rows; r++) {
        __m256i pairs[4]; /* as in dot_rows */
        for (int c = 0; c < 4; c++) pairs[c] = _mm256_setzero_si256();
        for (int b = 0; b < run.count; b++) {
            const uint8_t *w = run.blocks + (int64_t)b * BLOCK_BYTES;
            int32_t bytes = quad_of(x.q + r * x.stride + run.quads[b] * QUAD);
            __m256i quad = _mm256_cvtepu8_epi16(_mm_set1_epi32(bytes));
            for (int c = 0; c < 4; c++) {
                __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + c * 16)));
                pairs[c] = _mm256_add_epi32(pairs[c], _mm256_madd_epi16(quad, wide));
            }
        }
        union { IntLanes all; __m256i half[2]; } sum;
        for (int c = 0; c < 2; c++)
            sum.half[c] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(pairs[2 * c], pairs[2 * c + 1]), 0xD8);
        sums[r] = sum.all;
    }
}

#else

INLINE void dot_blocks(int rows, ByteRows x, BlockRun run, IntLanes *sums)
{
    for (int r = 0; r < rows; r++) {
        int32_t sum[GROUP_OUT] = {0};
        for (int b = 0; b < run.count; b++) {
            const uint8_t *quad = x.q + r * x.stride + run.quads[b] * QUAD;
            const int8_t *w = (const int8_t *)run.blocks + (int64_t)b * BLOCK_BYTES;
            for (int n = 0; n < GROUP_OUT; n++, w += QUAD)
                sum[n] += quad[0] * w[0] + quad[1] * w[1] + quad[2] * w[2] + quad[3] * w[3];
        }
        sums[r] = load16i(sum);
    }
}

#endif

/* y [rows, num_out] for a few rows. `rows` is a compile-time constant if sums are kept in registers. */
INLINE void sparse_tile(Epilogue epilogue, int rows, ByteRows x, const QuantParams *qparams, BiasedWeight biased, Matrix y)
{
    const Weight *w = biased.weight;
    SparseParts p = sparse_parts(w);
    const float *bias = biased.bias ? biased.bias : p.bias;
    for (int n = 0, g = 0; n < w->num_out; n += GROUP_OUT, g++) {
        BlockRun run = {p.blocks + (int64_t)p.starts[g] * BLOCK_BYTES, p.quads + p.starts[g], p.starts[g + 1] - p.starts[g]};
        IntLanes sums[SPARSE_ROWS];
        dot_blocks(rows, x, run, sums);
        Lanes scale = load16(p.scale + n), offset = load16(bias + n), ksum = load16(p.scaled_ksum + n);
        UNROLL_ROWS for (int r = 0; r < rows; r++)
            apply_epilogue(epilogue, sums[r], scale, offset, ksum, qparams[r], element(y, r, n));
    }
}

INLINE void linear_in_blocks(Epilogue epilogue, QuantizedRows x, BiasedWeight w, Matrix y)
{
    for (int row = 0, rows; row < x.rows; row += rows) {
        ByteRows tile = rows_from(x.integers, row);
        Matrix to = {element(y, row, 0), y.stride, y.pitch};
        int left = x.rows - row;
#define TILE(R) (rows = (R), sparse_tile(epilogue, R, tile, x.qparams + row, w, to))
#if defined(__AVX512VNNI__)
        if (left >= 16) TILE(16);
        else if (left >= 8) TILE(8);
        else if (left >= 4) TILE(4);
        else if (left >= 2) TILE(2);
        else TILE(1);
#else
        TILE(left < SPARSE_ROWS ? left : SPARSE_ROWS);
#endif
#undef TILE
    }
}

#endif
