/* fuzz_recovery.c -- a directory with any bytes for a segment: opened as reader and as writer.
 *
 * An input is one byte of flags, one offset for the checkpoints, and the bytes of the segment:
 *
 *   byte 0     1 recovery point   2 log start   4 a second segment, sound   8 repair
 *              16 a control page left by nobody   32 a .truncation   64 bytes of indexes, too
 *   byte 1, 2  the offset that those files name
 *   from 3 on  00000000000000000000.log
 *
 * What must hold for every input:
 *
 *   nothing crashes, hangs or reads outside a file
 *   every batch that is served has a right CRC, and offsets rise up to the log end
 *   a reader changes no byte on disk
 *   what recovery keeps, it keeps: after the writer's first open nothing is cut by a second one, and both
 *   serve the same batches; without checkpoints nothing it kept is reported as damaged
 *   the recovered log takes a record and gives it back
 *   opening fails with a status that says why, and fails again the same way
 *
 * The mutator begins with a log that the engine's encoder made and mends a batch's CRC now and then. */
#define _GNU_SOURCE
#include "batch.h"
#include "crc32c.h"
#include "scratch.h"

enum {
    WITH_RECOVERY_POINT = 1,
    WITH_LOG_START = 2,
    WITH_SECOND = 4,
    WITH_REPAIR = 8,
    WITH_CONTROL = 16,
    WITH_TRUNCATION = 32,
    WITH_INDEXES = 64,
    PREFIX_BYTES = 3,
    SECOND_BASE = 40,
    SEGMENT_BYTES = 1 << 16
};

static char directory[512];
static bool
    believed; /* the input names bytes durable or sealed: opening does not look at them all */
static uint8_t second[4096];
static size_t second_bytes;

static size_t encode(uint8_t *out, size_t capacity, int64_t base_offset, int64_t count,
                     int32_t bytes) {
    static const uint8_t values[4096];
    sl_records records = {.count = count,
                          .values = values,
                          .uniform_value_bytes = bytes,
                          .timestamp_ms = 1700000000000 + base_offset,
                          .codec_level = INT32_MIN,
                          .leader_epoch = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .one_batch = 1,
                          .producer_id = -1};
    int64_t encoded = sl_batch_encode(&records, base_offset, out, capacity);
    return encoded > 0 ? (size_t)encoded : 0;
}

static void write_checkpoint(const char *name, int64_t offset) {
    char text[64];
    int bytes = snprintf(text, sizeof text, "0\n1\nfuzz 0 %" PRId64 "\n", offset);
    scratch_write(directory, name, text, (size_t)bytes);
}

static sl_options options_for(int32_t flags) {
    sl_options options;
    sl_options_default(&options);
    options.flags = flags;
    options.segment_bytes = SEGMENT_BYTES;
    options.index_interval_bytes = 128;
    options.decompressed_bytes_max = 1 << 20;
    return options;
}

/* ---- reading all there is ---- */

typedef struct sum {
    int64_t start_offset;
    int64_t end_offset;
    int64_t batches;
    uint64_t hash;
    bool damaged; /* a read reported damage */
} sum;

static bool is_damage(int64_t n) {
    return n == -SL_E_CORRUPT || n == -SL_E_UNSUPPORTED || n == -SL_E_CODEC;
}

static void read_batches(sl_log *log, int32_t flags, sum *out) {
    sl_cursor *cursor;
    HOLDS(sl_cursor_open(log, out->start_offset, flags, &cursor) == SL_OK, "a cursor at the start");
    /* Looking for the next sound batch may find one inside a record's value: any offset is its due. */
    bool skips = (flags & SL_READ_SKIP_CORRUPT) != 0;
    int64_t expected = -1;
    sl_batch_view view;
    int64_t n;
    while ((n = sl_cursor_next_batch(cursor, &view)) == 1) {
        sl_batch_header header;
        sl_status status =
            sl_batch_check(view.data, (size_t)view.header.batch_bytes, SL_CHECK_CRC, &header);
        HOLDS(status == SL_OK, "the batch at %" PRId64 " is served and not sound", view.position);
        HOLDS(header.base_offset >= expected &&
                  (believed || skips || header.last_offset < out->end_offset),
              "offsets [%" PRId64 ", %" PRId64 "] after %" PRId64 " in a log that ends at %" PRId64,
              header.base_offset, header.last_offset, expected, out->end_offset);
        expected = header.last_offset + 1;
        out->batches++;
        out->hash = (out->hash ^ header.crc ^ (uint64_t)header.base_offset << 32) *
                    UINT64_C(0x9E3779B97F4A7C15);
        sl_pin_release(view.pin);
    }
    HOLDS(n == 0 || is_damage(n), "reading batches answers %" PRId64, n);
    if (n < 0 || sl_cursor_skipped_bytes(cursor) > 0) out->damaged = true;
    sl_cursor_close(cursor);
}

static void read_records(sl_log *log, int32_t flags, const sum *s) {
    enum { ROWS = 16 };
    int64_t offsets[ROWS];
    int64_t times[ROWS];
    int32_t ints[6][ROWS];
    sl_columns columns = {.capacity = ROWS,
                          .offsets = offsets,
                          .timestamps_ms = times,
                          .key_start = ints[0],
                          .key_end = ints[1],
                          .value_start = ints[2],
                          .value_end = ints[3],
                          .headers_start = ints[4],
                          .headers_count = ints[5]};
    sl_cursor *cursor;
    HOLDS(sl_cursor_open(log, s->start_offset, flags, &cursor) == SL_OK, "a cursor at the start");
    bool skips = (flags & SL_READ_SKIP_CORRUPT) != 0;
    int64_t last = s->start_offset - 1;
    uint64_t touched = 0;
    int64_t n;
    while ((n = sl_cursor_next(cursor, &columns)) > 0) {
        for (int64_t i = 0; i < n; i++) {
            HOLDS(offsets[i] > last && (believed || skips || offsets[i] < s->end_offset),
                  "record %" PRId64 " after %" PRId64, offsets[i], last);
            last = offsets[i];
            HOLDS(ints[1][i] <= columns.base_bytes && ints[3][i] <= columns.base_bytes &&
                      ints[4][i] <= columns.base_bytes,
                  "a position lies beyond the run");
            for (int32_t at = ints[0][i]; at < ints[1][i]; at++) touched += columns.base[at];
            for (int32_t at = ints[2][i]; at < ints[3][i]; at++) touched += columns.base[at];
        }
        sl_pin_release(columns.pin);
    }
    HOLDS(n == 0 || is_damage(n), "reading records answers %" PRId64, n);
    HOLDS(touched < UINT64_MAX, "every byte was there");
    sl_cursor_close(cursor);
    for (int64_t k = 0; k < 12 && s->start_offset + k * 5 < s->end_offset; k++) {
        columns.capacity = 1;
        n = sl_log_get(log, s->start_offset + k * 5, &columns);
        HOLDS(n == 1 || n == -SL_E_NOT_FOUND || is_damage(n), "a lookup answers %" PRId64, n);
        if (n != 1) continue;
        HOLDS(offsets[0] >= s->start_offset + k * 5, "asked for %" PRId64 ", got %" PRId64,
              s->start_offset + k * 5, offsets[0]);
        sl_pin_release(columns.pin);
    }
}

static void read_otherwise(sl_log *log, const sum *s) {
    static const int64_t times[] = {0, 1700000000000, 1700000000020, INT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        int64_t at;
        int64_t n = sl_log_offset_for_timestamp(log, times[i], &at);
        HOLDS(n == -SL_E_NOT_FOUND || is_damage(n) || (n >= s->start_offset && at >= times[i]),
              "the offset of a time is %" PRId64, n);
    }
    for (int64_t from = s->start_offset; from < s->end_offset && from < 60; from += 13) {
        sl_batch_view view;
        int64_t n = sl_log_read_range(log, from, INT64_MAX, 700, &view);
        HOLDS(n >= 0 || is_damage(n), "a range answers %" PRId64, n);
        sl_pin_release(view.pin);
    }
    int64_t segments = sl_log_segment_count(log);
    for (int64_t i = 0; i < segments; i++) {
        sl_problem problems[2];
        int64_t batches;
        int64_t records;
        HOLDS(sl_log_verify_segment(log, i, problems, 2, &batches, &records) >= 0, "verifying");
    }
}

static sum read_all(sl_log *log) {
    sum s = {.start_offset = sl_log_start_offset(log), .end_offset = sl_log_end_offset(log)};
    HOLDS(s.start_offset >= 0 && s.start_offset <= s.end_offset, "[%" PRId64 ", %" PRId64 ")",
          s.start_offset, s.end_offset);
    sum skipping = s;
    read_batches(log, 0, &s);
    read_batches(log, SL_READ_SKIP_CORRUPT, &skipping);
    HOLDS(skipping.batches >= s.batches, "skipping damage, fewer batches were read");
    read_records(log, 0, &s);
    read_records(log, SL_READ_SKIP_CORRUPT | SL_READ_CONTROL, &s);
    read_otherwise(log, &s);
    return s;
}

/* ---- the test ---- */

static void lay_out(const uint8_t *data, size_t size) {
    int64_t offset = data[1] << 8 | data[2];
    offset &= 0x1ff;
    uint8_t flags = data[0];
    scratch_empty(directory);
    scratch_write(directory, "00000000000000000000.log", data + PREFIX_BYTES, size - PREFIX_BYTES);
    if (flags & WITH_SECOND)
        scratch_write(directory, "00000000000000000040.log", second, second_bytes);
    if (flags & WITH_RECOVERY_POINT) write_checkpoint("recovery-point-offset-checkpoint", offset);
    if (flags & WITH_LOG_START) write_checkpoint("log-start-offset-checkpoint", offset / 2);
    if (flags & WITH_TRUNCATION) write_checkpoint(".truncation", offset);
    if (flags & WITH_CONTROL) {
        static const uint8_t page[4096] = "SLCTRL01";
        scratch_write(directory, ".lock", page, sizeof page);
    }
    if (flags & WITH_INDEXES) {
        size_t bytes = size - PREFIX_BYTES < 96 ? size - PREFIX_BYTES : 96;
        scratch_write(directory, "00000000000000000000.index", data + PREFIX_BYTES, bytes);
        scratch_write(directory, "00000000000000000000.timeindex", data + PREFIX_BYTES, bytes);
    }
}

static void as_reader(const uint8_t *data, size_t size) {
    sl_options options = options_for(SL_OPEN_READ_ONLY);
    sl_log *log;
    sl_status status = sl_log_open(directory, &options, &log);
    HOLDS(status == SL_OK || is_damage(-(int64_t)status), "opening to read");
    if (status == SL_OK) {
        (void)read_all(log);
        HOLDS(sl_log_close(log) == SL_OK, "closing a reader");
    }
    size_t bytes;
    uint8_t *after = scratch_read(directory, "00000000000000000000.log", &bytes);
    HOLDS(after != NULL && bytes == size - PREFIX_BYTES &&
              (bytes == 0 || memcmp(after, data + PREFIX_BYTES, bytes) == 0),
          "a reader changed the segment");
    free(after);
}

static void as_writer(uint8_t flags) {
    sl_options options = options_for((flags & WITH_REPAIR) != 0 ? SL_OPEN_REPAIR : 0);
    sl_log *log;
    sl_status status = sl_log_open(directory, &options, &log);
    if (status != SL_OK) {
        HOLDS(is_damage(-(int64_t)status), "opening to write");
        if ((flags & WITH_TRUNCATION) != 0)
            return; /* carried out, but for what failed: see below */
        HOLDS(sl_log_open(directory, &options, &log) == status, "opening again answers otherwise");
        return;
    }
    sum first = read_all(log);
    HOLDS(believed || !first.damaged, "recovery kept what cannot be read");
    if (flags & 128) {
        sl_log_abandon(log); /* as a crash would */
    } else {
        HOLDS(sl_log_close(log) == SL_OK, "closing");
    }
    status = sl_log_open(directory, &options, &log);
    /* A decided truncation makes its offset the recovery point.  Where the records before it are gone,
     * that is told by the open after the one that carried it out. */
    if (status == SL_E_CORRUPT && (flags & WITH_TRUNCATION) != 0) return;
    HOLDS(status == SL_OK, "opening what recovery left");
    sl_stats stats;
    HOLDS(sl_log_stats(log, &stats) == SL_OK, "stats");
    /* Segments whose offsets overlap cannot be, but for a forger: what of them is kept is not settled. */
    bool settled = (flags & WITH_SECOND) == 0;
    HOLDS(!settled || stats.recovery_discarded_bytes == 0,
          "%" PRId64 " bytes were cut the second time", stats.recovery_discarded_bytes);
    sum again = read_all(log);
    HOLDS(!settled || (first.start_offset == again.start_offset &&
                       first.end_offset == again.end_offset && first.batches == again.batches &&
                       first.hash == again.hash && first.damaged == again.damaged),
          "[%" PRId64 ", %" PRId64 "), %" PRId64 " batches; then [%" PRId64 ", %" PRId64
          "), %" PRId64,
          first.start_offset, first.end_offset, first.batches, again.start_offset, again.end_offset,
          again.batches);
    int64_t offset = sl_log_append_value(log, (const uint8_t *)"after", 5);
    if (offset >= 0) {
        HOLDS(offset == again.end_offset, "appended at %" PRId64, offset);
        int64_t got;
        int32_t start;
        int32_t end;
        sl_columns columns = {
            .capacity = 1, .offsets = &got, .value_start = &start, .value_end = &end};
        HOLDS(sl_log_get(log, offset, &columns) == 1 && got == offset && end - start == 5 &&
                  memcmp(columns.base + start, "after", 5) == 0,
              "the record appended after recovery");
        sl_pin_release(columns.pin);
    }
    HOLDS(sl_log_close(log) == SL_OK, "closing");
    options.flags = SL_OPEN_READ_ONLY;
    HOLDS(sl_log_open(directory, &options, &log) == SL_OK, "reading what recovery left");
    if (offset >= 0)
        HOLDS(sl_log_end_offset(log) == offset + 1, "the end is %" PRId64, sl_log_end_offset(log));
    HOLDS(sl_log_close(log) == SL_OK, "closing");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < PREFIX_BYTES || size > SEGMENT_BYTES) return 0;
    lay_out(data, size);
    believed = (data[0] & (WITH_RECOVERY_POINT | WITH_LOG_START | WITH_SECOND | WITH_TRUNCATION |
                           WITH_INDEXES)) != 0;
    as_reader(data, size);
    as_writer(data[0]);
    return 0;
}

/* ---- inputs ---- */

static size_t draw_log(uint8_t *out, size_t capacity, uint64_t *state) {
    out[0] = (uint8_t)scratch_random(state);
    if (scratch_random(state) % 2 == 0) out[0] &= (uint8_t)(WITH_REPAIR | WITH_CONTROL | 128);
    out[1] = 0;
    out[2] = (uint8_t)(scratch_random(state) % 60);
    size_t size = PREFIX_BYTES;
    int64_t offset = 0;
    while (offset < SECOND_BASE) {
        int64_t count = 1 + scratch_random(state) % 8;
        if (offset + count > SECOND_BASE) count = SECOND_BASE - offset;
        size_t bytes = encode(out + size, capacity - size, offset, count,
                              (int32_t)(scratch_random(state) % 30));
        if (bytes == 0) break;
        size += bytes;
        offset += count;
    }
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    uint64_t state = seed;
    if (max_size < 1024) return LLVMFuzzerMutate(data, size, max_size);
    if (size < PREFIX_BYTES + SL_BATCH_OVERHEAD || scratch_random(&state) % 32 == 0)
        return draw_log(data, max_size, &state);
    size = LLVMFuzzerMutate(data, size, max_size);
    /* Mend the CRC of some batches, whatever else is wrong with them. */
    if (scratch_random(&state) % 2 == 0) return size;
    for (size_t at = PREFIX_BYTES; at + SL_BATCH_OVERHEAD <= size;) {
        int64_t bytes = (int64_t)sl_get_i32(data + at + SL_AT_LENGTH) + SL_LENGTH_BIAS;
        if (bytes < SL_BATCH_OVERHEAD || bytes > (int64_t)(size - at)) break;
        if (scratch_random(&state) % 4 != 0)
            sl_put_u32(data + at + SL_AT_CRC, sl_crc32c(0, data + at + SL_AT_ATTRIBUTES,
                                                        (size_t)bytes - SL_AT_ATTRIBUTES));
        at += (size_t)bytes;
    }
    return size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    scratch_begin("fuzz-recovery");
    (void)scratch_path(directory, "log");
    HOLDS(mkdir(directory, 0755) == 0, "%s", directory);
    second_bytes = encode(second, sizeof second, SECOND_BASE, 5, 20);
    second_bytes +=
        encode(second + second_bytes, sizeof second - second_bytes, SECOND_BASE + 5, 9, 3);
    /* A writer that stays keeps the engine's threads running: starting them costs more than a test. */
    char other[512];
    static sl_log *stays;
    sl_options options = options_for(SL_OPEN_CREATE);
    HOLDS(sl_log_open(scratch_path(other, "stays"), &options, &stays) == SL_OK, "a log that stays");
    return 0;
}
