/* test_follow.c -- a read-only handle in another process than the writer sees what was appended.
 *
 *   reader (this process)                    writer (forked while no writer is open here)
 *     a cursor that never goes back  <------   appends, rolls, cuts both ends, closes or is killed
 *     shared page: how far the writer says it is, and what it cut
 *
 * Every record is made from its offset: the value repeats a number that follows from it, the timestamp
 * is the offset.  What must hold:
 *
 *   following     records come whole, in order, none left out; a place below the log start answers
 *                 SL_E_OUT_OF_RANGE, as does one beyond the end after a cut; damage is never reported
 *   no writer     after SIGKILL at any moment the reader goes on by scanning: every record whose append
 *                 returned is there, and perhaps the one that was under way
 *   a later one   recovers the directory and is followed by the same handle, the same cursor
 *   no .lock      a directory that somebody else's program writes with write(), batch by batch, in
 *                 pieces, rolling as Kafka does; half a batch is never served */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "logkit.h"

enum { VALUE_BYTES_MAX = 120, ROWS = 50 };

typedef struct shared_page {
    _Atomic int64_t appended; /* end offset after the last append that returned */
    _Atomic int64_t seen;     /* what the reader has read */
    _Atomic int finished;
} shared_page;

static shared_page *shared;
static char directory[1024];

static void nap_us(int64_t us) {
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    nanosleep(&t, NULL);
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

typedef struct run_of_records {
    uint8_t values[40 * VALUE_BYTES_MAX];
    int32_t lengths[40];
    int64_t times[40];
    sl_records records;
} run_of_records;

static void make_run(run_of_records *run, int64_t first, int64_t count) {
    size_t bytes = 0;
    for (int64_t i = 0; i < count; i++) {
        value_of(first + i, run->values + bytes);
        run->lengths[i] = value_bytes_of(first + i);
        run->times[i] = first + i;
        bytes += (size_t)run->lengths[i];
    }
    run->records = (sl_records){.count = count,
                                .values = run->values,
                                .value_bytes = run->lengths,
                                .timestamps_ms = run->times,
                                .leader_epoch = -1,
                                .producer_epoch = -1,
                                .base_sequence = -1,
                                .producer_id = -1};
}

static void append_next(sl_log *log, int64_t count) {
    run_of_records run;
    int64_t first = sl_log_end_offset(log);
    make_run(&run, first, count);
    CHECK_EQ(sl_log_append(log, &run.records), first);
    atomic_store(&shared->appended, first + count);
}

/* ---- the reader ---- */

typedef struct rows {
    sl_columns columns;
    int64_t offsets[ROWS];
    int64_t times[ROWS];
    int32_t start[ROWS];
    int32_t end[ROWS];
} rows;

/* Read what there is from *next on, or `runs` of it: a slow reader would chase a writer for ever.
 * The value of the last sl_cursor_next, 0 at the end. */
static int64_t read_runs(sl_cursor *cursor, int64_t *next, int64_t runs) {
    rows r;
    r.columns = (sl_columns){.capacity = 1 + check_below(ROWS),
                             .offsets = r.offsets,
                             .timestamps_ms = r.times,
                             .value_start = r.start,
                             .value_end = r.end};
    int64_t n = 0;
    while (runs-- > 0 && (n = sl_cursor_next(cursor, &r.columns)) > 0) {
        for (int64_t i = 0; i < n; i++) {
            uint8_t want[VALUE_BYTES_MAX];
            int64_t offset = r.offsets[i];
            value_of(offset, want);
            CHECK_NOTE(offset == *next, "record %" PRId64 " came where %" PRId64 " was due", offset,
                       *next);
            CHECK_NOTE(
                r.times[i] == offset && r.end[i] - r.start[i] == value_bytes_of(offset) &&
                    memcmp(r.columns.base + r.start[i], want, (size_t)value_bytes_of(offset)) == 0,
                "record %" PRId64 " is not the one appended", offset);
            *next = offset + 1;
        }
        sl_pin_release(r.columns.pin);
        atomic_store(&shared->seen, *next);
    }
    return n;
}

static int64_t read_on(sl_cursor *cursor, int64_t *next) {
    return read_runs(cursor, next, INT64_MAX);
}

static sl_log *open_reader(void) {
    sl_options options = kit_options(SL_OPEN_READ_ONLY, 16 << 10);
    sl_log *log;
    REQUIRE(sl_log_open(directory, &options, &log) == SL_OK);
    return log;
}

/* The other ways to look, at a record that was served and may be gone meanwhile. */
static void look_around(sl_log *log, int64_t next) {
    rows r;
    r.columns = (sl_columns){.capacity = 1, .offsets = r.offsets, .timestamps_ms = r.times};
    int64_t start = sl_log_start_offset(log);
    if (next <= start) return;
    int64_t wanted = start + check_below(next - start);
    int64_t n = sl_log_get(log, wanted, &r.columns);
    CHECK_NOTE(n == 1 || n == -SL_E_OUT_OF_RANGE || n == -SL_E_NOT_FOUND, "get: %s: %s",
               sl_status_name((int32_t)-n), sl_last_error()->message);
    if (n == 1) {
        CHECK(r.offsets[0] >= wanted && r.times[0] == r.offsets[0]);
        sl_pin_release(r.columns.pin);
    }
    int64_t offset = sl_log_offset_for_timestamp(log, wanted, NULL);
    CHECK_NOTE(offset >= wanted || offset == -SL_E_NOT_FOUND, "time %" PRId64 ": %" PRId64 " (%s)",
               wanted, offset, sl_last_error()->message);
}

/* ---- writers, each in a process of its own ---- */

static pid_t start(void (*writer)(void)) {
    atomic_store(&shared->finished, 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        atomic_store(&check_failures, 0); /* the parent's are its own */
        writer();
        atomic_store(&shared->finished, 1);
        _exit(atomic_load(&check_failures) == 0 ? 0 : 1);
    }
    return pid;
}

static void end_well(pid_t pid) {
    int status;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK_NOTE(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the writer ended with %x",
               (unsigned)status);
}

static sl_log *open_writer(int64_t segment_bytes) {
    sl_options options = kit_options(SL_OPEN_CREATE, segment_bytes);
    options.sync = SL_SYNC_INTERVAL;
    options.sync_interval_ms = 10;
    sl_log *log;
    REQUIRE(sl_log_open(directory, &options, &log) == SL_OK);
    return log;
}

static void write_and_roll(void) {
    sl_log *log = open_writer(16 << 10);
    atomic_store(&shared->seen, 0);
    for (int i = 0; i < 1500; i++) {
        append_next(log, 1 + check_below(40));
        if (check_below(30) == 0) CHECK_OK(sl_log_roll(log));
        if (check_below(20) == 0) nap_us(200);
    }
    /* Stay until the reader has caught up, if there is one that reads at the same time. */
    for (int i = 0; i < 500 && atomic_load(&shared->seen) < atomic_load(&shared->appended); i++)
        nap_us(1000);
    CHECK_OK(sl_log_close(log));
}

static void write_and_cut(void) {
    sl_log *log = open_writer(16 << 10);
    for (int i = 0; i < 1500; i++) {
        append_next(log, 1 + check_below(40));
        int64_t begin = sl_log_start_offset(log);
        int64_t end = sl_log_end_offset(log);
        switch (check_below(40)) {
        case 0: CHECK_OK(sl_log_roll(log)); break;
        case 1: CHECK_OK(sl_log_truncate_prefix(log, begin + check_below(end - begin))); break;
        case 2: CHECK_OK(sl_log_truncate_suffix(log, end - check_below(end - begin) / 4)); break;
        case 3: nap_us(300); break;
        default: break;
        }
    }
    CHECK_OK(sl_log_close(log));
}

static void write_for_ever(void) {
    sl_log *log = open_writer(256 << 10); /* not thousands of segments */
    for (;;) {
        append_next(log, 1 + check_below(40));
        /* A reader that falls behind for ever would fill the disk and prove nothing. */
        while (atomic_load(&shared->appended) - atomic_load(&shared->seen) > 3000) nap_us(50);
    }
}

/* ---- the tests ---- */

static void test_rolls(void) {
    check_remove_tree(directory);
    sl_log *made = open_writer(16 << 10);
    append_next(made, 1);
    CHECK_OK(sl_log_close(made));
    /* The service threads ended with the last writer: forking is safe for every tool. */
    pid_t pid = start(write_and_roll);
    sl_log *log = open_reader();
    sl_cursor *cursor;
    REQUIRE(sl_cursor_open(log, 0, 0, &cursor) == SL_OK);
    int64_t next = 0;
    bool alive_seen = false;
    for (bool last = false; !last;) {
        last = atomic_load(&shared->finished) != 0;
        int64_t appended = atomic_load(&shared->appended);
        CHECK_RESULT(read_on(cursor, &next));
        CHECK_NOTE(next >= appended, "read up to %" PRId64 " of %" PRId64, next, appended);
        look_around(log, next);
        sl_stats stats;
        CHECK_OK(sl_log_stats(log, &stats));
        alive_seen |= stats.writer_alive != 0;
    }
    end_well(pid);
    CHECK(alive_seen);
    CHECK_RESULT(read_on(cursor, &next));
    CHECK_EQ(next, atomic_load(&shared->appended));
    CHECK_OK(sl_log_refresh(log));
    CHECK_EQ(sl_log_end_offset(log), next);
    CHECK_EQ(sl_log_durable_offset(log) <= next, 1);
    kit_check_verified(log);
    sl_cursor_close(cursor);
    CHECK_OK(sl_log_close(log));
}

static void test_cuts(void) {
    check_remove_tree(directory);
    sl_log *made = open_writer(16 << 10);
    append_next(made, 20);
    CHECK_OK(sl_log_close(made));
    sl_log *log = open_reader();
    sl_cursor *cursor;
    REQUIRE(sl_cursor_open(log, 0, 0, &cursor) == SL_OK);
    pid_t pid = start(write_and_cut);
    int64_t next = 0;
    int64_t losses = 0;
    for (bool last = false; !last;) {
        last = atomic_load(&shared->finished) != 0;
        int64_t n = read_on(cursor, &next);
        look_around(log, next);
        if (n == 0) continue;
        CHECK_NOTE(n == -SL_E_OUT_OF_RANGE || n == -SL_E_NOT_FOUND, "reading answers %s: %s (%s)",
                   sl_status_name((int32_t)-n), sl_last_error()->message, sl_last_error()->path);
        losses++;
        CHECK_OK(sl_log_refresh(log));
        next = sl_log_start_offset(log);
        sl_status status = sl_cursor_seek(cursor, next);
        CHECK_NOTE(status == SL_OK || status == SL_E_NOT_FOUND || status == SL_E_OUT_OF_RANGE,
                   "seeking answers %s: %s", sl_status_name((int32_t)status),
                   sl_last_error()->message);
    }
    end_well(pid);
    CHECK(losses > 0);
    sl_cursor_close(cursor);
    CHECK_OK(sl_log_refresh(log));
    next = sl_log_start_offset(log);
    REQUIRE(sl_cursor_open(log, next, 0, &cursor) == SL_OK);
    CHECK_RESULT(read_on(cursor, &next));
    CHECK_EQ(next, sl_log_end_offset(log));
    kit_check_verified(log);
    sl_cursor_close(cursor);
    CHECK_OK(sl_log_close(log));
}

static void test_killed(void) {
    check_remove_tree(directory);
    sl_log *made = open_writer(16 << 10);
    append_next(made, 1);
    CHECK_OK(sl_log_close(made));
    sl_log *log = open_reader();
    sl_cursor *cursor;
    REQUIRE(sl_cursor_open(log, 0, 0, &cursor) == SL_OK);
    int64_t next = 0;
    for (int round = 0; round < 25; round++) {
        int64_t before = atomic_load(&shared->appended);
        pid_t pid = start(write_for_ever);
        while (atomic_load(&shared->appended) == before) nap_us(100);
        int64_t rounds = check_below(40);
        for (int64_t i = 0; i < rounds; i++) CHECK_RESULT(read_runs(cursor, &next, 100));
        nap_us(check_below(3000));
        CHECK(kill(pid, SIGKILL) == 0);
        int status;
        REQUIRE(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status));
        int64_t appended = atomic_load(&shared->appended);
        CHECK_RESULT(read_on(cursor, &next));
        CHECK_NOTE(next >= appended, "killed at %" PRId64 ", the reader sees %" PRId64, appended,
                   next);
        CHECK_EQ(sl_log_end_offset(log), next);
        sl_stats stats;
        CHECK_OK(sl_log_stats(log, &stats));
        CHECK_EQ(stats.writer_alive, 0);
        /* One that opens now sees the same. */
        sl_log *another = open_reader();
        CHECK_EQ(sl_log_end_offset(another), next);
        CHECK_OK(sl_log_close(another));
        atomic_store(&shared->appended, next); /* the next writer goes on from here */
        if (round % 8 == 7) {
            /* A later writer, in order, that the same handle follows. */
            pid = start(write_and_roll);
            end_well(pid);
            CHECK_RESULT(read_on(cursor, &next));
            CHECK_EQ(next, atomic_load(&shared->appended));
        }
    }
    kit_check_verified(log);
    sl_cursor_close(cursor);
    CHECK_OK(sl_log_close(log));
}

/* ---- a directory without .lock ---- */

static void write_plainly(int fd, const uint8_t *data, size_t bytes, bool in_pieces) {
    for (size_t at = 0; at < bytes;) {
        size_t piece = in_pieces ? 1 + (size_t)check_below(90) : bytes;
        if (piece > bytes - at) piece = bytes - at;
        if (write(fd, data + at, piece) != (ssize_t)piece) _exit(3);
        at += piece;
        if (in_pieces && check_below(8) == 0) nap_us(100);
    }
}

static void write_as_kafka(void) {
    int64_t offset = atomic_load(&shared->appended);
    int fd = -1;
    for (int i = 0; i < 400; i++) {
        if (fd < 0 || check_below(40) == 0) {
            char path[1100];
            if (fd >= 0) close(fd);
            snprintf(path, sizeof path, "%s/%020" PRId64 ".log", directory, offset);
            fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
            if (fd < 0) _exit(2);
        }
        run_of_records run;
        uint8_t batch[8192];
        int64_t count = 1 + check_below(40);
        make_run(&run, offset, count);
        int64_t bytes = sl_batch_encode(&run.records, offset, batch, sizeof batch);
        if (bytes < 0) _exit(4);
        write_plainly(fd, batch, (size_t)bytes, check_below(3) == 0);
        offset += count;
        atomic_store(&shared->appended, offset);
    }
    close(fd);
}

static void test_foreign(void) {
    check_remove_tree(directory);
    REQUIRE(mkdir(directory, 0755) == 0);
    sl_options options = kit_options(SL_OPEN_READ_ONLY, 16 << 10);
    sl_log *log;
    CHECK_FAILS(sl_log_open(directory, &options, &log), SL_E_NOT_FOUND);
    atomic_store(&shared->appended, 0);
    pid_t pid = start(write_as_kafka);
    while (atomic_load(&shared->appended) == 0) nap_us(100);
    log = open_reader();
    sl_cursor *cursor;
    REQUIRE(sl_cursor_open(log, 0, 0, &cursor) == SL_OK);
    int64_t next = 0;
    for (bool last = false; !last;) {
        last = atomic_load(&shared->finished) != 0;
        int64_t appended = atomic_load(&shared->appended);
        CHECK_RESULT(read_on(cursor, &next));
        CHECK_NOTE(next >= appended, "read up to %" PRId64 " of %" PRId64, next, appended);
        look_around(log, next);
    }
    end_well(pid);
    CHECK_EQ(next, atomic_load(&shared->appended));
    CHECK_EQ(sl_log_end_offset(log), next);
    sl_stats stats;
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK_EQ(stats.writer_alive, 0);
    CHECK(!kit_exists(directory, ".lock")); /* reading left nothing behind */
    sl_cursor_close(cursor);
    CHECK_OK(sl_log_close(log));
}

int main(void) {
    check_begin("follow");
    check_path(directory, "followed");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    test_rolls();
    test_cuts();
    test_killed();
    test_foreign();
    return check_end();
}
