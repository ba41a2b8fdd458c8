/* SPDX-License-Identifier: Apache-2.0
 * An exit while another thread of the host is in the middle of something. Usage: late CASE
 *
 * start: another agent is being started, and waits for a file that never comes. limit: the exit waits for records, and
 * another thread calls the library meanwhile. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

static skytls_agent *agent, *other;
static char never[] = "/tmp/skytls-never-XXXXXX";
static sem_t opening;
enum { LIMIT = 2000 };
static atomic_llong exiting;
static atomic_long calls;

/* In front of the C library's, also for the library: a file that never opens. */
int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    if (strcmp(path, never) == 0) {
        sem_post(&opening);
        for (;;)
            pause();
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static int64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Runs after the library's exit handler: it was registered before. */
static void after_start(void)
{
    uint64_t before = status_of(agent).acknowledged;
    CHECK(before > 0);
    OK(report_text(agent, "too late", err));
    /* The thread stands still: nobody sends it, however long one waits. */
    for (int64_t end = now_ms() + 300; now_ms() < end; sched_yield())
        CHECK(status_of(agent).acknowledged == before);
    unlink(never);
}

static void after_limit(void)
{
    /* The calls went on while the exit waited for records. */
    CHECK(calls > 0);
}

static void *starter(void *nothing)
{
    skytls_agent_start(other, NULL);
    return nothing;
}

static void *caller(void *config)
{
    for (;;) {
        /* In the second half of the wait. */
        int late = exiting != 0 && now_ms() - exiting > LIMIT / 2;
        OK(skytls_config_set(config, "agent.service_name", "c-test", err));
        calls += late;
        sched_yield();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    CHECK(argc == 2);
    watchdog(60);
    bool start = strcmp(argv[1], "start") == 0;
    CHECK(atexit(start ? after_start : after_limit) == 0);
    skytls_config *config = test_config();
    if (!start) {
        OK(skytls_config_set(config, "collector.backend_service", "localhost:1", err));
        OK(skytls_agent_new(config, &agent, err));
        OK(skytls_agent_set_exit_timeout(agent, LIMIT, err));
        OK(skytls_agent_start(agent, err));
        OK(report_text(agent, "nobody takes it", err));
        CHECK(pthread_create(&thread, NULL, caller, config) == 0);
        exiting = now_ms();
        exit(0);
    }
    agent = test_agent();
    OK(skytls_agent_start(agent, err));
    OK(report_text(agent, "in time", err));
    OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));
    int fd = mkstemp(never);
    CHECK(fd >= 0 && close(fd) == 0 && sem_init(&opening, 0, 0) == 0);
    OK(skytls_config_set(config, "agent.ssl_trusted_ca_path", never, err));
    OK(skytls_agent_new(config, &other, err));
    CHECK(pthread_create(&thread, NULL, starter, NULL) == 0);
    CHECK(sem_wait(&opening) == 0);
    exit(0);
}
