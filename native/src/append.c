/* append.c -- the write path: records or batches into the active segment, and rolling it.
 *
 *   append_mutex
 *     for each batch:  room?  -- no --> publish what is there, roll
 *                      prepared? -- no --> reserve and fault in what this batch needs
 *                      encode at map + tail, CRC, header, index bookkeeping      (not yet visible)
 *     publish: segment tail, log end offset, control page            (release stores: now visible)
 *   then, with sync "always": sync_to(log end offset)
 *
 * Nothing is visible before it is complete, and a call that fails is undone: its bytes are zeroed and
 * its index entries taken back.  Only a call that had to roll in its middle leaves the records of
 * the sealed segment behind, and says how many in out_appended_count.
 *
 * Rolling makes the new segment before it seals the old one: if the new file cannot be made, nothing
 * has changed. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>

#include "internal.h"

/* What an append must restore when it fails. */
typedef struct append_mark {
    int64_t tail;
    int64_t bytes_since_entry;
    int64_t max_timestamp_ms;
    int64_t max_timestamp_last_offset;
    int64_t first_timestamp_ms;
    int32_t offset_entries;
    int32_t time_entries;
} append_mark;

/* An append in progress; append_mutex held. */
typedef struct append_run {
    sl_log *log;
    sl_segment *segment;
    int64_t tail;   /* beyond what is published */
    int64_t offset; /* the next record's */
    int64_t now_ms;
    append_mark mark;
} append_run;

static void take_mark(append_run *run) {
    const sl_segment *segment = run->segment;
    run->mark = (append_mark){
        .tail = run->tail,
        .bytes_since_entry = segment->bytes_since_entry,
        .max_timestamp_ms = atomic_load_explicit(&segment->max_timestamp_ms, memory_order_relaxed),
        .max_timestamp_last_offset = segment->max_timestamp_last_offset,
        .first_timestamp_ms = segment->first_timestamp_ms,
        .offset_entries =
            atomic_load_explicit(&segment->offset_index.entries, memory_order_relaxed),
        .time_entries = atomic_load_explicit(&segment->time_index.entries, memory_order_relaxed),
    };
}

static void begin(append_run *run, sl_log *log, int64_t now_ms) {
    run->log = log;
    run->segment = atomic_load_explicit(&log->active, memory_order_relaxed);
    run->tail = atomic_load_explicit(&run->segment->tail, memory_order_relaxed);
    run->offset = atomic_load_explicit(&log->log_end_offset, memory_order_relaxed);
    run->now_ms = now_ms;
    take_mark(run);
}

static void undo(append_run *run) {
    sl_segment *segment = run->segment;
    const append_mark *mark = &run->mark;
    if (run->tail == mark->tail) return;
    memset(segment->map + mark->tail, 0, (size_t)(run->tail - mark->tail));
    segment->bytes_since_entry = mark->bytes_since_entry;
    segment->max_timestamp_last_offset = mark->max_timestamp_last_offset;
    segment->first_timestamp_ms = mark->first_timestamp_ms;
    atomic_store_explicit(&segment->max_timestamp_ms, mark->max_timestamp_ms, memory_order_relaxed);
    sl_index_rewind(&segment->offset_index, mark->offset_entries);
    sl_index_rewind(&segment->time_index, mark->time_entries);
}

void sl_log_publish(sl_log *log, sl_segment *segment, int64_t tail, int64_t log_end_offset) {
    atomic_store_explicit(&segment->tail, tail, memory_order_release);
    atomic_store_explicit(&log->log_end_offset, log_end_offset, memory_order_release);
    sl_control_publish(log, tail, log_end_offset);
}

static void publish(append_run *run) {
    sl_log *log = run->log;
    sl_log_publish(log, run->segment, run->tail, run->offset);
    int64_t window = sl_prefault_window(log, run->segment);
    if (window > 0 &&
        atomic_load_explicit(&run->segment->populated_end, memory_order_relaxed) - run->tail <
            window / 2)
        sl_service_prepare(log);
    if (log->options.sync == SL_SYNC_INTERVAL &&
        run->tail - atomic_load_explicit(&run->segment->synced_tail, memory_order_relaxed) >
            log->options.sync_interval_bytes)
        sl_service_flush(log);
}

/* A roll that failed leaves no file behind: an empty segment amid the offsets of the one before it would
 * end the log there.  Where the file cannot be removed this handle appends no more. */
static sl_status undo_roll(sl_log *log, int64_t base_offset, sl_status status) {
    static const char *const suffixes[] = {".timeindex", ".index", ".log"};
    char name[SL_NAME_BYTES];
    sl_error reason = *sl_last_error();
    int rc = 0;
    for (size_t i = 0; i < 3; i++) {
        sl_segment_name(base_offset, suffixes[i], name);
        rc = sl_os.unlink(log->place->dir_fd, name);
    }
    int healthy = 0;
    if (rc != 0 && rc != -ENOENT)
        atomic_compare_exchange_strong(&log->poisoned_errno, &healthy, -rc);
    return sl_fail(status, reason.system_errno, reason.path, NULL, reason.offset, reason.position,
                   "%s", reason.message);
}

sl_status sl_log_roll_locked(sl_log *log) {
    sl_segment *old = atomic_load_explicit(&log->active, memory_order_relaxed);
    int64_t base_offset = atomic_load_explicit(&log->log_end_offset, memory_order_relaxed);
    if (base_offset == old->base_offset) return SL_OK;
    sl_segment *fresh;
    sl_status status = sl_segment_create(log->place, base_offset, &log->options, &fresh);
    if (status != SL_OK) return undo_roll(log, base_offset, status);
    int64_t carried = atomic_load_explicit(&old->tail, memory_order_relaxed) -
                      atomic_load_explicit(&old->synced_tail, memory_order_relaxed) +
                      atomic_load_explicit(&old->burst_carry, memory_order_relaxed);
    atomic_store(&fresh->burst_carry, carried);
    /* Sealing cannot be taken back: all that may fail comes before it. */
    pthread_mutex_lock(&log->list_mutex);
    status = sl_list_reserve(&log->list);
    pthread_mutex_unlock(&log->list_mutex);
    if (status == SL_OK) status = sl_segment_seal(old);
    if (status == SL_OK) {
        atomic_store(&log->directory_dirty, 1);
        sl_control_begin(log);
        pthread_mutex_lock(&log->list_mutex);
        status = sl_list_push(&log->list, fresh);
        if (status == SL_OK) atomic_store_explicit(&log->active, fresh, memory_order_release);
        pthread_mutex_unlock(&log->list_mutex);
        sl_control_end(log, atomic_load(&log->active)->base_offset);
    }
    if (status != SL_OK) {
        sl_segment_release(fresh);
        return undo_roll(log, base_offset, status);
    }
    log->roll_count++;
    atomic_store(&log->checkpoint_wanted, 1);
    sl_service_flush(log);
    return SL_OK;
}

/* Whether a batch of `bytes` and `records` offsets must go to a new segment: Kafka's rules. */
static bool must_roll(const append_run *run, int64_t bytes, int64_t span, int64_t timestamp_ms) {
    const sl_options *options = &run->log->options;
    const sl_segment *segment = run->segment;
    if (run->tail == 0) return false;
    if (run->tail + bytes > options->segment_bytes ||
        run->tail + bytes > (int64_t)segment->map_bytes)
        return true;
    if (run->offset + span - segment->base_offset > INT32_MAX) return true;
    if (sl_index_full(&segment->offset_index) || sl_index_full(&segment->time_index)) return true;
    return options->segment_ms >= 0 && segment->first_timestamp_ms >= 0 &&
           timestamp_ms - segment->first_timestamp_ms > options->segment_ms;
}

/* Make sure `bytes` may be stored at the tail, rolling if need be. */
static sl_status make_room(append_run *run, int64_t bytes, int64_t span, int64_t timestamp_ms) {
    sl_log *log = run->log;
    if (SL_UNLIKELY(must_roll(run, bytes, span, timestamp_ms))) {
        publish(run);
        run->mark.tail = run->tail;
        sl_status status = sl_log_roll_locked(log);
        if (status != SL_OK) return status;
        run->segment = atomic_load_explicit(&log->active, memory_order_relaxed);
        run->tail = 0;
        take_mark(run);
    }
    sl_segment *segment = run->segment;
    int64_t end = run->tail + bytes;
    if (SL_UNLIKELY(end > log->options.segment_bytes || end > (int64_t)segment->map_bytes))
        return sl_fail(SL_E_TOO_LARGE, 0, log->place->path, NULL, run->offset, -1,
                       "a batch of up to %lld bytes does not fit a segment of %lld: raise "
                       "segment_bytes or split the record",
                       (long long)bytes, (long long)log->options.segment_bytes);
    if (SL_UNLIKELY(end > atomic_load_explicit(&segment->populated_end, memory_order_acquire) ||
                    atomic_load_explicit(&segment->cold, memory_order_relaxed) != 0 ||
                    run->now_ms - segment->warmed_ms > SL_WARM_MS)) {
        int rc = sl_control_warm(log);
        if (rc != 0)
            return sl_fail_errno(rc, log->place->path, ".lock",
                                 "cannot make the control page ready");
        return sl_segment_prepare(segment, &log->options, end, sl_prefault_window(log, segment),
                                  run->now_ms);
    }
    return SL_OK;
}

static void stand(append_run *run, const sl_batch_header *header) {
    sl_segment_note_batch(run->segment, &run->log->options, run->tail, header);
    sl_segment_set_verified(run->segment, run->tail);
    run->tail += header->batch_bytes;
    run->offset = header->last_offset + 1;
}

/* An upper bound of the records that go into the next batch. */
static int64_t batch_bound(const sl_encoder *encoder, int64_t soft_bytes) {
    const sl_records *r = encoder->records;
    if (r->keys == NULL && r->headers == NULL && r->value_bytes == NULL) {
        int64_t each = SL_RECORD_FRAMING_BYTES + r->uniform_value_bytes;
        int64_t left = r->count - encoder->next;
        int64_t soft_count = soft_bytes / each + 1;
        return (left < soft_count ? left : soft_count) * each;
    }
    sl_encoder ahead = *encoder;
    int64_t bytes = 0;
    while (ahead.next < r->count && bytes < soft_bytes) {
        bytes += (int64_t)sl_encoder_next_bound(&ahead);
        ahead.next++;
    }
    return bytes;
}

/* The time by which the next batch may have to go to a new segment: its first record's, since its
 * largest is not known before it is encoded. */
static int64_t first_timestamp(const sl_encoder *encoder) {
    const sl_records *r = encoder->records;
    if (r->timestamps_ms != NULL && (r->attributes & SL_ATTRIBUTE_LOG_APPEND_TIME) == 0 &&
        r->timestamps_ms[encoder->next] >= 0)
        return r->timestamps_ms[encoder->next];
    return encoder->now_ms;
}

static sl_status append_plain_batch(append_run *run, sl_encoder *encoder, const sl_records *records,
                                    int64_t soft_bytes) {
    int64_t first = encoder->next;
    int64_t need = SL_BATCH_OVERHEAD + batch_bound(encoder, soft_bytes);
    sl_status status = make_room(run, need, records->count - first, first_timestamp(encoder));
    if (status != SL_OK) return status;
    uint8_t *out = run->segment->map + run->tail;
    SL_UNINITIALIZED sl_encoded encoded;
    size_t bytes =
        sl_encode_records(encoder, out + SL_BATCH_OVERHEAD, (size_t)(need - SL_BATCH_OVERHEAD),
                          (size_t)soft_bytes, &encoded);
    SL_CHECK(encoded.record_count > 0);
    bytes += SL_BATCH_OVERHEAD;
    sl_encode_header(out, bytes, run->offset, records, &encoded, first);
    sl_batch_header header = {.base_offset = run->offset,
                              .last_offset = run->offset + encoded.record_count - 1,
                              .batch_bytes = (int32_t)bytes,
                              .max_timestamp_ms = encoded.max_timestamp_ms};
    stand(run, &header);
    return SL_OK;
}

static sl_status append_packed_batch(append_run *run, sl_encoder *encoder,
                                     const sl_records *records, int64_t soft_bytes) {
    sl_log *log = run->log;
    int64_t first = encoder->next;
    int64_t bound = batch_bound(encoder, soft_bytes);
    if (bound > SL_SEGMENT_BYTES_MAX)
        return sl_fail(SL_E_TOO_LARGE, 0, log->place->path, NULL, run->offset, -1,
                       "a batch of %lld bytes before compression is too large", (long long)bound);
    sl_status status = sl_buffer_reserve(&log->scratch, (size_t)bound);
    if (status != SL_OK) return status;
    sl_encoded encoded;
    log->scratch.bytes =
        sl_encode_records(encoder, log->scratch.data, (size_t)bound, (size_t)soft_bytes, &encoded);
    SL_CHECK(encoded.record_count > 0);
    status = sl_codec_compress(records->codec, records->codec_level, log->scratch.data,
                               log->scratch.bytes, &log->compressed);
    if (status != SL_OK) return status;
    int64_t bytes = SL_BATCH_OVERHEAD + (int64_t)log->compressed.bytes;
    status = make_room(run, bytes, encoded.record_count, encoded.max_timestamp_ms);
    if (status != SL_OK) return status;
    uint8_t *out = run->segment->map + run->tail;
    memcpy(out + SL_BATCH_OVERHEAD, log->compressed.data, log->compressed.bytes);
    sl_encode_header(out, (size_t)bytes, run->offset, records, &encoded, first);
    sl_batch_header header = {.base_offset = run->offset,
                              .last_offset = run->offset + encoded.record_count - 1,
                              .batch_bytes = (int32_t)bytes,
                              .max_timestamp_ms = encoded.max_timestamp_ms};
    stand(run, &header);
    return SL_OK;
}

static sl_status append_locked(sl_log *log, sl_records *records, int64_t *out_first,
                               int64_t *out_end) {
    SL_UNINITIALIZED append_run run;
    begin(&run, log, sl_os_now_ms());
    int64_t first_offset = run.offset;
    *out_first = first_offset;
    SL_UNINITIALIZED sl_records with_epoch;
    const sl_records *given = records;
    if (records->leader_epoch < 0 && log->options.leader_epoch >= 0) {
        with_epoch = *records;
        with_epoch.leader_epoch = log->options.leader_epoch;
        given = &with_epoch;
    }
    SL_UNINITIALIZED sl_encoder encoder;
    sl_status status = sl_encoder_begin(&encoder, given, run.now_ms);
    int64_t soft_bytes = records->one_batch != 0 ? SL_SEGMENT_BYTES_MAX : log->options.batch_bytes;
    while (status == SL_OK && encoder.next < records->count) {
        status = records->codec == SL_CODEC_NONE
                     ? append_plain_batch(&run, &encoder, given, soft_bytes)
                     : append_packed_batch(&run, &encoder, given, soft_bytes);
    }
    if (status == SL_OK) {
        publish(&run);
    } else {
        undo(&run);
    }
    log->append_count++;
    *out_end = atomic_load_explicit(&log->log_end_offset, memory_order_relaxed);
    records->out_appended_count = *out_end - first_offset;
    return status;
}

static int64_t finish(sl_log *log, sl_status status, int64_t first_offset, int64_t end_offset) {
    if (SL_UNLIKELY(status != SL_OK)) return -(int64_t)status;
    if (log->options.sync == SL_SYNC_ALWAYS) {
        status = sl_sync_to(log, end_offset, -1);
        if (status != SL_OK) return -(int64_t)status;
    }
    return first_offset;
}

int64_t sl_log_append(sl_log *log, sl_records *records) {
    records->out_appended_count = 0;
    sl_status status = sl_log_writable(log);
    if (SL_UNLIKELY(status != SL_OK)) return -(int64_t)status;
    int64_t first_offset;
    int64_t end_offset;
    pthread_mutex_lock(&log->append_mutex);
    status = append_locked(log, records, &first_offset, &end_offset);
    pthread_mutex_unlock(&log->append_mutex);
    return finish(log, status, first_offset, end_offset);
}

int64_t sl_log_append_value(sl_log *log, const uint8_t *value, size_t bytes) {
    if (SL_UNLIKELY(bytes > (size_t)SL_SEGMENT_BYTES_MAX))
        return -(int64_t)sl_fail(SL_E_TOO_LARGE, 0, NULL, NULL, -1, -1,
                                 "a value of %zu bytes fits no segment", bytes);
    sl_records records = {.count = 1,
                          .values = value,
                          .uniform_value_bytes = (int32_t)bytes,
                          .timestamp_ms = -1,
                          .leader_epoch = -1,
                          .producer_id = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1};
    return sl_log_append(log, &records);
}

/* ---- complete batches ---- */

/* Check all batches of a block before any byte of it is stored. */
static sl_status check_block(sl_log *log, const uint8_t *data, size_t bytes, int32_t checks,
                             bool replicated) {
    int64_t expected = atomic_load_explicit(&log->log_end_offset, memory_order_relaxed);
    size_t at = 0;
    sl_status status = SL_OK;
    sl_buffer scratch = {0};
    if (bytes == 0)
        status = sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, 0, "no record batch was given");
    while (status == SL_OK && at < bytes) {
        sl_batch_header header;
        bool unsupported;
        const char *fault = sl_batch_fault(data + at, bytes - at, checks,
                                           (size_t)log->options.decompressed_bytes_max, &scratch,
                                           &header, &unsupported);
        if (fault == NULL && !replicated && header.record_count - 1 != header.last_offset_delta)
            fault = "the record count is not the last offset delta plus one";
        if (fault == NULL && !replicated && header.record_count == 0) fault = "the batch is empty";
        if (fault == NULL && replicated && header.base_offset < expected)
            fault = "the base offset is below the log end offset";
        if (fault == NULL && replicated && header.base_offset > expected &&
            (log->options.flags & SL_OPEN_NO_CHECKPOINTS) == 0)
            fault =
                "the base offset is beyond the log end offset: this log keeps offsets without gaps";
        if (fault != NULL)
            status = sl_fail(unsupported ? SL_E_UNSUPPORTED : SL_E_CORRUPT, 0, NULL, NULL, -1,
                             (int64_t)at, "record batch given to append: %s", fault);
        expected = header.last_offset + 1;
        if (status == SL_OK) at += (size_t)header.batch_bytes;
    }
    sl_buffer_free(&scratch);
    return status;
}

static sl_status append_block_locked(sl_log *log, const uint8_t *data, size_t bytes,
                                     int32_t leader_epoch, bool replicated, int64_t *out_first,
                                     int64_t *out_end) {
    append_run run;
    begin(&run, log, sl_os_now_ms());
    *out_first = run.offset;
    sl_status status = SL_OK;
    bool first = true;
    for (size_t at = 0; at < bytes && status == SL_OK;) {
        sl_batch_header header;
        sl_header_decode(data + at, &header);
        int64_t base_offset = replicated ? header.base_offset : run.offset;
        if (replicated && first) *out_first = base_offset;
        first = false;
        header.last_offset = base_offset + header.last_offset_delta;
        header.base_offset = base_offset;
        status = make_room(&run, header.batch_bytes, header.last_offset + 1 - run.offset,
                           header.max_timestamp_ms);
        if (status != SL_OK) break;
        if (header.last_offset - run.segment->base_offset > INT32_MAX) {
            status = sl_fail(SL_E_INVALID, 0, log->place->path, NULL, base_offset, (int64_t)at,
                             "the batch lies more than 2^31 offsets beyond its segment's base");
            break;
        }
        uint8_t *out = run.segment->map + run.tail;
        memcpy(out, data + at, (size_t)header.batch_bytes);
        sl_put_u64(out + SL_AT_BASE_OFFSET, (uint64_t)base_offset);
        if (leader_epoch >= 0) sl_put_u32(out + SL_AT_LEADER_EPOCH, (uint32_t)leader_epoch);
        at += (size_t)header.batch_bytes;
        stand(&run, &header);
    }
    if (status == SL_OK) {
        publish(&run);
    } else {
        undo(&run);
    }
    log->append_count++;
    *out_end = atomic_load_explicit(&log->log_end_offset, memory_order_relaxed);
    return status;
}

static int64_t append_block(sl_log *log, const uint8_t *data, size_t bytes, int32_t leader_epoch,
                            int32_t checks, bool replicated) {
    sl_status status = sl_log_writable(log);
    if (status != SL_OK) return -(int64_t)status;
    if (data == NULL || checks < SL_CHECK_HEADER || checks > SL_CHECK_RECORDS)
        return -(int64_t)sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "data or checks is invalid");
    int64_t first_offset = 0;
    int64_t end_offset = 0;
    pthread_mutex_lock(&log->append_mutex);
    status = check_block(log, data, bytes, checks, replicated);
    if (status == SL_OK)
        status = append_block_locked(log, data, bytes, leader_epoch, replicated, &first_offset,
                                     &end_offset);
    pthread_mutex_unlock(&log->append_mutex);
    return finish(log, status, first_offset, end_offset);
}

int64_t sl_log_append_batches(sl_log *log, uint8_t const *data, size_t bytes, int32_t leader_epoch,
                              int32_t checks) {
    return append_block(log, data, bytes, leader_epoch, checks, false);
}

int64_t sl_log_append_replicated(sl_log *log, uint8_t const *data, size_t bytes) {
    return append_block(log, data, bytes, -1, SL_CHECK_CRC, true);
}

sl_status sl_log_roll(sl_log *log) {
    sl_status status = sl_log_writable(log);
    if (status != SL_OK) return status;
    pthread_mutex_lock(&log->append_mutex);
    status = sl_log_roll_locked(log);
    pthread_mutex_unlock(&log->append_mutex);
    return status;
}
