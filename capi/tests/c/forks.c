/* SPDX-License-Identifier: Apache-2.0
 * Forks while threads report. Usage: forks FORKS THREADS
 *
 * The agent runs in the parent, THREADS threads report without a pause, and the main thread forks. Each child
 * reports a few records of its own, one way or another, and exits. The books of the parent and of every child
 * have to add up; the caller compares them with what has arrived, record by record. Prints how many records
 * were taken over by the parent and by all children, and how many microseconds the library held up a fork: median,
 * 99 %, and the longest. A process that hangs is killed by its watchdog. */
#include "children.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

enum { RECORDS_OF_A_CHILD = 5, CHILDREN_AT_A_TIME = 8 };

static skytls_agent *agent;
static atomic_int over;
static atomic_ullong taken;
/* Shared with the children. */
static atomic_ullong *taken_by_children;

/* The allocator of AddressSanitizer has locks of which fork() knows nothing before GCC 14: with it, no other
 * thread of the host is to be in there. */
#ifdef __SANITIZE_ADDRESS__
static pthread_mutex_t allocating = PTHREAD_MUTEX_INITIALIZER;
#define ALONE(statement)                                                                         \
    do {                                                                                         \
        pthread_mutex_lock(&allocating);                                                         \
        statement;                                                                               \
        pthread_mutex_unlock(&allocating);                                                       \
    } while (0)
#else
#define ALONE(statement) statement
#endif

static void report_numbered(char who, long id, long number)
{
    char text[64];
    snprintf(text, sizeof text, "%c%ld:%ld", who, id, number);
    OK(report_text(agent, text, err));
}

/* Handlers of forks run the last one first: one in front of the library's, and one behind it. */
static uint64_t begun, *waits;
static size_t waited;

static uint64_t now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

static void before_the_librarys(void)
{
    begun = now_us();
}

static void after_the_librarys(void)
{
    if (begun != 0)
        waits[waited++] = now_us() - begun;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void *reporter(void *id)
{
    for (long number = 0; !over; number++) {
        char text[64];
        snprintf(text, sizeof text, "t%ld:%ld", (long)(intptr_t)id, number);
        int result;
        ALONE(result = report_text(agent, text, NULL));
        CHECK(result == SKYTLS_OK || result == SKYTLS_QUEUE_FULL);
        if (result == SKYTLS_OK)
            taken++;
        usleep(200);
    }
    return NULL;
}

/* What a worker does: some with a call at their start, some without, some free, some just exit. */
static void child(long number)
{
    watchdog(60);
    CHECK(status_of(agent).state == SKYTLS_STATE_NEW && status_of(agent).accepted == 0);
    if (number % 16 == 7) {
        /* Never uses it. */
        skytls_agent_free(agent);
        exit(0);
    }
    if (number % 3 == 0)
        OK(skytls_after_fork_child(agent, err));
    for (long i = 0; i < RECORDS_OF_A_CHILD; i++)
        report_numbered('c', number, i);
    if (number % 16 == 3) {
        /* A grandchild, which is a child like any other. */
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            watchdog(60);
            CHECK(status_of(agent).accepted == 0);
            report_numbered('g', number, 0);
            OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));
            CHECK(status_of(agent).acknowledged == 1);
            *taken_by_children += 1;
            exit(0);
        }
        reap(pid);
    }
    if (number % 2 == 0) {
        OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));
    } else {
        uint64_t lost = 77;
        OK(skytls_agent_stop(agent, 30000, &lost, err));
        CHECK(lost == 0);
    }
    skytls_status status = status_of(agent);
    CHECK(status.accepted == RECORDS_OF_A_CHILD && status.acknowledged == RECORDS_OF_A_CHILD);
    CHECK(status.dropped == 0 && status.pending == 0);
    *taken_by_children += RECORDS_OF_A_CHILD;
    if (number % 5 == 0)
        skytls_agent_free(agent);
    exit(0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    long forks = atol(argv[1]);
    long threads = atol(argv[2]);
    pthread_t *ids = calloc((size_t)threads, sizeof *ids);
    watchdog(600);
    taken_by_children = mmap(NULL, sizeof *taken_by_children, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* And one for a grandchild, which has a copy. */
    waits = calloc((size_t)forks + 1, sizeof *waits);
    CHECK(ids != NULL && waits != NULL && taken_by_children != MAP_FAILED);

    CHECK(pthread_atfork(after_the_librarys, NULL, NULL) == 0);
    agent = test_agent();
    CHECK(pthread_atfork(before_the_librarys, NULL, NULL) == 0);
    OK(skytls_agent_start(agent, err));
    for (long i = 0; i < threads; i++)
        CHECK(pthread_create(&ids[i], NULL, reporter, (void *)(intptr_t)i) == 0);

    long alive = 0;
    for (long number = 0; number < forks; number++, alive++) {
        if (alive == CHILDREN_AT_A_TIME) {
            reap(-1);
            alive--;
        }
        pid_t pid;
        ALONE(pid = fork());
        CHECK(pid >= 0);
        if (pid == 0)
            child(number);
    }
    for (; alive > 0; alive--)
        reap(-1);
    over = 1;
    for (long i = 0; i < threads; i++)
        CHECK(pthread_join(ids[i], NULL) == 0);

    OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 60000, err));
    skytls_status status = status_of(agent);
    /* And the event that says that the instance has started; children have none. */
    CHECK(status.accepted == taken + 1 && status.acknowledged == taken + 1 && status.dropped == 0);
    OK(skytls_agent_stop(agent, 1000, NULL, err));
    skytls_agent_free(agent);
    free(ids);
    CHECK(waited == (size_t)forks);
    qsort(waits, waited, sizeof *waits, by_size);
    printf("%llu %llu %llu %llu %llu\n", (unsigned long long)taken, (unsigned long long)*taken_by_children,
           (unsigned long long)waits[waited / 2], (unsigned long long)waits[waited - 1 - waited / 100],
           (unsigned long long)waits[waited - 1]);
    free(waits);
    return 0;
}
