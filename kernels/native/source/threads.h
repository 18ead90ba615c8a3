/* Runs threads that take pieces of a job, each from the job's atomic counter. */
#ifndef LIFELONG_THREADS_H
#define LIFELONG_THREADS_H

#include <pthread.h>
#include <stdatomic.h>

#define MAX_THREADS 64

/* Runs work(job) on up to `threads` threads, including the caller's thread. If a thread cannot be started, the others do
 * its share. */
static void run_on_threads(void *(*work)(void *), void *job, int threads)
{
    pthread_t others[MAX_THREADS];
    int started = 0;
    while (started + 1 < threads && started < MAX_THREADS && !pthread_create(&others[started], NULL, work, job)) started++;
    work(job);
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
}

#endif
