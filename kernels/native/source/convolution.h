/* The 3 x 3 convolution of images in 8-bit integers: directly, and by Winograd's F(2x2,3x3) in exact 16-bit integers.
 *
 * An image is quantized as one row, with its border of zeros, like a row of linear.h. Directly, a pixel is a row of
 * linear.h as well: the bytes of three neighbouring rows are interleaved, so that the 3 x 3 neighbours of a pixel are
 * consecutive, and the next pixel begins three neighbours later. So nothing but these bytes is copied.
 *
 * F(2x2,3x3) has factors of 1/2 only in the transform of the filter. With filters scaled by 4, everything is an integer:
 * transformed inputs have 11 bits and a sign, transformed filters 12 bits, and the outputs are 4 times the direct sums.
 * The bits of both are equal.
 */
#ifndef LIFELONG_CONVOLUTION_H
#define LIFELONG_CONVOLUTION_H

#include "linear.h"
#include "winograd.h"

#define I8_BLOCK_BYTES (256 << 10) /* of the transformed inputs of a block */

typedef uint8_t HalfBytes __attribute__((vector_size(32)));

/* An image's quantized bytes [rows][columns][width] with the border, which is one pixel wide, or two at the end. */
typedef struct {
    uint8_t *at;
    int rows, columns, width;
} ByteImage;

/* A convolution of which each thread takes shares of images: `weight` is the weight of the direct convolution; otherwise
 * it is NULL, and `filters` and `floats` (scale, bias and scaled_ksum of all outputs) are those of F(2x2,3x3). */
typedef struct {
    const float *x;
    ConvShape images;
    const Weight *weight;
    const int16_t *filters;
    const float *floats;
    float *y;
    int shares; /* of each image */
    int block;  /* tiles that F(2x2,3x3) transforms at once */
    atomic_int next, failed;
} ConvolutionJob;

/* Scratch memory of a thread: see the functions that fill it. */
typedef struct {
    ByteImage image;
    uint8_t *dense, *neighbours;
    QuantParams *qparams;
    int16_t *inputs;
    int32_t *products;
} ConvolutionScratch;

INLINE ConvolutionScratch convolution_scratch(Arena *arena, const ConvolutionJob *job)
{
    ConvolutionScratch s = {0};
    int end = job->weight ? 1 : 2, width = (int)round_up(job->images.num_in, job->weight ? QUAD : 2 * LANES);
    s.image = (ByteImage){NULL, job->images.height + 1 + end, job->images.width + 1 + end, width};
    s.image.at = reserve(arena, (int64_t)s.image.rows * s.image.columns * width);
    s.dense = reserve(arena, (int64_t)s.image.columns * width);
    s.qparams = reserve(arena, (job->images.width + ROW_TILE) * (int64_t)sizeof(QuantParams));
    if (job->weight) s.neighbours = reserve(arena, 3 * (int64_t)(s.image.columns + ROW_TILE) * width);
    else {
        s.inputs = reserve(arena, 16 * (int64_t)job->block * width * (int64_t)sizeof(int16_t));
        s.products = reserve(arena, 16 * (int64_t)job->block * OUT_PANEL * (int64_t)sizeof(int32_t));
    }
    return s;
}

/* Quantizes an image and its border of zeros. `dense` has room for a row of it. */
static QuantParams quantize_image(const float *x, ConvShape i, ByteImage to, uint8_t *dense)
{
    MinMax e = min_max_from(all16(0.0f), all16(0.0f)); /* the border */
    int row_width = i.width * i.num_in;
    for (int row = 0; row < i.height; row++) {
        const float *from = x + (int64_t)row * row_width;
        int whole = row_width - row_width % LANES;
        EACH_VECTOR(k, c, whole) update_min_max(&e, c, load16(from + k));
        if (whole < row_width) update_min_max(&e, 0, load_part(from + whole, row_width - whole, 0.0f));
    }
    const float zero = 0.0f;
    uint8_t zero_byte;
    MinRange range = min_range_of(&e);
    QuantParams qparams = quantize_row(range, &zero, NULL, 1, &zero_byte);
    memset(to.at, zero_byte, (size_t)to.rows * to.columns * to.width);
    for (int row = 0; row < i.height; row++) {
        const float *from = x + (int64_t)row * row_width;
        uint8_t *q = to.at + ((int64_t)(row + 1) * to.columns + 1) * to.width;
        quantize_row(range, from, NULL, row_width, to.width == i.num_in ? q : dense);
        if (to.width == i.num_in) continue;
        for (int column = 0; column < i.width; column++)
            for (int k = 0; k < i.num_in; k++) q[column * to.width + k] = dense[column * i.num_in + k];
    }
    return qparams;
}

/* neighbours [columns][3][width] <- three rows of the image from `row` on */
INLINE void interleave_rows(ByteImage image, int row, uint8_t *neighbours)
{
    const uint8_t *from = image.at + (int64_t)row * image.columns * image.width;
    int64_t pitch = (int64_t)image.columns * image.width;
    int whole = image.width - image.width % (int)sizeof(ByteLanes);
    for (int column = 0; column < image.columns; column++, from += image.width)
        for (int i = 0; i < 3; i++, neighbours += image.width) {
            int k = 0;
            for (; k < whole; k += sizeof(ByteLanes)) memcpy(neighbours + k, from + i * pitch + k, sizeof(ByteLanes));
            for (; k < image.width; k += QUAD) memcpy(neighbours + k, from + i * pitch + k, QUAD);
        }
}

/* The rows first..end of an image, directly. */
static void convolve_rows(const ConvolutionJob *job, ConvolutionScratch *s, int first, int end, float *y)
{
    ConvShape i = job->images;
    for (int row = first; row < end; row++) {
        interleave_rows(s->image, row, s->neighbours);
        QuantizedRows pixels = {i.width, plain_rows(s->neighbours, 3 * (int64_t)s->image.width), s->qparams};
        linear(PLAIN, pixels, (BiasedWeight){job->weight, NULL}, dense(y + (int64_t)row * i.width * i.num_out, i.num_out));
    }
}

/* sums plus the products of the two 16-bit integers in each lane */
INLINE IntLanes add_pairs(IntLanes sums, IntLanes a, IntLanes b)
{
#if defined(__AVX512VNNI__)
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
    return sums;
#elif defined(__AVX2__)
    union { IntLanes all; __m256i half[2]; } x = {a}, y = {b};
    for (int i = 0; i < 2; i++) x.half[i] = _mm256_madd_epi16(x.half[i], y.half[i]);
    return sums + x.all;
#else
    for (int i = 0; i < LANES; i++) sums[i] += (int16_t)a[i] * (int16_t)b[i] + (a[i] >> 16) * (b[i] >> 16);
    return sums;
#endif
}

INLINE void transform_shorts(const Shorts *d, int stride, Shorts *to)
{
    Shorts d0 = d[0], d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride];
    to[0] = d0 - d2, to[1] = d1 + d2, to[2] = d2 - d1, to[3] = d1 - d3;
}

/* inputs [16][block][width] <- B^T d B of a tile whose first output is (row, column); the image has the border before. */
INLINE void transform_bytes(ByteImage image, int row, int column, int16_t *inputs, int64_t pitch)
{
    const uint8_t *from = image.at + ((int64_t)row * image.columns + column) * image.width;
    for (int k = 0; k < image.width; k += 2 * LANES) {
        Shorts d[16], half[16];
        UNROLL_ALL for (int i = 0; i < 16; i++) {
            HalfBytes bytes;
            memcpy(&bytes, from + (int64_t)(i / 4 * image.columns + i % 4) * image.width + k, sizeof bytes);
            d[i] = __builtin_convertvector(bytes, Shorts);
        }
        UNROLL for (int j = 0; j < 4; j++) transform_shorts(d + j, 4, half + 4 * j);
        UNROLL for (int i = 0; i < 4; i++) transform_shorts(half + i, 4, d + 4 * i);
        UNROLL_ALL for (int i = 0; i < 16; i++) memcpy(inputs + i * pitch + k, &d[i], sizeof d[i]);
    }
}

/* products [rows][32] <- inputs [rows][pairs] times filters [pairs][32], in pairs of 16-bit integers */
INLINE void multiply_pairs(int rows, const int16_t *inputs, int64_t width, const int16_t *filters, int pairs,
                           int32_t *products)
{
    IntLanes sums[SUM_ROWS][SUM_VECTORS];
    UNROLL_ALL for (int r = 0; r < rows; r++)
        UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++) sums[r][c] = (IntLanes){0};
    for (int k = 0; k < pairs; k++) {
        IntLanes w[SUM_VECTORS];
        UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++) memcpy(&w[c], filters + 2 * (k * OUT_PANEL + c * LANES), sizeof w[c]);
        UNROLL_ALL for (int r = 0; r < rows; r++) {
            IntLanes pair = quad_of((const uint8_t *)(inputs + r * width + 2 * k)) - (IntLanes){0};
            UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++) sums[r][c] = add_pairs(sums[r][c], pair, w[c]);
        }
    }
    UNROLL_ALL for (int r = 0; r < rows; r++)
        UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++)
            memcpy(products + r * OUT_PANEL + c * LANES, &sums[r][c], sizeof sums[r][c]);
}

static void multiply_pairs_at_a_point(int tiles, const int16_t *inputs, int64_t width, const int16_t *filters, int pairs,
                                      int32_t *products)
{
    EACH_TILE_OF_SUMS(tiles, multiply_pairs, inputs, width, filters, 2, pairs, products)
}

/* The 2 x 2 outputs of a tile, for 16 outputs from `out` on <- its products. The sums may wrap around before the last. */
INLINE void store_exact(const ConvolutionJob *job, const ConvolutionScratch *s, int tile, int row, int column, int out,
                        float *y)
{
    ConvShape i = job->images;
    const float *floats = job->floats + out;
    int64_t num_floats = round_up(i.num_out, OUT_PANEL);
    Lanes scale = load16(floats), bias = load16(floats + num_floats), ksum = load16(floats + 2 * num_floats);
    BitLanes half[8];
    UNROLL for (int j = 0; j < 4; j++) {
        BitLanes p[4];
        UNROLL for (int k = 0; k < 4; k++)
            p[k] = (BitLanes)load16i(s->products + ((int64_t)(4 * k + j) * job->block + tile) * OUT_PANEL + out % OUT_PANEL);
        half[j] = p[0] + p[1] + p[2], half[4 + j] = p[1] - p[2] - p[3];
    }
    for (int k = 0; k < 4 && row + k / 2 < i.height; k++) {
        const BitLanes *p = half + k / 2 * 4;
        if (column + k % 2 >= i.width) continue;
        IntLanes sums = (IntLanes)(k % 2 ? p[1] - p[2] - p[3] : p[0] + p[1] + p[2]) >> 2;
        float *to = y + ((int64_t)(row + k / 2) * i.width + column + k % 2) * i.num_out + out, part[LANES];
        apply_epilogue(PLAIN, sums, scale, bias, ksum, s->qparams[0], part);
        memcpy(to, part, (size_t)min_int(LANES, i.num_out - out) * sizeof *to);
    }
}

/* The rows of tiles first..end of an image, by F(2x2,3x3). */
static void convolve_tiles(const ConvolutionJob *job, ConvolutionScratch *s, int first, int end, float *y)
{
    int across = (job->images.width + 1) / 2, width = s->image.width, pairs = (job->images.num_in + 1) / 2;
    int64_t pitch = (int64_t)job->block * width;
    for (int tile = first * across; tile < end * across; tile += job->block) {
        int tiles = (int)min_int(job->block, end * across - tile);
        for (int t = 0; t < tiles; t++)
            transform_bytes(s->image, (tile + t) / across * 2, (tile + t) % across * 2, s->inputs + t * width, pitch);
        for (int panel = 0; panel < job->images.num_out; panel += OUT_PANEL) {
            const int16_t *filters = job->filters + (int64_t)panel * 16 * 2 * pairs;
            for (int i = 0; i < 16; i++)
                multiply_pairs_at_a_point(tiles, s->inputs + i * pitch, width, filters + (int64_t)i * pairs * 2 * OUT_PANEL,
                                          pairs, s->products + (int64_t)i * job->block * OUT_PANEL);
            for (int t = 0; t < tiles; t++)
                for (int out = panel; out < min_int(panel + OUT_PANEL, job->images.num_out); out += LANES)
                    store_exact(job, s, t, (tile + t) / across * 2, (tile + t) % across * 2, out, y);
        }
    }
}

static void *convolution_work(void *argument)
{
    ConvolutionJob *job = argument;
    ConvShape i = job->images;
    Arena arena = {0};
    convolution_scratch(&arena, job);
    arena = (Arena){.memory = allocate(arena.used)};
    if (!arena.memory) {
        atomic_store(&job->failed, 1);
        return NULL;
    }
    ConvolutionScratch scratch = convolution_scratch(&arena, job);
    for (int piece; (piece = atomic_fetch_add(&job->next, 1)) < i.images * job->shares;) {
        int image = piece / job->shares, share = piece % job->shares;
        float *y = job->y + pixel(i, image, 0, 0) * i.num_out;
        /* Each share quantizes the whole image, whose range it needs anyway. */
        QuantParams qparams = quantize_image(job->x + pixel(i, image, 0, 0) * i.num_in, i, scratch.image, scratch.dense);
        for (int k = 0; k < i.width + ROW_TILE; k++) scratch.qparams[k] = qparams;
        int rows = job->weight ? i.height : (i.height + 1) / 2;
        int first = rows * share / job->shares, end = rows * (share + 1) / job->shares;
        if (job->weight) convolve_rows(job, &scratch, first, end, y);
        else convolve_tiles(job, &scratch, first, end, y);
    }
    free(arena.memory);
    return NULL;
}

static int run_convolution(ConvolutionJob *job, int threads)
{
    ConvShape i = job->images;
    job->shares = (int)min_int((threads + i.images - 1) / i.images, i.height);
    job->block = (int)max_int(SUM_ROWS, I8_BLOCK_BYTES / (32 * round_up(i.num_in, 2 * LANES)) / SUM_ROWS * SUM_ROWS);
    int pieces = i.images * job->shares;
    run_on_threads(convolution_work, job, (int)min_int(threads, pieces));
    return atomic_load(&job->failed) || atomic_load(&job->next) < pieces ? NO_MEMORY : 0;
}

static int convolve(const float *x, const ConvShape *images, const Weight *w, int threads, float *y)
{
    ConvolutionJob job = {.x = x, .images = *images, .weight = w, .y = y};
    return run_convolution(&job, threads);
}

static int convolve_winograd(const float *x, const ConvShape *images, const int16_t *filters, const float *floats, int threads,
                             float *y)
{
    ConvolutionJob job = {.x = x, .images = *images, .filters = filters, .floats = floats, .y = y};
    return run_convolution(&job, threads);
}

#endif
