/* SPDX-License-Identifier: Apache-2.0
 * What the test programs have in common: a check that says where it failed, and a watchdog. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <signal.h>
#include <skytls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                         \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: pid %d: not true: %s\n", __FILE__, __LINE__, (int)getpid(),  \
                    #condition);                                                                 \
            _exit(1);                                                                            \
        }                                                                                        \
    } while (0)

/* A call that has to succeed; says which error it was. */
#define OK(call)                                                                                 \
    do {                                                                                         \
        skytls_error *err_ = NULL;                                                               \
        skytls_error **err = &err_;                                                              \
        if ((call) != SKYTLS_OK) {                                                               \
            fprintf(stderr, "%s:%d: pid %d: %s\n", __FILE__, __LINE__, (int)getpid(),            \
                    skytls_error_message(err_));                                                 \
            _exit(1);                                                                            \
        }                                                                                        \
        CHECK(err_ == NULL);                                                                     \
    } while (0)

/* A call that has to fail with that number, and to say the same in its error object. */
#define FAILS(number, call)                                                                      \
    do {                                                                                         \
        skytls_error *err_ = NULL;                                                               \
        skytls_error **err = &err_;                                                              \
        int got_ = (call);                                                                       \
        if (got_ != (number)) {                                                                  \
            fprintf(stderr, "%s:%d: %d instead of %d: %s\n", __FILE__, __LINE__, got_, (number), \
                    skytls_error_message(err_));                                                 \
            _exit(1);                                                                            \
        }                                                                                        \
        CHECK(err_ != NULL && skytls_error_code(err_) == (number));                              \
        skytls_error_free(err_);                                                                 \
    } while (0)

/* LeakSanitizer judges the process that was started. To a forked child everything is lost that only threads of its
 * parent knew, for these are not there; which is no leak, and nothing that could be mended. */
static pid_t started_;
int __lsan_is_turned_off(void);

__attribute__((constructor)) static void note_start_(void)
{
    started_ = getpid();
}

__attribute__((used)) int __lsan_is_turned_off(void)
{
    return getpid() != started_;
}

/* Ends the process with SIGALRM if it hangs. */
static inline void watchdog(unsigned seconds)
{
    alarm(seconds);
}

/* Settings for the backend of the test, by TLS. */
static inline skytls_config *test_config(void)
{
    const char *backend = getenv("SKYTLS_TEST_BACKEND"), *ca = getenv("SKYTLS_TEST_CA");
    skytls_config *config = skytls_config_new();
    CHECK(config != NULL);
    OK(skytls_config_set(config, "agent.service_name", "c-test", err));
    if (backend != NULL)
        OK(skytls_config_set(config, "collector.backend_service", backend, err));
    if (ca != NULL)
        OK(skytls_config_set(config, "agent.ssl_trusted_ca_path", ca, err));
    const char *fips = getenv("SKYTLS_TEST_FIPS");
    if (fips != NULL) {
        OK(skytls_config_set(config, "agent.ssl_fips", "required", err));
        OK(skytls_config_set(config, "agent.ssl_fips_config", fips, err));
    }
    return config;
}

static inline skytls_agent *test_agent(void)
{
    skytls_config *config = test_config();
    skytls_agent *agent = NULL;
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);
    return agent;
}

static inline skytls_status status_of(const skytls_agent *agent)
{
    skytls_status status;
    memset(&status, 0xA5, sizeof status);
    status.size = sizeof status;
    OK(skytls_agent_status(agent, &status, err));
    CHECK(status.size == sizeof status);
    CHECK(status.accepted + status.recovered ==
          status.acknowledged + status.dropped + status.pending);
    return status;
}

static inline int report_text(skytls_agent *agent, const char *text, skytls_error **err)
{
    return skytls_agent_report(agent, SKYTLS_SEGMENT, (const uint8_t *)text, strlen(text), err);
}

#endif
