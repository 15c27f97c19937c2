/* victim.c -- the program that is killed, starved and lied to while it writes a log.
 *
 *   victim DIRECTORY [--seed N | --script FILE] [--sync none|interval|always] [--segment BYTES]
 *                    [--batch BYTES] [--operations N] [--truncate]
 *
 * With --seed it draws its commands itself, without end unless --operations bounds them; with
 * --script it takes them from a file ("-": standard input, one at a time).  Every fact (facts.h) is
 * one write to standard output, so a reader has all of them up to the instant of death.
 *
 *   open | create | readonly | close | abandon      a handle
 *   append COUNT BYTES                              COUNT records of up to BYTES each, in one call
 *   flush | roll | prefix OFFSET | suffix OFFSET    OFFSET: "+3" from the start, "-3" from the end
 *   cursor OFFSET | next | get OFFSET | lookup OFFSET | verify | readall | time OFFSET     reading
 *   limit KIB                                       address space: what is in use and KIB more
 *   guess                                           draw one command as --seed does
 *
 * It never checks what it reads against what it wrote, apart from the rules any record obeys: that
 * is the checker's duty, in a process that has seen none of the memory of this one. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "facts.h"

typedef struct victim {
    const char *directory;
    sl_options options;
    sl_log *log;
    sl_cursor *cursor;
    uint64_t random;
    int64_t told_durable;
    bool truncates;
    bool read_only;
} victim;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    char line[256];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int bytes =
        snprintf(line, sizeof line, "%lld ", (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    va_list arguments;
    va_start(arguments, format);
    bytes += vsnprintf(line + bytes, sizeof line - (size_t)bytes - 1, format, arguments);
    va_end(arguments);
    line[bytes++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)bytes) != bytes) _exit(3); /* nobody listens any more */
}

static void say_error(const char *command, int64_t status) {
    const sl_error *error = sl_last_error();
    say("error %s %s %d", command, sl_status_name((int32_t)(status < 0 ? -status : status)),
        error->system_errno);
}

/* Whatever the log calls durable by now is a promise, whoever synced it. */
static void tell_durable(victim *v) {
    if (v->log == NULL || v->read_only) return;
    int64_t durable = sl_log_durable_offset(v->log);
    if (durable > v->told_durable) say("durable %lld", (long long)durable);
    v->told_durable = durable;
}

static void tell_poison(victim *v) {
    sl_stats stats;
    if (v->log != NULL && sl_log_stats(v->log, &stats) == SL_OK && stats.poisoned_errno != 0)
        say("poisoned");
}

static int64_t where(victim *v, const char *word) {
    if (word[0] == '+') return sl_log_start_offset(v->log) + strtoll(word + 1, NULL, 10);
    if (word[0] == '-') return sl_log_end_offset(v->log) + strtoll(word, NULL, 10);
    return strtoll(word, NULL, 10);
}

static void do_open(victim *v, int32_t flags, const char *command) {
    v->options.flags = flags;
    v->read_only = (flags & SL_OPEN_READ_ONLY) != 0;
    sl_status status = sl_log_open(v->directory, &v->options, &v->log);
    if (status != SL_OK) {
        v->log = NULL;
        say_error(command, status);
        return;
    }
    say("opened %lld %lld", (long long)sl_log_start_offset(v->log),
        (long long)sl_log_end_offset(v->log));
    v->told_durable = -1;
    tell_durable(v);
}

static void do_append(victim *v, int64_t count, int64_t bytes_max) {
    int64_t first = sl_log_end_offset(v->log);
    int64_t nonce = (int64_t)(trial_draw(&v->random) >> 17 << 16) | bytes_max;
    trial_batch batch;
    if (!trial_records(first, count, nonce, &batch)) {
        say("error records SL_E_NO_MEMORY %d", ENOMEM);
        return;
    }
    say("begin append %lld %lld %lld", (long long)first, (long long)count, (long long)nonce);
    int64_t result = sl_log_append(v->log, &batch.records);
    if (result >= 0) {
        say("appended %lld %lld %lld", (long long)result, (long long)count, (long long)nonce);
        if (v->options.sync == SL_SYNC_ALWAYS) say("durable %lld", (long long)(result + count));
    } else {
        say("failed %lld %s %d", (long long)batch.records.out_appended_count,
            sl_status_name((int32_t)-result), sl_last_error()->system_errno);
        tell_poison(v);
    }
    trial_records_free(&batch);
}

static void do_truncate(victim *v, const char *fact, int64_t offset,
                        sl_status (*truncate_log)(sl_log *, int64_t)) {
    say("begin %s %lld", fact, (long long)offset);
    sl_status status = truncate_log(v->log, offset);
    if (status == SL_OK) {
        say("%s %lld", fact, (long long)offset);
        v->told_durable = -1;
    } else {
        say_error(fact, status);
        tell_poison(v);
    }
}

/* Read to the end with the cursor there is.  rows_max 0: all. */
static void do_next(victim *v, const char *command, int64_t rows_max) {
    int64_t total = 0;
    sl_columns columns;
    trial_columns(&columns);
    if (rows_max > 0 && rows_max < columns.capacity) columns.capacity = rows_max;
    for (;;) {
        int64_t count = sl_cursor_next(v->cursor, &columns);
        if (count < 0) {
            say_error(command, count);
            return;
        }
        uint64_t sum = 0;
        for (int64_t i = 0; i < count; i++)
            for (int32_t k = columns.value_start[i]; k < columns.value_end[i]; k++)
                sum += columns.base[k];
        sl_pin_release(columns.pin);
        total += count;
        if (count == 0 || total == rows_max) {
            say("done %s %lld %llu", command, (long long)total, (unsigned long long)sum);
            return;
        }
    }
}

static bool do_cursor(victim *v, const char *command, int64_t offset) {
    sl_cursor_close(v->cursor);
    sl_status status = sl_cursor_open(v->log, offset, 0, &v->cursor);
    if (status != SL_OK) say_error(command, status);
    return status == SL_OK;
}

static void do_get(victim *v, int64_t offset) {
    sl_columns columns;
    trial_columns(&columns);
    int64_t result = sl_log_get(v->log, offset, &columns);
    if (result < 0) {
        say_error("get", result);
        return;
    }
    volatile uint8_t last = 0;
    for (int64_t i = 0; i < columns.base_bytes; i++) last = columns.base[i];
    (void)last;
    sl_pin_release(columns.pin);
    say("done get %lld", (long long)columns.offsets[0]);
}

static void do_lookup(victim *v, int64_t offset) {
    int64_t timestamp_ms;
    int32_t key_bytes;
    int32_t value_bytes;
    sl_buffer out = {0};
    int64_t result =
        sl_log_lookup_many(v->log, &offset, 1, &timestamp_ms, &key_bytes, &value_bytes, &out);
    sl_buffer_free(&out);
    if (result < 0) {
        say_error("lookup", result);
    } else {
        say("done lookup %lld", (long long)result);
    }
}

static void do_verify(victim *v) {
    int64_t problems = 0;
    int64_t segments = sl_log_segment_count(v->log);
    for (int64_t i = 0; i < segments; i++) {
        sl_problem problem;
        int64_t batches;
        int64_t records;
        int64_t result = sl_log_verify_segment(v->log, i, &problem, 1, &batches, &records);
        if (result < 0) {
            say_error("verify", result);
            return;
        }
        problems += result;
    }
    say("done verify %lld", (long long)problems);
}

static void do_limit(int64_t kibibytes) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld", &pages) != 1) _exit(4);
    fclose(file);
    rlim_t bytes = (rlim_t)pages * 4096 + (rlim_t)kibibytes * 1024;
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(4);
    say("done limit");
}

static void guess(victim *v);

static void close_handle(victim *v, bool abandon) {
    sl_cursor_close(v->cursor);
    v->cursor = NULL;
    int64_t end = sl_log_end_offset(v->log);
    sl_status status = SL_OK;
    if (abandon) {
        sl_log_abandon(v->log);
    } else {
        status = sl_log_close(v->log);
    }
    v->log = NULL;
    if (status != SL_OK) {
        say_error("close", status);
    } else {
        if (!abandon && !v->read_only) say("durable %lld", (long long)end);
        say("done close");
    }
}

/* The commands that need a handle. */
static void with_handle(victim *v, const char *command, const char *first, const char *second) {
    sl_status status = SL_OK;
    if (strcmp(command, "append") == 0) {
        do_append(v, strtoll(first, NULL, 10), strtoll(second, NULL, 10));
    } else if (strcmp(command, "prefix") == 0) {
        do_truncate(v, "start", where(v, first), sl_log_truncate_prefix);
    } else if (strcmp(command, "suffix") == 0) {
        do_truncate(v, "truncated", where(v, first), sl_log_truncate_suffix);
    } else if (strcmp(command, "flush") == 0 || strcmp(command, "roll") == 0) {
        status = command[0] == 'f' ? sl_log_flush(v->log) : sl_log_roll(v->log);
        if (status == SL_OK) {
            say("done %s", command);
        } else {
            say_error(command, status);
            tell_poison(v);
        }
    } else if (strcmp(command, "close") == 0 || strcmp(command, "abandon") == 0) {
        close_handle(v, command[0] == 'a');
    } else if (strcmp(command, "cursor") == 0) {
        if (do_cursor(v, command, where(v, first))) say("done cursor");
    } else if (strcmp(command, "next") == 0) {
        do_next(v, "next", strtoll(first, NULL, 10));
    } else if (strcmp(command, "readall") == 0) {
        if (do_cursor(v, command, sl_log_start_offset(v->log))) do_next(v, command, 0);
    } else if (strcmp(command, "get") == 0) {
        do_get(v, where(v, first));
    } else if (strcmp(command, "lookup") == 0) {
        do_lookup(v, where(v, first));
    } else if (strcmp(command, "verify") == 0) {
        do_verify(v);
    } else if (strcmp(command, "time") == 0) {
        int64_t result = sl_log_offset_for_timestamp(v->log, trial_time_ms(where(v, first)), NULL);
        if (result < 0) {
            say_error("time", result);
        } else {
            say("done time %lld", (long long)result);
        }
    } else {
        say("error %s unknown 0", command);
        exit(2);
    }
    tell_durable(v);
}

static void execute(victim *v, const char *line) {
    char command[32] = "";
    char first[32] = "0";
    char second[32] = "0";
    if (sscanf(line, "%31s %31s %31s", command, first, second) < 1) return;
    if (strcmp(command, "limit") == 0) {
        do_limit(strtoll(first, NULL, 10));
    } else if (strcmp(command, "create") == 0 || strcmp(command, "open") == 0 ||
               strcmp(command, "readonly") == 0) {
        if (v->log != NULL) close_handle(v, false);
        do_open(v,
                command[0] == 'c'   ? SL_OPEN_CREATE
                : command[0] == 'r' ? SL_OPEN_READ_ONLY
                                    : 0,
                command);
    } else if (v->log == NULL) {
        say("error %s SL_E_CLOSED 0", command);
    } else if (strcmp(command, "guess") == 0) {
        guess(v);
    } else {
        with_handle(v, command, first, second);
    }
}

/* One random command: mostly appends of mixed sizes, now and then everything else. */
static void guess(victim *v) {
    static const int64_t counts[] = {1, 1, 1, 2, 5, 20, 100, 400};
    static const int64_t bytes[] = {0, 20, 100, 100, 300, 1000, 4000};
    char line[64];
    int64_t draw = trial_below(&v->random, 1000);
    int64_t held = sl_log_end_offset(v->log) - sl_log_start_offset(v->log);
    if (draw < 20) {
        snprintf(line, sizeof line, "roll");
    } else if (draw < 60) {
        snprintf(line, sizeof line, "flush");
    } else if (draw < 66) {
        snprintf(line, sizeof line, "create"); /* closes first */
    } else if (v->truncates && draw < 76) {
        snprintf(line, sizeof line, "prefix +%lld",
                 (long long)trial_below(&v->random, held / 2 + 1));
    } else if (v->truncates && draw < 86) {
        snprintf(line, sizeof line, "suffix -%lld",
                 (long long)trial_below(&v->random, held / 4 + 1));
    } else {
        int64_t count = counts[trial_below(&v->random, 8)];
        int64_t limit = bytes[trial_below(&v->random, 7)];
        /* No call longer than 64 KiB, so that a small segment or disk takes it. */
        if (count * (limit + 24) > 1 << 16) count = (1 << 16) / (limit + 24);
        snprintf(line, sizeof line, "append %lld %lld", (long long)count, (long long)limit);
    }
    execute(v, line);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    victim v = {.directory = argv[1], .random = 1};
    sl_options_default(&v.options);
    v.options.sync_interval_ms = 5;
    v.options.sync_interval_bytes = 64 << 10;
    v.options.segment_bytes = 256 << 10;
    v.options.index_interval_bytes = 512;
    v.options.batch_bytes = 8 << 10;
    const char *script = NULL;
    int64_t operations = INT64_MAX;
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(argv[i], "--truncate") == 0) {
            v.truncates = true;
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--seed") == 0)
            v.random = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--script") == 0)
            script = value;
        else if (strcmp(argv[i - 1], "--segment") == 0)
            v.options.segment_bytes = atoll(value);
        else if (strcmp(argv[i - 1], "--batch") == 0)
            v.options.batch_bytes = atoi(value);
        else if (strcmp(argv[i - 1], "--operations") == 0)
            operations = atoll(value);
        else if (strcmp(argv[i - 1], "--sync") == 0)
            v.options.sync = value[0] == 'a'   ? SL_SYNC_ALWAYS
                             : value[0] == 'i' ? SL_SYNC_INTERVAL
                                               : SL_SYNC_NONE;
        else
            return 2;
    }
    if (script == NULL) {
        execute(&v, "create");
        if (v.log == NULL) return 1;
        while (operations-- > 0 && v.log != NULL) guess(&v);
    } else {
        FILE *input = strcmp(script, "-") == 0 ? stdin : fopen(script, "re");
        char line[128];
        while (input != NULL && fgets(line, sizeof line, input) != NULL) execute(&v, line);
        if (input != NULL && input != stdin) fclose(input);
    }
    if (v.log != NULL) close_handle(&v, false);
    say("end");
    return 0;
}
