/* test_faults.c -- a disk that fails, at every call that the engine makes.
 *
 * The table of os.h is replaced by one that counts calls and fails those that a plan names:
 *
 *   kind     one of the table's entries          N      its Nth call
 *   once     that call alone fails               sticky every call from there on fails
 *   error    EIO for every kind; ENOSPC where a full disk may say so; memory answers NULL
 *
 * One script does everything a log can do (create, append, roll, flush, truncate at both ends, read,
 * close, open, crash); it runs once to count the calls of each kind, then once for every N.  Whatever
 * fails, this must hold:
 *
 *   nothing crashes, leaks a byte (ASan) or a descriptor (counted here)
 *   a failure is a clean one: of the system, never "damaged" or "not found", with a message
 *   the log's end is what the appends said, at once and after healing and opening again
 *   a failed truncation happened or did not, and a handle that goes on appending knows which
 *   what failed once may be tried again at once, unless a sync failed: that is for ever
 *
 * The background threads call the table as well, so all counters are atomic, and the Nth call need not
 * be the same one in two runs.  The second half of the file looks at syncs alone: who waits, who is
 * told, and that a record whose sync failed is never acknowledged later. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "logkit.h"
#include "os.h"

/* ---- the failing system ---- */

typedef enum kind {
    OPEN,
    MKDIR,
    RESERVE,
    TRUNCATE,
    SYNC_DATA,
    SYNC_DIRECTORY,
    RENAME,
    UNLINK,
    PREAD,
    PWRITE,
    MAP,
    POPULATE,
    ALLOCATE,
    ALLOCATE_ZEROED,
    REALLOCATE,
    KINDS
} kind;

static const char *const kind_names[KINDS] = {
    "open",  "mkdir",  "reserve", "truncate", "sync_data", "sync_directory",  "rename",    "unlink",
    "pread", "pwrite", "map",     "populate", "allocate",  "allocate_zeroed", "reallocate"};

/* What a full disk, or a full process, may say instead of EIO. */
static const int second_error[KINDS] = {[OPEN] = ENOSPC,   [MKDIR] = ENOSPC,     [RESERVE] = ENOSPC,
                                        [PWRITE] = ENOSPC, [SYNC_DATA] = ENOSPC, [RENAME] = ENOSPC};

static _Atomic int plan_kind = KINDS; /* KINDS: nothing fails */
static _Atomic int64_t plan_at;
static _Atomic int plan_sticky;
static _Atomic int plan_error;
static _Atomic int64_t plan_fired;
static _Atomic int64_t calls[KINDS];
static _Atomic int64_t fired[KINDS];

static bool strikes(kind k) {
    int64_t n = atomic_fetch_add(&calls[k], 1) + 1;
    if (atomic_load(&plan_kind) != (int)k) return false;
    int64_t at = atomic_load(&plan_at);
    if (n != at && (n < at || atomic_load(&plan_sticky) == 0)) return false;
    atomic_fetch_add(&fired[k], 1);
    atomic_fetch_add(&plan_fired, 1);
    return true;
}

static void heal(void) { atomic_store(&plan_kind, KINDS); }

static void fail_from(kind k, int64_t at, bool sticky, int error) {
    heal();
    for (int i = 0; i < KINDS; i++) atomic_store(&calls[i], 0);
    atomic_store(&plan_at, at);
    atomic_store(&plan_sticky, sticky);
    atomic_store(&plan_error, error);
    atomic_store(&plan_fired, 0);
    atomic_store(&plan_kind, (int)k);
}

#define FAULTY(k) (strikes(k) ? -atomic_load(&plan_error) : 0)

static int faulty_open(int dir_fd, const char *name, int flags, int mode) {
    int rc = FAULTY(OPEN);
    return rc != 0 ? rc : sl_os_real.open(dir_fd, name, flags, mode);
}
static int faulty_mkdir(const char *path, int mode) {
    int rc = FAULTY(MKDIR);
    return rc != 0 ? rc : sl_os_real.mkdir(path, mode);
}
static int faulty_reserve(int fd, int64_t start, int64_t bytes) {
    int rc = FAULTY(RESERVE);
    return rc != 0 ? rc : sl_os_real.reserve(fd, start, bytes);
}
static int faulty_truncate(int fd, int64_t bytes) {
    int rc = FAULTY(TRUNCATE);
    return rc != 0 ? rc : sl_os_real.truncate(fd, bytes);
}

/* A sync may be made to take time, or to wait until it is let go. */
static _Atomic int sync_held;
static _Atomic int syncs_waiting;
static _Atomic int sync_takes_us;

static int faulty_sync_data(int fd) {
    atomic_fetch_add(&syncs_waiting, 1);
    while (atomic_load(&sync_held) != 0) usleep(200);
    atomic_fetch_sub(&syncs_waiting, 1);
    if (atomic_load(&sync_takes_us) > 0) usleep((useconds_t)atomic_load(&sync_takes_us));
    int rc = FAULTY(SYNC_DATA);
    return rc != 0 ? rc : sl_os_real.sync_data(fd);
}
static int faulty_sync_directory(int fd) {
    int rc = FAULTY(SYNC_DIRECTORY);
    return rc != 0 ? rc : sl_os_real.sync_directory(fd);
}
static int faulty_rename(int dir_fd, const char *from, const char *to) {
    int rc = FAULTY(RENAME);
    return rc != 0 ? rc : sl_os_real.rename(dir_fd, from, to);
}
static int faulty_unlink(int dir_fd, const char *name) {
    int rc = FAULTY(UNLINK);
    return rc != 0 ? rc : sl_os_real.unlink(dir_fd, name);
}
static ssize_t faulty_pread(int fd, void *out, size_t bytes, int64_t position) {
    int rc = FAULTY(PREAD);
    return rc != 0 ? rc : sl_os_real.pread(fd, out, bytes, position);
}
static ssize_t faulty_pwrite(int fd, const void *data, size_t bytes, int64_t position) {
    int rc = FAULTY(PWRITE);
    /* A disk that fills up takes a part first. */
    if (rc != 0 && bytes > 1) (void)!sl_os_real.pwrite(fd, data, bytes / 2, position);
    return rc != 0 ? rc : sl_os_real.pwrite(fd, data, bytes, position);
}
static int faulty_map(int fd, size_t bytes, int writable, uint8_t **out_map) {
    int rc = FAULTY(MAP);
    return rc != 0 ? rc : sl_os_real.map(fd, bytes, writable, out_map);
}
static int faulty_populate(const uint8_t *address, size_t bytes, int writable) {
    int rc = FAULTY(POPULATE);
    return rc != 0 ? rc : sl_os_real.populate(address, bytes, writable);
}
static void *faulty_allocate(size_t bytes) {
    return strikes(ALLOCATE) ? NULL : sl_os_real.allocate(bytes);
}
static void *faulty_allocate_zeroed(size_t bytes) {
    return strikes(ALLOCATE_ZEROED) ? NULL : sl_os_real.allocate_zeroed(bytes);
}
static void *faulty_reallocate(void *old, size_t bytes) {
    return strikes(REALLOCATE) ? NULL : sl_os_real.reallocate(old, bytes);
}

static void install(void) {
    sl_os = (sl_os_table){.open = faulty_open,
                          .mkdir = faulty_mkdir,
                          .reserve = faulty_reserve,
                          .truncate = faulty_truncate,
                          .sync_data = faulty_sync_data,
                          .sync_directory = faulty_sync_directory,
                          .rename = faulty_rename,
                          .unlink = faulty_unlink,
                          .pread = faulty_pread,
                          .pwrite = faulty_pwrite,
                          .map = faulty_map,
                          .populate = faulty_populate,
                          .allocate = faulty_allocate,
                          .allocate_zeroed = faulty_allocate_zeroed,
                          .reallocate = faulty_reallocate};
}

/* A codec that changes nothing, so that buffers are wanted on both ways. */
static int copy_all(const uint8_t *in, size_t in_bytes, sl_buffer *out) {
    if (sl_buffer_reserve(out, in_bytes + 1) != SL_OK) return 1;
    memcpy(out->data, in, in_bytes);
    out->bytes = in_bytes;
    return 0;
}
static int pack(int32_t codec, int32_t level, const uint8_t *in, size_t in_bytes, sl_buffer *out) {
    (void)codec;
    (void)level;
    return copy_all(in, in_bytes, out);
}
static int unpack(int32_t codec, const uint8_t *in, size_t in_bytes, size_t limit, sl_buffer *out) {
    (void)codec;
    return in_bytes > limit ? 1 : copy_all(in, in_bytes, out);
}

static int open_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count;
}

/* ---- a log and what is known of it ---- */

typedef struct world {
    char path[1024];
    sl_log *log;
    kit_model model;
    int64_t pending_end;   /* a failed truncate_suffix may still happen; -1 */
    int64_t pending_start; /* a failed truncate_prefix may still happen; -1 */
    int32_t sync;
    bool once; /* what failed will not fail again */
} world;

static void clean_failure(sl_status status, const char *doing) {
    const sl_error *error = sl_last_error();
    CHECK_NOTE(error->status == (int32_t)status && error->message[0] != '\0',
               "%s: status %s, error %s", doing, sl_status_name((int32_t)status),
               sl_status_name(error->status));
    CHECK_NOTE(status == SL_E_IO || status == SL_E_NO_SPACE || status == SL_E_NO_MEMORY ||
                   status == SL_E_POISONED ||
                   (status == SL_E_CODEC && atomic_load(&plan_kind) == REALLOCATE),
               "%s: %s: %s (%s)", doing, sl_status_name((int32_t)status), error->message,
               error->path);
    CHECK_NOTE(atomic_load(&plan_fired) > 0, "%s failed and nothing was made to fail", doing);
}

static bool poisoned(world *w) {
    sl_stats stats;
    CHECK_OK(sl_log_stats(w->log, &stats));
    return stats.poisoned_errno != 0;
}

/* The log is open: nothing is pending any more, and its bounds are the model's. */
static void settle(world *w) {
    int64_t end = sl_log_end_offset(w->log);
    int64_t start = sl_log_start_offset(w->log);
    if (w->pending_end >= 0 && end == w->pending_end) kit_cut(&w->model, end);
    if (w->pending_start >= 0 && start == w->pending_start) w->model.start_offset = start;
    w->pending_end = -1;
    w->pending_start = -1;
    REQUIRE(end == w->model.end_offset);
    REQUIRE(start == w->model.start_offset);
}

static bool open_world(world *w) {
    sl_options options = kit_options(SL_OPEN_CREATE, 8192);
    options.sync = w->sync;
    sl_status status = sl_log_open(w->path, &options, &w->log);
    if (status != SL_OK) {
        CHECK(w->log == NULL);
        clean_failure(status, "open");
        if (!w->once) return false;
        /* The fault is over: the next try must do. */
        status = sl_log_open(w->path, &options, &w->log);
        CHECK_OK(status);
        if (status != SL_OK) return false;
    }
    settle(w);
    return true;
}

static bool append(world *w, int64_t count, int32_t codec) {
    kit_shape shape = {
        .count = count, .value_bytes_max = 60, .codec = codec, .plain = count % 2 == 0};
    for (int tries = 0; tries < 2; tries++) {
        int64_t result = kit_append(w->log, &w->model, &shape);
        CHECK_EQ(sl_log_end_offset(w->log), w->model.end_offset);
        if (result >= 0) {
            if (w->sync == SL_SYNC_ALWAYS)
                CHECK_EQ(sl_log_durable_offset(w->log), w->model.end_offset);
            return true;
        }
        clean_failure((sl_status)-result, "append");
        if (!w->once || result == -SL_E_POISONED) return false;
        CHECK_NOTE(tries == 0, "what failed once fails again");
    }
    return false;
}

/* A call that changes no record: its failure leaves everything as it was. */
static void harmless(world *w, sl_status (*call)(sl_log *), const char *doing) {
    for (int tries = 0; tries < 2; tries++) {
        sl_status status = call(w->log);
        CHECK_EQ(sl_log_end_offset(w->log), w->model.end_offset);
        if (status == SL_OK) return;
        clean_failure(status, doing);
        if (!w->once || status == SL_E_POISONED || poisoned(w)) return;
        CHECK_NOTE(tries == 0, "what failed once fails again");
    }
}

static void flush(world *w) {
    harmless(w, sl_log_flush, "flush");
    CHECK(poisoned(w) || !w->once || sl_log_durable_offset(w->log) == w->model.end_offset);
}

static void cut_prefix(world *w, int64_t offset) {
    sl_status status = sl_log_truncate_prefix(w->log, offset);
    if (status == SL_OK) {
        w->model.start_offset = offset;
    } else {
        clean_failure(status, "truncate_prefix");
        w->pending_start = offset;
    }
    CHECK_EQ(sl_log_start_offset(w->log), w->model.start_offset);
}

static void cut_suffix(world *w, int64_t offset) {
    sl_status status = sl_log_truncate_suffix(w->log, offset);
    if (status == SL_OK) {
        kit_cut(&w->model, offset);
    } else {
        clean_failure(status, "truncate_suffix");
        /* A handle that can go on must have changed nothing, now or at the next opening. */
        if (poisoned(w)) w->pending_end = offset;
    }
    CHECK_EQ(sl_log_end_offset(w->log), w->model.end_offset);
}

static void read_all(world *w, sl_log *log) {
    sl_status status;
    int64_t offset = kit_read_prefix(log, &w->model, 0, &status);
    if (status != SL_OK) {
        clean_failure(status, "read");
    } else {
        CHECK_EQ(offset, w->model.end_offset);
    }
    int64_t start = w->model.start_offset;
    int64_t span = w->model.end_offset - start;
    if (span <= 0) return;
    kit_rows rows;
    kit_rows_begin(&rows, 1);
    for (int i = 0; i < 6; i++) {
        int64_t wanted = start + check_below(span);
        int64_t n = sl_log_get(log, wanted, &rows.columns);
        if (n == 1) {
            CHECK(rows.offsets[0] == wanted && kit_row_equals(&w->model, &rows.columns, 0));
            sl_pin_release(rows.columns.pin);
        } else {
            clean_failure((sl_status)-n, "get");
        }
    }
    kit_rows_free(&rows);
    int64_t wanted[3] = {start, start + span / 2, start + span - 1};
    int64_t times[3];
    int32_t lengths[6];
    sl_buffer out = {0};
    int64_t found = sl_log_lookup_many(log, wanted, 3, times, lengths, lengths + 3, &out);
    if (found < 0) {
        clean_failure((sl_status)-found, "lookup");
    } else {
        CHECK_EQ(found, 3);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(lengths[3 + i], kit_at(&w->model, wanted[i])->value_bytes);
    }
    sl_buffer_free(&out);
    sl_batch_view view;
    int64_t bytes = sl_log_read_range(log, wanted[1], INT64_MAX, 1000, &view);
    if (bytes < 0) {
        clean_failure((sl_status)-bytes, "range");
    } else {
        CHECK(view.header.base_offset <= wanted[1] && view.header.last_offset >= wanted[1]);
        sl_pin_release(view.pin);
    }
    int64_t time = kit_at(&w->model, wanted[1])->timestamp_ms;
    int64_t at = sl_log_offset_for_timestamp(log, time, NULL);
    if (at < 0) {
        clean_failure((sl_status)-at, "find a time");
    } else {
        CHECK_EQ(at, kit_offset_for_timestamp(&w->model, time));
    }
}

static void read_beside(world *w) {
    sl_options options = kit_options(SL_OPEN_READ_ONLY, 8192);
    sl_log *reader;
    sl_status status = sl_log_open(w->path, &options, &reader);
    if (status != SL_OK) {
        clean_failure(status, "open to read");
        return;
    }
    CHECK_EQ(sl_log_end_offset(reader), w->model.end_offset);
    CHECK_EQ(sl_log_start_offset(reader), w->model.start_offset);
    read_all(w, reader);
    status = sl_log_refresh(reader);
    if (status != SL_OK) clean_failure(status, "refresh");
    CHECK_OK(sl_log_close(reader));
}

/* Whatever may be asked of a log whose sync failed is refused for that reason, for ever. */
static void stays_poisoned(world *w) {
    int64_t end = sl_log_end_offset(w->log);
    int64_t durable = sl_log_durable_offset(w->log);
    CHECK_FAILS(sl_log_append_value(w->log, (const uint8_t *)"x", 1), SL_E_POISONED);
    CHECK_FAILS(sl_log_flush(w->log), SL_E_POISONED);
    CHECK_FAILS(sl_log_roll(w->log), SL_E_POISONED);
    CHECK_FAILS(sl_log_wait_durable(w->log, end, 1000), SL_E_POISONED);
    CHECK_FAILS(sl_log_request_durable(w->log, end, -1), SL_E_POISONED);
    CHECK_FAILS(sl_log_truncate_prefix(w->log, end), SL_E_POISONED);
    CHECK_FAILS(sl_log_truncate_suffix(w->log, sl_log_start_offset(w->log)), SL_E_POISONED);
    CHECK_EQ(sl_log_end_offset(w->log), end);
    CHECK_EQ(sl_log_durable_offset(w->log), durable);
}

static void close_world(world *w) {
    bool was_poisoned = poisoned(w);
    if (was_poisoned) stays_poisoned(w);
    sl_status status = sl_log_close(w->log);
    w->log = NULL;
    if (status != SL_OK) {
        clean_failure(status, "close");
    } else {
        CHECK(!was_poisoned);
    }
}

/* ---- the script ---- */

static void run_script(world *w) {
    if (!open_world(w)) return;
    append(w, 1, SL_CODEC_NONE);
    append(w, 40, SL_CODEC_NONE);
    flush(w);
    for (int i = 0; i < 9; i++) { /* more segments than the list begins with */
        harmless(w, sl_log_roll, "roll");
        append(w, 3, SL_CODEC_NONE);
        append(w, 4, SL_CODEC_GZIP);
    }
    append(w, 201, SL_CODEC_NONE); /* rolls by itself, in its middle */
    read_all(w, w->log);
    read_beside(w);
    if (poisoned(w)) stays_poisoned(w);
    int64_t span = w->model.end_offset - w->model.start_offset;
    cut_prefix(w, w->model.start_offset + span / 3);
    append(w, 5, SL_CODEC_NONE);
    cut_suffix(w, w->model.end_offset - span / 3);
    append(w, 6, SL_CODEC_GZIP);
    flush(w);
    append(w, 90, SL_CODEC_NONE);
    if (w->pending_end < 0) read_all(w, w->log);
    close_world(w);

    if (!open_world(w)) return;
    append(w, 8, SL_CODEC_NONE);
    read_all(w, w->log);
    sl_log_abandon(w->log);
    w->log = NULL;
    if (w->pending_end < 0 && w->pending_start < 0) read_beside(w);

    if (!open_world(w)) return;
    append(w, 2, SL_CODEC_NONE);
    cut_suffix(w, w->model.start_offset + (w->model.end_offset - w->model.start_offset) / 2);
    append(w, 70, SL_CODEC_NONE);
    cut_prefix(w, w->model.end_offset);
    append(w, 7, SL_CODEC_NONE);
    close_world(w);
}

static void run_world(int32_t sync, bool once) {
    world w = {.pending_end = -1, .pending_start = -1, .sync = sync, .once = once};
    check_path(w.path, "world");
    check_remove_tree(w.path);
    kit_begin(&w.model, 0);
    run_script(&w);
    heal();
    /* Everything acknowledged is there, and the log lives on. */
    w.once = false;
    REQUIRE(open_world(&w));
    /* Record by record now and then; the checksums and indexes of everything always. */
    static int runs;
    if (runs++ % 16 == 0) kit_check_equal(w.log, &w.model);
    kit_check_verified(w.log);
    CHECK(append(&w, 30, SL_CODEC_NONE));
    CHECK_OK(sl_log_flush(w.log));
    CHECK_OK(sl_log_close(w.log));
    REQUIRE(open_world(&w));
    kit_check_cursor(w.log, &w.model, w.model.start_offset, 64);
    CHECK_EQ(sl_log_durable_offset(w.log), w.model.end_offset);
    CHECK_OK(sl_log_close(w.log));
    kit_free(&w.model);
}

static void sweep(kind k, int32_t sync, int error) {
    bool verbose = getenv("STRATALOG_VERBOSE") != NULL;
    for (int sticky = 0; sticky < 2; sticky++) {
        for (int64_t at = 1;; at++) {
            uint64_t failures = atomic_load(&check_failures);
            if (verbose)
                fprintf(stderr, "%s %" PRId64 " %s errno %d sync %d\n", kind_names[k], at,
                        sticky ? "sticky" : "once", error, (int)sync);
            fail_from(k, at, sticky != 0, error);
            run_world(sync, sticky == 0);
            if (atomic_load(&check_failures) != failures)
                fprintf(stderr, "  ^ %s call %" PRId64 ", %s, errno %d, sync mode %d\n",
                        kind_names[k], at, sticky ? "and all after" : "once", error, (int)sync);
            if (atomic_load(&plan_fired) == 0) break; /* the script has no such call any more */
        }
    }
}

static void test_every_call(void) {
    run_world(SL_SYNC_NONE, true);
    int descriptors = open_descriptors();
    for (int k = 0; k < KINDS; k++) {
        sweep((kind)k, SL_SYNC_NONE, EIO);
        if (second_error[k] != 0) sweep((kind)k, SL_SYNC_NONE, second_error[k]);
    }
    sweep(SYNC_DATA, SL_SYNC_ALWAYS, EIO);
    sweep(SYNC_DIRECTORY, SL_SYNC_ALWAYS, EIO);
    sweep(RESERVE, SL_SYNC_ALWAYS, ENOSPC);
    CHECK_EQ(open_descriptors(), descriptors);
}

/* ---- syncs ---- */

static void open_fresh(world *w, const sl_options *options) {
    *w = (world){.pending_end = -1, .pending_start = -1, .sync = options->sync};
    check_path(w->path, "world");
    check_remove_tree(w->path);
    kit_begin(&w->model, 0);
    heal();
    REQUIRE(sl_log_open(w->path, options, &w->log) == SL_OK);
}

static bool until(bool (*condition)(world *), world *w) {
    for (int i = 0; i < 20000; i++) {
        if (condition(w)) return true;
        usleep(500);
    }
    return false;
}
static bool all_durable(world *w) {
    return sl_log_durable_offset(w->log) == sl_log_end_offset(w->log);
}
static bool sync_waits(world *w) {
    (void)w;
    return atomic_load(&syncs_waiting) > 0;
}

static bool signalled(int event_fd, int timeout_ms) {
    struct pollfd wanted = {.fd = event_fd, .events = POLLIN};
    return poll(&wanted, 1, timeout_ms) == 1;
}

enum { WAITERS = 6, SIBLINGS = 8, SIBLING_APPENDS = 60 };

static void *wait_for_all(void *argument) {
    world *w = argument;
    sl_status status = sl_log_wait_durable(w->log, sl_log_end_offset(w->log), -1);
    CHECK_FAILS(status, SL_E_POISONED);
    CHECK(sl_last_error()->system_errno == EIO);
    return NULL;
}

/* A sync is held, others wait for it, it fails: everybody is told, nobody is ever told otherwise. */
static void test_poison_reaches_all(void) {
    world w;
    sl_options options = kit_options(SL_OPEN_CREATE, 8192);
    open_fresh(&w, &options);
    CHECK_RESULT(kit_append_some(w.log, &w.model, 20));
    CHECK_OK(sl_log_flush(w.log));
    int64_t durable = sl_log_durable_offset(w.log);
    CHECK_EQ(durable, 20);
    CHECK_RESULT(kit_append_some(w.log, &w.model, 30));
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_store(&sync_held, 1);
    CHECK_OK(sl_log_request_durable(w.log, w.model.end_offset, event_fd));
    REQUIRE(until(sync_waits, &w));
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, wait_for_all, &w) == 0);
    CHECK_FAILS(sl_log_wait_durable(w.log, w.model.end_offset, 20), SL_E_TIMED_OUT);
    CHECK_FAILS(sl_log_wait_durable(w.log, w.model.end_offset + 1, 0), SL_E_OUT_OF_RANGE);
    CHECK_OK(sl_log_wait_durable(w.log, durable, 0));
    CHECK(!signalled(event_fd, 0));
    fail_from(SYNC_DATA, 1, false, EIO);
    atomic_store(&sync_held, 0);
    for (int i = 0; i < WAITERS; i++) pthread_join(threads[i], NULL);
    CHECK(signalled(event_fd, 10000));
    /* The disk is well again; the log is not. */
    heal();
    stays_poisoned(&w);
    CHECK_EQ(sl_log_durable_offset(w.log), durable);
    read_all(&w, w.log);
    sl_stats stats;
    CHECK_OK(sl_log_stats(w.log, &stats));
    CHECK_EQ(stats.poisoned_errno, EIO);
    CHECK_EQ(stats.durable_offset, durable);
    CHECK_FAILS(sl_log_close(w.log), SL_E_POISONED);
    options.flags = 0;
    REQUIRE(sl_log_open(w.path, &options, &w.log) == SL_OK);
    CHECK(sl_log_durable_offset(w.log) >= durable);
    CHECK(sl_log_durable_offset(w.log) < w.model.end_offset); /* nobody vouched for the rest */
    kit_check_equal(w.log, &w.model);
    CHECK_OK(sl_log_flush(w.log));
    CHECK_EQ(sl_log_durable_offset(w.log), w.model.end_offset);
    CHECK_OK(sl_log_close(w.log));
    close(event_fd);
    kit_free(&w.model);
}

static void test_always_never_acknowledges(void) {
    world w;
    sl_options options = kit_options(SL_OPEN_CREATE, 8192);
    options.sync = SL_SYNC_ALWAYS;
    open_fresh(&w, &options);
    CHECK_RESULT(kit_append_some(w.log, &w.model, 3));
    fail_from(SYNC_DATA, 1, false, EIO);
    CHECK_FAILS(kit_append_some(w.log, &w.model, 3), SL_E_POISONED);
    for (int i = 0; i < 3; i++) stays_poisoned(&w);
    CHECK_EQ(sl_log_durable_offset(w.log), 3);
    sl_log_abandon(w.log);
    heal();
    REQUIRE(sl_log_open(w.path, &options, &w.log) == SL_OK);
    kit_check_equal(w.log, &w.model);
    CHECK_OK(sl_log_close(w.log));
    kit_free(&w.model);
}

static void test_requests(void) {
    world w;
    sl_options options = kit_options(SL_OPEN_CREATE, 8192);
    open_fresh(&w, &options);
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK_OK(sl_log_request_durable(w.log, 0, event_fd)); /* durable already */
    uint64_t value = 0;
    CHECK(read(event_fd, &value, sizeof value) == sizeof value && value == 1);
    for (int i = 1; i <= 20; i++) {
        CHECK_RESULT(kit_append_some(w.log, &w.model, 2));
        CHECK_OK(sl_log_request_durable(w.log, w.model.end_offset, event_fd));
        CHECK(signalled(event_fd, 10000));
        CHECK(read(event_fd, &value, sizeof value) == sizeof value && value == 1);
        CHECK_EQ(sl_log_durable_offset(w.log), w.model.end_offset);
    }
    /* Without memory for the waiter nothing is asked for. */
    CHECK_RESULT(kit_append_some(w.log, &w.model, 2));
    fail_from(ALLOCATE, 1, false, EIO);
    CHECK_FAILS(sl_log_request_durable(w.log, w.model.end_offset, event_fd), SL_E_NO_MEMORY);
    heal();
    CHECK(!signalled(event_fd, 0));
    /* A log that goes away releases who still waits. */
    atomic_store(&sync_held, 1);
    CHECK_OK(sl_log_request_durable(w.log, w.model.end_offset, event_fd));
    REQUIRE(until(sync_waits, &w));
    CHECK(!signalled(event_fd, 0));
    atomic_store(&sync_held, 0);
    CHECK_OK(sl_log_close(w.log));
    CHECK(signalled(event_fd, 0));
    close(event_fd);
    kit_free(&w.model);
}

static void test_interval(void) {
    world w;
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
    options.sync = SL_SYNC_INTERVAL;
    options.sync_interval_ms = 10;
    open_fresh(&w, &options);
    for (int i = 0; i < 3; i++) {
        CHECK_RESULT(kit_append_some(w.log, &w.model, 5));
        CHECK(until(all_durable, &w));
    }
    fail_from(SYNC_DATA, 1, true, EIO);
    CHECK_RESULT(kit_append_some(w.log, &w.model, 5));
    CHECK(until(poisoned, &w));
    stays_poisoned(&w);
    CHECK_EQ(sl_log_durable_offset(w.log), 15);
    CHECK_FAILS(sl_log_close(w.log), SL_E_POISONED);
    kit_free(&w.model);

    options.sync_interval_ms = 3600000; /* by bytes alone */
    options.sync_interval_bytes = 2000;
    open_fresh(&w, &options);
    CHECK_RESULT(kit_append_some(w.log, &w.model, 2));
    usleep(20000);
    CHECK_EQ(sl_log_durable_offset(w.log), 0);
    CHECK_RESULT(kit_append_some(w.log, &w.model, 200));
    CHECK(until(all_durable, &w));
    CHECK_OK(sl_log_close(w.log));
    kit_free(&w.model);
}

static void *append_beside(void *argument) {
    world *w = argument;
    for (int i = 0; i < SIBLING_APPENDS; i++) {
        int64_t offset = sl_log_append_value(w->log, (const uint8_t *)"sibling", 7);
        CHECK_RESULT(offset);
        CHECK(sl_log_durable_offset(w->log) > offset);
    }
    return NULL;
}

static void test_syncs_are_shared(void) {
    world w;
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
    options.sync = SL_SYNC_ALWAYS;
    open_fresh(&w, &options);
    atomic_store(&sync_takes_us, 300); /* as a disk would */
    pthread_t threads[SIBLINGS];
    for (int i = 0; i < SIBLINGS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, append_beside, &w) == 0);
    for (int i = 0; i < SIBLINGS; i++) pthread_join(threads[i], NULL);
    atomic_store(&sync_takes_us, 0);
    sl_stats stats;
    CHECK_OK(sl_log_stats(w.log, &stats));
    CHECK_EQ(stats.append_count, SIBLINGS * SIBLING_APPENDS);
    CHECK_EQ(stats.durable_offset, SIBLINGS * SIBLING_APPENDS);
    CHECK_NOTE(stats.sync_count > 0 && stats.sync_count < stats.append_count,
               "%" PRId64 " syncs for %" PRId64 " appends", stats.sync_count, stats.append_count);
    printf("%" PRId64 " syncs for %" PRId64 " appends\n", stats.sync_count, stats.append_count);
    CHECK_OK(sl_log_close(w.log));
    kit_free(&w.model);
}

/* A disk that is full for a while: reading goes on, and so does writing afterwards. */
static void test_full_disk(void) {
    world w;
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
    open_fresh(&w, &options);
    CHECK_RESULT(kit_append_some(w.log, &w.model, 50));
    fail_from(RESERVE, 1, true, ENOSPC);
    int64_t result = 0;
    for (int i = 0; i < 1000 && result >= 0; i++) result = kit_append_some(w.log, &w.model, 50);
    CHECK_FAILS(result, SL_E_NO_SPACE);
    CHECK(sl_last_error()->system_errno == ENOSPC && sl_last_error()->path[0] != '\0');
    kit_check_equal(w.log, &w.model);
    CHECK_OK(sl_log_flush(w.log));
    CHECK_EQ(sl_log_durable_offset(w.log), w.model.end_offset);
    heal();
    CHECK_RESULT(kit_append_some(w.log, &w.model, 50));
    kit_check_equal(w.log, &w.model);
    CHECK_OK(sl_log_close(w.log));
    kit_free(&w.model);
}

int main(void) {
    check_begin("faults");
    install();
    REQUIRE(sl_codec_register(SL_CODEC_GZIP, pack, unpack) == SL_OK);
    test_poison_reaches_all();
    test_always_never_acknowledges();
    test_requests();
    test_interval();
    test_syncs_are_shared();
    test_full_disk();
    test_every_call();
    int64_t all = 0;
    for (int k = 0; k < KINDS; k++) {
        int64_t count = atomic_load(&fired[k]);
        printf("%-16s %7" PRId64 " faults\n", kind_names[k], count);
        CHECK_NOTE(count > 0, "%s never failed", kind_names[k]);
        all += count;
    }
    printf("%-16s %7" PRId64 " faults\n", "all", all);
    return check_end();
}
