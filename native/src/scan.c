/* scan.c -- how far the bytes of a segment can be believed.
 *
 * After a crash a segment holds, in this order: batches that were complete; at most a few that were
 * being written; zeros that were reserved.  After a power loss pages may be missing anywhere behind
 * the last sync, in any order.  So the sound prefix is found by walking from a place that is known
 * good, and it ends at the first batch that breaks a rule:
 *
 *   length, magic, counts     not covered by the CRC: a flipped bit there must be caught here
 *   base offset as expected   not covered either; a stale batch of a recycled block is lower, and
 *                             only a compacted or replicated log may leave gaps
 *   CRC-32C                   everything else
 *
 * What the end means is decided by the caller, who knows what had been durable. */
#define _GNU_SOURCE
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SCAN_WINDOW_BYTES = 2 << 20 };

/* The walk ends here, before the end of the file.  The batch before was taken by its framing alone: if it
 * is damaged, its length may be, and what follows it may be its own rest. */
static void distrust_last(sl_scan *out, const uint8_t *map, int64_t position, int64_t next_offset) {
    sl_batch_header header;
    if (position < 0) return;
    sl_header_decode(map + position, &header);
    if (sl_batch_crc_matches(map + position, &header)) return;
    out->position = position;
    out->next_offset = next_offset;
    out->unsupported = false;
    out->fault = "CRC-32C mismatch";
}

static bool all_zero(const uint8_t *p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i++)
        if (p[i] != 0) return false;
    return true;
}

sl_status sl_scan_bytes(const sl_place *place, int64_t base_offset, const uint8_t *map,
                        int64_t position, int64_t bytes, int64_t next_offset,
                        int64_t crc_from_offset, bool contiguous, sl_scan *out) {
    int64_t populated = position;
    int64_t unchecked = -1; /* position of the batch before, if only its framing was looked at */
    int64_t unchecked_offset = 0;
    *out = (sl_scan){.position = position, .next_offset = next_offset, .file_bytes = bytes};
    while (out->position < bytes) {
        const uint8_t *data = map + out->position;
        int64_t left = bytes - out->position;
        for (int pass = 0; pass < 2; pass++) {
            /* First the header's bytes, then the batch's: both before they are touched. */
            int64_t length = SL_BATCH_OVERHEAD;
            if (pass == 1 && left >= SL_BATCH_OVERHEAD) {
                int32_t field = sl_get_i32(data + SL_AT_LENGTH);
                if (field > 0) length = (int64_t)field + SL_LENGTH_BIAS;
            }
            int64_t end = out->position + (length < left ? length : left);
            if (end <= populated) continue;
            int64_t to = end + SCAN_WINDOW_BYTES < bytes ? end + SCAN_WINDOW_BYTES : bytes;
            int rc = sl_os.populate(map + populated, (size_t)(to - populated), 0);
            if (rc != 0) {
                char name[SL_NAME_BYTES];
                sl_segment_name(base_offset, ".log", name);
                return sl_fail(SL_E_IO, rc == -EFAULT ? EIO : -rc, place->path, name,
                               out->next_offset, populated, "the segment cannot be read");
            }
            populated = to;
        }
        int64_t probe = left < SL_BATCH_OVERHEAD ? left : SL_BATCH_OVERHEAD;
        if (data[0] == 0 && all_zero(data, probe)) { /* reserved and never written */
            distrust_last(out, map, unchecked, unchecked_offset);
            return SL_OK;
        }
        sl_batch_header header;
        out->fault = sl_batch_fault(data, (size_t)left, SL_CHECK_HEADER, 0, NULL, &header,
                                    &out->unsupported);
        if (out->fault == NULL && header.base_offset < out->next_offset)
            out->fault = "the base offset is below the offset expected here";
        if (out->fault == NULL && contiguous) {
            /* Below the recovery point gaps may be honest: a compacted log that Kafka left to us. */
            int64_t bound = out->next_offset > crc_from_offset ? out->next_offset : crc_from_offset;
            if (header.base_offset > bound)
                out->fault = "the base offset is beyond the offset expected here";
            else if (header.base_offset < crc_from_offset && header.last_offset >= crc_from_offset)
                out->fault = "its offsets run over the recovery point";
        }
        if (out->fault == NULL && header.last_offset - base_offset > INT32_MAX)
            out->fault = "the offsets lie too far beyond the segment's base offset";
        bool checked = out->fault == NULL && header.last_offset >= crc_from_offset;
        if (checked) {
            if (!sl_batch_crc_matches(data, &header)) out->fault = "CRC-32C mismatch";
            out->batches++;
        }
        if (out->fault != NULL) {
            distrust_last(out, map, unchecked, unchecked_offset);
            return SL_OK;
        }
        unchecked = checked ? -1 : out->position;
        unchecked_offset = out->next_offset;
        out->position += header.batch_bytes;
        out->next_offset = header.last_offset + 1;
    }
    return SL_OK;
}

static sl_status map_for_scan(const sl_place *place, int64_t base_offset, bool drop_cache,
                              uint8_t **out_map, int64_t *out_bytes) {
    char name[SL_NAME_BYTES];
    sl_segment_name(base_offset, ".log", name);
    int fd = sl_os.open(place->dir_fd, name, O_RDONLY, 0);
    if (fd < 0) return sl_fail_errno(fd, place->path, name, "cannot open the segment");
    if (drop_cache) (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    int64_t bytes = sl_os_file_bytes(fd);
    int rc = bytes < 0 ? (int)bytes : 0;
    *out_map = NULL;
    if (rc == 0 && bytes > INT32_MAX) {
        close(fd);
        return sl_fail(SL_E_CORRUPT, 0, place->path, name, -1, bytes,
                       "a segment of 2 GiB or more cannot be one of Kafka's");
    }
    if (rc == 0 && bytes > 0) rc = sl_os.map(fd, (size_t)bytes, 0, out_map);
    close(fd);
    if (rc != 0) return sl_fail_errno(rc, place->path, name, "cannot map the segment");
    *out_bytes = bytes;
    return SL_OK;
}

sl_status sl_scan_file(const sl_place *place, int64_t base_offset, int64_t start_hint,
                       int64_t hint_offset, int64_t crc_from_offset, bool contiguous,
                       bool drop_cache, sl_scan *out) {
    uint8_t *map;
    int64_t bytes;
    *out = (sl_scan){.next_offset = base_offset};
    sl_status status = map_for_scan(place, base_offset, drop_cache, &map, &bytes);
    if (status != SL_OK) return status;
    if (map == NULL) return SL_OK; /* an empty file */
    status = sl_scan_bytes(place, base_offset, map, start_hint, bytes, hint_offset, crc_from_offset,
                           contiguous, out);
    munmap(map, (size_t)bytes);
    return status;
}

int64_t sl_scan_find_sound(const uint8_t *map, int64_t from, int64_t bytes, int64_t offset_min,
                           int64_t offset_max) {
    /* Bytes that look like headers may be many and their checksums long: together they may cost a
     * few passes over what is there, no more. */
    int64_t budget = 8 * (bytes - from) + (1 << 20);
    int64_t position = from;
    while (position + SL_BATCH_OVERHEAD <= bytes && budget > 0) {
        const uint8_t *magic =
            memchr(map + position + SL_AT_MAGIC, 2, (size_t)(bytes - position - SL_AT_MAGIC));
        if (magic == NULL) break;
        position = magic - map - SL_AT_MAGIC;
        sl_batch_header header;
        bool unsupported;
        if (sl_batch_fault(map + position, (size_t)(bytes - position), SL_CHECK_HEADER, 0, NULL,
                           &header, &unsupported) == NULL &&
            header.base_offset >= offset_min && header.base_offset < offset_max) {
            if (sl_batch_crc_matches(map + position, &header)) return position;
            budget -= header.batch_bytes;
        }
        position++;
    }
    return bytes;
}

int64_t sl_scan_count_later(const sl_place *place, int64_t base_offset, int64_t from,
                            int64_t offset_min) {
    uint8_t *map;
    int64_t bytes;
    if (map_for_scan(place, base_offset, false, &map, &bytes) != SL_OK || map == NULL) return 0;
    int64_t count = 0;
    if (sl_os.populate(map, (size_t)bytes, 0) == 0) {
        int64_t position = from + 1;
        while (position < bytes) {
            position =
                sl_scan_find_sound(map, position, bytes, offset_min, base_offset + INT32_MAX);
            if (position >= bytes) break;
            count++;
            position += (int64_t)sl_get_i32(map + position + SL_AT_LENGTH) + SL_LENGTH_BIAS;
        }
    }
    munmap(map, (size_t)bytes);
    return count;
}
