/* SPDX-License-Identifier: Apache-2.0
 * A program that exits while the library is at work. Usage: exits MODE MICROSECONDS [CHILDREN]
 *
 * It initialises OpenSSL itself first, so that OpenSSL's own clean-up runs at its exit, starts an agent, lets two
 * threads report, and exits after MICROSECONDS without a word to the library: wherever that is, in the middle of a
 * handshake or of a record.
 *
 * MODE: exit calls exit(), return returns from main, deliver has set a deadline for exit and prints how many records
 * were taken, thread exits in a thread of its own.
 *
 * With CHILDREN, it is that many forked children that do so, a few at a time, by all three modes in turn, at moments up
 * to MICROSECONDS, every fourth with the backend SKYTLS_TEST_SILENT, which never ends a handshake. They save what a program
 * spends on being loaded. A child that does not exit with 0 fails the program. */
#include "children.h"

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

static const char *const modes[] = {"exit", "return", "thread"};

/* The mode of this child, and when it is to exit; NULL in the parent, once all have. */
static const char *child_of(long children, unsigned *microseconds)
{
    enum { AT_A_TIME = 64 };
    const char *silent = getenv("SKYTLS_TEST_SILENT");
    skytls_config *config = test_config();
    static skytls_agent *other;
    CHECK(silent != NULL);
    OK(skytls_config_set(config, "collector.backend_service", silent, err));
    OK(skytls_agent_new(config, &other, err));
    skytls_config_free(config);
    for (long number = 0; number < children; number++) {
        if (number >= AT_A_TIME)
            reap(-1);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            watchdog(60);
            agent = number % 4 == 0 ? other : agent;
            *microseconds = (unsigned)(number * 7919 % (*microseconds + 1));
            return modes[number % 3];
        }
    }
    for (long left = children < AT_A_TIME ? children : AT_A_TIME; left > 0; left--)
        reap(-1);
    return NULL;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3 || argc == 4);
    unsigned char random[16];
    const char *mode = argv[1];
    unsigned microseconds = (unsigned)atol(argv[2]);
    watchdog(argc == 3 ? 60 : 3000);
    CHECK(atexit(late) == 0);
    CHECK(OPENSSL_init_ssl(0, NULL) == 1 && RAND_bytes(random, sizeof random) == 1);

    agent = test_agent();
    if (strcmp(mode, "deliver") == 0) {
        OK(skytls_agent_set_exit_timeout(agent, 30000, err));
        OK(skytls_agent_start(agent, err));
        for (int i = 0; i < 500; i++)
            OK(report_text(agent, "to be delivered", err));
        return 0;
    }
    if (argc == 4) {
        mode = child_of(atol(argv[3]), &microseconds);
        if (mode == NULL)
            return 0;
    }
    OK(skytls_agent_start(agent, err));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, reporter, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, reporter, NULL) == 0);
    usleep((useconds_t)microseconds);
    if (strcmp(mode, "return") == 0)
        return 0;
    if (strcmp(mode, "thread") == 0) {
        CHECK(pthread_create(&thread, NULL, quitter, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    exit(0);
}
