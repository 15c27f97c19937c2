/* fuzz_index.c -- any bytes as .index and .timeindex beside a sound log: a hint may slow, never lie.
 *
 * The log is made once: three segments, times that mostly rise and now and then fall back, and for
 * each record the value its offset asks for.  An input is
 *
 *   byte 0   1, 2: the segment whose indexes are replaced (modulo three)   4: open as a writer
 *            8: without the recovery point, as after a crash
 *   byte 1   entries (of 8 bytes) that go to .index; the rest of the input is .timeindex
 *
 * What must hold for every input:
 *
 *   by offset  every record is found, with its own content, by cursor, get, lookup_many and range
 *   by time    the answer is that of a walk over all records; if it is not, verifying names the index
 *              (an entry can be consistent with its batch and still hide an older one: only reading
 *              everything can tell)
 *   a writer   appends after it, and finds the new record by offset and by time
 *
 * Where the mutator begins, the indexes are those that the engine wrote. */
#define _GNU_SOURCE
#include "batch.h"
#include "scratch.h"

enum {
    SEGMENTS = 3,
    RECORDS = 240,
    PER_SEGMENT = RECORDS / SEGMENTS,
    PREFIX_BYTES = 2,
    AS_WRITER = 4,
    UNCLEAN = 8,
    FILE_BYTES_MAX = 1 << 15
};

static const char *const suffixes[] = {"log", "index", "timeindex"};

typedef struct whole_file {
    char name[64];
    uint8_t *data;
    size_t bytes;
} whole_file;

static char directory[512];
static int64_t times[RECORDS + 1];
static whole_file files[SEGMENTS][3];
static whole_file checkpoint;

static sl_options options_for(int32_t flags) {
    sl_options options;
    sl_options_default(&options);
    options.flags = flags;
    options.segment_bytes = 1 << 16;
    options.index_interval_bytes = 150;
    options.batch_bytes = 200;
    return options;
}

static void value_of(int64_t offset, uint8_t out[16]) {
    snprintf((char *)out, 16, "value %9d", (int)offset);
}

static void append(sl_log *log, int64_t first, int64_t count) {
    uint8_t values[RECORDS * 16];
    for (int64_t i = 0; i < count; i++) value_of(first + i, values + i * 16);
    sl_records records = {.count = count,
                          .values = values,
                          .uniform_value_bytes = 16,
                          .timestamps_ms = times + first,
                          .leader_epoch = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .one_batch = 1,
                          .producer_id = -1};
    HOLDS(sl_log_append(log, &records) == first, "appending at %" PRId64, first);
}

static void make_log(void) {
    uint64_t state = 7;
    int64_t clock_ms = 1000;
    for (int64_t i = 0; i < RECORDS; i++) {
        clock_ms += scratch_random(&state) % 4;
        times[i] = clock_ms;
        if (i % 37 == 20) times[i] = clock_ms + 60;  /* ahead of its time */
        if (i % 53 == 30) times[i] = clock_ms - 200; /* late */
    }
    times[RECORDS] = clock_ms + 1000; /* what a writer appends */
    sl_options options = options_for(SL_OPEN_CREATE);
    sl_log *log;
    HOLDS(sl_log_open(directory, &options, &log) == SL_OK, "making the log");
    for (int64_t i = 0; i < RECORDS;) {
        if (i > 0 && i % PER_SEGMENT == 0) HOLDS(sl_log_roll(log) == SL_OK, "rolling");
        int64_t count = 1 + scratch_random(&state) % 6;
        int64_t left = PER_SEGMENT - i % PER_SEGMENT;
        if (count > left) count = left;
        append(log, i, count);
        i += count;
    }
    HOLDS(sl_log_close(log) == SL_OK, "closing");
    for (int64_t s = 0; s < SEGMENTS; s++) {
        for (int k = 0; k < 3; k++) {
            whole_file *file = &files[s][k];
            snprintf(file->name, sizeof file->name, "%020" PRId64 ".%s", s * PER_SEGMENT,
                     suffixes[k]);
            file->data = scratch_read(directory, file->name, &file->bytes);
            HOLDS(file->data != NULL, "%s", file->name);
        }
    }
    snprintf(checkpoint.name, sizeof checkpoint.name, "recovery-point-offset-checkpoint");
    checkpoint.data = scratch_read(directory, checkpoint.name, &checkpoint.bytes);
    HOLDS(checkpoint.data != NULL, "%s", checkpoint.name);
}

/* ---- the test ---- */

static void lay_out(const uint8_t *data, size_t size) {
    for (int s = 0; s < SEGMENTS; s++) {
        for (int k = 0; k < 3; k++) {
            const whole_file *file = &files[s][k];
            scratch_write(directory, file->name, file->data, file->bytes);
        }
    }
    scratch_write(directory, checkpoint.name, checkpoint.data, checkpoint.bytes);
    char path[800];
    snprintf(path, sizeof path, "%s/.lock", directory);
    (void)unlink(path);
    if ((data[0] & UNCLEAN) != 0) {
        snprintf(path, sizeof path, "%s/%s", directory, checkpoint.name);
        (void)unlink(path);
    }
    size_t index_bytes = (size_t)data[1] * 8;
    if (index_bytes > size - PREFIX_BYTES) index_bytes = size - PREFIX_BYTES;
    const whole_file *target = files[data[0] % 4 % SEGMENTS];
    scratch_write(directory, target[1].name, data + PREFIX_BYTES, index_bytes);
    scratch_write(directory, target[2].name, data + PREFIX_BYTES + index_bytes,
                  size - PREFIX_BYTES - index_bytes);
}

static void check_offsets(sl_log *log, int64_t end, uint64_t *state) {
    int64_t offsets[16];
    int64_t stamps[16];
    int32_t starts[16];
    int32_t ends[16];
    sl_columns columns = {.capacity = 16,
                          .offsets = offsets,
                          .timestamps_ms = stamps,
                          .value_start = starts,
                          .value_end = ends};
    uint8_t want[16];
    int64_t from = scratch_random(state) % end;
    sl_cursor *cursor;
    HOLDS(sl_cursor_open(log, from, 0, &cursor) == SL_OK, "a cursor at %" PRId64, from);
    int64_t n;
    while ((n = sl_cursor_next(cursor, &columns)) > 0) {
        for (int64_t i = 0; i < n; i++, from++) {
            value_of(from, want);
            HOLDS(offsets[i] == from && stamps[i] == times[from] && ends[i] - starts[i] == 16 &&
                      memcmp(columns.base + starts[i], want, 16) == 0,
                  "offset %" PRId64 " came where %" PRId64 " was due", offsets[i], from);
        }
        sl_pin_release(columns.pin);
    }
    HOLDS(n == 0 && from == end, "reading answers %" PRId64 " at %" PRId64, n, from);
    sl_cursor_close(cursor);
    columns.capacity = 1;
    for (int64_t at = scratch_random(state) % 8; at < end; at += 11) {
        value_of(at, want);
        HOLDS(sl_log_get(log, at, &columns) == 1 && offsets[0] == at && stamps[0] == times[at] &&
                  memcmp(columns.base + starts[0], want, 16) == 0,
              "record %" PRId64, at);
        sl_pin_release(columns.pin);
        sl_batch_view view;
        HOLDS(sl_log_read_range(log, at, INT64_MAX, 100, &view) > 0 &&
                  view.header.base_offset <= at && view.header.last_offset >= at,
              "the range from %" PRId64 " begins with [%" PRId64 ", %" PRId64 "]", at,
              view.header.base_offset, view.header.last_offset);
        sl_pin_release(view.pin);
    }
    int32_t keys[16];
    sl_buffer out = {0};
    for (int i = 0; i < 16; i++) offsets[i] = scratch_random(state) % end;
    HOLDS(sl_log_lookup_many(log, offsets, 16, stamps, keys, ends, &out) == 16, "many at once");
    for (size_t i = 0; i < 16; i++) {
        value_of(offsets[i], want);
        HOLDS(ends[i] == 16 && memcmp(out.data + i * 16, want, 16) == 0, "record %" PRId64,
              offsets[i]);
    }
    sl_buffer_free(&out);
}

static bool index_is_named(sl_log *log) {
    int64_t count = 0;
    for (int64_t s = 0; s < SEGMENTS; s++) {
        sl_problem problem = {0};
        int64_t batches;
        int64_t records;
        int64_t n = sl_log_verify_segment(log, s, &problem, 1, &batches, &records);
        HOLDS(n >= 0, "verifying segment %" PRId64, s);
        HOLDS(n == 0 || problem.kind == SL_PROBLEM_INDEX || problem.kind == SL_PROBLEM_TIME_INDEX,
              "a sound log is called damaged: %s", problem.message);
        count += n;
    }
    return count > 0;
}

static void check_times(sl_log *log, int64_t end, uint64_t *state, bool named) {
    for (int i = 0; i < 40; i++) {
        int64_t wanted =
            i == 0 ? 0 : times[scratch_random(state) % end] + scratch_random(state) % 3 - 1;
        int64_t naive = 0;
        while (naive < end && times[naive] < wanted) naive++;
        int64_t got = sl_log_offset_for_timestamp(log, wanted, NULL);
        bool right = naive < end ? got == naive : got == -SL_E_NOT_FOUND;
        HOLDS(right || named, "time %" PRId64 ": got %" PRId64 ", a walk finds %" PRId64, wanted,
              got, naive);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < PREFIX_BYTES || size > FILE_BYTES_MAX) return 0;
    lay_out(data, size);
    bool writer = (data[0] & AS_WRITER) != 0;
    uint64_t state = size + data[size - 1];
    sl_options options = options_for(writer ? 0 : SL_OPEN_READ_ONLY);
    sl_log *log;
    HOLDS(sl_log_open(directory, &options, &log) == SL_OK, "opening");
    HOLDS(sl_log_end_offset(log) == RECORDS, "the log ends at %" PRId64, sl_log_end_offset(log));
    bool named = index_is_named(log);
    check_offsets(log, RECORDS, &state);
    check_times(log, RECORDS, &state, named);
    if (writer) {
        append(log, RECORDS, 1);
        check_offsets(log, RECORDS + 1, &state);
        check_times(log, RECORDS + 1, &state, named);
    }
    HOLDS(sl_log_close(log) == SL_OK, "closing");
    return 0;
}

/* ---- inputs ---- */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    uint64_t state = seed;
    uint32_t s = scratch_random(&state) % SEGMENTS;
    const whole_file *index = &files[s][1];
    const whole_file *time = &files[s][2];
    bool anew = size < PREFIX_BYTES || scratch_random(&state) % 16 == 0;
    if (anew && max_size >= PREFIX_BYTES + index->bytes + time->bytes) {
        data[0] = (uint8_t)(s | (scratch_random(&state) & 0x0c));
        data[1] = (uint8_t)(index->bytes / 8);
        memcpy(data + PREFIX_BYTES, index->data, index->bytes);
        memcpy(data + PREFIX_BYTES + index->bytes, time->data, time->bytes);
        size = PREFIX_BYTES + index->bytes + time->bytes;
    }
    if (size <= PREFIX_BYTES || scratch_random(&state) % 4 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    /* A change that keeps entries whole: one number of one entry, by a little. */
    size_t at = PREFIX_BYTES + (scratch_random(&state) % (size - PREFIX_BYTES) & ~(size_t)3);
    switch (scratch_random(&state) % 4) {
    case 0: /* the time index loses its end */
        if (size > PREFIX_BYTES + 12) size -= 12;
        break;
    case 1: /* two entries change places */
        if (at + 24 <= size) {
            uint8_t kept[12];
            memcpy(kept, data + at, 12);
            memcpy(data + at, data + at + 12, 12);
            memcpy(data + at + 12, kept, 12);
        }
        break;
    default:
        if (at + 4 <= size)
            sl_put_u32(data + at, sl_get_u32(data + at) + scratch_random(&state) % 64 - 32);
    }
    return size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    scratch_begin("fuzz-index");
    (void)scratch_path(directory, "log");
    make_log();
    /* A writer that stays keeps the engine's threads running: starting them costs more than a test. */
    char other[512];
    static sl_log *stays;
    sl_options options = options_for(SL_OPEN_CREATE);
    HOLDS(sl_log_open(scratch_path(other, "stays"), &options, &stays) == SL_OK, "a log that stays");
    return 0;
}
