/* verify.c -- reading every byte of a segment and holding its indexes against it.
 *
 * Problems are collected, not thrown: after damage the walk goes on at the next sound batch, so that
 * one report names all of it.  What is checked:
 *
 *   data        framing, CRC, every record (decompressed where a codec is set), rising offsets
 *   gap         offsets missing between batches of the last segment; in sealed ones compaction leaves
 *               gaps, so they say nothing there
 *   index       keys rise; each entry is the last offset of the batch that begins at its position
 *   time index  keys rise; each entry's offset is the last offset of a batch whose largest timestamp
 *               is the entry's, and no batch before it has a larger one */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "scan.h"

typedef struct report {
    sl_segment *segment;
    sl_problem *out;
    int64_t capacity;
    int64_t count;
    bool growing; /* when the tail was read: entries may be ahead of it */
} report;

__attribute__((format(printf, 6, 7))) static void add(report *r, int32_t kind, const char *suffix,
                                                      int64_t offset, int64_t position,
                                                      const char *format, ...) {
    if (r->count++ >= r->capacity) return;
    sl_problem *problem = &r->out[r->count - 1];
    *problem = (sl_problem){.offset = offset, .position = position, .kind = kind};
    char name[SL_NAME_BYTES];
    sl_segment_name(r->segment->base_offset, suffix, name);
    snprintf(problem->path, sizeof problem->path, "%s/%s", r->segment->place->path, name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->message, sizeof problem->message, format, arguments);
    va_end(arguments);
}

static void check_offset_index(report *r, int64_t tail) {
    sl_segment *segment = r->segment;
    const sl_index *index = &segment->offset_index;
    int32_t entries = atomic_load_explicit(&index->entries, memory_order_acquire);
    int64_t previous = -1;
    for (int32_t i = 0; i < entries; i++) {
        sl_offset_entry entry = sl_index_offset_entry(index, i);
        int64_t at = (int64_t)i * SL_OFFSET_ENTRY_BYTES;
        int64_t offset = segment->base_offset + entry.relative_offset;
        if (entry.relative_offset <= previous)
            add(r, SL_PROBLEM_INDEX, ".index", offset, at, "entry %d does not rise", i);
        previous = entry.relative_offset;
        sl_batch_header header;
        bool unsupported;
        if (entry.position < 0 || entry.position >= tail) {
            /* Entries of batches that are being appended at this moment are no fault. */
            if (!r->growing)
                add(r, SL_PROBLEM_INDEX, ".index", offset, at,
                    "entry %d points to position %d, beyond the segment's %lld bytes", i,
                    entry.position, (long long)tail);
            continue;
        }
        if (sl_batch_fault(segment->map + entry.position, (size_t)(tail - entry.position),
                           SL_CHECK_HEADER, 0, NULL, &header, &unsupported) != NULL) {
            add(r, SL_PROBLEM_INDEX, ".index", offset, at,
                "entry %d points to position %d, where no batch begins", i, entry.position);
        } else if (header.last_offset != offset) {
            add(r, SL_PROBLEM_INDEX, ".index", offset, at,
                "entry %d says offset %lld, the batch at position %d ends with %lld", i,
                (long long)offset, entry.position, (long long)header.last_offset);
        }
    }
}

static void check_time_index(report *r, int64_t tail) {
    sl_segment *segment = r->segment;
    const sl_index *index = &segment->time_index;
    int32_t entries = atomic_load_explicit(&index->entries, memory_order_acquire);
    int64_t previous_ms = -1;
    int32_t previous_offset = -1;
    int64_t walked = 0;
    int64_t largest_ms = -1; /* of the batches before `walked` */
    for (int32_t i = 0; i < entries; i++) {
        sl_time_entry entry = sl_index_time_entry(index, i);
        int64_t at = (int64_t)i * SL_TIME_ENTRY_BYTES;
        int64_t offset = segment->base_offset + entry.relative_offset;
        if (entry.timestamp_ms <= previous_ms || entry.relative_offset < previous_offset)
            add(r, SL_PROBLEM_TIME_INDEX, ".timeindex", offset, at, "entry %d does not rise", i);
        previous_ms = entry.timestamp_ms;
        previous_offset = entry.relative_offset;
        int64_t position;
        sl_batch_header header;
        if (entry.relative_offset < 0 ||
            sl_segment_find_offset(segment, offset, &position, NULL) != SL_OK || position >= tail ||
            sl_segment_header_at(segment, position, tail, &header) != SL_OK) {
            if (!r->growing)
                add(r, SL_PROBLEM_TIME_INDEX, ".timeindex", offset, at,
                    "entry %d points to offset %lld, which no batch holds", i, (long long)offset);
        } else if (header.last_offset != offset || header.max_timestamp_ms != entry.timestamp_ms) {
            add(r, SL_PROBLEM_TIME_INDEX, ".timeindex", offset, at,
                "entry %d says %lld ms at offset %lld, the batch there ends with %lld and %lld ms",
                i, (long long)entry.timestamp_ms, (long long)offset, (long long)header.last_offset,
                (long long)header.max_timestamp_ms);
        } else {
            sl_batch_header older;
            while (walked < position &&
                   sl_segment_header_at(segment, walked, tail, &older) == SL_OK) {
                if (older.max_timestamp_ms > largest_ms) largest_ms = older.max_timestamp_ms;
                walked += older.batch_bytes;
            }
            if (walked == position && largest_ms > entry.timestamp_ms)
                add(r, SL_PROBLEM_TIME_INDEX, ".timeindex", offset, at,
                    "entry %d says that nothing up to offset %lld is later than %lld ms, a batch "
                    "before "
                    "it reaches %lld ms",
                    i, (long long)offset, (long long)entry.timestamp_ms, (long long)largest_ms);
        }
    }
}

static void check_data(sl_log *log, report *r, int64_t tail, int64_t end_offset, bool last,
                       int64_t *out_batches, int64_t *out_records) {
    sl_segment *segment = r->segment;
    sl_buffer scratch = {0};
    int64_t position = 0;
    int64_t expected = segment->base_offset;
    while (position < tail) {
        sl_batch_header header = {0};
        bool unsupported;
        const char *fault = sl_batch_fault(
            segment->map + position, (size_t)(tail - position), SL_CHECK_RECORDS,
            (size_t)log->options.decompressed_bytes_max, &scratch, &header, &unsupported);
        if (fault == NULL)
            fault = sl_segment_order_fault(segment, position, &header, tail, expected, end_offset);
        if (fault != NULL) {
            add(r, SL_PROBLEM_DATA, ".log", expected, position, "%s", fault);
            int64_t next = sl_scan_find_sound(segment->map, position + 1, tail, expected,
                                              segment->base_offset + INT32_MAX);
            if (next < tail) expected = sl_get_i64(segment->map + next);
            position = next;
            continue;
        }
        if (last && header.base_offset > expected)
            add(r, SL_PROBLEM_GAP, ".log", expected, position, "offsets %lld to %lld are missing",
                (long long)expected, (long long)header.base_offset - 1);
        expected = header.last_offset + 1;
        position += header.batch_bytes;
        *out_batches += 1;
        *out_records += header.record_count;
    }
    if (last && expected < end_offset)
        add(r, SL_PROBLEM_GAP, ".log", expected, position, "offsets %lld to %lld are missing",
            (long long)expected, (long long)end_offset - 1);
    sl_buffer_free(&scratch);
}

int64_t sl_log_verify_segment(sl_log *log, int64_t segment_number, sl_problem *out,
                              int64_t capacity, int64_t *out_batches, int64_t *out_records) {
    *out_batches = *out_records = 0;
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return -(int64_t)status;
    sl_segment *segment = sl_log_segment_number(log, segment_number);
    if (segment == NULL)
        return -(int64_t)sl_fail(SL_E_NOT_FOUND, 0, log->place->path, NULL, -1, -1,
                                 "there is no segment %lld", (long long)segment_number);
    report r = {.segment = segment, .out = out, .capacity = capacity};
    status = sl_segment_load(segment);
    if (status == SL_OK) {
        int64_t end_offset = sl_log_segment_end(log, segment->base_offset);
        r.growing = segment->writable || atomic_load(&segment->foreign_tail) != 0;
        int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
        /* What was appended after end_offset was read would look like an overrun. */
        if (sl_log_segment_end(log, segment->base_offset) != end_offset) end_offset = INT64_MAX;
        for (int64_t at = 0; at < tail && status == SL_OK; at += 4 << 20)
            status =
                sl_segment_guard(segment, at, at + (4 << 20) < tail ? at + (4 << 20) : tail, true);
        if (status == SL_OK) {
            sl_segment *next = sl_log_segment_after(log, segment->base_offset);
            sl_segment_release(next);
            check_data(log, &r, tail, end_offset == INT64_MAX ? 0 : end_offset, next == NULL,
                       out_batches, out_records);
            /* A writer that is at work may be making it this moment. */
            if (segment->index_bad && !(log->read_only && sl_control_writer_alive(log)))
                add(&r, SL_PROBLEM_INDEX, ".index", segment->base_offset, -1,
                    "an index is missing or has an impossible length");
            /* The copies of a growing segment's indexes may be exchanged while we look. */
            if (atomic_load(&segment->foreign_tail) == 0) {
                check_offset_index(&r, tail);
                check_time_index(&r, tail);
            }
        }
    }
    sl_segment_release(segment);
    return status == SL_OK ? r.count : -(int64_t)status;
}
