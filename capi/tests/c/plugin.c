/* SPDX-License-Identifier: Apache-2.0
 * A host that loads the library as a plugin, unloads it and loads it again, as PHP does with its modules at a
 * reload. Usage: plugin LIBRARY ROUNDS. It is not linked against the library. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "plugin.c:%d: %s: %s\n", __LINE__, #condition, dlerror()); \
            _exit(1);                                                             \
        }                                                                         \
    } while (0)

typedef void *(*make)(void);
typedef int (*set)(void *, const char *, const char *, void *);
typedef int (*create)(const void *, void **, void *);
typedef int (*act)(void *, void *);
typedef int (*report)(void *, int, const uint8_t *, size_t, void *);
typedef int (*flush)(void *, int, uint32_t, void *);
typedef void (*destroy)(void *);

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    CHECK(found != NULL);
    return found;
}

/* A pointer to data is no pointer to a function in ISO C, but POSIX says that it is one. */
#define CALL(type, name) (*(type *)(void *[]){symbol(library, name)})

static void round_of(const char *path, int keep)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    void *config = CALL(make, "skytls_config_new")();
    void *agent = NULL;
    set option = CALL(set, "skytls_config_set");
    CHECK(option(config, "agent.service_name", "plugin", NULL) == 0);
    CHECK(option(config, "collector.backend_service", getenv("SKYTLS_TEST_BACKEND"), NULL) == 0);
    CHECK(option(config, "agent.ssl_trusted_ca_path", getenv("SKYTLS_TEST_CA"), NULL) == 0);
    CHECK(CALL(create, "skytls_agent_new")(config, &agent, NULL) == 0);
    CALL(destroy, "skytls_config_free")(config);
    CHECK(CALL(act, "skytls_agent_start")(agent, NULL) == 0);
    CHECK(CALL(report, "skytls_agent_report")(agent, 1, (const uint8_t *)"plugin", 6, NULL) == 0);
    if (!keep) {
        CHECK(CALL(flush, "skytls_agent_flush")(agent, 2, 30000, NULL) == 0);
        CALL(destroy, "skytls_agent_free")(agent);
    }
    CHECK(dlclose(library) == 0);
    /* Still there: its thread, its exit handler and its fork handlers must not lose their code. */
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    CHECK(library != NULL && dlclose(library) == 0);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    alarm(120);
    for (int i = atoi(argv[2]); i > 0; i--)
        round_of(argv[1], 0);
    /* Unloaded while it is at work. */
    round_of(argv[1], 1);
    if (fork() == 0)
        _exit(0);
    return 0;
}
