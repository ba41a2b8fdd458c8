/* SPDX-License-Identifier: Apache-2.0
 * An agent from start to stop, over TLS, from several threads, with all its callbacks. Prints how many records
 * the library says have arrived. */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <time.h>

enum { THREADS = 4, RECORDS = 250 };

struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ready;
    int lines;
    int refused_in_callback;
    char thread[16];
};

static struct seen seen = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, ""};
static skytls_agent *agent;

static void on_state(void *userdata, int state, const skytls_error *why)
{
    CHECK(userdata == &seen);
    CHECK((why != NULL) == (state == SKYTLS_STATE_RESTING));
    /* What waits for this very thread is refused, what does not is welcome. */
    int refused = skytls_agent_flush(agent, SKYTLS_DELIVERED, 1000, NULL) == SKYTLS_IN_CALLBACK &&
                  skytls_agent_stop(agent, 0, NULL, NULL) == SKYTLS_IN_CALLBACK &&
                  skytls_agent_start(agent, NULL) == SKYTLS_IN_CALLBACK &&
                  skytls_after_fork_child(agent, NULL) == SKYTLS_IN_CALLBACK &&
                  skytls_log_set(SKYTLS_LEVEL_INFO, NULL, NULL, NULL) == SKYTLS_IN_CALLBACK;
    skytls_agent_free(agent);
    (void)status_of(agent);
    pthread_mutex_lock(&seen.lock);
    seen.refused_in_callback = refused;
    seen.ready |= state == SKYTLS_STATE_READY;
    pthread_getname_np(pthread_self(), seen.thread, sizeof seen.thread);
    pthread_cond_signal(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
}

static void on_line(void *userdata, int level, const char *line)
{
    CHECK(userdata == &seen && level >= SKYTLS_LEVEL_ERROR && level <= SKYTLS_LEVEL_INFO);
    CHECK(line[0] != '\0' && strchr(line, '\n') == NULL);
    pthread_mutex_lock(&seen.lock);
    seen.lines++;
    pthread_mutex_unlock(&seen.lock);
}

static void *reporter(void *name)
{
    for (int i = 0; i < RECORDS; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s %d", (const char *)name, i);
        OK(report_text(agent, text, err));
    }
    return NULL;
}

/* The library's threads have its name and block every signal that can be blocked. */
static void threads_are_known_and_quiet(void)
{
    int found = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[256], name[64] = "";
        unsigned long long blocked = 0;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (file == NULL)
            continue;
        while (fgets(line, sizeof line, file) != NULL) {
            sscanf(line, "Name: %63s", name);
            sscanf(line, "SigBlk: %llx", &blocked);
        }
        fclose(file);
        if (strcmp(name, "skytls") == 0) {
            found++;
            for (int number = 1; number < 32; number++)
                CHECK(number == SIGKILL || number == SIGSTOP || (blocked >> (number - 1) & 1));
        }
    }
    closedir(tasks);
    /* One, and one more while the name is looked up and for ten seconds after. */
    CHECK(found >= 1 && found <= 2);
}

int main(void)
{
    pthread_t threads[THREADS];
    static char names[THREADS][8] = {"one", "two", "three", "four"};
    struct timespec until;
    watchdog(120);

    OK(skytls_log_set(SKYTLS_LEVEL_INFO, on_line, &seen, err));
    agent = test_agent();
    OK(skytls_agent_on_state(agent, on_state, &seen, err));
    OK(skytls_agent_start(agent, err));
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, reporter, names[i]) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);

    OK(skytls_agent_report_method(agent, "/skywalking.v3.EventService/collect",
                                  (const uint8_t *)"an event", 8, err));
    static const int kinds[] = {SKYTLS_LOG, SKYTLS_METER, SKYTLS_METER_BATCH, SKYTLS_JVM_METRIC,
                                SKYTLS_CLR_METRIC, SKYTLS_EVENT, SKYTLS_PROFILE_SNAPSHOT,
                                SKYTLS_SPAN_ATTACHED_EVENT, SKYTLS_BROWSER_PERF, SKYTLS_BROWSER_ERROR};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        OK(skytls_agent_report(agent, kinds[i], NULL, 0, err));
    OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&seen.lock);
    while (!seen.ready)
        CHECK(pthread_cond_timedwait(&seen.changed, &seen.lock, &until) == 0);
    CHECK(seen.refused_in_callback && strcmp(seen.thread, "skytls") == 0 && seen.lines > 0);
    pthread_mutex_unlock(&seen.lock);
    threads_are_known_and_quiet();

    skytls_status status = status_of(agent);
    CHECK(status.state == SKYTLS_STATE_READY && status.error == 0 && status.pending == 0);
    CHECK(strcmp(status.backend, getenv("SKYTLS_TEST_BACKEND")) == 0);
    CHECK(strncmp(status.protocol, "TLSv1.", 6) == 0 && status.cipher[0] != '\0');
    // Told exactly when it was asked for.
    bool proven = strstr(status.fips, ", 8 of 8 proofs") != NULL;
    CHECK(getenv("SKYTLS_TEST_FIPS") != NULL ? proven : status.fips[0] == '\0');
    uint64_t lost = 77;
    OK(skytls_agent_stop(agent, 1000, &lost, err));
    CHECK(lost == 0);
    int lines = seen.lines;
    OK(skytls_log_set(SKYTLS_LEVEL_INFO, NULL, NULL, err));
    skytls_agent_free(agent);
    CHECK(seen.lines == lines);
    printf("%llu\n", (unsigned long long)status.acknowledged);
    return 0;
}
