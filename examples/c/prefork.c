/* SPDX-License-Identifier: Apache-2.0
 *
 * A pre-fork HTTP server: the master makes the agent, each worker traces its requests. This is what a module for
 * nginx or httpd does at its five hooks:
 *
 *   master starts     skytls_agent_new, and no start: the master needs no thread and no connection
 *   worker starts     skytls_agent_start
 *   request           a segment: begun with the request's sw8, reported with its answer
 *   worker ends       skytls_agent_stop with a deadline
 *   reload            a new agent for new workers; the old ones stop theirs
 *
 *   ./prefork WORKERS [key value]...        prints its port; ends at SIGTERM
 */
#include <arpa/inet.h>
#include <signal.h>
#include <skytls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_WORKERS = 64 };

static volatile sig_atomic_t over;

static void end(int number)
{
    (void)number;
    over = 1;
}

static void check(int result, skytls_error *error)
{
    if (result != SKYTLS_OK) {
        fprintf(stderr, "%s\n", skytls_error_message(error));
        exit(1);
    }
}

/* The value of a header, up to the end of its line. */
static const char *header(const char *request, const char *name, size_t *length)
{
    const char *found = strstr(request, name);
    *length = found == NULL ? 0 : strcspn(found += strlen(name), "\r\n");
    return found;
}

static void serve(skytls_agent *agent, int client)
{
    char request[4096], answer[256];
    ssize_t got = read(client, request, sizeof request - 1);
    if (got <= 0)
        return;
    request[got] = '\0';

    skytls_segment *segment = NULL;
    size_t sw8_length, correlation_length;
    const char *sw8 = header(request, "\r\nsw8: ", &sw8_length);
    const char *correlation = header(request, "\r\nsw8-correlation: ", &correlation_length);
    /* Telemetry that fails is no reason to fail a request: without a segment, the calls below do nothing. */
    skytls_segment_new(agent, &segment, NULL);
    int32_t span = skytls_segment_entry(segment, request, strcspn(request, "\r\n"), sw8, sw8_length,
                                        correlation, correlation_length);
    skytls_span_layer(segment, span, SKYTLS_LAYER_HTTP);
    skytls_span_tag(segment, span, "http.status_code", "200", SKYTLS_NTS);

    char trace[128] = "";
    skytls_segment_trace_id(segment, trace, sizeof trace);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Trace: %s\r\n\r\nserved by %d\n", trace,
                          (int)getpid());
    if (write(client, answer, (size_t)length) != length)
        skytls_span_error(segment, span);

    skytls_span_end(segment, span, 0);
    skytls_segment_report(segment, agent, NULL); /* what finds no room is counted, see status.refused */
}

static int worker(skytls_agent *agent, int listener)
{
    skytls_error *error = NULL;
    uint64_t lost = 0;
    check(skytls_agent_start(agent, &error), error);
    while (!over) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0) {
            serve(agent, client);
            close(client);
        }
    }
    check(skytls_agent_stop(agent, 5000, &lost, &error), error);
    skytls_agent_free(agent);
    return lost == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static pid_t pids[MOST_WORKERS];
    int workers = argc > 1 ? atoi(argv[1]) : 2, worst = 0;
    if (workers < 1 || workers > MOST_WORKERS)
        return 2;
    skytls_error *error = NULL;
    skytls_agent *agent = NULL;
    skytls_config *config = skytls_config_new();
    for (int i = 2; i + 1 < argc; i += 2)
        check(skytls_config_set(config, argv[i], argv[i + 1], &error), error);
    check(skytls_agent_new(config, &agent, &error), error);
    skytls_config_free(config);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        perror("listen");
        return 1;
    }
    /* Without SA_RESTART, so that accept and wait end at the signal. */
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    for (int i = 0; i < workers; i++)
        if ((pids[i] = fork()) == 0)
            exit(worker(agent, listener));
    while (!over)
        pause();
    for (int i = 0; i < workers; i++) {
        int status = 0;
        kill(pids[i], SIGTERM);
        waitpid(pids[i], &status, 0);
        worst |= status;
    }
    skytls_agent_free(agent);
    return worst == 0 ? 0 : 1;
}
