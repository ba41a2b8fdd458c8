/* SPDX-License-Identifier: Apache-2.0
 * For test programs with children. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include "check.h"

#include <sys/wait.h>

/* Waits for the end of a child, -1: of any, which has to be a good one. */
static inline void reap(pid_t child)
{
    int status;
    pid_t pid = waitpid(child, &status, 0);
    CHECK(pid > 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "child %d: status %#x\n", (int)pid, (unsigned)status);
        _exit(1);
    }
}

#endif
