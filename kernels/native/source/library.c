/* The code that does not depend on the processor: the list of tables, and the packing of weights. */
#include "api.h"
#include "blocks.h"
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* ISAS is X(amx) X(vnni) ...: the instruction sets that were compiled, fastest first */
#define X(isa) extern const Kernels lifelong_##isa;
ISAS
#undef X
#define X(isa) &lifelong_##isa,
static const Kernels *const TABLES[] = {ISAS};
#define NUM_TABLES ((int)(sizeof TABLES / sizeof *TABLES))

/* The `index`-th table that runs on this processor, fastest first; NULL after the last. */
EXPORT const Kernels *lifelong_kernels(int index)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (int i = 0; i < NUM_TABLES; i++)
        if (TABLES[i]->runs_here() && index-- == 0) return TABLES[i];
    return NULL;
}

/* The size of a record that Python fills in. Python compares it with the size of its own record at load time. */
EXPORT int lifelong_record_bytes(int which)
{
    const int bytes[] = {sizeof(Norm), sizeof(Embedding), sizeof(Rotations), sizeof(Span), sizeof(HeadShape),
                         sizeof(Linear), sizeof(Block), sizeof(Encoder), sizeof(Shape), sizeof(ConvShape), sizeof(Kernels)};
    return bytes[which];
}

static Weight header(int bits, int num_out, int num_in)
{
    Weight w = {.bits = bits, .num_out = num_out, .num_in = num_in};
    w.num_panels = (num_out + PANEL - 1) / PANEL;
    w.num_quads = (num_in + QUAD - 1) / QUAD;
    return w;
}

EXPORT int64_t lifelong_weight_bytes(int bits, int num_out, int num_in)
{
    Weight w = header(bits, num_out, num_in);
    return (int64_t)sizeof w + w.num_panels * panel_bytes(&w);
}

static void pack_floats(Weight *w, const float *scale, const float *bias, const float *scaled_ksum)
{
    const float *from[] = {scale, bias, scaled_ksum};
    for (int panel = 0, first = 0; panel < w->num_panels; panel++, first += PANEL) {
        float *to = (float *)weight_floats(w, panel);
        int count = w->num_out - first < PANEL ? w->num_out - first : PANEL;
        memset(to, 0, 3 * PANEL * sizeof *to);
        for (int i = 0; i < 3; i++)
            if (from[i]) memcpy(to + i * PANEL, from[i] + first, (size_t)count * sizeof *to);
    }
}

/* Packs q [num_out, num_in] into `to`, which has lifelong_weight_bytes bytes; bias may be NULL. */
EXPORT void lifelong_pack_i8(const int8_t *q, const float *scale, const float *bias, const float *scaled_ksum, int num_out,
                      int num_in, void *to)
{
    Weight *w = to;
    *w = header(8, num_out, num_in);
    pack_floats(w, scale, bias, scaled_ksum);
    for (int panel = 0; panel < w->num_panels; panel++) {
        uint8_t *cells = (uint8_t *)weight_panel(w, panel);
        for (int n = 0; n < PANEL; n++) {
            int row = panel * PANEL + n;
            const int8_t *from = q + (int64_t)row * num_in;
            for (int k = 0; k < w->num_quads; k++) {
                uint8_t *cell = cells + ((int64_t)k * PANEL + n) * QUAD;
                int left = num_in - k * QUAD;
                if (row < num_out && left >= QUAD)
                    memcpy(cell, from + k * QUAD, QUAD);
                else
                    for (int i = 0; i < QUAD; i++) cell[i] = row < num_out && i < left ? (uint8_t)from[k * QUAD + i] : 0;
            }
        }
    }
}

/* The 4-bit integer of input k in excess-8, from a row of signed nibbles (even inputs are in the low nibble). */
static uint8_t excess_8(const uint8_t *row, int k)
{
    return ((row[k / 2] >> (k % 2 ? 4 : 0)) & 15) ^ 8;
}

/* Packs hi [num_out, num_in / 2] nibbles and m [num_out, num_in / 64] into `to`; num_in is a multiple of 64. */
EXPORT void lifelong_pack_i4(const uint8_t *hi, const uint8_t *m, const float *scale, const float *bias,
                      const float *scaled_ksum, int num_out, int num_in, void *to)
{
    Weight *w = to;
    int groups = num_in / GROUP;
    *w = header(4, num_out, num_in);
    pack_floats(w, scale, bias, scaled_ksum);
    for (int panel = 0; panel < w->num_panels; panel++) {
        uint8_t *cells = (uint8_t *)weight_panel(w, panel), *multipliers = (uint8_t *)weight_multipliers(w, panel);
        for (int n = 0; n < PANEL; n++) {
            int row = panel * PANEL + n;
            const uint8_t *from = hi + (int64_t)row * (num_in / 2);
            for (int g = 0; g < groups; g++) multipliers[g * PANEL + n] = row < num_out ? m[row * groups + g] : 0;
            for (int k = 0; k < num_in; k += 2 * QUAD)
                for (int i = 0; i < QUAD; i++)
                    cells[(int64_t)k * PANEL / 2 + n * QUAD + i] =
                        row < num_out ? (uint8_t)(excess_8(from, k + i) | excess_8(from, k + QUAD + i) << 4) : 0;
        }
    }
}

EXPORT int64_t lifelong_sparse_bytes(int num_out, int num_blocks) { return sparse_bytes(num_out, num_blocks); }

/* Packs a sparse weight (blocks.h) into `to`, which has lifelong_sparse_bytes bytes. The parts have its layout already. */
EXPORT void lifelong_pack_sparse(const int8_t *blocks, const uint16_t *quads, const int32_t *starts, const float *scale,
                                 const float *bias, const float *scaled_ksum, int num_out, int num_in, void *to)
{
    Weight *w = to;
    size_t floats = (size_t)num_out * sizeof *scale;
    int num_blocks = starts[num_out / GROUP_OUT];
    memset(to, 0, (size_t)sparse_bytes(num_out, num_blocks));
    *w = header(8, num_out, num_in);
    w->is_sparse = 1, w->num_blocks = num_blocks;
    SparseParts p = sparse_parts(w);
    memcpy((void *)p.scale, scale, floats);
    memcpy((void *)p.bias, bias, floats);
    memcpy((void *)p.scaled_ksum, scaled_ksum, floats);
    memcpy((void *)p.starts, starts, (size_t)(num_out / GROUP_OUT + 1) * sizeof *starts);
    if (!num_blocks) return; /* `blocks` and `quads` may be NULL then, which memcpy must not get */
    memcpy((void *)p.blocks, blocks, (size_t)num_blocks * BLOCK_BYTES);
    memcpy((void *)p.quads, quads, (size_t)num_blocks * sizeof *quads);
}
