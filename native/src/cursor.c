/* cursor.c -- reading: runs of records, whole batches, single records, ranges for a fetch.
 *
 * A cursor stands at a position of one segment and yields runs: as many records as the caller's
 * arrays hold from consecutive uncompressed batches (one block of the segment's map, nothing copied),
 * or the records of one compressed batch (decompressed into memory that the run's pin owns).
 *
 *   before a byte is touched   the pages are faulted in where an error can be returned
 *   before a record is yielded its batch's CRC is checked (once per pass, however often)
 *   after damage               the records before it are yielded first; then the error, which names
 *                              file, offset and position; the cursor stays before the bad batch
 *
 * At the tail of a segment a cursor looks for the next segment *before* it looks at the tail again:
 * a tail that is still the same then is final.
 *
 * Point lookups check a batch's CRC the first time this handle meets it and remember that in a bitmap:
 * checking 64 KiB again costs as much as finding the record. */
#define _GNU_SOURCE
#include <errno.h>

#include "scan.h"

enum { CURSOR_GUARD_BYTES = 1 << 20, RUN_BYTES_MAX = 1 << 30 };

struct sl_cursor {
    sl_log *log;
    sl_segment *segment;   /* retained */
    int64_t position;      /* of the next batch, or of the one being consumed */
    int64_t next_offset;   /* first offset still wanted */
    int64_t expected_base; /* lowest base offset the next batch may have */
    int64_t guarded_end;
    int64_t skipped_bytes;
    uint64_t truncations_seen;
    int32_t flags;
    /* A batch whose records are partly yielded: */
    const uint8_t *record; /* next one, or NULL */
    const uint8_t *record_end;
    int32_t records_left;
    int32_t previous_delta;
    sl_batch_header header;
    sl_pin *unpacked; /* owner of decompressed records, or NULL */
};

static sl_status cursor_fail(const sl_cursor *cursor, sl_status status, int64_t position,
                             const char *fault) {
    char name[SL_NAME_BYTES];
    sl_segment_name(cursor->segment->base_offset, ".log", name);
    return sl_fail(status, 0, cursor->segment->place->path, name, cursor->next_offset, position,
                   "damaged record batch: %s", fault);
}

static void forget_batch(sl_cursor *cursor) {
    cursor->record = NULL;
    sl_pin_release(cursor->unpacked);
    cursor->unpacked = NULL;
}

static sl_status place_cursor(sl_cursor *cursor, int64_t offset) {
    sl_log *log = cursor->log;
    int64_t start_offset = sl_log_start_offset(log);
    int64_t end_offset = sl_log_end_offset(log);
    if (offset < start_offset || offset > end_offset)
        return sl_fail(SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, offset, -1,
                       "offset %lld is outside this log, which holds [%lld, %lld)",
                       (long long)offset, (long long)start_offset, (long long)end_offset);
    uint64_t truncations = atomic_load(&log->truncation_count);
    sl_segment *segment = sl_log_segment_for(log, offset);
    if (segment == NULL)
        return sl_fail(SL_E_NOT_FOUND, 0, log->place->path, NULL, offset, -1,
                       "the log has no segment");
    if (segment->base_offset > offset) {
        /* The start moved on after it was looked at. */
        int64_t base_offset = segment->base_offset;
        sl_segment_release(segment);
        return sl_fail(
            SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, offset, -1,
            "the records from offset %lld on were dropped; the log starts at %lld or beyond",
            (long long)offset, (long long)base_offset);
    }
    sl_status status = sl_segment_load(segment);
    int64_t position = 0;
    int64_t expected = 0;
    if (status == SL_OK) {
        expected = segment->base_offset;
        status = sl_segment_find_offset(segment, offset, &position, &expected);
        if (status == SL_E_CORRUPT || status == SL_E_UNSUPPORTED) {
            /* Begin before the damage: reading will meet and name it, or skip it. */
            position = sl_segment_floor_position(segment, offset);
            status = SL_OK;
        }
    }
    if (status != SL_OK) {
        sl_segment_release(segment);
        return status;
    }
    forget_batch(cursor);
    sl_segment_release(cursor->segment);
    cursor->segment = segment;
    cursor->position = position;
    cursor->guarded_end = 0;
    cursor->next_offset = offset;
    cursor->expected_base = expected;
    cursor->truncations_seen = truncations;
    return SL_OK;
}

sl_status sl_cursor_open(sl_log *log, int64_t start_offset, int32_t flags, sl_cursor **out_cursor) {
    *out_cursor = NULL;
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return status;
    sl_cursor *cursor = sl_os.allocate_zeroed(sizeof *cursor);
    if (cursor == NULL) return sl_fail_memory("opening a cursor");
    cursor->log = log;
    cursor->flags = flags;
    status = place_cursor(cursor, start_offset);
    if (status == SL_E_OUT_OF_RANGE && log->read_only) {
        sl_error reason = *sl_last_error();
        if (sl_reader_refresh(log) == SL_OK) {
            status = place_cursor(cursor, start_offset);
        } else {
            sl_fail(status, 0, reason.path, NULL, reason.offset, -1, "%s", reason.message);
        }
    }
    if (status != SL_OK) {
        free(cursor);
        return status;
    }
    *out_cursor = cursor;
    return SL_OK;
}

void sl_cursor_close(sl_cursor *cursor) {
    if (cursor == NULL) return;
    forget_batch(cursor);
    sl_segment_release(cursor->segment);
    free(cursor);
}

sl_status sl_cursor_seek(sl_cursor *cursor, int64_t offset) {
    sl_status status = sl_log_usable(cursor->log);
    return status == SL_OK ? place_cursor(cursor, offset) : status;
}

int64_t sl_cursor_next_offset(const sl_cursor *cursor) { return cursor->next_offset; }
int64_t sl_cursor_skipped_bytes(const sl_cursor *cursor) { return cursor->skipped_bytes; }

/* Fault the batch at `position` in; at least its header when the length is not known yet. */
static sl_status guard(sl_cursor *cursor, int64_t end, int64_t tail) {
    if (SL_LIKELY(end <= cursor->guarded_end)) return SL_OK;
    int64_t from = cursor->guarded_end > cursor->position ? cursor->guarded_end : cursor->position;
    int64_t to = end + CURSOR_GUARD_BYTES < tail ? end + CURSOR_GUARD_BYTES : tail;
    sl_status status = sl_segment_guard(cursor->segment, from, to, true);
    if (status == SL_OK) cursor->guarded_end = to;
    return status;
}

/* Decode and check the batch at cursor->position, which lies below tail. */
static sl_status check_batch(sl_cursor *cursor, int64_t position, int64_t tail,
                             sl_batch_header *header) {
    sl_segment *segment = cursor->segment;
    int64_t header_end = position + SL_BATCH_OVERHEAD < tail ? position + SL_BATCH_OVERHEAD : tail;
    sl_status status = guard(cursor, header_end, tail);
    if (status != SL_OK) return status;
    status = sl_segment_header_at(segment, position, tail, header);
    if (status != SL_OK) return status;
    int64_t next_header_end = position + header->batch_bytes + SL_BATCH_OVERHEAD;
    status = guard(cursor, next_header_end < tail ? next_header_end : tail, tail);
    if (status != SL_OK) return status;
    if (SL_UNLIKELY(header->base_offset != cursor->expected_base)) {
        const char *fault =
            sl_segment_order_fault(segment, position, header, tail, cursor->expected_base,
                                   sl_log_segment_end(cursor->log, segment->base_offset));
        if (fault != NULL) return cursor_fail(cursor, SL_E_CORRUPT, position, fault);
    }
    if ((cursor->flags & SL_READ_NO_CRC) == 0) {
        if (!sl_batch_crc_matches(segment->map + position, header))
            return cursor_fail(cursor, SL_E_CORRUPT, position, "CRC-32C mismatch");
        sl_segment_set_verified(segment, position);
    }
    return SL_OK;
}

/* 1: the cursor stands before a batch; 0: at the end of the log; or -(sl_status). */
static int64_t reach_batch(sl_cursor *cursor, int64_t *out_tail) {
    sl_log *log = cursor->log;
    bool refreshed = false;
    for (;;) {
        if (SL_UNLIKELY(atomic_load_explicit(&log->truncation_count, memory_order_acquire) !=
                        cursor->truncations_seen)) {
            int64_t offset = cursor->next_offset;
            int64_t start_offset = sl_log_start_offset(log);
            if (offset < start_offset)
                return -(int64_t)sl_fail(SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, offset, -1,
                                         "the records from offset %lld on were dropped while "
                                         "reading; the log starts at %lld",
                                         (long long)offset, (long long)start_offset);
            sl_status status = place_cursor(cursor, offset);
            if (status != SL_OK) return -(int64_t)status;
        }
        int64_t tail = atomic_load_explicit(&cursor->segment->tail, memory_order_acquire);
        if (SL_LIKELY(cursor->position < tail)) {
            *out_tail = tail;
            return 1;
        }
        sl_segment *next = sl_log_segment_after(log, cursor->segment->base_offset);
        tail = atomic_load_explicit(&cursor->segment->tail, memory_order_acquire);
        if (cursor->position < tail ||
            atomic_load_explicit(&log->truncation_count, memory_order_acquire) !=
                cursor->truncations_seen) {
            /* More came, or `next` belongs to another list than our segment, whose tail may stand still. */
            sl_segment_release(next);
            continue;
        }
        if (SL_UNLIKELY(atomic_load(&log->short_offset) == cursor->next_offset) &&
            (next != NULL || refreshed) && (cursor->flags & SL_READ_SKIP_CORRUPT) == 0) {
            sl_segment_release(next);
            return -(int64_t)cursor_fail(cursor, SL_E_CORRUPT, tail,
                                         "the file ends here, yet later records were durable");
        }
        if (next != NULL) {
            int64_t start_offset = sl_log_start_offset(log);
            if (next->base_offset > cursor->next_offset && start_offset > cursor->next_offset) {
                sl_segment_release(next);
                return -(int64_t)sl_fail(SL_E_OUT_OF_RANGE, 0, log->place->path, NULL,
                                         cursor->next_offset, -1,
                                         "the records from offset %lld on were dropped while "
                                         "reading; the log starts at %lld",
                                         (long long)cursor->next_offset, (long long)start_offset);
            }
            sl_status status = sl_segment_load(next);
            if (status != SL_OK) {
                sl_segment_release(next);
                return -(int64_t)status;
            }
            sl_segment_release(cursor->segment);
            cursor->segment = next;
            cursor->position = 0;
            cursor->guarded_end = 0;
            /* Segments that overlap are damage: a batch of the next that begins below is told. */
            if (cursor->expected_base < next->base_offset)
                cursor->expected_base = next->base_offset;
            continue;
        }
        if (!log->read_only || refreshed) return 0;
        sl_status status = sl_reader_refresh(log);
        if (status != SL_OK) return -(int64_t)status;
        refreshed = true;
    }
}

/* With SL_READ_SKIP_CORRUPT: stand before the next sound batch of this segment, or at its end. */
static bool skip_damage(sl_cursor *cursor, sl_status status, int64_t tail) {
    if ((cursor->flags & SL_READ_SKIP_CORRUPT) == 0 ||
        (status != SL_E_CORRUPT && status != SL_E_CODEC && status != SL_E_UNSUPPORTED))
        return false;
    sl_segment *segment = cursor->segment;
    if (sl_segment_guard(segment, cursor->position, tail, true) != SL_OK) return false;
    int64_t found = sl_scan_find_sound(segment->map, cursor->position + 1, tail,
                                       cursor->next_offset, segment->base_offset + INT32_MAX);
    cursor->skipped_bytes += found - cursor->position;
    cursor->position = found;
    cursor->guarded_end = tail;
    if (found < tail) cursor->expected_base = sl_get_i64(segment->map + found);
    return true;
}

static bool wanted(const sl_cursor *cursor, const sl_batch_header *header) {
    if (header->last_offset < cursor->next_offset) return false;
    return (header->attributes & SL_ATTRIBUTE_CONTROL) == 0 ||
           (cursor->flags & SL_READ_CONTROL) != 0;
}

/* Which columns a caller wants, known to the compiler where it matters. */
enum { WANT_TIMES = 1, WANT_KEYS = 2, WANT_HEADERS = 4, WANT_ALL = 7, WANT_ASK = 8 };

#define WANTED(bit, array) ((want & WANT_ASK) != 0 ? columns->array != NULL : (want & (bit)) != 0)

/* Move records of the opened batch into the columns.  Returns false when one is malformed.
 * Inlined with a constant `want`: asking for each of eight arrays whether it is there would take as
 * long as decoding a record. */
static inline __attribute__((always_inline)) bool
take_columns(sl_cursor *cursor, sl_columns *columns, const uint8_t *base, const int want) {
    const uint8_t *p = cursor->record;
    const uint8_t *end = cursor->record_end;
    int32_t left = cursor->records_left;
    int32_t previous = cursor->previous_delta;
    const int32_t last_delta = cursor->header.last_offset_delta;
    const int64_t base_offset = cursor->header.base_offset;
    const int64_t first_wanted = cursor->next_offset;
    bool append_time = (cursor->header.attributes & SL_ATTRIBUTE_LOG_APPEND_TIME) != 0;
    int64_t base_timestamp =
        append_time ? cursor->header.max_timestamp_ms : cursor->header.base_timestamp_ms;
    int64_t n = columns->count;
    const int64_t capacity = columns->capacity;
    int64_t null_keys = columns->null_keys;
    int64_t null_values = columns->null_values;
    int64_t with_headers = columns->with_headers;
    int64_t *const offsets = columns->offsets;
    int32_t *const value_start = columns->value_start;
    int32_t *const value_end = columns->value_end;
    bool sound = true;
    while (left > 0 && n < capacity) {
        /* A run of plain records with dense offsets, all of them wanted. */
        int64_t run = left < capacity - n ? left : capacity - n;
        if (base_offset + previous + 1 < first_wanted || value_start == NULL) run = 0;
        const int64_t run_begin = n;
        for (; run > 0 && end - p >= 16; run--, n++) {
            int64_t time;
            int32_t delta;
            int32_t bytes;
            const uint8_t *value;
            const uint8_t *next = sl_record_decode_plain(p, end, &time, &delta, &value, &bytes);
            if (next == NULL || delta != previous + 1 || delta > last_delta) break;
            p = next;
            previous = delta;
            int32_t start = (int32_t)(value - base);
            value_start[n] = start;
            value_end[n] = start + bytes;
            if (offsets != NULL) offsets[n] = base_offset + delta;
            if (WANTED(WANT_TIMES, timestamps_ms))
                columns->timestamps_ms[n] = append_time ? base_timestamp : base_timestamp + time;
            if (WANTED(WANT_KEYS, key_start)) {
                columns->key_start[n] = 0;
                columns->key_end[n] = -1;
            }
            if (WANTED(WANT_HEADERS, headers_start)) {
                columns->headers_start[n] = start + bytes + 1;
                columns->headers_count[n] = 0;
            }
        }
        null_keys += n - run_begin;
        left -= (int32_t)(n - run_begin);
        if (left == 0 || n == capacity) break;
        SL_UNINITIALIZED sl_record_view record;
        const uint8_t *next = sl_record_decode(p, end, &record);
        if (SL_UNLIKELY(next == NULL || record.offset_delta <= previous ||
                        record.offset_delta > last_delta ||
                        (record.headers_count > 0 &&
                         !sl_record_headers_sound(record.headers, next, record.headers_count)))) {
            sound = false;
            break;
        }
        previous = record.offset_delta;
        p = next;
        left--;
        int64_t offset = base_offset + record.offset_delta;
        if (SL_UNLIKELY(offset < first_wanted)) continue;
        if (offsets != NULL) offsets[n] = offset;
        if (value_start != NULL) {
            bool null_value = record.value_bytes < 0;
            int32_t start = null_value ? 0 : (int32_t)(record.value - base);
            value_start[n] = start;
            value_end[n] = null_value ? -1 : start + record.value_bytes;
        }
        if (WANTED(WANT_TIMES, timestamps_ms))
            columns->timestamps_ms[n] =
                append_time ? base_timestamp : base_timestamp + record.timestamp_delta_ms;
        if (WANTED(WANT_KEYS, key_start)) {
            bool null_key = record.key_bytes < 0;
            int32_t start = null_key ? 0 : (int32_t)(record.key - base);
            columns->key_start[n] = start;
            columns->key_end[n] = null_key ? -1 : start + record.key_bytes;
        }
        if (WANTED(WANT_HEADERS, headers_start)) {
            columns->headers_start[n] = (int32_t)(record.headers - base);
            columns->headers_count[n] = record.headers_count;
        }
        null_keys += record.key_bytes < 0;
        null_values += record.value_bytes < 0;
        with_headers += record.headers_count > 0;
        n++;
    }
    cursor->record = p;
    cursor->records_left = left;
    cursor->previous_delta = previous;
    columns->count = n;
    columns->null_keys = null_keys;
    columns->null_values = null_values;
    columns->with_headers = with_headers;
    if (sound && left == 0 && p != end) sound = false;
    if (n > 0) cursor->next_offset = base_offset + previous + 1;
    return sound;
}

static bool take_all(sl_cursor *cursor, sl_columns *columns, const uint8_t *base) {
    return take_columns(cursor, columns, base, WANT_ALL);
}
static bool take_values(sl_cursor *cursor, sl_columns *columns, const uint8_t *base) {
    return take_columns(cursor, columns, base, 0);
}
static bool take_some(sl_cursor *cursor, sl_columns *columns, const uint8_t *base) {
    return take_columns(cursor, columns, base, WANT_ASK);
}

static bool take_records(sl_cursor *cursor, sl_columns *columns, const uint8_t *base) {
    int arrays = (columns->timestamps_ms != NULL) + (columns->key_start != NULL) +
                 (columns->headers_start != NULL);
    if (arrays == 0) return take_values(cursor, columns, base);
    if (arrays == 3) return take_all(cursor, columns, base);
    return take_some(cursor, columns, base);
}

/* start and end of a column come as a pair. */
static bool columns_paired(const sl_columns *c) {
    return (c->key_start == NULL) == (c->key_end == NULL) &&
           (c->value_start == NULL) == (c->value_end == NULL) &&
           (c->headers_start == NULL) == (c->headers_count == NULL);
}

/* Open the batch at cursor->position for taking records. */
static sl_status open_batch(sl_cursor *cursor, const sl_batch_header *header) {
    const uint8_t *records = cursor->segment->map + cursor->position + SL_BATCH_OVERHEAD;
    size_t bytes = (size_t)header->batch_bytes - SL_BATCH_OVERHEAD;
    int32_t codec = header->attributes & SL_ATTRIBUTE_CODEC_MASK;
    if (codec != SL_CODEC_NONE && header->record_count > 0) {
        sl_buffer plain = {0};
        sl_status status = sl_codec_decompress(
            codec, records, bytes, (size_t)cursor->log->options.decompressed_bytes_max, &plain);
        if (status != SL_OK) {
            sl_buffer_free(&plain);
            sl_error reason = *sl_last_error();
            char name[SL_NAME_BYTES];
            sl_segment_name(cursor->segment->base_offset, ".log", name);
            return sl_fail(status, 0, cursor->segment->place->path, name, header->base_offset,
                           cursor->position, "%s", reason.message);
        }
        cursor->unpacked =
            sl_pin_new(NULL, cursor->segment->place, plain.data, (int64_t)plain.bytes);
        if (cursor->unpacked == NULL) {
            sl_buffer_free(&plain);
            return sl_fail_memory("reading a compressed batch");
        }
        records = plain.data;
        bytes = plain.bytes;
    }
    cursor->header = *header;
    cursor->record = records;
    cursor->record_end = records + bytes;
    cursor->records_left = header->record_count;
    cursor->previous_delta = -1;
    return SL_OK;
}

/* The batch at the cursor's position is done with. */
static void pass_batch(sl_cursor *cursor, const sl_batch_header *header) {
    cursor->position += header->batch_bytes;
    cursor->expected_base = header->last_offset + 1;
    if (cursor->expected_base > cursor->next_offset) cursor->next_offset = cursor->expected_base;
}

static void finish_batch(sl_cursor *cursor) {
    pass_batch(cursor, &cursor->header);
    forget_batch(cursor);
}

static int64_t end_run(sl_cursor *cursor, sl_columns *columns, sl_segment *segment,
                       const uint8_t *base, const uint8_t *end, int64_t first_wanted) {
    columns->next_offset = cursor->next_offset;
    columns->base = base;
    columns->base_bytes = end - base;
    columns->pin = sl_pin_new(segment, cursor->segment->place, NULL, end - base);
    if (columns->pin != NULL) return columns->count;
    columns->count = 0;
    /* The records were not handed over: stand before them again. */
    sl_status status = place_cursor(cursor, first_wanted);
    if (status != SL_OK) return -(int64_t)status;
    return -(int64_t)sl_fail_memory("exporting records");
}

/* Records of a decompressed batch. */
static int64_t take_unpacked(sl_cursor *cursor, sl_columns *columns) {
    const uint8_t *base = cursor->unpacked->owned;
    if (!take_records(cursor, columns, base)) {
        sl_status status = cursor_fail(cursor, SL_E_CORRUPT, cursor->position,
                                       "a record runs over the end of its batch or is malformed");
        if (columns->count == 0) return -(int64_t)status;
    }
    columns->base = base;
    columns->base_bytes = cursor->unpacked->bytes;
    columns->pin = cursor->unpacked;
    sl_pin_retain(columns->pin);
    if (cursor->records_left == 0) finish_batch(cursor);
    columns->next_offset = cursor->next_offset;
    return columns->count;
}

static int64_t next_run(sl_cursor *cursor, sl_columns *columns) {
    sl_status status;
    columns->count = 0;
    columns->pin = NULL;
    columns->base = NULL;
    columns->base_bytes = 0;
    columns->null_keys = columns->null_values = columns->with_headers = 0;
    columns->next_offset = cursor->next_offset;
    if (columns->capacity < 1 || !columns_paired(columns))
        return -(int64_t)sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1,
                                 "columns: capacity must be positive, and start and end of keys, "
                                 "values or headers be given together or not at all");
    int64_t first_wanted = cursor->next_offset;
    sl_segment *run_segment = NULL;
    const uint8_t *run_base = NULL;
    const uint8_t *run_end = NULL;
    int64_t result = 0;
    for (;;) {
        if (run_segment != NULL && columns->count == 0) {
            /* Compaction left nothing wanted in that batch: the run has not begun. */
            sl_segment_release(run_segment);
            run_segment = NULL;
        }
        if (cursor->record != NULL && cursor->unpacked != NULL) {
            if (columns->count > 0) break; /* another owner: the next run */
            result = take_unpacked(cursor, columns);
            if (result != 0) return result;
            continue;
        }
        if (cursor->record == NULL) {
            int64_t tail;
            result = reach_batch(cursor, &tail);
            if (result <= 0) break;
            if (run_segment != NULL && cursor->segment != run_segment) break;
            SL_UNINITIALIZED sl_batch_header header;
            status = check_batch(cursor, cursor->position, tail, &header);
            if (status == SL_OK && !wanted(cursor, &header)) {
                pass_batch(cursor, &header);
                continue;
            }
            bool packed =
                (header.attributes & SL_ATTRIBUTE_CODEC_MASK) != 0 && header.record_count > 0;
            if (status == SL_OK && packed && columns->count > 0) break;
            if (status == SL_OK) status = open_batch(cursor, &header);
            if (status != SL_OK) {
                result = -(int64_t)status;
                if (columns->count > 0) break;
                if (!skip_damage(cursor, status, tail)) return result;
                continue;
            }
            if (packed) continue;
        }
        const uint8_t *batch = cursor->segment->map + cursor->position;
        if (run_segment == NULL) {
            run_segment = cursor->segment;
            sl_segment_retain(run_segment);
            run_base = batch;
        }
        if (batch + cursor->header.batch_bytes - run_base > RUN_BYTES_MAX && columns->count > 0)
            break;
        run_end = batch + cursor->header.batch_bytes;
        int64_t before = columns->count;
        sl_columns marks = *columns;
        int64_t wanted_offset = cursor->next_offset;
        bool fresh = cursor->records_left == cursor->header.record_count;
        if (SL_UNLIKELY(!take_records(cursor, columns, run_base))) {
            /* Nothing of a batch that lies about its records is yielded. */
            columns->count = before;
            columns->null_keys = marks.null_keys;
            columns->null_values = marks.null_values;
            columns->with_headers = marks.with_headers;
            if (fresh) cursor->next_offset = wanted_offset;
            forget_batch(cursor);
            status = cursor_fail(cursor, SL_E_CORRUPT, cursor->position,
                                 "a record runs over the end of its batch or is malformed");
            result = -(int64_t)status;
            if (columns->count > 0) break;
            int64_t tail = atomic_load_explicit(&cursor->segment->tail, memory_order_acquire);
            if (!skip_damage(cursor, status, tail)) break;
            continue;
        }
        if (cursor->records_left == 0) finish_batch(cursor);
        if (columns->count == columns->capacity) break;
    }
    if (columns->count > 0)
        result = end_run(cursor, columns, run_segment, run_base, run_end, first_wanted);
    sl_segment_release(run_segment);
    columns->next_offset = cursor->next_offset;
    return result > 0 || columns->count > 0 ? columns->count : result;
}

int64_t sl_cursor_next(sl_cursor *cursor, sl_columns *columns) {
    sl_status status = sl_log_usable(cursor->log);
    if (status != SL_OK) return -(int64_t)status;
    int64_t result;
    SL_READ_SETTLED(cursor->log, result, next_run(cursor, columns));
    return result;
}

static int64_t next_batch(sl_cursor *cursor, sl_batch_view *out) {
    sl_status status;
    *out = (sl_batch_view){0};
    forget_batch(cursor);
    for (;;) {
        int64_t tail;
        int64_t result = reach_batch(cursor, &tail);
        if (result <= 0) return result;
        status = check_batch(cursor, cursor->position, tail, &out->header);
        if (status != SL_OK) {
            if (!skip_damage(cursor, status, tail)) return -(int64_t)status;
            continue;
        }
        if (out->header.last_offset >= cursor->next_offset) break;
        pass_batch(cursor, &out->header);
    }
    out->data = cursor->segment->map + cursor->position;
    out->position = cursor->position;
    out->segment_base_offset = cursor->segment->base_offset;
    out->pin = sl_pin_new(cursor->segment, cursor->segment->place, NULL, out->header.batch_bytes);
    if (out->pin == NULL) return -(int64_t)sl_fail_memory("exporting a batch");
    pass_batch(cursor, &out->header);
    return 1;
}

int64_t sl_cursor_next_batch(sl_cursor *cursor, sl_batch_view *out) {
    sl_status status = sl_log_usable(cursor->log);
    if (status != SL_OK) return -(int64_t)status;
    int64_t result;
    SL_READ_SETTLED(cursor->log, result, next_batch(cursor, out));
    return result;
}
