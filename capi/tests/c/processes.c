/* SPDX-License-Identifier: Apache-2.0
 * What else processes do: daemon(), double fork, vfork and exec, fork in a callback, workers that give root up.
 * Usage: processes CASE */
#include "children.h"

static skytls_agent *agent;

static void deliver(const char *text)
{
    OK(report_text(agent, text, err));
    OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));
}

/* The parent's process ends in daemon(); what goes on is its child, and tells the one before by a pipe. */
static void as_daemon(void)
{
    int ends[2];
    char byte = 0;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        deliver("before daemon");
        CHECK(daemon(1, 1) == 0);
        watchdog(60);
        deliver("after daemon");
        CHECK(write(ends[1], "x", 1) == 1);
        exit(0);
    }
    close(ends[1]);
    reap(pid);
    CHECK(read(ends[0], &byte, 1) == 1);
}

static void double_fork(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            /* Its parent has never used the agent. */
            deliver("grandchild");
            OK(skytls_agent_stop(agent, 1000, NULL, err));
            skytls_agent_free(agent);
            exit(0);
        }
        reap(pid);
        deliver("child");
        exit(0);
    }
    reap(pid);
    deliver("parent");
}

static void vfork_and_exec(void)
{
    for (volatile int i = 0; i < 50; i++) {
        OK(report_text(agent, i % 2 ? "odd" : "even", err));
        pid_t pid = vfork();
        CHECK(pid >= 0);
        if (pid == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        reap(pid);
        CHECK(system("true") == 0);
    }
    OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));
    CHECK(status_of(agent).accepted == 51);
}

static void fork_on_state(void *userdata, int state, const skytls_error *why)
{
    (void)userdata;
    (void)why;
    if (state != SKYTLS_STATE_READY)
        return;
    /* The library's own thread forks: it must not wait for itself. */
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        _exit(0);
    reap(pid);
}

/* The start has something to say, and the host forks when it hears of it: the start is over for the child. */
static void fork_on_line(void *done, int level, const char *line)
{
    (void)level;
    if (strstr(line, "SKT-214") == NULL)
        return;
    *(int *)done = 1;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        /* A callback may not wait, so the exit delivers. */
        OK(report_text(agent, "of the child", err));
        exit(0);
    }
    reap(pid);
}

static void while_starting(void)
{
    int done = 0;
    skytls_agent *own = agent;
    agent = test_agent();
    OK(skytls_agent_set_exit_timeout(agent, 30000, err));
    OK(skytls_log_set(SKYTLS_LEVEL_WARN, fork_on_line, &done, err));
    OK(skytls_agent_start(agent, err));
    OK(skytls_log_set(SKYTLS_LEVEL_WARN, NULL, NULL, err));
    CHECK(done);
    deliver("of the parent");
    skytls_agent_free(own);
}

/* A child that is not told to, and one whose parent has freed or stopped the agent. */
static void odd_orders(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        /* Nothing was reported here. */
        OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 0, err));
        uint64_t lost = 77;
        OK(skytls_agent_stop(agent, 0, &lost, err));
        CHECK(lost == 0);
        FAILS(SKYTLS_STOPPED, report_text(agent, "x", err));
        skytls_agent_free(agent);
        /* A new one may be made. */
        agent = test_agent();
        OK(skytls_agent_start(agent, err));
        deliver("an agent of the child");
        exit(0);
    }
    reap(pid);
    OK(skytls_agent_stop(agent, 30000, NULL, err));
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        FAILS(SKYTLS_STOPPED, report_text(agent, "x", err));
        OK(skytls_after_fork_child(agent, err));
        CHECK(status_of(agent).state == SKYTLS_STATE_STOPPED);
        exit(0);
    }
    reap(pid);
}

/* Made, but started only in the children: as a server does it whose master must have no threads. */
static void started_in_children(void)
{
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            FAILS(SKYTLS_NOT_STARTED, report_text(agent, "x", err));
            OK(skytls_agent_start(agent, err));
            deliver("worker");
            exit(0);
        }
        reap(pid);
    }
    CHECK(status_of(agent).state == SKYTLS_STATE_NEW);
}

/* The CA's file cannot be read in the child: it is told so, and may try again. */
static void without_files(void)
{
    char copy[] = "/tmp/skytls-ca-XXXXXX", command[512];
    int fd = mkstemp(copy);
    CHECK(fd >= 0 && close(fd) == 0);
    snprintf(command, sizeof command, "cp '%s' '%s'", getenv("SKYTLS_TEST_CA"), copy);
    CHECK(system(command) == 0);
    skytls_config *config = test_config();
    skytls_agent *own = NULL;
    OK(skytls_config_set(config, "agent.ssl_trusted_ca_path", copy, err));
    OK(skytls_agent_new(config, &own, err));
    skytls_config_free(config);
    OK(skytls_agent_start(own, err));
    CHECK(unlink(copy) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        FAILS(201, report_text(own, "x", err));
        FAILS(201, skytls_after_fork_child(own, err));
        CHECK(status_of(own).state == SKYTLS_STATE_FAILED && status_of(own).error == 201);
        CHECK(system(command) != -1);
        snprintf(command, sizeof command, "cp '%s' '%s'", getenv("SKYTLS_TEST_CA"), copy);
        CHECK(system(command) == 0);
        /* Reports do not try by themselves: a start is too dear for that. */
        FAILS(201, report_text(own, "x", err));
        OK(skytls_after_fork_child(own, err));
        OK(report_text(own, "after all", err));
        OK(skytls_agent_flush(own, SKYTLS_DELIVERED, 30000, err));
        CHECK(unlink(copy) == 0);
        exit(0);
    }
    reap(pid);
    skytls_agent_free(own);
}

static skytls_agent *spooling(const char *folder, const char *backend)
{
    skytls_config *config = test_config();
    skytls_agent *own = NULL;
    OK(skytls_config_set(config, "spool.path", folder, err));
    if (backend != NULL)
        OK(skytls_config_set(config, "collector.backend_service", backend, err));
    OK(skytls_agent_new(config, &own, err));
    skytls_config_free(config);
    OK(skytls_agent_start(own, err));
    return own;
}

/* Parent and child store their records apart, nobody delivers; later ones do, each record once. */
static void with_spool(void)
{
    char folder[] = "/tmp/skytls-spool-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    skytls_agent *own = spooling(folder, "localhost:1");
    OK(report_text(own, "stored by the parent", err));
    OK(skytls_agent_flush(own, SKYTLS_DURABLE, 30000, err));
    FAILS(SKYTLS_STILL_PENDING, skytls_agent_flush(own, SKYTLS_DELIVERED, 20, err));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        OK(report_text(own, "stored by the child", err));
        OK(skytls_agent_flush(own, SKYTLS_DURABLE, 30000, err));
        CHECK(status_of(own).accepted == 1);
        exit(0);
    }
    reap(pid);
    OK(skytls_agent_stop(own, 0, NULL, err));
    skytls_agent_free(own);
    /* One agent takes over what one process has left. */
    skytls_agent *later[2] = {spooling(folder, NULL), spooling(folder, NULL)};
    for (int i = 0; i < 2; i++) {
        OK(skytls_agent_flush(later[i], SKYTLS_DELIVERED, 30000, err));
        skytls_agent_free(later[i]);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK(system(command) == 0);
}

/* A process dies while a child of it lives on, with all the descriptors it had: what it has stored is
   nobody's, and the next one delivers it. */
static void with_survivor(void)
{
    char folder[] = "/tmp/skytls-spool-XXXXXX";
    int told[2];
    pid_t survivor = 0;
    int status = 0;
    CHECK(mkdtemp(folder) != NULL);
    CHECK(pipe(told) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        skytls_agent *own = spooling(folder, "localhost:1");
        OK(report_text(own, "stored by the dead", err));
        OK(skytls_agent_flush(own, SKYTLS_DURABLE, 30000, err));
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            for (;;)
                pause();
        }
        CHECK(write(told[1], &child, sizeof child) == sizeof child);
        raise(SIGKILL);
    }
    CHECK(read(told[0], &survivor, sizeof survivor) == sizeof survivor);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    CHECK(kill(survivor, 0) == 0);
    skytls_agent *later = spooling(folder, NULL);
    OK(skytls_agent_flush(later, SKYTLS_DELIVERED, 30000, err));
    skytls_agent_free(later);
    CHECK(kill(survivor, SIGKILL) == 0);
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK(system(command) == 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"daemon", as_daemon},       {"double", double_fork},
        {"vfork", vfork_and_exec},   {"callback", NULL},
        {"orders", odd_orders},      {"workers", started_in_children},
        {"files", without_files},    {"spool", with_spool},
        {"survivor", with_survivor}, {"starting", while_starting},
    };
    CHECK(argc == 2);
    watchdog(120);
    agent = test_agent();
    if (strcmp(argv[1], "callback") == 0)
        OK(skytls_agent_on_state(agent, fork_on_state, NULL, err));
    if (strcmp(argv[1], "workers") != 0)
        OK(skytls_agent_start(agent, err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(argv[1], cases[i].name) == 0 && cases[i].run != NULL)
            cases[i].run();
    if (strcmp(argv[1], "callback") == 0)
        deliver("after the callback");
    skytls_agent_free(agent);
    puts(argv[1]);
    return 0;
}
