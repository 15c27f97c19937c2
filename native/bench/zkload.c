/* zkload.c -- stratalog-zkload: a ZooKeeper server, anybody's, under load through its own protocol.
 *
 * A client in Python measures itself; this one is a loop over epoll in C.  One call, one command,
 * one line of JSON on standard output:
 *
 *   run        N connections, each with a window of W requests under way, for a time or a count:
 *              create, get, set, exists, or mix (9 gets for 1 set); a window of 1 is synchronous
 *   watches    N data watches over C connections, then one set for each znode: every event awaited
 *   sessions   N sessions opened, and held with pings until standard input ends
 *   echo       a server that answers as ZooKeeper does and keeps nothing: what the loop itself costs
 *   sync       write and fdatasync, one after the other: what a disk allows
 *
 *     setup          warm-up            measured               drain
 *   |--------------|------------------|----------------------|--------|
 *    znodes made    by ms, then by      replies that came     replies still due
 *    for get, set   count               within it are counted are checked as well
 *
 * With --steer 1 a line says when the measured part begins, and it lasts until standard input says
 * "q"; digits 0 to 3 change the mark under which latencies are kept.  A request whose mark changed under way counts for the
 * greater one, so that 0 is what nothing disturbed.
 *
 * Paths.  /zkload/k/NNNNNNN are the keys.  create makes /zkload/NAME.C.B and below it, for each of
 * C connections, blocks B of 999 children; all of them are counted.  NAME must be new to a server.
 *
 * Figures.  Rates over CLOCK_MONOTONIC; latencies as in zkload_histogram.h, from the building of a
 * batch to the read that brought the reply; --pid adds the processor time that the server took
 * within the measured part (/proc/PID/stat, in ticks of 10 ms).
 *
 * What it leaves to others: starting servers, rounds, ratios (the benchmark package). */
#define _GNU_SOURCE
#include "zkload.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    MARKS = 4,
    BLOCK_ZNODES = 1000, /* of create: a parent and its children */
    IN_BYTES = 1 << 18,
    SYNC_FILE_BYTES = 64 << 20
};

/* ---- complaints, memory, time ------------------------------------------------------------------- */

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("stratalog-zkload: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
    exit(1);
}

void die_system(const char *what) { die("%s: %s", what, strerror(errno)); }

void *memory(size_t count, size_t bytes) {
    void *p = calloc(count > 0 ? count : 1, bytes > 0 ? bytes : 1);
    if (p == NULL) die("no memory for %zu times %zu bytes", count, bytes);
    return p;
}

int64_t now_ns(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0) die_system("clock_gettime");
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double own_cpu_seconds(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) die_system("getrusage");
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double cpu_seconds_of(int64_t pid) {
    if (pid == 0) return 0;
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) die_system(path);
    char text[1024];
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[bytes] = '\0';
    /* The name in parentheses may hold anything; the fields after its end are numbers. */
    const char *end = strrchr(text, ')');
    unsigned long long user = 0;
    unsigned long long kernel = 0;
    if (end == NULL || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                              &user, &kernel) != 2)
        die("%s: not understood", path);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

void value_of_znodes(uint8_t *value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) value[i] = (uint8_t)('a' + i * 7 % 26);
}

void allow_many_descriptors(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) die_system("getrlimit");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) die_system("setrlimit");
}

/* ---- run: znodes and requests --------------------------------------------------------------------- */

typedef enum { SETUP, WARM, MEASURE, DRAIN } phase;

typedef struct {
    phase phase;
    bool by_words; /* steered: standard input ends it */
    int32_t op;    /* 0: the mix */
    uint64_t setup_next;
    uint64_t setup_end;
    uint64_t random;
    uint64_t asked; /* since the warm-up began */
    uint64_t asked_max;
    uint64_t answered;
    uint64_t sets;
    uint64_t measured;
    int64_t begun_ns; /* of the warm-up, then of the measured part */
    int64_t ended_ns;
    double server_cpu_seconds;
    double own_cpu_seconds;
    histogram marks[MARKS];
} run_state;

/* Items of the setup: 0 and 1 are the parents, then come the keys.  Items of a create: connection
 * and number. */
static const uint64_t SETUP_PARENTS = 2;

static uint64_t create_item(uint64_t number, uint32_t connection_number) {
    return number << 16 | connection_number;
}

static char *put_number(char *at, uint64_t number, int digits) {
    for (int i = digits - 1; i >= 0; i--, number /= 10) at[i] = (char)('0' + number % 10);
    return at + digits;
}

static size_t key_path(uint64_t key, char *path) {
    memcpy(path, "/zkload/k/", 10);
    return (size_t)(put_number(path + 10, key, 7) - path);
}

static size_t run_path(const load *l, int32_t op, uint64_t item, char *path) {
    const run_state *run = l->more;
    if (run->phase == SETUP) {
        if (item >= SETUP_PARENTS) return key_path(item - SETUP_PARENTS, path);
        const char *parent = item == 0 ? "/zkload" : "/zkload/k";
        size_t bytes = strlen(parent);
        memcpy(path, parent, bytes);
        return bytes;
    }
    if (op != OP_CREATE) return key_path(item, path);
    uint64_t number = item >> 16;
    size_t name_bytes = strlen(l->s->name);
    char *at = path;
    memcpy(at, "/zkload/", 8);
    memcpy(at + 8, l->s->name, name_bytes);
    at += 8 + name_bytes;
    *at++ = '.';
    at = put_number(at, item & 0xffff, 5);
    *at++ = '.';
    at = put_number(at, number / BLOCK_ZNODES, 5);
    if (number % BLOCK_ZNODES != 0) {
        *at++ = '/';
        at = put_number(at, number % BLOCK_ZNODES, 3);
    }
    return (size_t)(at - path);
}

static uint64_t draw(run_state *run) { /* xorshift64* */
    run->random ^= run->random >> 12;
    run->random ^= run->random << 25;
    run->random ^= run->random >> 27;
    return run->random * UINT64_C(2685821657736338717) >> 32;
}

static void begin_measuring(load *l, run_state *run) {
    run->phase = MEASURE;
    run->server_cpu_seconds = -cpu_seconds_of(l->s->pid);
    run->own_cpu_seconds = -own_cpu_seconds();
    run->begun_ns = now_ns();
    if (run->by_words) {
        (void)printf("{\"measuring\": true}\n");
        if (fflush(stdout) != 0) die_system("standard output");
    }
}

static void end_measuring(load *l, run_state *run) {
    run->phase = DRAIN;
    run->ended_ns = now_ns();
    run->server_cpu_seconds += cpu_seconds_of(l->s->pid);
    run->own_cpu_seconds += own_cpu_seconds();
}

/* Go on to the next part if this one is over. */
static void advance(load *l, run_state *run) {
    const settings *s = l->s;
    if (run->phase == WARM && l->now_ns - run->begun_ns >= s->warmup_ms * 1000000 &&
        run->answered >= (uint64_t)s->warmup_count)
        begin_measuring(l, run);
    else if (run->phase == MEASURE && s->count > 0 && run->measured >= (uint64_t)s->count)
        end_measuring(l, run);
    else if (run->phase == MEASURE && s->count == 0 && !run->by_words &&
             l->now_ns - run->begun_ns >= s->measure_ms * 1000000)
        end_measuring(l, run);
}

static void run_refill(load *l, connection *c) {
    run_state *run = l->more;
    const uint32_t window = (uint32_t)l->s->window;
    advance(l, run);
    if (run->phase == DRAIN) return;
    if (run->phase == SETUP) {
        while (c->number == 0 && c->flights_count < window && run->setup_next < run->setup_end)
            ask(l, c, OP_CREATE, false, run->setup_next++);
        return;
    }
    while (c->flights_count < window && run->asked < run->asked_max) {
        run->asked++;
        if (run->op == OP_CREATE) {
            ask(l, c, OP_CREATE, false, create_item(c->asked++, c->number));
            continue;
        }
        uint64_t key = draw(run) % (uint64_t)l->s->keys;
        int32_t op = run->op != 0 ? run->op : draw(run) % 10 == 0 ? OP_SET : OP_GET;
        ask(l, c, op, false, key);
    }
}

static void run_replied(load *l, connection *c, const flight *asked, const reply *got) {
    run_state *run = l->more;
    if (run->phase == SETUP) {
        if (got->err == ERR_NODE_EXISTS) {
            /* From an earlier run; its value may have another size. */
            if (asked->item >= SETUP_PARENTS) ask(l, c, OP_SET, false, asked->item);
        } else if (got->err != 0) {
            count_error(got->err);
        }
        return;
    }
    advance(l, run); /* exactly at a count, not at the end of a batch */
    run->answered++;
    if (got->err != 0) count_error(got->err);
    if (run->phase != MEASURE || (l->s->count > 0 && run->measured >= (uint64_t)l->s->count))
        return;
    run->measured++;
    if (asked->op == OP_SET) run->sets++;
    uint32_t mark = asked->mark > l->mark ? asked->mark : l->mark;
    histogram_add(&run->marks[mark], l->now_ns - asked->sent_ns);
}

static void run_told(load *l, char word) {
    run_state *run = l->more;
    if (word >= '0' && word < '0' + MARKS) {
        l->mark = (uint32_t)(word - '0');
    } else if (word == 'q' || word == 0) {
        if (run->phase < MEASURE) die("it was over before anything was measured");
        if (run->phase == MEASURE) end_measuring(l, run);
    } else if (word != '\n') {
        die("standard input says 0 to %d, or q", MARKS - 1);
    }
}

static void print_histogram(const char *name, const histogram *h) {
    (void)printf("\"%s\": {\"requests\": %" PRIu64 ", \"p50_us\": %.3f, \"p90_us\": %.3f, "
                 "\"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.3f}",
                 name, h->count, (double)histogram_percentile(h, 0.5) / 1e3,
                 (double)histogram_percentile(h, 0.9) / 1e3,
                 (double)histogram_percentile(h, 0.99) / 1e3,
                 (double)histogram_percentile(h, 0.999) / 1e3, (double)h->max / 1e3);
}

static void print_run(const settings *s, const run_state *run) {
    static histogram all;
    for (int mark = 0; mark < MARKS; mark++) {
        const histogram *h = &run->marks[mark];
        for (int i = 0; i < HISTOGRAM_BUCKETS; i++) all.counts[i] += h->counts[i];
        all.count += h->count;
        if (h->max > all.max) all.max = h->max;
    }
    double seconds = (double)(run->ended_ns - run->begun_ns) / 1e9;
    (void)printf("{\"op\": \"%s\", \"connections\": %" PRId64 ", \"window\": %" PRId64
                 ", \"value_bytes\": %" PRId64 ", \"requests\": %" PRIu64 ", \"sets\": %" PRIu64
                 ", \"warmup_and_drained\": %" PRIu64 ", \"seconds\": %.9f, "
                 "\"server_cpu_seconds\": %.3f, \"load_cpu_seconds\": %.6f, ",
                 s->op, s->connections, s->window, s->value_bytes, run->measured, run->sets,
                 run->answered - run->measured, seconds, run->server_cpu_seconds,
                 run->own_cpu_seconds);
    print_histogram("latency", &all);
    for (int mark = 0; s->steer != 0 && mark < MARKS; mark++) {
        char name[24];
        (void)snprintf(name, sizeof name, "mark_%d", mark);
        (void)printf(", ");
        print_histogram(name, &run->marks[mark]);
    }
    (void)printf("}\n");
}

static int32_t op_of(const char *name) {
    static const struct {
        const char *name;
        int32_t op;
    } known[] = {
        {"create", OP_CREATE}, {"get", OP_GET}, {"set", OP_SET}, {"exists", OP_EXISTS}, {"mix", 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i].name) == 0) return known[i].op;
    die("--op is one of create, get, set, exists, mix");
}

static void run_load(const settings *s) {
    if (strlen(s->name) == 0 || strlen(s->name) > 32 || strchr(s->name, '/') != NULL)
        die("--name is 1 to 32 characters without a slash");
    if (s->count > 0 && (s->warmup_ms > 0 || s->steer != 0))
        die("--count goes with --warmup-count, and with nothing that ends a part otherwise");
    run_state *run = memory(1, sizeof *run);
    run->op = op_of(s->op);
    run->by_words = s->steer != 0;
    run->random = (uint64_t)s->seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    run->setup_end = SETUP_PARENTS + (run->op == OP_CREATE ? 0 : (uint64_t)s->keys);
    run->asked_max = s->count > 0 ? (uint64_t)(s->warmup_count + s->count) : UINT64_MAX;
    load l = {.path_of = run_path, .replied = run_replied, .told = run_told, .more = run};
    load_begin(&l, s, (uint32_t)s->connections, IN_BYTES);
    load_connect_all(&l);
    if (run->by_words) load_steer(&l);
    l.refill = run_refill;
    run_refill(&l, &l.connections[0]);
    flush_requests(&l, &l.connections[0]);
    while (run->setup_next < run->setup_end || l.under_way > 0) load_turn(&l, -1);
    check_errors(run->setup_end);
    run->begun_ns = l.now_ns = now_ns();
    run->phase = WARM;
    for (uint32_t i = 0; i < l.connections_count; i++) {
        run_refill(&l, &l.connections[i]);
        flush_requests(&l, &l.connections[i]);
    }
    while (run->phase != DRAIN || l.under_way > 0) load_turn(&l, 1000);
    check_errors(run->answered);
    print_run(s, run);
    load_end(&l);
    free(run);
}

/* ---- sync: the floor of a disk ---------------------------------------------------------------------- */

/* Writes of --value-bytes, each with its own fdatasync, into space that is reserved. */
static void sync_each(const settings *s) {
    if (s->dir == NULL) die("--dir is required: the floor of a disk is the floor of that disk");
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/stratalog-zkload.sync", s->dir);
    if (n < 0 || (size_t)n >= sizeof path) die("--dir is too long");
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) die_system(path);
    if (unlink(path) != 0) die_system(path);
    if (posix_fallocate(fd, 0, SYNC_FILE_BYTES) != 0) die("no space for %d bytes", SYNC_FILE_BYTES);
    if (fsync(fd) != 0) die_system("fsync");
    uint8_t *value = memory((size_t)s->value_bytes, 1);
    memset(value, 's', (size_t)s->value_bytes);
    static histogram taken;
    int64_t begun_ns = now_ns();
    int64_t end_ns = begun_ns + s->measure_ms * 1000000;
    int64_t at_ns = begun_ns;
    int64_t position = 0;
    while (s->count > 0 ? (int64_t)taken.count < s->count : at_ns < end_ns) {
        if (position + s->value_bytes > SYNC_FILE_BYTES) position = 0;
        if (pwrite(fd, value, (size_t)s->value_bytes, position) != s->value_bytes)
            die_system("pwrite");
        if (fdatasync(fd) != 0) die_system("fdatasync");
        position += s->value_bytes;
        int64_t done_ns = now_ns();
        histogram_add(&taken, done_ns - at_ns);
        at_ns = done_ns;
    }
    (void)printf("{\"value_bytes\": %" PRId64 ", \"requests\": %" PRIu64 ", \"seconds\": %.9f, ",
                 s->value_bytes, taken.count, (double)(at_ns - begun_ns) / 1e9);
    print_histogram("latency", &taken);
    (void)printf("}\n");
    free(value);
    close(fd);
}

/* ---- the command line --------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    void (*run)(const settings *s);
} command;

static const command COMMANDS[] = {
    {"run", run_load}, {"watches", watches}, {"sessions", sessions},
    {"echo", echo},    {"sync", sync_each},
};

typedef struct {
    const char *name;
    const char **text;
    int64_t *number;
    int64_t low;
    int64_t high;
} option;

static int64_t number_of(const option *wanted, const char *text) {
    char *stop = NULL;
    errno = 0;
    long long value = strtoll(text, &stop, 10);
    if (errno != 0 || stop == text || *stop != '\0' || value < wanted->low || value > wanted->high)
        die("%s wants a number from %" PRId64 " to %" PRId64, wanted->name, wanted->low,
            wanted->high);
    return value;
}

int main(int count, char **values) {
    settings s = {.host = "127.0.0.1",
                  .name = "run",
                  .op = "get",
                  .connections = 4,
                  .window = 200,
                  .value_bytes = 100,
                  .keys = 10000,
                  .measure_ms = 1000,
                  .timeout_ms = 30000,
                  .seed = 1};
    const option options[] = {
        {"--host", &s.host, NULL, 0, 0},
        {"--name", &s.name, NULL, 0, 0},
        {"--op", &s.op, NULL, 0, 0},
        {"--dir", &s.dir, NULL, 0, 0},
        {"--port", NULL, &s.port, 0, 65535},
        {"--connections", NULL, &s.connections, 1, 65535},
        {"--window", NULL, &s.window, 1, 1 << 20},
        {"--value-bytes", NULL, &s.value_bytes, 1, 1 << 20},
        {"--keys", NULL, &s.keys, 1, 9999999},
        {"--count", NULL, &s.count, 0, INT64_C(1) << 40},
        {"--warmup-count", NULL, &s.warmup_count, 0, INT64_C(1) << 40},
        {"--measure-ms", NULL, &s.measure_ms, 1, INT64_C(1) << 40},
        {"--warmup-ms", NULL, &s.warmup_ms, 0, INT64_C(1) << 40},
        {"--timeout-ms", NULL, &s.timeout_ms, 1, 1 << 30},
        {"--seed", NULL, &s.seed, 1, INT64_MAX},
        {"--pid", NULL, &s.pid, 0, 1 << 30},
        {"--steer", NULL, &s.steer, 0, 1},
    };
    const size_t known = sizeof options / sizeof options[0];
    const size_t commands = sizeof COMMANDS / sizeof COMMANDS[0];
    size_t chosen = 0;
    while (chosen < commands && (count < 2 || strcmp(values[1], COMMANDS[chosen].name) != 0))
        chosen++;
    if (chosen == commands) die("the first argument is one of run, watches, sessions, echo, sync");
    for (int i = 2; i < count; i += 2) {
        size_t which = 0;
        while (which < known && strcmp(values[i], options[which].name) != 0) which++;
        if (which == known) die("unknown option %s", values[i]);
        if (i + 1 >= count) die("%s wants a value", values[i]);
        if (options[which].text != NULL)
            *options[which].text = values[i + 1];
        else
            *options[which].number = number_of(&options[which], values[i + 1]);
    }
    COMMANDS[chosen].run(&s);
    return fflush(stdout) == 0 ? 0 : 1;
}
