/* The 3 x 3 convolution of float32 images by Winograd's minimal filtering, F(2x2,3x3) and F(4x4,3x3) (Lavin and Gray,
 * arXiv:1509.09308, section 4).
 *
 *     y = A^T [(G g G^T) * (B^T d B)] A       for each tile of m x m outputs, from (m + 2) x (m + 2) inputs d
 *
 * The products at one of the (m + 2)^2 points, summed over the input channels, are a matrix product: tiles x inputs times
 * inputs x outputs. A tile needs 16 or 36 multiplications instead of 36 or 144 for each input and output channel.
 *
 * A block of tiles is transformed at once, and its transformed inputs stay in the second-level cache. Then, for 32
 * outputs at a time, the products of all points are computed and transformed back. Images and results are stored pixel by
 * pixel (NHWC). Every operation is in the same order on every processor, so the bits are equal.
 */
#ifndef LIFELONG_WINOGRAD_H
#define LIFELONG_WINOGRAD_H

#include "api.h"
#include "lanes.h"
#include "threads.h"

#define OUT_PANEL 32
#define MAX_SIDE 6                   /* of the inputs of a tile */
#define BLOCK_BYTES (448 << 10)      /* of the transformed inputs of a block; measured */
#define POINT_PADDING LANES          /* floats between points, which would otherwise share sets of the first-level cache */
#define UNROLL_ALL _Pragma("GCC unroll 16")

/* The tile of sums that stays in registers: rows (tiles of the image) x vectors of 16 outputs. */
#if defined(__AVX512F__)
#define SUM_ROWS 12
#define SUM_VECTORS 2
#else
#define SUM_ROWS 6
#define SUM_VECTORS 1
#endif

INLINE int points_of(int m) { return (m + 2) * (m + 2); }

INLINE Lanes minus(Lanes v, float factor, Lanes w) { return fma16(all16(-factor), w, v); } /* v - factor * w */
INLINE Lanes plus(Lanes v, float factor, Lanes w) { return fma16(all16(factor), w, v); }   /* v + factor * w */

/* to[0..m + 2) <- B^T from, for one column of a tile */
INLINE void transform_inputs(int m, const Lanes *d, int stride, Lanes *to)
{
    Lanes d0 = d[0], d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride];
    if (m == 2) {
        to[0] = d0 - d2, to[1] = d1 + d2, to[2] = d2 - d1, to[3] = d1 - d3;
        return;
    }
    Lanes d4 = d[4 * stride], d5 = d[5 * stride];
    Lanes even = minus(d4, 4, d2), odd = minus(d3, 4, d1), near = d4 - d2, far = d3 - d1;
    to[0] = plus(minus(d4, 5, d2), 4, d0);
    to[1] = even + odd, to[2] = even - odd;
    to[3] = plus(near, 2, far), to[4] = minus(near, 2, far);
    to[5] = plus(minus(d5, 5, d3), 4, d1);
}

/* to[0..m + 2) <- G g, for one column of a filter */
INLINE void transform_filter(int m, const Lanes *g, int stride, Lanes *to)
{
    Lanes g0 = g[0], g1 = g[stride], g2 = g[2 * stride], outer = g0 + g2;
    to[0] = m == 2 ? g0 : g0 * 0.25f, to[m + 1] = g2;
    if (m == 2) {
        to[1] = (outer + g1) * 0.5f, to[2] = (outer - g1) * 0.5f;
        return;
    }
    Lanes even = g0 * (1 / 24.0f) + g2 * (1 / 6.0f), odd = g1 * (1 / 12.0f);
    to[1] = (outer + g1) * (-1 / 6.0f), to[2] = (outer - g1) * (-1 / 6.0f);
    to[3] = even + odd, to[4] = even - odd;
}

/* to[0..m) <- A^T p, for one column of products */
INLINE void transform_products(int m, const Lanes *p, int stride, Lanes *to)
{
    Lanes p0 = p[0], p1 = p[stride], p2 = p[2 * stride], p3 = p[3 * stride];
    if (m == 2) {
        to[0] = p0 + p1 + p2, to[1] = p1 - p2 - p3;
        return;
    }
    Lanes p4 = p[4 * stride], p5 = p[5 * stride];
    Lanes sum = p1 + p2, difference = p1 - p2, sum2 = p3 + p4, difference2 = p3 - p4;
    to[0] = p0 + sum + sum2;
    to[1] = plus(difference, 2, difference2);
    to[2] = plus(sum, 4, sum2);
    to[3] = plus(difference, 8, difference2) + p5;
}

INLINE int64_t filter_floats(int m, int num_out, int num_in)
{
    return round_up(num_out, OUT_PANEL) * ((int64_t)points_of(m) * num_in + 1);
}

/* Loads a filter tap of 16 outputs, which are `stride` floats apart; the lanes from `count` on are 0. */
INLINE Lanes gather_part(const float *from, int64_t stride, int count)
{
    float lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = i < count ? from[i * stride] : 0.0f;
    return load16(lanes);
}

/* Packs filters w: [panels of 32 outputs][points][inputs][32] | bias [panels][32]. w is [outputs, inputs, 3, 3]; if
 * `adjoint`, it is [inputs, outputs, 3, 3] and every filter is rotated by 180 degrees, which is the convolution of the
 * gradient of the input. bias may be NULL. */
INLINE void pack_filters_of(int m, const float *w, const float *bias, int num_out, int num_in, int adjoint, float *to)
{
    const int side = m + 2, panels = (int)round_up(num_out, OUT_PANEL) / OUT_PANEL;
    const int64_t out_stride = adjoint ? 9 : 9 * (int64_t)num_in, in_stride = adjoint ? 9 * (int64_t)num_out : 9;
    for (int out = 0; out < panels * OUT_PANEL; out += LANES) {
        int count = (int)max_int(0, min_int(LANES, num_out - out));
        for (int in = 0; in < num_in; in++) {
            Lanes g[9], half[3 * MAX_SIDE], u[MAX_SIDE * MAX_SIDE];
            for (int i = 0; i < 9; i++)
                g[i] = gather_part(w + out * out_stride + in * in_stride + (adjoint ? 8 - i : i), out_stride, count);
            UNROLL_ALL for (int j = 0; j < 3; j++) transform_filter(m, g + j, 3, half + j * side);
            UNROLL_ALL for (int i = 0; i < side; i++) transform_filter(m, half + i, side, u + i * side);
            float *at = to + ((int64_t)out / OUT_PANEL * points_of(m) * num_in + in) * OUT_PANEL + out % OUT_PANEL;
            for (int i = 0; i < points_of(m); i++) store16(at + (int64_t)i * num_in * OUT_PANEL, u[i]);
        }
    }
    float *biases = to + (int64_t)panels * OUT_PANEL * points_of(m) * num_in;
    memset(biases, 0, (size_t)panels * OUT_PANEL * sizeof *biases);
    if (bias) memcpy(biases, bias, (size_t)num_out * sizeof *biases);
}

/* A convolution whose tiles are numbered over all images. A block is `block` consecutive tiles. */
typedef struct {
    int m;
    const float *x;
    ConvShape images;
    const float *filters;
    float *y;
    int across, down; /* tiles of an image */
    int block, num_blocks;
    atomic_int next, failed;
} WinogradJob;

/* The first output pixel of a tile. */
typedef struct {
    int image, row, column;
} Place;

INLINE Place token_places(const WinogradJob *job, int m, int tile)
{
    int in_image = tile % (job->across * job->down);
    return (Place){tile / (job->across * job->down), in_image / job->across * m, in_image % job->across * m};
}

INLINE int64_t pixel(ConvShape i, int image, int row, int column)
{
    return ((int64_t)image * i.height + row) * i.width + column;
}

INLINE int is_inside(ConvShape i, int row, int column)
{
    return row >= 0 && row < i.height && column >= 0 && column < i.width;
}

/* Scratch memory of a thread: transformed inputs [points][tiles][num_in rounded up], products [points][tiles][32], and
 * a pixel of zeros for the border. */
typedef struct {
    float *inputs, *products, *zeros;
    Place *places;
    int64_t width, input_pitch, product_pitch;
} WinogradScratch;

INLINE WinogradScratch winograd_scratch(Arena *arena, const WinogradJob *job)
{
    WinogradScratch s;
    int points = points_of(job->m);
    s.width = round_up(job->images.num_in, LANES);
    s.input_pitch = job->block * s.width + POINT_PADDING;
    s.product_pitch = job->block * OUT_PANEL + POINT_PADDING;
    s.inputs = reserve(arena, points * s.input_pitch * (int64_t)sizeof(float));
    s.products = reserve(arena, points * s.product_pitch * (int64_t)sizeof(float));
    s.zeros = reserve(arena, s.width * (int64_t)sizeof(float));
    s.places = reserve(arena, job->block * (int64_t)sizeof(Place));
    return s;
}

/* Transforms up to 16 channels of a tile; `from` points to them in every pixel. `count` is 16 or fewer. */
INLINE void transform_channels(int m, const float *const *from, int64_t ahead, int channel, int count, float *to, int64_t pitch)
{
    const int side = m + 2;
    Lanes half[MAX_SIDE * MAX_SIDE];
    UNROLL_ALL for (int j = 0; j < side; j++) {
        Lanes d[MAX_SIDE];
        UNROLL_ALL for (int i = 0; i < side; i++) {
            const float *at = from[i * side + j] + channel;
            d[i] = count == LANES ? load16(at) : load_part(at, count, 0.0f);
            if (j >= 2) __builtin_prefetch(at + ahead);
        }
        transform_inputs(m, d, 1, half + j * side);
    }
    UNROLL_ALL for (int i = 0; i < side; i++) {
        Lanes v[MAX_SIDE];
        transform_inputs(m, half + i, side, v);
        UNROLL_ALL for (int j = 0; j < side; j++) store16(to + (i * side + j) * pitch + channel, v[j]);
    }
}

INLINE void transform_tile(const WinogradJob *job, int m, Place p, const WinogradScratch *s, float *to)
{
    const int side = m + 2, num_in = job->images.num_in;
    const float *from[MAX_SIDE * MAX_SIDE];
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            int row = p.row + i - 1, column = p.column + j - 1;
            int64_t at = pixel(job->images, p.image, row, column) * num_in;
            from[i * side + j] = is_inside(job->images, row, column) ? job->x + at : s->zeros;
        }
    int channel = 0;
    for (; channel + LANES <= num_in; channel += LANES) transform_channels(m, from, (int64_t)m * num_in, channel, LANES, to, s->input_pitch);
    if (channel < num_in) transform_channels(m, from, (int64_t)m * num_in, channel, num_in - channel, to, s->input_pitch);
}

/* products [rows][32] <- inputs [rows][num_in] times filters [num_in][32], for a few rows and vectors of outputs. */
INLINE void multiply_tile(int rows, const float *inputs, int64_t width, const float *filters, int num_in, float *products)
{
    Lanes sums[SUM_ROWS][SUM_VECTORS];
    UNROLL_ALL for (int r = 0; r < rows; r++)
        UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++) sums[r][c] = all16(0.0f);
    for (int k = 0; k < num_in; k++) {
        Lanes w[SUM_VECTORS];
        UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++) w[c] = load16(filters + k * OUT_PANEL + c * LANES);
        UNROLL_ALL for (int r = 0; r < rows; r++) {
            Lanes input = all16(inputs[r * width + k]);
            UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++) sums[r][c] = fma16(input, w[c], sums[r][c]);
        }
    }
    UNROLL_ALL for (int r = 0; r < rows; r++)
        UNROLL_ALL for (int c = 0; c < SUM_VECTORS; c++) store16(products + r * OUT_PANEL + c * LANES, sums[r][c]);
}

/* Calls multiply(rows, ...) for tiles of sums: up to SUM_ROWS rows, about equally many, by SUM_VECTORS vectors of 16
 * outputs, whose filters are `each` elements an output. */
#define EACH_TILE_OF_SUMS(num_rows, multiply, inputs, width, filters, each, num_in, products)                           \
    for (int parts = ((num_rows) + SUM_ROWS - 1) / SUM_ROWS, part = 0; part < parts; part++) {                          \
        int first = (num_rows) * part / parts, rows = (num_rows) * (part + 1) / parts - first;                          \
        for (int c = 0; c < OUT_PANEL; c += SUM_VECTORS * LANES)                                                        \
            switch (rows) {                                                                                             \
                SUM_CASES(multiply, (inputs) + first * (width), width, (filters) + c * (each), num_in,                  \
                          (products) + first * OUT_PANEL + c)                                                           \
            }                                                                                                           \
    }
#define SUM_CASE(R, multiply, ...) case R: multiply(R, __VA_ARGS__); break;
#define SUM_CASES_6(...)                                                                                                \
    SUM_CASE(1, __VA_ARGS__) SUM_CASE(2, __VA_ARGS__) SUM_CASE(3, __VA_ARGS__)                                          \
    SUM_CASE(4, __VA_ARGS__) SUM_CASE(5, __VA_ARGS__) SUM_CASE(6, __VA_ARGS__)
#if SUM_ROWS > 6
#define SUM_CASES(...)                                                                                                  \
    SUM_CASES_6(__VA_ARGS__)                                                                                            \
    SUM_CASE(7, __VA_ARGS__) SUM_CASE(8, __VA_ARGS__) SUM_CASE(9, __VA_ARGS__)                                          \
    SUM_CASE(10, __VA_ARGS__) SUM_CASE(11, __VA_ARGS__) SUM_CASE(12, __VA_ARGS__)
#else
#define SUM_CASES SUM_CASES_6
#endif

static void multiply_at_a_point(int tiles, const float *inputs, int64_t width, const float *filters, int num_in,
                                float *products)
{
    EACH_TILE_OF_SUMS(tiles, multiply_tile, inputs, width, filters, 1, num_in, products)
}

INLINE float *output_of(const WinogradJob *job, Place p, int i, int j)
{
    return job->y + pixel(job->images, p.image, p.row + i, p.column + j) * job->images.num_out;
}

/* y of a tile, for up to 16 outputs from `out` on <- the products of the tile at all points, plus the bias */
INLINE void store_outputs(const WinogradJob *job, int m, Place p, const float *products, int64_t pitch, Lanes bias, int out)
{
    const int side = m + 2;
    int count = (int)min_int(LANES, job->images.num_out - out);
    Lanes half[4 * MAX_SIDE];
    UNROLL_ALL for (int j = 0; j < side; j++) {
        Lanes v[MAX_SIDE];
        UNROLL_ALL for (int i = 0; i < side; i++) v[i] = load16(products + (i * side + j) * pitch);
        transform_products(m, v, 1, half + j * m);
    }
    UNROLL_ALL for (int i = 0; i < m; i++) {
        Lanes v[4];
        transform_products(m, half + i, m, v);
        if (p.row + i >= job->images.height) break;
        float *to = output_of(job, p, i, 0) + out;
        UNROLL_ALL for (int j = 0; j < m; j++) {
            if (p.column + j >= job->images.width) break;
            v[j] += bias;
            if (count == LANES) store16(to + j * job->images.num_out, v[j]);
            else memcpy(to + j * job->images.num_out, &v[j], (size_t)count * sizeof(float));
        }
    }
}

INLINE void run_tiles(const WinogradJob *job, int m, int first, int tiles, const WinogradScratch *s)
{
    const int num_in = job->images.num_in, num_out = job->images.num_out;
    const float *biases = job->filters + round_up(num_out, OUT_PANEL) * points_of(m) * num_in;
    for (int t = 0; t < tiles; t++) {
        s->places[t] = token_places(job, m, first + t);
        transform_tile(job, m, s->places[t], s, s->inputs + t * s->width);
    }
    for (int panel = 0; panel < num_out; panel += OUT_PANEL) {
        const float *filters = job->filters + (int64_t)panel * points_of(m) * num_in;
        for (int i = 0; i < points_of(m); i++) {
            if (i < m * m)
                for (int t = 0; t < tiles; t++) {
                    float *at = output_of(job, s->places[t], i / m, i % m) + panel;
                    for (int line = 0; line < OUT_PANEL; line += LANES) __builtin_prefetch(at + line, 1);
                }
            multiply_at_a_point(tiles, s->inputs + i * s->input_pitch, s->width,
                                filters + (int64_t)i * num_in * OUT_PANEL, num_in, s->products + i * s->product_pitch);
        }
        for (int t = 0; t < tiles; t++) {
            for (int out = panel; out < min_int(panel + OUT_PANEL, num_out); out += LANES)
                store_outputs(job, m, s->places[t], s->products + t * OUT_PANEL + out % OUT_PANEL, s->product_pitch,
                              load16(biases + out), out);
        }
    }
}

static void *winograd_work(void *argument)
{
    WinogradJob *job = argument;
    Arena arena = {0};
    winograd_scratch(&arena, job);
    arena = (Arena){.memory = allocate(arena.used)};
    if (!arena.memory) {
        atomic_store(&job->failed, 1);
        return NULL;
    }
    WinogradScratch scratch = winograd_scratch(&arena, job);
    memset(scratch.zeros, 0, (size_t)scratch.width * sizeof(float));
    int tiles = job->images.images * job->across * job->down;
    for (int i; (i = atomic_fetch_add(&job->next, 1)) < job->num_blocks;) {
        int first = i * job->block, count = (int)min_int(job->block, tiles - first);
        if (job->m == 2) run_tiles(job, 2, first, count, &scratch);
        else run_tiles(job, 4, first, count, &scratch);
    }
    free(arena.memory);
    return NULL;
}

static int run_winograd(int m, const float *x, const ConvShape *images, const float *filters, int threads, float *y)
{
    WinogradJob job = {.m = m, .x = x, .images = *images, .filters = filters, .y = y};
    job.across = (images->width + m - 1) / m;
    job.down = (images->height + m - 1) / m;
    int tiles = images->images * job.across * job.down;
    int64_t tile_bytes = points_of(m) * round_up(images->num_in, LANES) * (int64_t)sizeof(float);
    int most = (int)max_int(SUM_ROWS, BLOCK_BYTES / tile_bytes / SUM_ROWS * SUM_ROWS);
    int blocks = (int)round_up((tiles + most - 1) / most, threads);
    job.block = (tiles + blocks - 1) / blocks;
    job.num_blocks = (tiles + job.block - 1) / job.block;
    run_on_threads(winograd_work, &job, (int)min_int(threads, job.num_blocks));
    return atomic_load(&job.failed) || atomic_load(&job.next) < job.num_blocks ? NO_MEMORY : 0;
}

#endif
