/* SPDX-License-Identifier: Apache-2.0
 *
 * skytls.h - SkyWalking telemetry over OpenSSL, for C and C++ programs. Made from capi/src; do not edit.
 *
 * CONVENTIONS, which every function keeps
 *
 * Objects    are opaque. What skytls_X_new() has made, skytls_X_free() frees, once; texts are freed by
 *            skytls_string_free(), errors by skytls_error_free(). Freeing NULL does nothing. Strings that
 *            belong to an object live as long as it does. Nothing handed in is kept after the call, but
 *            for callbacks and their userdata.
 *
 * Results    are int: SKYTLS_OK (0), or the number of an error, the nnn of its id SKT-nnn. Numbers are
 *            frozen for ever. Out-parameters stand last, before the error, and are untouched on failure.
 *            The very last parameter takes an error object; NULL: no object is made. On success it is
 *            untouched.
 *
 * NULL       is an error (SKT-831), never a crash, wherever it is not said to mean something.
 *
 * Strings    end in NUL and are UTF-8.
 *
 * Threads    Every function may be called from any thread, and objects may be shared between threads
 *            without locks of the host's, but for freeing: nobody may use an object while or after it is
 *            freed. Each started agent has one thread, called "skytls". With TLS there is one that looks
 *            whether certificates and keys were renewed ("skytls-rotation"), with spool.path one that writes
 *            ("skytls-spool"). Up to four more live for as long as host names are looked up, or a callback
 *            runs for what the backend orders. All block every signal.
 *
 * Waiting    Only skytls_agent_flush() and skytls_agent_stop() wait for the network, and both for a time
 *            that the caller sets. A stop may take longer by a quarter of a second for each of these: a
 *            callback for the state blocks, the spool's disk does not answer, a name is being looked up or
 *            another callback blocks. skytls_agent_free() of an agent that runs may wait for the latter
 *            two. What a disk that does not answer has not taken is lost. Reports wait for nobody.
 *
 * Callbacks  for the state are called on the thread "skytls"; those for commands, profiling tasks and
 *            settings on one of the threads that look names up, one after the other, and may block, which
 *            holds up the next of them. Log lines come on any of the threads, and on the host's that are
 *            in a call of this library. These and those for the state must not block: nothing is sent
 *            meanwhile. None may throw or longjmp, or call what is marked "not to be called from a
 *            callback" (SKT-833).
 *
 * The host   is left alone: no signal handler, no change of the environment, no exit, nothing written to
 *            standard output or error, no panic across the boundary (a bug of ours is SKT-970). Settings
 *            of OpenSSL that hold for the whole process are not changed; if nobody has initialised
 *            OpenSSL before, it is initialised without its clean-up at exit.
 *
 * Forks      An agent may be made and started before fork(), and used in the parent and in its children.
 *            The parent goes on as if nothing had been. A child has an engine, a connection and books of
 *            its own, started at its first report or by skytls_after_fork_child(); what the parent had
 *            queued stays the parent's. Stopping and freeing in a child leave the parent alone. fork()
 *            may be called while other threads are in calls of this library; it waits until the library's
 *            thread is between two steps, which is measured in docs/c-api.md, and until no other thread is
 *            in the middle of starting or stopping an agent. The same holds after
 *            daemon() and for grandchildren. vfork() and posix_spawn() need nothing. Not noticed is a bare
 *            clone system call; not possible is a fork() in a signal handler that has interrupted a call
 *            of this library. A child sees settings as the parent had them, and reads the files of
 *            certificates and keys anew.
 *
 * The end    exit() may be called at any time, also while a connection is being made or another thread
 *            starts an agent: an exit handler holds the library's threads still before OpenSSL cleans up.
 *            It waits for records only as long as skytls_agent_set_exit_timeout() says. Functions called
 *            after that do nothing.
 *            The library stays in the process after dlclose(): opening it again finds the same one.
 *
 * Structures that this library fills start with their size, which the caller sets. They grow at the end.
 */


#ifndef SKYTLS_H
#define SKYTLS_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header: major * 1000000 + minor * 1000 + patch. */
#define SKYTLS_VERSION_NUMBER \
    (SKYTLS_VERSION_MAJOR * 1000000u + SKYTLS_VERSION_MINOR * 1000u + SKYTLS_VERSION_PATCH)

/** In place of a length: the text ends in NUL. */
#define SKYTLS_NTS ((size_t)-1)


/**
 * The first number of the version of this header.
 */
#define SKYTLS_VERSION_MAJOR 0

/**
 * The second one.
 */
#define SKYTLS_VERSION_MINOR 1

/**
 * The third one.
 */
#define SKYTLS_VERSION_PATCH 0

/**
 * No error.
 */
#define SKYTLS_OK 0

/**
 * SKT-801: there was no room for the record; try again later, or count it as lost.
 */
#define SKYTLS_QUEUE_FULL 801

/**
 * SKT-802: the agent has been stopped.
 */
#define SKYTLS_STOPPED 802

/**
 * SKT-830: the agent has not been started.
 */
#define SKYTLS_NOT_STARTED 830

/**
 * SKT-831: a pointer that must not be NULL is.
 */
#define SKYTLS_NULL_ARGUMENT 831

/**
 * SKT-832: an argument has a value that it cannot have.
 */
#define SKYTLS_BAD_ARGUMENT 832

/**
 * SKT-833: the function must not be called from a callback.
 */
#define SKYTLS_IN_CALLBACK 833

/**
 * SKT-834: the agent runs already, and the call only makes sense before.
 */
#define SKYTLS_ALREADY_STARTED 834

/**
 * SKT-835: the deadline is over and records are still pending.
 */
#define SKYTLS_STILL_PENDING 835

/**
 * SKT-970: a bug of skytls.
 */
#define SKYTLS_BUG 970

/**
 * Wait until nothing that was taken over can be lost with the process: it is in the spool, or delivered.
 * Without a spool that is the same as SKYTLS_DELIVERED.
 */
#define SKYTLS_DURABLE 1

/**
 * Wait until the backend has confirmed all that was taken over.
 */
#define SKYTLS_DELIVERED 2

/**
 * A SegmentObject.
 */
#define SKYTLS_SEGMENT 1

/**
 * A LogData. OAP takes service and instance from the first log of a stream: set both in each.
 */
#define SKYTLS_LOG 2

/**
 * A MeterData with service, instance and time.
 */
#define SKYTLS_METER 3

/**
 * A MeterDataCollection: meters that belong to one reading.
 */
#define SKYTLS_METER_BATCH 4

/**
 * A JVMMetricCollection.
 */
#define SKYTLS_JVM_METRIC 5

/**
 * A CLRMetricCollection.
 */
#define SKYTLS_CLR_METRIC 6

/**
 * An Event.
 */
#define SKYTLS_EVENT 7

/**
 * A ThreadSnapshot of a profiling task.
 */
#define SKYTLS_PROFILE_SNAPSHOT 8

/**
 * A SpanAttachedEvent.
 */
#define SKYTLS_SPAN_ATTACHED_EVENT 9

/**
 * A BrowserPerfData.
 */
#define SKYTLS_BROWSER_PERF 10

/**
 * A BrowserErrorLog.
 */
#define SKYTLS_BROWSER_ERROR 11

/**
 * No span. As a parent: the last span that is open, else the first one. Whatever is done to it is done to
 * nothing.
 */
#define SKYTLS_NO_SPAN -1

/**
 * Nothing in particular.
 */
#define SKYTLS_LAYER_UNKNOWN 0

/**
 * A database.
 */
#define SKYTLS_LAYER_DATABASE 1

/**
 * Calls of procedures.
 */
#define SKYTLS_LAYER_RPC 2

/**
 * HTTP.
 */
#define SKYTLS_LAYER_HTTP 3

/**
 * A message queue.
 */
#define SKYTLS_LAYER_MQ 4

/**
 * A cache.
 */
#define SKYTLS_LAYER_CACHE 5

/**
 * Functions as a service.
 */
#define SKYTLS_LAYER_FAAS 6

/**
 * A language model.
 */
#define SKYTLS_LAYER_GENAI 7

/**
 * Not started in this process. A child of a process that has started it is here until its first report.
 */
#define SKYTLS_STATE_NEW 0

/**
 * A connection is being made.
 */
#define SKYTLS_STATE_CONNECTING 1

/**
 * The backend can be reached.
 */
#define SKYTLS_STATE_READY 2

/**
 * The last attempt failed; the next one comes after a pause. Records are taken and queued.
 */
#define SKYTLS_STATE_RESTING 3

/**
 * Stopped for good.
 */
#define SKYTLS_STATE_STOPPED 4

/**
 * agent.enable is false: records are taken and thrown away.
 */
#define SKYTLS_STATE_DISABLED 5

/**
 * The engine could not be started; a start, or in a child skytls_after_fork_child(), tries again.
 */
#define SKYTLS_STATE_FAILED 6

/**
 * Only a human can end this: a certificate is refused, on either side, or the token. It is tried again all
 * the same, and records are taken and queued.
 */
#define SKYTLS_STATE_MISCONFIGURED 7

/**
 * Faults that somebody has to mend.
 */
#define SKYTLS_LEVEL_ERROR 1

/**
 * What works, but perhaps not as meant; a backend that cannot be reached.
 */
#define SKYTLS_LEVEL_WARN 2

/**
 * Connections made, material loaded.
 */
#define SKYTLS_LEVEL_INFO 3

/**
 * For those who look for a fault.
 */
#define SKYTLS_LEVEL_DEBUG 4

/**
 * Everything.
 */
#define SKYTLS_LEVEL_TRACE 5

/**
 * An agent. Made by skytls_agent_new(), freed by skytls_agent_free(). May be used from any thread, and
 * from several at a time, but for skytls_agent_free().
 */
typedef struct skytls_agent skytls_agent;

/**
 * Settings on their way to an agent. Made by skytls_config_new(), freed by skytls_config_free(); an agent
 * made of it keeps a copy. May be used from several threads.
 */
typedef struct skytls_config skytls_config;

/**
 * An error. Made by a function that fails and was given a place for it; freed by skytls_error_free().
 * It never changes, so any number of threads may read it. Strings belong to it.
 */
typedef struct skytls_error skytls_error;

/**
 * What one thread, or one request, contributes to a trace. Made by skytls_segment_new(); ended by
 * skytls_segment_report(), or given up by skytls_segment_free(). It belongs to one thread at a time.
 *
 * The functions of segments and spans do nothing with NULL as the segment. Texts come with their length, or
 * SKYTLS_NTS; those that are not UTF-8 are repaired, and those that are too long are cut.
 */
typedef struct skytls_segment skytls_segment;

/**
 * What is known about the library that was loaded; skytls_library() fills it.
 */
typedef struct skytls_library_info {
    /**
     * In: sizeof(struct skytls_library_info). Out: how much of it was filled.
     */
    size_t size;
    /**
     * As skytls_version_number().
     */
    uint32_t version;
    /**
     * How many libcryptos the process holds.
     */
    uint32_t openssl_copies;
    /**
     * OpenSSL's own words, such as "OpenSSL 3.0.19 27 Jan 2026".
     */
    char openssl_version[128];
    /**
     * "linked" for the system's, "vendored" for one built in.
     */
    char openssl_origin[16];
    /**
     * The openssl.cnf in force.
     */
    char openssl_configuration[256];
    /**
     * The libcryptos of the process, one a line.
     */
    char openssl_paths[1024];
} skytls_library_info;

/**
 * Told of every change of the state. `why` is NULL unless the link is down, and holds during the call only.
 * Called on the library's own thread, one call at a time.
 */
typedef void (*skytls_state_callback)(void *userdata, int state, const struct skytls_error *why);

/**
 * A command of the backend: its name, and arguments in their order.
 */
typedef struct skytls_command {
    /**
     * How much of it the library has filled.
     */
    size_t size;
    /**
     * What to do, such as "ProfileTaskQuery".
     */
    const char *name;
    /**
     * How many arguments there are.
     */
    size_t arguments;
    /**
     * Their keys.
     */
    const char *const *keys;
    /**
     * Their values.
     */
    const char *const *values;
} skytls_command;

/**
 * Told of a command of the backend that the library does not carry out itself. It holds during the call
 * only. Called on a thread of the library that may block, one call at a time.
 */
typedef void (*skytls_command_callback)(void *userdata, const struct skytls_command *command);

/**
 * A profiling task of the backend. Times are in milliseconds.
 */
typedef struct skytls_profile_task {
    /**
     * How much of it the library has filled.
     */
    size_t size;
    /**
     * Which task it is; it goes with each snapshot and with the report of its end.
     */
    const char *task_id;
    /**
     * The endpoint whose segments are to be profiled.
     */
    const char *endpoint;
    /**
     * How long the task lasts.
     */
    uint64_t duration;
    /**
     * Only segments that take longer are of interest.
     */
    uint64_t min_duration_threshold;
    /**
     * The time between two snapshots.
     */
    uint64_t dump_period;
    /**
     * How many segments are profiled at most.
     */
    uint64_t max_sampling_count;
    /**
     * When it begins, since 1970.
     */
    int64_t start_time;
    /**
     * When it was made, since 1970.
     */
    int64_t create_time;
} skytls_profile_task;

/**
 * Told of a profiling task, each once. It holds during the call only. Called as skytls_command_callback is.
 */
typedef void (*skytls_profile_task_callback)(void *userdata, const struct skytls_profile_task *task);

/**
 * Told of the value that the backend gives to a key of the dynamic configuration; NULL when the key is gone
 * and the default holds again. Called as skytls_command_callback is.
 */
typedef void (*skytls_watch_callback)(void *userdata, const char *key, const char *value);

/**
 * What an agent is doing, and its books, taken at one moment; skytls_agent_status() fills it.
 * accepted + recovered = acknowledged + dropped + pending, always.
 */
typedef struct skytls_status {
    /**
     * In: sizeof(struct skytls_status). Out: how much of it was filled.
     */
    size_t size;
    /**
     * A SKYTLS_STATE_….
     */
    int state;
    /**
     * The number of the error that explains the state, or 0.
     */
    int error;
    /**
     * Records taken over.
     */
    uint64_t accepted;
    /**
     * Records found in a spool at the start.
     */
    uint64_t recovered;
    /**
     * Records that the backend has confirmed.
     */
    uint64_t acknowledged;
    /**
     * Records given up, for any reason.
     */
    uint64_t dropped;
    /**
     * Records taken over and neither confirmed nor given up.
     */
    uint64_t pending;
    /**
     * Bytes of those.
     */
    uint64_t pending_bytes;
    /**
     * Records that were not taken over because there was no room.
     */
    uint64_t refused;
    /**
     * Records sent again although the backend may have had them.
     */
    uint64_t possibly_duplicated;
    /**
     * The backend, as it was set; empty unless the state is SKYTLS_STATE_READY.
     */
    char backend[256];
    /**
     * The TLS version agreed on; empty without a connection, and for plaintext.
     */
    char protocol[16];
    /**
     * The cipher suite agreed on.
     */
    char cipher[64];
    /**
     * The explanation of `error`, as skytls_error_message() has it.
     */
    char message[512];
    /**
     * With agent.ssl_fips=required the provider, its version and what was proven of it when certificates and
     * keys were last read; else empty, and before the engine runs.
     */
    char fips[256];
} skytls_status;

/**
 * Takes one log line, without a line end; `line` holds during the call only. Called from the library's
 * own thread, and from threads of the host that are in a call of this library; from several at a time.
 */
typedef void (*skytls_log_callback)(void *userdata, int level, const char *line);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library: major × 1000000 + minor × 1000 + patch. Compare with
 * SKYTLS_VERSION_NUMBER, which is that of the header.
 */
uint32_t skytls_version_number(void);

/**
 * The version of the library as text, such as "0.1.0".
 */
const char *skytls_version(void);

/**
 * Says which OpenSSL is in use, and whether the process holds another one. Initialises OpenSSL if nobody
 * has. Set `info->size` first; a structure of an older header is filled as far as it goes.
 */
int skytls_library(struct skytls_library_info *info,
                   struct skytls_error **err);

/**
 * The number of an error, such as 801; SKYTLS_OK for NULL. Numbers are frozen: docs/errors.md lists
 * them, and one that is retired is never used again.
 */
int skytls_error_code(const struct skytls_error *error);

/**
 * The id of an error, such as "SKT-801"; empty for NULL.
 */
const char *skytls_error_name(const struct skytls_error *error);

/**
 * Whose fault it is: "settings", "material", "machine", "network", "tls", "backend", "loss", "usage" or
 * "bug"; empty for NULL.
 */
const char *skytls_error_kind(const struct skytls_error *error);

/**
 * Where on the way it happened: "settings", "files", "openssl", "dns", "tcp", "tls", "certificate",
 * "alpn", "http2", "grpc", "uplink", …; empty for NULL.
 */
const char *skytls_error_stage(const struct skytls_error *error);

/**
 * What went wrong, as one clause with its facts; empty for NULL. The wording may change.
 */
const char *skytls_error_text(const struct skytls_error *error);

/**
 * Everything on one line, as the logs have it: id, text, the causes underneath, and what to do.
 * Empty for NULL. Never holds a key, a token or a passphrase.
 */
const char *skytls_error_message(const struct skytls_error *error);

/**
 * What to do about it; empty for NULL.
 */
const char *skytls_error_hint(const struct skytls_error *error);

/**
 * Whether the same call may succeed later without anybody changing anything: 1 or 0; 0 for NULL.
 */
int skytls_error_retriable(const struct skytls_error *error);

/**
 * The reason that OpenSSL gave, such as "certificate verify failed"; NULL if it gave none.
 */
const char *skytls_error_openssl_reason(const struct skytls_error *error);

/**
 * A fact that the error carries: "key", "file", "line", "peer", "found" or "expected"; NULL if it
 * carries no such fact.
 */
const char *skytls_error_fact(const struct skytls_error *error, const char *name);

/**
 * Frees an error; NULL is nothing to free.
 */
void skytls_error_free(struct skytls_error *error);

/**
 * Makes settings: built-in values, over which the environment variables of the table in
 * docs/configuration.md hold. The environment is read here, and not again.
 *
 * Gives NULL only if memory is short.
 */
struct skytls_config *skytls_config_new(void);

/**
 * Frees settings; NULL is nothing to free. Agents made of them go on.
 */
void skytls_config_free(struct skytls_config *config);

/**
 * Reads an agent.config, as the Java agent has it, in place of one read before. With NULL as `path`:
 * $SW_AGENT_CONFIG, else ./config/agent.config, else ./agent.config, else none.
 *
 * A file that cannot be read, or holds a bad value, is an error now, and the settings stay as they were.
 */
int skytls_config_load_file(struct skytls_config *config,
                            const char *path,
                            struct skytls_error **err);

/**
 * Sets a key above file and environment. The value is taken as it is, without placeholders; an empty one
 * means the default. Of several for one key the last counts.
 *
 * An unknown key (SKT-112) and a value that is not of the key's type are errors now. What values mean
 * together is judged by skytls_agent_new().
 */
int skytls_config_set(struct skytls_config *config,
                      const char *key,
                      const char *value,
                      struct skytls_error **err);

/**
 * Writes all settings in force as text: one `key=value` a line, each with a comment that says where the
 * value comes from, secrets masked, then the warnings. The text is freed by skytls_string_free().
 */
int skytls_config_dump(const struct skytls_config *config,
                       char **dump,
                       struct skytls_error **err);

/**
 * Frees a text that a function of this library has made; NULL is nothing to free.
 */
void skytls_string_free(char *text);

/**
 * Makes an agent of settings, which are judged here. Nothing is started, and no file of certificates or
 * keys is read yet. Fails with the error of the setting.
 */
int skytls_agent_new(const struct skytls_config *config,
                     struct skytls_agent **agent,
                     struct skytls_error **err);

/**
 * Reads certificates and keys, starts the thread and begins to connect. A backend that cannot be reached is
 * no error. An agent that runs already is left as it is; one that failed to start may be started again.
 * Not to be called from a callback.
 */
int skytls_agent_start(struct skytls_agent *agent,
                       struct skytls_error **err);

/**
 * Hands over one encoded message of a kind, a SKYTLS_SEGMENT, SKYTLS_LOG, …; the bytes are copied. Never
 * waits for the network or the disk: what finds no room is refused (SKT-801) and counted.
 *
 * In a forked child whose parent has started the agent, the first report starts the child's own engine,
 * which reads certificates and keys and takes milliseconds; skytls_after_fork_child() does that ahead.
 */
int skytls_agent_report(struct skytls_agent *agent,
                        int kind,
                        const uint8_t *data,
                        size_t len,
                        struct skytls_error **err);

/**
 * As skytls_agent_report(), for every report of the protocol: `method` is its gRPC path, such as
 * "/skywalking.v3.EventService/collect".
 */
int skytls_agent_report_method(struct skytls_agent *agent,
                               const char *method,
                               const uint8_t *data,
                               size_t len,
                               struct skytls_error **err);

/**
 * Reports, in the background, that a profiling task is over: `task_id` is that of the task. It is tried a few
 * times, and given up with a line in the log.
 */
int skytls_agent_finish_profile_task(struct skytls_agent *agent,
                                     const char *task_id,
                                     struct skytls_error **err);

/**
 * Waits until what was taken over is SKYTLS_DURABLE or SKYTLS_DELIVERED, at most for `timeout_ms`.
 * SKT-835 when the time is over; nothing is lost by that. In a child, only the child's own records count.
 * Not to be called from a callback.
 */
int skytls_agent_flush(struct skytls_agent *agent,
                       int goal,
                       uint32_t timeout_ms,
                       struct skytls_error **err);

/**
 * Delivers what is pending, at most for `timeout_ms`, and stops for good; `lost`, unless it is NULL, gets
 * the number of records that were left. Callbacks are not called any more when it returns. A second stop
 * does nothing. Not to be called from a callback.
 */
int skytls_agent_stop(struct skytls_agent *agent,
                      uint32_t timeout_ms,
                      uint64_t *lost,
                      struct skytls_error **err);

/**
 * In a forked child of a process that has started the agent: starts the child's own engine now rather than
 * at its first report, or tries again after that has failed. Anywhere else it does nothing.
 * Not to be called from a callback.
 */
int skytls_after_fork_child(struct skytls_agent *agent,
                            struct skytls_error **err);

/**
 * Frees an agent; NULL is nothing to free. One that runs is stopped first, without waiting for the backend; its spool
 * is written, at most for a quarter of a second. In a child this frees the child's part and leaves the parent's alone. Nobody may use the agent meanwhile or
 * after. From a callback it does nothing.
 */
void skytls_agent_free(struct skytls_agent *agent);

/**
 * Sets whom to tell of changes of the state; NULL: nobody. Before the start only.
 */
int skytls_agent_on_state(struct skytls_agent *agent,
                          skytls_state_callback callback,
                          void *userdata,
                          struct skytls_error **err);

/**
 * Sets whom to hand commands of the backend to; NULL: nobody. Before the start only.
 */
int skytls_agent_on_command(struct skytls_agent *agent,
                            skytls_command_callback callback,
                            void *userdata,
                            struct skytls_error **err);

/**
 * Sets whom to hand the backend's profiling tasks to; they are asked for only with this. NULL: nobody.
 * Before the start only. See skytls_agent_finish_profile_task() and SKYTLS_PROFILE_SNAPSHOT.
 */
int skytls_agent_on_profile_task(struct skytls_agent *agent,
                                 skytls_profile_task_callback callback,
                                 void *userdata,
                                 struct skytls_error **err);

/**
 * Watches a key of the backend's dynamic configuration; there may be any number. Before the start only.
 */
int skytls_agent_watch(struct skytls_agent *agent,
                       const char *key,
                       skytls_watch_callback callback,
                       void *userdata,
                       struct skytls_error **err);

/**
 * Says what the host is: the language it speaks to people in, such as "php" ("c" if nothing is said), and
 * the version of the agent that uses this library, or NULL. Before the start only.
 */
int skytls_agent_describe(struct skytls_agent *agent,
                          const char *language,
                          const char *version,
                          struct skytls_error **err);

/**
 * Adds an instance property to the usual ones. Before the start only.
 */
int skytls_agent_add_property(struct skytls_agent *agent,
                              const char *key,
                              const char *value,
                              struct skytls_error **err);

/**
 * Sets how long exit() may wait for records to be delivered. 0, the default: not at all, what is pending
 * is lost unless skytls_agent_stop() was called. Before the start only.
 */
int skytls_agent_set_exit_timeout(struct skytls_agent *agent,
                                  uint32_t timeout_ms,
                                  struct skytls_error **err);

/**
 * Begins a segment of the agent's instance, and with it a trace, until it is told of an earlier one. In a child,
 * starts the engine as skytls_agent_report() does.
 */
int skytls_segment_new(struct skytls_agent *agent,
                       struct skytls_segment **segment,
                       struct skytls_error **err);

/**
 * Ends what is still open, hands the segment over and frees it, whether or not there was room for it. Its
 * failures are those of skytls_agent_report().
 */
int skytls_segment_report(struct skytls_segment *segment,
                          struct skytls_agent *agent,
                          struct skytls_error **err);

/**
 * Gives a segment up; NULL is nothing to give up.
 */
void skytls_segment_free(struct skytls_segment *segment);

/**
 * Begins a span for a request that came in. `sw8` and `correlation` are the headers of those names, which
 * the span then continues; NULL where there is none. A header that is none is ignored.
 */
int32_t skytls_segment_entry(struct skytls_segment *segment,
                             const char *operation,
                             size_t operation_len,
                             const char *sw8,
                             size_t sw8_len,
                             const char *correlation,
                             size_t correlation_len);

/**
 * Begins a span for a request that goes out to `peer`, a host and port.
 */
int32_t skytls_segment_exit(struct skytls_segment *segment,
                            const char *operation,
                            size_t operation_len,
                            const char *peer,
                            size_t peer_len,
                            int32_t parent);

/**
 * Begins a span for work within the process.
 */
int32_t skytls_segment_local(struct skytls_segment *segment,
                             const char *operation,
                             size_t operation_len,
                             int32_t parent);

/**
 * Copies the id of the trace; see skytls_span_sw8() for `buffer` and what is returned.
 */
size_t skytls_segment_trace_id(const struct skytls_segment *segment, char *buffer, size_t size);

/**
 * Copies the id of the segment; see skytls_span_sw8() for `buffer` and what is returned.
 */
size_t skytls_segment_id(const struct skytls_segment *segment, char *buffer, size_t size);

/**
 * Puts a pair into the correlation context, which travels with the trace: three pairs, values of 128
 * characters. An empty value takes the key out. Gives 1, or 0 if there is no room.
 */
int skytls_segment_correlate(struct skytls_segment *segment,
                             const char *key,
                             const char *value,
                             size_t value_len);

/**
 * Copies a value of the correlation context; see skytls_span_sw8() for `buffer` and what is returned.
 */
size_t skytls_segment_correlation(const struct skytls_segment *segment,
                                  const char *key,
                                  char *buffer,
                                  size_t size);

/**
 * Copies the segment, encoded as a SegmentObject, for hosts that bring it there themselves: as many of the bytes
 * as `size` allows. Gives how many there are. What is still open is taken to end now.
 */
size_t skytls_segment_encode(const struct skytls_segment *segment,
                             uint8_t *buffer,
                             size_t size);

/**
 * Gives the span another name.
 */
void skytls_span_operation(struct skytls_segment *segment,
                           int32_t span,
                           const char *operation,
                           size_t operation_len);

/**
 * Names the other side: a host and port.
 */
void skytls_span_peer(struct skytls_segment *segment,
                      int32_t span,
                      const char *peer,
                      size_t peer_len);

/**
 * Says which framework the span is about, by SkyWalking's number.
 */
void skytls_span_component(struct skytls_segment *segment, int32_t span, int32_t component);

/**
 * Says what kind of system the span is about, a SKYTLS_LAYER_…; other numbers are ignored.
 */
void skytls_span_layer(struct skytls_segment *segment, int32_t span, int layer);

/**
 * Marks the span as failed.
 */
void skytls_span_error(struct skytls_segment *segment, int32_t span);

/**
 * Keeps the span out of the backend's metrics.
 */
void skytls_span_skip_analysis(struct skytls_segment *segment, int32_t span);

/**
 * Adds a tag; `key` ends in NUL.
 */
void skytls_span_tag(struct skytls_segment *segment,
                     int32_t span,
                     const char *key,
                     const char *value,
                     size_t value_len);

/**
 * Adds a log of `pairs` keys and values, all of which end in NUL, at a time in milliseconds since 1970, or now
 * for 0.
 */
void skytls_span_log(struct skytls_segment *segment,
                     int32_t span,
                     int64_t time_ms,
                     size_t pairs,
                     const char *const *keys,
                     const char *const *values);

/**
 * Says that the span also continues what another request came from, as in a batch of messages. The first
 * reference of a segment decides its trace.
 */
void skytls_span_reference(struct skytls_segment *segment,
                           int32_t span,
                           const char *sw8,
                           size_t sw8_len);

/**
 * Says that the span continues a span of another thread's segment of this process. Nobody may change that
 * segment meanwhile.
 */
void skytls_span_follow(struct skytls_segment *segment,
                        int32_t span,
                        const struct skytls_segment *other,
                        int32_t other_span);

/**
 * Sets the start, in milliseconds since 1970.
 */
void skytls_span_started(struct skytls_segment *segment, int32_t span, int64_t time_ms);

/**
 * Ends the span at a time in milliseconds since 1970, or now for 0.
 */
void skytls_span_end(struct skytls_segment *segment, int32_t span, int64_t time_ms);

/**
 * Copies the header `sw8` that the request of this exit span is to carry: as much as fits, ended by NUL. Gives
 * its length without the NUL, as snprintf does, so that 0 means that there is none, and a length of `size` or
 * more that it was cut. 1024 bytes are enough for usual names.
 */
size_t skytls_span_sw8(const struct skytls_segment *segment,
                       int32_t span,
                       char *buffer,
                       size_t size);

/**
 * Copies the header `sw8-correlation` that the request of this exit span is to carry, likewise.
 */
size_t skytls_span_sw8_correlation(const struct skytls_segment *segment,
                                   int32_t span,
                                   char *buffer,
                                   size_t size);

/**
 * Says what an agent is doing in this process. Set `status->size` first; a structure of an older header is
 * filled as far as it goes. Never starts anything, and never waits.
 */
int skytls_agent_status(const struct skytls_agent *agent,
                        struct skytls_status *status,
                        struct skytls_error **err);

/**
 * Sends log lines up to `level` to a callback, for all agents of the process; NULL sends them nowhere.
 * When it returns, the callback before is not called any more. Not to be called from a callback.
 */
int skytls_log_set(int level,
                   skytls_log_callback callback,
                   void *userdata,
                   struct skytls_error **err);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SKYTLS_H */
