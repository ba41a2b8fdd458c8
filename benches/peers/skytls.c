/* SPDX-License-Identifier: Apache-2.0
 *
 * libskytls as a C program has it: encoded segments given to an agent.
 *
 *   skytls PORT CA SEGMENT COUNT WARM_UP
 *   skytls PORT CA SEGMENT COUNT WARM_UP THREADS    how long a report takes for the thread that reports
 *
 * Prints what it took as the clients in Rust do, or quantiles in nanoseconds.
 */
#include <skytls.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static skytls_agent *agent;
static uint8_t segment[1 << 20];
static size_t size;

struct reporter {
    pthread_t thread;
    uint64_t count;
    uint32_t *took;
    long waits;
};

static int failed(skytls_error *error)
{
    fprintf(stderr, "skytls: %s\n", skytls_error_message(error));
    return 1;
}

static double now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static double us(struct timeval time)
{
    return (double)time.tv_sec * 1e6 + (double)time.tv_usec;
}

/* Hands segments in as fast as they are taken. A full queue is left alone for a fraction of what it takes to
 * empty it. */
static void backlog(uint64_t count)
{
    while (count > 0) {
        if (skytls_agent_report(agent, SKYTLS_SEGMENT, segment, size, NULL) == SKYTLS_OK)
            count--;
        else
            usleep(500);
    }
}

static int delivered(void)
{
    skytls_error *error = NULL;
    return skytls_agent_flush(agent, SKYTLS_DELIVERED, 120000, &error) == SKYTLS_OK ? 0 : failed(error);
}

/* Bursts with rests between them: in the bursts the engine is busy, and no burst fills the queue. */
static void *reporter(void *userdata)
{
    enum { BURST = 500 };
    struct reporter *self = userdata;
    struct rusage before, after;
    long rests = 0;
    getrusage(RUSAGE_THREAD, &before);
    for (uint64_t i = 0; i < self->count; i++) {
        struct timespec begin, end;
        if (i % BURST == 0) {
            usleep(3000);
            rests++;
        }
        for (;;) {
            clock_gettime(CLOCK_MONOTONIC, &begin);
            int code = skytls_agent_report(agent, SKYTLS_SEGMENT, segment, size, NULL);
            clock_gettime(CLOCK_MONOTONIC, &end);
            if (code == SKYTLS_OK)
                break;
            usleep(500);
            rests++;
        }
        self->took[i] = (uint32_t)((end.tv_sec - begin.tv_sec) * 1000000000L + (end.tv_nsec - begin.tv_nsec));
    }
    getrusage(RUSAGE_THREAD, &after);
    self->waits = after.ru_nvcsw - before.ru_nvcsw - rests;
    return NULL;
}

static int by_value(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static int latency(uint64_t count, int threads)
{
    struct reporter *all = calloc((size_t)threads, sizeof *all);
    uint64_t each = count / (uint64_t)threads, total = each * (uint64_t)threads;
    uint32_t *took = malloc(total * sizeof *took);
    long waits = 0;
    struct timespec begin, end;
    uint32_t clock[1001];
    if (all == NULL || took == NULL)
        return 1;
    for (int i = 0; i <= 1000; i++) {
        clock_gettime(CLOCK_MONOTONIC, &begin);
        clock_gettime(CLOCK_MONOTONIC, &end);
        clock[i] = (uint32_t)(end.tv_nsec - begin.tv_nsec);
    }
    qsort(clock, 1001, sizeof *clock, by_value);
    for (int i = 0; i < threads; i++) {
        all[i].count = each;
        all[i].took = took + (uint64_t)i * each;
        if (pthread_create(&all[i].thread, NULL, reporter, &all[i]) != 0)
            return 1;
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(all[i].thread, NULL);
        waits += all[i].waits;
    }
    if (delivered() != 0)
        return 1;
    qsort(took, total, sizeof *took, by_value);
    printf("{\"count\":%llu,\"threads\":%d,\"p50\":%u,\"p99\":%u,\"p999\":%u,\"clock\":%u,\"waits\":%ld}\n",
           (unsigned long long)total, threads, took[total / 2], took[total / 100 * 99], took[total / 1000 * 999],
           clock[500], waits);
    return 0;
}

int main(int argc, char **argv)
{
    skytls_error *error = NULL;
    uint64_t lost = 0;
    if (argc < 6)
        return 64;
    char backend[32];
    snprintf(backend, sizeof backend, "localhost:%s", argv[1]);
    FILE *file = fopen(argv[3], "rb");
    if (file == NULL)
        return 1;
    size = fread(segment, 1, sizeof segment, file);
    fclose(file);
    uint64_t count = strtoull(argv[4], NULL, 10);

    skytls_config *config = skytls_config_new();
    const char *const settings[][2] = {
        {"agent.service_name", "bench"}, {"collector.backend_service", backend},
        {"agent.ssl_trusted_ca_path", argv[2]},
        /* A queue as long as its 64 MiB are. */
        {"buffer.channel_size", "10"}, {"buffer.buffer_size", "10000"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (skytls_config_set(config, settings[i][0], settings[i][1], &error) != SKYTLS_OK)
            return failed(error);
    if (skytls_agent_new(config, &agent, &error) != SKYTLS_OK || skytls_agent_start(agent, &error) != SKYTLS_OK)
        return failed(error);
    skytls_config_free(config);

    backlog(strtoull(argv[5], NULL, 10));
    if (delivered() != 0)
        return 1;
    if (argc > 6) {
        if (latency(count, atoi(argv[6])) != 0)
            return 1;
    } else {
        struct rusage before, after;
        getrusage(RUSAGE_SELF, &before);
        double begun = now_us();
        backlog(count);
        if (delivered() != 0)
            return 1;
        double wall = now_us() - begun;
        getrusage(RUSAGE_SELF, &after);
        printf("{\"count\":%llu,\"cpu\":{\"user_us\":%.0f,\"system_us\":%.0f,\"waits\":%ld,\"peak_kib\":%ld},"
               "\"pacing_us\":0,\"late\":0,\"wall_us\":%.0f}\n",
               (unsigned long long)count, us(after.ru_utime) - us(before.ru_utime),
               us(after.ru_stime) - us(before.ru_stime), after.ru_nvcsw - before.ru_nvcsw, after.ru_maxrss, wall);
    }
    if (skytls_agent_stop(agent, 10000, &lost, &error) != SKYTLS_OK)
        return failed(error);
    skytls_agent_free(agent);
    return lost == 0 ? 0 : 1;
}
