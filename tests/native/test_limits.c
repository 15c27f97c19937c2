/* test_limits.c -- where a log ends what it was doing: full segments, cuts, bounds, refusals.
 *
 *   splitting   by batch_bytes, down to a record a batch
 *   rolling     to the byte, by time on either side of segment_ms, by either index being full
 *   cutting     at every offset of a small log, from both ends, in the middle of batches, and what
 *               the next open makes of it
 *   checkpoints their very lines, for directories of any name
 *   codecs      a run-length code that the engine knows nothing of, and codecs that misbehave
 *   ranges      how much of a log a fetch is given, and what a reader is told at its end
 *   arguments   every one that a call can refuse
 *   zeros       written to the disk ahead of a tail that is synced often, and never otherwise
 *
 * After each refusal the log still equals the model (logkit.h): a failing call leaves nothing behind.
 *
 * Left to others: opening and ordinary reading (test_log.c), indexes (test_index.c). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "logkit.h"
#include "os.h"

static char directory[1024];
static char scratch[1024];

static sl_log *open_log(const char *path, const sl_options *options) {
    sl_log *log;
    REQUIRE(sl_log_open(path, options, &log) == SL_OK);
    return log;
}

static sl_log *open_new(const sl_options *options) {
    check_remove_tree(directory);
    return open_log(directory, options);
}

static sl_log *reopen(sl_log *log, const char *path, sl_options *options) {
    CHECK_OK(sl_log_close(log));
    options->flags &= ~SL_OPEN_CREATE;
    return open_log(path, options);
}

static sl_records blank(int64_t count) {
    return (sl_records){.count = count,
                        .timestamp_ms = -1,
                        .codec_level = INT32_MIN,
                        .leader_epoch = -1,
                        .producer_epoch = -1,
                        .base_sequence = -1,
                        .producer_id = -1};
}

/* A batch of `count` records that share `value` among them. */
static size_t encode(int64_t base_offset, int64_t count, const char *value, int64_t timestamp_ms,
                     uint8_t *out) {
    sl_records records = blank(count);
    records.values = (const uint8_t *)value;
    records.uniform_value_bytes = (int32_t)(strlen(value) / (size_t)count);
    records.timestamp_ms = timestamp_ms;
    records.leader_epoch = 3;
    int64_t bytes = sl_batch_encode(&records, base_offset, out, 512);
    REQUIRE(bytes > 0);
    return (size_t)bytes;
}

/* ---- splitting ---- */

/* How many batches there are from an offset on; their bytes into `bytes`. */
static int list_batches(sl_log *log, int64_t from, int32_t *bytes, int capacity) {
    sl_cursor *cursor;
    CHECK_OK(sl_cursor_open(log, from, 0, &cursor));
    int count = 0;
    sl_batch_view view;
    int64_t n;
    while ((n = sl_cursor_next_batch(cursor, &view)) == 1) {
        if (count < capacity) bytes[count] = view.header.batch_bytes;
        count++;
        sl_pin_release(view.pin);
    }
    CHECK_EQ(n, 0);
    sl_cursor_close(cursor);
    return count;
}

static void test_split(void) {
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
    sl_log *log = open_new(&options);
    uint8_t values[10000];
    for (size_t i = 0; i < sizeof values; i++) values[i] = (uint8_t)i;
    sl_records records = blank(1000);
    records.values = values;
    records.uniform_value_bytes = 10;
    CHECK_EQ(sl_log_append(log, &records), 0);
    CHECK_EQ(records.out_appended_count, 1000);
    int32_t bytes[2000];
    int count = list_batches(log, 0, bytes, 2000);
    CHECK(count > 30 && count < 100);
    for (int i = 0; i < count; i++) {
        CHECK(bytes[i] < SL_BATCH_OVERHEAD + 400 + 20);
        CHECK(i == count - 1 || bytes[i] >= SL_BATCH_OVERHEAD + 350);
    }
    records.one_batch = 1;
    CHECK_EQ(sl_log_append(log, &records), 1000);
    CHECK_EQ(list_batches(log, 1000, bytes, 2000), 1);
    /* A limit below any record: one record a batch. */
    options.batch_bytes = 1;
    log = reopen(log, directory, &options);
    records.one_batch = 0;
    CHECK_EQ(sl_log_append(log, &records), 2000);
    CHECK_EQ(list_batches(log, 2000, bytes, 2000), 1000);
    CHECK_EQ(sl_log_append_value(log, values, 7), 3000);
    CHECK_EQ(sl_log_append_value(log, values, 0), 3001);
    kit_rows rows;
    kit_rows_begin(&rows, 4000);
    sl_cursor *cursor;
    CHECK_OK(sl_cursor_open(log, 0, 0, &cursor));
    CHECK_EQ(sl_cursor_next(cursor, &rows.columns), 3002);
    for (int64_t i = 0; i < 3000; i++)
        CHECK(memcmp(rows.columns.base + rows.columns.value_start[i], values + i % 1000 * 10, 10) ==
              0);
    CHECK_EQ(rows.columns.value_end[3000] - rows.columns.value_start[3000], 7);
    CHECK_EQ(rows.columns.value_end[3001] - rows.columns.value_start[3001], 0);
    sl_pin_release(rows.columns.pin);
    kit_rows_free(&rows);
    sl_cursor_close(cursor);
    CHECK_OK(sl_log_close(log));
}

/* ---- rolling ---- */

static void test_roll_by_size(void) {
    sl_options options = kit_options(SL_OPEN_CREATE, 4096);
    sl_log *log = open_new(&options);
    CHECK_OK(sl_log_roll(log)); /* nothing to roll */
    CHECK_EQ(sl_log_segment_count(log), 1);
    uint8_t block[512];
    size_t bytes =
        encode(0, 1, "a value of some length, so that not everything is header", 5, block);
    int64_t each = 4096 / (int64_t)bytes;
    for (int64_t i = 0; i < 3 * each; i++) {
        CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), i);
        CHECK_EQ(sl_log_segment_count(log), i / each + 1); /* full to the last batch that fits */
    }
    CHECK_OK(sl_log_roll(log));
    CHECK_OK(sl_log_roll(log));
    CHECK_EQ(sl_log_segment_count(log), 4);
    for (int64_t s = 0; s < 4; s++) {
        sl_segment_info info;
        CHECK_OK(sl_log_segment_info(log, s, &info));
        CHECK_EQ(info.base_offset, s * each);
        CHECK_EQ(info.end_offset, s < 3 ? (s + 1) * each : 3 * each);
        CHECK_EQ(info.log_bytes, s < 3 ? each * (int64_t)bytes : 0);
        CHECK_EQ(info.max_timestamp_ms, s < 3 ? 5 : -1);
    }
    sl_stats stats;
    CHECK_OK(sl_log_stats(log, &stats));
    CHECK_EQ(stats.segment_count, 4);
    CHECK_EQ(stats.roll_count, 3);
    CHECK_EQ(stats.append_count, 3 * each);
    CHECK_EQ(stats.log_bytes, 3 * each * (int64_t)bytes);
    CHECK_EQ(stats.log_end_offset, 3 * each);
    CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), 3 * each);
    CHECK_OK(sl_log_close(log));
    for (int64_t s = 0; s < 4; s++) {
        char name[64];
        CHECK_EQ(kit_bytes(directory, kit_segment(name, s * each, ".log")),
                 s < 3 ? each * (int64_t)bytes : (int64_t)bytes);
        CHECK(kit_bytes(directory, kit_segment(name, s * each, ".index")) % 8 == 0);
        CHECK_EQ(kit_bytes(directory, kit_segment(name, s * each, ".timeindex")), 12);
    }
    /* What fits no segment is refused, and nothing of it stays. */
    log = open_log(directory, &options);
    uint8_t large[8192] = {0};
    CHECK_FAILS(sl_log_append_value(log, large, 4096), SL_E_TOO_LARGE);
    sl_records records = blank(100);
    records.values = large;
    records.uniform_value_bytes = 80;
    records.one_batch = 1;
    CHECK_FAILS(sl_log_append(log, &records), SL_E_TOO_LARGE);
    CHECK_EQ(records.out_appended_count, 0);
    CHECK_EQ(sl_log_end_offset(log), 3 * each + 1);
    records.one_batch = 0; /* the same, split, fits */
    CHECK_EQ(sl_log_append(log, &records), 3 * each + 1);
    CHECK_OK(sl_log_close(log));
}

static void test_roll_by_time(void) {
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
    options.segment_ms = 1000;
    sl_log *log = open_new(&options);
    uint8_t block[512];
    static const int64_t times[] = {5000, 6000, 5900, 6001, 7001, 7002, 100, 9000, 9000};
    static const int64_t segments[] = {1, 1, 1, 2, 2, 3, 3, 4, 4};
    for (int i = 0; i < 9; i++) {
        size_t bytes = encode(0, 1, "v", times[i], block);
        CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), i);
        CHECK_EQ(sl_log_segment_count(log), segments[i]);
        if (i == 1 || i == 5) log = reopen(log, directory, &options); /* it remembers the first */
    }
    /* A record's own time counts, not the clock's, however the record was given it. */
    for (int i = 0; i < 6; i++) {
        int64_t ms = 9100 + i;
        sl_records records = blank(1);
        records.values = block;
        records.uniform_value_bytes = 1;
        if (i % 2 == 0) records.timestamps_ms = &ms;
        if (i % 2 == 1) records.timestamp_ms = ms;
        CHECK_EQ(sl_log_append(log, &records), 9 + i);
        CHECK_EQ(sl_log_segment_count(log), 4);
    }
    CHECK_EQ(sl_log_append_value(log, block, 1), 15);
    CHECK_EQ(sl_log_segment_count(log), 5);
    CHECK_OK(sl_log_close(log));
}

static void test_roll_by_index(void) {
    /* 4096 bytes are 512 offset entries, or 341 time entries of which one is kept for the seal. */
    for (int rising = 0; rising < 2; rising++) {
        sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
        options.index_interval_bytes = 0;
        options.segment_index_bytes = 4096;
        sl_log *log = open_new(&options);
        int64_t first_full = rising ? 340 + 1 : 512 + 1; /* the first batch has no entry */
        uint8_t block[512];
        for (int64_t i = 0; i <= first_full; i++) {
            size_t bytes = encode(0, 1, "v", rising ? 100 + i : 100, block);
            CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), i);
            CHECK_EQ(sl_log_segment_count(log), i < first_full ? 1 : 2);
        }
        sl_segment_info info;
        CHECK_OK(sl_log_segment_info(log, 0, &info));
        CHECK_EQ(info.index_entries, first_full - 1);
        /* Sealed, the time index of rising times has the last batch's already. */
        CHECK_EQ(info.time_index_entries, rising ? first_full - 1 : 1);
        CHECK_EQ(info.max_timestamp_ms, rising ? 100 + first_full - 1 : 100);
        CHECK_OK(sl_log_close(log));
    }
}

/* ---- cutting ---- */

static void make_small(kit_model *model, int32_t codec) {
    sl_options options = kit_options(SL_OPEN_CREATE, 4096);
    sl_log *log = open_new(&options);
    kit_begin(model, 0);
    for (int i = 0; i < 9; i++) {
        kit_shape shape = {
            .count = 1 + i % 6, .value_bytes_max = 100, .codec = codec, .one_batch = i % 2};
        CHECK_RESULT(kit_append(log, model, &shape));
        if (i == 4) CHECK_OK(sl_log_roll(log));
    }
    CHECK_OK(sl_log_close(log));
}

static void test_cut(int32_t codec) {
    kit_model small;
    make_small(&small, codec);
    static kit_model model;
    sl_options options = kit_options(0, 4096);
    for (int suffix = 0; suffix < 2; suffix++) {
        for (int64_t offset = 0; offset <= small.end_offset; offset++) {
            kit_copy(&model, &small);
            kit_copy_directory(directory, scratch);
            sl_log *log = open_log(scratch, &options);
            sl_cursor *cursor; /* opened before the cut, it must not read what is gone */
            CHECK_OK(sl_cursor_open(log, model.end_offset, 0, &cursor));
            if (suffix) {
                CHECK_OK(sl_log_truncate_suffix(log, offset));
                kit_cut(&model, offset);
            } else {
                CHECK_OK(sl_log_truncate_prefix(log, offset));
                model.start_offset = offset;
                CHECK_OK(sl_log_truncate_prefix(log, 0)); /* never back */
                CHECK_FAILS(sl_log_truncate_suffix(log, offset - 1), SL_E_OUT_OF_RANGE);
            }
            kit_check_equal(log, &model);
            kit_rows rows;
            kit_rows_begin(&rows, 1);
            if (suffix && offset < small.end_offset)
                CHECK_FAILS(sl_cursor_next(cursor, &rows.columns), SL_E_OUT_OF_RANGE);
            kit_rows_free(&rows);
            sl_cursor_close(cursor);
            log = reopen(log, scratch, &options);
            kit_check_equal(log, &model);
            CHECK_RESULT(kit_append_some(log, &model, 3));
            kit_check_equal(log, &model);
            CHECK_FAILS(sl_log_truncate_suffix(log, model.end_offset + 1), SL_E_OUT_OF_RANGE);
            CHECK_FAILS(sl_log_truncate_prefix(log, model.end_offset + 1), SL_E_OUT_OF_RANGE);
            CHECK_FAILS(sl_log_truncate_prefix(log, -1), SL_E_OUT_OF_RANGE);
            log = reopen(log, scratch, &options);
            kit_check_equal(log, &model);
            CHECK_OK(sl_log_close(log));
            CHECK(!kit_exists(scratch, ".truncation"));
        }
    }
    kit_free(&small);
}

/* ---- checkpoints ---- */

static void check_line(const char *path, const char *file, const char *want) {
    kit_file got = kit_read(path, file);
    CHECK_NOTE(got.bytes == (int64_t)strlen(want) && memcmp(got.data, want, (size_t)got.bytes) == 0,
               "%s says \"%.*s\", not \"%s\"", file, (int)(got.bytes < 0 ? 0 : got.bytes),
               got.bytes < 0 ? "" : (const char *)got.data, want);
    free(got.data);
}

static void test_checkpoints(void) {
    static const char *const names[] = {"events", "events-3", "two words-12", "a-b", "-5"};
    static const char *const lines[] = {"events 0", "events 3", "two_words 12", "a-b 0", "-5 0"};
    for (int i = 0; i < 5; i++) {
        char path[1024];
        char want[128];
        check_path(path, names[i]);
        sl_options options = kit_options(SL_OPEN_CREATE, 4096);
        sl_log *log = open_log(path, &options);
        for (int k = 0; k < 7; k++) CHECK_EQ(sl_log_append_value(log, (const uint8_t *)"v", 1), k);
        CHECK_OK(sl_log_truncate_prefix(log, 2));
        CHECK_OK(sl_log_close(log));
        snprintf(want, sizeof want, "0\n1\n%s 7\n", lines[i]);
        check_line(path, "recovery-point-offset-checkpoint", want);
        snprintf(want, sizeof want, "0\n1\n%s 2\n", lines[i]);
        check_line(path, "log-start-offset-checkpoint", want);
        /* The same after a cut below it, and what the next open takes from it. */
        log = open_log(path, &options);
        CHECK_EQ(sl_log_durable_offset(log), 7);
        sl_stats stats;
        CHECK_OK(sl_log_stats(log, &stats));
        CHECK_EQ(stats.recovered_batches, 0);
        CHECK_OK(sl_log_truncate_suffix(log, 5));
        snprintf(want, sizeof want, "0\n1\n%s 5\n", lines[i]);
        check_line(path, "recovery-point-offset-checkpoint", want);
        CHECK_EQ(sl_log_durable_offset(log), 5);
        CHECK_OK(sl_log_close(log));
        check_remove_tree(path);
    }
}

/* ---- codecs ---- */

static int rle_compress(int32_t codec, int32_t level, const uint8_t *in, size_t in_bytes,
                        sl_buffer *out) {
    (void)codec;
    (void)level;
    if (sl_buffer_reserve(out, 2 * in_bytes) != SL_OK) return 1;
    out->bytes = 0;
    for (size_t i = 0; i < in_bytes;) {
        size_t run = 1;
        while (run < 255 && i + run < in_bytes && in[i + run] == in[i]) run++;
        out->data[out->bytes++] = (uint8_t)run;
        out->data[out->bytes++] = in[i];
        i += run;
    }
    return 0;
}

static int rle_decompress(int32_t codec, const uint8_t *in, size_t in_bytes, size_t limit_bytes,
                          sl_buffer *out) {
    out->bytes = 0;
    for (size_t i = 0; i + 1 < in_bytes; i += 2) {
        /* Under the number of lz4 it does not stop at the limit. */
        if (out->bytes + in[i] > limit_bytes && codec != SL_CODEC_LZ4) return 1;
        if (sl_buffer_reserve(out, 2 * out->bytes + 256) != SL_OK) return 1;
        memset(out->data + out->bytes, in[i + 1], in[i]);
        out->bytes += in[i];
    }
    return in_bytes % 2 == 0 ? 0 : 1;
}

static int failing_compress(int32_t codec, int32_t level, const uint8_t *in, size_t in_bytes,
                            sl_buffer *out) {
    (void)codec;
    (void)level;
    (void)in;
    (void)in_bytes;
    (void)out;
    return 1;
}

static void test_codecs(void) {
    CHECK_FAILS(sl_codec_register(SL_CODEC_NONE, rle_compress, rle_decompress), SL_E_INVALID);
    CHECK_FAILS(sl_codec_register(SL_CODEC_ZSTD + 1, rle_compress, rle_decompress), SL_E_INVALID);
    sl_options options = kit_options(SL_OPEN_CREATE, 1 << 16);
    sl_log *log = open_new(&options);
    kit_model model;
    kit_begin(&model, 0);
    kit_shape shape = {.count = 20, .value_bytes_max = 60, .codec = SL_CODEC_SNAPPY};
    CHECK_FAILS(kit_append(log, &model, &shape), SL_E_CODEC); /* nobody registered it */
    CHECK_OK(sl_codec_register(SL_CODEC_ZSTD, failing_compress, rle_decompress));
    shape.codec = SL_CODEC_ZSTD;
    CHECK_FAILS(kit_append(log, &model, &shape), SL_E_CODEC);
    CHECK_EQ(sl_log_end_offset(log), 0);
    CHECK_OK(sl_codec_register(SL_CODEC_GZIP, rle_compress, rle_decompress));
    CHECK_OK(sl_codec_register(SL_CODEC_LZ4, rle_compress, rle_decompress));
    for (int i = 0; i < 30; i++) {
        shape.codec = i % 3 == 0 ? SL_CODEC_NONE : i % 3 == 1 ? SL_CODEC_GZIP : SL_CODEC_LZ4;
        shape.count = 1 + check_below(30);
        CHECK_RESULT(kit_append(log, &model, &shape));
    }
    kit_check_equal(log, &model);
    for (int64_t capacity = 1; capacity < 40; capacity += 6)
        kit_check_cursor(log, &model, check_below(model.end_offset), capacity);
    log = reopen(log, directory, &options);
    kit_check_equal(log, &model);

    /* 20 000 equal bytes are few on disk: who reads sets the bound. */
    uint8_t value[20000] = {0};
    for (int i = 0; i < 2; i++) {
        sl_records records = blank(1);
        records.values = value;
        records.uniform_value_bytes = sizeof value;
        records.codec = i == 0 ? SL_CODEC_GZIP : SL_CODEC_LZ4;
        CHECK_EQ(sl_log_append(log, &records), model.end_offset + i);
    }
    CHECK_OK(sl_log_close(log));
    options.flags = SL_OPEN_READ_ONLY;
    for (int64_t bound = 19000; bound <= 21000; bound += 2000) {
        options.decompressed_bytes_max = bound;
        log = open_log(directory, &options);
        kit_rows rows;
        kit_rows_begin(&rows, 4);
        for (int i = 0; i < 2; i++) {
            sl_cursor *cursor;
            int64_t offset = model.end_offset + i;
            int64_t ms;
            int32_t lengths[2];
            sl_buffer out = {0};
            CHECK_OK(sl_cursor_open(log, offset, 0, &cursor));
            if (bound < 20000) {
                CHECK_FAILS(sl_cursor_next(cursor, &rows.columns), SL_E_CODEC);
                CHECK(strstr(sl_last_error()->path, ".log") != NULL);
                CHECK_FAILS(sl_cursor_next(cursor, &rows.columns),
                            SL_E_CODEC); /* stays before it */
                CHECK_FAILS(sl_log_get(log, offset, &rows.columns), SL_E_CODEC);
                CHECK_FAILS(sl_log_lookup_many(log, &offset, 1, &ms, lengths, lengths + 1, &out),
                            SL_E_CODEC);
            } else {
                CHECK_EQ(sl_cursor_next(cursor, &rows.columns), 1);
                CHECK_EQ(rows.columns.value_end[0] - rows.columns.value_start[0], 20000);
                sl_pin_release(rows.columns.pin);
                CHECK_EQ(sl_log_lookup_many(log, &offset, 1, &ms, lengths, lengths + 1, &out), 1);
                CHECK_EQ(out.bytes, 20000);
            }
            sl_buffer_free(&out);
            sl_cursor_close(cursor);
        }
        kit_rows_free(&rows);
        CHECK_OK(sl_log_close(log));
    }
    kit_free(&model);
}

/* ---- reading ---- */

static void test_ranges(void) {
    sl_options options = kit_options(SL_OPEN_CREATE, 4096);
    sl_log *log = open_new(&options);
    uint8_t block[512];
    size_t bytes = encode(0, 4, "abcdefghabcdefgh", 5, block);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), i * 4);
    CHECK_OK(sl_log_roll(log));
    CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), 40);
    const int64_t each = (int64_t)bytes;
    sl_batch_view view;
    /* At least one batch; whole ones; from the batch that holds the offset; within a segment. */
    static const int64_t starts[] = {0, 3, 4, 39};
    for (int i = 0; i < 4; i++) {
        int64_t there = 10 - starts[i] / 4;
        for (int64_t max = 0; max <= 11 * each; max += each / 2) {
            int64_t want = max / each < 1 ? 1 : max / each > there ? there : max / each;
            CHECK_EQ(sl_log_read_range(log, starts[i], INT64_MAX, max, &view), want * each);
            CHECK_EQ(view.header.base_offset, starts[i] / 4 * 4);
            CHECK_EQ(view.position, starts[i] / 4 * each);
            CHECK_EQ(view.segment_base_offset, 0);
            sl_pin_release(view.pin);
        }
    }
    /* No batch that reaches end_offset: a reader of committed records must not see beyond. */
    for (int64_t end = 0; end <= 40; end++) {
        CHECK_EQ(sl_log_read_range(log, 0, end, INT64_MAX, &view), end / 4 * each);
        CHECK((view.pin != NULL) == (end >= 4));
        sl_pin_release(view.pin);
    }
    CHECK_EQ(sl_log_read_range(log, 40, -1, 1, &view), each);
    CHECK_EQ(view.segment_base_offset, 40);
    sl_pin_release(view.pin);
    CHECK_EQ(sl_log_read_range(log, 44, INT64_MAX, 1, &view), 0);
    CHECK_FAILS(sl_log_read_range(log, 45, INT64_MAX, 1, &view), SL_E_OUT_OF_RANGE);
    CHECK_FAILS(sl_log_read_range(log, -1, INT64_MAX, 1, &view), SL_E_OUT_OF_RANGE);

    /* A read-only handle sees what the writer does next, whichever way it reads at its end. */
    options.flags = SL_OPEN_READ_ONLY;
    sl_log *reader = open_log(directory, &options);
    sl_cursor *cursor;
    kit_rows rows;
    kit_rows_begin(&rows, 10);
    CHECK_OK(sl_cursor_open(reader, 44, 0, &cursor));
    CHECK_EQ(sl_cursor_next(cursor, &rows.columns), 0);
    CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), 44);
    CHECK_EQ(sl_log_read_range(reader, 44, INT64_MAX, 1, &view), each);
    sl_pin_release(view.pin);
    CHECK_EQ(sl_cursor_next(cursor, &rows.columns), 4);
    sl_pin_release(rows.columns.pin);
    CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), 48);
    CHECK_EQ(sl_log_get(reader, 50, &rows.columns), 1);
    sl_pin_release(rows.columns.pin);
    CHECK_OK(sl_log_roll(log));
    CHECK_EQ(sl_log_append_batches(log, block, bytes, -1, SL_CHECK_CRC), 52);
    CHECK_OK(sl_log_refresh(reader));
    CHECK_EQ(sl_log_end_offset(reader), 56);
    CHECK_EQ(sl_log_segment_count(reader), 3);

    /* A reader writes nothing. */
    sl_records records = blank(1);
    CHECK_FAILS(sl_log_append(reader, &records), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_append_value(reader, block, 1), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_append_batches(reader, block, bytes, -1, 0), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_append_replicated(reader, block, bytes), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_flush(reader), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_wait_durable(reader, 0, 0), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_request_durable(reader, 0, -1), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_roll(reader), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_truncate_prefix(reader, 1), SL_E_READ_ONLY);
    CHECK_FAILS(sl_log_truncate_suffix(reader, 1), SL_E_READ_ONLY);

    /* Cursors: where they may stand, and columns that make no sense. */
    CHECK_OK(sl_cursor_seek(cursor, 7));
    CHECK_EQ(sl_cursor_next_offset(cursor), 7);
    CHECK_FAILS(sl_cursor_seek(cursor, 57), SL_E_OUT_OF_RANGE);
    CHECK_FAILS(sl_cursor_seek(cursor, -1), SL_E_OUT_OF_RANGE);
    CHECK_EQ(sl_cursor_next_offset(cursor), 7); /* it stays where it was */
    sl_columns wrong = rows.columns;
    wrong.capacity = 0;
    CHECK_FAILS(sl_cursor_next(cursor, &wrong), SL_E_INVALID);
    wrong = rows.columns;
    wrong.key_end = NULL;
    CHECK_FAILS(sl_cursor_next(cursor, &wrong), SL_E_INVALID);
    wrong = rows.columns;
    wrong.value_start = NULL;
    CHECK_FAILS(sl_cursor_next(cursor, &wrong), SL_E_INVALID);
    wrong = (sl_columns){.capacity = 3}; /* nothing wanted but the count */
    CHECK_EQ(sl_cursor_next(cursor, &wrong), 3);
    CHECK_EQ(wrong.next_offset, 10);
    sl_pin_release(wrong.pin);
    CHECK_EQ(sl_cursor_next(cursor, &rows.columns), 10);
    CHECK_EQ(rows.offsets[0], 10);
    sl_pin_release(rows.columns.pin);
    sl_cursor_close(cursor);
    sl_cursor_close(NULL);
    CHECK_FAILS(sl_cursor_open(reader, 57, 0, &cursor), SL_E_OUT_OF_RANGE);
    CHECK(cursor == NULL);
    CHECK_FAILS(sl_log_get(reader, 56, &rows.columns), SL_E_OUT_OF_RANGE);
    CHECK_FAILS(sl_log_get(reader, -1, &rows.columns), SL_E_OUT_OF_RANGE);
    kit_rows_free(&rows);

    int64_t ms;
    CHECK_EQ(sl_log_offset_for_timestamp(reader, INT64_MIN, &ms), 0);
    CHECK_EQ(sl_log_offset_for_timestamp(reader, -1, NULL), 0);
    CHECK_EQ(sl_log_offset_for_timestamp(reader, 5, &ms), 0);
    CHECK_EQ(sl_log_offset_for_timestamp(log, INT64_MIN, &ms), 0);
    CHECK_FAILS(sl_log_offset_for_timestamp(reader, 6, &ms), SL_E_NOT_FOUND);
    CHECK_FAILS(sl_log_offset_for_timestamp(reader, INT64_MAX, &ms), SL_E_NOT_FOUND);
    sl_problem problem;
    int64_t counts[2];
    CHECK_FAILS(sl_log_verify_segment(reader, 9, &problem, 1, counts, counts + 1), SL_E_NOT_FOUND);
    CHECK_EQ(sl_log_verify_segment(log, 0, &problem, 1, counts, counts + 1), 0);
    CHECK_EQ(counts[0], 10);
    CHECK_EQ(counts[1], 40);
    CHECK_OK(sl_log_close(reader));
    CHECK_OK(sl_log_close(log));
}

/* What a caller may get wrong with a writer; and a handle that is none. */
static void test_arguments(void) {
    sl_options options = kit_options(SL_OPEN_CREATE, 4096);
    sl_log *log = open_new(&options);
    sl_records records = blank(0);
    CHECK_FAILS(sl_log_append(log, &records), SL_E_INVALID);
    records.count = -1;
    CHECK_FAILS(sl_log_append(log, &records), SL_E_INVALID);
    records.count = 1;
    records.uniform_value_bytes = 5; /* of no values */
    CHECK_FAILS(sl_log_append(log, &records), SL_E_INVALID);
    records.uniform_value_bytes = -1;
    CHECK_FAILS(sl_log_append(log, &records), SL_E_INVALID);
    records = blank(1);
    records.keys = (const uint8_t *)"k";
    CHECK_FAILS(sl_log_append(log, &records), SL_E_INVALID);
    records = blank(1);
    records.headers = (const uint8_t *)"h";
    CHECK_FAILS(sl_log_append(log, &records), SL_E_INVALID);
    records = blank(1);
    records.codec = SL_CODEC_ZSTD + 1;
    CHECK_FAILS(sl_log_append(log, &records), SL_E_CODEC);
    CHECK_EQ(sl_log_end_offset(log), 0);
    CHECK_FAILS(sl_log_wait_durable(log, 1, 0), SL_E_OUT_OF_RANGE);
    CHECK_EQ(sl_log_append_value(log, (const uint8_t *)"v", 1), 0);
    CHECK_OK(sl_log_wait_durable(log, 1, 10000));
    CHECK_EQ(sl_log_durable_offset(log), 1);
    CHECK_EQ(sl_log_append_value(log, (const uint8_t *)"v", 1), 1);
    int event = eventfd(0, EFD_CLOEXEC);
    CHECK_OK(sl_log_request_durable(log, 2, event));
    uint64_t signalled = 0;
    CHECK(read(event, &signalled, sizeof signalled) == sizeof signalled && signalled == 1);
    CHECK_EQ(sl_log_durable_offset(log), 2);
    close(event);
    CHECK_OK(sl_log_close(log));

    records = blank(1);
    sl_stats stats;
    sl_segment_info info;
    sl_columns columns = {.capacity = 1};
    sl_cursor *cursor;
    sl_batch_view view;
    CHECK_FAILS(sl_log_append(NULL, &records), SL_E_CLOSED);
    CHECK_FAILS(sl_log_append_value(NULL, NULL, 0), SL_E_CLOSED);
    CHECK_FAILS(sl_log_flush(NULL), SL_E_CLOSED);
    CHECK_FAILS(sl_log_roll(NULL), SL_E_CLOSED);
    CHECK_FAILS(sl_log_refresh(NULL), SL_E_CLOSED);
    CHECK_FAILS(sl_log_stats(NULL, &stats), SL_E_CLOSED);
    CHECK_FAILS(sl_log_segment_info(NULL, 0, &info), SL_E_CLOSED);
    CHECK_FAILS(sl_log_segment_count(NULL), SL_E_CLOSED);
    CHECK_FAILS(sl_log_get(NULL, 0, &columns), SL_E_CLOSED);
    CHECK_FAILS(sl_log_read_range(NULL, 0, 1, 1, &view), SL_E_CLOSED);
    CHECK_FAILS(sl_log_offset_for_timestamp(NULL, 0, NULL), SL_E_CLOSED);
    CHECK_FAILS(sl_log_truncate_prefix(NULL, 0), SL_E_CLOSED);
    CHECK_FAILS(sl_log_truncate_suffix(NULL, 0), SL_E_CLOSED);
    CHECK_FAILS(sl_cursor_open(NULL, 0, 0, &cursor), SL_E_CLOSED);
}

/* ---- zeros ahead of a tail that is synced often ---- */

static _Atomic int direct_opens;
static _Atomic int direct_writes;
static int direct_error; /* what opening past the page cache answers, or 0 */

static int count_open(int dir_fd, const char *name, int flags, int mode) {
    if ((flags & O_DIRECT) != 0) {
        atomic_fetch_add(&direct_opens, 1);
        if (direct_error != 0) return direct_error;
    }
    return sl_os_real.open(dir_fd, name, flags, mode);
}
static ssize_t count_pwrite(int fd, const void *data, size_t bytes, int64_t position) {
    if ((fcntl(fd, F_GETFL) & O_DIRECT) != 0) atomic_fetch_add(&direct_writes, 1);
    return sl_os_real.pwrite(fd, data, bytes, position);
}

static void test_write_ahead(void) {
    sl_os.open = count_open;
    sl_os.pwrite = count_pwrite;
    static uint8_t value[2000];
    for (int how = 0; how < 3; how++) { /* it works; the file system cannot; nobody syncs often */
        check_remove_tree(directory);
        sl_options options = kit_options(SL_OPEN_CREATE, 1 << 20);
        options.sync = how < 2 ? SL_SYNC_ALWAYS : SL_SYNC_NONE;
        direct_error = how == 1 ? -EINVAL : 0;
        atomic_store(&direct_opens, 0);
        atomic_store(&direct_writes, 0);
        sl_log *log = open_log(directory, &options);
        int64_t count = 0;
        /* Three segments; more only until the preparer, a thread of its own, got its turn. */
        for (; count < 1500 || (how < 2 && atomic_load(&direct_opens) == 0 && count < 50000);
             count++) {
            if (count % 16 == 0) usleep(100);
            memset(value, (int)(count % 251), sizeof value);
            REQUIRE(sl_log_append_value(log, value, sizeof value) == count);
        }
        CHECK_OK(sl_log_close(log)); /* the preparer has ended with the last writer */
        bool tried = atomic_load(&direct_opens) > 0;
        CHECK_NOTE(tried == (how < 2), "%d opens past the page cache", atomic_load(&direct_opens));
        CHECK_NOTE((atomic_load(&direct_writes) > 0) == (how == 0), "%d writes past the page cache",
                   atomic_load(&direct_writes));
        log = open_log(directory, &options);
        sl_cursor *cursor;
        REQUIRE(sl_cursor_open(log, 0, 0, &cursor) == SL_OK);
        int32_t start[64];
        int32_t end[64];
        sl_columns columns = {.capacity = 64, .value_start = start, .value_end = end};
        int64_t n;
        int64_t seen = 0;
        while ((n = sl_cursor_next(cursor, &columns)) > 0) {
            for (int64_t i = 0; i < n; i++, seen++) {
                memset(value, (int)(seen % 251), sizeof value);
                CHECK(end[i] - start[i] == (int)sizeof value &&
                      memcmp(columns.base + start[i], value, sizeof value) == 0);
            }
            sl_pin_release(columns.pin);
        }
        CHECK_EQ(seen, count);
        kit_check_verified(log);
        sl_cursor_close(cursor);
        CHECK_OK(sl_log_close(log));
    }
    sl_os = sl_os_real;
}

int main(void) {
    check_begin("limits");
    check_path(directory, "log");
    check_path(scratch, "copy");
    test_split();
    test_roll_by_size();
    test_roll_by_time();
    test_roll_by_index();
    test_ranges();
    test_arguments();
    test_write_ahead();
    test_checkpoints();
    test_cut(SL_CODEC_NONE);
    test_codecs(); /* registers the codec of the next */
    test_cut(SL_CODEC_GZIP);
    return check_end();
}
