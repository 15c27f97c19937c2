/* seek.c -- where in a segment an offset or a time stands.
 *
 *   index entry at or below it     a hint: believed only if the log agrees, else the walk begins at 0
 *   walk of headers from there     at most index_interval_bytes of batches, without touching records
 *
 * An offset entry holds if the batch at its position ends with its offset; a time entry, if the batch
 * that ends with its offset has its timestamp.  So a damaged or missing index costs time, never a wrong
 * answer.  The indexes of a segment that another process writes are copies, read again as it grows.
 *
 * Left to others: the batch itself, its CRC and its records (lookup.c, cursor.c). */
#include "internal.h"

sl_status sl_segment_header_at(sl_segment *segment, int64_t position, int64_t tail,
                               sl_batch_header *out) {
    const char *fault;
    bool unsupported = false;
    size_t bytes = (size_t)(tail - position);
    const uint8_t *data = segment->map + position;
    fault = sl_batch_fault(data, bytes, SL_CHECK_HEADER, 0, NULL, out, &unsupported);
    if (fault == NULL && out->base_offset < segment->base_offset)
        fault = "the base offset is below its segment's";
    if (SL_LIKELY(fault == NULL)) return SL_OK;
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".log", name);
    return sl_fail(unsupported ? SL_E_UNSUPPORTED : SL_E_CORRUPT, 0, segment->place->path, name, -1,
                   position, "damaged record batch: %s", fault);
}

/* Where walking to a target may begin: the index's floor entry if the log agrees with it. */
static int64_t floor_position(sl_segment *segment, int32_t i, int64_t tail) {
    if (i < 0) return 0;
    sl_offset_entry entry = sl_index_offset_entry(&segment->offset_index, i);
    if (entry.position < 0 || entry.position > tail - SL_BATCH_OVERHEAD) return -1;
    if (sl_segment_guard(segment, entry.position, entry.position + SL_BATCH_OVERHEAD, false) !=
        SL_OK)
        return -1;
    sl_batch_header header;
    bool unsupported;
    if (sl_batch_fault(segment->map + entry.position, (size_t)(tail - entry.position),
                       SL_CHECK_HEADER, 0, NULL, &header, &unsupported) != NULL ||
        header.last_offset - segment->base_offset != entry.relative_offset)
        return -1;
    return entry.position;
}

/* From a batch at `position` on to the first whose last offset >= offset.  *out_expected: the lowest
 * base offset that batch may have. */
static sl_status walk_to_offset(sl_segment *segment, int64_t position, int64_t tail, int64_t offset,
                                int64_t *out_position, int64_t *out_expected) {
    int64_t expected = segment->base_offset;
    while (position < tail) {
        int64_t header_end =
            position + SL_BATCH_OVERHEAD < tail ? position + SL_BATCH_OVERHEAD : tail;
        sl_status status = sl_segment_guard(segment, position, header_end, false);
        if (status != SL_OK) return status;
        sl_batch_header header;
        status = sl_segment_header_at(segment, position, tail, &header);
        if (status != SL_OK) return status;
        if (SL_UNLIKELY(header.base_offset < expected)) {
            char name[SL_NAME_BYTES];
            sl_segment_name(segment->base_offset, ".log", name);
            return sl_fail(SL_E_CORRUPT, 0, segment->place->path, name, expected, position,
                           "damaged record batch: the base offset is below the one expected here");
        }
        if (header.last_offset >= offset) break;
        expected = header.last_offset + 1;
        position += header.batch_bytes;
    }
    *out_position = position;
    if (out_expected != NULL) *out_expected = expected;
    return SL_OK;
}

static int32_t relative_to(const sl_segment *segment, int64_t offset) {
    int64_t relative = offset - segment->base_offset;
    return relative > INT32_MAX ? INT32_MAX : (int32_t)relative;
}

/* The index of a segment that another process writes is a copy, read again once the segment has
 * grown by this much. */
enum { FOREIGN_INDEX_BYTES = 1 << 20 };

static void refresh_foreign_index(sl_segment *segment, int64_t tail) {
    if (tail - segment->snapshot_tail < FOREIGN_INDEX_BYTES) return;
    if (atomic_load(&segment->foreign_tail) == 0)
        return; /* sealed meanwhile: read without a lock */
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".index", name);
    sl_status first = sl_index_open_reader(&segment->offset_index, segment->place, name, true);
    sl_segment_name(segment->base_offset, ".timeindex", name);
    sl_status second = sl_index_open_reader(&segment->time_index, segment->place, name, true);
    segment->index_bad = first != SL_OK || second != SL_OK;
    segment->snapshot_tail = tail;
}

int64_t sl_segment_floor_position(sl_segment *segment, int64_t offset) {
    if (offset <= segment->base_offset) return 0;
    int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
    bool foreign = atomic_load_explicit(&segment->foreign_tail, memory_order_relaxed) != 0;
    if (foreign) {
        pthread_mutex_lock(&segment->load_mutex);
        refresh_foreign_index(segment, tail);
    }
    int64_t position = 0;
    if (SL_LIKELY(!segment->index_bad)) {
        int32_t i = sl_index_floor_offset(&segment->offset_index, relative_to(segment, offset));
        position = floor_position(segment, i, tail);
        if (SL_UNLIKELY(position < 0)) position = 0; /* a hint that does not hold */
    }
    if (foreign) pthread_mutex_unlock(&segment->load_mutex);
    return position;
}

sl_status sl_segment_find_offset(sl_segment *segment, int64_t offset, int64_t *out_position,
                                 int64_t *out_expected) {
    int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
    return walk_to_offset(segment, sl_segment_floor_position(segment, offset), tail, offset,
                          out_position, out_expected);
}

const char *sl_segment_order_fault(const sl_segment *segment, int64_t position,
                                   const sl_batch_header *header, int64_t tail, int64_t expected,
                                   int64_t end_offset) {
    if (header->base_offset < expected) return "the base offset is below the one expected here";
    if (header->base_offset == expected) return NULL;
    /* A gap may be honest (a compacted log).  It is not if this batch then runs into what follows:
     * the CRC does not cover the base offset, but its neighbours do. */
    int64_t next = position + header->batch_bytes;
    int64_t bound = end_offset;
    if (next + SL_BATCH_OVERHEAD <= tail) bound = sl_get_i64(segment->map + next);
    return header->last_offset < bound ? NULL : "its offsets run into those of the next batch";
}

/* Whether the log agrees with a time entry: a batch ends with its offset, and that batch's largest
 * timestamp is the entry's. */
static bool time_entry_holds(sl_segment *segment, sl_time_entry entry, int64_t tail,
                             int64_t *out_position) {
    if (entry.relative_offset < 0) return false;
    int64_t offset = segment->base_offset + entry.relative_offset;
    sl_batch_header header;
    return sl_segment_find_offset(segment, offset, out_position, NULL) == SL_OK &&
           *out_position < tail &&
           sl_segment_header_at(segment, *out_position, tail, &header) == SL_OK &&
           header.last_offset == offset && header.max_timestamp_ms == entry.timestamp_ms;
}

/* The cheap signs that an index belongs to this segment: sealing trimmed both files to their entries
 * and left at least one time entry (anything else is the work of a crash), and the log agrees with
 * the last entries, which the next ones must exceed. */
bool sl_segment_indexes_hold(sl_segment *segment, int64_t end) {
    if (end > 0 && atomic_load(&segment->time_index.entries) == 0) return false;
    if (!sl_index_is_trimmed(&segment->offset_index) || !sl_index_is_trimmed(&segment->time_index))
        return false;
    int32_t entries = atomic_load(&segment->offset_index.entries);
    if (entries > 0 && floor_position(segment, entries - 1, end) <= 0) return false;
    entries = atomic_load(&segment->time_index.entries);
    int64_t position;
    return entries == 0 ||
           time_entry_holds(segment, sl_index_time_entry(&segment->time_index, entries - 1), end,
                            &position);
}

sl_status sl_segment_find_timestamp(sl_segment *segment, int64_t timestamp_ms,
                                    int64_t *out_position) {
    int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
    int64_t position = 0;
    bool foreign = atomic_load_explicit(&segment->foreign_tail, memory_order_relaxed) != 0;
    sl_time_entry entry = {.relative_offset = -1};
    if (foreign) {
        pthread_mutex_lock(&segment->load_mutex);
        refresh_foreign_index(segment, tail);
    }
    if (!segment->index_bad && timestamp_ms > 0) {
        /* Everything up to the floor entry's offset is older than its timestamp or equal to it: begin
         * at that batch, since an equal timestamp may first occur there or before the next entry. */
        int32_t t = sl_index_floor_time(&segment->time_index, timestamp_ms - 1);
        if (t >= 0) entry = sl_index_time_entry(&segment->time_index, t);
    }
    if (foreign) pthread_mutex_unlock(&segment->load_mutex);
    if (!time_entry_holds(segment, entry, tail, &position)) position = 0;
    while (position < tail) {
        sl_status status = sl_segment_guard(
            segment, position,
            position + SL_BATCH_OVERHEAD < tail ? position + SL_BATCH_OVERHEAD : tail, false);
        if (status != SL_OK) return status;
        sl_batch_header header;
        status = sl_segment_header_at(segment, position, tail, &header);
        if (status != SL_OK) return status;
        if (header.max_timestamp_ms >= timestamp_ms) break;
        position += header.batch_bytes;
    }
    *out_position = position;
    return SL_OK;
}

sl_status sl_segment_largest_timestamp(sl_segment *segment, int64_t *out_timestamp_ms,
                                       int64_t *out_last_offset) {
    int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
    bool foreign = atomic_load_explicit(&segment->foreign_tail, memory_order_relaxed) != 0;
    sl_time_entry entry = {.relative_offset = -1};
    if (foreign) {
        pthread_mutex_lock(&segment->load_mutex);
        refresh_foreign_index(segment, tail);
    }
    int32_t entries = atomic_load_explicit(&segment->time_index.entries, memory_order_acquire);
    if (!segment->index_bad && entries > 0)
        entry = sl_index_time_entry(&segment->time_index, entries - 1);
    if (foreign) pthread_mutex_unlock(&segment->load_mutex);
    int64_t largest = -1;
    int64_t last_offset = -1;
    int64_t position;
    if (time_entry_holds(segment, entry, tail, &position)) {
        largest = entry.timestamp_ms;
        last_offset = segment->base_offset + entry.relative_offset;
    } else {
        position = 0;
    }
    /* The last entry may be older than the tail (a file nobody sealed, an index cut short): walk the
     * rest, which is next to nothing where time goes on. */
    while (position < tail) {
        sl_status status = sl_segment_guard(
            segment, position,
            position + SL_BATCH_OVERHEAD < tail ? position + SL_BATCH_OVERHEAD : tail, false);
        if (status != SL_OK) return status;
        sl_batch_header header;
        status = sl_segment_header_at(segment, position, tail, &header);
        if (status != SL_OK) return status;
        if (header.max_timestamp_ms > largest) {
            largest = header.max_timestamp_ms;
            last_offset = header.last_offset;
        }
        position += header.batch_bytes;
    }
    *out_timestamp_ms = largest;
    *out_last_offset = last_offset;
    return SL_OK;
}

sl_status sl_segment_max_timestamp(sl_segment *segment, int64_t *out_timestamp_ms) {
    int64_t known = atomic_load_explicit(&segment->max_timestamp_ms, memory_order_relaxed);
    bool foreign = atomic_load_explicit(&segment->foreign_tail, memory_order_relaxed) != 0;
    if (known >= 0 && !foreign) {
        *out_timestamp_ms = known;
        return SL_OK;
    }
    sl_status status = sl_segment_load(segment);
    if (status != SL_OK) return status;
    if (segment->writable) {
        *out_timestamp_ms = known;
        return SL_OK;
    }
    int64_t last_offset;
    status = sl_segment_largest_timestamp(segment, out_timestamp_ms, &last_offset);
    if (status == SL_OK && !foreign)
        atomic_store_explicit(&segment->max_timestamp_ms, *out_timestamp_ms, memory_order_relaxed);
    return status;
}
