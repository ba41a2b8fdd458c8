/* SPDX-License-Identifier: Apache-2.0
 *
 * The smallest program that reports: one segment with one span, delivered before it ends.
 *
 *   cc minimal.c $(pkg-config --cflags --libs skytls) -o minimal
 *   SW_AGENT_NAME=shop SW_AGENT_COLLECTOR_BACKEND_SERVICES=oap:11800 ./minimal
 *
 * Not production style: it says only which error it was, and waits for the backend at its end.
 */
#include <skytls.h>
#include <stdio.h>

static int failed(skytls_error *error)
{
    fprintf(stderr, "%s\n", skytls_error_message(error));
    skytls_error_free(error);
    return 1;
}

static void print(void *userdata, int level, const char *line)
{
    (void)level;
    fprintf(userdata, "skytls: %s\n", line);
}

int main(int argc, char **argv)
{
    skytls_error *error = NULL;
    skytls_agent *agent = NULL;
    skytls_segment *segment = NULL;
    uint64_t lost = 0;

    if (skytls_log_set(SKYTLS_LEVEL_INFO, print, stderr, &error) != SKYTLS_OK)
        return failed(error);

    /* Settings come from the environment, from agent.config, and from key=value on the command line. */
    skytls_config *config = skytls_config_new();
    if (skytls_config_load_file(config, NULL, &error) != SKYTLS_OK)
        return failed(error);
    for (int i = 1; i + 1 < argc; i += 2)
        if (skytls_config_set(config, argv[i], argv[i + 1], &error) != SKYTLS_OK)
            return failed(error);
    if (skytls_agent_new(config, &agent, &error) != SKYTLS_OK)
        return failed(error);
    skytls_config_free(config);
    if (skytls_agent_start(agent, &error) != SKYTLS_OK)
        return failed(error);

    if (skytls_segment_new(agent, &segment, &error) != SKYTLS_OK)
        return failed(error);
    int32_t span = skytls_segment_entry(segment, "minimal", SKYTLS_NTS, NULL, 0, NULL, 0);
    skytls_span_tag(segment, span, "answer", "42", SKYTLS_NTS);
    skytls_span_end(segment, span, 0);
    if (skytls_segment_report(segment, agent, &error) != SKYTLS_OK)
        return failed(error);

    if (skytls_agent_stop(agent, 10000, &lost, &error) != SKYTLS_OK)
        return failed(error);
    skytls_agent_free(agent);
    printf("%llu lost\n", (unsigned long long)lost);
    return lost == 0 ? 0 : 1;
}
