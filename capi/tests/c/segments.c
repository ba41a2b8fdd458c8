/* SPDX-License-Identifier: Apache-2.0
 * Segments built from C. Usage: segments SEED ROUNDS. The first one is the same each time, the others are put
 * together at random, with texts of all kinds, invalid ones too. The caller looks at what has arrived. */
#include "check.h"

static skytls_agent *agent;

static skytls_segment *begin(void)
{
    skytls_segment *segment = NULL;
    OK(skytls_segment_new(agent, &segment, err));
    return segment;
}

static void one_request(void)
{
    char sw8[1024], correlation[256], trace[64], id[64], small[8];
    static const char *keys[] = {"event", "message"}, *values[] = {"error", "no such price"};
    skytls_segment *segment = begin();

    /* Of another service: trace 1, segment 2, span 3. */
    static const char from[] = "1-MQ==-Mg==-3-c2hvcA==-c2hvcC0x-R0VUOi8=-bWU6ODA=";
    int32_t server = skytls_segment_entry(segment, "GET:/cart", SKYTLS_NTS, from, SKYTLS_NTS,
                                          "dXNlcg==:amFuZQ==", SKYTLS_NTS);
    CHECK(server == 0);
    skytls_span_component(segment, server, 49);
    skytls_span_layer(segment, server, SKYTLS_LAYER_HTTP);
    skytls_span_layer(segment, server, 99);
    skytls_span_started(segment, server, 1000);
    skytls_span_tag(segment, server, "url", "http://localhost/cart and more", 21);

    CHECK(skytls_segment_trace_id(segment, trace, sizeof trace) == 1 && strcmp(trace, "1") == 0);
    size_t length = skytls_segment_id(segment, id, sizeof id);
    CHECK(length > 20 && strlen(id) == length);
    CHECK(skytls_segment_correlation(segment, "user", small, sizeof small) == 4);
    CHECK(strcmp(small, "jane") == 0);
    CHECK(skytls_segment_correlation(segment, "none", small, sizeof small) == 0 && small[0] == 0);
    CHECK(skytls_segment_correlate(segment, "k", "v", SKYTLS_NTS) == 1);
    CHECK(skytls_segment_correlate(segment, "l", "v", SKYTLS_NTS) == 1);
    CHECK(skytls_segment_correlate(segment, "one too many", "v", SKYTLS_NTS) == 0);
    CHECK(skytls_segment_correlate(segment, "l", "", 0) == 1);

    int32_t client = skytls_segment_exit(segment, "GET:/price", SKYTLS_NTS, "prices:80", SKYTLS_NTS,
                                         SKYTLS_NO_SPAN);
    CHECK(client == 1);
    /* As snprintf: what fits, and how long it would have been. */
    length = skytls_span_sw8(segment, client, sw8, sizeof sw8);
    CHECK(length > 40 && length == strlen(sw8) && strncmp(sw8, "1-MQ==-", 7) == 0);
    CHECK(skytls_span_sw8(segment, client, small, sizeof small) == length);
    CHECK(strcmp(small, "1-MQ==-") == 0);
    CHECK(skytls_span_sw8(segment, client, NULL, 0) == length);
    CHECK(skytls_span_sw8_correlation(segment, client, correlation, sizeof correlation) > 0);
    CHECK(strcmp(correlation, "dXNlcg==:amFuZQ==,aw==:dg==") == 0);
    skytls_span_error(segment, client);
    skytls_span_log(segment, client, 1500, 2, keys, values);
    skytls_span_end(segment, client, 2000);

    int32_t local = skytls_segment_local(segment, "render", SKYTLS_NTS, server);
    skytls_span_operation(segment, local, "Render.page", SKYTLS_NTS);
    skytls_span_peer(segment, local, "nobody", SKYTLS_NTS);
    skytls_span_skip_analysis(segment, local);
    skytls_span_reference(segment, local, from, SKYTLS_NTS);
    skytls_span_reference(segment, local, "nonsense", SKYTLS_NTS);

    skytls_segment *other = begin();
    skytls_span_follow(other, skytls_segment_local(other, "thread", SKYTLS_NTS, SKYTLS_NO_SPAN), segment,
                       server);
    CHECK(skytls_segment_trace_id(other, trace, sizeof trace) == 1 && strcmp(trace, "1") == 0);
    skytls_segment_free(other);

    uint8_t bytes[4096];
    length = skytls_segment_encode(segment, bytes, sizeof bytes);
    CHECK(length > 200 && length < sizeof bytes);
    CHECK(skytls_segment_encode(segment, bytes, 1) == length);
    CHECK(skytls_segment_encode(segment, NULL, 0) == length);
    OK(skytls_segment_report(segment, agent, err));
}

static void nothing_is_done_to_nothing(void)
{
    char buffer[4] = "abc";
    skytls_segment *segment = begin();
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_segment_new(NULL, &segment, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_segment_new(agent, NULL, err));
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_segment_report(NULL, agent, err));
    CHECK(skytls_segment_entry(NULL, "x", 1, NULL, 0, NULL, 0) == SKYTLS_NO_SPAN);
    CHECK(skytls_segment_exit(NULL, "x", 1, "y", 1, 0) == SKYTLS_NO_SPAN);
    CHECK(skytls_segment_local(NULL, "x", 1, 0) == SKYTLS_NO_SPAN);
    CHECK(skytls_segment_trace_id(NULL, buffer, sizeof buffer) == 0 && buffer[0] == 0);
    CHECK(skytls_segment_id(NULL, NULL, 0) == 0 && skytls_segment_encode(NULL, NULL, 0) == 0);
    CHECK(skytls_segment_correlate(NULL, "k", "v", 1) == 0);
    CHECK(skytls_segment_correlation(NULL, "k", buffer, sizeof buffer) == 0);
    CHECK(skytls_span_sw8(NULL, 0, buffer, sizeof buffer) == 0);
    CHECK(skytls_span_sw8_correlation(NULL, 0, buffer, sizeof buffer) == 0);
    for (int32_t span = SKYTLS_NO_SPAN; span < 2; span++) {
        skytls_segment *at = span == 0 ? NULL : segment;
        skytls_span_operation(at, span, NULL, 0);
        skytls_span_peer(at, span, NULL, 0);
        skytls_span_component(at, span, 1);
        skytls_span_layer(at, span, SKYTLS_LAYER_HTTP);
        skytls_span_error(at, span);
        skytls_span_skip_analysis(at, span);
        skytls_span_tag(at, span, NULL, NULL, 0);
        skytls_span_log(at, span, 0, 1, NULL, NULL);
        skytls_span_reference(at, span, NULL, 0);
        skytls_span_follow(at, span, NULL, 0);
        skytls_span_follow(at, span, at, 0);
        skytls_span_started(at, span, 1);
        skytls_span_end(at, span, 0);
    }
    /* Reporting frees in every case: this must be no leak. */
    FAILS(SKYTLS_NULL_ARGUMENT, skytls_segment_report(segment, NULL, err));
    skytls_segment_free(NULL);
}

static const char *some_text(size_t *length)
{
    static char text[40000];
    static const char *const usual[] = {"", "GET:/", "h\xc3\xa4user", "\xff\xfe", "half\xc3", "\xed\xa0\x80",
                                        "a\xf0\x9f\x98\x80z"};
    switch (rand() % 4) {
    case 0:
        *length = (size_t)(rand() % 64);
        for (size_t i = 0; i < *length; i++)
            text[i] = (char)(rand() % 256);
        return text;
    case 1:
        *length = (size_t)(rand() % (int)sizeof text);
        memset(text, rand() % 2 ? 'x' : '\x80', *length);
        return text;
    default:
        *length = SKYTLS_NTS;
        return usual[rand() % 7];
    }
}

static void any_request(void)
{
    skytls_segment *segment = begin();
    int32_t last = SKYTLS_NO_SPAN;
    int steps = rand() % 40;
    for (int i = 0; i < steps; i++) {
        size_t length, other_length;
        const char *text = some_text(&length);
        const char *pair[] = {"key", "\xff"};
        int32_t span = rand() % 3 ? last : rand() % 8 - 2;
        switch (rand() % 10) {
        case 0: last = skytls_segment_entry(segment, text, length, text, length, text, length); break;
        case 1: last = skytls_segment_exit(segment, text, length, "peer:1", 6, span); break;
        case 2: last = skytls_segment_local(segment, text, length, span); break;
        case 3: skytls_span_tag(segment, span, "tag", text, length); break;
        case 4: skytls_span_log(segment, span, rand(), (size_t)(rand() % 3), pair, pair); break;
        case 5: skytls_span_error(segment, span); break;
        case 6: skytls_span_component(segment, span, rand() - rand()); break;
        case 7: skytls_span_layer(segment, span, rand() % 10 - 1); break;
        case 8: skytls_span_started(segment, span, (int64_t)rand() - rand()); break;
        default:
            text = some_text(&other_length);
            skytls_span_operation(segment, span, text, other_length);
            skytls_span_end(segment, span, rand() % 2 ? 0 : rand());
        }
    }
    OK(skytls_segment_report(segment, agent, err));
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    watchdog(300);
    srand((unsigned)atoi(argv[1]));
    agent = test_agent();
    skytls_segment *early = NULL;
    FAILS(SKYTLS_NOT_STARTED, skytls_segment_new(agent, &early, err));
    CHECK(early == NULL);
    OK(skytls_agent_start(agent, err));
    one_request();
    nothing_is_done_to_nothing();
    for (int i = atoi(argv[2]); i > 0; i--) {
        any_request();
        if (i % 100 == 0)
            OK(skytls_agent_flush(agent, SKYTLS_DELIVERED, 30000, err));
    }
    OK(skytls_agent_stop(agent, 30000, NULL, err));
    FAILS(SKYTLS_STOPPED, skytls_segment_new(agent, &early, err));
    CHECK(status_of(agent).dropped == 0);
    skytls_agent_free(agent);
    return 0;
}
