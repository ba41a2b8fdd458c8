/* SPDX-License-Identifier: Apache-2.0
 * A fork by the very thread that starts an agent, while it reads the CA file: as a PKCS#11 module does that runs a
 * program. The same thread forks once more later, and that child reports. */
#include "children.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/syscall.h>

static skytls_agent *agent;
static const char *ca;
static int forks;

/* In front of the C library's, also for the library. */
int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    if (ca != NULL && forks == 0 && strcmp(path, ca) == 0) {
        forks++;
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        reap(child);
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* A thread that starts an agent takes no signal, so that an alarm would end nothing. */
static void *watch(void *nothing)
{
    sleep(60);
    fprintf(stderr, "hangs\n");
    _exit(1);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, watch, NULL) == 0);
    agent = test_agent();
    ca = getenv("SKYTLS_TEST_CA");
    CHECK(ca != NULL);
    OK(skytls_agent_start(agent, err));
    CHECK(forks == 1);
    OK(report_text(agent, "of the parent", err));
    pid_t child = fork();
    if (child == 0) {
        watchdog(60);
        OK(report_text(agent, "of the child", err));
        OK(skytls_agent_stop(agent, 30000, NULL, err));
        skytls_agent_free(agent);
        _exit(0);
    }
    reap(child);
    OK(skytls_agent_stop(agent, 30000, NULL, err));
    skytls_agent_free(agent);
    return 0;
}
