/* SPDX-License-Identifier: Apache-2.0
 * Every function with what it must not be given: NULL, wrong kinds, too small, too early, too late. No
 * network. */
#include "check.h"

static void null_is_an_error(void)
{
    skytls_config *config = skytls_config_new();
    skytls_agent *agent = NULL;
    char *text = (char *)&text;
    uint8_t byte = 0;
    uint64_t lost = 77;

    FAILS(SKYTLS_NULL_ARGUMENT, skytls_config_load_file(NULL, "x", err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_config_set(NULL, "agent.service_name", "x", err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_config_set(config, NULL, "x", err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_config_set(config, "agent.service_name", NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_config_dump(NULL, &text, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_config_dump(config, NULL, err));
    CHECK(text == (char *)&text);
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_new(NULL, &agent, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_new(config, NULL, err));
    CHECK(agent == NULL);
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_on_state(NULL, NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_on_command(NULL, NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_on_profile_task(NULL, NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_finish_profile_task(NULL, "t", err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_watch(NULL, "x", NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_describe(NULL, "c", NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_add_property(NULL, "x", "y", err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_set_exit_timeout(NULL, 1, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_start(NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_report(NULL, SKYTLS_SEGMENT, &byte, 1, err));
    FAILS(SKYTLS_NULL_ARGUMENT,
          skytls_agent_report_method(NULL, "/skywalking.v3.EventService/collect", &byte, 1, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_flush(NULL, SKYTLS_DELIVERED, 0, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_status(NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_stop(NULL, 0, &lost, err));
    CHECK(lost == 77);
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_after_fork_child(NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_library(NULL, err));

    /* Without a place for the error the number is still there. */
    CHECK(skytls_agent_start(NULL, NULL) == SKYTLS_NULL_ARGUMENT);

    skytls_config_free(config);
    skytls_config_free(NULL);
    skytls_agent_free(NULL);
    skytls_error_free(NULL);
    skytls_string_free(NULL);
}

static void errors_say_everything(void)
{
    skytls_config *config = skytls_config_new();
    skytls_error *error = NULL;
    CHECK(skytls_config_set(config, "collector.backend_servise", "x", &error) == 112);
    CHECK(skytls_error_code(error) == 112);
    CHECK(strcmp(skytls_error_name(error), "SKT-112") == 0);
    CHECK(strcmp(skytls_error_kind(error), "settings") == 0);
    CHECK(strcmp(skytls_error_stage(error), "settings") == 0);
    CHECK(strstr(skytls_error_text(error), "collector.backend_servise") != NULL);
    CHECK(strstr(skytls_error_message(error), "SKT-112") != NULL);
    CHECK(strstr(skytls_error_hint(error), "collector.backend_service") != NULL);
    CHECK(strcmp(skytls_error_fact(error, "key"), "collector.backend_servise") == 0);
    CHECK(skytls_error_fact(error, "file") == NULL);
    CHECK(skytls_error_fact(error, "colour") == NULL);
    CHECK(skytls_error_fact(error, NULL) == NULL);
    CHECK(skytls_error_openssl_reason(error) == NULL);
    CHECK(!skytls_error_retriable(error));
    skytls_error_free(error);

    CHECK(skytls_error_code(NULL) == SKYTLS_OK);
    CHECK(skytls_error_name(NULL)[0] == '\0' && skytls_error_kind(NULL)[0] == '\0');
    CHECK(skytls_error_stage(NULL)[0] == '\0' && skytls_error_text(NULL)[0] == '\0');
    CHECK(skytls_error_message(NULL)[0] == '\0' && skytls_error_hint(NULL)[0] == '\0');
    CHECK(skytls_error_openssl_reason(NULL) == NULL && skytls_error_fact(NULL, "key") == NULL);
    CHECK(skytls_error_retriable(NULL) == 0);
    skytls_config_free(config);
}

static void settings_are_checked_when_they_are_set(void)
{
    skytls_config *config = skytls_config_new();
    char *dump = NULL;
    FAILS(112, skytls_config_set(config, "no.such.key", "1", err));
    FAILS(110, skytls_config_set(config, "agent.force_tls", "perhaps", err));
    FAILS(SKYTLS_BAD_ARGUMENT, skytls_config_set(config, "agent.service_name", "\xff", err));
    FAILS(101, skytls_config_load_file(config, "/nowhere/agent.config", err));
    OK(skytls_config_set(config, "agent.service_name", "first", err));
    OK(skytls_config_set(config, "agent.service_name", "second", err));
    OK(skytls_config_set(config, "agent.authentication", "the-token", err));
    OK(skytls_config_load_file(config, NULL, err));
    OK(skytls_config_dump(config, &dump, err));
    CHECK(strstr(dump, "# override\nagent.service_name=second\n") != NULL);
    CHECK(strstr(dump, "the-token") == NULL);
    skytls_string_free(dump);

    /* What only shows together: an identity without TLS, no backend at all. */
    skytls_agent *agent = NULL;
    FAILS(115, skytls_agent_new(config, &agent, err));
    OK(skytls_config_set(config, "collector.backend_service", "oap:11800", err));
    FAILS(123, skytls_agent_new(config, &agent, err));
    CHECK(agent == NULL);
    OK(skytls_config_set(config, "agent.force_tls", "true", err));
    OK(skytls_config_set(config, "agent.service_name", "", err));
    FAILS(131, skytls_agent_new(config, &agent, err));
    OK(skytls_config_set(config, "agent.service_name", "third", err));
    OK(skytls_agent_new(config, &agent, err));
    skytls_agent_free(agent);
    skytls_config_free(config);
}

static void calls_come_in_order(void)
{
    skytls_config *config = test_config();
    skytls_agent *agent = NULL;
    uint64_t lost = 77;
    OK(skytls_config_set(config, "collector.backend_service", "127.0.0.1:1", err));
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);

    CHECK(status_of(agent).state == SKYTLS_STATE_NEW);
    FAILS(SKYTLS_NOT_STARTED, report_text(agent, "x", err));
    FAILS(SKYTLS_NOT_STARTED, skytls_agent_flush(agent, SKYTLS_DELIVERED, 0, err));
    OK(skytls_after_fork_child(agent, err));
    CHECK(status_of(agent).state == SKYTLS_STATE_NEW);
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_watch(agent, NULL, NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_watch(agent, "x", NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_describe(agent, NULL, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_add_property(agent, NULL, "y", err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_add_property(agent, "x", NULL, err));
    OK(skytls_agent_describe(agent, "php", "8.0", err));
    OK(skytls_agent_add_property(agent, "x", "y", err));

    OK(skytls_agent_start(agent, err));
    OK(skytls_agent_start(agent, err));
    FAILS(SKYTLS_ALREADY_STARTED, skytls_agent_on_state(agent, NULL, NULL, err));
    FAILS(SKYTLS_ALREADY_STARTED, skytls_agent_on_command(agent, NULL, NULL, err));
    FAILS(SKYTLS_ALREADY_STARTED, skytls_agent_describe(agent, "c", NULL, err));
    FAILS(SKYTLS_ALREADY_STARTED, skytls_agent_add_property(agent, "x", "y", err));
    FAILS(SKYTLS_ALREADY_STARTED, skytls_agent_set_exit_timeout(agent, 1, err));
    FAILS(SKYTLS_BAD_ARGUMENT, skytls_agent_report(agent, 0, (const uint8_t *)"x", 1, err));
    FAILS(SKYTLS_BAD_ARGUMENT, skytls_agent_report(agent, 99, (const uint8_t *)"x", 1, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_report(agent, SKYTLS_SEGMENT, NULL, 1, err));
    FAILS(SKYTLS_BAD_ARGUMENT,
          skytls_agent_report(agent, SKYTLS_SEGMENT, (const uint8_t *)"x", SIZE_MAX, err));
    FAILS(132,
          skytls_agent_report_method(agent, "/no.Such/method", (const uint8_t *)"x", 1, err));
    FAILS(SKYTLS_NULL_ARGUMENT,
          skytls_agent_report_method(agent, NULL, (const uint8_t *)"x", 1, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_finish_profile_task(agent, NULL, err));
    FAILS(SKYTLS_BAD_ARGUMENT, skytls_agent_flush(agent, 0, 0, err));
    FAILS(SKYTLS_BAD_ARGUMENT, skytls_log_set(9, NULL, NULL, err));

    /* Nobody listens there: records are taken, kept, and lost at the end. */
    OK(skytls_agent_report(agent, SKYTLS_EVENT, NULL, 0, err));
    FAILS(SKYTLS_STILL_PENDING, skytls_agent_flush(agent, SKYTLS_DURABLE, 20, err));
    /* It, and the event that says that the instance has started. */
    CHECK(status_of(agent).pending == 2);
    OK(skytls_agent_stop(agent, 20, &lost, err));
    CHECK(lost == 2 && status_of(agent).dropped == 2);
    CHECK(status_of(agent).state == SKYTLS_STATE_STOPPED);

    OK(skytls_agent_stop(agent, 20, NULL, err));
    OK(skytls_after_fork_child(agent, err));
    FAILS(SKYTLS_STOPPED, report_text(agent, "x", err));
    FAILS(SKYTLS_STOPPED, skytls_agent_flush(agent, SKYTLS_DELIVERED, 0, err));
    FAILS(SKYTLS_STOPPED, skytls_agent_start(agent, err));
    FAILS(SKYTLS_STOPPED, skytls_agent_on_state(agent, NULL, NULL, err));
    skytls_agent_free(agent);
}

static void a_switched_off_agent_takes_everything(void)
{
    skytls_config *config = skytls_config_new();
    skytls_agent *agent = NULL;
    OK(skytls_config_set(config, "agent.enable", "false", err));
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);
    OK(skytls_agent_start(agent, err));
    OK(report_text(agent, "x", err));
    OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 0, err));
    CHECK(status_of(agent).state == SKYTLS_STATE_DISABLED);
    OK(skytls_agent_stop(agent, 0, NULL, err));
    skytls_agent_free(agent);
}

static void bad_files_fail_the_start_which_may_be_repeated(void)
{
    char path[] = "/tmp/skytls-misuse-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, "rubbish", 7) == 7 && close(fd) == 0);
    skytls_config *config = test_config();
    skytls_agent *agent = NULL;
    OK(skytls_config_set(config, "collector.backend_service", "localhost:1", err));
    OK(skytls_config_set(config, "agent.ssl_trusted_ca_path", path, err));
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);
    FAILS(206, skytls_agent_start(agent, err));
    FAILS(SKYTLS_NOT_STARTED, report_text(agent, "x", err));
    CHECK(status_of(agent).state == SKYTLS_STATE_FAILED && status_of(agent).error == 206);
    CHECK(strstr(status_of(agent).message, path) != NULL);
    FAILS(206, skytls_agent_start(agent, err));
    skytls_agent_free(agent);
    CHECK(unlink(path) == 0);
}

static void structures_may_be_older(void)
{
    struct {
        skytls_status status;
        unsigned char behind[8];
    } room;
    memset(&room, 0xA5, sizeof room);
    skytls_agent *agent = NULL;
    skytls_config *config = test_config();
    OK(skytls_config_set(config, "collector.backend_service", "localhost:1", err));
    OK(skytls_agent_new(config, &agent, err));
    skytls_config_free(config);

    room.status.size = offsetof(skytls_status, recovered);
    OK(skytls_agent_status(agent, &room.status, err));
    CHECK(room.status.size == offsetof(skytls_status, recovered) && room.status.accepted == 0);
    CHECK(room.status.recovered == 0xA5A5A5A5A5A5A5A5u);

    /* One of a newer header than the library's is filled as far as the library knows it. */
    room.status.size = sizeof room;
    OK(skytls_agent_status(agent, &room.status, err));
    CHECK(room.status.size == sizeof room.status && room.behind[0] == 0xA5);

    room.status.size = 4;
    FAILS(SKYTLS_BAD_ARGUMENT, skytls_agent_status(agent, &room.status, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_agent_status(agent, NULL, err));
    skytls_agent_free(agent);

    skytls_library_info info;
    info.size = sizeof info;
    OK(skytls_library(&info, err));
    CHECK(info.version == SKYTLS_VERSION_NUMBER && skytls_version_number() == info.version);
    CHECK(strncmp(info.openssl_version, "OpenSSL ", 8) == 0);
    CHECK(info.openssl_copies == 1 && info.openssl_paths[0] != '\0');
    CHECK(strcmp(info.openssl_origin, "linked") == 0 || strcmp(info.openssl_origin, "vendored") == 0);
    info.size = 1;
    FAILS(SKYTLS_BAD_ARGUMENT, skytls_library(&info, err));

    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", SKYTLS_VERSION_MAJOR, SKYTLS_VERSION_MINOR,
             SKYTLS_VERSION_PATCH);
    CHECK(strcmp(skytls_version(), version) == 0);
}

int main(void)
{
    watchdog(120);
    null_is_an_error();
    errors_say_everything();
    settings_are_checked_when_they_are_set();
    calls_come_in_order();
    a_switched_off_agent_takes_everything();
    bad_files_fail_the_start_which_may_be_repeated();
    structures_may_be_older();
    return 0;
}
