/* SPDX-License-Identifier: Apache-2.0
 * Forks while the parent is looking a name up, shaking hands, or whatever comes next after a start. Usage:
 * fork_at_start ROUNDS. Prints how many records the children have delivered. */
#include "children.h"

static void round_of(long number)
{
    skytls_agent *agent = test_agent();
    OK(skytls_agent_start(agent, err));
    /* From within the first step to after the last one. */
    usleep((useconds_t)(number * 97 % 4000));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char text[32];
        watchdog(30);
        snprintf(text, sizeof text, "s%ld", number);
        OK(report_text(agent, text, err));
        OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 20000, err));
        exit(0);
    }
    reap(pid);
    skytls_agent_free(agent);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    long rounds = atol(argv[1]);
    watchdog(600);
    for (long number = 0; number < rounds; number++)
        round_of(number);
    printf("%ld\n", rounds);
    return 0;
}
