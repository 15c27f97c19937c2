/* test_recovery.c -- what is believed of a directory that nobody closed in order.
 *
 * A crash is sl_log_abandon, or a copy of the directory made while a call was at work: before every
 * call that changes a file, the state on disk is kept, and every state is opened afterwards.
 *
 *   where the bytes are wrong          what must happen
 *   ---------------------------------------------------------------------------------------------
 *   above what was durable             the log ends before the first batch that is not whole, and goes
 *                                      on from there; the later batches and segments are gone
 *   below it                           a writer is refused, with file and position; a reader gets what
 *                                      is left and is told where it ends; repair cuts there
 *   in a file of an interrupted step   the step is finished or undone, never half
 *   ---------------------------------------------------------------------------------------------
 *
 * Every log is small, so that every byte of its last batches can be tried.  A reader changes nothing:
 * the directory is compared byte for byte. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#include <fcntl.h>

#include "check.h"
#include "logkit.h"
#include "os.h"

enum { BATCHES_MAX = 400 };

typedef struct batch {
    int64_t base_offset;
    int64_t end_offset;
    int64_t segment;
    int64_t position;
    int64_t bytes;
} batch;

typedef struct scene {
    char made[1024];  /* the directory as it was left */
    char tried[1024]; /* the copy that is changed and opened */
    kit_model model;
    batch batches[BATCHES_MAX];
    int32_t count;
    int64_t closed_end; /* durable, and so says the recovery point */
} scene;

static void note_batches(scene *s, sl_log *log) {
    sl_cursor *cursor;
    REQUIRE(sl_cursor_open(log, sl_log_start_offset(log), 0, &cursor) == SL_OK);
    sl_batch_view view;
    s->count = 0;
    while (sl_cursor_next_batch(cursor, &view) > 0) {
        REQUIRE(s->count < BATCHES_MAX);
        s->batches[s->count++] =
            (batch){view.header.base_offset, view.header.last_offset + 1, view.segment_base_offset,
                    view.position, view.header.batch_bytes};
        sl_pin_release(view.pin);
    }
    sl_cursor_close(cursor);
}

/* `closed` appends and a close, then `more` appends that nobody synced, and a crash. */
static void make_scene(scene *s, int closed, int more, int64_t segment_bytes) {
    check_path(s->made, "made");
    check_path(s->tried, "tried");
    check_remove_tree(s->made);
    kit_begin(&s->model, 0);
    sl_options options = kit_options(SL_OPEN_CREATE, segment_bytes);
    sl_log *log;
    REQUIRE(sl_log_open(s->made, &options, &log) == SL_OK);
    for (int i = 0; i < closed; i++) REQUIRE(kit_append_some(log, &s->model, 1 + i % 4) >= 0);
    REQUIRE(sl_log_close(log) == SL_OK);
    s->closed_end = s->model.end_offset;
    static const char *const known[] = {"recovery-point-offset-checkpoint", ".lock"};
    kit_file kept_files[2] = {kit_read(s->made, known[0]), kit_read(s->made, known[1])};
    REQUIRE(sl_log_open(s->made, &options, &log) == SL_OK);
    CHECK_EQ(sl_log_durable_offset(log), s->closed_end);
    for (int i = 0; i < more; i++) REQUIRE(kit_append_some(log, &s->model, 1 + i % 3) >= 0);
    note_batches(s, log);
    sl_log_abandon(log);
    /* A roll has its segment synced in the background: here that came too late. */
    for (int i = 0; i < 2; i++) {
        kit_write(s->made, known[i], kept_files[i].data, kept_files[i].bytes);
        free(kept_files[i].data);
    }
}

static const batch *holder(const scene *s, int64_t offset) {
    for (int32_t i = 0; i < s->count; i++)
        if (s->batches[i].end_offset > offset) return &s->batches[i];
    return &s->batches[s->count - 1];
}

static sl_status open_tried(const scene *s, int32_t flags, sl_log **out) {
    sl_options options = kit_options(flags, 4096);
    return sl_log_open(s->tried, &options, out);
}

/* Every file of `a` is in `b`, byte for byte. */
static bool holds_all(const char *a, const char *b) {
    DIR *directory = opendir(a);
    bool same = directory != NULL;
    struct dirent *entry;
    while (same && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' && entry->d_name[1] != 'l' && entry->d_name[1] != 't') continue;
        kit_file left = kit_read(a, entry->d_name);
        kit_file right = kit_read(b, entry->d_name);
        same = left.bytes == right.bytes &&
               (left.bytes <= 0 || memcmp(left.data, right.data, (size_t)left.bytes) == 0);
        free(left.data);
        free(right.data);
    }
    if (directory != NULL) closedir(directory);
    return same;
}

/* A reader on `tried` sees the log up to `end`, and changes nothing. */
static void check_reader(scene *s, int64_t end) {
    char before[1024];
    check_path(before, "before");
    kit_copy_directory(s->tried, before);
    sl_log *log;
    CHECK_OK(open_tried(s, SL_OPEN_READ_ONLY, &log));
    if (log == NULL) return;
    CHECK_EQ(sl_log_end_offset(log), end);
    sl_status status;
    CHECK_EQ(kit_read_prefix(log, &s->model, 0, &status), end);
    CHECK_OK(status);
    CHECK_OK(sl_log_close(log));
    CHECK(holds_all(before, s->tried) && holds_all(s->tried, before));
}

/* A writer on `tried` finds the log ending at `end`, goes on, and the next one agrees. */
static void check_writer(scene *s, int32_t flags, int64_t end) {
    kit_model model = {0};
    kit_copy(&model, &s->model);
    kit_cut(&model, end);
    sl_log *log;
    CHECK_OK(open_tried(s, flags, &log));
    if (log != NULL) {
        REQUIRE(sl_log_end_offset(log) == end);
        model.start_offset = sl_log_start_offset(log);
        kit_check_cursor(log, &model, model.start_offset, 16);
        kit_check_verified(log);
        CHECK_RESULT(kit_append_some(log, &model, 3));
        CHECK_OK(sl_log_close(log));
        CHECK_OK(open_tried(s, 0, &log));
        REQUIRE(log != NULL);
        kit_check_cursor(log, &model, model.start_offset, 16);
        kit_check_times(log, &model, 3);
        kit_check_verified(log);
        sl_stats stats;
        CHECK_OK(sl_log_stats(log, &stats));
        CHECK(stats.recovery_discarded_bytes == 0 && stats.durable_offset == model.end_offset);
        CHECK_OK(sl_log_close(log));
    }
    kit_free(&model);
}

/* ---- above what was durable ---- */

static void test_abandoned(void) {
    static scene s;
    make_scene(&s, 30, 60, 4096);
    kit_copy_directory(s.made, s.tried);
    check_reader(&s, s.model.end_offset);
    sl_log *log;
    CHECK_OK(open_tried(&s, 0, &log));
    sl_stats stats;
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK(stats.recovered_batches > 0 && stats.recovery_discarded_bytes == 0);
    CHECK(stats.damage_offset == -1 && stats.durable_offset >= s.closed_end);
    kit_check_equal(log, &s.model);
    sl_log_abandon(log);
    check_reader(&s, s.model.end_offset);
    check_writer(&s, 0, s.model.end_offset);
    kit_free(&s.model);
}

enum { CUT, ZEROS, GARBAGE, TEARS };

static void test_torn_at_every_byte(void) {
    static scene s;
    make_scene(&s, 6, 4, 1 << 16);
    char name[64];
    kit_segment(name, 0, ".log");
    const batch *first = holder(&s, s.closed_end);
    const batch *last = &s.batches[s.count - 1];
    int64_t tail = last->position + last->bytes;
    kit_file whole = kit_read(s.made, name);
    REQUIRE(whole.bytes >= tail);
    uint8_t *torn = malloc((size_t)whole.bytes);
    for (int tear = 0; tear < TEARS; tear++) {
        for (int64_t at = first->position; at < tail; at++) {
            memcpy(torn, whole.data, (size_t)whole.bytes);
            int64_t length = tear == CUT ? at : whole.bytes;
            for (int64_t i = at; i < tail; i++) torn[i] = tear == GARBAGE ? (uint8_t)~torn[i] : 0;
            int64_t end = s.closed_end;
            for (const batch *b = first; b <= last; b++) {
                if (b->position + b->bytes > length ||
                    memcmp(torn + b->position, whole.data + b->position, (size_t)b->bytes) != 0)
                    break;
                end = b->end_offset;
            }
            kit_copy_directory(s.made, s.tried);
            kit_write(s.tried, name, torn, length);
            uint64_t failures = atomic_load(&check_failures);
            if (at % 9 == 0) check_reader(&s, end);
            check_writer(&s, 0, end);
            if (atomic_load(&check_failures) != failures)
                fprintf(stderr, "  ^ tear %d at position %" PRId64 "\n", tear, at);
        }
    }
    /* A batch that once stood elsewhere is sound in itself, and still not the one due here. */
    for (const batch *b = first; b <= last; b++) {
        for (int32_t k = 0; k < s.count; k++) {
            const batch *stale = &s.batches[k];
            if (stale == b || b->position + stale->bytes > whole.bytes) continue;
            memcpy(torn, whole.data, (size_t)whole.bytes);
            memcpy(torn + b->position, whole.data + stale->position, (size_t)stale->bytes);
            kit_copy_directory(s.made, s.tried);
            kit_write(s.tried, name, torn, whole.bytes);
            check_reader(&s, b->base_offset);
            check_writer(&s, 0, b->base_offset);
        }
    }
    free(torn);
    free(whole.data);
    kit_free(&s.model);
}

/* Segments that nobody synced: one lost, cut short or damaged takes all later ones along. */
static void test_lost_segments(void) {
    static scene s;
    make_scene(&s, 6, 150, 4096);
    for (int32_t i = 1; i < s.count; i++) {
        const batch *b = &s.batches[i];
        if (b->segment == s.batches[i - 1].segment || b->base_offset < s.closed_end) continue;
        char name[64];
        kit_segment(name, b->segment, ".log");
        kit_copy_directory(s.made, s.tried);
        kit_unlink(s.tried, name); /* a hole, or the end */
        check_writer(&s, 0, b->base_offset);
        kit_copy_directory(s.made, s.tried);
        kit_write(s.tried, name, "", 0);
        check_writer(&s, 0, b->base_offset);
        kit_copy_directory(s.made, s.tried);
        kit_file file = kit_read(s.tried, name);
        file.data[70] ^= 1;
        kit_write(s.tried, name, file.data, file.bytes);
        free(file.data);
        sl_log *log;
        CHECK_OK(open_tried(&s, 0, &log));
        sl_stats stats;
        CHECK_OK(sl_log_stats(log, &stats));
        CHECK_EQ(stats.log_end_offset, b->base_offset);
        CHECK(stats.recovery_discarded_bytes > 0 && stats.recovery_later_batches > 0);
        CHECK_EQ(stats.damage_offset, -1);
        sl_log_abandon(log);
        check_writer(&s, 0, b->base_offset);
    }
    kit_free(&s.model);
}

/* ---- below what was durable ---- */

static void check_refused(scene *s, const char *name, int64_t position) {
    sl_log *log;
    char before[1024];
    check_path(before, "before");
    kit_copy_directory(s->tried, before);
    CHECK_FAILS(open_tried(s, 0, &log), SL_E_CORRUPT);
    CHECK(log == NULL);
    const sl_error *error = sl_last_error();
    CHECK_NOTE(name == NULL || strstr(error->path, name) != NULL, "%s", error->path);
    CHECK_NOTE(position < 0 || error->position == position, "position %" PRId64, error->position);
    char log_file[64];
    CHECK(name == NULL || kit_bytes(s->tried, name) == kit_bytes(before, name));
    CHECK(kit_exists(s->tried, kit_segment(log_file, 0, ".log")) == kit_exists(before, log_file));
}

static void test_damage_below(void) {
    static scene s;
    make_scene(&s, 40, 5, 1 << 16);
    char name[64];
    kit_segment(name, 0, ".log");
    kit_file whole = kit_read(s.made, name);
    const batch *b = holder(&s, s.closed_end - 1);
    for (int how = 0; how < 4; how++) {
        uint8_t *data = malloc((size_t)whole.bytes);
        memcpy(data, whole.data, (size_t)whole.bytes);
        int64_t length = whole.bytes;
        if (how == 0) data[b->position + 16] = 7; /* magic */
        if (how == 1) length = b->position + b->bytes / 2;
        if (how == 2) memset(data + b->position, 0, (size_t)(whole.bytes - b->position));
        if (how == 3) data[b->position + 7] ^= 0x40; /* base offset: outside the CRC */
        kit_copy_directory(s.made, s.tried);
        kit_write(s.tried, name, data, length);
        check_refused(&s, name, b->position);
        sl_log *log;
        CHECK_OK(open_tried(&s, SL_OPEN_READ_ONLY, &log));
        REQUIRE(log != NULL);
        sl_status status;
        CHECK_EQ(kit_read_prefix(log, &s.model, 0, &status), b->base_offset);
        CHECK_NOTE(status == SL_E_CORRUPT || status == SL_E_UNSUPPORTED, "tear %d: %s", how,
                   sl_status_name((int32_t)status));
        CHECK_NOTE(strstr(sl_last_error()->path, name) != NULL, "%s", sl_last_error()->path);
        CHECK_EQ(sl_last_error()->position, b->position);
        CHECK(kit_read_prefix(log, &s.model, SL_READ_SKIP_CORRUPT, &status) >= b->base_offset);
        CHECK_OK(sl_log_close(log));
        CHECK_OK(open_tried(&s, SL_OPEN_REPAIR, &log));
        REQUIRE(log != NULL);
        sl_stats stats;
        CHECK_OK(sl_log_stats(log, &stats));
        CHECK_EQ(stats.damage_offset, b->base_offset);
        CHECK_EQ(stats.log_end_offset, b->base_offset);
        sl_log_abandon(log);
        check_writer(&s, 0, b->base_offset); /* the cut holds without repair */
        free(data);
    }
    /* One bit in a record far below: nobody reads that on opening, everybody who reads it is told. */
    const batch *far_below = holder(&s, s.closed_end / 2);
    kit_copy_directory(s.made, s.tried);
    whole.data[far_below->position + far_below->bytes - 2] ^= 1;
    kit_write(s.tried, name, whole.data, whole.bytes);
    for (int32_t flags = 0; flags < 2; flags++) { /* a writer, then a reader */
        sl_log *log;
        CHECK_OK(open_tried(&s, flags, &log));
        REQUIRE(log != NULL);
        sl_status status;
        CHECK_EQ(kit_read_prefix(log, &s.model, 0, &status), far_below->base_offset);
        CHECK_FAILS(status, SL_E_CORRUPT);
        CHECK_EQ(sl_last_error()->position, far_below->position);
        CHECK_EQ(kit_read_prefix(log, &s.model, SL_READ_SKIP_CORRUPT, &status), s.model.end_offset);
        CHECK_OK(status);
        sl_log_abandon(log);
    }
    free(whole.data);
    kit_free(&s.model);
}

static void test_missing_segments(void) {
    static scene s;
    make_scene(&s, 150, 0, 4096);
    int64_t first_after = 0;
    for (int32_t i = 0; i < s.count && first_after == 0; i++) first_after = s.batches[i].segment;
    int64_t last = s.batches[s.count - 1].segment;
    char name[64];
    kit_copy_directory(s.made, s.tried);
    kit_unlink(s.tried, kit_segment(name, last, ".log"));
    check_refused(&s, NULL, -1);
    check_writer(&s, SL_OPEN_REPAIR, last);
    kit_copy_directory(s.made, s.tried);
    for (int32_t i = 0; i < s.count; i++)
        if (kit_exists(s.tried, kit_segment(name, s.batches[i].segment, ".log")))
            kit_unlink(s.tried, name);
    check_refused(&s, NULL, -1);
    /* The oldest ones may go: that is what a retention does. */
    kit_copy_directory(s.made, s.tried);
    kit_unlink(s.tried, kit_segment(name, 0, ".log"));
    sl_log *log;
    CHECK_OK(open_tried(&s, 0, &log));
    CHECK_EQ(sl_log_start_offset(log), first_after);
    s.model.start_offset = first_after;
    kit_check_cursor(log, &s.model, first_after, 16);
    sl_log_abandon(log);
    kit_free(&s.model);
}

/* The checkpoint still says what it said when the log was made; the control page alone knows what was
 * synced since. */
static void test_control_page(void) {
    static scene s;
    make_scene(&s, 0, 0, 1 << 16);
    check_remove_tree(s.made);
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 16);
    sl_log *log;
    REQUIRE(sl_log_open(s.made, &options, &log) == SL_OK);
    for (int i = 0; i < 8; i++) REQUIRE(kit_append_some(log, &s.model, 2) >= 0);
    CHECK_OK(sl_log_flush(log));
    int64_t durable = s.model.end_offset;
    for (int i = 0; i < 3; i++) REQUIRE(kit_append_some(log, &s.model, 2) >= 0);
    note_batches(&s, log);
    sl_log_abandon(log);
    CHECK(kit_exists(s.made, "recovery-point-offset-checkpoint"));
    char name[64];
    kit_segment(name, 0, ".log");
    kit_file whole = kit_read(s.made, name);
    for (int32_t i = 0; i < s.count; i++) {
        const batch *b = &s.batches[i];
        kit_copy_directory(s.made, s.tried);
        kit_write(s.tried, name, whole.data, b->position + 30);
        if (b->base_offset < durable) {
            check_refused(&s, name, b->position);
            kit_unlink(s.tried, ".lock"); /* now nobody knows */
        }
        check_writer(&s, 0, b->base_offset);
    }
    free(whole.data);
    kit_free(&s.model);
}

/* ---- interrupted steps ---- */

/* What the service threads do at the same time is not a step of the one that acts. */
static _Thread_local bool recording;
static int kept;
static char acting_on[1024];

/* Keep the state on disk as a crash at this call would leave it. */
static void keep(void) {
    if (!recording) return;
    char name[32];
    char path[1024];
    snprintf(name, sizeof name, "kept-%d", kept++);
    kit_copy_directory(acting_on, check_path(path, name));
}
static int keep_open(int dir_fd, const char *name, int flags, int mode) {
    if ((flags & O_CREAT) != 0) keep();
    return sl_os_real.open(dir_fd, name, flags, mode);
}
static int keep_truncate(int fd, int64_t bytes) {
    keep();
    return sl_os_real.truncate(fd, bytes);
}
static int keep_sync_data(int fd) {
    keep();
    return sl_os_real.sync_data(fd);
}
static int keep_sync_directory(int fd) {
    keep();
    return sl_os_real.sync_directory(fd);
}
static int keep_rename(int dir_fd, const char *from, const char *to) {
    keep();
    return sl_os_real.rename(dir_fd, from, to);
}
static int keep_unlink(int dir_fd, const char *name) {
    keep();
    return sl_os_real.unlink(dir_fd, name);
}
static ssize_t keep_pwrite(int fd, const void *data, size_t bytes, int64_t position) {
    keep();
    return sl_os_real.pwrite(fd, data, bytes, position);
}

enum { CUT_SUFFIX, CUT_PREFIX, CUT_ALL, ROLL, CLOSE, ACTIONS };

static void act(sl_log *log, int action, int64_t offset) {
    recording = true;
    if (action == CUT_SUFFIX) CHECK_OK(sl_log_truncate_suffix(log, offset));
    if (action == CUT_PREFIX || action == CUT_ALL) CHECK_OK(sl_log_truncate_prefix(log, offset));
    if (action == ROLL) CHECK_OK(sl_log_roll(log));
    if (action == CLOSE) CHECK_OK(sl_log_close(log));
    recording = false;
    if (action != CLOSE) sl_log_abandon(log);
}

static void test_interrupted_at_every_call(void) {
    static scene s;
    sl_os.open = keep_open;
    sl_os.truncate = keep_truncate;
    sl_os.sync_data = keep_sync_data;
    sl_os.sync_directory = keep_sync_directory;
    sl_os.rename = keep_rename;
    sl_os.unlink = keep_unlink;
    sl_os.pwrite = keep_pwrite;
    int states = 0;
    for (int round = 0; round < 12; round++) {
        int action = round % ACTIONS;
        make_scene(&s, 60, 4, 4096);
        int64_t old_end = s.model.end_offset;
        int64_t offset = action == CUT_ALL ? old_end : check_below(s.closed_end - 1) + 1;
        kit_copy_directory(s.made, s.tried);
        sl_log *log;
        REQUIRE(open_tried(&s, 0, &log) == SL_OK);
        REQUIRE(kit_append_some(log, &s.model, 3) >= 0);
        old_end = s.model.end_offset;
        if (action == CUT_ALL) offset = old_end;
        snprintf(acting_on, sizeof acting_on, "%s", s.tried);
        kept = 0;
        act(log, action, offset);
        CHECK(kept > 2);
        snprintf(acting_on, sizeof acting_on, "kept-%d", kept);
        char path[1024];
        kit_copy_directory(s.tried, check_path(path, acting_on));
        bool before = true; /* the state of before, until a first state is that of after */
        for (int i = 0; i <= kept; i++) {
            char name[32];
            snprintf(name, sizeof name, "kept-%d", i);
            check_path(path, name);
            kit_copy_directory(path, s.tried);
            bool decided = kit_exists(s.tried, ".truncation");
            if (!decided && action == ROLL) check_reader(&s, old_end);
            if (!decided && action == CLOSE) check_reader(&s, old_end);
            CHECK_OK(open_tried(&s, 0, &log));
            REQUIRE(log != NULL);
            int64_t end = sl_log_end_offset(log);
            int64_t start = sl_log_start_offset(log);
            sl_log_abandon(log);
            int64_t new_end = action == CUT_SUFFIX ? offset : old_end;
            int64_t new_start = action == CUT_PREFIX || action == CUT_ALL ? offset : 0;
            bool is_old = end == old_end && start == 0;
            bool is_new = end == new_end && start == new_start;
            CHECK_NOTE(is_old || is_new, "action %d, call %d of %d: [%" PRId64 ", %" PRId64 ")",
                       action, i, kept, start, end);
            CHECK_NOTE(is_new || before, "action %d, call %d: what was decided is undone", action,
                       i);
            CHECK(!decided || is_new);
            CHECK(!kit_exists(s.tried, ".truncation"));
            if (is_new && !is_old) before = false;
            check_writer(&s, 0, end);
            check_remove_tree(path);
            states++;
        }
        CHECK(!before || action == ROLL || action == CLOSE);
        kit_free(&s.model);
    }
    sl_os = sl_os_real;
    printf("%d interrupted states\n", states);
}

/* ---- leftovers ---- */

static void copy_file(const scene *s, int64_t base, const char *suffix) {
    char name[64];
    kit_file file = kit_read(s->made, kit_segment(name, base, ".log"));
    kit_write(s->tried, kit_segment(name, base, suffix), file.data, file.bytes);
    free(file.data);
}

static void test_leftovers(void) {
    static scene s;
    make_scene(&s, 100, 3, 4096);
    char name[64];
    int64_t second = 0;
    for (int32_t i = 0; second == 0; i++) second = s.batches[i].segment;
    static const char *const gone[] = {".log.deleted", ".index.deleted", ".timeindex.deleted",
                                       ".log.cleaned"};
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        kit_copy_directory(s.made, s.tried);
        kit_write(s.tried, kit_segment(name, second, gone[i]), "half a fi", 9);
        check_reader(&s, s.model.end_offset);
        check_writer(&s, 0, s.model.end_offset);
        CHECK(!kit_exists(s.tried, name));
    }
    static const char *const temporary[] = {"recovery-point-offset-checkpoint.tmp",
                                            "log-start-offset-checkpoint.tmp", ".truncation.tmp"};
    for (size_t i = 0; i < sizeof temporary / sizeof temporary[0]; i++) {
        kit_copy_directory(s.made, s.tried);
        kit_write(s.tried, temporary[i], "0\n1\nx 0 1\n", 10);
        check_reader(&s, s.model.end_offset);
        check_writer(&s, 0, s.model.end_offset);
        CHECK(!kit_exists(s.tried, temporary[i]));
    }
    /* The last step of an exchange is missing: it is taken. */
    kit_copy_directory(s.made, s.tried);
    copy_file(&s, 0, ".log.swap");
    kit_unlink(s.tried, kit_segment(name, 0, ".log"));
    check_writer(&s, 0, s.model.end_offset);
    CHECK(!kit_exists(s.tried, kit_segment(name, 0, ".log.swap")));
    /* An exchange that was not decided: both go, what they would have replaced stays. */
    kit_copy_directory(s.made, s.tried);
    kit_write(s.tried, kit_segment(name, 0, ".log.cleaned"), "half", 4);
    kit_write(s.tried, kit_segment(name, second, ".log.swap"), "half", 4);
    check_writer(&s, 0, s.model.end_offset);
    CHECK(!kit_exists(s.tried, name));
    CHECK(!kit_exists(s.tried, kit_segment(name, 0, ".log.cleaned")));
    /* One that was decided and is damaged: nothing is replaced by it. */
    kit_copy_directory(s.made, s.tried);
    kit_write(s.tried, kit_segment(name, second, ".log.swap"), "half", 4);
    check_refused(&s, name, 0);
    /* A log start beyond the end: its records were durable before it was decided, so one of the two is
     * damaged.  A reader shows what there is; repair believes the start. */
    kit_copy_directory(s.made, s.tried);
    kit_write(s.tried, "log-start-offset-checkpoint", "0\n1\nx 0 5000\n", 13);
    check_reader(&s, s.model.end_offset);
    check_refused(&s, "log-start-offset-checkpoint", -1);
    CHECK_EQ(sl_last_error()->offset, s.model.end_offset);
    sl_log *log;
    CHECK_OK(open_tried(&s, SL_OPEN_REPAIR, &log));
    REQUIRE(log != NULL);
    CHECK(sl_log_start_offset(log) == 5000 && sl_log_end_offset(log) == 5000);
    CHECK_EQ(sl_log_append_value(log, (const uint8_t *)"on", 2), 5000);
    CHECK_OK(sl_log_close(log));
    CHECK_OK(open_tried(&s, 0, &log));
    CHECK(sl_log_start_offset(log) == 5000 && sl_log_end_offset(log) == 5001);
    CHECK_OK(sl_log_close(log));
    kit_free(&s.model);
}

int main(void) {
    check_begin("recovery");
    test_abandoned();
    test_torn_at_every_byte();
    test_lost_segments();
    test_damage_below();
    test_missing_segments();
    test_control_page();
    test_interrupted_at_every_call();
    test_leftovers();
    return check_end();
}
