/* A packed weight: one block of memory, which lifelong_pack_i8 or lifelong_pack_i4 writes once and the kernels read.
 *
 *     header | panels, each: integers | multipliers (INT4 only) | scale[64] | bias[64] | scaled_ksum[64]
 *
 * A panel is 64 outputs. For every four inputs (a quad), it holds four bytes of each of its outputs: the operands of one
 * multiply-add instruction are consecutive, and a weight is read from front to back. The weights of an encoder are stored
 * one after the other, so an encoder reads its memory sequentially. Padding outputs of the last panel and padding inputs
 * of the last quad are zero.
 *
 * INT4 (`bits` = 4) is stored in excess-8: a byte holds two four-bit integers plus 8, of inputs k..k+3 (low nibble) and
 * k+4..k+7 (high nibble). The multipliers are 64 bytes for every group of 64 inputs.
 */
#ifndef LIFELONG_WEIGHT_H
#define LIFELONG_WEIGHT_H

#include <stdint.h>

#define PANEL 64
#define GROUP 64
#define QUAD 4

typedef struct {
    int32_t bits, num_out, num_in;
    int32_t num_panels;
    int32_t num_quads; /* inputs / 4, rounded up */
    int32_t is_sparse, num_blocks; /* of a sparse weight, whose layout blocks.h describes */
    int32_t spare[9];
} Weight;

static inline int64_t integer_bytes(const Weight *w) { return (int64_t)w->num_quads * PANEL * QUAD * w->bits / 8; }

static inline int64_t multiplier_bytes(const Weight *w) { return w->bits == 4 ? (int64_t)(w->num_in / GROUP) * PANEL : 0; }

static inline int64_t panel_bytes(const Weight *w)
{
    return integer_bytes(w) + multiplier_bytes(w) + 3 * PANEL * (int64_t)sizeof(float);
}

static inline const uint8_t *weight_panel(const Weight *w, int panel)
{
    return (const uint8_t *)(w + 1) + panel * panel_bytes(w);
}

static inline const uint8_t *weight_multipliers(const Weight *w, int panel)
{
    return weight_panel(w, panel) + integer_bytes(w);
}

/* scale[64], bias[64] and scaled_ksum[64] of the panel's outputs */
static inline const float *weight_floats(const Weight *w, int panel)
{
    return (const float *)(weight_multipliers(w, panel) + multiplier_bytes(w));
}

#endif
