/* SPDX-License-Identifier: Apache-2.0
 * The end of an agent with a spool. Usage: disk CASE FOLDER
 *
 * well: the disk works. stop, free: it does not answer, and another thread forks meanwhile. Prints how many complaints
 * of the spool were logged. */
#include "children.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

/* Less than what the spool would take with patience, and more than a busy machine adds. */
enum { RECORDS = 100, LONGEST_MS = 2500 };

static atomic_bool hangs, over;
static atomic_int complaints;
static sem_t hanging;

/* In front of the C library's, also for the library: a quick disk, or one that does not answer any more. */
int fdatasync(int fd)
{
    (void)fd;
    if (hangs) {
        sem_post(&hanging);
        for (;;)
            pause();
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void note(void *nothing, int level, const char *line)
{
    (void)nothing;
    complaints += level <= SKYTLS_LEVEL_WARN && strstr(line, "the spool was not written") != NULL;
}

/* Forks until the end is over, and holds each to a limit. */
static void *forker(void *nothing)
{
    while (!over) {
        int64_t begun = now_ms();
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        CHECK(now_ms() - begun < LONGEST_MS);
        reap(child);
    }
    return nothing;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    watchdog(60);
    bool well = strcmp(argv[1], "well") == 0;
    OK(skytls_log_set(SKYTLS_LEVEL_WARN, note, NULL, err));
    skytls_config *config = test_config();
    OK(skytls_config_set(config, "collector.backend_service", "localhost:1", err));
    OK(skytls_config_set(config, "spool.path", argv[2], err));
    OK(skytls_config_set(config, "spool.sync", "always", err));
    skytls_agent *agent = NULL;
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);
    CHECK(sem_init(&hanging, 0, 0) == 0);
    OK(skytls_agent_start(agent, err));
    if (!well) {
        hangs = true;
        OK(report_text(agent, "on its way to the disk", err));
        CHECK(sem_wait(&hanging) == 0);
    }
    for (int number = 0; number < RECORDS; number++)
        OK(report_text(agent, "queued", err));
    if (well)
        OK(skytls_agent_flush(agent, SKYTLS_DURABLE, 30000, err));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, forker, NULL) == 0);
    int64_t begun = now_ms();
    if (strcmp(argv[1], "free") != 0) {
        uint64_t lost = 0;
        OK(skytls_agent_stop(agent, well ? 1000 : 100, &lost, err));
        CHECK(well ? lost == 0 : lost >= RECORDS);
    }
    if (!well)
        CHECK(now_ms() - begun < LONGEST_MS);
    begun = now_ms();
    skytls_agent_free(agent);
    CHECK(now_ms() - begun < LONGEST_MS);
    over = true;
    CHECK(pthread_join(thread, NULL) == 0);
    printf("%d\n", (int)complaints);
    return 0;
}
