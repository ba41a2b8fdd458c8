/* SPDX-License-Identifier: Apache-2.0
 * What a report costs the thread that makes it. Usage: costs THREADS REPORTS BYTES BURST PAUSE COUNT
 *
 * Each thread reports REPORTS messages of BYTES bytes, BURST of them in a row and then nothing for PAUSE microseconds,
 * and measures each call; the time that measuring takes is subtracted. If COUNT is 1, the system calls of these threads are
 * counted, which makes them dear: a seccomp filter makes each a signal, whose handler makes the call. Prints one line:
 * threads, reports, refused, then nanoseconds (median, 99 %, 99.9 %, the longest), then system calls in reports: wakes and waits,
 * memory, others. */
#include "check.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

static skytls_agent *agent;
static long reports, bytes, burst, pause_us, counting;
static uint32_t *times;
static atomic_long refused, wakes, memory, others;
static pthread_barrier_t barrier;

/* Whether this thread is in a report. */
static _Thread_local volatile int measuring;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

#ifdef __x86_64__
/* The one place from which system calls are let through: the filter knows its address. */
long through(long number, long a, long b, long c, long d, long e, long f);
extern const char through_end[];
__asm__(".text\n.globl through\nthrough:\n"
        "mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\nmov %r8, %r10\nmov %r9, %r8\n"
        "mov 8(%rsp), %r9\nsyscall\n.globl through_end\nthrough_end:\nret\n");

static void on_call(int number, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    if (measuring)
        switch (info->si_syscall) {
        case SYS_futex:
        case SYS_write: wakes++; break;
        case SYS_brk:
        case SYS_mmap:
        case SYS_munmap:
        case SYS_mprotect: memory++; break;
        default: others++;
        }
    r[REG_RAX] = through(info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]);
}

/* From now on the system calls of this thread are counted. */
static void count_calls(void)
{
    uint64_t end = (uint64_t)(uintptr_t)through_end;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)end, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(end >> 32), 3, 0),
        /* The end of the handler itself, and of the thread, whose signals are blocked by then. */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    /* It counts. */
    measuring = 1;
    CHECK(syscall(SYS_getppid) == through(SYS_getppid, 0, 0, 0, 0, 0, 0));
    measuring = 0;
    CHECK(others-- > 0);
}
#else
static void count_calls(void)
{
}
#endif

static void *reporter(void *mine)
{
    uint32_t *time = mine;
    uint64_t self = UINT64_MAX;
    uint8_t *message = malloc((size_t)bytes);
    CHECK(message != NULL);
    memset(message, 'x', (size_t)bytes);
    for (int i = 0; i < 1000; i++) {
        uint64_t begun = now(), took = now() - begun;
        self = took < self ? took : self;
    }
    if (counting)
        count_calls();
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < reports; i++) {
        uint64_t begun = now();
        measuring = 1;
        int result = skytls_agent_report(agent, SKYTLS_SEGMENT, message, (size_t)bytes, NULL);
        measuring = 0;
        uint64_t took = now() - begun;
        CHECK(result == SKYTLS_OK || result == SKYTLS_QUEUE_FULL);
        refused += result != SKYTLS_OK;
        time[i] = (uint32_t)(took < self ? 0 : took - self > UINT32_MAX ? UINT32_MAX : took - self);
        if (pause_us > 0 && i % burst == burst - 1)
            usleep((useconds_t)pause_us);
    }
    free(message);
    return NULL;
}

int main(int argc, char **argv)
{
    CHECK(argc == 7);
    long threads = atol(argv[1]);
    reports = atol(argv[2]), bytes = atol(argv[3]), burst = atol(argv[4]), pause_us = atol(argv[5]);
    counting = atol(argv[6]);
    size_t count = (size_t)(threads * reports);
    pthread_t *ids = calloc((size_t)threads, sizeof *ids);
    times = malloc(count * sizeof *times);
    CHECK(ids != NULL && times != NULL);
    /* In memory before it is written to in the measurement. */
    memset(times, 1, count * sizeof *times);
    watchdog(300);

    skytls_config *config = test_config();
    OK(skytls_config_set(config, "buffer.max_bytes", "2000000000", err));
    OK(skytls_config_set(config, "buffer.buffer_size", "1000000", err));
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);
    OK(skytls_agent_start(agent, err));
    OK(report_text(agent, "the first", err));
    OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));

    CHECK(pthread_barrier_init(&barrier, NULL, (unsigned)threads) == 0);
    for (long i = 0; i < threads; i++)
        CHECK(pthread_create(&ids[i], NULL, reporter, times + i * reports) == 0);
    for (long i = 0; i < threads; i++)
        CHECK(pthread_join(ids[i], NULL) == 0);
    OK(skytls_agent_stop(agent, 120000, NULL, err));
    skytls_status status = status_of(agent);
    CHECK(status.acknowledged + (uint64_t)refused >= count && status.dropped == 0);
    skytls_agent_free(agent);

    qsort(times, count, sizeof *times, by_size);
    printf("%ld %zu %ld %u %u %u %u %ld %ld %ld\n", threads, count, (long)refused, times[count / 2],
           times[count - 1 - count / 100], times[count - 1 - count / 1000], times[count - 1], (long)wakes,
           (long)memory, (long)others);
    free(times);
    free(ids);
    return 0;
}
