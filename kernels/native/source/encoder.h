/* A whole encoder: ragged token ids in, vectors out.
 *
 *     ids -> embed -> [qkv -> attend -> out + residual -> norm -> up, gelu -> down + residual -> norm] x layers
 *         -> mean, or the first row -> unit length
 *
 * This is BERT's block; `Block` in api.h describes the others. Where the normalised rows do not replace the rows
 * (pre-norm), a few rows are copied and normalised aside.
 *
 * A batch can also start from the rows between two blocks, which another encoder with the same lower blocks has computed
 * (`encode_from`).
 *
 * A piece is a run of whole sequences with about 400 tokens in total. It goes through all layers at once, and threads
 * take pieces from one atomic counter without waiting for each other. Between two matrices, only a few tokens are
 * computed at a time, so that their intermediate results stay in the second-level cache.
 */
#ifndef LIFELONG_ENCODER_H
#define LIFELONG_ENCODER_H

#include "api.h"
#include "spans.h"

#define SPAN_TOKENS 96 /* tokens that go through attention together, unless one sequence has more */
#if defined(__AMX_INT8__) /* INNER_ROWS: tokens that go through a feed-forward layer together */
#define INNER_ROWS BLOCK_ROWS
#else
#define INNER_ROWS 96
#endif
#define PREFETCH_TOKENS 8 /* how many tokens ahead the rows of words are prefetched */

typedef struct {
    float *x, *mixed, *qkv, *inner;
    RowScratch rows;
    uint8_t *step_rows; /* the quantized rows that are wider than a token: `mixed`, `inner` */
    float *low;         /* the results of the first matrix of a low-rank addition */
    float *few;         /* FEW_ROWS normalised rows, if they do not replace the rows of x */
    float *branch;      /* what a part of a block adds to x, if it is normalised before */
    uint8_t *low_rows;  /* `low`, quantized */
    HeadScratch *head;
} Scratch;

/* The size of the largest piece, `tokens`, and of the longest sequence in any piece. */
typedef struct {
    int64_t tokens, longest;
} Extent;

/* The number of outputs of `up`. */
INLINE int up_width(const Block *b) { return b->activation == GELU_UNIT ? b->inner : 2 * b->inner; }

/* Whether the attention of a block reads the rows as they are: a norm has replaced them before. */
INLINE int reads_normalised(const Block *b) { return b->is_post_norm || !b->norm1.gain; }

/* Reserves the scratch memory of one thread, for the largest block. */
static Scratch reserve_scratch(Arena *a, const Encoder *e, Extent largest)
{
    int64_t span = min_int(largest.tokens, max_int(largest.longest, SPAN_TOKENS)), qkv = 0, mixed = 0, inner = 0;
    int64_t step_bytes = 0, inner_rows = min_int(largest.tokens, INNER_ROWS);
    HeadExtent heads = {.tokens = largest.longest};
    int rank = 0, has_branch = 0, has_few = 0;
    if (e->embedding.expand) {
        inner = e->embedding.word_width;
        step_bytes = row_scratch_bytes(inner_rows, e->embedding.word_width);
    }
    for (const Block *b = e->blocks; b < e->blocks + e->layers; b++) {
        qkv = max_int(qkv, round_up(qkv_width(&b->heads), PANEL));
        mixed = max_int(mixed, mixed_width(&b->heads)), inner = max_int(inner, up_width(b));
        has_branch |= b->out_norm.gain != NULL, has_few |= !b->is_post_norm;
        extend(&heads, &b->heads), rank = (int)max_int(rank, b->rank);
        if (mixed_width(&b->heads) > e->width)
            step_bytes = max_int(step_bytes, row_scratch_bytes(span, mixed_width(&b->heads)));
        step_bytes = max_int(step_bytes, row_scratch_bytes(inner_rows, b->inner));
    }
    Scratch s = {.x = reserve(a, 4 * largest.tokens * e->width)};
    s.mixed = reserve(a, 4 * span * mixed);
    s.qkv = reserve(a, 4 * span * qkv);
    s.inner = reserve(a, 4 * inner_rows * inner);
    uint8_t *rows = reserve(a, row_scratch_bytes(largest.tokens, e->width));
    s.step_rows = reserve(a, step_bytes);
    s.low = reserve(a, 4 * max_int(span, inner_rows) * rank);
    s.low_rows = reserve(a, rank ? row_scratch_bytes(max_int(span, inner_rows), rank) : 0);
    s.few = reserve(a, has_few ? 4 * FEW_ROWS * (int64_t)e->width : 0);
    s.branch = reserve(a, has_branch ? 4 * max_int(span, inner_rows) * e->width : 0);
    s.head = reserve_heads(a, heads);
    if (a->memory) s.rows = row_scratch(rows, largest.tokens, e->width);
    return s;
}

INLINE int64_t word_bytes(const Embedding *e) { return e->multipliers ? e->word_width / 2 : e->word_width; }

/* The integers of 16 columns of a word, from column i on. */
INLINE Lanes word_integers(const Embedding *e, int64_t id, int i)
{
    if (!e->multipliers) {
        int8_t bytes __attribute__((vector_size(16)));
        memcpy(&bytes, e->word + id * e->word_width + i, sizeof bytes);
        return __builtin_convertvector(bytes, Lanes);
    }
    const ByteLanes twice = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7};
    const IntLanes above = {28, 24, 28, 24, 28, 24, 28, 24, 28, 24, 28, 24, 28, 24, 28, 24}; /* even: the low nibble */
    ByteLanes nibbles = {0};
    memcpy(&nibbles, e->word + (id * e->word_width + i) / 2, LANES / 2);
    IntLanes integers = __builtin_convertvector(__builtin_shuffle(nibbles, twice), IntLanes) << above >> 28;
    return __builtin_convertvector(integers * e->multipliers[(id * e->word_width + i) / GROUP], Lanes);
}

/* x <- the row of a word, times its scale */
INLINE void word_row(const Embedding *e, int64_t id, float *x)
{
    for (int i = 0; i < e->word_width; i += LANES) store16(x + i, word_integers(e, id, i) * e->word_scale[id]);
}

INLINE void embed_row(const Embedding *e, int width, int64_t id, const float *position, float *x)
{
    Lanes scale = all16(e->word_scale[id]);
    for (int i = 0; i < width; i += LANES)
        store16(x + i, fma16(word_integers(e, id, i), scale, load16(position + i)));
}

INLINE const float *position_row(const Embedding *e, int position)
{
    return e->position + (int64_t)position * e->position_stride;
}

/* x <- the embeddings of sequences offsets[0..sequences] of `ids`, not yet normalised; row 0 of x is token offsets[0].
 * The table exceeds the caches and is read in random order, so the rows of later tokens are prefetched. */
static void embed_rows(const Embedding *e, int width, const int64_t *ids, const int32_t *offsets, int sequences, float *x)
{
    int end = offsets[sequences];
    int64_t row_bytes = word_bytes(e);
    for (int i = 0; i < sequences; i++)
        for (int t = offsets[i]; t < offsets[i + 1]; t++, x += width) {
            const uint8_t *upcoming = e->word + ids[t + PREFETCH_TOKENS < end ? t + PREFETCH_TOKENS : end - 1] * row_bytes;
            for (int line = 0; line < row_bytes; line += 64) __builtin_prefetch(upcoming + line);
            embed_row(e, width, ids[t], position_row(e, t - offsets[i]), x);
        }
}

/* s->x <- the embeddings, as in `embed_rows`, if `expand` widens the words (factorised embeddings: ALBERT, Lan et al.,
 * arXiv:1909.11942). */
static void expand_rows(const Embedding *e, int width, const int64_t *ids, const int32_t *offsets, int sequences, Scratch *s)
{
    float *x = s->x;
    for (int i = 0; i < sequences; i++)
        for (int t = offsets[i]; t < offsets[i + 1]; t++, x += width)
            memcpy(x, position_row(e, t - offsets[i]), (size_t)width * sizeof *x);
    int tokens = offsets[sequences] - offsets[0];
    for (int first = 0; first < tokens; first += INNER_ROWS) {
        int rows = (int)min_int(tokens - first, INNER_ROWS);
        for (int r = 0; r < rows; r++) word_row(e, ids[offsets[0] + first + r], s->inner + r * e->word_width);
        RowScratch words = row_scratch(s->step_rows, rows, e->word_width);
        quantize_into(&words, 0, rows, s->inner, e->word_width, e->expand->bits);
        linear(ADD, quantized(&words, 0, rows, e->word_width), (BiasedWeight){e->expand, NULL},
               dense(s->x + (int64_t)first * width, width));
    }
}

INLINE void norm_scaled(float *x, int rows, int width, const Norm *norm, const float *in_scale, RowScratch *s, int first,
                        int bits)
{
    for (; rows > 0; rows -= FEW_ROWS, x += FEW_ROWS * width, first += FEW_ROWS) {
        MinRange min_ranges[FEW_ROWS];
        int few = rows < FEW_ROWS ? rows : FEW_ROWS;
        norm_few(x, few, width, norm, in_scale, min_ranges);
        if (bits) quantize_few(s, first, few, x, in_scale, width, min_ranges, bits);
    }
}

/* Normalises rows in place, then quantizes them into rows of `s` from `first` on for weights of `bits`. With `bits` 0
 * no weight follows, and nothing is quantized. */
static void norm_into(float *x, int rows, int width, const Norm *norm, RowScratch *s, int first, int bits)
{
    if (norm->in_scale) norm_scaled(x, rows, width, norm, norm->in_scale, s, first, bits);
    else norm_scaled(x, rows, width, norm, NULL, s, first, bits);
}

/* Quantizes normalised copies of rows, as `norm_into` does. x stays as it is. */
static void norm_aside(const float *x, int rows, int width, const Norm *norm, int first, int bits, Scratch *s)
{
    for (; rows > 0; rows -= FEW_ROWS, x += FEW_ROWS * width, first += FEW_ROWS) {
        int few = rows < FEW_ROWS ? rows : FEW_ROWS;
        memcpy(s->few, x, (size_t)few * width * sizeof *x);
        norm_into(s->few, few, width, norm, &s->rows, first, bits);
    }
}

/* out <- the mean of `tokens` rows */
INLINE void mean_rows(const float *x, int tokens, int width, float *out)
{
    for (int i = 0; i < width; i += LANES) {
        Lanes sum = load16(x + i);
        for (int t = 1; t < tokens; t++) sum += load16(x + (int64_t)t * width + i);
        store16(out + i, sum / (float)tokens);
    }
}

/* Scales a row to length 1; a row of zeros stays zero. */
INLINE void unit_row(float *x, int width)
{
    Lanes squares = all16(0.0f);
    for (int i = 0; i < width; i += LANES) squares = fma16(load16(x + i), load16(x + i), squares);
    float length = sqrtf(sum_lanes(squares));
    Lanes inverse = all16(1.0f / (length > 1e-12f ? length : 1e-12f));
    for (int i = 0; i < width; i += LANES) store16(x + i, load16(x + i) * inverse);
}

/* The end of the run of sequences from `first` on with at most `limit` tokens in total. A run has at least one sequence. */
INLINE int end_of_span(const int32_t *offsets, int first, int sequences, int limit)
{
    int end = first + 1;
    while (end < sequences && offsets[end + 1] - offsets[first] <= limit) end++;
    return end;
}

/* y <- x times a matrix, plus its low-rank addition. The result of the addition's first matrix is quantized to 8 bits,
 * like every input of a matrix. */
static void linear_of_block(Epilogue epilogue, QuantizedRows x, const Linear *m, Matrix y, Scratch *s)
{
    BiasedWeight weight = {m->weight, m->bias};
    if (!m->a) {
        linear(epilogue, x, weight, y);
        return;
    }
    int rank = m->a->num_out;
    linear(PLAIN, x, (BiasedWeight){m->a, NULL}, dense(s->low, rank));
    RowScratch low = row_scratch(s->low_rows, x.rows, rank);
    quantize_into(&low, 0, x.rows, s->low, rank, 8);
    linear(epilogue == ADD ? ADD : PLAIN, quantized(&low, 0, x.rows, rank), (BiasedWeight){m->b, NULL}, y);
    linear(epilogue == GELU ? ADD_GELU : ADD, x, weight, y);
}

/* x <- x + norm(rows times a matrix); without a norm, x + rows times a matrix. */
static void add_to_rows(QuantizedRows rows, const Linear *m, const Norm *norm, float *x, int width, Scratch *s)
{
    if (!norm->gain) {
        linear_of_block(ADD, rows, m, dense(x, width), s);
        return;
    }
    linear_of_block(PLAIN, rows, m, dense(s->branch, width), s);
    norm_into(s->branch, rows.rows, width, norm, NULL, 0, 0);
    for (int64_t i = 0; i < (int64_t)rows.rows * width; i += LANES)
        store16(x + i, load16(x + i) + load16(s->branch + i));
}

/* Normalises `heads` heads of each token of one sequence by RMSNorm, from column `column` on. */
static void norm_heads(Matrix qkv, int num_tokens, int column, int heads, int width, const Norm *norm)
{
    for (int end = column + heads * width; column < end; column += width)
        for (int t = 0; t < num_tokens; t++) {
            Lanes squares = all16(0.0f);
            for (int i = 0; i < width; i += LANES) {
                Lanes v = load16(element(qkv, t, column + i));
                squares = fma16(v, v, squares);
            }
            Lanes inverse = all16(1.0f / sqrtf(sum_lanes(squares) / (float)width + norm->eps));
            for (int i = 0; i < width; i += LANES) {
                float *at = element(qkv, t, column + i);
                store16(at, fma16(load16(at) * inverse, load16(norm->gain + i), load16(norm->bias + i)));
            }
        }
}

/* Rotates the queries and keys of one sequence by their positions (RoPE, Su et al., arXiv:2104.09864). The two channels
 * of a pair are half a head apart. */
static void rotate(Matrix qkv, int num_tokens, const HeadShape *shape, const Rotations *r)
{
    int half = shape->head_width / 2;
    for (int column = 0; column < (shape->heads + shape->kv_heads) * shape->head_width; column += shape->head_width)
        for (int t = 0; t < num_tokens; t++)
            for (int i = 0; i < half; i += LANES) {
                float *first = element(qkv, t, column + i), *second = element(qkv, t, column + half + i);
                Lanes a = load16(first), b = load16(second);
                Lanes cosine = load16(r->cosine + (int64_t)t * half + i), sine = load16(r->sine + (int64_t)t * half + i);
                store16(first, a * cosine - b * sine);
                store16(second, b * cosine + a * sine);
            }
}

/* x <- x + out(attention(qkv(x))), with the norms of the block, for whole sequences with `tokens` tokens in total, whose
 * rows begin at `first`. */
static void run_attention(const Encoder *e, const Block *b, const int32_t *offsets, int sequences, int first, int tokens,
                          Scratch *s)
{
    int width = e->width, out_width = mixed_width(&b->heads);
    float *x = s->x + (int64_t)first * width;
    Matrix qkv = {s->qkv, PANEL, (int64_t)tokens * PANEL};
    if (!reads_normalised(b)) norm_aside(x, tokens, width, &b->norm1, first, b->qkv.weight->bits, s);
    linear_of_block(PLAIN, quantized(&s->rows, first, tokens, width), &b->qkv, qkv, s);
    for (int i = 0; i < sequences; i++) {
        int row = offsets[i] - offsets[0], length = offsets[i + 1] - offsets[i], head_width = b->heads.head_width;
        Matrix sequence = {element(qkv, row, 0), qkv.stride, qkv.pitch};
        if (b->q_norm.gain) {
            norm_heads(sequence, length, 0, b->heads.heads, head_width, &b->q_norm);
            norm_heads(sequence, length, out_width, b->heads.kv_heads, head_width, &b->k_norm);
        }
        if (b->rotations.cosine) rotate(sequence, length, &b->heads, &b->rotations);
        attend(sequence, length, &b->heads, s->mixed + (int64_t)row * out_width, s->head);
    }
    RowScratch wide = row_scratch(s->step_rows, tokens, out_width), *mixed = out_width > width ? &wide : &s->rows;
    /* The quantized rows from `first` on are no longer needed and still in the cache, so they are overwritten. */
    int row = out_width > width ? 0 : first;
    quantize_into(mixed, row, tokens, s->mixed, out_width, b->out.weight->bits);
    add_to_rows(quantized(mixed, row, tokens, out_width), &b->out, &b->out_norm, x, width, s);
}

/* s->inner <- the input of `down`, from quantized rows. */
static void run_up(const Block *b, QuantizedRows x, Scratch *s)
{
    if (b->activation == GELU_UNIT) {
        linear_of_block(GELU, x, &b->up, dense(s->inner, b->inner), s);
        return;
    }
    linear_of_block(PLAIN, x, &b->up, dense(s->inner, 2 * b->inner), s);
    gate_rows((Activation)b->activation, s->inner, x.rows, b->inner);
}

/* x <- project(final_norm(x)), each if the block has it. */
static void finish_rows(const Block *b, float *x, int first, int rows, int width, Scratch *s)
{
    if (!b->final_norm.gain) return;
    norm_into(x, rows, width, &b->final_norm, &s->rows, first, b->project.weight ? b->project.weight->bits : 0);
    if (b->project.weight) linear_of_block(PLAIN, quantized(&s->rows, first, rows, width), &b->project, dense(x, width), s);
}

/* x <- norm2(h + down(gelu(up(h)))) with h = norm1(x), then quantized for the next weight, which has `next_bits`. If
 * `next_bits` is 0, there is no next weight, and nothing is quantized. With pre-norm, x <- x + down(up(norm2(x))), and the
 * next block normalises and quantizes its input. */
static void run_inner(const Encoder *e, const Block *b, int first, int rows, int next_bits, Scratch *s)
{
    int width = e->width;
    float *x = s->x + (int64_t)first * width;
    if (b->is_post_norm) norm_into(x, rows, width, &b->norm1, &s->rows, first, b->up.weight->bits);
    else norm_aside(x, rows, width, &b->norm2, first, b->up.weight->bits, s);
    run_up(b, quantized(&s->rows, first, rows, width), s);
    RowScratch inner = row_scratch(s->step_rows, rows, b->inner);
    quantize_into(&inner, 0, rows, s->inner, b->inner, b->down.weight->bits);
    add_to_rows(quantized(&inner, 0, rows, b->inner), &b->down, &b->down_norm, x, width, s);
    if (b->is_post_norm) norm_into(x, rows, width, &b->norm2, &s->rows, first, next_bits);
    else finish_rows(b, x, first, rows, width, s);
}

static void run_block(const Encoder *e, const Block *b, const int32_t *offsets, int sequences, int next_bits, Scratch *s)
{
    int tokens = offsets[sequences] - offsets[0];
    for (int i = 0, end; i < sequences; i = end) {
        end = end_of_span(offsets, i, sequences, SPAN_TOKENS);
        run_attention(e, b, offsets + i, end - i, offsets[i] - offsets[0], offsets[end] - offsets[i], s);
    }
    for (int first = 0; first < tokens; first += INNER_ROWS)
        run_inner(e, b, first, (int)min_int(tokens - first, INNER_ROWS), next_bits, s);
}

/* The input: ids, or the rows x of tokens after `layer` blocks. Row 0 belongs to the first token of the batch. */
typedef struct {
    const int64_t *ids;
    const float *x;
    int layer;
} Input;

/* s->x <- the rows of x. They are quantized in the same way as in the forward that computed them. */
static void resume(const Encoder *e, Input input, int first, int tokens, int bits, Scratch *s)
{
    const Norm *before = input.layer ? &e->blocks[input.layer - 1].norm2 : &e->embedding.norm;
    memcpy(s->x, input.x + (int64_t)first * e->width, (size_t)tokens * e->width * sizeof *s->x);
    if (bits && before->in_scale) quantize_scaled(&s->rows, 0, tokens, s->x, before->in_scale, e->width, bits);
    else if (bits) quantize_into(&s->rows, 0, tokens, s->x, e->width, bits);
}

/* s->x <- the rows of the sequences offsets[0..sequences] after `layers` blocks; row 0 is token offsets[0]. */
static void run_piece(const Encoder *e, int layers, Input input, const int32_t *offsets, int sequences, Scratch *s)
{
    int tokens = offsets[sequences] - offsets[0];
    const Block *first = input.layer < layers ? &e->blocks[input.layer] : NULL;
    int bits = first && reads_normalised(first) ? first->qkv.weight->bits : 0;
    if (input.x) resume(e, input, offsets[0], tokens, bits, s);
    else {
        if (e->embedding.expand) expand_rows(&e->embedding, e->width, input.ids, offsets, sequences, s);
        else embed_rows(&e->embedding, e->width, input.ids, offsets, sequences, s->x);
        if (e->embedding.norm.gain) norm_into(s->x, tokens, e->width, &e->embedding.norm, &s->rows, 0, bits);
    }
    for (int layer = input.layer; layer < layers; layer++) {
        int next_bits = layer + 1 < layers ? e->blocks[layer + 1].qkv.weight->bits : 0;
        run_block(e, &e->blocks[layer], offsets, sequences, next_bits, s);
    }
}

#endif
