/* test_threads.c -- one log, many threads: what a reader gets are whole records, in order, as appended.
 *
 * Every record is made from its offset alone: its timestamp is the offset, its value repeats a number
 * that follows from the offset.  So a truncation that lets an offset be written once more changes
 * nothing that a reader could hold against it, and any mixture of two records, any record at the wrong
 * offset and any torn byte shows.
 *
 *   rounds that race      cursors, whole batches, get, lookup_many, read_range, offset_for_timestamp,
 *                         stats, segment_info and verify, and a read-only handle of the same
 *                         directory, against append, roll, flush, truncate_prefix, truncate_suffix
 *   pins                  handed to another thread, which reads the memory and releases it later,
 *                         after truncations and after close
 *   neighbours            logs that open and close all the time, so that the service threads end and
 *                         start under the others
 *   "always"              several appenders, each of which returns once its record is durable
 *   fork                  the child may not use the parent's handle and opens a log of its own; the
 *                         parent goes on
 *
 * A reader may lose its place to a truncation: SL_E_OUT_OF_RANGE and SL_E_NOT_FOUND are answers then,
 * damage never is.  Offsets within one reading rise strictly.
 *
 *   test_threads [SECONDS]      2 by default, shared by the rounds */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "logkit.h"

enum { VALUE_BYTES_MAX = 120, ROWS = 64, PINS = 256 };

/* Under a sanitizer the forked child of a process with threads must not start threads of its own:
 * ThreadSanitizer ends it, AddressSanitizer's allocator may have been locked by a thread that is gone. */
enum {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    CHILD_WRITES = 0
#else
    CHILD_WRITES = 1
#endif
};

static char directory[1024];
static _Atomic bool stop;
static _Atomic int64_t records_read;

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nap_ms(int64_t ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Each thread draws numbers of its own. */
static _Thread_local uint64_t own_state;
static int64_t own_below(int64_t below) {
    if (own_state == 0) own_state = (uint64_t)(uintptr_t)&own_state;
    return (int64_t)(check_mix(&own_state) % (uint64_t)below);
}

/* ---- content from the offset ---- */

static int32_t value_bytes_of(int64_t offset) { return 8 + (int32_t)(offset * 31 % 100); }

static void value_of(int64_t offset, uint8_t *out) {
    uint64_t mixed = (uint64_t)offset;
    uint64_t word = check_mix(&mixed);
    int32_t bytes = value_bytes_of(offset);
    for (int32_t i = 0; i < bytes; i += 8)
        memcpy(out + i, &word, (size_t)(bytes - i < 8 ? bytes - i : 8));
}

static bool value_is(int64_t offset, const uint8_t *value, int64_t bytes) {
    uint8_t want[VALUE_BYTES_MAX];
    if (bytes != value_bytes_of(offset)) return false;
    value_of(offset, want);
    return memcmp(value, want, (size_t)bytes) == 0;
}

/* The next `count` records; only one thread appends to a log whose content must fit its offset. */
static int64_t append_next(sl_log *log, int64_t count) {
    enum { MAX = 40 };
    uint8_t values[MAX * VALUE_BYTES_MAX];
    int32_t lengths[MAX];
    int64_t times[MAX];
    int64_t first = sl_log_end_offset(log);
    size_t bytes = 0;
    for (int64_t i = 0; i < count; i++) {
        value_of(first + i, values + bytes);
        lengths[i] = value_bytes_of(first + i);
        times[i] = first + i;
        bytes += (size_t)lengths[i];
    }
    sl_records records = {.count = count,
                          .values = values,
                          .value_bytes = lengths,
                          .timestamps_ms = times,
                          .leader_epoch = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .producer_id = -1};
    int64_t offset = sl_log_append(log, &records);
    CHECK_NOTE(offset == first && records.out_appended_count == count,
               "appended at %" PRId64 ", not %" PRId64 ": %s", offset, first,
               sl_last_error()->message);
    return offset;
}

/* ---- pins released by another thread ---- */

typedef struct held_pin {
    sl_pin *pin;
    const uint8_t *value;
    int64_t bytes;
    int64_t offset;
} held_pin;

static pthread_mutex_t pins_mutex = PTHREAD_MUTEX_INITIALIZER;
static held_pin pins[PINS];
static int pins_count;

/* Give the reference away, or drop it where there are enough. */
static void hand_over(const held_pin *held) {
    pthread_mutex_lock(&pins_mutex);
    bool room = pins_count < PINS;
    if (room) pins[pins_count++] = *held;
    pthread_mutex_unlock(&pins_mutex);
    if (!room) sl_pin_release(held->pin);
}

static void release_pins(void) {
    held_pin taken[PINS];
    pthread_mutex_lock(&pins_mutex);
    int count = pins_count;
    memcpy(taken, pins, sizeof taken);
    pins_count = 0;
    pthread_mutex_unlock(&pins_mutex);
    for (int i = 0; i < count; i++) {
        CHECK_NOTE(value_is(taken[i].offset, taken[i].value, taken[i].bytes),
                   "pinned memory of record %" PRId64 " changed", taken[i].offset);
        sl_pin_release(taken[i].pin);
    }
}

static void *run_releaser(void *argument) {
    (void)argument;
    while (!atomic_load(&stop)) {
        nap_ms(20);
        release_pins();
    }
    return NULL;
}

/* ---- readers ---- */

typedef struct rows {
    sl_columns columns;
    int64_t offsets[ROWS];
    int64_t times[ROWS];
    int32_t ints[6][ROWS];
} rows;

static void rows_begin(rows *r, int64_t capacity) {
    r->columns = (sl_columns){.capacity = capacity,
                              .offsets = r->offsets,
                              .timestamps_ms = r->times,
                              .key_start = r->ints[0],
                              .key_end = r->ints[1],
                              .value_start = r->ints[2],
                              .value_end = r->ints[3],
                              .headers_start = r->ints[4],
                              .headers_count = r->ints[5]};
}

static void check_row(const rows *r, int64_t i) {
    int64_t offset = r->offsets[i];
    CHECK_NOTE(r->times[i] == offset && r->ints[1][i] == -1 &&
                   r->ints[3][i] <= r->columns.base_bytes &&
                   value_is(offset, r->columns.base + r->ints[2][i], r->ints[3][i] - r->ints[2][i]),
               "record %" PRId64 " (timestamp %" PRId64 ", %d bytes) is not the one appended",
               offset, r->times[i], r->ints[3][i] - r->ints[2][i]);
    atomic_fetch_add_explicit(&records_read, 1, memory_order_relaxed);
}

/* What a truncation may answer to somebody who reads: the place is gone. */
static bool place_is_gone(int64_t n) { return n == -SL_E_OUT_OF_RANGE || n == -SL_E_NOT_FOUND; }

static void check_answer(int64_t n, const char *what) {
    CHECK_NOTE(n >= 0 || place_is_gone(n), "%s answers %s: %s (%s)", what,
               sl_status_name((int32_t)-n), sl_last_error()->message, sl_last_error()->path);
}

static int64_t some_offset(sl_log *log) {
    int64_t start = sl_log_start_offset(log);
    int64_t span = sl_log_end_offset(log) - start;
    return start + (span > 0 ? own_below(span) : 0);
}

/* Read on from somewhere; at the end wait for more a few times. */
static void read_records(sl_log *log) {
    rows r;
    rows_begin(&r, 1 + own_below(ROWS));
    int64_t from = some_offset(log);
    sl_cursor *cursor;
    sl_status status = sl_cursor_open(log, from, 0, &cursor);
    check_answer(-(int64_t)status, "sl_cursor_open");
    if (status != SL_OK) return;
    int64_t last = from - 1;
    for (int idle = 0; idle < 20 && !atomic_load(&stop);) {
        int64_t n = sl_cursor_next(cursor, &r.columns);
        check_answer(n, "sl_cursor_next");
        if (n < 0) break;
        if (n == 0) {
            idle++;
            nap_ms(1);
            continue;
        }
        for (int64_t i = 0; i < n; i++) {
            CHECK_NOTE(r.offsets[i] == last + 1, "record %" PRId64 " after %" PRId64, r.offsets[i],
                       last);
            last = r.offsets[i];
            check_row(&r, i);
        }
        if (own_below(8) == 0) {
            hand_over(&(held_pin){.pin = r.columns.pin,
                                  .value = r.columns.base + r.ints[2][0],
                                  .bytes = r.ints[3][0] - r.ints[2][0],
                                  .offset = r.offsets[0]});
        } else {
            sl_pin_release(r.columns.pin);
        }
    }
    sl_cursor_close(cursor);
}

static void read_batches(sl_log *log) {
    sl_cursor *cursor;
    sl_status status = sl_cursor_open(log, some_offset(log), 0, &cursor);
    check_answer(-(int64_t)status, "sl_cursor_open");
    if (status != SL_OK) return;
    int64_t expected = -1;
    for (int i = 0; i < 200; i++) {
        sl_batch_view view;
        int64_t n = sl_cursor_next_batch(cursor, &view);
        check_answer(n, "sl_cursor_next_batch");
        if (n <= 0) break;
        sl_batch_header header;
        CHECK_OK(
            sl_batch_check(view.data, (size_t)view.header.batch_bytes, SL_CHECK_RECORDS, &header));
        /* A cut may split the batch that was read last: the next one then begins inside it. */
        CHECK(header.last_offset >= expected);
        expected = header.last_offset + 1;
        sl_pin_release(view.pin);
    }
    sl_cursor_close(cursor);
}

static void read_single(sl_log *log) {
    rows r;
    rows_begin(&r, 1);
    int64_t offset = some_offset(log);
    int64_t n = sl_log_get(log, offset, &r.columns);
    check_answer(n, "sl_log_get");
    if (n != 1) return;
    /* A truncate_prefix that comes between leaves the next record there is. */
    CHECK(r.offsets[0] >= offset);
    check_row(&r, 0);
    sl_pin_release(r.columns.pin);
}

static void read_many(sl_log *log) {
    enum { MANY = 16 };
    int64_t offsets[MANY];
    int64_t times[MANY];
    int32_t key_bytes[MANY];
    int32_t value_bytes[MANY];
    for (int i = 0; i < MANY; i++) offsets[i] = some_offset(log);
    sl_buffer out = {0};
    int64_t found = sl_log_lookup_many(log, offsets, MANY, times, key_bytes, value_bytes, &out);
    check_answer(found, "sl_log_lookup_many");
    size_t at = 0;
    for (int i = 0; i < MANY && found >= 0; i++) {
        if (value_bytes[i] == -2) continue;
        CHECK_NOTE(times[i] == offsets[i] && key_bytes[i] == -1 &&
                       value_is(offsets[i], out.data + at, value_bytes[i]),
                   "record %" PRId64 " of many", offsets[i]);
        at += (size_t)value_bytes[i];
    }
    sl_buffer_free(&out);
}

static void read_range(sl_log *log) {
    int64_t from = some_offset(log);
    sl_batch_view view;
    int64_t bytes = sl_log_read_range(log, from, INT64_MAX, 1 + own_below(3000), &view);
    check_answer(bytes, "sl_log_read_range");
    int64_t expected = -1;
    for (int64_t at = 0; at < bytes;) {
        sl_batch_header header;
        sl_status status =
            sl_batch_check(view.data + at, (size_t)(bytes - at), SL_CHECK_CRC, &header);
        CHECK_OK(status);
        if (status != SL_OK) break;
        CHECK(expected < 0 || header.base_offset == expected);
        expected = header.last_offset + 1;
        at += header.batch_bytes;
    }
    if (bytes > 0) sl_pin_release(view.pin);
}

static void read_by_time(sl_log *log) {
    int64_t wanted = some_offset(log);
    int64_t timestamp = -1;
    int64_t offset = sl_log_offset_for_timestamp(log, wanted, &timestamp);
    check_answer(offset, "sl_log_offset_for_timestamp");
    /* Times are offsets: it is this one, or the start if that moved on meanwhile. */
    if (offset >= 0)
        CHECK_NOTE(offset == timestamp && offset >= wanted, "time %" PRId64 " is at %" PRId64,
                   wanted, offset);
}

static void read_state(sl_log *log) {
    sl_stats stats;
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK(stats.segment_count > 0 && stats.log_bytes >= 0 && stats.pinned_bytes >= 0);
    sl_segment_info info;
    sl_status status = sl_log_segment_info(log, own_below(4), &info);
    check_answer(-(int64_t)status, "sl_log_segment_info");
    if (status == SL_OK) CHECK(info.end_offset >= info.base_offset);
}

/* `settled`: nothing is cut from the end, so that data and indexes seen together belong together. */
static void verify_one(sl_log *log, bool settled) {
    int64_t count = sl_log_segment_count(log);
    sl_problem problems[1];
    int64_t batches;
    int64_t records;
    int64_t n = sl_log_verify_segment(log, own_below(count > 0 ? count : 1), problems, 1, &batches,
                                      &records);
    check_answer(n, "sl_log_verify_segment");
    if (settled)
        CHECK_NOTE(n <= 0, "%s (%s at %" PRId64 ")", problems[0].message, problems[0].path,
                   problems[0].position);
}

typedef struct reader {
    sl_log *log;
    bool settled;
} reader;

static void *run_reader(void *argument) {
    const reader *self = argument;
    while (!atomic_load(&stop)) {
        switch (own_below(10)) {
        case 0:
        case 1:
        case 2: read_records(self->log); break;
        case 3: read_batches(self->log); break;
        case 4: read_many(self->log); break;
        case 5: read_range(self->log); break;
        case 6: read_by_time(self->log); break;
        case 7: read_state(self->log); break;
        case 8: verify_one(self->log, self->settled); break;
        default:
            for (int i = 0; i < 50; i++) read_single(self->log);
        }
    }
    return NULL;
}

/* ---- the rounds that race ---- */

static void *run_neighbour(void *argument) {
    const char *name = argument;
    char path[1024];
    check_path(path, name);
    for (int64_t number = 0; !atomic_load(&stop); number++) {
        sl_options options = kit_options(SL_OPEN_CREATE, 1 << 16);
        options.sync = SL_SYNC_INTERVAL;
        options.sync_interval_ms = 1;
        sl_log *log;
        sl_status status = sl_log_open(path, &options, &log);
        CHECK_OK(status);
        if (status != SL_OK) break;
        CHECK_EQ(sl_log_end_offset(log), number);
        append_next(log, 1);
        if (own_below(3) == 0) nap_ms(2);
        CHECK_OK(sl_log_close(log));
    }
    check_remove_tree(path);
    return NULL;
}

/* One step of the writer. `cuts`: it drops records from the end, too. */
static void change(sl_log *log, bool cuts) {
    int64_t start = sl_log_start_offset(log);
    int64_t end = sl_log_end_offset(log);
    switch (own_below(40)) {
    case 0: CHECK_OK(sl_log_roll(log)); break;
    case 1: CHECK_OK(sl_log_flush(log)); break;
    case 2:
        if (end - start > 2000) CHECK_OK(sl_log_truncate_prefix(log, end - own_below(2000)));
        break;
    case 3:
        if (cuts) {
            int64_t kept = end - own_below(60);
            CHECK_OK(sl_log_truncate_suffix(log, kept > start ? kept : start));
        }
        break;
    default: append_next(log, 1 + own_below(40));
    }
}

static void race(int64_t duration_ms, bool cuts, int64_t segment_bytes) {
    enum { READERS = 3, FOLLOWERS = 2 };
    check_remove_tree(directory);
    sl_options options = kit_options(SL_OPEN_CREATE | SL_OPEN_EXCLUSIVE, segment_bytes);
    options.sync = SL_SYNC_INTERVAL;
    options.sync_interval_ms = 5;
    sl_log *log;
    REQUIRE(sl_log_open(directory, &options, &log) == SL_OK);
    append_next(log, 10);
    options.flags = SL_OPEN_READ_ONLY;
    sl_log *follower;
    REQUIRE(sl_log_open(directory, &options, &follower) == SL_OK);
    atomic_store(&stop, false);
    reader own = {.log = log, .settled = !cuts};
    reader other = {.log = follower, .settled = false};
    pthread_t threads[READERS + FOLLOWERS + 3];
    int count = 0;
    for (int i = 0; i < READERS; i++)
        REQUIRE(pthread_create(&threads[count++], NULL, run_reader, &own) == 0);
    for (int i = 0; i < FOLLOWERS; i++)
        REQUIRE(pthread_create(&threads[count++], NULL, run_reader, &other) == 0);
    REQUIRE(pthread_create(&threads[count++], NULL, run_releaser, NULL) == 0);
    static char names[2][16] = {"neighbour-a", "neighbour-b"};
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_create(&threads[count++], NULL, run_neighbour, names[i]) == 0);
    int64_t deadline = now_ms() + duration_ms;
    for (int64_t steps = 0; now_ms() < deadline; steps++) {
        change(log, cuts);
        if (steps % 16 == 0) nap_ms(1);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    CHECK_OK(sl_log_refresh(follower));
    CHECK_EQ(sl_log_end_offset(follower), sl_log_end_offset(log));
    CHECK_EQ(sl_log_start_offset(follower), sl_log_start_offset(log));
    kit_check_verified(log);
    kit_check_verified(follower);
    CHECK_OK(sl_log_close(follower));
    CHECK_OK(sl_log_close(log));
    release_pins(); /* after close: the memory must still be there */
}

/* ---- appenders with sync "always" ---- */

typedef struct appender {
    sl_log *log;
    int64_t last;
    int64_t count;
} appender;

static void *run_appender(void *argument) {
    appender *self = argument;
    uint8_t value[24];
    while (!atomic_load(&stop)) {
        memset(value, 'a' + (int)own_below(26), sizeof value);
        int64_t offset = sl_log_append_value(self->log, value, (size_t)own_below(sizeof value));
        CHECK_RESULT(offset);
        if (offset < 0) break;
        CHECK_NOTE(offset > self->last, "offset %" PRId64 " after %" PRId64, offset, self->last);
        CHECK_NOTE(sl_log_durable_offset(self->log) > offset, "record %" PRId64 " is not durable",
                   offset);
        self->last = offset;
        self->count++;
        if (own_below(50) == 0) CHECK_OK(sl_log_wait_durable(self->log, offset + 1, 1000));
    }
    return NULL;
}

static void test_always(int64_t duration_ms) {
    enum { APPENDERS = 6 };
    char path[1024];
    sl_options options = kit_options(SL_OPEN_CREATE, 16 << 10);
    options.sync = SL_SYNC_ALWAYS;
    sl_log *log;
    REQUIRE(sl_log_open(check_path(path, "always"), &options, &log) == SL_OK);
    atomic_store(&stop, false);
    appender appenders[APPENDERS];
    pthread_t threads[APPENDERS];
    for (int i = 0; i < APPENDERS; i++) {
        appenders[i] = (appender){.log = log, .last = -1};
        REQUIRE(pthread_create(&threads[i], NULL, run_appender, &appenders[i]) == 0);
    }
    nap_ms(duration_ms);
    atomic_store(&stop, true);
    int64_t total = 0;
    for (int i = 0; i < APPENDERS; i++) {
        pthread_join(threads[i], NULL);
        total += appenders[i].count;
    }
    CHECK_EQ(sl_log_end_offset(log), total);
    CHECK_EQ(sl_log_durable_offset(log), total);
    kit_check_verified(log);
    CHECK_OK(sl_log_close(log));
}

/* ---- fork ---- */

static void child(sl_log *parents) {
    rows r;
    rows_begin(&r, 1);
    sl_cursor *cursor;
    sl_stats stats;
    CHECK_FAILS(sl_log_append_value(parents, (const uint8_t *)"x", 1), SL_E_FORKED);
    CHECK_FAILS(sl_log_get(parents, 0, &r.columns), SL_E_FORKED);
    CHECK_FAILS(sl_cursor_open(parents, 0, 0, &cursor), SL_E_FORKED);
    CHECK_FAILS(sl_log_flush(parents), SL_E_FORKED);
    CHECK_FAILS(sl_log_roll(parents), SL_E_FORKED);
    CHECK_FAILS(sl_log_truncate_suffix(parents, 1), SL_E_FORKED);
    CHECK_FAILS(sl_log_stats(parents, &stats), SL_E_FORKED);
    sl_log_abandon(parents);
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 16);
    options.sync = SL_SYNC_INTERVAL;
    options.sync_interval_ms = 1;
    sl_log *log;
    if (CHILD_WRITES) {
        char path[1024];
        REQUIRE(sl_log_open(check_path(path, "of-the-child"), &options, &log) == SL_OK);
        for (int i = 0; i < 50; i++) append_next(log, 3);
        for (int i = 0; i < 2000 && sl_log_durable_offset(log) < 150; i++) nap_ms(1);
        CHECK_EQ(sl_log_durable_offset(log), 150); /* the flusher of this process did it */
        CHECK_OK(sl_log_close(log));
    }
    /* The parent holds the lock of its log. */
    CHECK_FAILS(sl_log_open(directory, &options, &log), SL_E_LOCKED);
    options.flags = SL_OPEN_READ_ONLY;
    REQUIRE(sl_log_open(directory, &options, &log) == SL_OK);
    read_records(log);
    CHECK_OK(sl_log_close(log));
}

static void test_fork(void) {
    check_remove_tree(directory);
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 16);
    options.sync = SL_SYNC_INTERVAL;
    sl_log *log;
    REQUIRE(sl_log_open(directory, &options, &log) == SL_OK);
    append_next(log, 30);
    for (int round = 0; round < 3; round++) {
        atomic_store(&stop, false);
        nap_ms(20); /* the engine's threads have started and wait */
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            child(log);
            _exit(atomic_load(&check_failures) == 0 ? 0 : 1);
        }
        for (int i = 0; i < 200; i++) append_next(log, 5);
        int status;
        REQUIRE(waitpid(pid, &status, 0) == pid);
        CHECK_NOTE(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %x",
                   status);
        CHECK_OK(sl_log_flush(log));
        kit_check_verified(log);
        char path[1024];
        check_remove_tree(check_path(path, "of-the-child"));
    }
    CHECK_OK(sl_log_close(log));
}

int main(int argc, char **argv) {
    check_begin("threads");
    check_path(directory, "raced");
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
    int64_t part_ms = (int64_t)(seconds * 1000 / 5);
    test_fork();
    race(part_ms, false, 16 << 10);
    race(part_ms, true, 16 << 10);
    race(part_ms, true, 4 << 20); /* long segments: a follower reads its copy of an index again */
    race(part_ms, false, 4 << 20);
    test_always(part_ms);
    CHECK(atomic_load(&records_read) > 0);
    printf("%" PRId64 " records read while the log changed\n", atomic_load(&records_read));
    return check_end();
}
