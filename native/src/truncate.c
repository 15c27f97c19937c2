/* truncate.c -- dropping records below or from an offset on, all or nothing over a crash.
 *
 *   truncate_prefix(offset)   1. sync the records below offset: the log never ends below its start
 *                             2. log-start-offset-checkpoint := offset, durable  <- decided here
 *                             3. unlink the segments that end at or below it
 *                             a crash in between leaves files that the next open unlinks
 *
 *   truncate_suffix(offset)   1. sync everything that stays
 *                             2. .truncation := offset, durable                  <- decided here
 *                             3. copy what stays of the segment that holds `offset` into a new file,
 *                                sync it, rename it into place; unlink the later segments
 *                             4. recovery point := min(recovery point, offset), durable
 *                             5. unlink .truncation
 *                             a crash in between: the next open does 3 to 5 again
 *
 * The segment in the middle is copied, never shortened in place: readers keep the old file under
 * their maps and their memoryviews keep their bytes.  A batch that the offset splits is cut, its
 * header and CRC made anew, so that exactly the records from `offset` on are gone. */
#define _GNU_SOURCE
#include "truncate.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "crc32c.h"
#include "scan.h"

/* ---- prefix ---- */

sl_status sl_log_truncate_prefix(sl_log *log, int64_t offset) {
    sl_status status = sl_log_writable(log);
    if (status != SL_OK) return status;
    pthread_mutex_lock(&log->append_mutex);
    int64_t end_offset = atomic_load(&log->log_end_offset);
    if (offset < 0 || offset > end_offset) {
        status = sl_fail(SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, offset, -1,
                         "cannot drop records below offset %lld: the log ends at %lld",
                         (long long)offset, (long long)end_offset);
    } else if (offset > atomic_load(&log->log_start_offset)) {
        /* With nothing left, a new segment lets the old file go. */
        if (offset == end_offset) status = sl_log_roll_locked(log);
        if (status == SL_OK && offset > atomic_load(&log->durable_offset))
            status = sl_sync_to(log, offset, -1);
        if (status == SL_OK && !(log->options.flags & SL_OPEN_NO_CHECKPOINTS))
            status = sl_checkpoint_write(log->place, sl_log_start_file, offset);
        if (status == SL_OK) {
            atomic_store_explicit(&log->log_start_offset, offset, memory_order_release);
            sl_control_begin(log);
            pthread_mutex_lock(&log->list_mutex);
            sl_segment_list *list = &log->list;
            int32_t dropped = 0;
            while (dropped + 1 < list->count && list->bases[dropped + 1] <= offset) {
                (void)sl_delete_segment_files(log->place, list->bases[dropped]);
                sl_segment_release(list->items[dropped]);
                dropped++;
            }
            list->count -= dropped;
            memmove(list->bases, list->bases + dropped, (size_t)list->count * sizeof *list->bases);
            memmove(list->items, list->items + dropped, (size_t)list->count * sizeof(sl_segment *));
            pthread_mutex_unlock(&log->list_mutex);
            atomic_store(&log->directory_dirty, 1);
            sl_control_end(log, atomic_load(&log->active)->base_offset);
        }
    }
    pthread_mutex_unlock(&log->append_mutex);
    return status;
}

/* ---- suffix: the files ---- */

/* Make in `out` a batch of the records below `offset` of the batch at data.  out->bytes 0: none. */
static sl_status cut_batch(sl_log *log, const uint8_t *data, const sl_batch_header *header,
                           int64_t offset, sl_buffer *out) {
    out->bytes = 0;
    if (header->base_offset >= offset || header->record_count == 0) return SL_OK;
    const uint8_t *records = data + SL_BATCH_OVERHEAD;
    size_t bytes = (size_t)header->batch_bytes - SL_BATCH_OVERHEAD;
    int32_t codec = header->attributes & SL_ATTRIBUTE_CODEC_MASK;
    sl_buffer plain = {0};
    sl_buffer packed = {0};
    sl_status status = SL_OK;
    if (codec != SL_CODEC_NONE) {
        status = sl_codec_decompress(codec, records, bytes,
                                     (size_t)log->options.decompressed_bytes_max, &plain);
        records = plain.data;
        bytes = plain.bytes;
    }
    const uint8_t *p = records;
    const uint8_t *end = records + bytes;
    int32_t kept = 0;
    int64_t max_timestamp_ms = -1;
    for (int32_t i = 0; status == SL_OK && i < header->record_count; i++) {
        sl_record_view record;
        const uint8_t *next = sl_record_decode(p, end, &record);
        if (next == NULL) {
            status = sl_fail(SL_E_CORRUPT, 0, log->place->path, NULL, header->base_offset, -1,
                             "a record of the batch to cut is malformed");
            break;
        }
        if (header->base_offset + record.offset_delta >= offset) break;
        int64_t timestamp_ms = header->base_timestamp_ms + record.timestamp_delta_ms;
        if (timestamp_ms > max_timestamp_ms) max_timestamp_ms = timestamp_ms;
        kept++;
        p = next;
    }
    if (status == SL_OK && kept > 0) {
        const uint8_t *body = records;
        size_t body_bytes = (size_t)(p - records);
        if (codec != SL_CODEC_NONE) {
            status = sl_codec_compress(codec, INT32_MIN, records, body_bytes, &packed);
            body = packed.data;
            body_bytes = packed.bytes;
        }
        if (status == SL_OK) status = sl_buffer_reserve(out, SL_BATCH_OVERHEAD + body_bytes);
        if (status == SL_OK) {
            uint8_t *batch = out->data;
            memcpy(batch, data, SL_BATCH_OVERHEAD);
            memcpy(batch + SL_BATCH_OVERHEAD, body, body_bytes);
            out->bytes = SL_BATCH_OVERHEAD + body_bytes;
            sl_put_u32(batch + SL_AT_LENGTH, (uint32_t)(out->bytes - SL_LENGTH_BIAS));
            sl_put_u32(batch + SL_AT_LAST_OFFSET_DELTA,
                       (uint32_t)(offset - 1 - header->base_offset));
            if (!(header->attributes & SL_ATTRIBUTE_LOG_APPEND_TIME))
                sl_put_u64(batch + SL_AT_MAX_TIMESTAMP, (uint64_t)max_timestamp_ms);
            sl_put_u32(batch + SL_AT_RECORD_COUNT, (uint32_t)kept);
            sl_put_u32(batch + SL_AT_CRC,
                       sl_crc32c(0, batch + SL_AT_ATTRIBUTES, out->bytes - SL_AT_ATTRIBUTES));
        }
    }
    sl_buffer_free(&plain);
    sl_buffer_free(&packed);
    return status;
}

/* Write prefix and `last` into NAME.log.cleaned, sync, rename to NAME.log. */
static sl_status replace_segment(const sl_place *place, int64_t base_offset, const uint8_t *prefix,
                                 int64_t prefix_bytes, const sl_buffer *last) {
    char cleaned[SL_NAME_BYTES];
    char name[SL_NAME_BYTES];
    sl_segment_name(base_offset, ".log.cleaned", cleaned);
    sl_segment_name(base_offset, ".log", name);
    int fd = sl_os.open(place->dir_fd, cleaned, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return sl_fail_errno(fd, place->path, cleaned, "cannot create");
    int rc = prefix_bytes > 0 ? sl_os_pwrite_full(fd, prefix, (size_t)prefix_bytes, 0) : 0;
    if (rc == 0 && last->bytes > 0)
        rc = sl_os_pwrite_full(fd, last->data, last->bytes, prefix_bytes);
    if (rc == 0) rc = sl_os.sync_data(fd);
    close(fd);
    if (rc == 0) rc = sl_os.rename(place->dir_fd, cleaned, name);
    if (rc != 0) {
        (void)sl_os.unlink(place->dir_fd, cleaned);
        return sl_fail_errno(rc, place->path, cleaned, "cannot write what stays of the segment");
    }
    sl_segment_name(base_offset, ".index", name);
    (void)sl_os.unlink(place->dir_fd, name);
    sl_segment_name(base_offset, ".timeindex", name);
    (void)sl_os.unlink(place->dir_fd, name);
    return SL_OK;
}

typedef struct cut {
    int64_t bytes;      /* length of the segment that holds the offset, afterwards */
    int64_t end_offset; /* of the log, afterwards: after its last record */
} cut;

/* Step 3 for the one segment that holds `offset`; only_look: see whether it can be done. */
static sl_status cut_segment(sl_log *log, int64_t base_offset, int64_t offset, bool only_look,
                             cut *out) {
    char name[SL_NAME_BYTES];
    sl_segment_name(base_offset, ".log", name);
    int fd = sl_os.open(log->place->dir_fd, name, O_RDONLY, 0);
    if (fd < 0) return sl_fail_errno(fd, log->place->path, name, "cannot open the segment");
    int64_t bytes = sl_os_file_bytes(fd);
    uint8_t *map = NULL;
    int rc = bytes > 0 ? sl_os.map(fd, (size_t)bytes, 0, &map) : 0;
    close(fd);
    if (rc == 0 && bytes > 0) rc = sl_os.populate(map, (size_t)bytes, 0);
    if (rc != 0) {
        if (map != NULL) sl_os_unmap(map, (size_t)bytes);
        return sl_fail_errno(rc, log->place->path, name, "cannot read the segment");
    }
    sl_status status = SL_OK;
    int64_t position = 0;
    int64_t next_offset = base_offset;
    sl_buffer last = {0};
    while (position < bytes) {
        sl_batch_header header;
        bool unsupported;
        const char *fault = sl_batch_fault(map + position, (size_t)(bytes - position),
                                           SL_CHECK_HEADER, 0, NULL, &header, &unsupported);
        if (fault == NULL && header.base_offset < next_offset)
            fault = "the base offset is below the offset expected here";
        if (fault != NULL) {
            /* All below `offset` was synced before the truncation was decided. */
            if (next_offset < offset && (log->options.flags & SL_OPEN_REPAIR) == 0)
                status =
                    sl_fail(SL_E_CORRUPT, 0, log->place->path, name, next_offset, position,
                            "cannot drop the records from offset %lld on: %s; restore the file "
                            "from a copy, or open with repair to cut the log here",
                            (long long)offset, fault);
            break; /* else reserved space, or what a crash left: it goes */
        }
        if (header.last_offset >= offset) {
            status = cut_batch(log, map + position, &header, offset, &last);
            if (status == SL_OK && last.bytes > 0) next_offset = offset;
            break;
        }
        next_offset = header.last_offset + 1;
        position += header.batch_bytes;
    }
    if (status == SL_OK && position < bytes && !only_look)
        status = replace_segment(log->place, base_offset, map, position, &last);
    *out = (cut){.bytes = position + (int64_t)last.bytes, .end_offset = next_offset};
    sl_buffer_free(&last);
    if (map != NULL) sl_os_unmap(map, (size_t)bytes);
    return status;
}

static sl_status sync_directory(sl_log *log) {
    int rc = sl_os.sync_directory(log->place->dir_fd);
    return rc == 0 ? SL_OK : sl_fail_errno(rc, log->place->path, NULL, "cannot sync the directory");
}

/* How many of the segments that begin at bases[0..count) stay: one that begins at `offset` does, empty, if
 * nothing comes before it. */
static int32_t segments_kept(const int64_t *bases, int32_t count, int64_t offset) {
    while (count > 1 && bases[count - 1] >= offset) count--;
    return count;
}

/* Steps 3 to 5.  bases[0..*count): the segments there are; *count shrinks to those that stay. */
static sl_status carry_out(sl_log *log, const int64_t *bases, int32_t *count, int64_t offset,
                           cut *out) {
    int32_t keep = segments_kept(bases, *count, offset);
    sl_status status = SL_OK;
    *out = (cut){.end_offset = offset};
    if (keep > 0) status = cut_segment(log, bases[keep - 1], offset, false, out);
    if (status != SL_OK) return status;
    /* A compacted log may have no records just below `offset`.  The next open would see its end after
     * the last that there is, and so does this one.  A replica's end is its leader's to say. */
    if ((log->options.flags & SL_OPEN_NO_CHECKPOINTS) != 0 || out->end_offset > offset)
        out->end_offset = offset;
    offset = out->end_offset;
    for (int32_t i = *count - 1; i >= keep; i--) {
        /* One that stayed would come back once the log has grown over its offsets. */
        int rc = sl_delete_segment_files(log->place, bases[i]);
        if (rc != 0)
            return sl_fail_errno(rc, log->place->path, NULL, "cannot remove a truncated segment");
    }
    *count = keep;
    status = sync_directory(log);
    /* Written also when the one on disk seems to be lower: a checkpoint whose writing failed at its
     * last step may stand there, and one beyond the end would call the log damaged. */
    if (status == SL_OK && !(log->options.flags & SL_OPEN_NO_CHECKPOINTS)) {
        status = sl_checkpoint_write(log->place, sl_recovery_point_file, offset);
        if (status == SL_OK) log->checkpoint_offset = offset;
    }
    if (status != SL_OK) return status;
    sl_control_reset_durable(log, offset);
    /* A power loss must not bring the old, larger value back: it would call the log damaged. */
    int rc = sl_os.sync_data(log->lock_fd);
    if (rc != 0)
        return sl_fail_errno(rc, log->place->path, ".lock", "cannot sync the control page");
    rc = sl_os.unlink(log->place->dir_fd, sl_truncation_file);
    if (rc != 0 && rc != -ENOENT)
        return sl_fail_errno(rc, log->place->path, sl_truncation_file, "cannot remove");
    return sync_directory(log);
}

sl_status sl_truncation_redo(sl_log *log, const int64_t *bases, int32_t *count, int64_t offset,
                             int64_t *out_end_offset) {
    cut done;
    sl_status status = carry_out(log, bases, count, offset, &done);
    *out_end_offset = done.end_offset;
    return status;
}

/* ---- suffix: the running log ---- */

/* The decision stands on disk but this handle cannot follow: only a new one can. */
static sl_status left_behind(sl_log *log, sl_status status) {
    sl_error reason = *sl_last_error();
    int healthy = 0;
    atomic_compare_exchange_strong(&log->poisoned_errno, &healthy,
                                   reason.system_errno != 0 ? reason.system_errno : EIO);
    return sl_fail(status, reason.system_errno, reason.path, NULL, reason.offset, reason.position,
                   "%s; the truncation is finished when the log is reopened", reason.message);
}

/* append_mutex and checkpoint_mutex held, syncs excluded. */
static sl_status truncate_suffix_locked(sl_log *log, int64_t offset) {
    int32_t count = log->list.count;
    cut done;
    sl_status status =
        cut_segment(log, log->list.bases[segments_kept(log->list.bases, count, offset) - 1], offset,
                    true, &done);
    if (status != SL_OK) return status;
    status = sl_checkpoint_write(log->place, sl_truncation_file, offset);
    if (status != SL_OK) {
        /* Renamed into place and perhaps not durable: the next open would cut what is appended now. */
        bool decided = faccessat(log->place->dir_fd, sl_truncation_file, F_OK, 0) == 0;
        return decided ? left_behind(log, status) : status;
    }
    /* From here on files and list differ: a reader elsewhere must not open the one by the other. */
    sl_control_begin(log);
    status = carry_out(log, log->list.bases, &count, offset, &done);
    sl_segment *fresh = NULL;
    bool rebuilt;
    if (status == SL_OK) status = sl_segment_known(log->place, log->list.bases[count - 1], &fresh);
    if (status == SL_OK)
        status = sl_segment_make_writable(fresh, &log->options, done.bytes, true, &rebuilt);
    if (status == SL_OK) status = sl_rebuild_indexes(log, fresh);
    if (status != SL_OK) {
        sl_segment_release(fresh);
        status = left_behind(log, status);
        sl_control_end(log, atomic_load(&log->active)->base_offset);
        return status;
    }
    atomic_store(&fresh->synced_tail, done.bytes);
    pthread_mutex_lock(&log->list_mutex);
    for (int32_t i = count - 1; i < log->list.count; i++) sl_segment_release(log->list.items[i]);
    log->list.items[count - 1] = fresh;
    log->list.count = count;
    atomic_store(&log->active, fresh);
    atomic_store(&log->log_end_offset, done.end_offset);
    atomic_store(&log->durable_offset, done.end_offset);
    atomic_fetch_add(&log->truncation_count, 1);
    pthread_mutex_unlock(&log->list_mutex);
    sl_control_end(log, fresh->base_offset);
    return SL_OK;
}

sl_status sl_log_truncate_suffix(sl_log *log, int64_t offset) {
    sl_status status = sl_log_writable(log);
    if (status != SL_OK) return status;
    pthread_mutex_lock(&log->append_mutex);
    int64_t start_offset = atomic_load(&log->log_start_offset);
    int64_t end_offset = atomic_load(&log->log_end_offset);
    if (offset < start_offset || offset > end_offset) {
        status = sl_fail(SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, offset, -1,
                         "cannot drop records from offset %lld on: the log holds [%lld, %lld)",
                         (long long)offset, (long long)start_offset, (long long)end_offset);
    } else if (offset < end_offset) {
        status = sl_sync_to(log, end_offset, -1);
        if (status == SL_OK) {
            sl_sync_exclude(log);
            pthread_mutex_lock(&log->checkpoint_mutex);
            status = truncate_suffix_locked(log, offset);
            pthread_mutex_unlock(&log->checkpoint_mutex);
            sl_sync_readmit(log);
        }
    }
    pthread_mutex_unlock(&log->append_mutex);
    return status;
}
