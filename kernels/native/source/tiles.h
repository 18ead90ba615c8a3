/* y = x w^T + bias on a processor with a matrix unit (AMX), which multiplies 16 rows of 64 bytes by 64 inputs of 16
 * outputs.
 *
 * A block is 32 rows, which stay in the first-level cache, by 32 outputs. One instruction of this unit replaces 256
 * instructions of dot.h, so the epilogue would take as long as the product. The two are pipelined: the epilogue of one
 * half of a panel runs while the next half is multiplied.
 *
 * Rejected, all measured: prefetching weights (it slows the loads of tiles down by more than it gains), three tiles of
 * rows by two of outputs, and all rows by one panel after the other for INT8 (equal at 384 inputs, slower at 1536).
 */
#ifndef LIFELONG_TILES_H
#define LIFELONG_TILES_H

#include "epilogue.h"

#if !defined(__AMX_INT8__)

#define ROW_TILE 1

#else

#define ROW_TILE 16

#define BLOCK_ROWS 32
#define BLOCK_OUT 32
#define TILE_IN 64 /* inputs of a tile */
#define MAX_TILE_IN 8192

#define TILE_LOAD(T, FROM, STRIDE)                                                                                      \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #T : : "r"(FROM), "r"((int64_t)(STRIDE)) : "memory")
#define TILE_LOAD_STREAM(T, FROM, STRIDE) /* the non-temporal load: the data is not read again soon */                  \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #T : : "r"(FROM), "r"((int64_t)(STRIDE)) : "memory")
#define TILE_STORE(T, TO, STRIDE)                                                                                       \
    __asm__ volatile("tilestored %%tmm" #T ", (%0,%1,1)" : : "r"(TO), "r"((int64_t)(STRIDE)) : "memory")
#define TILE_ZERO(T) __asm__ volatile("tilezero %%tmm" #T ::)
#define TILE_DOT(C, A, B) __asm__ volatile("tdpbusd %%tmm" #B ", %%tmm" #A ", %%tmm" #C ::)

/* The sums of `rows` rows to which the epilogue has not been applied yet. */
typedef struct {
    int32_t (*sums)[BLOCK_OUT];
    int rows;
    const QuantParams *qparams;
    const float *floats, *biases; /* scale[64], any[64], scaled_ksum[64] of the panel, from the first of these outputs on */
    float *y;
    int64_t stride;
} PendingSums;

INLINE void apply_epilogue_to_rows(Epilogue epilogue, const PendingSums *u, int from, int to)
{
    Lanes scale[2], bias[2], ksum[2];
    UNROLL for (int c = 0; c < 2; c++) {
        const float *floats = u->floats + c * LANES;
        scale[c] = load16(floats), bias[c] = load16(u->biases + c * LANES), ksum[c] = load16(floats + 2 * PANEL);
    }
    for (int r = from; r < to; r++)
        UNROLL for (int c = 0; c < 2; c++)
            apply_epilogue(epilogue, load16i(u->sums[r] + c * LANES), scale[c], bias[c], ksum[c], u->qparams[r],
                          u->y + r * u->stride + c * LANES);
}

/* The weights of 32 outputs and num_tiles * 64 inputs: the address of the first quad, and the bytes from quad to quad. */
typedef struct {
    const uint8_t *from;
    int64_t pitch;
    int num_tiles;
} HalfPanel;

/* sums <- one or two tiles of rows times 32 outputs; between the tiles, the epilogue of `before` runs. */
INLINE void multiply_block(Epilogue epilogue, int row_tiles, ByteRows x, HalfPanel half, int32_t (*sums)[BLOCK_OUT],
                           const PendingSums *before)
{
    const int64_t sum_pitch = sizeof sums[0];
    const uint8_t *q = x.q, *w = half.from;
    TILE_ZERO(0);
    TILE_ZERO(1);
    if (row_tiles == 2) {
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    int done = 0, each = (before->rows + half.num_tiles - 1) / half.num_tiles;
    for (int k = 0; k < half.num_tiles; k++, q += TILE_IN, w += TILE_IN / QUAD * half.pitch) {
        TILE_LOAD(4, q, x.stride);
        TILE_LOAD_STREAM(6, w, half.pitch);
        TILE_DOT(0, 4, 6);
        TILE_LOAD_STREAM(7, w + LANES * QUAD, half.pitch);
        TILE_DOT(1, 4, 7);
        if (row_tiles == 2) {
            TILE_LOAD(5, q + ROW_TILE * x.stride, x.stride);
            TILE_DOT(2, 5, 6);
            TILE_DOT(3, 5, 7);
        }
        int next = done + each < before->rows ? done + each : before->rows;
        apply_epilogue_to_rows(epilogue, before, done, next);
        done = next;
    }
    TILE_STORE(0, sums[0], sum_pitch);
    TILE_STORE(1, sums[0] + LANES, sum_pitch);
    if (row_tiles == 2) {
        TILE_STORE(2, sums[ROW_TILE], sum_pitch);
        TILE_STORE(3, sums[ROW_TILE] + LANES, sum_pitch);
    }
}

/* Expands INT4 weights to INT8: to [quads][32 outputs][QUAD] <- m * hi, for 32 outputs of a panel from `inside` on. A
 * nibble times m fits into a byte, so one 16-bit product computes two of 8 bits; then the excess, 8 * m, is
 * subtracted. */
static void expand_int4(const Weight *w, int panel, int inside, uint8_t *to)
{
    const __m512i low_half = _mm512_set1_epi8(15);
    const uint8_t *from = weight_panel(w, panel) + inside * QUAD, *multipliers = weight_multipliers(w, panel) + inside;
    for (int g = 0; g < w->num_in / GROUP; g++, multipliers += PANEL) {
        __m512i m[2], eight_m[2];
        UNROLL for (int c = 0; c < 2; c++) {
            __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(multipliers + c * LANES)));
            m[c] = _mm512_or_si512(wide, _mm512_slli_epi32(wide, 16));
            eight_m[c] = _mm512_slli_epi16(_mm512_or_si512(m[c], _mm512_slli_epi16(m[c], 8)), 3);
        }
        for (int k = 0; k < GROUP; k += 2 * QUAD, from += PANEL * QUAD, to += 2 * BLOCK_OUT * QUAD)
            UNROLL for (int c = 0; c < 2; c++) {
                __m512i both = _mm512_loadu_si512(from + c * LANES * QUAD);
                __m512i low = _mm512_and_si512(both, low_half);
                __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half);
                low = _mm512_sub_epi8(_mm512_mullo_epi16(low, m[c]), eight_m[c]);
                high = _mm512_sub_epi8(_mm512_mullo_epi16(high, m[c]), eight_m[c]);
                _mm512_storeu_si512(to + c * LANES * QUAD, low);
                _mm512_storeu_si512(to + (BLOCK_OUT + c * LANES) * QUAD, high);
            }
    }
}

/* Configures the unit for whole tiles. Rows beyond the last are multiplied too, and their results are ignored. */
INLINE void configure_tiles(void)
{
    static const struct {
        uint8_t palette, start, spare[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } whole = {.palette = 1, .bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0" : : "m"(whole));
}

/* Releases the unit's registers, which makes context switches faster. */
INLINE void release_tiles(void) { __asm__ volatile("tilerelease" ::); }

/* The loop order keeps the more expensive operand in the cache. With INT8 the rows of a block stay, and pass all
 * weights. INT4 weights take longer to expand than to read, so the expanded weights stay, and pass all rows. */
INLINE void linear_in_tiles(Epilogue epilogue, QuantizedRows x, BiasedWeight biased, Matrix y)
{
    const Weight *w = biased.weight;
    int32_t sums[2][BLOCK_ROWS][BLOCK_OUT] __attribute__((aligned(64)));
    uint8_t expanded[MAX_TILE_IN * BLOCK_OUT] __attribute__((aligned(64)));
    PendingSums before = {.rows = 0, .floats = weight_floats(w, 0), .biases = bias_of(biased, 0)};
    int row_blocks = (x.rows + BLOCK_ROWS - 1) / BLOCK_ROWS, halves = w->num_out / BLOCK_OUT;
    configure_tiles();
    for (int i = 0; i < row_blocks * halves; i++) {
        int row = (w->bits == 4 ? i % row_blocks : i / halves) * BLOCK_ROWS;
        int column = (w->bits == 4 ? i / row_blocks : i % halves) * BLOCK_OUT;
        int panel = column / PANEL, inside = column % PANEL, rows = x.rows - row < BLOCK_ROWS ? x.rows - row : BLOCK_ROWS;
        HalfPanel half = {weight_panel(w, panel) + inside * QUAD, PANEL * QUAD, w->num_in / TILE_IN};
        if (w->bits == 4) {
            if (row == 0) expand_int4(w, panel, inside, expanded);
            half.from = expanded, half.pitch = BLOCK_OUT * QUAD;
        }
        ByteRows q = rows_from(x.integers, row);
        if (rows > ROW_TILE) multiply_block(epilogue, 2, q, half, sums[i % 2], &before);
        else multiply_block(epilogue, 1, q, half, sums[i % 2], &before);
        before = (PendingSums){sums[i % 2],
                               rows,
                               x.qparams + row,
                               weight_floats(w, panel) + inside,
                               bias_of(biased, panel) + inside,
                               element(y, row, column),
                               y.stride};
    }
    apply_epilogue_to_rows(epilogue, &before, 0, before.rows);
    release_tiles();
}

/* Whether the weight is a whole number of tiles in both directions. */
INLINE int fits_tiles(const Weight *w)
{
    return w->num_in % TILE_IN == 0 && w->num_in <= MAX_TILE_IN && w->num_out % BLOCK_OUT == 0;
}

#endif
#endif
