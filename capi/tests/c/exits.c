/* SPDX-License-Identifier: Apache-2.0
 * A program that exits while the library is at work. Usage: exits MODE MICROSECONDS
 *
 * It initialises OpenSSL itself first, so that OpenSSL's own clean-up runs at its exit, starts an agent, lets two
 * threads report, and exits after MICROSECONDS without a word to the library: wherever that is, in the middle of a
 * handshake or of a record.
 *
 * MODE: exit calls exit(), return returns from main, deliver has set a deadline for exit and prints how many records
 * were taken, thread exits in a thread of its own. */
#include "check.h"

#include <pthread.h>

/* Of the OpenSSL that the host uses; in a build with OpenSSL built in, that is another one. */
extern int OPENSSL_init_ssl(uint64_t options, const void *settings);
extern int RAND_bytes(unsigned char *buffer, int length);

static skytls_agent *agent;

static void *reporter(void *nothing)
{
    for (;;) {
        report_text(agent, "0123456789", NULL);
        usleep(50);
    }
    return nothing;
}

static void *quitter(void *nothing)
{
    exit(0);
    return nothing;
}

/* Registered before anything of the library: runs after its exit handler. */
static void late(void)
{
    if (agent == NULL)
        return;
    /* Nothing of this may wait, let alone crash. */
    report_text(agent, "late", NULL);
    skytls_agent_flush(agent, SKYTLS_DELIVERED, 10000, NULL);
    skytls_agent_stop(agent, 10000, NULL, NULL);
    skytls_agent_free(agent);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    unsigned char random[16];
    watchdog(60);
    CHECK(atexit(late) == 0);
    CHECK(OPENSSL_init_ssl(0, NULL) == 1 && RAND_bytes(random, sizeof random) == 1);

    agent = test_agent();
    if (strcmp(argv[1], "deliver") == 0) {
        OK(skytls_agent_set_exit_timeout(agent, 30000, err));
        OK(skytls_agent_start(agent, err));
        for (int i = 0; i < 500; i++)
            OK(report_text(agent, "to be delivered", err));
        return 0;
    }
    OK(skytls_agent_start(agent, err));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, reporter, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, reporter, NULL) == 0);
    usleep((useconds_t)atol(argv[2]));
    if (strcmp(argv[1], "return") == 0)
        return 0;
    if (strcmp(argv[1], "thread") == 0) {
        CHECK(pthread_create(&thread, NULL, quitter, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    exit(0);
}
