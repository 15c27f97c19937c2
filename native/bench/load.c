/* load.c -- stratalog-load: this engine under load, through its public C interface alone.
 *
 * A Python loop around the engine measures Python; this program is the loop in the engine's own
 * language, as the Java and Go peers have theirs.  One call, one workload, one line of JSON:
 *
 *   append     records of the pool, in batches or one by one, by one thread or several, or by many
 *              appenders on one thread that wait for durability
 *   scan       every record in order; the first pass after an open, then the measured one
 *   get        records at the offsets of a file, one by one or 1,000 a call
 *   seek-time  offsets of random timestamps
 *   recover    open after SIGKILL: a child fills the log without a flush and is killed
 *   open       open of a log of many clean segments
 *   tree       the disk that many small logs occupy, while open and closed
 *   grow       append, get and open of a log that has reached a given size
 *
 *   {"seconds", "cpu_seconds", "records", "bytes", "payload_crc32", "extra": {...}}
 *
 * Bytes.  Record i is record i mod p of the pool, a file of p records that payload.py makes from a
 * seed, so that everybody stores the same.  Whatever was stored is read back and compared with the
 * pool here, outside the measurement: a program that lost a byte prints no figure, but the reason,
 * and ends with status 1.  payload_crc32 is zlib's, over what was read back, in the order of the
 * offsets (of the lookups for `get`); the harness compares it once more.
 *
 * Clocks.  CLOCK_MONOTONIC and getrusage, user plus system time of all threads, around the
 * workload alone: opening, filling, checking and closing are outside, unless they are the workload.
 *
 * What it leaves to others: floors (floors.c), sizes and rounds, and every ratio (the benchmark
 * package).  Codecs are plugged in by Python, hence measured there. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crc32.h"
#include "measure.h"
#include "stratalog.h"

enum {
    CHUNK_RECORDS = 2048, /* of one sl_cursor_next: as the Python binding asks */
    LOOKUP_RECORDS = 1000,
    GROW_REPEATS = 5,
    THREADS_MAX = 1024
};
static const int64_t FIRST_TIMESTAMP_MS = 1700000000000;

/* ---- settings and the pool ------------------------------------------------------------------- */

typedef struct {
    const char *dir;
    const char *payload;
    const char *lookups_path;
    const char *sync;
    int64_t record_bytes;
    int64_t batch_records;
    int64_t records;       /* of the workload; or 0 and log_bytes says how much to fill */
    int64_t log_bytes;     /* fill until the log has as many bytes of batches */
    int64_t threads;       /* of append */
    int64_t tickets;       /* of append: so many durable records under way on one thread */
    int64_t count;         /* segments of open, logs of tree */
    int64_t segment_bytes; /* 0: the engine's default */
    int64_t lookups;       /* how many random ones, where there is no file of them */
    int64_t seed;
    int64_t touch; /* scan: the checksum of every byte inside the measurement */
    int64_t many;  /* get: 1,000 offsets a call */
} settings;

typedef struct {
    uint8_t *data;
    int64_t records;
} payload;

static void *read_file(const char *path, size_t *out_bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat file;
    if (fd < 0 || fstat(fd, &file) != 0) die_system(path);
    size_t bytes = (size_t)file.st_size;
    uint8_t *data = memory(bytes, 1);
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(fd, data + done, bytes - done);
        if (n <= 0) die_system(path);
        done += (size_t)n;
    }
    close(fd);
    *out_bytes = bytes;
    return data;
}

static payload load_payload(const settings *s) {
    if (s->payload == NULL) die("--payload is required: the file of the records");
    size_t bytes = 0;
    payload pool = {.data = read_file(s->payload, &bytes)};
    pool.records = (int64_t)bytes / s->record_bytes;
    if (pool.records < 1 || pool.records % s->batch_records != 0)
        die("the payload must hold a whole number of batches of %" PRId64 " records",
            s->batch_records);
    return pool;
}

static const uint8_t *record_at(const settings *s, const payload *pool, int64_t number) {
    return pool->data + number % pool->records * s->record_bytes;
}

static uint32_t expected_crc(const settings *s, const payload *pool, int64_t records) {
    uint32_t crc = 0;
    for (int64_t done = 0; done < records; done += pool->records) {
        int64_t piece = records - done < pool->records ? records - done : pool->records;
        crc = crc32_of(crc, pool->data, (size_t)(piece * s->record_bytes));
    }
    return crc;
}

/* ---- the log ------------------------------------------------------------------------------------ */

static sl_log *open_log(const settings *s, const char *name, int32_t flags) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", s->dir, name);
    if (n < 0 || (size_t)n >= sizeof path) die("--dir is too long");
    sl_options options;
    sl_options_default(&options);
    options.flags = flags;
    options.sync = strcmp(s->sync, "always") == 0     ? SL_SYNC_ALWAYS
                   : strcmp(s->sync, "interval") == 0 ? SL_SYNC_INTERVAL
                                                      : SL_SYNC_NONE;
    if (s->segment_bytes > 0) options.segment_bytes = s->segment_bytes;
    sl_log *log = NULL;
    check_status(sl_log_open(path, &options, &log), "open");
    return log;
}

static sl_stats stats_of(sl_log *log) {
    sl_stats stats;
    check_status(sl_log_stats(log, &stats), "stats");
    return stats;
}

static void close_log(sl_log *log) { check_status(sl_log_close(log), "close"); }

static sl_records batch_of(const settings *s) {
    return (sl_records){.count = s->batch_records,
                        .uniform_value_bytes = (int32_t)s->record_bytes,
                        .timestamp_ms = -1,
                        .codec_level = INT32_MIN,
                        .leader_epoch = -1,
                        .producer_epoch = -1,
                        .base_sequence = -1,
                        .producer_id = -1};
}

/* Append records [first, end) as a user would: a call for each batch, or the short call for one. */
static void append_range(sl_log *log, const settings *s, const payload *pool, int64_t first,
                         int64_t end_record) {
    if (s->batch_records == 1) {
        for (int64_t i = first; i < end_record; i++)
            checked(sl_log_append_value(log, record_at(s, pool, i), (size_t)s->record_bytes),
                    "append");
        return;
    }
    sl_records batch = batch_of(s);
    for (int64_t i = first; i < end_record; i += s->batch_records) {
        batch.values = record_at(s, pool, i);
        checked(sl_log_append(log, &batch), "append");
    }
}

/* Append --records records, or as many as --log-bytes takes; returns how many. */
static int64_t fill(sl_log *log, const settings *s, const payload *pool) {
    if (s->log_bytes == 0) {
        append_range(log, s, pool, 0, s->records);
        return s->records;
    }
    int64_t records = 0;
    while (stats_of(log).log_bytes < s->log_bytes) {
        append_range(log, s, pool, records, records + s->batch_records);
        records += s->batch_records;
    }
    return records;
}

/* ---- reading back --------------------------------------------------------------------------------- */

typedef struct {
    int64_t records;
    int64_t bytes;
    uint32_t crc;     /* of all bytes in the order of the offsets */
    uint64_t crc_sum; /* of the checksums of the records: whatever their order */
} totals;

typedef enum { LENGTHS, EVERY_BYTE, EVERY_RECORD } depth;

static totals read_all(sl_log *log, depth how) {
    static int64_t offsets[CHUNK_RECORDS];
    static int32_t starts[CHUNK_RECORDS];
    static int32_t ends[CHUNK_RECORDS];
    sl_columns columns = {
        .capacity = CHUNK_RECORDS, .offsets = offsets, .value_start = starts, .value_end = ends};
    sl_cursor *cursor = NULL;
    check_status(sl_cursor_open(log, sl_log_start_offset(log), 0, &cursor), "cursor");
    totals seen = {0};
    int64_t count;
    while ((count = checked(sl_cursor_next(cursor, &columns), "read")) > 0) {
        for (int64_t i = 0; i < count; i++) {
            size_t bytes = (size_t)(ends[i] - starts[i]);
            const uint8_t *value = columns.base + starts[i];
            seen.bytes += (int64_t)bytes;
            if (how == LENGTHS) continue;
            seen.crc = crc32_of(seen.crc, value, bytes);
            if (how == EVERY_RECORD) seen.crc_sum += crc32_of(0, value, bytes);
        }
        seen.records += count;
        sl_pin_release(columns.pin);
    }
    sl_cursor_close(cursor);
    return seen;
}

/* Compare everything in the log with the pool; returns what was seen. */
static totals check_contents(sl_log *log, const settings *s, const payload *pool, int64_t records) {
    totals seen = read_all(log, s->threads > 1 ? EVERY_RECORD : EVERY_BYTE);
    if (seen.records != records || seen.bytes != records * s->record_bytes)
        die("%" PRId64 " records of %" PRId64 " bytes should be there, found %" PRId64
            " of %" PRId64,
            records, records * s->record_bytes, seen.records, seen.bytes);
    if (s->threads > 1) {
        /* Who comes first is the threads' affair; that each record is there once is not. */
        uint64_t sum = 0;
        for (int64_t i = 0; i < records; i++)
            sum += crc32_of(0, record_at(s, pool, i), (size_t)s->record_bytes);
        if (seen.crc_sum != sum) die("the records read back are not those appended");
    } else if (seen.crc != expected_crc(s, pool, records)) {
        die("the bytes read back are not those appended");
    }
    return seen;
}

static void add_stats(sl_log *log) {
    sl_stats stats = stats_of(log);
    add_extra("log_bytes", (double)stats.log_bytes);
    add_extra("segment_count", (double)stats.segment_count);
    add_extra("sync_count", (double)stats.sync_count);
}

/* ---- append ----------------------------------------------------------------------------------------- */

typedef struct {
    sl_log *log;
    const settings *s;
    const payload *pool;
    _Atomic int64_t next;  /* record that nobody has taken yet */
    int64_t *latencies_ns; /* of each call; NULL: not asked for */
    pthread_barrier_t ready;
} appenders;

static void append_timed(appenders *all) {
    const settings *s = all->s;
    int64_t first;
    while ((first = atomic_fetch_add(&all->next, s->batch_records)) < s->records) {
        int64_t start_ns = now_ns();
        append_range(all->log, s, all->pool, first, first + s->batch_records);
        all->latencies_ns[first / s->batch_records] = now_ns() - start_ns;
    }
}

static void *appender(void *argument) {
    appenders *all = argument;
    pthread_barrier_wait(&all->ready);
    append_timed(all);
    return NULL;
}

/* Appenders of an event loop: each has one record under way and appends its next once that one is
 * durable.  All of them stand on one thread, so that what is measured is the engine's sharing of a sync
 * and not how often two cores can wake 64 threads. */
static void append_by_tickets(appenders *all) {
    const settings *s = all->s;
    int64_t *begun_ns = memory((size_t)s->tickets, sizeof(int64_t));
    for (int64_t done = 0; done < s->records;) {
        int64_t count = s->records - done < s->tickets ? s->records - done : s->tickets;
        int64_t ticket = 0;
        for (int64_t i = 0; i < count; i++) {
            begun_ns[i] = now_ns();
            append_range(all->log, s, all->pool, done + i, done + i + 1);
            ticket = sl_log_end_offset(all->log);
        }
        check_status(sl_log_wait_durable(all->log, ticket, -1), "waiting for durability");
        int64_t end_ns = now_ns();
        for (int64_t i = 0; i < count; i++) all->latencies_ns[done + i] = end_ns - begun_ns[i];
        done += count;
    }
    free(begun_ns);
}

static void append(const settings *s) {
    payload pool = load_payload(s);
    sl_log *log = open_log(s, "log", SL_OPEN_CREATE);
    appenders all = {.log = log, .s = s, .pool = &pool};
    int64_t calls = s->records / s->batch_records;
    int64_t syncs = stats_of(log).sync_count;
    stopwatch watch;
    if (s->threads > 1) {
        pthread_t threads[THREADS_MAX];
        all.latencies_ns = memory((size_t)calls, sizeof(int64_t));
        pthread_barrier_init(&all.ready, NULL, (unsigned)s->threads + 1);
        for (int64_t i = 0; i < s->threads; i++)
            if (pthread_create(&threads[i], NULL, appender, &all) != 0) die("cannot make a thread");
        watch = begin();
        pthread_barrier_wait(&all.ready);
        for (int64_t i = 0; i < s->threads; i++) pthread_join(threads[i], NULL);
        end(&watch);
        pthread_barrier_destroy(&all.ready);
    } else if (s->tickets > 0) {
        all.latencies_ns = memory((size_t)calls, sizeof(int64_t));
        watch = begin();
        append_by_tickets(&all);
        end(&watch);
    } else if (strcmp(s->sync, "always") == 0) {
        all.latencies_ns = memory((size_t)calls, sizeof(int64_t));
        watch = begin();
        append_timed(&all);
        end(&watch);
    } else {
        /* Two looks at the clock would cost as much as the append between them. */
        watch = begin();
        append_range(log, s, &pool, 0, s->records);
        end(&watch);
    }
    add_extra("syncs", (double)(stats_of(log).sync_count - syncs));
    add_stats(log);
    if (all.latencies_ns != NULL) add_latencies(all.latencies_ns, calls);
    totals seen = check_contents(log, s, &pool, s->records);
    close_log(log);
    print(&watch, seen.records, seen.bytes, seen.crc);
    free(all.latencies_ns);
    free(pool.data);
}

/* ---- scan, get, seek-time --------------------------------------------------------------------------- */

/* A filled log, opened anew: what a reader finds. */
static sl_log *filled_log(const settings *s, const payload *pool, int64_t *out_records) {
    sl_log *log = open_log(s, "log", SL_OPEN_CREATE);
    *out_records = fill(log, s, pool);
    close_log(log);
    return open_log(s, "log", SL_OPEN_READ_ONLY);
}

static void scan(const settings *s) {
    payload pool = load_payload(s);
    int64_t records = 0;
    sl_log *log = filled_log(s, &pool, &records);
    depth how = s->touch != 0 ? EVERY_BYTE : LENGTHS;
    /* The first pass checks every batch's CRC and faults the pages in: told, not measured. */
    stopwatch first = begin();
    read_all(log, how);
    end(&first);
    stopwatch watch = begin();
    totals seen = read_all(log, how);
    end(&watch);
    add_extra("first_pass_seconds", first.seconds);
    add_extra("first_pass_cpu_seconds", first.cpu_seconds);
    add_stats(log);
    totals whole = check_contents(log, s, &pool, records);
    close_log(log);
    print(&watch, seen.records, seen.bytes, whole.crc);
    free(pool.data);
}

static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

/* Offsets below `records`, from the file of 64-bit little-endian words, or drawn from the seed. */
static int64_t *lookup_offsets(const settings *s, int64_t records, int64_t *out_count) {
    if (s->lookups_path != NULL) {
        size_t bytes = 0;
        uint8_t *words = read_file(s->lookups_path, &bytes);
        *out_count = (int64_t)(bytes / 8);
        int64_t *offsets = memory((size_t)*out_count, sizeof *offsets);
        for (int64_t i = 0; i < *out_count; i++)
            for (int byte = 7; byte >= 0; byte--)
                offsets[i] = (int64_t)((uint64_t)offsets[i] << 8 | words[i * 8 + byte]);
        free(words);
        return offsets;
    }
    uint64_t state = (uint64_t)s->seed;
    int64_t *offsets = memory((size_t)s->lookups, sizeof *offsets);
    for (int64_t i = 0; i < s->lookups; i++)
        offsets[i] = (int64_t)(next_random(&state) % (uint64_t)records);
    *out_count = s->lookups;
    return offsets;
}

static totals get_each(sl_log *log, const int64_t *offsets, int64_t count, depth how) {
    int64_t offset = 0;
    int32_t start = 0;
    int32_t stop = 0;
    sl_columns columns = {
        .capacity = 1, .offsets = &offset, .value_start = &start, .value_end = &stop};
    totals seen = {0};
    for (int64_t i = 0; i < count; i++) {
        seen.records += checked(sl_log_get(log, offsets[i], &columns), "get");
        if (offset != offsets[i]) die("asked for another offset than came back");
        seen.bytes += stop - start;
        if (how != LENGTHS)
            seen.crc = crc32_of(seen.crc, columns.base + start, (size_t)(stop - start));
        sl_pin_release(columns.pin);
    }
    return seen;
}

static totals get_many(sl_log *log, const int64_t *offsets, int64_t count, depth how) {
    static int64_t timestamps_ms[LOOKUP_RECORDS];
    static int32_t key_bytes[LOOKUP_RECORDS];
    static int32_t value_bytes[LOOKUP_RECORDS];
    sl_buffer out = {0};
    totals seen = {0};
    for (int64_t i = 0; i < count; i += LOOKUP_RECORDS) {
        int64_t piece = count - i < LOOKUP_RECORDS ? count - i : LOOKUP_RECORDS;
        seen.records += checked(sl_log_lookup_many(log, offsets + i, piece, timestamps_ms,
                                                   key_bytes, value_bytes, &out),
                                "lookup");
        /* Keys are null: the bytes are the values, one after the other. */
        seen.bytes += (int64_t)out.bytes;
        if (how != LENGTHS) seen.crc = crc32_of(seen.crc, out.data, out.bytes);
    }
    sl_buffer_free(&out);
    return seen;
}

static totals look_up(const settings *s, sl_log *log, const int64_t *offsets, int64_t count,
                      depth how) {
    return s->many != 0 ? get_many(log, offsets, count, how) : get_each(log, offsets, count, how);
}

static void check_lookups(const settings *s, const payload *pool, const int64_t *offsets,
                          int64_t count, const totals *seen) {
    uint32_t crc = 0;
    for (int64_t i = 0; i < count; i++)
        crc = crc32_of(crc, record_at(s, pool, offsets[i]), (size_t)s->record_bytes);
    if (seen->records != count || seen->crc != crc)
        die("the records looked up are not those appended");
}

static void get(const settings *s) {
    payload pool = load_payload(s);
    int64_t records = 0;
    sl_log *log = filled_log(s, &pool, &records);
    int64_t count = 0;
    int64_t *offsets = lookup_offsets(s, records, &count);
    totals whole = look_up(s, log, offsets, count, EVERY_BYTE); /* warms what is measured */
    check_lookups(s, &pool, offsets, count, &whole);
    stopwatch watch = begin();
    totals seen = look_up(s, log, offsets, count, LENGTHS);
    end(&watch);
    add_stats(log);
    close_log(log);
    print(&watch, seen.records, seen.bytes, whole.crc);
    free(offsets);
    free(pool.data);
}

static void seek_time(const settings *s) {
    payload pool = load_payload(s);
    sl_log *log = open_log(s, "log", SL_OPEN_CREATE);
    int64_t *times = memory((size_t)s->batch_records, sizeof *times);
    sl_records batch = batch_of(s);
    batch.timestamps_ms = times;
    for (int64_t i = 0; i < s->records; i += s->batch_records) {
        for (int64_t j = 0; j < s->batch_records; j++) times[j] = FIRST_TIMESTAMP_MS + i + j;
        batch.values = record_at(s, &pool, i);
        checked(sl_log_append(log, &batch), "append");
    }
    close_log(log);
    log = open_log(s, "log", SL_OPEN_READ_ONLY);
    int64_t count = 0;
    int64_t *offsets = lookup_offsets(s, s->records, &count);
    stopwatch watch = {0};
    for (int pass = 0; pass < 2; pass++) { /* the second one is measured */
        watch = begin();
        for (int64_t i = 0; i < count; i++) {
            int64_t time_ms = FIRST_TIMESTAMP_MS + offsets[i];
            int64_t found = sl_log_offset_for_timestamp(log, time_ms, NULL);
            if (checked(found, "seek") != offsets[i])
                die("the offset for %" PRId64 " is %" PRId64 ", found %" PRId64, time_ms,
                    offsets[i], found);
        }
        end(&watch);
    }
    totals seen = check_contents(log, s, &pool, s->records);
    add_stats(log);
    close_log(log);
    print(&watch, count, count * s->record_bytes, seen.crc);
    free(times);
    free(offsets);
    free(pool.data);
}

/* ---- recover, open, tree, grow ---------------------------------------------------------------------- */

/* The child: fill, tell the parent how many records there are, and wait for the end. */
static _Noreturn void fill_and_wait(const settings *s, const payload *pool, int to_parent) {
    sl_log *log = open_log(s, "log", SL_OPEN_CREATE);
    int64_t records = fill(log, s, pool);
    if (write(to_parent, &records, sizeof records) != sizeof records) die_system("pipe");
    for (;;) pause();
}

static void recover(const settings *s) {
    payload pool = load_payload(s);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) die_system("pipe");
    pid_t child = fork();
    if (child < 0) die_system("fork");
    if (child == 0) {
        close(ends[0]);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for us: do not wait either */
        fill_and_wait(s, &pool, ends[1]);
    }
    close(ends[1]);
    int64_t records = 0;
    ssize_t told = read(ends[0], &records, sizeof records);
    close(ends[0]);
    if (kill(child, SIGKILL) != 0 || waitpid(child, NULL, 0) != child) die_system("kill");
    if (told != sizeof records) die("the child that fills the log has failed");

    stopwatch watch = begin();
    sl_log *log = open_log(s, "log", 0);
    end(&watch);
    sl_stats stats = stats_of(log);
    add_extra("recovered_batches", (double)stats.recovered_batches);
    add_extra("discarded_bytes", (double)stats.recovery_discarded_bytes);
    add_stats(log);
    if (stats.recovered_batches == 0) die("there was nothing to recover: the log was not dirty");
    totals seen = check_contents(log, s, &pool, records);
    sl_log_abandon(log); /* what a close would sync is of no interest here */
    print(&watch, seen.records, seen.bytes, seen.crc);
    free(pool.data);
}

static void open_segments(const settings *s) {
    payload pool = load_payload(s);
    sl_log *log = open_log(s, "log", SL_OPEN_CREATE);
    for (int64_t i = 0; i < s->count; i++) {
        if (i > 0) check_status(sl_log_roll(log), "roll");
        append_range(log, s, &pool, i * s->batch_records, (i + 1) * s->batch_records);
    }
    close_log(log);
    stopwatch reader = begin();
    log = open_log(s, "log", SL_OPEN_READ_ONLY);
    end(&reader);
    close_log(log);
    stopwatch watch = begin();
    log = open_log(s, "log", 0);
    end(&watch);
    add_extra("read_only_seconds", reader.seconds);
    add_stats(log);
    if (stats_of(log).segment_count != s->count) die("there are more or fewer segments than made");
    totals seen = check_contents(log, s, &pool, s->count * s->batch_records);
    close_log(log);
    print(&watch, seen.records, seen.bytes, seen.crc);
    free(pool.data);
}

static int64_t disk_bytes; /* nftw has no argument of the caller's */

static int add_blocks(const char *path, const struct stat *file, int kind, struct FTW *place) {
    (void)path;
    (void)kind;
    (void)place;
    disk_bytes += (int64_t)file->st_blocks * 512;
    return 0;
}

static double disk_bytes_of(const char *directory) {
    disk_bytes = 0;
    if (nftw(directory, add_blocks, 32, FTW_PHYS) != 0) die_system("walking the tree");
    return (double)disk_bytes;
}

static void tree(const settings *s) {
    payload pool = load_payload(s);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) die_system("getrlimit");
    files.rlim_cur = files.rlim_max; /* a log has a few descriptors of its own */
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) die_system("setrlimit");
    sl_log **logs = memory((size_t)s->count, sizeof(sl_log *));
    char root[4096];
    if (snprintf(root, sizeof root, "%s/tree", s->dir) >= (int)sizeof root)
        die("--dir is too long");
    if (mkdir(root, 0777) != 0) die_system("mkdir");
    stopwatch watch = begin();
    for (int64_t i = 0; i < s->count; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "tree/%06" PRId64, i);
        logs[i] = open_log(s, name, SL_OPEN_CREATE);
        append_range(logs[i], s, &pool, 0, s->records);
    }
    end(&watch);
    add_extra("disk_bytes_open", disk_bytes_of(root));
    totals seen = {0};
    for (int64_t i = 0; i < s->count; i++) {
        seen = check_contents(logs[i], s, &pool, s->records);
        close_log(logs[i]);
    }
    add_extra("disk_bytes_closed", disk_bytes_of(root));
    add_extra("logs", (double)s->count);
    print(&watch, s->records * s->count, seen.bytes * s->count, seen.crc);
    free(logs);
    free(pool.data);
}

/* Append, look up and open once the log has --log-bytes; each the median of some repeats. */
static void grow(const settings *s) {
    payload pool = load_payload(s);
    sl_log *log = open_log(s, "log", SL_OPEN_CREATE);
    int64_t records = fill(log, s, &pool);
    check_status(sl_log_flush(log), "flush");
    int64_t ns[GROW_REPEATS];
    stopwatch watch = begin();
    for (int i = 0; i < GROW_REPEATS; i++) {
        int64_t start_ns = now_ns();
        append_range(log, s, &pool, records, records + s->records);
        ns[i] = now_ns() - start_ns;
        records += s->records;
    }
    end(&watch);
    add_extra("append_seconds", median_seconds(ns, GROW_REPEATS));
    int64_t count = 0;
    int64_t *offsets = lookup_offsets(s, records, &count);
    totals found = get_each(log, offsets, count, EVERY_BYTE);
    check_lookups(s, &pool, offsets, count, &found);
    for (int i = 0; i < GROW_REPEATS; i++) {
        int64_t start_ns = now_ns();
        get_each(log, offsets, count, LENGTHS);
        ns[i] = now_ns() - start_ns;
    }
    add_extra("get_seconds", median_seconds(ns, GROW_REPEATS) / (double)count);
    close_log(log);
    for (int i = 0; i < GROW_REPEATS; i++) {
        int64_t start_ns = now_ns();
        log = open_log(s, "log", 0);
        ns[i] = now_ns() - start_ns;
        if (i < GROW_REPEATS - 1) close_log(log);
    }
    add_extra("open_seconds", median_seconds(ns, GROW_REPEATS));
    add_stats(log);
    totals seen = check_contents(log, s, &pool, records);
    close_log(log);
    print(&watch, GROW_REPEATS * s->records, GROW_REPEATS * s->records * s->record_bytes, seen.crc);
    free(offsets);
    free(pool.data);
}

/* ---- the command line --------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    void (*run)(const settings *s);
} command;

static const command COMMANDS[] = {
    {"append", append},   {"scan", scan},          {"get", get},   {"seek-time", seek_time},
    {"recover", recover}, {"open", open_segments}, {"tree", tree}, {"grow", grow},
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

static void check_settings(const settings *s) {
    if (s->dir == NULL) die("--dir is required: an empty directory on the disk to be measured");
    if (strcmp(s->sync, "none") != 0 && strcmp(s->sync, "interval") != 0 &&
        strcmp(s->sync, "always") != 0)
        die("--sync is one of none, interval, always");
    if (s->records % s->batch_records != 0) die("--records must be a whole number of batches");
    if (s->tickets > 0 && (s->threads > 1 || s->batch_records > 1))
        die("--tickets goes with one thread and records one by one");
}

int main(int count, char **values) {
    settings s = {.sync = "none",
                  .record_bytes = 100,
                  .batch_records = 1,
                  .records = 1000,
                  .threads = 1,
                  .count = 10,
                  .lookups = 1000,
                  .seed = 1};
    const option options[] = {
        {"--dir", &s.dir, NULL, 0, 0},
        {"--payload", &s.payload, NULL, 0, 0},
        {"--lookups-file", &s.lookups_path, NULL, 0, 0},
        {"--sync", &s.sync, NULL, 0, 0},
        {"--record-bytes", NULL, &s.record_bytes, 1, 1 << 24},
        {"--batch-records", NULL, &s.batch_records, 1, 1 << 20},
        {"--records", NULL, &s.records, 0, INT64_C(1) << 40},
        {"--log-bytes", NULL, &s.log_bytes, 0, INT64_C(1) << 44},
        {"--threads", NULL, &s.threads, 1, THREADS_MAX},
        {"--tickets", NULL, &s.tickets, 0, THREADS_MAX},
        {"--count", NULL, &s.count, 1, 1 << 20},
        {"--segment-bytes", NULL, &s.segment_bytes, 0, INT32_MAX},
        {"--lookups", NULL, &s.lookups, 1, 1 << 30},
        {"--seed", NULL, &s.seed, 0, INT64_MAX},
        {"--touch", NULL, &s.touch, 0, 1},
        {"--many", NULL, &s.many, 0, 1},
    };
    const size_t known = sizeof options / sizeof options[0];
    const size_t commands = sizeof COMMANDS / sizeof COMMANDS[0];
    size_t chosen = 0;
    while (chosen < commands && (count < 2 || strcmp(values[1], COMMANDS[chosen].name) != 0))
        chosen++;
    if (chosen == commands)
        die("the first argument is one of append, scan, get, seek-time, recover, open, tree, grow");
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
    check_settings(&s);
    crc32_begin();
    COMMANDS[chosen].run(&s);
    return fflush(stdout) == 0 ? 0 : 1;
}
