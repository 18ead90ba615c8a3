/* A whole encoder: ragged token ids in, unit vectors out.
 *
 *     ids -> embed -> [qkv -> attend -> out + residual -> norm -> up, gelu -> down + residual -> norm] x layers -> mean -> unit
 *
 * Whole sequences of together some 400 tokens (a piece) go through all layers at once, and threads take pieces from one
 * counter without waiting for each other. What is between two matrices is made for so few tokens at a time that it stays in
 * the second-level cache.
 */
#ifndef LIFELONG_ENCODER_H
#define LIFELONG_ENCODER_H

#include "api.h"
#include "attention.h"

/* As many tokens go through attention together, unless one sequence has more; and through a feed-forward layer. */
#define SPAN_TOKENS 96
#if defined(__AMX_INT8__)
#define INNER_ROWS BLOCK_ROWS
#else
#define INNER_ROWS 96
#endif
#define SOON 8 /* tokens */

typedef struct {
    float *x, *mixed, *qkv, *inner;
    RowScratch rows, inner_rows;
    HeadScratch *head;
} Scratch;

/* Pieces of up to `tokens` tokens, in sequences of up to `longest`. */
typedef struct {
    int64_t tokens, longest;
} Extent;

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t span_tokens(Extent most)
{
    return smaller(most.tokens, larger(most.longest, SPAN_TOKENS));
}

static int64_t scratch_bytes(const Encoder *e, Extent most)
{
    int64_t span = span_tokens(most), inner = smaller(most.tokens, INNER_ROWS);
    return 4 * round_up(most.tokens * e->width, 16) + 4 * round_up(span * e->width, 16) +
           4 * span * round_up(3 * e->width, PANEL) + 4 * round_up(inner * e->inner, 16) +
           round_up(row_scratch_bytes(most.tokens, e->width), 64) + round_up(row_scratch_bytes(inner, e->inner), 64) +
           head_scratch_bytes(most.longest, e->width / e->heads) + 64;
}

static Scratch scratch_in(uint8_t *memory, const Encoder *e, Extent most)
{
    int64_t span = span_tokens(most), inner = smaller(most.tokens, INNER_ROWS);
    Scratch s;
    float *floats = (float *)memory;
    s.x = floats, floats += round_up(most.tokens * e->width, 16);
    s.mixed = floats, floats += round_up(span * e->width, 16);
    s.qkv = floats, floats += span * round_up(3 * e->width, PANEL);
    s.inner = floats, floats += round_up(inner * e->inner, 16);
    uint8_t *bytes = (uint8_t *)floats;
    s.rows = row_scratch(bytes, most.tokens, e->width), bytes += round_up(row_scratch_bytes(most.tokens, e->width), 64);
    s.inner_rows = row_scratch(bytes, inner, e->inner), bytes += round_up(row_scratch_bytes(inner, e->inner), 64);
    s.head = head_scratch(bytes, most.longest, e->width / e->heads);
    return s;
}

INLINE void embed_row(const Embedding *e, int width, int64_t id, int position, float *x)
{
    const int8_t *word = e->word + id * width;
    Lanes scale = all16(e->word_scale[id]);
    for (int i = 0; i < width; i += LANES) {
        int8_t bytes __attribute__((vector_size(16)));
        memcpy(&bytes, word + i, sizeof bytes);
        store16(x + i, fma16(__builtin_convertvector(bytes, Lanes), scale, load16(e->position + (int64_t)position * width + i)));
    }
}

/* Sequences offsets[0..sequences] of `ids`, not yet normalised; row 0 of x is token offsets[0]. Words lie anywhere in a
 * table that no near cache holds, so those of the tokens to come are fetched meanwhile. */
static void embed_rows(const Embedding *e, int width, const int64_t *ids, const int32_t *offsets, int sequences, float *x)
{
    int end = offsets[sequences];
    for (int i = 0; i < sequences; i++)
        for (int t = offsets[i]; t < offsets[i + 1]; t++, x += width) {
            const int8_t *soon = e->word + ids[t + SOON < end ? t + SOON : end - 1] * width;
            for (int line = 0; line < width; line += 64) __builtin_prefetch(soon + line);
            embed_row(e, width, ids[t], t - offsets[i], x);
        }
}

INLINE void norm_scaled(float *x, int rows, int width, const Norm *norm, const float *in_scale, RowScratch *s, int first,
                        int bits)
{
    for (; rows > 0; rows -= FEW_ROWS, x += FEW_ROWS * width, first += FEW_ROWS) {
        Span spans[FEW_ROWS];
        int few = rows < FEW_ROWS ? rows : FEW_ROWS;
        norm_few(x, few, width, norm, in_scale, spans);
        if (bits) quantize_few(s, first, few, x, in_scale, width, spans, bits);
    }
}

/* In place; then quantized into rows of `s` from `first` on for weights of `bits`, unless there are none (0). */
static void norm_into(float *x, int rows, int width, const Norm *norm, RowScratch *s, int first, int bits)
{
    if (norm->in_scale) norm_scaled(x, rows, width, norm, norm->in_scale, s, first, bits);
    else norm_scaled(x, rows, width, norm, NULL, s, first, bits);
}

/* out = mean of `tokens` rows */
INLINE void mean_rows(const float *x, int tokens, int width, float *out)
{
    for (int i = 0; i < width; i += LANES) {
        Lanes sum = load16(x + i);
        for (int t = 1; t < tokens; t++) sum += load16(x + (int64_t)t * width + i);
        store16(out + i, sum / (float)tokens);
    }
}

/* Rows to length 1; a row of zeros stays what it is. */
INLINE void unit_row(float *x, int width)
{
    Lanes squares = all16(0.0f);
    for (int i = 0; i < width; i += LANES) squares = fma16(load16(x + i), load16(x + i), squares);
    float length = sqrtf(sum_lanes(squares));
    Lanes inverse = all16(1.0f / (length > 1e-12f ? length : 1e-12f));
    for (int i = 0; i < width; i += LANES) store16(x + i, load16(x + i) * inverse);
}

/* Behind the last of the sequences from `first` on that have up to `limit` tokens together; one at least. */
INLINE int end_of_span(const int32_t *offsets, int first, int sequences, int limit)
{
    int end = first + 1;
    while (end < sequences && offsets[end + 1] - offsets[first] <= limit) end++;
    return end;
}

/* x += attention of whole sequences, of together `tokens` tokens, which are the rows from `first` on. */
static void run_attention(const Encoder *e, const Block *b, const int32_t *offsets, int sequences, int first, int tokens,
                          Scratch *s)
{
    int width = e->width;
    Matrix qkv = {s->qkv, PANEL, (int64_t)tokens * PANEL};
    linear(PLAIN, quantized(&s->rows, first, tokens, width), b->qkv, qkv);
    for (int i = 0; i < sequences; i++) {
        int row = offsets[i] - offsets[0];
        Matrix sequence = {element(qkv, row, 0), qkv.stride, qkv.pitch};
        attend(sequence, offsets[i + 1] - offsets[i], e->heads, width / e->heads, s->mixed + (int64_t)row * width, s->head);
    }
    quantize_into(&s->rows, first, tokens, s->mixed, width, b->out->bits);
    linear(ADD, quantized(&s->rows, first, tokens, width), b->out, dense(s->x + (int64_t)first * width, width));
}

/* x <- norm(x + feed-forward(norm(x))), quantized for a weight of `next_bits`, unless there is none (0). */
static void run_inner(const Encoder *e, const Block *b, int first, int rows, int next_bits, Scratch *s)
{
    int width = e->width;
    float *x = s->x + (int64_t)first * width;
    norm_into(x, rows, width, &b->norm1, &s->rows, first, b->up->bits);
    linear(GELU, quantized(&s->rows, first, rows, width), b->up, dense(s->inner, e->inner));
    quantize_into(&s->inner_rows, 0, rows, s->inner, e->inner, b->down->bits);
    linear(ADD, quantized(&s->inner_rows, 0, rows, e->inner), b->down, dense(x, width));
    norm_into(x, rows, width, &b->norm2, &s->rows, first, next_bits);
}

static void run_block(const Encoder *e, const Block *b, const int32_t *offsets, int sequences, int next_bits, Scratch *s)
{
    int tokens = offsets[sequences] - offsets[0];
    for (int i = 0, end; i < sequences; i = end) {
        end = end_of_span(offsets, i, sequences, SPAN_TOKENS);
        run_attention(e, b, offsets + i, end - i, offsets[i] - offsets[0], offsets[end] - offsets[i], s);
    }
    for (int first = 0; first < tokens; first += INNER_ROWS)
        run_inner(e, b, first, (int)smaller(tokens - first, INNER_ROWS), next_bits, s);
}

/* `layers` blocks over the sequences offsets[0..sequences]; then s->x holds their tokens, from offsets[0] on. */
static void run_piece(const Encoder *e, int layers, const int64_t *ids, const int32_t *offsets, int sequences, Scratch *s)
{
    int tokens = offsets[sequences] - offsets[0];
    embed_rows(&e->embedding, e->width, ids, offsets, sequences, s->x);
    norm_into(s->x, tokens, e->width, &e->embedding.norm, &s->rows, 0, layers ? e->blocks[0].qkv->bits : 0);
    for (int layer = 0; layer < layers; layer++) {
        int next_bits = layer + 1 < layers ? e->blocks[layer + 1].qkv->bits : 0;
        run_block(e, &e->blocks[layer], offsets, sequences, next_bits, s);
    }
}

#endif
