/* test_log.c -- a healthy log, from its first byte to the files it leaves behind.
 *
 * Every log here is held against the model of logkit.h while it is open, after it was closed and
 * opened again, and through a read-only handle.  The small numbers (segments of a few KiB, an index
 * entry every 256 bytes) make few records cross many boundaries.
 *
 * What is written here is also what the directory must look like for Apache's tools: segments of
 * exactly their batches' length, one recovery point, no file that does not belong.  Truncation and
 * codecs have their own file (test_limits.c), indexes theirs (test_index.c). */
#define _GNU_SOURCE
#include <limits.h>
#include <sys/stat.h>

#include "batch.h"
#include "check.h"
#include "crc32c.h"
#include "internal.h"
#include "logkit.h"

static char directory[1024];
static char name[64];

static sl_log *open_log(sl_options options) {
    sl_log *log = NULL;
    sl_status status = sl_log_open(directory, &options, &log);
    CHECK_OK(status);
    REQUIRE(log != NULL);
    return log;
}

static void fresh(const char *leaf) {
    check_path(directory, leaf);
    check_remove_tree(directory);
}

/* ---- opening ---- */

static void test_open(void) {
    fresh("open");
    sl_log *log = (sl_log *)directory;
    CHECK_FAILS(sl_log_open(directory, NULL, &log), SL_E_NOT_FOUND);
    CHECK(log == NULL);
    sl_options options = kit_options(SL_OPEN_READ_ONLY, 4096);
    CHECK_FAILS(sl_log_open(directory, &options, &log), SL_E_NOT_FOUND);
    CHECK(!kit_exists(directory, "."));

    /* A directory that is no log is left as it is by whoever does not create. */
    REQUIRE(mkdir(directory, 0755) == 0);
    CHECK_FAILS(sl_log_open(directory, NULL, &log), SL_E_NOT_FOUND);
    CHECK_FAILS(sl_log_open(directory, &options, &log), SL_E_NOT_FOUND);
    CHECK(!kit_exists(directory, ".lock"));

    options = kit_options(SL_OPEN_CREATE | SL_OPEN_EXCLUSIVE, 4096);
    log = open_log(options);
    CHECK_EQ(sl_log_start_offset(log), 0);
    CHECK_EQ(sl_log_end_offset(log), 0);
    CHECK_EQ(sl_log_segment_count(log), 1);

    /* One writer at a time, in one process as well; readers are welcome. */
    sl_log *second = NULL;
    CHECK_FAILS(sl_log_open(directory, NULL, &second), SL_E_LOCKED);
    CHECK(strstr(sl_last_error()->message, "open for writing") != NULL);
    CHECK_FAILS(sl_log_open(directory, &options, &second), SL_E_LOCKED);
    sl_options reading = kit_options(SL_OPEN_READ_ONLY, 4096);
    CHECK_OK(sl_log_open(directory, &reading, &second));
    sl_stats stats;
    CHECK_OK(sl_log_stats(second, &stats));
    CHECK_EQ(stats.writer_alive, 1);
    CHECK_FAILS(sl_log_append_value(second, (const uint8_t *)directory, 1), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_append_batches(second, (uint8_t *)directory, 1, -1, 0), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_flush(second), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_wait_durable(second, 0, 0), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_request_durable(second, 0, -1), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_roll(second), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_truncate_prefix(second, 0), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_truncate_suffix(second, 0), SL_E_READ_ONLY);
    CHECK_OK(sl_log_close(second));
    CHECK_OK(sl_log_close(log));

    CHECK_FAILS(sl_log_open(directory, &options, &log), SL_E_EXISTS);
    log = open_log(kit_options(SL_OPEN_CREATE, 4096));
    CHECK_OK(sl_log_close(log));
    log = open_log(kit_options(0, 4096));
    CHECK_OK(sl_log_refresh(log));
    CHECK_OK(sl_log_close(log));
    CHECK_OK(sl_log_open(directory, &reading, &second));
    CHECK_OK(sl_log_stats(second, &stats));
    CHECK_EQ(stats.writer_alive, 0);
    CHECK_OK(sl_log_close(second));
    CHECK_OK(sl_log_close(NULL));
    sl_log_abandon(NULL);

    /* Names that cannot be directories. */
    CHECK_FAILS(sl_log_open("", NULL, &log), SL_E_INVALID);
    CHECK_FAILS(sl_log_open(NULL, NULL, &log), SL_E_INVALID);
    char longest[1200];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CHECK_FAILS(sl_log_open(longest, NULL, &log), SL_E_INVALID);
    options = kit_options(SL_OPEN_CREATE, 4096);
    char below_file[1100];
    snprintf(below_file, sizeof below_file, "%s/%s/x", directory, kit_segment(name, 0, ".log"));
    CHECK(sl_log_open(below_file, &options, &log) != SL_OK && log == NULL);
    snprintf(below_file, sizeof below_file, "%s/",
             directory); /* a slash at the end is the same log */
    CHECK_OK(sl_log_open(below_file, &options, &log));
    CHECK_OK(sl_log_close(log));
}

static void test_options(void) {
    fresh("options");
    sl_log *log;
    for (int wrong = 0; wrong < 15; wrong++) {
        sl_options o = kit_options(SL_OPEN_CREATE, 4096);
        switch (wrong) {
        case 0: o.segment_bytes = 4095; break;
        case 1: o.segment_bytes = ((int64_t)1 << 31) - 4095; break;
        case 2: o.batch_bytes = 0; break;
        case 3: o.index_interval_bytes = -1; break;
        case 4: o.segment_index_bytes = 4095; break;
        case 5: o.segment_index_bytes = ((int64_t)1 << 30) + 1; break;
        case 6: o.sync = -1; break;
        case 7: o.sync = 3; break;
        case 8: o.sync_interval_ms = 0; break;
        case 9: o.sync_interval_bytes = 0; break;
        case 10: o.decompressed_bytes_max = 0; break;
        case 11: o.initial_offset = -1; break;
        case 12: o.flags = SL_OPEN_READ_ONLY | SL_OPEN_CREATE; break;
        case 13: o.flags = SL_OPEN_READ_ONLY | SL_OPEN_REPAIR; break;
        default: o.segment_bytes = 0; break;
        }
        CHECK_FAILS(sl_log_open(directory, &o, &log), SL_E_INVALID);
        CHECK(!kit_exists(directory, "."));
    }
    /* The longest segment there may be costs address space, not disk. */
    sl_options o = kit_options(SL_OPEN_CREATE, ((int64_t)1 << 31) - 4096);
    o.initial_offset = (int64_t)1 << 40;
    log = open_log(o);
    CHECK_EQ(sl_log_append_value(log, (const uint8_t *)"x", 1), (int64_t)1 << 40);
    CHECK(kit_bytes(directory, kit_segment(name, (int64_t)1 << 40, ".log")) < 1 << 20);
    CHECK_OK(sl_log_close(log));
    CHECK_EQ(kit_bytes(directory, kit_segment(name, (int64_t)1 << 40, ".log")), 61 + 8);
}

/* ---- appending and reading back ---- */

static void test_read_back(const char *leaf, int64_t segment_bytes, int32_t batch_bytes,
                           int64_t rounds) {
    fresh(leaf);
    kit_model model;
    kit_begin(&model, 0);
    sl_options options = kit_options(SL_OPEN_CREATE, segment_bytes);
    options.batch_bytes = batch_bytes;
    sl_log *log = open_log(options);
    int64_t appends = 0;
    for (int64_t round = 0; round < rounds; round++) {
        CHECK_RESULT(kit_append_some(log, &model, 1 + check_below(30)));
        appends++;
        if (check_below(12) == 0) {
            CHECK_OK(sl_log_close(log));
            appends = 0;
            log = open_log(options);
        }
        if (check_below(10) == 0) CHECK_OK(sl_log_roll(log));
        if (round % 16 == 0) kit_check_equal(log, &model);
    }
    kit_check_equal(log, &model);
    int64_t span = model.end_offset;
    for (int64_t capacity = 1; capacity <= 70; capacity++)
        kit_check_cursor(log, &model, check_below(span + 1), capacity);
    kit_check_cursor(log, &model, 0, 100000);
    for (int64_t from = 0; from <= span; from += 1 + check_below(3))
        kit_check_cursor(log, &model, from, 200);
    kit_check_lookups(log, &model, 3000);
    kit_check_ranges(log, &model, 500);
    kit_check_times(log, &model, 500);

    sl_stats stats;
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK_EQ(stats.log_start_offset, 0);
    CHECK_EQ(stats.log_end_offset, span);
    CHECK_EQ(stats.append_count, appends);
    CHECK_EQ(stats.pinned_bytes, 0);
    CHECK_EQ(stats.poisoned_errno, 0);
    CHECK_EQ(stats.damage_offset, -1);
    CHECK_EQ(stats.recovery_discarded_bytes, 0);
    CHECK_EQ(stats.segment_count, sl_log_segment_count(log));
    int64_t bytes = 0;
    int64_t expected_base = 0;
    for (int64_t i = 0; i < stats.segment_count; i++) {
        sl_segment_info info;
        CHECK_OK(sl_log_segment_info(log, i, &info));
        CHECK_EQ(info.base_offset, expected_base);
        int64_t largest = -1;
        for (int64_t offset = info.base_offset; offset < info.end_offset; offset++)
            if (kit_at(&model, offset)->timestamp_ms > largest)
                largest = kit_at(&model, offset)->timestamp_ms;
        CHECK_EQ(info.max_timestamp_ms, largest);
        CHECK(info.log_bytes <= segment_bytes);
        expected_base = info.end_offset;
        bytes += info.log_bytes;
    }
    CHECK_EQ(expected_base, span);
    CHECK_EQ(stats.log_bytes, bytes);
    sl_segment_info info;
    CHECK_FAILS(sl_log_segment_info(log, stats.segment_count, &info), SL_E_NOT_FOUND);
    CHECK_FAILS(sl_log_segment_info(log, -1, &info), SL_E_NOT_FOUND);
    CHECK_OK(sl_log_close(log));

    options.flags = SL_OPEN_READ_ONLY;
    log = open_log(options);
    kit_check_equal(log, &model);
    CHECK_OK(sl_log_close(log));
    options.flags = 0;
    log = open_log(options);
    kit_check_equal(log, &model);
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK_EQ(stats.recovered_batches, 0); /* closed in order: nothing to walk */
    CHECK_EQ(stats.durable_offset, span);
    CHECK_OK(sl_log_close(log));
    kit_free(&model);
}

/* After close a segment is byte for byte its batches, and nothing else lies about. */
static void test_files(void) {
    fresh("files-7");
    kit_model model;
    kit_begin(&model, 0);
    sl_log *log = open_log(kit_options(SL_OPEN_CREATE, 4096));
    while (sl_log_segment_count(log) < 4) CHECK_RESULT(kit_append_some(log, &model, 5));
    int64_t segments = sl_log_segment_count(log);
    CHECK_OK(sl_log_close(log));
    int64_t base = 0;
    for (int64_t i = 0; i < segments; i++) {
        kit_file file = kit_read(directory, kit_segment(name, base, ".log"));
        REQUIRE(file.bytes > 0);
        int64_t at = 0;
        while (at < file.bytes) {
            sl_batch_header header;
            CHECK_OK(sl_batch_check(file.data + at, (size_t)(file.bytes - at), SL_CHECK_RECORDS,
                                    &header));
            CHECK_EQ(header.base_offset, base);
            base = header.last_offset + 1;
            at += header.batch_bytes;
        }
        CHECK_EQ(at, file.bytes);
        free(file.data);
    }
    CHECK_EQ(base, model.end_offset);
    /* Kafka's own form: version, count, topic and partition of the directory's name, offset. */
    char text[128];
    int length = snprintf(text, sizeof text, "0\n1\nfiles 7 %" PRId64 "\n", model.end_offset);
    kit_file file = kit_read(directory, "recovery-point-offset-checkpoint");
    CHECK(file.bytes == length && memcmp(file.data, text, (size_t)length) == 0);
    free(file.data);
    CHECK(!kit_exists(directory, "log-start-offset-checkpoint"));
    CHECK(!kit_exists(directory, ".truncation"));

    log = open_log(kit_options(0, 4096));
    CHECK_OK(sl_log_truncate_prefix(log, 3));
    CHECK_OK(sl_log_close(log));
    file = kit_read(directory, "log-start-offset-checkpoint");
    CHECK(file.bytes == 14 && memcmp(file.data, "0\n1\nfiles 7 3\n", 14) == 0);
    free(file.data);
    kit_free(&model);
}

/* ---- refusals ---- */

static sl_records one_record(const uint8_t *value, int32_t bytes) {
    return (sl_records){.count = 1,
                        .values = value,
                        .uniform_value_bytes = bytes,
                        .timestamp_ms = -1,
                        .codec_level = INT32_MIN,
                        .leader_epoch = -1,
                        .producer_epoch = -1,
                        .base_sequence = -1,
                        .producer_id = -1};
}

static void test_refusals(void) {
    fresh("refusals");
    static uint8_t big[10000];
    sl_options options = kit_options(SL_OPEN_CREATE, 8192);
    sl_log *log = open_log(options);
    CHECK_EQ(sl_log_append_value(log, big, 0), 0);
    CHECK_EQ(sl_log_append_value(log, big, 7000), 1);
    CHECK_FAILS(sl_log_append_value(log, big, 9000), SL_E_TOO_LARGE);
    CHECK_FAILS(sl_log_append_value(log, big, (size_t)1 << 31), SL_E_TOO_LARGE);
    sl_records r = one_record(big, 1);
    r.count = 0;
    CHECK_FAILS(sl_log_append(log, &r), SL_E_INVALID);
    r.count = -1;
    CHECK_FAILS(sl_log_append(log, &r), SL_E_INVALID);
    r = one_record(NULL, 1);
    CHECK_FAILS(sl_log_append(log, &r), SL_E_INVALID);
    r = one_record(big, 1);
    r.codec = SL_CODEC_GZIP;
    CHECK_FAILS(sl_log_append(log, &r), SL_E_CODEC);
    CHECK_EQ(r.out_appended_count, 0);
    CHECK_EQ(sl_log_end_offset(log), 2);

    /* Many records, one of which can never fit: what came before in the same segment is undone. */
    int32_t lengths[40];
    static uint8_t values[40 * 300];
    for (int i = 0; i < 40; i++) lengths[i] = 200;
    lengths[39] = 8200 - 39;
    static uint8_t enough[40 * 300 + 10000];
    r = one_record(enough, 0);
    r.count = 40;
    r.value_bytes = lengths;
    int64_t end = sl_log_end_offset(log);
    CHECK_FAILS(sl_log_append(log, &r), SL_E_TOO_LARGE);
    CHECK_EQ(sl_log_end_offset(log), end + r.out_appended_count);
    CHECK(r.out_appended_count < 40);
    CHECK_EQ(sl_log_append_value(log, values, 10), end + r.out_appended_count);
    end = sl_log_end_offset(log);

    /* One batch means one: it is refused whole if it does not fit a segment. */
    r = one_record(enough, 200);
    r.count = 45;
    r.one_batch = 1;
    CHECK_FAILS(sl_log_append(log, &r), SL_E_TOO_LARGE);
    CHECK_EQ(sl_log_end_offset(log), end);
    r.count = 30;
    CHECK_EQ(sl_log_append(log, &r), end);
    CHECK_EQ(r.out_appended_count, 30);
    sl_columns none = {.capacity = 0};
    sl_cursor *cursor;
    CHECK_FAILS(sl_cursor_open(log, -1, 0, &cursor), SL_E_OUT_OF_RANGE);
    CHECK(cursor == NULL);
    CHECK_FAILS(sl_cursor_open(log, end + 31, 0, &cursor), SL_E_OUT_OF_RANGE);
    CHECK_OK(sl_cursor_open(log, 0, 0, &cursor));
    CHECK_FAILS(sl_cursor_next(cursor, &none), SL_E_INVALID);
    CHECK_FAILS(sl_cursor_seek(cursor, end + 31), SL_E_OUT_OF_RANGE);
    CHECK_EQ(sl_cursor_next_offset(cursor), 0); /* a refused seek moves nothing */
    CHECK_EQ(sl_cursor_skipped_bytes(cursor), 0);
    sl_cursor_close(cursor);
    sl_cursor_close(NULL);
    CHECK_FAILS(sl_log_wait_durable(log, end + 31, 0), SL_E_OUT_OF_RANGE);
    sl_batch_view view;
    CHECK_FAILS(sl_log_read_range(log, -1, INT64_MAX, 100, &view), SL_E_OUT_OF_RANGE);
    CHECK_FAILS(sl_log_read_range(log, end + 31, INT64_MAX, 100, &view), SL_E_OUT_OF_RANGE);
    CHECK_EQ(sl_log_read_range(log, end + 30, INT64_MAX, 100, &view), 0);
    CHECK_EQ(sl_log_read_range(log, 0, 0, 100, &view), 0);
    kit_check_verified(log);
    sl_problem problem;
    int64_t batches;
    int64_t records;
    CHECK_FAILS(sl_log_verify_segment(log, 99, &problem, 1, &batches, &records), SL_E_NOT_FOUND);
    CHECK_OK(sl_log_close(log));
    CHECK_FAILS(sl_log_append_value(NULL, big, 1), SL_E_CLOSED);
    CHECK_FAILS(sl_log_flush(NULL), SL_E_CLOSED);
    CHECK_FAILS(sl_log_segment_count(NULL), SL_E_CLOSED);
}

/* ---- complete batches, given by producers and leaders ---- */

static size_t make_batch(uint8_t *out, int64_t base_offset, int32_t count, int64_t timestamp_ms) {
    static const uint8_t letters[64] = "abcdefghijklmnopqrstuvwxyz";
    sl_records r = one_record(letters, 1);
    r.count = count;
    r.timestamp_ms = timestamp_ms;
    r.producer_id = 5;
    r.producer_epoch = 1;
    r.base_sequence = 10;
    r.leader_epoch = 3;
    int64_t n = sl_batch_encode(&r, base_offset, out, 4096);
    REQUIRE(n > 0);
    return (size_t)n;
}

static void test_batches(void) {
    fresh("batches");
    sl_log *log = open_log(kit_options(SL_OPEN_CREATE, 4096));
    uint8_t block[8192];
    size_t first = make_batch(block, 777, 3, 1000);
    size_t second = make_batch(block + first, 5, 2, 2000);
    size_t both = first + second;
    CHECK_EQ(sl_log_append_batches(log, block, both, 8, SL_CHECK_RECORDS), 0);
    CHECK_EQ(sl_log_end_offset(log), 5);
    CHECK_EQ(sl_log_append_batches(log, block, both, -1, SL_CHECK_HEADER), 5);
    sl_batch_view view;
    CHECK_EQ(sl_log_read_range(log, 0, INT64_MAX, 1, &view), first);
    CHECK_EQ(view.header.leader_epoch, 8);
    CHECK(memcmp(view.data + 16, block + 16, first - 16) == 0); /* as given, byte for byte */
    sl_pin_release(view.pin);
    CHECK_EQ(sl_log_read_range(log, 9, INT64_MAX, 1, &view), second);
    CHECK_EQ(view.header.leader_epoch, 3);
    CHECK_EQ(view.header.base_offset, 8);
    sl_pin_release(view.pin);

    /* A block is refused whole. */
    block[both - 1] ^= 1;
    CHECK_FAILS(sl_log_append_batches(log, block, both, -1, SL_CHECK_CRC), SL_E_CORRUPT);
    CHECK_EQ(sl_last_error()->position, first);
    CHECK_EQ(sl_log_end_offset(log), 10);
    block[both - 1] ^= 1;
    CHECK_FAILS(sl_log_append_batches(log, block, both - 1, -1, SL_CHECK_CRC), SL_E_CORRUPT);
    CHECK_FAILS(sl_log_append_batches(log, block, 0, -1, SL_CHECK_CRC), SL_E_INVALID);
    CHECK_FAILS(sl_log_append_batches(log, NULL, 10, -1, SL_CHECK_CRC), SL_E_INVALID);
    CHECK_FAILS(sl_log_append_batches(log, block, both, -1, 3), SL_E_INVALID);
    CHECK_FAILS(sl_log_append_batches(log, block, both, -1, -1), SL_E_INVALID);
    block[SL_AT_MAGIC] = 1;
    CHECK_FAILS(sl_log_append_batches(log, block, both, -1, SL_CHECK_CRC), SL_E_UNSUPPORTED);
    block[SL_AT_MAGIC] = 2;
    /* A producer's batch has no gaps: count and last offset delta agree, and it is not empty. */
    sl_put_u32(block + SL_AT_LAST_OFFSET_DELTA, 7);
    CHECK_FAILS(sl_log_append_batches(log, block, both, -1, SL_CHECK_HEADER), SL_E_CORRUPT);
    CHECK_EQ(sl_log_end_offset(log), 10);

    /* From a leader: offsets are kept, and must go on where this log ends. */
    size_t bytes = make_batch(block, 10, 4, 3000);
    CHECK_EQ(sl_log_append_replicated(log, block, bytes), 10);
    CHECK_FAILS(sl_log_append_replicated(log, block, bytes), SL_E_CORRUPT);
    bytes = make_batch(block, 15, 4, 3000);
    CHECK_FAILS(sl_log_append_replicated(log, block, bytes), SL_E_CORRUPT);
    CHECK_EQ(sl_log_end_offset(log), 14);
    kit_check_verified(log);
    CHECK_OK(sl_log_close(log));
}

/* A follower's log may have gaps, where the leader's was compacted. */
static void test_gaps(void) {
    fresh("gaps");
    sl_options options = kit_options(SL_OPEN_CREATE | SL_OPEN_NO_CHECKPOINTS, 4096);
    options.initial_offset = 100;
    sl_log *log = open_log(options);
    uint8_t block[4096];
    size_t bytes = make_batch(block, 150, 3, 1000);
    CHECK_EQ(sl_log_append_replicated(log, block, bytes), 150);
    bytes = make_batch(block, 200, 2, 2000);
    CHECK_EQ(sl_log_append_replicated(log, block, bytes), 200);
    kit_rows rows;
    kit_rows_begin(&rows, 10);
    CHECK_EQ(sl_log_get(log, 100, &rows.columns), 1); /* the next one there is */
    CHECK_EQ(rows.offsets[0], 150);
    sl_pin_release(rows.columns.pin);
    CHECK_EQ(sl_log_get(log, 153, &rows.columns), 1);
    CHECK_EQ(rows.offsets[0], 200);
    sl_pin_release(rows.columns.pin);
    CHECK_EQ(sl_log_offset_for_timestamp(log, 1001, NULL), 200);
    int64_t wanted[3] = {150, 153, 201};
    int64_t times[3];
    int32_t key_bytes[3];
    int32_t value_bytes[3];
    sl_buffer out = {0};
    CHECK_EQ(sl_log_lookup_many(log, wanted, 3, times, key_bytes, value_bytes, &out), 2);
    CHECK(value_bytes[0] == 1 && value_bytes[1] == -2 && value_bytes[2] == 1);
    sl_buffer_free(&out);
    sl_batch_view view;
    CHECK(sl_log_read_range(log, 160, INT64_MAX, 1000, &view) > 0);
    CHECK_EQ(view.header.base_offset, 200);
    sl_pin_release(view.pin);

    sl_problem problems[8];
    int64_t batches;
    int64_t records;
    int64_t n = sl_log_verify_segment(log, 0, problems, 8, &batches, &records);
    CHECK_EQ(n,
             2); /* told apart from damage: whoever keeps this log knows whether they are honest */
    for (int64_t i = 0; i < n && i < 8; i++) CHECK_EQ(problems[i].kind, SL_PROBLEM_GAP);
    CHECK_EQ(batches, 2);
    CHECK_EQ(records, 5);

    /* Offsets of a segment fit 32 bits beyond its base: the next batch begins a new one. */
    int64_t far = 100 + (int64_t)INT32_MAX - 2;
    bytes = make_batch(block, far, 2, 2500);
    CHECK_EQ(sl_log_append_replicated(log, block, bytes), far);
    CHECK_EQ(sl_log_segment_count(log), 1);
    bytes = make_batch(block, far + 2, 2, 2600);
    CHECK_EQ(sl_log_append_replicated(log, block, bytes), far + 2);
    CHECK_EQ(sl_log_segment_count(log), 2);
    CHECK_EQ(sl_log_get(log, 202, &rows.columns), 1);
    CHECK_EQ(rows.offsets[0], far);
    sl_pin_release(rows.columns.pin);
    int64_t end = sl_log_end_offset(log);
    CHECK_EQ(end, far + 4);
    /* In a sealed segment gaps are what compaction leaves. */
    CHECK_EQ(sl_log_verify_segment(log, 0, problems, 8, &batches, &records), 0);
    CHECK_EQ(batches, 3);
    CHECK_EQ(records, 7);
    CHECK_OK(sl_log_close(log));
    CHECK(!kit_exists(directory, "recovery-point-offset-checkpoint"));

    options.recovery_point = end;
    options.log_start_offset = 151;
    log = open_log(options);
    CHECK_EQ(sl_log_start_offset(log), 151);
    CHECK_EQ(sl_log_end_offset(log), end);
    sl_cursor *cursor;
    CHECK_OK(sl_cursor_open(log, 151, 0, &cursor));
    int64_t seen = 0;
    int64_t k;
    while ((k = sl_cursor_next(cursor, &rows.columns)) > 0) {
        seen += k;
        sl_pin_release(rows.columns.pin);
    }
    CHECK_EQ(k, 0);
    CHECK_EQ(seen, 8);
    sl_cursor_close(cursor);
    CHECK_OK(sl_log_truncate_prefix(log, 160));
    CHECK(!kit_exists(directory, "log-start-offset-checkpoint"));
    CHECK_OK(sl_log_close(log));
    kit_rows_free(&rows);
}

/* Records that only control readers see: markers of transactions. */
static void test_control(void) {
    fresh("control");
    sl_log *log = open_log(kit_options(SL_OPEN_CREATE, 4096));
    uint8_t key[4] = {0, 0, 0, 1};
    int32_t key_bytes = 4;
    sl_records r = one_record(key, 4);
    CHECK_EQ(sl_log_append(log, &r), 0);
    r.keys = key;
    r.key_bytes = &key_bytes;
    r.attributes = SL_ATTRIBUTE_CONTROL | SL_ATTRIBUTE_TRANSACTIONAL;
    CHECK_EQ(sl_log_append(log, &r), 1);
    r.attributes = SL_ATTRIBUTE_LOG_APPEND_TIME;
    r.timestamp_ms = 5000;
    CHECK_EQ(sl_log_append(log, &r), 2);
    kit_rows rows;
    kit_rows_begin(&rows, 10);
    for (int control = 0; control <= 1; control++) {
        sl_cursor *cursor;
        CHECK_OK(sl_cursor_open(log, 0, control != 0 ? SL_READ_CONTROL : 0, &cursor));
        int64_t n = sl_cursor_next(cursor, &rows.columns);
        CHECK_EQ(n, 2 + control);
        CHECK_EQ(rows.offsets[1], control != 0 ? 1 : 2);
        CHECK_EQ(rows.timestamps_ms[n - 1], 5000);
        CHECK_EQ(sl_cursor_next_offset(cursor), 3);
        sl_pin_release(rows.columns.pin);
        /* Standing on the marker one is at its offset; the next record is what is served. */
        CHECK_OK(sl_cursor_seek(cursor, 1));
        CHECK_EQ(sl_cursor_next(cursor, &rows.columns), 1 + control);
        sl_pin_release(rows.columns.pin);
        sl_cursor_close(cursor);
    }
    kit_rows_free(&rows);
    CHECK_OK(sl_log_close(log));
}

/* ---- rolling ---- */

static void test_rolling(void) {
    /* By time: the first record's age at the append decides. */
    fresh("roll-time");
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
    options.segment_ms = 1000;
    sl_log *log = open_log(options);
    sl_records r = one_record((const uint8_t *)"x", 1);
    static const struct {
        int64_t timestamp_ms;
        int64_t segments;
    } steps[] = {{5000, 1}, {6000, 1}, {6001, 2}, {7001, 2}, {4000, 2}, {7002, 3}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        r.timestamp_ms = steps[i].timestamp_ms;
        CHECK_RESULT(sl_log_append(log, &r));
        CHECK_EQ(sl_log_segment_count(log), steps[i].segments);
    }
    CHECK_OK(sl_log_close(log));
    log = open_log(options); /* the age is remembered over a close */
    r.timestamp_ms = 8003;
    CHECK_RESULT(sl_log_append(log, &r));
    CHECK_EQ(sl_log_segment_count(log), 4);
    CHECK_OK(sl_log_close(log));

    /* By a full index: 4096 bytes are 512 offset entries, 341 time entries, one kept for sealing. */
    fresh("roll-index");
    options = kit_options(SL_OPEN_CREATE, 1 << 20);
    options.index_interval_bytes = 0;
    options.segment_index_bytes = 4096;
    log = open_log(options);
    r.timestamp_ms = 1;
    while (sl_log_segment_count(log) == 1) {
        r.timestamp_ms++;
        CHECK_RESULT(sl_log_append(log, &r));
    }
    CHECK_EQ(sl_log_end_offset(log), 342); /* the first batch has no entry, 340 have one */
    sl_segment_info info;
    CHECK_OK(sl_log_segment_info(log, 0, &info));
    CHECK_EQ(info.index_entries, 340);
    CHECK_EQ(info.time_index_entries, 340);
    kit_check_verified(log);
    CHECK_OK(sl_log_close(log));

    /* By hand, and never into an empty segment. */
    fresh("roll-hand");
    log = open_log(kit_options(SL_OPEN_CREATE, 4096));
    CHECK_OK(sl_log_roll(log));
    CHECK_EQ(sl_log_segment_count(log), 1);
    CHECK_EQ(sl_log_append_value(log, (const uint8_t *)"x", 1), 0);
    CHECK_OK(sl_log_roll(log));
    CHECK_OK(sl_log_roll(log));
    CHECK_EQ(sl_log_segment_count(log), 2);
    sl_stats stats;
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK_EQ(stats.roll_count, 1);
    CHECK_EQ(sl_log_append_value(log, (const uint8_t *)"y", 1), 1);
    CHECK_OK(sl_log_close(log));
    log = open_log(kit_options(0, 4096));
    CHECK_EQ(sl_log_segment_count(log), 2);
    CHECK_EQ(sl_log_end_offset(log), 2);
    CHECK_OK(sl_log_close(log));
}

/* A log written with large segments goes on with small ones, and the other way. */
static void test_other_sizes(void) {
    fresh("sizes");
    kit_model model;
    kit_begin(&model, 0);
    static const int64_t sizes[] = {65536, 4096, 1 << 20, 8192, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        sl_options options = kit_options(SL_OPEN_CREATE, sizes[i]);
        options.index_interval_bytes = i % 2 == 0 ? 128 : 4096;
        sl_log *log = open_log(options);
        kit_check_equal(log, &model);
        for (int k = 0; k < 40; k++)
            CHECK_RESULT(kit_append_some(log, &model, 1 + check_below(20)));
        kit_check_equal(log, &model);
        if (i % 2 == 0) {
            CHECK_OK(sl_log_close(log));
        } else {
            sl_log_abandon(log);
        }
    }
    kit_free(&model);
}

/* ---- what readers keep ---- */

static void test_pins(void) {
    fresh("pins");
    kit_model model;
    kit_begin(&model, 0);
    sl_log *log = open_log(kit_options(SL_OPEN_CREATE, 4096));
    while (sl_log_segment_count(log) < 3) CHECK_RESULT(kit_append_some(log, &model, 9));
    kit_rows rows;
    kit_rows_begin(&rows, 4);
    CHECK_EQ(sl_log_get(log, 1, &rows.columns), 1);
    sl_stats stats;
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK_EQ(stats.pinned_bytes, rows.columns.base_bytes);
    sl_pin *pin = rows.columns.pin;
    sl_pin_retain(pin);
    sl_pin_release(pin);
    CHECK_OK(sl_log_truncate_prefix(log, model.end_offset));
    CHECK(kit_row_equals(&model, &rows.columns, 0)); /* the file is gone, its bytes are not */
    CHECK_OK(sl_log_close(log));
    CHECK(kit_row_equals(&model, &rows.columns, 0));
    sl_pin_release(pin);
    sl_pin_release(NULL);
    sl_pin_retain(NULL);
    kit_rows_free(&rows);
    kit_free(&model);
}

/* A cursor at the end goes on when there is more, over rolls too. */
static void test_following(void) {
    fresh("following");
    kit_model model;
    kit_begin(&model, 0);
    sl_log *log = open_log(kit_options(SL_OPEN_CREATE, 4096));
    sl_cursor *cursor;
    CHECK_OK(sl_cursor_open(log, 0, 0, &cursor));
    kit_rows rows;
    kit_rows_begin(&rows, 3);
    int64_t offset = 0;
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(sl_cursor_next(cursor, &rows.columns), 0);
        CHECK_RESULT(kit_append_some(log, &model, 1 + check_below(12)));
        int64_t n;
        while ((n = sl_cursor_next(cursor, &rows.columns)) > 0) {
            for (int64_t k = 0; k < n; k++) {
                CHECK_EQ(rows.offsets[k], offset++);
                CHECK(kit_row_equals(&model, &rows.columns, k));
            }
            sl_pin_release(rows.columns.pin);
        }
        CHECK_EQ(n, 0);
        CHECK_EQ(offset, model.end_offset);
    }
    for (int i = 0; i < 200; i++) {
        int64_t to = check_below(model.end_offset + 1);
        CHECK_OK(sl_cursor_seek(cursor, to));
        int64_t n = sl_cursor_next(cursor, &rows.columns);
        CHECK((n > 0) == (to < model.end_offset));
        for (int64_t k = 0; k < n; k++) CHECK(kit_row_equals(&model, &rows.columns, k));
        if (n > 0) CHECK_EQ(rows.offsets[0], to);
        if (n > 0) sl_pin_release(rows.columns.pin);
    }
    sl_cursor_close(cursor);
    kit_rows_free(&rows);
    CHECK_OK(sl_log_close(log));
    kit_free(&model);
}

static void test_small_files(void) {
    fresh("replace");
    REQUIRE(mkdir(directory, 0755) == 0);
    char path[1100];
    snprintf(path, sizeof path, "%s/file", directory);
    CHECK_OK(sl_file_replace(path, (const uint8_t *)"one", 3));
    CHECK_OK(sl_file_replace(path, NULL, 0));
    CHECK_EQ(kit_bytes(directory, "file"), 0);
    CHECK_OK(sl_file_replace(path, (const uint8_t *)"three", 5));
    CHECK_EQ(kit_bytes(directory, "file"), 5);
    CHECK(!kit_exists(directory, "file.tmp"));
    CHECK_FAILS(sl_file_replace(NULL, NULL, 0), SL_E_INVALID);
    CHECK_FAILS(sl_file_replace(path, NULL, 1), SL_E_INVALID);
    CHECK_FAILS(sl_file_replace("", NULL, 0), SL_E_INVALID);
    snprintf(path, sizeof path, "%s/", directory);
    CHECK_FAILS(sl_file_replace(path, NULL, 0), SL_E_INVALID);
    snprintf(path, sizeof path, "%s/none/file", directory);
    CHECK_FAILS(sl_file_replace(path, NULL, 0), SL_E_NOT_FOUND);
    size_t length = (size_t)snprintf(path, sizeof path, "%s/", directory);
    memset(path + length, 'n', 254);
    path[length + 254] = 0;
    CHECK_FAILS(sl_file_replace(path, NULL, 0), SL_E_INVALID);
}

int main(void) {
    check_begin("log");
    test_open();
    test_options();
    test_read_back("small", 4096, 400, 150);
    test_read_back("middle", 16384, 2000, 150);
    test_read_back("whole", 1 << 20, 65536, 100);
    test_files();
    test_refusals();
    test_batches();
    test_gaps();
    test_control();
    test_rolling();
    test_other_sizes();
    test_pins();
    test_following();
    test_small_files();
    return check_end();
}
