/* A packed sparse weight: block CSR, of blocks of 16 outputs by four inputs (a quad). Other blocks are zero.
 *
 *     header | blocks, 64 bytes each | scale | bias | scaled_ksum, [num_out] each | starts | quads
 *
 * A block is the operand of one multiply-add instruction: four bytes of each of its 16 outputs. Group g is outputs 16g to
 * 16g + 15; its blocks are starts[g] to starts[g + 1], by rising quad. Block b is multiplied by the inputs of quad
 * quads[b]. num_out is a multiple of 16, and num_in a multiple of four. The header is that of a dense weight, so both can
 * stand in the same places.
 */
#ifndef LIFELONG_BLOCKS_H
#define LIFELONG_BLOCKS_H

#include "weight.h"

#define GROUP_OUT 16
#define BLOCK_BYTES (GROUP_OUT * QUAD)

/* The parts of a packed sparse weight. */
typedef struct {
    const uint8_t *blocks;
    const float *scale, *bias, *scaled_ksum;
    const int32_t *starts;
    const uint16_t *quads;
} SparseParts;

static inline SparseParts sparse_parts(const Weight *w)
{
    SparseParts p = {.blocks = (const uint8_t *)(w + 1)};
    p.scale = (const float *)(p.blocks + (int64_t)w->num_blocks * BLOCK_BYTES);
    p.bias = p.scale + w->num_out;
    p.scaled_ksum = p.bias + w->num_out;
    p.starts = (const int32_t *)(p.scaled_ksum + w->num_out);
    p.quads = (const uint16_t *)(p.starts + w->num_out / GROUP_OUT + 1);
    return p;
}

/* The bytes of a packed sparse weight, a multiple of 64. */
static inline int64_t sparse_bytes(int num_out, int num_blocks)
{
    int64_t indices = 4 * (num_out / GROUP_OUT + (int64_t)1) + 2 * (int64_t)num_blocks;
    return (int64_t)sizeof(Weight) + (int64_t)num_blocks * BLOCK_BYTES + 12 * (int64_t)num_out + (indices + 63) / 64 * 64;
}

#endif
