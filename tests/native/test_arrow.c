/* test_arrow.c -- the Arrow stream as a careful, and as a careless, C consumer sees it.
 *
 * Every test writes a log whose records follow from their offset alone (see `expect`), reads it
 * through the C stream interface, and decodes the buffers by hand as the format describes them.  No
 * Arrow library takes part; tests/log/test_columns.py does the same with the real ones.
 *
 * What is looked at: that each record comes once and in order whatever the segments, batches and
 * codecs are; that views point into the log's own memory; that every pin comes back (pinned_bytes
 * is 0 at the end of each test) in whatever order arrays, children, stream and log go away; that
 * nothing is lost or repeated when any allocation fails; that a closed log ends its streams with an
 * error instead of a crash.  Run it under the address and thread sanitizers too. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "arrow.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os.h"

static _Atomic unsigned long checks;
static _Atomic unsigned long failures;

/* Not assert(): it stays on with NDEBUG, and goes on after a failure. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition) && failures++ < 20) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
        }                                                                                          \
    } while (0)

enum { LARGEST = 3000, OFFSET = 0, TIMESTAMP = 1, KEY = 2, VALUE = 3 };

typedef struct expected {
    int32_t key_bytes; /* -1 null */
    int32_t value_bytes;
    uint8_t key[32];
    uint8_t value[LARGEST];
} expected;

/* The record at `offset`: lengths around the 12 bytes that stand in a view, nulls, empty values,
 * and now and then a long one. */
static void expect(int64_t offset, expected *out) {
    uint64_t seed = (uint64_t)offset * 0x9e3779b97f4a7c15u;
    out->key_bytes = offset % 5 == 0 ? -1 : (int32_t)(offset % 17);
    out->value_bytes = offset % 7 == 3 ? -1 : offset % 101 == 50 ? LARGEST : (int32_t)(offset % 29);
    for (int32_t i = 0; i < out->key_bytes; i++) out->key[i] = (uint8_t)(seed >> (i % 8));
    for (int32_t i = 0; i < out->value_bytes; i++) out->value[i] = (uint8_t)(seed >> (i % 23));
}

static int64_t expect_timestamp(int64_t offset) { return 1700000000000 + offset * 3; }

/* ---- a log in a directory of its own ------------------------------------------------------ */

static char directory[64];

static sl_log *open_log_as(int64_t segment_bytes, int32_t flags) {
    snprintf(directory, sizeof directory, "/tmp/stratalog-arrow-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
    sl_options options;
    sl_options_default(&options);
    options.flags = SL_OPEN_CREATE | flags;
    options.segment_bytes = segment_bytes;
    sl_log *log = NULL;
    sl_status status = sl_log_open(directory, &options, &log);
    if (status != SL_OK) {
        fprintf(stderr, "cannot open a log: %s\n", sl_last_error()->message);
        exit(2);
    }
    return log;
}

static sl_log *open_log(int64_t segment_bytes) { return open_log_as(segment_bytes, 0); }

static void remove_directory(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    CHECK(system(command) == 0);
}

static void append(sl_log *log, int64_t count, int64_t per_batch, int32_t codec) {
    uint8_t *keys = malloc((size_t)per_batch * 32);
    uint8_t *values = malloc((size_t)per_batch * LARGEST);
    int32_t *key_bytes = malloc((size_t)per_batch * sizeof *key_bytes);
    int32_t *value_bytes = malloc((size_t)per_batch * sizeof *value_bytes);
    int64_t *timestamps = malloc((size_t)per_batch * sizeof *timestamps);
    expected record;
    while (count > 0) {
        int64_t n = count < per_batch ? count : per_batch;
        int64_t first = sl_log_end_offset(log);
        size_t key_used = 0;
        size_t value_used = 0;
        for (int64_t i = 0; i < n; i++) {
            expect(first + i, &record);
            key_bytes[i] = record.key_bytes;
            value_bytes[i] = record.value_bytes;
            timestamps[i] = expect_timestamp(first + i);
            if (record.key_bytes > 0) {
                memcpy(keys + key_used, record.key, (size_t)record.key_bytes);
                key_used += (size_t)record.key_bytes;
            }
            if (record.value_bytes > 0) {
                memcpy(values + value_used, record.value, (size_t)record.value_bytes);
                value_used += (size_t)record.value_bytes;
            }
        }
        sl_records records = {
            .count = n,
            .values = values,
            .value_bytes = value_bytes,
            .keys = keys,
            .key_bytes = key_bytes,
            .timestamps_ms = timestamps,
            .codec = codec,
            .codec_level = INT32_MIN,
            .leader_epoch = -1,
            .producer_epoch = -1,
            .base_sequence = -1,
            .producer_id = -1,
        };
        CHECK(sl_log_append(log, &records) == first);
        count -= n;
    }
    free(keys);
    free(values);
    free(key_bytes);
    free(value_bytes);
    free(timestamps);
}

static int64_t pinned_bytes(sl_log *log) {
    sl_stats stats;
    CHECK(sl_log_stats(log, &stats) == SL_OK);
    return stats.pinned_bytes;
}

/* ---- decoding by hand --------------------------------------------------------------------- */

static bool is_valid(const struct ArrowArray *array, int64_t row) {
    const uint8_t *bits = array->buffers[0];
    return bits == NULL || ((bits[row >> 3] >> (row & 7)) & 1) != 0;
}

/* The bytes of a row in a column of the given form; NULL for null. */
static const uint8_t *cell(const struct ArrowArray *array, int32_t form, int64_t row,
                           int64_t *out_bytes) {
    if (!is_valid(array, row)) return NULL;
    if (form == SL_ARROW_BINARY) {
        const int32_t *offsets = array->buffers[1];
        *out_bytes = offsets[row + 1] - offsets[row];
        return (const uint8_t *)array->buffers[2] + offsets[row];
    }
    if (form == SL_ARROW_LARGE_BINARY) {
        const int64_t *offsets = array->buffers[1];
        *out_bytes = offsets[row + 1] - offsets[row];
        return (const uint8_t *)array->buffers[2] + offsets[row];
    }
    const uint8_t *view = (const uint8_t *)array->buffers[1] + row * 16;
    int32_t words[4];
    memcpy(words, view, sizeof words);
    *out_bytes = words[0];
    if (words[0] <= 12) {
        for (int32_t i = words[0]; i < 12; i++) CHECK(view[4 + i] == 0);
        return view + 4;
    }
    int64_t variadic = array->n_buffers - 3;
    const int64_t *lengths = array->buffers[array->n_buffers - 1];
    CHECK(words[2] >= 0 && words[2] < variadic);
    CHECK(words[3] >= 0 && words[3] + (int64_t)words[0] <= lengths[words[2]]);
    const uint8_t *data = (const uint8_t *)array->buffers[2 + words[2]] + words[3];
    CHECK(memcmp(view + 4, data, 4) == 0);
    return data;
}

static void check_cell(const struct ArrowArray *array, int32_t form, int64_t row,
                       const uint8_t *wanted, int32_t wanted_bytes) {
    int64_t bytes = -1;
    const uint8_t *data = cell(array, form, row, &bytes);
    if (wanted_bytes < 0) {
        CHECK(data == NULL);
        return;
    }
    CHECK(data != NULL && bytes == wanted_bytes);
    if (data != NULL && bytes == wanted_bytes) CHECK(memcmp(data, wanted, (size_t)bytes) == 0);
}

/* Compare a whole array with what its offsets call for; returns the offset after the last one. */
static int64_t check_array(const struct ArrowArray *array, int32_t key_form, int32_t value_form,
                           int64_t next) {
    expected record;
    int64_t null_keys = 0;
    int64_t null_values = 0;
    CHECK(array->n_children == 4 && array->n_buffers == 1 && array->buffers[0] == NULL);
    CHECK(array->offset == 0 && array->null_count == 0 && array->length > 0);
    const int64_t *offsets = array->children[OFFSET]->buffers[1];
    const int64_t *timestamps = array->children[TIMESTAMP]->buffers[1];
    for (int64_t row = 0; row < array->length; row++) {
        CHECK(offsets[row] == next);
        CHECK(timestamps[row] == expect_timestamp(next));
        expect(next, &record);
        check_cell(array->children[KEY], key_form, row, record.key, record.key_bytes);
        check_cell(array->children[VALUE], value_form, row, record.value, record.value_bytes);
        null_keys += record.key_bytes < 0;
        null_values += record.value_bytes < 0;
        next++;
    }
    for (int i = 0; i < 4; i++) CHECK(array->children[i]->length == array->length);
    CHECK(array->children[KEY]->null_count == null_keys);
    CHECK(array->children[VALUE]->null_count == null_values);
    return next;
}

/* Read a stream to its end and release it; returns the offset after the last record. */
static int64_t drain(struct ArrowArrayStream *stream, int32_t key_form, int32_t value_form,
                     int64_t next) {
    for (;;) {
        struct ArrowArray array;
        int error = stream->get_next(stream, &array);
        CHECK(error == 0);
        if (error != 0) fprintf(stderr, "%s\n", stream->get_last_error(stream));
        if (error != 0 || array.release == NULL) break;
        next = check_array(&array, key_form, value_form, next);
        array.release(&array);
        CHECK(array.release == NULL);
    }
    stream->release(stream);
    CHECK(stream->release == NULL);
    return next;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_schema(void) {
    struct ArrowSchema schema;
    CHECK(sl_arrow_schema(SL_ARROW_VIEW, SL_ARROW_LARGE_BINARY, &schema) == SL_OK);
    CHECK(strcmp(schema.format, "+s") == 0 && schema.n_children == 4);
    const char *const formats[] = {"l", "tsm:UTC", "vz", "Z"};
    const char *const names[] = {"offset", "timestamp", "key", "value"};
    for (int i = 0; i < 4; i++) {
        CHECK(strcmp(schema.children[i]->format, formats[i]) == 0);
        CHECK(strcmp(schema.children[i]->name, names[i]) == 0);
        CHECK(schema.children[i]->flags == (i < 2 ? 0 : ARROW_FLAG_NULLABLE));
    }
    int32_t key_form = -1;
    int32_t value_form = -1;
    CHECK(sl_arrow_forms(&schema, &key_form, &value_form) == SL_OK);
    CHECK(key_form == SL_ARROW_VIEW && value_form == SL_ARROW_LARGE_BINARY);
    schema.children[3]->format = "u"; /* a type we cannot promise: the default serves */
    CHECK(sl_arrow_forms(&schema, &key_form, &value_form) == SL_OK);
    CHECK(value_form == SL_ARROW_VIEW);
    schema.n_children = 3;
    CHECK(sl_arrow_forms(&schema, &key_form, &value_form) == SL_E_INVALID);
    schema.n_children = 4;

    struct ArrowSchema moved = *schema.children[2];
    schema.children[2]->release = NULL;
    schema.release(&schema);
    CHECK(schema.release == NULL && moved.release != NULL);
    CHECK(strcmp(moved.format, "vz") == 0 && strcmp(moved.name, "key") == 0);
    moved.release(&moved);
    CHECK(moved.release == NULL);
    CHECK(sl_arrow_forms(&schema, &key_form, &value_form) == SL_E_INVALID);
    CHECK(sl_arrow_schema(3, 0, &schema) == SL_E_INVALID);
}

static void test_refusals(void) {
    sl_log *log = open_log(1 << 20);
    struct ArrowArrayStream stream;
    append(log, 10, 10, SL_CODEC_NONE);
    CHECK(sl_log_arrow_stream(NULL, 0, -1, &stream) == SL_E_INVALID && stream.release == NULL);
    CHECK(sl_log_arrow_stream(log, -2, -1, &stream) == SL_E_INVALID && stream.release == NULL);
    CHECK(sl_log_arrow_stream(log, 0, -2, &stream) == SL_E_INVALID && stream.release == NULL);
    CHECK(sl_log_arrow_stream(log, 11, -1, &stream) == SL_E_OUT_OF_RANGE);
    CHECK(stream.release == NULL);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

/* Every start and end around the edges of batches, arrays and segments. */
static void test_ranges(void) {
    sl_log *log = open_log(64 << 10);
    struct ArrowArrayStream stream;
    CHECK(sl_log_arrow_stream(log, 0, -1, &stream) == SL_OK);
    CHECK(drain(&stream, 0, 0, 0) == 0);
    append(log, 40000, 100, SL_CODEC_NONE);
    CHECK(sl_log_segment_count(log) > 3);
    const int64_t edges[] = {0, 1, 99, 100, 101, 16383, 16384, 16385, 39999, 40000, 50000};
    const size_t n = sizeof edges / sizeof edges[0];
    for (size_t i = 0; i < n - 1; i++) {
        for (size_t j = 0; j < n; j++) {
            int64_t end = edges[j] > 40000 ? 40000 : edges[j];
            int64_t wanted = end > edges[i] ? end : edges[i];
            CHECK(sl_log_arrow_stream(log, edges[i], edges[j], &stream) == SL_OK);
            CHECK(drain(&stream, 0, 0, edges[i]) == wanted);
        }
    }
    /* -1 is the end at the time of the call, not the end at the time of reading. */
    CHECK(sl_log_arrow_stream(log, 39990, -1, &stream) == SL_OK);
    append(log, 10, 10, SL_CODEC_NONE);
    CHECK(drain(&stream, 0, 0, 39990) == 40000);
    CHECK(sl_log_truncate_prefix(log, 20000) == SL_OK);
    CHECK(sl_log_arrow_stream(log, -1, -1, &stream) == SL_OK);
    CHECK(drain(&stream, 0, 0, 20000) == 40010);
    CHECK(pinned_bytes(log) == 0);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

static void test_forms(void) {
    sl_log *log = open_log(256 << 10);
    append(log, 20000, 333, SL_CODEC_NONE);
    for (int32_t key_form = 0; key_form < 3; key_form++) {
        for (int32_t value_form = 0; value_form < 3; value_form++) {
            sl_arrow_request request;
            sl_arrow_request_default(&request);
            request.key_form = key_form;
            request.value_form = value_form;
            request.rows_max = 1000;
            struct ArrowArrayStream stream;
            CHECK(sl_log_arrow_stream_as(log, &request, &stream) == SL_OK);
            CHECK(drain(&stream, key_form, value_form, 0) == 20000);
        }
    }
    struct ArrowArrayStream stream;
    CHECK(sl_log_arrow_stream_copy(log, 5, 20000, &stream) == SL_OK);
    struct ArrowArray array;
    CHECK(stream.get_next(&stream, &array) == 0);
    CHECK(pinned_bytes(log) == 0); /* copies hold nothing */
    int64_t next = check_array(&array, SL_ARROW_LARGE_BINARY, SL_ARROW_LARGE_BINARY, 5);
    array.release(&array);
    CHECK(drain(&stream, SL_ARROW_LARGE_BINARY, SL_ARROW_LARGE_BINARY, next) == 20000);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

/* A view's address is the cursor's address: nothing was copied.  And a column of short values
 * holds no memory of the log. */
static void test_zero_copy(void) {
    sl_log *log = open_log(1 << 20);
    append(log, 500, 500, SL_CODEC_NONE);
    struct ArrowArrayStream stream;
    CHECK(sl_log_arrow_stream(log, 0, -1, &stream) == SL_OK);
    struct ArrowArray array;
    CHECK(stream.get_next(&stream, &array) == 0);
    stream.release(&stream);

    int32_t starts[500];
    int32_t ends[500];
    sl_columns columns = {.capacity = 500, .value_start = starts, .value_end = ends};
    sl_cursor *cursor = NULL;
    CHECK(sl_cursor_open(log, 0, 0, &cursor) == SL_OK);
    int64_t row = 0;
    while (sl_cursor_next(cursor, &columns) > 0) {
        for (int64_t i = 0; i < columns.count; i++, row++) {
            int64_t bytes = 0;
            const uint8_t *data = cell(array.children[VALUE], SL_ARROW_VIEW, row, &bytes);
            if (data != NULL && bytes > 12) CHECK(data == columns.base + starts[i]);
        }
        sl_pin_release(columns.pin);
    }
    sl_cursor_close(cursor);
    CHECK(row == 500);
    CHECK(pinned_bytes(log) > 0);
    array.release(&array);
    CHECK(pinned_bytes(log) == 0);

    /* Records 0 to 12 have keys and values of at most 12 bytes. */
    CHECK(sl_log_arrow_stream(log, 0, 13, &stream) == SL_OK);
    CHECK(stream.get_next(&stream, &array) == 0);
    CHECK(array.length == 13 && array.children[VALUE]->n_buffers == 3);
    CHECK(pinned_bytes(log) == 0);
    array.release(&array);
    CHECK(drain(&stream, 0, 0, 13) == 13);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

/* A compacted log has gaps: a chunk may reach past the end though it has fewer records than that. */
static void test_gaps(void) {
    sl_log *log =
        open_log_as(1 << 20, SL_OPEN_NO_CHECKPOINTS); /* as a follower's: gaps are allowed */
    uint8_t batch[256];
    uint8_t values[10] = "0123456789";
    for (int64_t base = 0; base <= 200; base += 100) {
        sl_records records = {.count = 10,
                              .values = values,
                              .uniform_value_bytes = 1,
                              .timestamp_ms = 7,
                              .codec_level = INT32_MIN,
                              .leader_epoch = -1,
                              .producer_epoch = -1,
                              .base_sequence = -1,
                              .producer_id = -1};
        int64_t bytes = sl_batch_encode(&records, base, batch, sizeof batch);
        CHECK(bytes > 0 && sl_log_append_replicated(log, batch, (size_t)bytes) == base);
    }
    for (int64_t start = 0; start <= 210; start++) {
        for (int64_t end = start; end <= 211; end++) {
            struct ArrowArrayStream stream;
            struct ArrowArray array;
            int64_t wanted = start;
            CHECK(sl_log_arrow_stream(log, start, end, &stream) == SL_OK);
            while (stream.get_next(&stream, &array) == 0 && array.release != NULL) {
                const int64_t *offsets = array.children[OFFSET]->buffers[1];
                for (int64_t row = 0; row < array.length; row++, wanted++) {
                    while (wanted % 100 >= 10) wanted++;
                    CHECK(offsets[row] == wanted);
                    CHECK(array.children[VALUE]->length == array.length);
                }
                array.release(&array);
            }
            while (wanted % 100 >= 10) wanted++;
            CHECK(wanted >= end || wanted > 209);
            CHECK(wanted <= end || wanted % 100 == 0 || wanted == start);
            stream.release(&stream);
        }
    }
    CHECK(pinned_bytes(log) == 0);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

/* Keys that are null for a while: no views at first, then all at once, for every array length. */
static void test_late_keys(void) {
    sl_log *log = open_log(1 << 20);
    uint8_t value = 'v';
    for (int i = 0; i < 100; i++) CHECK(sl_log_append_value(log, &value, 1) == i);
    for (int i = 0; i < 3; i++) {
        int32_t one = 1;
        sl_records records = {.count = 1,
                              .values = &value,
                              .value_bytes = &one,
                              .keys = &value,
                              .key_bytes = &one,
                              .timestamp_ms = 7,
                              .codec_level = INT32_MIN,
                              .leader_epoch = -1,
                              .producer_epoch = -1,
                              .base_sequence = -1,
                              .producer_id = -1};
        CHECK(sl_log_append(log, &records) == 100 + i);
    }
    for (int32_t rows_max = 1; rows_max <= 104; rows_max++) {
        sl_arrow_request request = {.start_offset = 0, .end_offset = -1, .rows_max = rows_max};
        struct ArrowArrayStream stream;
        struct ArrowArray array;
        CHECK(sl_log_arrow_stream_as(log, &request, &stream) == SL_OK);
        int64_t offset = 0;
        while (stream.get_next(&stream, &array) == 0 && array.release != NULL) {
            struct ArrowArray *keys = array.children[KEY];
            int64_t nulls = 0;
            for (int64_t row = 0; row < array.length; row++, offset++) {
                check_cell(keys, SL_ARROW_VIEW, row, &value, offset < 100 ? -1 : 1);
                check_cell(array.children[VALUE], SL_ARROW_VIEW, row, &value, 1);
                nulls += offset < 100;
            }
            CHECK(keys->null_count == nulls);
            array.release(&array);
        }
        CHECK(offset == 103);
        stream.release(&stream);
    }
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

/* A codec that only marks its work: decompressed batches live in memory of their own. */
static int mark(int32_t codec, int32_t level, const uint8_t *in, size_t in_bytes, sl_buffer *out) {
    (void)codec;
    (void)level;
    if (sl_buffer_reserve(out, in_bytes + 1) != SL_OK) return 1;
    out->data[0] = 0x5a;
    memcpy(out->data + 1, in, in_bytes);
    out->bytes = in_bytes + 1;
    return 0;
}

static int unmark(int32_t codec, const uint8_t *in, size_t in_bytes, size_t limit_bytes,
                  sl_buffer *out) {
    (void)codec;
    if (in_bytes < 1 || in[0] != 0x5a || in_bytes - 1 > limit_bytes) return 1;
    if (sl_buffer_reserve(out, in_bytes) != SL_OK) return 1;
    memcpy(out->data, in + 1, in_bytes - 1);
    out->bytes = in_bytes - 1;
    return 0;
}

/* Small compressed batches between plain ones: blocks become buffers of one array. */
static void test_compressed(void) {
    CHECK(sl_codec_register(SL_CODEC_ZSTD, mark, unmark) == SL_OK);
    sl_log *log = open_log(1 << 20);
    for (int i = 0; i < 40; i++) append(log, 50, 50, i % 3 == 0 ? SL_CODEC_NONE : SL_CODEC_ZSTD);
    struct ArrowArrayStream stream;
    CHECK(sl_log_arrow_stream(log, 0, -1, &stream) == SL_OK);
    struct ArrowArray array;
    CHECK(stream.get_next(&stream, &array) == 0);
    CHECK(array.length == 2000);
    CHECK(array.children[VALUE]->n_buffers > 20);
    CHECK(check_array(&array, 0, 0, 0) == 2000);
    array.release(&array);
    CHECK(drain(&stream, 0, 0, 2000) == 2000);
    CHECK(pinned_bytes(log) == 0);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

/* Children and arrays outlive parent, stream and log, in any order. */
static void test_lifetimes(void) {
    sl_log *log = open_log(32 << 10);
    append(log, 40000, 250, SL_CODEC_NONE);
    struct ArrowArrayStream stream;
    struct ArrowArray array;

    CHECK(sl_log_arrow_stream(log, 0, -1, &stream) == SL_OK);
    stream.release(&stream); /* nothing read */
    CHECK(pinned_bytes(log) == 0);

    CHECK(sl_log_arrow_stream(log, 0, -1, &stream) == SL_OK);
    CHECK(stream.get_next(&stream, &array) == 0);
    struct ArrowArray offsets = *array.children[OFFSET];
    struct ArrowArray values = *array.children[VALUE];
    array.children[OFFSET]->release = NULL;
    array.children[VALUE]->release = NULL;
    int64_t rows = array.length;
    array.release(&array);
    CHECK(pinned_bytes(log) > 0);
    expected record;
    for (int64_t i = 0; i < rows; i++) {
        expect(i, &record);
        check_cell(&values, SL_ARROW_VIEW, i, record.value, record.value_bytes);
    }
    values.release(&values);
    CHECK(pinned_bytes(log) == 0); /* offsets hold no pin */
    CHECK(((const int64_t *)offsets.buffers[1])[rows - 1] == rows - 1);
    offsets.release(&offsets);

    /* The log goes first: the array stays, the stream says so. */
    CHECK(stream.get_next(&stream, &array) == 0 && array.release != NULL);
    int64_t first = ((const int64_t *)array.children[OFFSET]->buffers[1])[0];
    struct ArrowArrayStream finished;
    struct ArrowArray none;
    CHECK(sl_log_arrow_stream(log, 5, 5, &finished) == SL_OK);
    CHECK(finished.get_next(&finished, &none) == 0 && none.release == NULL);
    CHECK(sl_log_truncate_prefix(log, 39990) == SL_OK);
    CHECK(sl_log_arrow_cut(log) == 2);
    CHECK(sl_log_arrow_cut(log) == 0);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
    CHECK(check_array(&array, 0, 0, first) == first + array.length);
    CHECK(stream.get_next(&stream, &none) == ECANCELED && none.release == NULL);
    const char *text = stream.get_last_error(&stream);
    CHECK(text != NULL && strstr(text, "closed") != NULL);
    struct ArrowSchema schema;
    CHECK(stream.get_schema(&stream, &schema) == 0);
    schema.release(&schema);
    stream.release(&stream);
    CHECK(finished.get_next(&finished, &none) == 0 && none.release == NULL);
    finished.release(&finished);
    CHECK(check_array(&array, 0, 0, first) == first + array.length);
    array.release(&array);
}

/* Armed on the testing thread alone: the log's own threads go on undisturbed. */
static _Thread_local bool armed;
static _Thread_local long allocations_left;

static bool refuse(void) { return armed && allocations_left-- <= 0; }
static void *failing_allocate(size_t bytes) { return refuse() ? NULL : sl_os_real.allocate(bytes); }
static void *failing_allocate_zeroed(size_t bytes) {
    return refuse() ? NULL : sl_os_real.allocate_zeroed(bytes);
}
static void *failing_reallocate(void *old, size_t bytes) {
    return refuse() ? NULL : sl_os_real.reallocate(old, bytes);
}

/* Each allocation of a read fails in turn; the next try goes on where the failed one began. */
static void test_memory(void) {
    CHECK(sl_codec_register(SL_CODEC_ZSTD, mark, unmark) == SL_OK);
    sl_log *log = open_log(1 << 20);
    for (int i = 0; i < 20; i++) append(log, 50, 50, i % 2 == 0 ? SL_CODEC_NONE : SL_CODEC_ZSTD);
    long fired = 0;
    for (int32_t form = 0; form < 3; form++) {
        for (long nth = 0;; nth++) {
            sl_arrow_request request = {.start_offset = 0,
                                        .end_offset = -1,
                                        .key_form = form,
                                        .value_form = form,
                                        .rows_max = 300};
            struct ArrowArrayStream stream;
            struct ArrowArray array;
            int64_t next = 0;
            bool failed = false;
            allocations_left = nth;
            armed = true;
            sl_status status = sl_log_arrow_stream_as(log, &request, &stream);
            if (status == SL_OK) {
                for (;;) {
                    int error = stream.get_next(&stream, &array);
                    if (error != 0) {
                        CHECK(!failed && error == ENOMEM);
                        failed = true;
                        fired++;
                        armed = false;
                        continue;
                    }
                    if (array.release == NULL) break;
                    next = check_array(&array, form, form, next);
                    array.release(&array);
                }
                stream.release(&stream);
                CHECK(next == 1000);
            } else {
                CHECK(status == SL_E_NO_MEMORY && stream.release == NULL);
                failed = true;
            }
            armed = false;
            CHECK(pinned_bytes(log) == 0);
            if (!failed) break;
        }
    }
    CHECK(fired > 30);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

typedef struct worker {
    sl_log *log;
    pthread_t thread;
    struct ArrowArrayStream stream;
    struct ArrowArray array;
    bool cut_seen;
} worker;

static void *drain_whole(void *argument) {
    worker *w = argument;
    for (int i = 0; i < 5; i++) {
        CHECK(sl_log_arrow_stream(w->log, 0, -1, &w->stream) == SL_OK);
        CHECK(drain(&w->stream, 0, 0, 0) == 20000);
    }
    return NULL;
}

static void *read_until_cut(void *argument) {
    worker *w = argument;
    struct ArrowArray array;
    for (;;) {
        if (w->stream.get_next(&w->stream, &array) != 0) {
            w->cut_seen = true;
            break;
        }
        if (array.release == NULL) break;
        array.release(&array);
    }
    w->stream.release(&w->stream);
    return NULL;
}

static void *release_it(void *argument) {
    worker *w = argument;
    w->array.release(&w->array);
    w->stream.release(&w->stream);
    return NULL;
}

/* Streams side by side, releases on foreign threads, and a cut while others read. */
static void test_threads(void) {
    enum { WORKERS = 4 };
    worker workers[WORKERS];
    sl_log *log = open_log(64 << 10);
    append(log, 20000, 100, SL_CODEC_NONE);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (worker){.log = log};
        pthread_create(&workers[i].thread, NULL, drain_whole, &workers[i]);
    }
    for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < WORKERS; i++) {
        CHECK(sl_log_arrow_stream(log, 0, -1, &workers[i].stream) == SL_OK);
        CHECK(workers[i].stream.get_next(&workers[i].stream, &workers[i].array) == 0);
        pthread_create(&workers[i].thread, NULL, release_it, &workers[i]);
    }
    for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
    CHECK(pinned_bytes(log) == 0);
    for (int i = 0; i < WORKERS; i++) {
        sl_arrow_request request = {.start_offset = 0, .end_offset = -1, .rows_max = 1};
        CHECK(sl_log_arrow_stream_as(log, &request, &workers[i].stream) == SL_OK);
        pthread_create(&workers[i].thread, NULL, read_until_cut, &workers[i]);
    }
    CHECK(sl_log_arrow_cut(log) <= WORKERS);
    CHECK(sl_log_close(log) == SL_OK);
    for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
    remove_directory();
}

/* A forked child cannot read, but may release, and does not harm the parent's stream. */
static void test_fork(void) {
    sl_log *log = open_log(1 << 20);
    append(log, 1000, 100, SL_CODEC_NONE);
    struct ArrowArrayStream stream;
    CHECK(sl_log_arrow_stream(log, 0, -1, &stream) == SL_OK);
    pid_t child = fork();
    if (child == 0) {
        struct ArrowArray array;
        int error = stream.get_next(&stream, &array);
        stream.release(&stream);
        _exit(error == ECANCELED && sl_log_arrow_cut(log) == 0 ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(drain(&stream, 0, 0, 0) == 1000);
    CHECK(sl_log_close(log) == SL_OK);
    remove_directory();
}

int main(void) {
    sl_os.allocate = failing_allocate; /* before the first log has threads */
    sl_os.allocate_zeroed = failing_allocate_zeroed;
    sl_os.reallocate = failing_reallocate;
    test_schema();
    test_refusals();
    test_ranges();
    test_forms();
    test_zero_copy();
    test_gaps();
    test_late_keys();
    test_compressed();
    test_lifetimes();
    test_memory();
    test_threads();
    test_fork();
    printf("test_arrow: %lu checks, %lu failures\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
