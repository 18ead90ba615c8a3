/* The table of kernels of one instruction set. The file is compiled once for each, with -DTABLE=<its name> and its
 * flags. */
#include "convolution.h"
#include "pieces.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define JOIN_OF(a, b) a##b
#define JOIN(a, b) JOIN_OF(a, b)

#if defined(__AMX_INT8__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX_INT8_BIT (1u << 25)   /* in EDX of CPUID leaf 7 */
#define REQUEST_TILE_STATE 0x1023 /* ARCH_REQ_XCOMP_PERM: a process must ask before its threads may use tiles */
#define TILE_STATE 18             /* XFEATURE_XTILEDATA */

static int has_tiles(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_INT8_BIT) &&
           !syscall(SYS_arch_prctl, REQUEST_TILE_STATE, TILE_STATE);
}

#else

INLINE int has_tiles(void) { return 1; }

#endif

static int runs_here(void)
{
#if defined(__AVX512VNNI__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && has_tiles();
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1;
#endif
}

static void quantize_rows(const float *x, Shape shape, uint8_t *q, float *qparams)
{
    for (int64_t m = 0; m < shape.rows; m++) {
        const float *row = x + m * shape.width;
        int width = (int)shape.width;
        QuantParams p = quantize_row(row_min_range(row, NULL, width), row, NULL, width, q + m * shape.width);
        qparams[2 * m] = p.scale, qparams[2 * m + 1] = p.min;
    }
}

/* Copies rows of integers into `s`, where they may be read up to a whole quad, and up to a whole tile of rows. */
static void copy_integers(RowScratch *s, int rows, const uint8_t *q, const Weight *w)
{
    for (int r = 0; r < rows; r++) {
        memcpy(s->q + r * s->stride, q + (int64_t)r * w->num_in, (size_t)w->num_in);
        complete_row(s, r, w->num_in, w->bits);
    }
}

/* y [rows, num_out] <- the product of rows of floats `x`, or, if `x` is NULL, of rows of integers `q`. */
static int multiply_rows(Epilogue epilogue, const float *x, const uint8_t *q, int64_t rows, const Weight *w, float *y)
{
    int64_t rows_per_call = min_int(rows, SPAN_TOKENS);
    uint8_t *memory = aligned_alloc(64, (size_t)round_up(row_scratch_bytes(rows_per_call, w->num_in), 64));
    if (!memory) return NO_MEMORY;
    RowScratch s = row_scratch(memory, rows_per_call, w->num_in);
    for (int64_t row = 0; row < rows; row += rows_per_call) {
        int count = (int)min_int(rows - row, rows_per_call);
        if (x) quantize_into(&s, 0, count, x + row * w->num_in, w->num_in, w->bits);
        else copy_integers(&s, count, q + row * w->num_in, w);
        linear(epilogue, quantized(&s, 0, count, w->num_in), (BiasedWeight){w, NULL}, dense(y + row * w->num_out, w->num_out));
    }
    free(memory);
    return 0;
}

static int accumulate(const uint8_t *q, int64_t rows, const Weight *w, int32_t *sums)
{
    return multiply_rows(SUMS, NULL, q, rows, w, (float *)sums);
}

static int linear_rows(int epilogue, const float *x, int64_t rows, const Weight *w, float *y)
{
    return multiply_rows((Epilogue)epilogue, x, NULL, rows, w, y);
}

static void norm_rows(float *x, Shape shape, const Norm *norm)
{
    norm_into(x, (int)shape.rows, (int)shape.width, norm, NULL, 0, 0);
}

static void gate(int activation, float *x, Shape shape)
{
    gate_rows((Activation)activation, x, (int)shape.rows, (int)shape.width);
}

static int attention(const float *qkv, int64_t stride, int64_t pitch, const int32_t *offsets, int sequences,
                     const HeadShape *heads, float *out)
{
    HeadExtent extent = {.tokens = 0};
    for (int i = 0; i < sequences; i++) extent.tokens = max_int(extent.tokens, offsets[i + 1] - offsets[i]);
    extend(&extent, heads);
    Arena arena = {0};
    reserve_heads(&arena, extent);
    arena = (Arena){.memory = allocate(arena.used)};
    if (!arena.memory) return NO_MEMORY;
    HeadScratch *scratch = reserve_heads(&arena, extent);
    for (int i = 0; i < sequences; i++) {
        Matrix sequence = {(float *)qkv + offsets[i] * stride, stride, pitch}; /* `attend` only reads it */
        attend(sequence, offsets[i + 1] - offsets[i], heads, out + (int64_t)offsets[i] * mixed_width(heads), scratch);
    }
    free(arena.memory);
    return 0;
}

static void embed(const Embedding *e, int width, const int64_t *ids, const int32_t *offsets, int sequences, float *x)
{
    embed_rows(e, width, ids, offsets, sequences, x);
    if (e->norm.gain) norm_into(x, offsets[sequences], width, &e->norm, NULL, 0, 0);
}

static void mean_pool(const float *x, int width, const int32_t *offsets, int sequences, float *out)
{
    for (int i = 0; i < sequences; i++)
        mean_rows(x + (int64_t)offsets[i] * width, offsets[i + 1] - offsets[i], width, out + (int64_t)i * width);
}

static int encode(const Encoder *e, int layers, const int64_t *ids, const int32_t *offsets, const int32_t *rows,
                  int sequences, int threads, float *out)
{
    Job job = {.encoder = e, .layers = layers, .input = {.ids = ids}, .offsets = offsets, .rows = rows, .out = out};
    for (int t = 0; t < offsets[sequences]; t++)
        if (ids[t] < 0 || ids[t] >= e->embedding.num_words) return NO_SUCH_WORD;
    return run_job(&job, sequences, threads);
}

static int encode_from(const Encoder *e, int layer, const float *x, const int32_t *offsets, const int32_t *rows,
                       int sequences, int threads, float *out)
{
    Input input = {.layer = layer, .x = x};
    Job job = {.encoder = e, .layers = e->layers, .input = input, .offsets = offsets, .rows = rows, .out = out};
    return run_job(&job, sequences, threads);
}

static void pack_winograd(int tile, const float *w, const float *bias, int num_out, int num_in, int adjoint, float *packed)
{
    if (tile == 2) pack_filters_of(2, w, bias, num_out, num_in, adjoint, packed);
    else pack_filters_of(4, w, bias, num_out, num_in, adjoint, packed);
}

const Kernels JOIN(lifelong_, TABLE) = {
    .name = TEXT(TABLE),
    .runs_here = runs_here,
    .quantize_rows = quantize_rows,
    .accumulate = accumulate,
    .linear = linear_rows,
    .norm_rows = norm_rows,
    .gate_rows = gate,
    .attention = attention,
    .embed = embed,
    .mean_rows = mean_pool,
    .encode = encode,
    .encode_from = encode_from,
    .pack_winograd = pack_winograd,
    .winograd = run_winograd,
    .convolve = convolve,
    .convolve_winograd = convolve_winograd,
};
