/* SPDX-License-Identifier: Apache-2.0
 * What the backend orders reaches the host: commands, profiling tasks, settings. Prints each as it comes, one a line,
 * and ends when all that the caller has the backend say is there. */
#include "check.h"

#include <pthread.h>
#include <time.h>

enum { COMMAND = 1, TASK = 2, VALUE = 4, GONE = 8, ALL = 15 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int seen, over;

/* Called one at a time; what is printed is a line of its own all the same. */
static void note(int what)
{
    pthread_mutex_lock(&lock);
    CHECK(!over);
    seen |= what;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void on_command(void *userdata, const skytls_command *command)
{
    CHECK(userdata == &seen && command->size == sizeof *command);
    printf("command %s", command->name);
    for (size_t i = 0; i < command->arguments; i++)
        printf(" %s=%s", command->keys[i], command->values[i]);
    printf("\n");
    note(COMMAND);
}

static void on_task(void *userdata, const skytls_profile_task *task)
{
    skytls_agent *agent = *(skytls_agent **)userdata;
    CHECK(task->size == sizeof *task);
    printf("task %s of %s: %llu %llu %llu %llu %lld %lld\n", task->task_id, task->endpoint,
           (unsigned long long)task->duration, (unsigned long long)task->min_duration_threshold,
           (unsigned long long)task->dump_period, (unsigned long long)task->max_sampling_count,
           (long long)task->start_time, (long long)task->create_time);
    /* From a callback, as a profiler that has nothing to do would. */
    OK(skytls_agent_report(agent, SKYTLS_PROFILE_SNAPSHOT, (const uint8_t *)"", 0, err));
    OK(skytls_agent_finish_profile_task(agent, task->task_id, err));
    note(TASK);
}

static void on_value(void *userdata, const char *key, const char *value)
{
    CHECK(userdata == NULL);
    printf("value %s=%s\n", key, value == NULL ? "(default)" : value);
    note(value == NULL ? GONE : VALUE);
}

int main(void)
{
    static const char *const quick[] = {"collector.heartbeat_period",
                                        "collector.get_agent_dynamic_config_interval",
                                        "collector.get_profile_task_interval"};
    skytls_agent *agent = NULL;
    skytls_config *config = test_config();
    struct timespec until;
    watchdog(120);
    for (size_t i = 0; i < 3; i++)
        OK(skytls_config_set(config, quick[i], "1", err));
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);
    OK(skytls_agent_on_command(agent, on_command, &seen, err));
    OK(skytls_agent_on_profile_task(agent, on_task, &agent, err));
    OK(skytls_agent_watch(agent, "sample", on_value, NULL, err));
    FAILS(SKYTLS_NOT_STARTED, skytls_agent_finish_profile_task(agent, "t1", err));
    OK(skytls_agent_start(agent, err));
    FAILS(SKYTLS_ALREADY_STARTED, skytls_agent_on_profile_task(agent, NULL, NULL, err));
    FAILS(SKYTLS_ALREADY_STARTED, skytls_agent_watch(agent, "late", on_value, NULL, err));

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&lock);
    while (seen != ALL)
        CHECK(pthread_cond_timedwait(&changed, &lock, &until) == 0);
    pthread_mutex_unlock(&lock);
    OK(skytls_agent_stop(agent, 30000, NULL, err));
    /* None comes after the stop. */
    pthread_mutex_lock(&lock);
    over = 1;
    pthread_mutex_unlock(&lock);
    FAILS(SKYTLS_STOPPED, skytls_agent_finish_profile_task(agent, "t1", err));
    skytls_agent_free(agent);
    return 0;
}
