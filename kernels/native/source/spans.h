/* Self-attention of all heads of one sequence: a head sees (attends to) all keys, or the keys of its span.
 * kernels/attention_i8/reference.py and spans.py define it, to the bit.
 *
 *     a tile of queries --bounds of blocks of keys--> chosen blocks + window + sinks = ranges of keys --gather--> attention
 *
 * The keys and values that a tile sees are copied next to each other, so that attention.h can compute the products and
 * the softmax. The copy takes a twentieth of the time. Keys are copied in whole quads, because values are stored in
 * quads. A key that a query does not see gets the score UNSEEN, and the weight 0.
 *
 * The router uses integer arithmetic. The bounds of all blocks for the pooled queries of a tile are one row times a
 * matrix, with the blocks in the lanes, and take a fiftieth of the time.
 *
 * Rejected: bounds for single queries (they find no more of the attention, and at 16,384 tokens took a quarter of the
 * time), and a hierarchy of blocks (reading it takes longer than it saves).
 */
#ifndef LIFELONG_SPANS_H
#define LIFELONG_SPANS_H

#include "attention.h"

#define SEEN_BLOCK INT64_MIN /* the score of a block that the whole tile sees anyway */

/* Whether every query sees every key. Without a span, it does. */
INLINE int is_dense(const Span *span, int num_tokens)
{
    return !span || num_tokens < span->dense_below || span->window >= num_tokens;
}

/* The span of head `head`; NULL if no head has one. */
INLINE const Span *span_of(const HeadShape *shape, int head)
{
    for (int i = 0; i < shape->num_spans; i++) {
        if (head < shape->spans[i].heads) return &shape->spans[i];
        head -= shape->spans[i].heads;
    }
    return NULL;
}

/* A tile: the queries from `first` to `last`, and their span. */
typedef struct {
    const Span *span;
    int first, last, num_tokens;
} Tile;

/* The blocks that all queries of a tile see by window or sinks: the blocks before `sinks`, and from `first` to `end`. */
typedef struct {
    int sinks, first, end;
} SeenBlocks;

INLINE int num_blocks(Tile t) { return (t.num_tokens + t.span->block - 1) / t.span->block; }

/* The number of blocks that end at key `end` or before it. The last block may be partial. */
INLINE int end_of_blocks(Tile t, int64_t end) { return end >= t.num_tokens ? num_blocks(t) : (int)(end / t.span->block); }

INLINE SeenBlocks seen_anyway(Tile t)
{
    int64_t first = round_up(max_int(0, t.last - t.span->window), t.span->block) / t.span->block;
    return (SeenBlocks){end_of_blocks(t, t.span->sinks), (int)first, end_of_blocks(t, t.first + t.span->window + 1)};
}

/* bounds [2 * width / 4][stride][4] <- the maximum - 128, then 127 - the minimum, of each channel over the keys of each
 * block: signed bytes with the blocks in the lanes. */
static void bound_blocks(Head h, int block, int64_t stride, HeadScratch *s)
{
    for (int b = 0; b * block < h.num_tokens; b++) {
        int first = b * block, end = (int)min_int(first + block, h.num_tokens);
        for (int i = 0; i < h.width; i += LANES) {
            ByteLanes max, min;
            memcpy(&max, s->keys + (int64_t)first * h.width + i, sizeof max);
            min = max;
            for (int t = first + 1; t < end; t++) {
                ByteLanes key;
                memcpy(&key, s->keys + (int64_t)t * h.width + i, sizeof key);
                ByteLanes more = (ByteLanes)(key > max), less = (ByteLanes)(key < min);
                max = (key & more) | (max & ~more), min = (key & less) | (min & ~less);
            }
            max ^= 128, min ^= 127;
            for (int k = 0; k < LANES; k += QUAD) {
                memcpy(s->bounds + ((i + k) / QUAD * stride + b) * QUAD, (uint8_t *)&max + k, QUAD);
                memcpy(s->bounds + ((h.width + i + k) / QUAD * stride + b) * QUAD, (uint8_t *)&min + k, QUAD);
            }
        }
    }
}

/* to[i] <- twice the mean of byte i of each lane over the first `queries` lanes of two vectors, rounded. */
INLINE void pool_bytes(Bytes first, Bytes second, int queries, uint8_t to[QUAD])
{
    typedef uint16_t Half __attribute__((vector_size(32)));
    typedef uint16_t Quarter __attribute__((vector_size(16)));
    for (int odd = 0; odd < 2; odd++) {
        union { Shorts all; Half half[2]; } sums = {((Shorts)first >> 8 * odd & 255) + ((Shorts)second >> 8 * odd & 255)};
        union { Half all; Quarter half[2]; } halves = {sums.half[0] + sums.half[1]};
        Quarter four = halves.half[0] + halves.half[1]; /* bytes `odd` and `odd` + 2 of four lanes */
        for (int i = 0; i < 2; i++)
            to[odd + 2 * i] = (uint8_t)((2 * (four[i] + four[i + 2] + four[i + 4] + four[i + 6]) + queries / 2) / queries);
    }
}

/* pooled [2 * width] <- twice the mean of the positive parts of a tile's queries, then of the negative parts without
 * their sign, rounded. */
INLINE void pool_queries(const uint32_t (*tile)[QUERIES], int queries, int width, uint8_t *pooled)
{
    typedef int8_t Signed __attribute__((vector_size(64)));
    const IntLanes lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int k = 0; k < width; k += QUAD) {
        Bytes positive[2], negative[2];
        for (int v = 0; v < 2; v++) {
            Signed q;
            memcpy(&q, tile[k / QUAD] + v * LANES, sizeof q);
            q &= (Signed)(lanes + v * LANES < queries);
            positive[v] = (Bytes)(q & (Signed)(q > 0)), negative[v] = (Bytes)(-q & (Signed)(q < 0));
        }
        pool_bytes(positive[0], positive[1], queries, pooled + k);
        pool_bytes(negative[0], negative[1], queries, pooled + width + k);
    }
}

/* is_chosen <- the `topk` blocks with the highest scores, except for blocks with the score SEEN_BLOCK. Of blocks with
 * equal scores, the first wins. They are found by insertion into a sorted list. */
static void choose_blocks(int blocks, int topk, HeadScratch *s)
{
    int found = 0;
    memset(s->is_chosen, 0, (size_t)blocks);
    for (int b = 0; b < blocks; b++) {
        int64_t score = s->block_scores[b];
        if (score == SEEN_BLOCK || (found == topk && score <= s->block_scores[s->best[topk - 1]])) continue;
        int place = found < topk ? found++ : topk - 1;
        for (; place && s->block_scores[s->best[place - 1]] < score; place--) s->best[place] = s->best[place - 1];
        s->best[place] = b;
    }
    for (int i = 0; i < found; i++) s->is_chosen[s->best[i]] = 1;
}

/* is_chosen <- the router's blocks for a tile of queries of `group` heads that share their keys. */
static void route(Tile t, int width, int64_t stride, int group, HeadScratch *s)
{
    int blocks = num_blocks(t), queries = t.last - t.first + 1;
    SeenBlocks seen = seen_anyway(t);
    memset(s->block_scores, 0, (size_t)stride * sizeof *s->block_scores);
    for (int g = 0; g < group; g++) {
        int64_t rate = s->scales[g].rate;
        if (queries == QUERIES) pool_queries(s->group_queries + g * (width / QUAD), QUERIES, width, s->pooled);
        else pool_queries(s->group_queries + g * (width / QUAD), queries, width, s->pooled);
        for (int b = 0; b < blocks; b += PANEL) {
            int32_t sums[PANEL];
            Panel panel = {s->bounds + b * QUAD, stride * QUAD, 2 * width / QUAD};
            dot_rows(1, PANEL / LANES, plain_rows(s->pooled, 2 * width), panel, (Sums){sums, PANEL});
            for (int i = 0; i < PANEL; i++) s->block_scores[b + i] += rate * sums[i];
        }
    }
    for (int b = 0; b < seen.sinks; b++) s->block_scores[b] = SEEN_BLOCK;
    for (int b = seen.first; b < seen.end; b++) s->block_scores[b] = SEEN_BLOCK;
    choose_blocks(blocks, t.span->topk, s);
}

INLINE int add_range(KeyRange *ranges, int num_ranges, int first, int end)
{
    if (first >= end) return num_ranges;
    KeyRange *last = &ranges[num_ranges - 1];
    if (num_ranges && first <= last->end) {
        if (end > last->end) last->end = end;
        return num_ranges;
    }
    ranges[num_ranges] = (KeyRange){first, end, 0};
    return num_ranges + 1;
}

/* ranges <- the keys that at least one query of the tile sees, in whole quads. Returns the number of ranges. */
static int list_keys(Tile t, HeadScratch *s)
{
    int n = t.num_tokens, window = t.span->window, block = t.span->block;
    int window_first = (int)max_int(0, t.first - window) / QUAD * QUAD;
    int window_end = (int)min_int(round_up(t.last + window + 1, QUAD), n), is_listed = 0;
    int num_ranges = add_range(s->ranges, 0, 0, (int)min_int(round_up(t.span->sinks, QUAD), n));
    for (int b = 0; t.span->topk && b * block < n; b++) {
        if (!s->is_chosen[b]) continue;
        if (!is_listed && window_first <= b * block) {
            num_ranges = add_range(s->ranges, num_ranges, window_first, window_end);
            is_listed = 1;
        }
        num_ranges = add_range(s->ranges, num_ranges, b * block, (int)min_int((b + 1) * block, n));
    }
    return is_listed ? num_ranges : add_range(s->ranges, num_ranges, window_first, window_end);
}

/* Copies the keys and values of the ranges next to each other. */
static Keys gather(int num_ranges, int width, HeadScratch *s)
{
    int count = 0;
    for (KeyRange *r = s->ranges; r < s->ranges + num_ranges; r++) {
        int64_t bytes = round_up(r->end - r->first, QUAD) * width;
        r->at = count;
        memcpy(s->near_keys + (int64_t)count * width, s->keys + (int64_t)r->first * width, (size_t)bytes);
        memcpy(s->near_values + (int64_t)count * width, s->values + (int64_t)r->first * width, (size_t)bytes);
        count += r->end - r->first;
    }
    return (Keys){s->near_keys, s->near_values, count, width};
}

INLINE int is_seen_by_all(Tile t, int key, const HeadScratch *s)
{
    return key < t.span->sinks || (t.span->topk && s->is_chosen[key / t.span->block]);
}

/* Writes UNSEEN over the scores of keys `key` and `key` + 1 for the queries that are too far away. */
INLINE void hide_pair(Tile t, int key, int at, HeadScratch *s)
{
    Shorts keys = {0}, hidden = {0};
    for (int i = 0; i < 2; i++) {
        int k = (int)min_int(key + i, t.num_tokens - 1); /* a partial quad repeats the last key */
        keys |= all32((uint16_t)(k - t.first)) & pair_mask(i);
        if (!is_seen_by_all(t, k, s)) hidden |= pair_mask(i);
    }
    for (int lane = 0; lane < QUERIES; lane += LANES) {
        Shorts distance = pair_lanes() + (uint16_t)lane - keys + (uint16_t)t.span->window; /* 0 to 2 windows if seen */
        Shorts far = hidden & (Shorts)(distance > (uint16_t)(2 * t.span->window));
        Shorts pair = (pair_of(s, at, lane) & ~far) | (UNSEEN & far);
        memcpy(pair_at(s, at, lane), &pair, sizeof pair);
    }
}

INLINE void hide_quads(Tile t, int64_t first, int64_t end, int num_ranges, HeadScratch *s)
{
    for (const KeyRange *r = s->ranges; r < s->ranges + num_ranges; r++)
        for (int key = (int)max_int(first / QUAD * QUAD, r->first); key < end && key < r->end; key += QUAD)
            for (int i = 0; i < QUAD; i += 2) hide_pair(t, key + i, r->at + key - r->first + i, s);
}

/* Hides keys from the queries that do not see them: at both ends of the window, and behind the last sink. */
static void hide_keys(Tile t, int num_ranges, HeadScratch *s)
{
    int window = t.span->window, sinks = t.span->sinks;
    hide_quads(t, max_int(0, t.first - window), t.last - window, num_ranges, s);
    hide_quads(t, t.first + window + 1, round_up(t.last + window + 1, QUAD), num_ranges, s);
    if (sinks % QUAD) hide_quads(t, sinks, sinks + 1, num_ranges, s);
}

/* out <- attention of the heads that share their keys, from head h on, to the keys of `span`. */
static void attend_span(Head h, const Span *span, int group, Matrix out, HeadScratch *s)
{
    int quads = h.width / QUAD;
    int64_t stride = round_up((h.num_tokens + span->block - 1) / span->block, PANEL);
    if (span->topk) bound_blocks(h, span->block, stride, s);
    for (int g = 0; g < group; g++, h.q += h.width) {
        scan_queries(h, s);
        s->scales[g] = (QueryScale){s->inverse_query_scale, s->score_rate};
    }
    h.q -= group * h.width;
    for (int first = 0; first < h.num_tokens; first += QUERIES) {
        Tile t = {span, first, (int)min_int(first + QUERIES, h.num_tokens) - 1, h.num_tokens};
        for (int g = 0; g < group; g++, h.q += h.width) {
            s->inverse_query_scale = s->scales[g].inverse;
            pack_tile(h, first, s->group_queries + g * quads, s);
        }
        h.q -= group * h.width;
        if (span->topk) route(t, h.width, stride, group, s);
        int num_ranges = list_keys(t, s), queries = t.last - t.first + 1;
        Keys near = gather(num_ranges, h.width, s);
        for (int g = 0; g < group; g++) {
            if (queries > LANES) score_keys_2(&near, s->group_queries + g * quads, s);
            else score_keys_1(&near, s->group_queries + g * quads, s);
            hide_keys(t, num_ranges, s);
            s->score_rate = s->scales[g].rate;
            mix_values(1, queries, &near, (Matrix){element(out, first, g * h.width), out.stride, out.pitch}, s);
        }
    }
}

/* out [num_tokens, heads * head_width] <- self-attention of one sequence. A row of `qkv` holds q, k and v. Keys and
 * values are packed once for all query heads that read them. */
static void attend(Matrix qkv, int num_tokens, const HeadShape *shape, float *out, HeadScratch *s)
{
    int width = shape->head_width, group = shape->heads / shape->kv_heads;
    int64_t keys = mixed_width(shape), values = keys + (int64_t)shape->kv_heads * width;
    for (int kv = 0; kv < shape->kv_heads; kv++, keys += width, values += width) {
        Head h = {qkv, (int64_t)kv * group * width, keys, values, num_tokens, width};
        const Span *span = span_of(shape, kv * group);
        pack_keys(h, s);
        if (!is_dense(span, num_tokens)) {
            pack_values(h, s);
            attend_span(h, span, group, dense(out + h.q, mixed_width(shape)), s);
            continue;
        }
        for (int g = 0; g < group; g++, h.q += width) {
            scan_queries(h, s);
            /* Values are packed after keys and queries, because they are read last. */
            if (!g) pack_values(h, s);
            for (int first = 0; first < num_tokens; first += QUERIES)
                attend_queries(h, first, dense(out + (int64_t)first * mixed_width(shape) + h.q, mixed_width(shape)), s);
        }
    }
}

#endif
