/* logkit.c -- see logkit.h.
 *
 * A record that is not the model's ends the test at once: nothing that follows would be worth reading,
 * and the state on disk stays as it was.  The model has its own sequence of random numbers, so that a
 * test which draws once more or less still meets the same log. */
#define _GNU_SOURCE
#include "logkit.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

#define KIT(condition, ...)                                                                        \
    do {                                                                                           \
        atomic_fetch_add(&check_count, 1);                                                         \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n  last error: %s: %s (%s)\n",                                       \
                    sl_status_name(sl_last_error()->status), sl_last_error()->message,             \
                    sl_last_error()->path);                                                        \
            check_give_up();                                                                       \
        }                                                                                          \
    } while (0)

static _Thread_local uint64_t kit_random_state = UINT64_C(0x5851F42D4C957F2D);

static int64_t below(int64_t limit) {
    return (int64_t)(check_mix(&kit_random_state) % (uint64_t)limit);
}

static void *grab(size_t bytes) {
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    if (memory == NULL) abort();
    return memory;
}

/* ---- the model ---- */

void kit_begin(kit_model *model, int64_t base_offset) {
    *model = (kit_model){.base_offset = base_offset,
                         .start_offset = base_offset,
                         .end_offset = base_offset,
                         .clock_ms = 1700000000000};
}

void kit_free(kit_model *model) {
    free(model->records);
    *model = (kit_model){0};
}

void kit_cut(kit_model *model, int64_t end_offset) { model->end_offset = end_offset; }

const kit_record *kit_at(const kit_model *model, int64_t offset) {
    KIT(offset >= model->base_offset && offset < model->end_offset,
        "offset %" PRId64 " is not in the model's [%" PRId64 ", %" PRId64 ")", offset,
        model->base_offset, model->end_offset);
    return &model->records[offset - model->base_offset];
}

void kit_copy(kit_model *to, const kit_model *from) {
    free(to->records);
    *to = *from;
    int64_t count = from->end_offset - from->base_offset;
    to->capacity = count;
    to->records = grab((size_t)count * sizeof *to->records);
    if (count > 0) memcpy(to->records, from->records, (size_t)count * sizeof *to->records);
}

static void push(kit_model *model, const kit_record *record) {
    int64_t count = model->end_offset - model->base_offset;
    if (count == model->capacity) {
        model->capacity = model->capacity * 2 + 256;
        model->records = realloc(model->records, (size_t)model->capacity * sizeof *model->records);
        if (model->records == NULL) abort();
    }
    model->records[count] = *record;
    model->end_offset++;
}

uint8_t kit_byte(uint32_t serial, char kind, int32_t at) {
    uint32_t x = (serial * 0x9E3779B1u) ^ ((uint32_t)at * 0x85EBCA77u) ^ (uint32_t)(uint8_t)kind;
    x ^= x >> 15;
    x *= 0x2C1B3C6Du;
    return (uint8_t)(x >> 13);
}

int32_t kit_headers(uint32_t serial, int32_t count, uint8_t *out) {
    uint8_t *p = out;
    for (int32_t i = 0; i < count; i++) {
        int32_t key_bytes = 1 + (int32_t)(serial + (uint32_t)i) % 5;
        int32_t value_bytes = (int32_t)(serial + (uint32_t)i) % 9 - 1;
        *p++ = (uint8_t)(key_bytes << 1);
        for (int32_t k = 0; k < key_bytes; k++) *p++ = (uint8_t)('a' + (serial + (uint32_t)k) % 26);
        *p++ = (uint8_t)(value_bytes < 0 ? 1 : value_bytes << 1);
        for (int32_t k = 0; k < value_bytes; k++) *p++ = kit_byte(serial, 'h', k);
    }
    return (int32_t)(p - out);
}

/* ---- appending ---- */

int64_t kit_append(sl_log *log, kit_model *model, const kit_shape *shape) {
    size_t count = (size_t)shape->count;
    bool keyed = !shape->plain && below(3) > 0;
    bool headed = !shape->plain && below(3) == 0;
    bool timed = !shape->plain && below(4) > 0;
    kit_record *drawn = grab(count * sizeof *drawn);
    int32_t *lengths = grab(count * 4 * sizeof *lengths);
    int32_t *key_lengths = lengths + count;
    int32_t *header_lengths = key_lengths + count;
    int32_t *header_counts = header_lengths + count;
    int64_t *times = grab(count * sizeof *times);
    size_t value_total = 0;
    size_t key_total = 0;
    model->clock_ms += below(20);
    for (size_t i = 0; i < count; i++) {
        kit_record *r = &drawn[i];
        r->serial = model->next_serial++;
        r->value_bytes = below(15) == 0 ? -1 : (int32_t)below(shape->value_bytes_max + 1);
        r->key_bytes = keyed && below(5) > 0 ? (int32_t)below(20) : -1;
        r->headers_count = headed ? (int32_t)below(4) : 0;
        /* Time mostly goes on; now and then it jumps ahead and stays behind that for a while. */
        if (timed) model->clock_ms += below(40) == 0 ? below(2000) : below(7) - 3;
        r->timestamp_ms = model->clock_ms;
        lengths[i] = r->value_bytes;
        key_lengths[i] = r->key_bytes;
        times[i] = r->timestamp_ms;
        value_total += r->value_bytes > 0 ? (size_t)r->value_bytes : 0;
        key_total += r->key_bytes > 0 ? (size_t)r->key_bytes : 0;
    }
    uint8_t *values = grab(value_total);
    uint8_t *keys = grab(key_total);
    uint8_t *headers = grab(count * 3 * 32);
    uint8_t *value = values;
    uint8_t *key = keys;
    uint8_t *header = headers;
    for (size_t i = 0; i < count; i++) {
        for (int32_t k = 0; k < drawn[i].value_bytes; k++)
            *value++ = kit_byte(drawn[i].serial, 'v', k);
        for (int32_t k = 0; k < drawn[i].key_bytes; k++) *key++ = kit_byte(drawn[i].serial, 'k', k);
        header_counts[i] = drawn[i].headers_count;
        header_lengths[i] = kit_headers(drawn[i].serial, drawn[i].headers_count, header);
        header += header_lengths[i];
    }
    sl_records records = {.count = shape->count,
                          .values = values,
                          .value_bytes = lengths,
                          .keys = keyed ? keys : NULL,
                          .key_bytes = keyed ? key_lengths : NULL,
                          .headers = headed ? headers : NULL,
                          .headers_bytes = headed ? header_lengths : NULL,
                          .headers_count = headed ? header_counts : NULL,
                          .timestamps_ms = timed ? times : NULL,
                          .timestamp_ms = model->clock_ms,
                          .codec = shape->codec,
                          .codec_level = INT32_MIN,
                          .leader_epoch = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .one_batch = shape->one_batch,
                          .producer_id = -1};
    int64_t result = sl_log_append(log, &records);
    KIT(result < 0 || (result == model->end_offset && records.out_appended_count == shape->count),
        "appended at %" PRId64 ", %" PRId64 " records, expected %" PRId64, result,
        records.out_appended_count, model->end_offset);
    for (int64_t i = 0; i < records.out_appended_count; i++) push(model, &drawn[i]);
    free(drawn);
    free(lengths);
    free(times);
    free(values);
    free(keys);
    free(headers);
    return result;
}

int64_t kit_append_some(sl_log *log, kit_model *model, int64_t count) {
    kit_shape shape = {
        .count = count, .value_bytes_max = 60, .one_batch = below(4) == 0, .plain = below(3) == 0};
    return kit_append(log, model, &shape);
}

/* ---- comparing ---- */

void kit_rows_begin(kit_rows *rows, int64_t capacity) {
    size_t n = (size_t)capacity;
    *rows = (kit_rows){.offsets = grab(n * sizeof *rows->offsets),
                       .timestamps_ms = grab(n * sizeof *rows->timestamps_ms),
                       .ints = grab(n * 6 * sizeof *rows->ints)};
    rows->columns = (sl_columns){.capacity = capacity,
                                 .offsets = rows->offsets,
                                 .timestamps_ms = rows->timestamps_ms,
                                 .key_start = rows->ints,
                                 .key_end = rows->ints + n,
                                 .value_start = rows->ints + 2 * n,
                                 .value_end = rows->ints + 3 * n,
                                 .headers_start = rows->ints + 4 * n,
                                 .headers_count = rows->ints + 5 * n};
}

void kit_rows_free(kit_rows *rows) {
    free(rows->offsets);
    free(rows->timestamps_ms);
    free(rows->ints);
}

bool kit_row_equals(const kit_model *model, const sl_columns *columns, int64_t i) {
    int64_t offset = columns->offsets[i];
    if (offset < model->base_offset || offset >= model->end_offset) return false;
    const kit_record *want = &model->records[offset - model->base_offset];
    if (columns->timestamps_ms[i] != want->timestamp_ms) return false;
    int32_t key_bytes = columns->key_end[i] < 0 ? -1 : columns->key_end[i] - columns->key_start[i];
    int32_t value_bytes =
        columns->value_end[i] < 0 ? -1 : columns->value_end[i] - columns->value_start[i];
    if (key_bytes != want->key_bytes || value_bytes != want->value_bytes) return false;
    if (columns->key_end[i] > columns->base_bytes || columns->value_end[i] > columns->base_bytes)
        return false;
    for (int32_t k = 0; k < key_bytes; k++)
        if (columns->base[columns->key_start[i] + k] != kit_byte(want->serial, 'k', k))
            return false;
    for (int32_t k = 0; k < value_bytes; k++)
        if (columns->base[columns->value_start[i] + k] != kit_byte(want->serial, 'v', k))
            return false;
    if (columns->headers_count[i] != want->headers_count) return false;
    uint8_t headers[128];
    int32_t headers_bytes = kit_headers(want->serial, want->headers_count, headers);
    if (columns->headers_start[i] + headers_bytes > columns->base_bytes) return false;
    return headers_bytes == 0 ||
           memcmp(columns->base + columns->headers_start[i], headers, (size_t)headers_bytes) == 0;
}

/* Read on from where the cursor stands; stops at the end or at a failure, whose value it returns. */
static int64_t read_on(sl_cursor *cursor, const kit_model *model, int64_t capacity, int64_t *offset,
                       bool gaps_allowed) {
    kit_rows rows;
    kit_rows_begin(&rows, capacity);
    int64_t n;
    while ((n = sl_cursor_next(cursor, &rows.columns)) > 0) {
        int64_t nulls[3] = {0};
        KIT(n == rows.columns.count && rows.columns.pin != NULL, "%" PRId64 " records", n);
        for (int64_t i = 0; i < n; i++) {
            KIT(rows.offsets[i] >= *offset && (gaps_allowed || rows.offsets[i] == *offset),
                "offset %" PRId64 " came where %" PRId64 " was due", rows.offsets[i], *offset);
            KIT(rows.offsets[i] >= model->start_offset, "offset %" PRId64 " is below the log start",
                rows.offsets[i]);
            KIT(kit_row_equals(model, &rows.columns, i),
                "record %" PRId64 " is not the one appended", rows.offsets[i]);
            const kit_record *want = kit_at(model, rows.offsets[i]);
            nulls[0] += want->key_bytes < 0;
            nulls[1] += want->value_bytes < 0;
            nulls[2] += want->headers_count > 0;
            *offset = rows.offsets[i] + 1;
        }
        KIT(nulls[0] == rows.columns.null_keys && nulls[1] == rows.columns.null_values &&
                nulls[2] == rows.columns.with_headers,
            "the run's counts of nulls and headers are wrong");
        KIT(rows.columns.next_offset >= *offset && sl_cursor_next_offset(cursor) >= *offset,
            "next offset %" PRId64, rows.columns.next_offset);
        sl_pin_release(rows.columns.pin);
    }
    kit_rows_free(&rows);
    return n;
}

int64_t kit_check_cursor(sl_log *log, const kit_model *model, int64_t from, int64_t capacity) {
    sl_cursor *cursor;
    KIT(sl_cursor_open(log, from, 0, &cursor) == SL_OK, "opening at %" PRId64, from);
    int64_t offset = from;
    int64_t n = read_on(cursor, model, capacity, &offset, false);
    KIT(n == 0, "reading ended with %" PRId64 " at %" PRId64, n, offset);
    KIT(offset == model->end_offset, "reading from %" PRId64 " ended at %" PRId64 " of %" PRId64,
        from, offset, model->end_offset);
    sl_cursor_close(cursor);
    return offset - from;
}

int64_t kit_read_prefix(sl_log *log, const kit_model *model, int32_t flags, sl_status *out_status) {
    sl_cursor *cursor;
    int64_t offset = sl_log_start_offset(log);
    *out_status = sl_cursor_open(log, offset, flags, &cursor);
    if (*out_status != SL_OK) return offset;
    int64_t n = read_on(cursor, model, 7, &offset, (flags & SL_READ_SKIP_CORRUPT) != 0);
    *out_status = (sl_status)-n;
    sl_cursor_close(cursor);
    return offset;
}

void kit_check_batches(sl_log *log, const kit_model *model) {
    sl_cursor *cursor;
    KIT(sl_cursor_open(log, model->start_offset, 0, &cursor) == SL_OK, "opening");
    int64_t expected = model->start_offset;
    sl_batch_view view;
    int64_t n;
    while ((n = sl_cursor_next_batch(cursor, &view)) > 0) {
        sl_batch_header header;
        KIT(sl_batch_check(view.data, (size_t)view.header.batch_bytes, SL_CHECK_RECORDS, &header) ==
                SL_OK,
            "the batch at %" PRId64 " is not sound", view.position);
        KIT(header.base_offset == expected ||
                (header.base_offset < expected && expected == model->start_offset),
            "batch %" PRId64 " came where %" PRId64 " was due", header.base_offset, expected);
        KIT(header.last_offset >= expected && view.segment_base_offset <= header.base_offset,
            "batch %" PRId64, header.base_offset);
        expected = header.last_offset + 1;
        sl_pin_release(view.pin);
    }
    KIT(n == 0 && expected == model->end_offset, "batches end at %" PRId64, expected);
    sl_cursor_close(cursor);
}

void kit_check_gets(sl_log *log, const kit_model *model) {
    kit_rows rows;
    kit_rows_begin(&rows, 1);
    for (int64_t offset = model->start_offset; offset < model->end_offset; offset++) {
        KIT(sl_log_get(log, offset, &rows.columns) == 1, "offset %" PRId64, offset);
        KIT(rows.offsets[0] == offset && kit_row_equals(model, &rows.columns, 0),
            "record %" PRId64 " is not the one appended", offset);
        KIT(rows.columns.next_offset == offset + 1, "next is %" PRId64, rows.columns.next_offset);
        sl_pin_release(rows.columns.pin);
    }
    KIT(sl_log_get(log, model->end_offset, &rows.columns) == -SL_E_OUT_OF_RANGE, "the end");
    KIT(sl_log_get(log, model->start_offset - 1, &rows.columns) == -SL_E_OUT_OF_RANGE, "the start");
    kit_rows_free(&rows);
}

void kit_check_lookups(sl_log *log, const kit_model *model, int64_t count) {
    size_t n = (size_t)count;
    int64_t *offsets = grab(n * sizeof *offsets);
    int64_t *times = grab(n * sizeof *times);
    int32_t *key_bytes = grab(n * sizeof *key_bytes);
    int32_t *value_bytes = grab(n * sizeof *value_bytes);
    int64_t span = model->end_offset - model->start_offset;
    int64_t present = 0;
    for (size_t i = 0; i < n; i++) {
        offsets[i] = model->start_offset - 2 + below(span + 4);
        present += offsets[i] >= model->start_offset && offsets[i] < model->end_offset;
    }
    sl_buffer out = {0};
    int64_t found = sl_log_lookup_many(log, offsets, count, times, key_bytes, value_bytes, &out);
    KIT(found == present, "found %" PRId64 " of %" PRId64, found, present);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (offsets[i] < model->start_offset || offsets[i] >= model->end_offset) {
            KIT(key_bytes[i] == -2 && value_bytes[i] == -2, "offset %" PRId64, offsets[i]);
            continue;
        }
        const kit_record *want = kit_at(model, offsets[i]);
        KIT(key_bytes[i] == want->key_bytes && value_bytes[i] == want->value_bytes &&
                times[i] == want->timestamp_ms,
            "offset %" PRId64, offsets[i]);
        for (int32_t k = 0; k < key_bytes[i]; k++)
            KIT(out.data[at++] == kit_byte(want->serial, 'k', k), "key of %" PRId64, offsets[i]);
        for (int32_t k = 0; k < value_bytes[i]; k++)
            KIT(out.data[at++] == kit_byte(want->serial, 'v', k), "value of %" PRId64, offsets[i]);
    }
    KIT(at == out.bytes, "%zu bytes of %zu", at, out.bytes);
    sl_buffer_free(&out);
    free(offsets);
    free(times);
    free(key_bytes);
    free(value_bytes);
}

void kit_check_ranges(sl_log *log, const kit_model *model, int64_t tries) {
    int64_t span = model->end_offset - model->start_offset;
    for (int64_t i = 0; i < tries && span > 0; i++) {
        int64_t from = model->start_offset + below(span);
        int64_t to = below(3) == 0 ? INT64_MAX : from + below(span + 2);
        int64_t max_bytes = below(2) == 0 ? below(300) : below(20000);
        sl_batch_view view;
        int64_t bytes = sl_log_read_range(log, from, to, max_bytes, &view);
        KIT(bytes >= 0, "range from %" PRId64, from);
        int64_t last = from - 1;
        int64_t at = 0;
        int64_t count = 0;
        while (at < bytes) {
            sl_batch_header header;
            KIT(sl_batch_check(view.data + at, (size_t)(bytes - at), SL_CHECK_RECORDS, &header) ==
                    SL_OK,
                "batch at %" PRId64 " of the range", at);
            if (count == 0) {
                KIT(header.base_offset <= from && header.last_offset >= from &&
                        view.header.base_offset == header.base_offset,
                    "the range from %" PRId64 " begins with [%" PRId64 ", %" PRId64 "]", from,
                    header.base_offset, header.last_offset);
            } else {
                KIT(header.base_offset == last + 1, "base offset %" PRId64, header.base_offset);
            }
            last = header.last_offset;
            at += header.batch_bytes;
            count++;
        }
        KIT(at == bytes && (count <= 1 || bytes <= max_bytes), "%" PRId64 " bytes of %" PRId64,
            bytes, max_bytes);
        KIT(last < to, "last offset %" PRId64 " is not below %" PRId64, last, to);
        KIT(count > 0 || to < INT64_MAX, "an empty range from %" PRId64, from);
        sl_pin_release(view.pin);
    }
}

int64_t kit_offset_for_timestamp(const kit_model *model, int64_t timestamp_ms) {
    for (int64_t offset = model->start_offset; offset < model->end_offset; offset++)
        if (kit_at(model, offset)->timestamp_ms >= timestamp_ms) return offset;
    return -1;
}

static void check_time(sl_log *log, const kit_model *model, int64_t timestamp_ms) {
    int64_t want = kit_offset_for_timestamp(model, timestamp_ms);
    int64_t timestamp = -1;
    int64_t got = sl_log_offset_for_timestamp(log, timestamp_ms, &timestamp);
    if (want < 0) {
        KIT(got == -SL_E_NOT_FOUND, "time %" PRId64 ": got %" PRId64, timestamp_ms, got);
    } else {
        KIT(got == want, "time %" PRId64 ": got %" PRId64 ", want %" PRId64, timestamp_ms, got,
            want);
        KIT(timestamp == kit_at(model, want)->timestamp_ms, "time %" PRId64, timestamp);
    }
}

void kit_check_times(sl_log *log, const kit_model *model, int64_t tries) {
    int64_t span = model->end_offset - model->start_offset;
    check_time(log, model, 0);
    check_time(log, model, INT64_MAX);
    for (int64_t i = 0; i < tries && span > 0; i++) {
        int64_t offset = model->start_offset + below(span);
        check_time(log, model, kit_at(model, offset)->timestamp_ms + below(5) - 2);
    }
}

void kit_check_verified(sl_log *log) {
    int64_t segments = sl_log_segment_count(log);
    for (int64_t i = 0; i < segments; i++) {
        static _Thread_local sl_problem problems[4];
        int64_t batches;
        int64_t records;
        int64_t n = sl_log_verify_segment(log, i, problems, 4, &batches, &records);
        KIT(n == 0, "segment %" PRId64 ": %" PRId64 " problems, first: %s (%s at %" PRId64 ")", i,
            n, n > 0 ? problems[0].message : "", n > 0 ? problems[0].path : "",
            n > 0 ? problems[0].position : -1);
    }
}

void kit_check_equal(sl_log *log, const kit_model *model) {
    KIT(sl_log_start_offset(log) == model->start_offset, "log start is %" PRId64 ", not %" PRId64,
        sl_log_start_offset(log), model->start_offset);
    KIT(sl_log_end_offset(log) == model->end_offset, "log end is %" PRId64 ", not %" PRId64,
        sl_log_end_offset(log), model->end_offset);
    kit_check_cursor(log, model, model->start_offset, 64);
    kit_check_batches(log, model);
    kit_check_gets(log, model);
    kit_check_lookups(log, model, 20);
    kit_check_ranges(log, model, 10);
    kit_check_times(log, model, 10);
    kit_check_verified(log);
}

/* ---- files ---- */

static const char *join(char out[1024], const char *directory, const char *name) {
    snprintf(out, 1024, "%s/%s", directory, name);
    return out;
}

kit_file kit_read(const char *directory, const char *name) {
    char path[1024];
    kit_file file = {.bytes = -1};
    int fd = open(join(path, directory, name), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file;
    struct stat st;
    KIT(fstat(fd, &st) == 0, "%s", path);
    file.data = grab((size_t)st.st_size);
    file.bytes = read(fd, file.data, (size_t)st.st_size);
    KIT(file.bytes == st.st_size, "%s", path);
    close(fd);
    return file;
}

void kit_write(const char *directory, const char *name, const void *data, int64_t bytes) {
    char path[1024];
    int fd = open(join(path, directory, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    KIT(fd >= 0 && write(fd, data, (size_t)bytes) == bytes, "%s", path);
    close(fd);
}

int64_t kit_bytes(const char *directory, const char *name) {
    char path[1024];
    struct stat st;
    return stat(join(path, directory, name), &st) == 0 ? (int64_t)st.st_size : -1;
}

bool kit_exists(const char *directory, const char *name) { return kit_bytes(directory, name) >= 0; }

void kit_unlink(const char *directory, const char *name) {
    char path[1024];
    KIT(unlink(join(path, directory, name)) == 0, "%s", path);
}

void kit_copy_directory(const char *from, const char *to) {
    check_remove_tree(to);
    KIT(mkdir(to, 0755) == 0, "%s", to);
    DIR *directory = opendir(from);
    KIT(directory != NULL, "%s", from);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        kit_file file = kit_read(from, entry->d_name);
        kit_write(to, entry->d_name, file.data, file.bytes);
        free(file.data);
    }
    closedir(directory);
}

const char *kit_segment(char out[64], int64_t base_offset, const char *suffix) {
    snprintf(out, 64, "%020" PRId64 "%s", base_offset, suffix);
    return out;
}

sl_options kit_options(int32_t flags, int64_t segment_bytes) {
    sl_options options;
    sl_options_default(&options);
    options.flags = flags;
    options.segment_bytes = segment_bytes;
    options.index_interval_bytes = 256;
    options.batch_bytes = 400;
    return options;
}
