/* recovery.c -- what a directory holds, and what of it is believed.
 *
 * believe.c says how far the files are believed; here they are made to fit.  Where the log ends, the
 * rest is cut and later segments are deleted; where records are lost that had been durable, nothing is
 * touched and opening fails with SL_E_CORRUPT (SL_OPEN_REPAIR cuts there too).
 *
 * What was cut is told in sl_stats: bytes, and how many sound batches stood beyond the cut (a power
 * loss can keep a later page and lose an earlier one).  The rest of the file is cut away, so that
 * nothing stale comes back when the log grows over it.
 *
 * The last segment's indexes are built again unless the log was closed in order, which shows in a
 * recovery point equal to the log's end.
 *
 * Interrupted work is finished first, by Kafka's rules for suffixes: `.deleted` goes; with `.cleaned`
 * about, the exchange had not been decided, so it and every `.swap` from its offset on go; a
 * remaining `.swap` is complete and replaces what it covers.  A `.truncation` file is a truncate_suffix
 * that was decided: it is carried out again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "believe.h"
#include "truncate.h"

typedef struct offsets {
    int64_t *items;
    int32_t count;
    int32_t capacity;
} offsets;

static sl_status offsets_push(offsets *list, int64_t offset) {
    if (list->count == list->capacity) {
        int32_t capacity = list->capacity > 0 ? list->capacity * 2 : 64;
        int64_t *items = sl_os.reallocate(list->items, (size_t)capacity * sizeof *items);
        if (items == NULL) return sl_fail_memory("listing a directory");
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = offset;
    return SL_OK;
}

/* Shell's sort: without a call for each comparison it takes a fifth of qsort's time, which was the
 * largest part of opening a log of 100 segments. */
static void offsets_sort(offsets *list) {
    for (int32_t gap = list->count / 2; gap > 0; gap = gap == 2 ? 1 : (int32_t)(gap / 2.2)) {
        for (int32_t i = gap; i < list->count; i++) {
            int64_t offset = list->items[i];
            int32_t k = i;
            for (; k >= gap && list->items[k - gap] > offset; k -= gap)
                list->items[k] = list->items[k - gap];
            list->items[k] = offset;
        }
    }
}

/* The base offset of "<20 digits><suffix>", or -1. */
static int64_t base_offset_of(const char *name, const char *suffix) {
    int64_t offset = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9') return -1;
        if (offset > (INT64_MAX - 9) / 10) return -1;
        offset = offset * 10 + (name[i] - '0');
    }
    return strcmp(name + 20, suffix) == 0 ? offset : -1;
}

typedef struct listing {
    offsets logs;
    offsets cleaned; /* base offsets of .log.cleaned */
    offsets swaps;   /* of .log.swap */
} listing;

static void listing_free(listing *found) {
    free(found->logs.items);
    free(found->cleaned.items);
    free(found->swaps.items);
}

static sl_status read_directory(const sl_place *place, bool writer, listing *out) {
    *out = (listing){0};
    int fd = sl_os.open(place->dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (directory == NULL) {
        int error = fd < 0 ? fd : -errno;
        if (fd >= 0) close(fd);
        return sl_fail_errno(error, place->path, NULL, "cannot list the directory");
    }
    sl_status status = SL_OK;
    struct dirent *entry;
    while (status == SL_OK && (errno = 0, entry = readdir(directory)) != NULL) {
        const char *name = entry->d_name;
        size_t length = strlen(name);
        int64_t offset;
        if (length == 24 && (offset = base_offset_of(name, ".log")) >= 0) {
            status = offsets_push(&out->logs, offset);
        } else if (length == 32 && (offset = base_offset_of(name, ".log.cleaned")) >= 0) {
            status = offsets_push(&out->cleaned, offset);
        } else if (length == 29 && (offset = base_offset_of(name, ".log.swap")) >= 0) {
            status = offsets_push(&out->swaps, offset);
        } else if (writer && length > 20 && name[0] >= '0' && name[0] <= '9' &&
                   ((length > 8 && strcmp(name + length - 8, ".deleted") == 0))) {
            (void)sl_os.unlink(place->dir_fd, name);
        } else if (writer && (strcmp(name, "recovery-point-offset-checkpoint.tmp") == 0 ||
                              strcmp(name, "log-start-offset-checkpoint.tmp") == 0 ||
                              strcmp(name, ".truncation.tmp") == 0)) {
            (void)sl_os.unlink(place->dir_fd, name);
        }
    }
    if (status == SL_OK && errno != 0)
        status = sl_fail_errno(-errno, place->path, NULL, "cannot list the directory");
    closedir(directory);
    if (status != SL_OK) {
        listing_free(out);
        return status;
    }
    offsets_sort(&out->logs);
    offsets_sort(&out->swaps);
    return SL_OK;
}

static const char *const file_suffixes[] = {".log", ".index", ".timeindex", ".txnindex",
                                            ".snapshot"};
enum { FILE_SUFFIXES = 5, SEGMENT_SUFFIXES = 4 };

int sl_delete_segment_files(const sl_place *place, int64_t base_offset) {
    char name[SL_NAME_BYTES];
    int rc = 0;
    /* The log file last: without its indexes a segment is still a segment, not the other way. */
    for (int i = FILE_SUFFIXES - 1; i >= 0; i--) {
        if (i == 4) continue; /* producer snapshots are named by the end of what they cover */
        sl_segment_name(base_offset, file_suffixes[i], name);
        rc = sl_os.unlink(place->dir_fd, name);
    }
    return rc == -ENOENT ? 0 : rc;
}

/* One that must be gone, because what stays will grow over its offsets. */
static sl_status delete_for_good(const sl_place *place, int64_t base_offset) {
    int rc = sl_delete_segment_files(place, base_offset);
    char name[SL_NAME_BYTES];
    sl_segment_name(base_offset, ".log", name);
    return rc == 0 ? SL_OK : sl_fail_errno(rc, place->path, name, "cannot remove the segment");
}

static void delete_suffixed(const sl_place *place, int64_t base_offset, const char *suffix) {
    char name[SL_NAME_BYTES];
    char whole[32];
    for (int i = 0; i < SEGMENT_SUFFIXES; i++) {
        memcpy(whole, file_suffixes[i], strlen(file_suffixes[i]) + 1);
        strncat(whole, suffix, sizeof whole - strlen(whole) - 1);
        sl_segment_name(base_offset, whole, name);
        (void)sl_os.unlink(place->dir_fd, name);
    }
}

/* Finish exchanges of segments that a crash interrupted.  *out_changed: list the directory again. */
static sl_status finish_exchanges(const sl_place *place, const listing *found, bool *out_changed) {
    *out_changed = found->cleaned.count > 0 || found->swaps.count > 0;
    int64_t lowest_cleaned = INT64_MAX;
    for (int32_t i = 0; i < found->cleaned.count; i++)
        if (found->cleaned.items[i] < lowest_cleaned) lowest_cleaned = found->cleaned.items[i];
    int64_t covered_start = -1;
    int64_t covered_end = -1;
    for (int32_t i = 0; i < found->swaps.count; i++) {
        int64_t base = found->swaps.items[i];
        if (base >= lowest_cleaned) {
            delete_suffixed(place, base, ".swap");
            continue;
        }
        sl_scan scan;
        char from[SL_NAME_BYTES];
        char to[SL_NAME_BYTES];
        sl_segment_name(base, ".log.swap", from);
        if (covered_start < 0) covered_start = base;
        /* The last offset of the swapped segment bounds what it replaces. */
        int fd = sl_os.open(place->dir_fd, from, O_RDONLY, 0);
        if (fd < 0) return sl_fail_errno(fd, place->path, from, "cannot open");
        int64_t bytes = sl_os_file_bytes(fd);
        uint8_t *map = NULL;
        int rc = bytes > 0 ? sl_os.map(fd, (size_t)bytes, 0, &map) : 0;
        close(fd);
        if (rc != 0) return sl_fail_errno(rc, place->path, from, "cannot map");
        scan = (sl_scan){.next_offset = base};
        sl_status status = SL_OK;
        if (map != NULL) {
            status = sl_scan_bytes(place, base, map, 0, bytes, base, 0, false, &scan);
            sl_os_unmap(map, (size_t)bytes);
        }
        if (status != SL_OK) return status;
        if (scan.fault != NULL)
            return sl_fail(SL_E_CORRUPT, 0, place->path, from, scan.next_offset, scan.position,
                           "an exchanged segment is damaged: %s", scan.fault);
        covered_end = scan.next_offset;
        for (int32_t k = 0; k < found->logs.count && status == SL_OK; k++)
            if (found->logs.items[k] >= covered_start && found->logs.items[k] < covered_end &&
                found->logs.items[k] != base)
                status = delete_for_good(place, found->logs.items[k]);
        if (status != SL_OK) return status;
        for (int k = SEGMENT_SUFFIXES - 1; k >= 0; k--) {
            char swapped[32];
            memcpy(swapped, file_suffixes[k], strlen(file_suffixes[k]) + 1);
            strncat(swapped, ".swap", sizeof swapped - strlen(swapped) - 1);
            sl_segment_name(base, swapped, from);
            sl_segment_name(base, file_suffixes[k], to);
            rc = sl_os.rename(place->dir_fd, from, to);
            if (rc != 0 && rc != -ENOENT)
                return sl_fail_errno(rc, place->path, from, "cannot rename into place");
        }
    }
    for (int32_t i = 0; i < found->cleaned.count; i++)
        delete_suffixed(place, found->cleaned.items[i], ".cleaned");
    if (!*out_changed) return SL_OK;
    int rc = sl_os.sync_directory(place->dir_fd);
    return rc == 0 ? SL_OK : sl_fail_errno(rc, place->path, NULL, "cannot sync the directory");
}

/* ---- one segment ---- */

sl_status sl_rebuild_indexes(sl_log *log, sl_segment *segment) {
    int64_t tail = atomic_load(&segment->tail);
    sl_status status = sl_segment_prepare_indexes(segment, &log->options);
    int64_t position = 0;
    while (status == SL_OK && position < tail) {
        status = sl_segment_guard(
            segment, position,
            position + SL_BATCH_OVERHEAD < tail ? position + SL_BATCH_OVERHEAD : tail, false);
        sl_batch_header header;
        if (status == SL_OK) status = sl_segment_header_at(segment, position, tail, &header);
        if (status != SL_OK) break;
        sl_segment_note_batch(segment, &log->options, position, &header);
        position += header.batch_bytes;
    }
    return status;
}

/* What appending needs to know of a segment whose indexes were kept. */
static sl_status restore_bookkeeping(sl_segment *segment) {
    int64_t tail = atomic_load(&segment->tail);
    if (tail == 0) return SL_OK;
    int64_t largest_ms;
    sl_status status =
        sl_segment_largest_timestamp(segment, &largest_ms, &segment->max_timestamp_last_offset);
    if (status != SL_OK) return status;
    atomic_store(&segment->max_timestamp_ms, largest_ms);
    int32_t entries = atomic_load(&segment->offset_index.entries);
    int64_t last =
        entries > 0 ? sl_index_offset_entry(&segment->offset_index, entries - 1).position : 0;
    segment->bytes_since_entry = tail - last;
    status = sl_segment_guard(segment, 0, SL_BATCH_OVERHEAD, false);
    if (status != SL_OK) return status;
    sl_batch_header header;
    status = sl_segment_header_at(segment, 0, tail, &header);
    if (status == SL_OK) segment->first_timestamp_ms = header.max_timestamp_ms;
    return status;
}

/* ---- the writer ---- */

static sl_status damaged(sl_log *log, int64_t base_offset, const sl_scan *scan,
                         int64_t known_durable) {
    char name[SL_NAME_BYTES];
    sl_segment_name(base_offset, ".log", name);
    return sl_fail(
        scan->unsupported ? SL_E_UNSUPPORTED : SL_E_CORRUPT, 0, log->place->path, name,
        scan->next_offset, scan->position,
        "%s, yet offsets below %lld were durable: restore the file from a copy, read what "
        "is left with a read-only handle, or open with repair to cut the log here",
        scan->fault != NULL ? scan->fault : "the records end here", (long long)known_durable);
}

/* Whether a sealed segment's indexes are whole: a recovery point at its very end may have been written
 * before it was sealed, and so before they were synced. */
static bool indexes_stand(sl_place *place, int64_t base_offset) {
    sl_segment *segment;
    if (sl_segment_known(place, base_offset, &segment) != SL_OK) return false;
    bool stand = sl_segment_load(segment) == SL_OK && !segment->index_bad;
    sl_segment_release(segment);
    return stand;
}

static sl_status damaged_start(sl_log *log, const sl_scan *scan, int64_t log_start_offset) {
    return sl_fail(
        SL_E_CORRUPT, 0, log->place->path, sl_log_start_file, scan->next_offset, -1,
        "the log starts at offset %lld by this file, yet its records end at %lld, and were "
        "durable up to its start: restore the directory from a copy, correct the file, or "
        "open with repair to begin anew at its offset",
        (long long)log_start_offset, (long long)scan->next_offset);
}

/* Whether what the verdict says may be carried out. */
static sl_status permit(sl_log *log, const sl_belief *belief, const sl_verdict *verdict,
                        int64_t base_offset) {
    bool repair = (log->options.flags & SL_OPEN_REPAIR) != 0;
    const sl_scan *scan = &verdict->scan;
    if (verdict->unstarted && !repair) return damaged_start(log, scan, belief->log_start_offset);
    if (verdict->lost) {
        if (!repair) return damaged(log, base_offset, scan, belief->known_durable);
        log->damage_offset = scan->next_offset;
    }
    /* Old messages in a foreign directory are not ours to cut.  In a log that a writer of ours
     * left it is a header of which the half with the magic byte never reached the disk. */
    if (scan->unsupported && !repair && belief->known_durable < 0)
        return damaged(log, base_offset, scan, scan->next_offset);
    return SL_OK;
}

/* Walk from the recovery point on, cut what is not sound, and leave log->list complete. */
static sl_status recover_segments(sl_log *log, listing *found, const sl_belief *belief) {
    offsets *bases = &found->logs;
    int32_t first_dirty = sl_belief_first(belief, bases->items, bases->count);
    sl_status status = SL_OK;
    for (int32_t i = 0; i < bases->count && status == SL_OK; i++) {
        int64_t base = bases->items[i];
        sl_segment *segment;
        status = sl_segment_known(log->place, base, &segment);
        if (status != SL_OK) return status;
        status = sl_list_push(&log->list, segment);
        if (status != SL_OK) {
            sl_segment_release(segment);
            return status;
        }
        if (i < first_dirty) continue;
        sl_verdict verdict;
        status = sl_believe_segment(log, belief, belief->recovery_point, bases->items, bases->count,
                                    i, &verdict);
        if (status == SL_OK) status = permit(log, belief, &verdict, base);
        if (status != SL_OK) return status;
        const sl_scan scan = verdict.scan;
        log->recovered_batches += scan.batches;
        bool last = i == bases->count - 1;
        if (scan.fault != NULL || verdict.gap) {
            log->recovery_later_batches +=
                sl_scan_count_later(log->place, base, scan.position, scan.next_offset);
            log->recovery_discarded_bytes += scan.file_bytes - scan.position;
            for (int32_t k = bases->count - 1; k > i; k--) {
                log->recovery_later_batches +=
                    sl_scan_count_later(log->place, bases->items[k], -1, scan.next_offset);
                status = delete_for_good(log->place, bases->items[k]);
                if (status != SL_OK) return status;
            }
            if (!last) {
                int rc = sl_os.sync_directory(log->place->dir_fd);
                if (rc != 0)
                    return sl_fail_errno(rc, log->place->path, NULL, "cannot sync the directory");
            }
            bases->count = i + 1;
            last = true;
        } else if (last && scan.position < scan.file_bytes) {
            /* Zeros: space that was reserved, or a page that a power loss took from under later ones. */
            int64_t later = sl_scan_count_later(log->place, base, scan.position, scan.next_offset);
            log->recovery_later_batches += later;
            if (later > 0) log->recovery_discarded_bytes += scan.file_bytes - scan.position;
        }
        if (!last && scan.position == scan.file_bytes &&
            bases->items[i + 1] <= belief->recovery_point && indexes_stand(log->place, base))
            continue; /* sealed, and durable to its end */
        bool clean = last && scan.batches == 0 && scan.position == scan.file_bytes &&
                     scan.next_offset == belief->recovery_point;
        bool rebuilt;
        status = sl_segment_make_writable(segment, &log->options, scan.position, !clean, &rebuilt);
        if (status == SL_OK)
            status = rebuilt ? sl_rebuild_indexes(log, segment) : restore_bookkeeping(segment);
        if (status != SL_OK) return status;
        atomic_store(&log->log_end_offset, scan.next_offset);
        if (clean) atomic_store(&segment->synced_tail, scan.position);
        if (!last) {
            status = sl_segment_seal(segment);
            if (status != SL_OK) return status;
            int rc = sl_os.sync_data(segment->fd);
            if (rc != 0) {
                char name[SL_NAME_BYTES];
                sl_segment_name(base, ".log", name);
                return sl_fail_errno(rc, log->place->path, name, "cannot sync a recovered segment");
            }
            close(segment->fd);
            segment->fd = -1;
            atomic_store(&segment->synced_tail, atomic_load(&segment->tail));
        }
    }
    return status;
}

/* A log without segments: a new one, or one whose records were all truncated away. */
static sl_status begin_empty(sl_log *log, int64_t base_offset) {
    sl_segment *segment;
    sl_status status = sl_segment_create(log->place, base_offset, &log->options, &segment);
    if (status != SL_OK) return status;
    status = sl_list_push(&log->list, segment);
    if (status != SL_OK) {
        sl_segment_release(segment);
        return status;
    }
    atomic_store(&log->log_end_offset, base_offset);
    atomic_store(&log->directory_dirty, 1);
    return SL_OK;
}

static void drop_below_start(sl_log *log, int64_t log_start_offset) {
    sl_segment_list *list = &log->list;
    int32_t dropped = 0;
    while (dropped + 1 < list->count && list->bases[dropped + 1] <= log_start_offset) {
        (void)sl_delete_segment_files(log->place, list->bases[dropped]); /* or the next open will */
        sl_segment_release(list->items[dropped]);
        dropped++;
    }
    list->count -= dropped;
    memmove(list->bases, list->bases + dropped, (size_t)list->count * sizeof *list->bases);
    memmove(list->items, list->items + dropped, (size_t)list->count * sizeof(sl_segment *));
}

static sl_status recover_listed(sl_log *log, listing *found, int64_t previous_durable,
                                bool previous_poisoned) {
    bool own_files = (log->options.flags & SL_OPEN_NO_CHECKPOINTS) == 0;
    bool repair = (log->options.flags & SL_OPEN_REPAIR) != 0;
    sl_belief p;
    sl_status read = sl_belief_read(log, previous_durable, &p);
    if (read != SL_OK) return read;
    p.drop_cache = previous_poisoned;
    int64_t log_start_offset = p.log_start_offset;

    if (p.truncation >= 0) {
        int64_t end_offset;
        sl_status status = sl_truncation_redo(log, found->logs.items, &found->logs.count,
                                              p.truncation, &end_offset);
        if (status != SL_OK) return status;
        sl_belief_cut(&p, end_offset);
    }
    if (found->logs.count == 0) {
        if (p.known_durable > 0 && p.known_durable > log_start_offset && !repair)
            return sl_fail(
                SL_E_CORRUPT, 0, log->place->path, NULL, p.known_durable, -1,
                "the directory has no segment left, yet offsets below %lld were durable: "
                "restore it from a copy, or open with repair to begin anew",
                (long long)p.known_durable);
        if (!(log->options.flags & SL_OPEN_CREATE) && p.known_durable < 0)
            return sl_fail(
                SL_E_NOT_FOUND, ENOENT, log->place->path, NULL, -1, -1,
                "there is no log in this directory: check the path, or open it with create");
        int64_t base = log->options.initial_offset;
        if (log_start_offset > base) base = log_start_offset;
        if (p.known_durable > base && !repair) base = p.known_durable;
        sl_status status = begin_empty(log, base);
        /* From the start the directory says that a writer of ours fills it: a gap is a loss. */
        if (status == SL_OK && own_files)
            status = sl_checkpoint_write(log->place, sl_recovery_point_file, base);
        if (status != SL_OK) return status;
        log->checkpoint_offset = own_files ? base : -1;
        p.known_durable = base;
    } else {
        if (log->options.flags & SL_OPEN_EXCLUSIVE)
            return sl_fail(SL_E_EXISTS, EEXIST, log->place->path, NULL, -1, -1,
                           "there is a log in this directory already");
        sl_status status = recover_segments(log, found, &p);
        if (status != SL_OK) return status;
    }
    int64_t first_base = log->list.bases[0];
    if (log_start_offset < first_base) log_start_offset = first_base;
    if (atomic_load(&log->log_end_offset) < log_start_offset) {
        /* truncate_prefix was durable before the records it kept were: nothing is left to read. */
        sl_status status = SL_OK;
        for (int32_t i = log->list.count - 1; i >= 0 && status == SL_OK; i--)
            status = delete_for_good(log->place, log->list.bases[i]);
        if (status != SL_OK) return status;
        sl_list_clear(&log->list);
        status = begin_empty(log, log_start_offset);
        if (status != SL_OK) return status;
    }
    drop_below_start(log, log_start_offset);
    atomic_store(&log->log_start_offset, log_start_offset);
    sl_segment *active = log->list.items[log->list.count - 1];
    atomic_store(&log->active, active);
    int64_t end_offset = atomic_load(&log->log_end_offset);
    int64_t durable = p.known_durable;
    if (durable < active->base_offset) durable = active->base_offset; /* sealed ones were synced */
    if (durable > end_offset || log->damage_offset >= 0)
        durable = durable > end_offset ? end_offset : durable;
    atomic_store(&log->durable_offset, durable);
    if (log->damage_offset >= 0 && own_files && log->checkpoint_offset > end_offset) {
        /* The cut must hold: a checkpoint beyond the end would call the log damaged for ever. */
        sl_status status = sl_checkpoint_write(log->place, sl_recovery_point_file, durable);
        if (status != SL_OK) return status;
        log->checkpoint_offset = durable;
    }
    sl_control_reset_durable(log, durable);
    sl_control_heal(log);
    sl_control_end(log, active->base_offset);
    return SL_OK;
}

sl_status sl_recover_writer(sl_log *log) {
    int64_t previous_durable;
    bool previous_poisoned;
    if (!(log->options.flags & SL_OPEN_CREATE) &&
        faccessat(log->place->dir_fd, ".lock", F_OK, 0) != 0) {
        /* Refuse a directory that is no log before anything is written into it. */
        listing seen;
        sl_status status = read_directory(log->place, false, &seen);
        if (status != SL_OK) return status;
        bool empty = seen.logs.count == 0 && seen.swaps.count == 0;
        listing_free(&seen);
        if (empty)
            return sl_fail(
                SL_E_NOT_FOUND, ENOENT, log->place->path, NULL, -1, -1,
                "there is no log in this directory: check the path, or open it with create");
    }
    sl_status status = sl_control_lock(log, &previous_durable, &previous_poisoned);
    if (status != SL_OK) return status;
    listing found;
    status = read_directory(log->place, true, &found);
    if (status != SL_OK) return status;
    bool changed;
    status = finish_exchanges(log->place, &found, &changed);
    if (status == SL_OK && changed) {
        listing_free(&found);
        status = read_directory(log->place, true, &found);
        if (status != SL_OK) return status;
    }
    if (status == SL_OK) status = recover_listed(log, &found, previous_durable, previous_poisoned);
    listing_free(&found);
    return status;
}

sl_status sl_list_bases(const sl_place *place, int64_t **out_bases, int32_t *out_count) {
    listing found;
    sl_status status = read_directory(place, false, &found);
    if (status != SL_OK) return status;
    *out_bases = found.logs.items;
    *out_count = found.logs.count;
    found.logs.items = NULL;
    listing_free(&found);
    return SL_OK;
}
