/* Cuts a batch into pieces of whole sequences, and runs threads that take pieces from one atomic counter. */
#ifndef LIFELONG_PIECES_H
#define LIFELONG_PIECES_H

#include "encoder.h"
#include "threads.h"
#include <stdlib.h>

/* Smaller pieces read the weights too often, and larger pieces exceed the second-level cache. Both are measured. */
#define L2_PIECE_TOKENS 384
#define MIN_PIECE_TOKENS 24

typedef struct {
    const Encoder *encoder;
    int layers;
    Input input;
    const int32_t *offsets, *rows; /* as `encode` in api.h takes them */
    float *out;
    const int32_t *bounds; /* piece i is sequences bounds[i] to bounds[i + 1] */
    int num_pieces;
    Extent largest;
    atomic_int next, failed;
} Job;

/* bounds [sequences + 1] <- the bounds of `wanted` pieces with about equally many tokens. There are fewer pieces if a
 * sequence is longer than a piece. Returns the number of pieces. */
static int cut(const int32_t *offsets, int sequences, int wanted, int32_t *bounds, Extent *largest)
{
    int64_t total = offsets[sequences], pieces = 0, next = 1; /* the next piece ends after next / wanted of all tokens */
    *largest = (Extent){0, 0};
    bounds[0] = 0;
    for (int i = 0; i < sequences; i++) {
        largest->longest = max_int(largest->longest, offsets[i + 1] - offsets[i]);
        if (offsets[i + 1] * (int64_t)wanted < next * total) continue;
        largest->tokens = max_int(largest->tokens, offsets[i + 1] - offsets[bounds[pieces]]);
        next = offsets[i + 1] * (int64_t)wanted / total + 1;
        bounds[++pieces] = i + 1;
    }
    return (int)pieces;
}

static void *work(void *argument)
{
    Job *job = argument;
    int width = job->encoder->width;
    Arena arena = {0};
    reserve_scratch(&arena, job->encoder, job->largest);
    arena = (Arena){.memory = allocate(arena.used)};
    if (!arena.memory) {
        atomic_store(&job->failed, 1);
        return NULL;
    }
    Scratch scratch = reserve_scratch(&arena, job->encoder, job->largest);
    for (int piece; (piece = atomic_fetch_add(&job->next, 1)) < job->num_pieces;) {
        int first = job->bounds[piece], end = job->bounds[piece + 1];
        const int32_t *offsets = job->offsets + first;
        run_piece(job->encoder, job->layers, job->input, offsets, end - first, &scratch);
        int64_t tokens = offsets[end - first] - offsets[0];
        if (!job->rows) {
            memcpy(job->out + (int64_t)offsets[0] * width, scratch.x, (size_t)(tokens * width) * sizeof(float));
            continue;
        }
        for (int i = 0; i < end - first; i++) {
            float *z = job->out + (int64_t)job->rows[first + i] * width;
            int pooled = job->encoder->pools_first ? 1 : offsets[i + 1] - offsets[i];
            mean_rows(scratch.x + (int64_t)(offsets[i] - offsets[0]) * width, pooled, width, z);
            if (job->encoder->unit) unit_row(z, width);
        }
    }
    free(arena.memory);
    return NULL;
}

/* Runs the job on up to `threads` threads. */
static int run_job(Job *job, int sequences, int threads)
{
    int64_t total = job->offsets[sequences], wanted = round_up((total + L2_PIECE_TOKENS - 1) / L2_PIECE_TOKENS, threads);
    wanted = min_int(wanted, max_int(total / MIN_PIECE_TOKENS, 1));
    int32_t *bounds = malloc(((size_t)sequences + 1) * sizeof *bounds);
    if (!bounds) return NO_MEMORY;
    job->num_pieces = cut(job->offsets, sequences, (int)wanted, bounds, &job->largest);
    job->bounds = bounds;
    run_on_threads(work, job, (int)min_int(threads, job->num_pieces));
    free(bounds);
    return atomic_load(&job->failed) || atomic_load(&job->next) < job->num_pieces ? NO_MEMORY : 0;
}

#endif
