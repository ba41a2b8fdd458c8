/* SPDX-License-Identifier: Apache-2.0
 * Does wrong in one way, so that whoever watches has to say so. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

static int counter;

static void *race(void *unused)
{
    for (int i = 0; i < 100000; i++)
        counter++;
    return unused;
}

int main(int argc, char **argv)
{
    (void)argv;
#if defined CANARY_USE_AFTER_FREE
    volatile char *memory = malloc(16);
    free((void *)memory);
    counter = memory[argc];
#elif defined CANARY_OVERFLOW
    volatile int number = INT_MAX;
    counter = number + argc;
#elif defined CANARY_LEAK
    counter = malloc(16) != NULL;
#endif
#if defined CANARY_RACE
    pthread_t thread;
    pthread_create(&thread, NULL, race, NULL);
    race(NULL);
    pthread_join(thread, NULL);
#else
    (void)race;
    (void)argc;
#endif
    return 0;
}
