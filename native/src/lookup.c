/* lookup.c -- single records by offset or time, and blocks of batches for a fetch.
 *
 *   offset -> segment (binary search over base offsets)
 *          -> position (binary search in .index, then at most index_interval_bytes of headers)
 *          -> record   (walk of the batch, a length at a time)
 *
 * A batch's CRC is checked when this handle meets it for the first time.  Walking dominates (half of a
 * 64 KiB batch of 100-byte records is 300 lengths), so marks.c remembers where some records of a
 * batch begin, and the last compressed batch stays unpacked. */
#define _GNU_SOURCE
#include <errno.h>

#include "internal.h"
#include "marks.h"

/* A larger batch is unpacked again for each lookup rather than kept. */
enum { UNPACKED_BYTES_MAX = 4 << 20 };

/* A batch found for a lookup: its records, plain. */
typedef struct found_batch {
    sl_segment *segment; /* retained */
    int64_t position;
    sl_batch_header header;
    const uint8_t *records;
    const uint8_t *end;
    sl_pin *unpacked; /* owner of decompressed records; NULL when the batch is not compressed */
} found_batch;

static void found_free(found_batch *found) {
    sl_segment_release(found->segment);
    sl_pin_release(found->unpacked);
    *found = (found_batch){0};
}

static sl_status batch_fault(const found_batch *found, sl_status status, const char *fault) {
    char name[SL_NAME_BYTES];
    sl_segment_name(found->segment->base_offset, ".log", name);
    return sl_fail(status, 0, found->segment->place->path, name, found->header.base_offset,
                   found->position, "damaged record batch: %s", fault);
}

/* Decompress the records of found, or take them from the last lookup. */
static sl_status unpack(sl_log *log, found_batch *found, int32_t codec, const uint8_t *records,
                        size_t bytes) {
    pthread_mutex_lock(&log->unpacked_mutex);
    if (log->unpacked != NULL && log->unpacked_segment_id == found->segment->id &&
        log->unpacked_position == found->position) {
        found->unpacked = log->unpacked;
        sl_pin_retain(found->unpacked);
    }
    pthread_mutex_unlock(&log->unpacked_mutex);
    if (found->unpacked != NULL) return SL_OK;
    sl_buffer plain = {0};
    sl_status status = sl_codec_decompress(codec, records, bytes,
                                           (size_t)log->options.decompressed_bytes_max, &plain);
    if (status == SL_OK) {
        found->unpacked = sl_pin_new(NULL, found->segment->place, plain.data, (int64_t)plain.bytes);
        if (found->unpacked == NULL) status = sl_fail_memory("reading a compressed batch");
    }
    if (status != SL_OK) {
        sl_buffer_free(&plain);
        return status;
    }
    if (found->unpacked->bytes > UNPACKED_BYTES_MAX) return SL_OK;
    sl_pin_retain(found->unpacked);
    pthread_mutex_lock(&log->unpacked_mutex);
    sl_pin *previous = log->unpacked;
    log->unpacked = found->unpacked;
    log->unpacked_segment_id = found->segment->id;
    log->unpacked_position = found->position;
    pthread_mutex_unlock(&log->unpacked_mutex);
    sl_pin_release(previous);
    return SL_OK;
}

/* Check the batch at found->position and lay its records open. */
static sl_status open_found(sl_log *log, found_batch *found, int64_t tail, int64_t expected) {
    sl_segment *segment = found->segment;
    sl_status status = sl_segment_header_at(segment, found->position, tail, &found->header);
    if (status != SL_OK) return status;
    int64_t end = found->position + found->header.batch_bytes + SL_BATCH_OVERHEAD;
    bool known = sl_segment_is_verified(segment, found->position);
    const char *fault = NULL;
    if (SL_UNLIKELY(!known || found->header.base_offset != expected))
        status = sl_segment_guard(segment, found->position, end < tail ? end : tail, false);
    if (status != SL_OK) return status;
    /* The CRC does not cover the base offset: where it stands decides, also when it was checked. */
    if (SL_UNLIKELY(found->header.base_offset != expected))
        fault = sl_segment_order_fault(segment, found->position, &found->header, tail, expected,
                                       sl_log_segment_end(log, segment->base_offset));
    if (fault == NULL && !known &&
        !sl_batch_crc_matches(segment->map + found->position, &found->header))
        fault = "CRC-32C mismatch";
    if (fault != NULL) return batch_fault(found, SL_E_CORRUPT, fault);
    if (!known) sl_segment_set_verified(segment, found->position);
    found->records = segment->map + found->position + SL_BATCH_OVERHEAD;
    size_t bytes = (size_t)found->header.batch_bytes - SL_BATCH_OVERHEAD;
    int32_t codec = found->header.attributes & SL_ATTRIBUTE_CODEC_MASK;
    if (codec != SL_CODEC_NONE && found->header.record_count > 0) {
        status = unpack(log, found, codec, found->records, bytes);
        if (status != SL_OK) return status;
        found->records = found->unpacked->owned;
        bytes = (size_t)found->unpacked->bytes;
    }
    found->end = found->records + bytes;
    return SL_OK;
}

static sl_status check_range(sl_log *log, int64_t offset) {
    for (int tries = 0;; tries++) {
        int64_t start_offset = sl_log_start_offset(log);
        int64_t end_offset = sl_log_end_offset(log);
        if (SL_LIKELY(offset >= start_offset && offset < end_offset)) return SL_OK;
        if (tries > 0 || !log->read_only || sl_reader_refresh(log) != SL_OK)
            return sl_fail(SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, offset, -1,
                           "offset %lld is outside this log, which holds [%lld, %lld)",
                           (long long)offset, (long long)start_offset, (long long)end_offset);
    }
}

/* The first batch with records at or beyond `offset`. */
static sl_status find_batch(sl_log *log, int64_t offset, found_batch *found) {
    found->segment = sl_log_segment_for(log, offset);
    if (found->segment == NULL)
        return sl_fail(SL_E_NOT_FOUND, 0, log->place->path, NULL, offset, -1,
                       "the log has no segment");
    for (;;) {
        sl_status status = sl_segment_load(found->segment);
        int64_t expected = 0;
        if (status == SL_OK)
            status = sl_segment_find_offset(found->segment, offset, &found->position, &expected);
        if (status != SL_OK) return status;
        int64_t tail = atomic_load_explicit(&found->segment->tail, memory_order_acquire);
        while (found->position < tail) {
            status = open_found(log, found, tail, expected);
            if (status != SL_OK) return status;
            if (found->header.record_count > 0) return SL_OK;
            expected = found->header.last_offset + 1; /* emptied by compaction */
            found->position += found->header.batch_bytes;
        }
        sl_segment *next = sl_log_segment_after(log, found->segment->base_offset);
        if (next == NULL)
            return sl_fail(SL_E_NOT_FOUND, 0, log->place->path, NULL, offset, -1,
                           "no record at or beyond offset %lld", (long long)offset);
        sl_segment_release(found->segment);
        found->segment = next;
    }
}

/* Step over record lengths alone until `skip` records are behind. */
static const uint8_t *skip_records(const uint8_t *p, const uint8_t *end, int64_t skip) {
    for (; skip > 0; skip--) {
        int32_t length;
        p = sl_get_varint(p, end, &length);
        if (SL_UNLIKELY(p == NULL || length < 0 || length > end - p)) return NULL;
        p += length;
        __builtin_prefetch(p + 512);
    }
    return p;
}

static sl_marks *marks_of(sl_log *log) {
    sl_marks *marks = atomic_load_explicit(&log->marks, memory_order_acquire);
    if (SL_LIKELY(marks != NULL)) return marks;
    marks = sl_os.allocate_zeroed(sizeof *marks);
    if (marks == NULL) return NULL; /* a cache: without it lookups are slower */
    sl_marks *other = NULL;
    if (atomic_compare_exchange_strong(&log->marks, &other, marks)) return marks;
    free(marks);
    return other;
}

/* The record with this number in a batch of dense offsets, by the marks of the batch, which are made
 * if there are none. */
static const uint8_t *seek_record(sl_log *log, const found_batch *found, int64_t number) {
    int32_t count = found->header.record_count;
    sl_marks *marks = count >= SL_MARKED_RECORDS_MIN ? marks_of(log) : NULL;
    if (marks == NULL) return skip_records(found->records, found->end, number);
    int32_t at[SL_MARKS];
    sl_marks_load(marks, found->segment->id, found->position, at);
    int64_t stride = sl_marks_stride(count);
    int64_t goal = number / stride;
    int64_t known = goal;
    while (at[known] < 0) known--;
    const uint8_t *p = found->records + at[known];
    if (p > found->end) return NULL;
    if (known == goal) return skip_records(p, found->end, number - goal * stride);
    while (known < goal) {
        p = skip_records(p, found->end, stride);
        if (p == NULL) return NULL;
        at[++known] = (int32_t)(p - found->records);
    }
    sl_marks_store(marks, found->segment->id, found->position, at);
    return skip_records(p, found->end, number - goal * stride);
}

/* The first record of the batch with an offset >= `offset`. 1, 0 when there is none, -1 malformed. */
static int find_record(sl_log *log, const found_batch *found, int64_t offset, sl_record_view *out) {
    const sl_batch_header *header = &found->header;
    const uint8_t *p = found->records;
    int64_t skip = offset - header->base_offset;
    int32_t left = header->record_count;
    if (skip > 0 && header->record_count == header->last_offset_delta + 1) {
        /* Dense offsets: the record's number in the batch is known. */
        if (skip >= left) return 0;
        p = seek_record(log, found, skip);
        if (p == NULL) return -1;
        left -= (int32_t)skip;
    }
    for (; left > 0; left--) {
        const uint8_t *next = sl_record_decode(p, found->end, out);
        if (next == NULL || (out->headers_count > 0 &&
                             !sl_record_headers_sound(out->headers, next, out->headers_count)))
            return -1;
        if (header->base_offset + out->offset_delta >= offset) return 1;
        p = next;
    }
    return 0;
}

static int64_t record_timestamp(const sl_batch_header *header, const sl_record_view *record) {
    return (header->attributes & SL_ATTRIBUTE_LOG_APPEND_TIME)
               ? header->max_timestamp_ms
               : header->base_timestamp_ms + record->timestamp_delta_ms;
}

/* Find the record at or beyond `offset`, in a later batch if need be. */
static sl_status find(sl_log *log, int64_t offset, found_batch *found, sl_record_view *out) {
    for (int64_t wanted = offset;;) {
        sl_status status = find_batch(log, wanted, found);
        if (status != SL_OK) return status;
        int rc = find_record(log, found, offset, out);
        if (SL_LIKELY(rc == 1)) return SL_OK;
        if (rc < 0)
            return batch_fault(found, SL_E_CORRUPT,
                               "a record runs over the end of its batch or is malformed");
        wanted = found->header.last_offset + 1;
        if (wanted >= sl_log_end_offset(log))
            return sl_fail(SL_E_NOT_FOUND, 0, log->place->path, NULL, offset, -1,
                           "no record at or beyond offset %lld", (long long)offset);
        found_free(found);
    }
}

static int64_t get_record(sl_log *log, int64_t offset, sl_columns *columns) {
    sl_status status = check_range(log, offset);
    if (SL_UNLIKELY(status != SL_OK)) return -(int64_t)status;
    columns->count = 0;
    columns->pin = NULL;
    found_batch found = {0};
    sl_record_view record;
    status = find(log, offset, &found, &record);
    if (SL_UNLIKELY(status != SL_OK)) {
        found_free(&found);
        return -(int64_t)status;
    }
    /* The run is this record alone: its key, value and headers, and what frames them. */
    const uint8_t *base = found.unpacked != NULL ? found.unpacked->owned : NULL;
    const uint8_t *first = record.key != NULL     ? record.key
                           : record.value != NULL ? record.value
                                                  : record.headers;
    const uint8_t *end = record.headers;
    if (record.headers_count > 0) end = found.end;
    if (base == NULL) base = first;
    columns->count = 1;
    columns->base = base;
    columns->base_bytes = end - base;
    columns->next_offset = found.header.base_offset + record.offset_delta + 1;
    columns->null_keys = record.key == NULL;
    columns->null_values = record.value == NULL;
    columns->with_headers = record.headers_count > 0;
    if (columns->offsets != NULL)
        columns->offsets[0] = found.header.base_offset + record.offset_delta;
    if (columns->timestamps_ms != NULL)
        columns->timestamps_ms[0] = record_timestamp(&found.header, &record);
    if (columns->key_start != NULL)
        columns->key_start[0] = record.key != NULL ? (int32_t)(record.key - base) : 0;
    if (columns->key_end != NULL)
        columns->key_end[0] =
            record.key != NULL ? (int32_t)(record.key - base) + record.key_bytes : -1;
    if (columns->value_start != NULL)
        columns->value_start[0] = record.value != NULL ? (int32_t)(record.value - base) : 0;
    if (columns->value_end != NULL)
        columns->value_end[0] =
            record.value != NULL ? (int32_t)(record.value - base) + record.value_bytes : -1;
    if (columns->headers_start != NULL)
        columns->headers_start[0] = (int32_t)(record.headers - base);
    if (columns->headers_count != NULL) columns->headers_count[0] = record.headers_count;
    if (found.unpacked != NULL) {
        columns->pin = found.unpacked;
        columns->base_bytes = found.unpacked->bytes;
        found.unpacked = NULL;
    } else {
        columns->pin = sl_pin_new(found.segment, found.segment->place, NULL, columns->base_bytes);
    }
    found_free(&found);
    if (columns->pin != NULL) return 1;
    columns->count = 0;
    return -(int64_t)sl_fail_memory("exporting a record");
}

static int64_t lookup_many(sl_log *log, const int64_t *offsets, int64_t count,
                           int64_t *timestamps_ms, int32_t *key_bytes, int32_t *value_bytes,
                           sl_buffer *out) {
    sl_status status = SL_OK;
    int64_t found_count = 0;
    found_batch found = {0};
    out->bytes = 0;
    for (int64_t i = 0; i < count && status == SL_OK; i++) {
        int64_t offset = offsets[i];
        key_bytes[i] = value_bytes[i] = -2;
        timestamps_ms[i] = -1;
        if (check_range(log, offset) != SL_OK) continue;
        sl_record_view record;
        int rc = 0;
        /* Neighbours tend to share a batch. */
        if (found.segment != NULL && offset >= found.header.base_offset &&
            offset <= found.header.last_offset) {
            rc = find_record(log, &found, offset, &record);
        } else {
            found_free(&found);
            status = find_batch(log, offset, &found);
            if (status == SL_E_NOT_FOUND) {
                status = SL_OK;
                continue;
            }
            if (status != SL_OK) break;
            rc = find_record(log, &found, offset, &record);
        }
        if (rc < 0) {
            status = batch_fault(&found, SL_E_CORRUPT, "a record is malformed");
            break;
        }
        if (rc == 0 || found.header.base_offset + record.offset_delta != offset) continue;
        size_t need = out->bytes + (record.key_bytes > 0 ? (size_t)record.key_bytes : 0) +
                      (record.value_bytes > 0 ? (size_t)record.value_bytes : 0);
        if (need > out->capacity) {
            status = sl_buffer_reserve(out, need * 2);
            if (status != SL_OK) break;
        }
        if (record.key_bytes > 0) {
            memcpy(out->data + out->bytes, record.key, (size_t)record.key_bytes);
            out->bytes += (size_t)record.key_bytes;
        }
        if (record.value_bytes > 0) {
            memcpy(out->data + out->bytes, record.value, (size_t)record.value_bytes);
            out->bytes += (size_t)record.value_bytes;
        }
        key_bytes[i] = record.key_bytes;
        value_bytes[i] = record.value_bytes;
        timestamps_ms[i] = record_timestamp(&found.header, &record);
        found_count++;
    }
    found_free(&found);
    return status == SL_OK ? found_count : -(int64_t)status;
}

static int64_t read_range(sl_log *log, int64_t start_offset, int64_t end_offset, int64_t max_bytes,
                          sl_batch_view *out) {
    *out = (sl_batch_view){0};
    sl_status status = SL_OK;
    /* At the end of what a read-only handle knows, it looks for more. */
    if (start_offset == sl_log_end_offset(log) && log->read_only) status = sl_reader_refresh(log);
    if (status != SL_OK) return -(int64_t)status;
    if (start_offset == sl_log_end_offset(log)) return 0;
    status = check_range(log, start_offset);
    if (status != SL_OK) return -(int64_t)status;
    int64_t log_end = sl_log_end_offset(log);
    if (end_offset < 0 || end_offset > log_end) end_offset = log_end;
    sl_segment *segment = sl_log_segment_for(log, start_offset);
    int64_t position = 0;
    int64_t tail = 0;
    while (segment != NULL) {
        status = sl_segment_load(segment);
        if (status == SL_OK)
            status = sl_segment_find_offset(segment, start_offset, &position, NULL);
        if (status != SL_OK) break;
        tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
        if (position < tail) break;
        sl_segment *next = sl_log_segment_after(log, segment->base_offset);
        sl_segment_release(segment);
        segment = next;
    }
    int64_t end = position;
    while (segment != NULL && status == SL_OK && end < tail) {
        sl_batch_header header;
        int64_t header_end = end + SL_BATCH_OVERHEAD < tail ? end + SL_BATCH_OVERHEAD : tail;
        status = sl_segment_guard(segment, end, header_end, false);
        if (status == SL_OK) status = sl_segment_header_at(segment, end, tail, &header);
        if (status != SL_OK) break;
        if (header.last_offset >= end_offset) break;
        if (end > position && end + header.batch_bytes - position > max_bytes) break;
        if (end == position) out->header = header;
        end += header.batch_bytes;
        if (end - position >= max_bytes) break;
    }
    if (segment != NULL && end > position) {
        status = sl_segment_guard(segment, position, end, true);
        if (status == SL_OK) {
            out->data = segment->map + position;
            out->position = position;
            out->segment_base_offset = segment->base_offset;
            out->pin = sl_pin_new(segment, segment->place, NULL, end - position);
            if (out->pin == NULL) status = sl_fail_memory("exporting batches");
        }
    }
    sl_segment_release(segment);
    return status == SL_OK ? end - position : -(int64_t)status;
}

/* ---- by time ---- */

/* First segment at or after number `from` whose largest timestamp reaches timestamp_ms. */
static sl_segment *segment_by_time(sl_log *log, int64_t timestamp_ms, int64_t from,
                                   int64_t *out_number, sl_status *status) {
    for (int64_t number = from;; number++) {
        /* Known answers under one lock; a segment not asked before is loaded outside of it. */
        sl_segment *segment = NULL;
        pthread_mutex_lock(&log->list_mutex);
        for (; number < log->list.count; number++) {
            int64_t largest = atomic_load_explicit(&log->list.items[number]->max_timestamp_ms,
                                                   memory_order_relaxed);
            if (largest < 0 || largest >= timestamp_ms) break;
        }
        if (number < log->list.count) {
            segment = log->list.items[number];
            sl_segment_retain(segment);
        }
        pthread_mutex_unlock(&log->list_mutex);
        if (segment == NULL) return NULL;
        int64_t largest;
        *status = sl_segment_max_timestamp(segment, &largest);
        if (*status == SL_OK && largest >= timestamp_ms) {
            *out_number = number;
            return segment;
        }
        sl_segment_release(segment);
        if (*status != SL_OK) return NULL;
    }
}

static int64_t offset_for_timestamp(sl_log *log, int64_t timestamp_ms, int64_t *out_timestamp_ms) {
    sl_status status = SL_OK;
    if (log->read_only) status = sl_reader_refresh(log);
    if (status != SL_OK) return -(int64_t)status;
    int64_t start_offset = sl_log_start_offset(log);
    int64_t number = 0;
    found_batch found = {0};
    int64_t result = -1;
    while (result < 0 && status == SL_OK) {
        found.segment = segment_by_time(log, timestamp_ms, number, &number, &status);
        if (found.segment == NULL) break;
        number++;
        status = sl_segment_load(found.segment);
        if (status == SL_OK)
            status = sl_segment_find_timestamp(found.segment, timestamp_ms, &found.position);
        int64_t tail = atomic_load_explicit(&found.segment->tail, memory_order_acquire);
        while (status == SL_OK && result < 0 && found.position < tail) {
            int64_t header_end = found.position + SL_BATCH_OVERHEAD;
            status = sl_segment_guard(found.segment, found.position,
                                      header_end < tail ? header_end : tail, false);
            if (status == SL_OK)
                status = sl_segment_header_at(found.segment, found.position, tail, &found.header);
            if (status != SL_OK) break;
            int32_t batch_bytes = found.header.batch_bytes;
            if (found.header.max_timestamp_ms >= timestamp_ms &&
                found.header.last_offset >= start_offset) {
                /* The CRC does not cover the base offset: hold it against what stands before it,
                 * since a batch that was checked once is not checked again. */
                int64_t position;
                int64_t expected = 0;
                status = sl_segment_find_offset(found.segment, found.header.base_offset, &position,
                                                &expected);
                if (status == SL_OK && position != found.position)
                    status = batch_fault(&found, SL_E_CORRUPT, "its offsets are out of order");
                if (status == SL_OK) status = open_found(log, &found, tail, expected);
                const uint8_t *p = found.records;
                for (int32_t i = 0; status == SL_OK && i < found.header.record_count; i++) {
                    sl_record_view record;
                    p = sl_record_decode(p, found.end, &record);
                    if (p == NULL) {
                        status = batch_fault(&found, SL_E_CORRUPT, "a record is malformed");
                        break;
                    }
                    int64_t offset = found.header.base_offset + record.offset_delta;
                    int64_t timestamp = record_timestamp(&found.header, &record);
                    if (timestamp >= timestamp_ms && offset >= start_offset) {
                        result = offset;
                        if (out_timestamp_ms != NULL) *out_timestamp_ms = timestamp;
                        break;
                    }
                }
                sl_pin_release(found.unpacked);
                found.unpacked = NULL;
            }
            found.position += batch_bytes;
        }
        found_free(&found);
    }
    found_free(&found);
    if (status != SL_OK) return -(int64_t)status;
    if (result >= 0) return result;
    return -(int64_t)sl_fail(SL_E_NOT_FOUND, 0, log->place->path, NULL, -1, -1,
                             "no record has a timestamp of %lld ms or later",
                             (long long)timestamp_ms);
}

int64_t sl_log_get(sl_log *log, int64_t offset, sl_columns *columns) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return -(int64_t)status;
    int64_t result;
    SL_READ_SETTLED(log, result, get_record(log, offset, columns));
    return result;
}

int64_t sl_log_lookup_many(sl_log *log, const int64_t *offsets, int64_t count,
                           int64_t *timestamps_ms, int32_t *key_bytes, int32_t *value_bytes,
                           sl_buffer *out) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return -(int64_t)status;
    int64_t result;
    SL_READ_SETTLED(log, result,
                    lookup_many(log, offsets, count, timestamps_ms, key_bytes, value_bytes, out));
    return result;
}

int64_t sl_log_read_range(sl_log *log, int64_t start_offset, int64_t end_offset, int64_t max_bytes,
                          sl_batch_view *out) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return -(int64_t)status;
    int64_t result;
    SL_READ_SETTLED(log, result, read_range(log, start_offset, end_offset, max_bytes, out));
    return result;
}

int64_t sl_log_offset_for_timestamp(sl_log *log, int64_t timestamp_ms, int64_t *out_timestamp_ms) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return -(int64_t)status;
    int64_t result;
    SL_READ_SETTLED(log, result, offset_for_timestamp(log, timestamp_ms, out_timestamp_ms));
    return result;
}
