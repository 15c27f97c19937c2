/* test_index.c -- the two sparse indexes: written by Kafka's rule, and believed by nobody.
 *
 * The rule, as Kafka 4's LogSegment.append states it, is followed here a second time, over the bytes
 * of the .log file and without a line of the engine:
 *
 *   for each batch:  largest timestamp > largest so far?   remember it and the batch's last offset
 *                    bytes since last entry > interval?    offset entry (last offset - base, position)
 *                                                          time entry (largest so far, its offset)
 *                                                          bytes since last entry := 0
 *                    bytes since last entry += the batch's bytes
 *   sealed or closed: time entry (largest so far, its offset)
 *
 * and a time entry is only written when its timestamp exceeds that of the last one.  What the engine
 * leaves on disk must be these bytes, for random logs, over clean closes, and rebuilt after an end
 * that was not clean.
 *
 * Then the hints are made to lie: every byte of them changed, cut, lengthened, emptied, replaced by
 * zeros, noise or a neighbour's file, or gone.  Whoever opens the log then, to read or to write, must
 * give the answers that a naive scan gives.
 *
 * One lie cannot be told from the truth without reading the whole segment: a time entry that names
 * another batch with exactly its timestamp.  So no two batches of the damaged log share one. */
#define _GNU_SOURCE
#include <unistd.h>

#include "check.h"
#include "logkit.h"

enum { BATCHES_MAX = 4096, INDEX_BYTES_MAX = 1 << 16, SEGMENTS_MAX = 256, CLOSES_MAX = 64 };

static char directory[1024];
static char scratch[1024];

static sl_log *open_log(const char *path, const sl_options *options) {
    sl_log *log;
    REQUIRE(sl_log_open(path, options, &log) == SL_OK);
    return log;
}

/* ---- the rule, a second time ---- */

static int64_t big_endian(const uint8_t *p, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | p[i];
    return (int64_t)value;
}

static void put_big_endian(uint8_t *p, int64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        p[i] = (uint8_t)value;
        value = (int64_t)((uint64_t)value >> 8);
    }
}

typedef struct naive_index {
    uint8_t offsets[INDEX_BYTES_MAX];
    uint8_t times[INDEX_BYTES_MAX];
    int64_t offsets_bytes;
    int64_t times_bytes;
    int64_t largest_ms;
    int64_t largest_offset;
    int64_t last_time_entry_ms;
    int64_t since_entry;
    int64_t base_offset;
} naive_index;

static void naive_time_entry(naive_index *index) {
    if (index->largest_ms <= index->last_time_entry_ms) return;
    REQUIRE(index->times_bytes + 12 <= INDEX_BYTES_MAX);
    put_big_endian(index->times + index->times_bytes, index->largest_ms, 8);
    put_big_endian(index->times + index->times_bytes + 8,
                   index->largest_offset - index->base_offset, 4);
    index->times_bytes += 12;
    index->last_time_entry_ms = index->largest_ms;
}

/* The indexes that belong to a .log file.  closes: log end offsets at which it was closed cleanly. */
static void naive_build(naive_index *index, const kit_file *file, int64_t base_offset,
                        int64_t interval, const int64_t *closes, int close_count, bool sealed) {
    *index = (naive_index){.base_offset = base_offset, .largest_ms = -1, .last_time_entry_ms = -1};
    int64_t at = 0;
    int64_t end_offset = base_offset;
    while (at + SL_BATCH_OVERHEAD <= file->bytes) {
        const uint8_t *p = file->data + at;
        int64_t bytes = big_endian(p + 8, 4) + 12;
        if (bytes == 12) break; /* reserved space of a log that nobody closed */
        int64_t first_offset = big_endian(p, 8);
        int64_t last_offset = first_offset + big_endian(p + 23, 4);
        int64_t max_ms = big_endian(p + 35, 8);
        for (int i = 0; i < close_count; i++)
            if (closes[i] == first_offset) naive_time_entry(index);
        if (max_ms > index->largest_ms) {
            index->largest_ms = max_ms;
            index->largest_offset = last_offset;
        }
        if (index->since_entry > interval) {
            REQUIRE(index->offsets_bytes + 8 <= INDEX_BYTES_MAX);
            put_big_endian(index->offsets + index->offsets_bytes, last_offset - base_offset, 4);
            put_big_endian(index->offsets + index->offsets_bytes + 4, at, 4);
            index->offsets_bytes += 8;
            naive_time_entry(index);
            index->since_entry = 0;
        }
        index->since_entry += bytes;
        at += bytes;
        end_offset = last_offset + 1;
    }
    for (int i = 0; i < close_count; i++)
        if (closes[i] == end_offset) naive_time_entry(index);
    if (sealed) naive_time_entry(index);
}

static void check_bytes(const char *path, int64_t base, const char *suffix, const uint8_t *want,
                        int64_t bytes) {
    char name[64];
    kit_file file = kit_read(path, kit_segment(name, base, suffix));
    CHECK_NOTE(file.bytes == bytes, "%s has %" PRId64 " bytes, not %" PRId64, name, file.bytes,
               bytes);
    if (file.bytes == bytes)
        for (int64_t i = 0; i < bytes; i++)
            CHECK_NOTE(file.data[i] == want[i], "byte %" PRId64 " of %s is %02x, not %02x", i, name,
                       file.data[i], want[i]);
    free(file.data);
}

/* Base offsets of the segments; returns how many there are. */
static int list_segments(sl_log *log, int64_t bases[SEGMENTS_MAX]) {
    int64_t count = sl_log_segment_count(log);
    REQUIRE(count > 0 && count <= SEGMENTS_MAX);
    for (int64_t i = 0; i < count; i++) {
        sl_segment_info info;
        CHECK_OK(sl_log_segment_info(log, i, &info));
        bases[i] = info.base_offset;
    }
    return (int)count;
}

/* Every segment of a log that is closed: its indexes are the rule's. */
static void check_files(const char *path, const int64_t *bases, int count, int64_t interval,
                        const int64_t *closes, int close_count) {
    static naive_index index;
    for (int i = 0; i < count; i++) {
        char name[64];
        kit_file file = kit_read(path, kit_segment(name, bases[i], ".log"));
        REQUIRE(file.bytes >= 0);
        naive_build(&index, &file, bases[i], interval, closes, close_count, true);
        check_bytes(path, bases[i], ".index", index.offsets, index.offsets_bytes);
        check_bytes(path, bases[i], ".timeindex", index.times, index.times_bytes);
        free(file.data);
    }
}

/* The active segment of a log that is open: entries already there are the rule's. */
static void check_live(sl_log *log, const char *path, int64_t interval, const int64_t *closes,
                       int close_count) {
    static naive_index index;
    int64_t count = sl_log_segment_count(log);
    sl_segment_info info;
    CHECK_OK(sl_log_segment_info(log, count - 1, &info));
    char name[64];
    kit_file file = kit_read(path, kit_segment(name, info.base_offset, ".log"));
    naive_build(&index, &file, info.base_offset, interval, closes, close_count, false);
    CHECK_EQ(info.index_entries, index.offsets_bytes / 8);
    CHECK_EQ(info.time_index_entries, index.times_bytes / 12);
    CHECK_EQ(info.max_timestamp_ms, index.largest_ms);
    free(file.data);
    file = kit_read(path, kit_segment(name, info.base_offset, ".index"));
    CHECK(file.bytes >= index.offsets_bytes);
    if (file.bytes >= index.offsets_bytes)
        CHECK(memcmp(file.data, index.offsets, (size_t)index.offsets_bytes) == 0);
    free(file.data);
    file = kit_read(path, kit_segment(name, info.base_offset, ".timeindex"));
    CHECK(file.bytes >= index.times_bytes);
    if (file.bytes >= index.times_bytes)
        CHECK(memcmp(file.data, index.times, (size_t)index.times_bytes) == 0);
    free(file.data);
}

/* ---- answers ---- */

static const char *damage = "none"; /* what was done to the log at hand */

/* Every timestamp of the log and its neighbours, against a naive scan. */
static void check_every_time(sl_log *log, const kit_model *model) {
    for (int64_t offset = model->start_offset; offset < model->end_offset; offset++) {
        if (offset > model->start_offset &&
            kit_at(model, offset)->timestamp_ms == kit_at(model, offset - 1)->timestamp_ms)
            continue;
        for (int64_t d = -1; d <= 1; d++) {
            int64_t ms = kit_at(model, offset)->timestamp_ms + d;
            int64_t want = kit_offset_for_timestamp(model, ms);
            int64_t found_ms = -1;
            int64_t got = sl_log_offset_for_timestamp(log, ms, &found_ms);
            CHECK_NOTE(got == (want >= 0 ? want : -SL_E_NOT_FOUND),
                       "damage %s: time %" PRId64 " is at %" PRId64 ", not %" PRId64, damage, ms,
                       got, want);
            CHECK(got < 0 || got != want || found_ms == kit_at(model, want)->timestamp_ms);
        }
    }
}

static void check_answers(sl_log *log, const kit_model *model) {
    CHECK_EQ(sl_log_start_offset(log), model->start_offset);
    CHECK_EQ(sl_log_end_offset(log), model->end_offset);
    kit_check_gets(log, model);
    kit_check_lookups(log, model, 10);
    kit_check_ranges(log, model, 10);
    kit_check_cursor(log, model, model->start_offset, 50);
    kit_check_cursor(log, model, (model->start_offset + model->end_offset) / 2, 3);
    check_every_time(log, model);
    for (int64_t i = 0; i < sl_log_segment_count(log); i++) {
        sl_segment_info info;
        CHECK_OK(sl_log_segment_info(log, i, &info));
        int64_t largest = -1;
        for (int64_t k = info.base_offset; k < info.end_offset; k++)
            if (k >= model->start_offset && kit_at(model, k)->timestamp_ms > largest)
                largest = kit_at(model, k)->timestamp_ms;
        CHECK_NOTE(info.max_timestamp_ms == largest, "damage %s: segment %" PRId64 " has %" PRId64,
                   damage, info.base_offset, info.max_timestamp_ms);
    }
}

/* ---- the rule ---- */

static void test_rule(int64_t base_offset, int32_t interval, int64_t segment_bytes, int rounds) {
    check_remove_tree(directory);
    sl_options options = kit_options(SL_OPEN_CREATE, segment_bytes);
    options.index_interval_bytes = interval;
    options.initial_offset = base_offset;
    kit_model model;
    kit_begin(&model, base_offset);
    int64_t closes[CLOSES_MAX];
    int close_count = 0;
    int64_t bases[SEGMENTS_MAX];
    sl_log *log = open_log(directory, &options);
    for (int round = 0; round < rounds; round++) {
        CHECK_RESULT(kit_append_some(log, &model, 1 + check_below(20)));
        if (check_below(4) == 0) check_live(log, directory, interval, closes, close_count);
        if (check_below(25) == 0) CHECK_OK(sl_log_roll(log));
        if (check_below(8) == 0 && close_count < CLOSES_MAX) {
            closes[close_count++] = model.end_offset;
            CHECK_OK(sl_log_close(log));
            log = open_log(directory, &options);
            check_live(log, directory, interval, closes, close_count);
        }
    }
    kit_check_equal(log, &model);
    check_every_time(log, &model);
    int count = list_segments(log, bases);
    CHECK_OK(sl_log_close(log));
    check_files(directory, bases, count, interval, closes, close_count);
    options.flags = SL_OPEN_READ_ONLY;
    log = open_log(directory, &options);
    kit_check_equal(log, &model);
    check_every_time(log, &model);
    CHECK_OK(sl_log_close(log));
    kit_free(&model);
}

/* An append that fails takes its entries back. */
static void test_undone(void) {
    check_remove_tree(directory);
    sl_options options = kit_options(SL_OPEN_CREATE, 8192);
    options.index_interval_bytes = 100;
    sl_log *log = open_log(directory, &options);
    kit_model model;
    kit_begin(&model, 0);
    for (int i = 0; i < 10; i++) CHECK_RESULT(kit_append_some(log, &model, 5));
    int64_t first_end = model.end_offset;
    int32_t lengths[8] = {300, 300, 300, 300, 300, 300, 300, 9000};
    uint8_t *values = calloc(1, 12000);
    sl_records records = {.count = 8,
                          .values = values,
                          .value_bytes = lengths,
                          .timestamp_ms = INT64_C(1900000000000),
                          .codec_level = INT32_MIN,
                          .leader_epoch = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .producer_id = -1};
    CHECK_FAILS(sl_log_append(log, &records), SL_E_TOO_LARGE);
    /* It may have rolled before it failed: then the first records stand, and it says how many. */
    CHECK_EQ(sl_log_end_offset(log), first_end + records.out_appended_count);
    CHECK_OK(sl_log_truncate_suffix(log, first_end));
    check_live(log, directory, 100, NULL, 0);
    kit_check_equal(log, &model);
    CHECK_RESULT(kit_append_some(log, &model, 30));
    int64_t bases[SEGMENTS_MAX];
    int count = list_segments(log, bases);
    CHECK_OK(sl_log_close(log));
    check_files(directory, bases, count, 100, NULL, 0);
    free(values);
    kit_free(&model);
}

/* ---- rebuilt ---- */

static void test_rebuilt(int64_t segment_bytes, bool spoil) {
    check_remove_tree(directory);
    sl_options options = kit_options(SL_OPEN_CREATE, segment_bytes);
    options.index_interval_bytes = 150;
    kit_model model;
    kit_begin(&model, 0);
    int64_t bases[SEGMENTS_MAX];
    sl_log *log = open_log(directory, &options);
    for (int i = 0; i < 15; i++) CHECK_RESULT(kit_append_some(log, &model, 1 + check_below(20)));
    int count = list_segments(log, bases);
    sl_log_abandon(log);
    if (spoil) {
        char name[64];
        uint8_t noise[96];
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)check_random();
        kit_write(directory, kit_segment(name, bases[count - 1], ".index"), noise, sizeof noise);
        kit_write(directory, kit_segment(name, bases[count - 1], ".timeindex"), noise,
                  sizeof noise);
    }
    options.flags = SL_OPEN_READ_ONLY;
    log = open_log(directory, &options);
    check_answers(log, &model);
    CHECK_OK(sl_log_close(log));
    options.flags = 0;
    log = open_log(directory, &options);
    check_live(log, directory, 150, NULL, 0);
    kit_check_equal(log, &model);
    check_every_time(log, &model);
    CHECK_RESULT(kit_append_some(log, &model, 10));
    check_live(log, directory, 150, NULL, 0);
    /* A truncation rebuilds as well: the last entry of the close before it is not carried over. */
    int64_t cut = model.end_offset - 1 - check_below(model.end_offset / 2);
    CHECK_OK(sl_log_truncate_suffix(log, cut));
    kit_cut(&model, cut);
    check_live(log, directory, 150, NULL, 0);
    CHECK_RESULT(kit_append_some(log, &model, 10));
    count = list_segments(log, bases);
    kit_check_equal(log, &model);
    CHECK_OK(sl_log_close(log));
    check_files(directory, bases, count, 150, NULL, 0);
    kit_free(&model);
}

/* ---- damaged ---- */

/* Three segments and more of batches whose timestamps are distinct and do not only rise. */
static void make_victim(kit_model *model, int64_t bases[SEGMENTS_MAX], int *count) {
    check_remove_tree(directory);
    sl_options options = kit_options(SL_OPEN_CREATE, 4096);
    options.index_interval_bytes = 350;
    sl_log *log = open_log(directory, &options);
    kit_begin(model, 0);
    const int64_t epoch_ms = model->clock_ms;
    for (int i = 0; i < 60; i++) {
        model->clock_ms = epoch_ms + 100 * i + (i % 5 == 2 ? 350 : 0);
        kit_shape shape = {
            .count = 1 + check_below(3), .value_bytes_max = 80, .one_batch = 1, .plain = true};
        CHECK_RESULT(kit_append(log, model, &shape));
    }
    model->clock_ms = epoch_ms + 100000;
    *count = list_segments(log, bases);
    CHECK_OK(sl_log_close(log));
    REQUIRE(*count >= 2);
}

static const kit_model *victim;

/* Open the damaged copy as a reader, as a writer that goes on appending, and as a reader again. */
static void check_damaged(bool must_report, int64_t segment_number) {
    static kit_model model;
    kit_copy(&model, victim);
    sl_options options = kit_options(SL_OPEN_READ_ONLY, 4096);
    options.index_interval_bytes = 350;
    sl_log *log = open_log(scratch, &options);
    if (must_report) {
        int64_t batches;
        int64_t records;
        sl_problem problem;
        CHECK_NOTE(sl_log_verify_segment(log, segment_number, &problem, 1, &batches, &records) > 0,
                   "damage %s is not reported", damage);
    }
    check_answers(log, &model);
    CHECK_OK(sl_log_close(log));
    options.flags = 0;
    log = open_log(scratch, &options);
    check_answers(log, &model);
    kit_shape shape = {.count = 2, .value_bytes_max = 200, .one_batch = 1, .plain = true};
    for (int i = 0; i < 4; i++) {
        model.clock_ms += i == 2 ? -250 : 50;
        CHECK_RESULT(kit_append(log, &model, &shape));
    }
    check_every_time(log, &model);
    CHECK_OK(sl_log_roll(log));
    check_answers(log, &model);
    CHECK_OK(sl_log_close(log));
    options.flags = SL_OPEN_READ_ONLY;
    log = open_log(scratch, &options);
    check_answers(log, &model);
    CHECK_OK(sl_log_close(log));
    damage = "none";
}

static void test_every_byte(const int64_t *bases, int count, const char *suffix) {
    static const uint8_t masks[] = {0xff, 0x01, 0x80};
    for (int s = count - 2; s < count; s++) {
        char name[64];
        kit_file file = kit_read(directory, kit_segment(name, bases[s], suffix));
        REQUIRE(file.bytes > 0);
        for (int64_t i = 0; i < file.bytes; i++) {
            /* Few patterns for each byte, all of them over the file. */
            uint8_t mask = masks[(i + i / 12) % 3];
            char what[160];
            snprintf(what, sizeof what, "byte %" PRId64 " of %s ^ %02x", i, name, mask);
            damage = what;
            kit_copy_directory(directory, scratch);
            file.data[i] ^= mask;
            kit_write(scratch, name, file.data, file.bytes);
            check_damaged(s < count - 1, s);
            file.data[i] ^= mask;
        }
        free(file.data);
    }
}

/* Put `bytes` in place of an index of segment s of a fresh copy, and look. */
static void check_replaced(const char *what, int64_t base, const char *suffix, const void *data,
                           int64_t bytes) {
    char name[64];
    damage = what;
    kit_copy_directory(directory, scratch);
    kit_segment(name, base, suffix);
    if (data != NULL) {
        kit_write(scratch, name, data, bytes);
    } else {
        kit_unlink(scratch, name);
    }
    check_damaged(false, 0);
}

static void test_other_lengths(int64_t base, const char *suffix) {
    char name[64];
    kit_file file = kit_read(directory, kit_segment(name, base, suffix));
    static uint8_t longer[1 << 16];
    memcpy(longer, file.data, (size_t)file.bytes);
    for (int64_t bytes = 0; bytes < file.bytes; bytes++)
        check_replaced("cut", base, suffix, longer, bytes);
    check_replaced("one byte more", base, suffix, longer, file.bytes + 1);
    check_replaced("zero-tailed", base, suffix, longer, file.bytes + 24);
    check_replaced("zero-tailed by a page", base, suffix, longer, 4104 * 3);
    check_replaced("far too long", base, suffix, longer, sizeof longer);
    memcpy(longer + file.bytes, file.data, (size_t)file.bytes);
    check_replaced("twice", base, suffix, longer, 2 * file.bytes);
    check_replaced("missing", base, suffix, NULL, 0);
    memset(longer, 0, 96);
    check_replaced("zeros", base, suffix, longer, 96);
    free(file.data);
}

static void test_noise(int64_t base, int64_t other_base, const char *suffix) {
    uint8_t noise[240];
    for (int round = 0; round < 12; round++) {
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)(check_random() & (round % 2 == 0 ? 0xff : 0x01));
        check_replaced("noise", base, suffix, noise, round % 3 == 0 ? 24 : (int64_t)sizeof noise);
    }
    memset(noise, 0xff, sizeof noise);
    check_replaced("ones", base, suffix, noise, sizeof noise);
    char name[64];
    kit_file other = kit_read(directory, kit_segment(name, other_base, suffix));
    check_replaced("another segment's", base, suffix, other.data, other.bytes);
    free(other.data);
}

/* Entries at the ends of what their numbers can say. */
static void test_extremes(int64_t base) {
    static const int64_t numbers[] = {INT32_MIN,      -1,       0, 1, 61, INT32_MAX - 61,
                                      INT32_MAX - 60, INT32_MAX};
    static const int64_t times[] = {INT64_MIN, -1, 0, 1, INT64_C(1700000000001), INT64_MAX};
    uint8_t entry[12];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
            put_big_endian(entry, numbers[i], 4);
            put_big_endian(entry + 4, numbers[k], 4);
            check_replaced("an extreme offset entry", base, ".index", entry, 8);
        }
        for (size_t k = 0; k < sizeof times / sizeof *times; k++) {
            put_big_endian(entry, times[k], 8);
            put_big_endian(entry + 8, numbers[i], 4);
            check_replaced("an extreme time entry", base, ".timeindex", entry, 12);
        }
    }
}

static void test_damaged(void) {
    static kit_model model;
    int64_t bases[SEGMENTS_MAX];
    int count;
    make_victim(&model, bases, &count);
    victim = &model;
    kit_copy_directory(directory, scratch);
    check_damaged(false, 0);
    static const char *const suffixes[] = {".index", ".timeindex"};
    for (int i = 0; i < 2; i++) {
        test_every_byte(bases, count, suffixes[i]);
        for (int s = count - 2; s < count; s++) {
            test_other_lengths(bases[s], suffixes[i]);
            test_noise(bases[s], bases[s == 0 ? 1 : 0], suffixes[i]);
        }
    }
    test_extremes(bases[count - 2]);
    test_extremes(bases[count - 1]);
    kit_free(&model);
}

int main(void) {
    check_begin("index");
    check_path(directory, "log");
    check_path(scratch, "copy");
    static const int32_t intervals[] = {0, 1, 61, 256, 1000, 4096, 1 << 20};
    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        test_rule(0, intervals[i], 4096, 60);
        test_rule(INT64_C(1) << 33, intervals[i], 20000, 60);
        test_rule(7, intervals[i], 1 << 20, 40);
    }
    test_undone();
    for (int i = 0; i < 10; i++) test_rebuilt(i % 2 == 0 ? 4096 : 1 << 18, i % 3 == 0);
    test_damaged();
    return check_end();
}
