/* segment.c -- one segment: a file of record batches, its map, its two indexes.
 *
 *   position 0                         tail            populated_end      reserved_end    map_bytes
 *   +----------------------------------+----------------+------------------+- - - - - - - -+
 *   | batches, never changed again     | zeros, faulted | zeros, reserved  | not in the file|
 *   +----------------------------------+----------------+------------------+- - - - - - - -+
 *   readers stop here ----------------^  stores go here   fallocated         address space
 *
 * Where syncs are small and follow one another, zeros are written to the disk ahead of the tail, past the
 * page cache (written_end).  A block that was only reserved must be noted as written by the sync that
 * first stores into it, which is a commit of the file system's journal: half of what such a sync costs.
 *
 * Life of a segment file: created empty; reserved in growing steps while it is active; sealed, which
 * cuts it to its tail so that it is byte for byte what Kafka would have written; unlinked when
 * truncated away.  A file is never made shorter than its tail while anybody may have it mapped.
 *
 * Sealed segments are loaded when first touched: opening a log of a thousand segments reads the
 * directory, not the segments.
 *
 * Left to others: where in a segment something stands (seek.c), which segment an offset belongs to (log.c),
 * when to roll (append.c), who syncs
 * (sync.c), what the bytes beyond a crash are worth (recovery.c). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

void sl_segment_name(int64_t base_offset, const char *suffix, char out[SL_NAME_BYTES]) {
    snprintf(out, SL_NAME_BYTES, "%020lld%s", (long long)base_offset, suffix);
}

static int64_t page_up(int64_t bytes) { return (bytes + 4095) & ~(int64_t)4095; }

sl_status sl_segment_known(sl_place *place, int64_t base_offset, sl_segment **out) {
    sl_segment *segment = sl_os.allocate_zeroed(sizeof *segment);
    if (segment == NULL) return sl_fail_memory("opening a segment");
    static _Atomic uint64_t last_id;
    segment->id = atomic_fetch_add(&last_id, 1) + 1;
    atomic_store(&segment->references, 1);
    segment->place = place;
    sl_place_retain(place);
    segment->base_offset = base_offset;
    segment->fd = -1;
    segment->listed_bytes = -1;
    segment->max_timestamp_last_offset = -1;
    segment->first_timestamp_ms = -1;
    atomic_store(&segment->max_timestamp_ms, -1);
    pthread_mutex_init(&segment->load_mutex, NULL);
    pthread_mutex_init(&segment->prepare_mutex, NULL);
    sl_index_init(&segment->offset_index, SL_OFFSET_ENTRY_BYTES);
    sl_index_init(&segment->time_index, SL_TIME_ENTRY_BYTES);
    *out = segment;
    return SL_OK;
}

void sl_segment_retain(sl_segment *segment) {
    atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
}

void sl_segment_release(sl_segment *segment) {
    if (segment == NULL) return;
    if (atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) != 1) return;
    if (segment->map != NULL) munmap(segment->map, segment->map_bytes);
    if (segment->fd >= 0) close(segment->fd);
    sl_index_close(&segment->offset_index);
    sl_index_close(&segment->time_index);
    free(segment->verified);
    free(segment->guarded);
    pthread_mutex_destroy(&segment->load_mutex);
    pthread_mutex_destroy(&segment->prepare_mutex);
    sl_place_release(segment->place);
    free(segment);
}

/* The two bitmaps are caches of past checks: without memory for them every check is done again. */
static void allocate_bitmaps(sl_segment *segment, int64_t bytes) {
    segment->verified_words = (size_t)(bytes >> 5) / 64 + 1;
    segment->guarded_words = (size_t)(bytes / SL_GUARD_WINDOW_BYTES) / 64 + 1;
    segment->verified = sl_os.allocate_zeroed(segment->verified_words * sizeof *segment->verified);
    segment->guarded = sl_os.allocate_zeroed(segment->guarded_words * sizeof *segment->guarded);
}

static bool bit_get(const _Atomic(uint64_t) *words, size_t count, int64_t bit) {
    if (words == NULL || (size_t)(bit / 64) >= count) return false;
    return (atomic_load_explicit(&words[bit / 64], memory_order_relaxed) >> (bit % 64)) & 1;
}

static void bit_set(_Atomic(uint64_t) *words, size_t count, int64_t bit) {
    if (words == NULL || (size_t)(bit / 64) >= count) return;
    uint64_t mask = (uint64_t)1 << (bit % 64);
    if ((atomic_load_explicit(&words[bit / 64], memory_order_relaxed) & mask) == 0)
        atomic_fetch_or_explicit(&words[bit / 64], mask, memory_order_relaxed);
}

bool sl_segment_is_verified(const sl_segment *segment, int64_t position) {
    return bit_get(segment->verified, segment->verified_words, position >> 5);
}

void sl_segment_set_verified(sl_segment *segment, int64_t position) {
    bit_set(segment->verified, segment->verified_words, position >> 5);
}

sl_status sl_segment_guard(sl_segment *segment, int64_t start, int64_t end, bool again) {
    for (int64_t window = start / SL_GUARD_WINDOW_BYTES; window * SL_GUARD_WINDOW_BYTES < end;
         window++) {
        if (!again && bit_get(segment->guarded, segment->guarded_words, window)) continue;
        int64_t from = window * SL_GUARD_WINDOW_BYTES;
        int64_t to = from + SL_GUARD_WINDOW_BYTES;
        int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
        bool whole = to <= tail;
        if (to > end) to = whole ? to : end;
        int rc = sl_os.populate(segment->map + from, (size_t)(to - from), 0);
        if (rc != 0) {
            char name[SL_NAME_BYTES];
            sl_segment_name(segment->base_offset, ".log", name);
            struct stat st;
            int64_t bytes =
                fstatat(segment->place->dir_fd, name, &st, 0) == 0 ? (int64_t)st.st_size : -1;
            return sl_fail(SL_E_IO, rc == -EFAULT ? EIO : -rc, segment->place->path, name, -1, from,
                           "the segment cannot be read between positions %lld and %lld%s",
                           (long long)from, (long long)to,
                           bytes >= 0 && bytes < to ? ": another program made the file shorter"
                                                    : "");
        }
        if (whole) bit_set(segment->guarded, segment->guarded_words, window);
    }
    return SL_OK;
}

/* ---- creating, loading ---- */

/* `end`: what stands in the segment already, perhaps written with larger limits than these. */
static int64_t index_bytes_max(const sl_options *options, int32_t entry_bytes, int64_t end) {
    int64_t bytes = options->segment_index_bytes - options->segment_index_bytes % entry_bytes;
    /* No segment can hold more entries than its bytes allow. */
    int64_t interval = options->index_interval_bytes > 60 ? options->index_interval_bytes : 60;
    int64_t useful = (options->segment_bytes / interval + 3) * entry_bytes;
    int64_t needed = (end / interval + 3) * entry_bytes;
    if (useful < bytes) bytes = useful;
    return needed > bytes ? needed : bytes;
}

static sl_status create_indexes(sl_segment *segment, const sl_options *options, int64_t end) {
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".index", name);
    sl_status status = sl_index_create(&segment->offset_index, segment->place, name,
                                       index_bytes_max(options, SL_OFFSET_ENTRY_BYTES, end));
    if (status != SL_OK) return status;
    sl_segment_name(segment->base_offset, ".timeindex", name);
    return sl_index_create(&segment->time_index, segment->place, name,
                           index_bytes_max(options, SL_TIME_ENTRY_BYTES, end));
}

static sl_status open_file(sl_segment *segment, int flags, int *out_fd) {
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".log", name);
    int fd = sl_os.open(segment->place->dir_fd, name, flags, 0644);
    if (fd < 0) return sl_fail_errno(fd, segment->place->path, name, "cannot open the segment");
    struct stat st;
    if (fstat(fd, &st) == 0) segment->inode = st.st_ino;
    *out_fd = fd;
    return SL_OK;
}

static sl_status map_file(sl_segment *segment, int fd, int64_t bytes, int writable) {
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".log", name);
    segment->map_bytes = (size_t)page_up(bytes > 0 ? bytes : 1);
    int rc = sl_os.map(fd, segment->map_bytes, writable, &segment->map);
    if (rc == 0) return SL_OK;
    segment->map = NULL;
    return sl_fail_errno(rc, segment->place->path, name, "cannot map the segment");
}

sl_status sl_segment_create(sl_place *place, int64_t base_offset, const sl_options *options,
                            sl_segment **out) {
    sl_segment *segment;
    sl_status status = sl_segment_known(place, base_offset, &segment);
    if (status != SL_OK) return status;
    char name[SL_NAME_BYTES];
    /* The log file last: who finds it in the directory finds its indexes too. */
    status = create_indexes(segment, options, 0);
    if (status == SL_OK) status = open_file(segment, O_RDWR | O_CREAT | O_TRUNC, &segment->fd);
    if (status == SL_OK) status = map_file(segment, segment->fd, options->segment_bytes, 1);
    if (status == SL_OK) {
        segment->writable = true;
        allocate_bitmaps(segment, options->segment_bytes);
        atomic_store_explicit(&segment->loaded, 1, memory_order_release);
        *out = segment;
        return SL_OK;
    }
    /* Leave nothing behind that a later open would take for a segment. */
    static const char *const suffixes[] = {".log", ".index", ".timeindex"};
    sl_error reason = *sl_last_error();
    for (size_t i = 0; i < 3; i++) {
        sl_segment_name(base_offset, suffixes[i], name);
        (void)sl_os.unlink(place->dir_fd, name);
    }
    sl_fail(status, reason.system_errno, reason.path, NULL, reason.offset, reason.position, "%s",
            reason.message);
    sl_segment_release(segment);
    return status;
}

sl_status sl_segment_make_writable(sl_segment *segment, const sl_options *options, int64_t end,
                                   bool rebuild, bool *out_rebuilt) {
    SL_CHECK(atomic_load(&segment->loaded) == 0);
    sl_status status = open_file(segment, O_RDWR, &segment->fd);
    if (status != SL_OK) return status;
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".log", name);
    int64_t bytes = sl_os_file_bytes(segment->fd);
    if (bytes > end) {
        int rc = sl_os.truncate(segment->fd, end);
        if (rc != 0)
            return sl_fail_errno(rc, segment->place->path, name, "cannot cut the unsound tail");
    }
    int64_t limit = options->segment_bytes > end ? options->segment_bytes : end;
    status = map_file(segment, segment->fd, limit, 1);
    if (status != SL_OK) return status;
    segment->reserved_end = end;
    atomic_store_explicit(&segment->tail, end, memory_order_release);
    atomic_store(&segment->populated_end, 0);
    atomic_store(&segment->cold, 1);
    bool rebuilt = rebuild;
    if (!rebuild) {
        sl_segment_name(segment->base_offset, ".index", name);
        status = sl_index_open_writable(&segment->offset_index, segment->place, name,
                                        index_bytes_max(options, SL_OFFSET_ENTRY_BYTES, end));
        if (status == SL_OK) {
            sl_segment_name(segment->base_offset, ".timeindex", name);
            status = sl_index_open_writable(&segment->time_index, segment->place, name,
                                            index_bytes_max(options, SL_TIME_ENTRY_BYTES, end));
        }
        rebuilt = status != SL_OK || !sl_segment_indexes_hold(segment, end);
    }
    if (rebuilt) {
        status = create_indexes(segment, options, end);
        if (status != SL_OK) return status;
    }
    segment->writable = true;
    allocate_bitmaps(segment, limit);
    atomic_store(&segment->synced_tail, 0);
    atomic_store_explicit(&segment->loaded, 1, memory_order_release);
    *out_rebuilt = rebuilt;
    return SL_OK;
}

/* load_mutex held.  segment->fd stays -1 but for the foreign tail: a descriptor there means bytes that
 * this process still has to sync, and another thread may be looking. */
static sl_status load_locked(sl_segment *segment) {
    int fd;
    sl_status status = open_file(segment, O_RDONLY, &fd);
    if (status != SL_OK) return status;
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".log", name);
    bool foreign = atomic_load(&segment->foreign_tail) != 0;
    int64_t bytes = sl_os_file_bytes(fd);
    if (bytes < 0 || bytes > INT32_MAX) {
        close(fd);
        return sl_fail(SL_E_CORRUPT, 0, segment->place->path, name, -1, bytes,
                       "a segment of 2 GiB or more cannot be one of Kafka's");
    }
    if (segment->listed_bytes >= 0 &&
        (segment->inode != segment->listed_inode || bytes != segment->listed_bytes)) {
        close(fd);
        return sl_fail(SL_E_IO, ESTALE, segment->place->path, name, -1, bytes,
                       "the file was exchanged since the directory was listed: open the log again");
    }
    /* A file that somebody else extends is mapped as long as it may become; only bytes below the
     * tail, which lie inside the file, are ever touched. */
    int64_t span = foreign ? SL_SEGMENT_BYTES_MAX : bytes;
    status = map_file(segment, fd, span, 0);
    close(fd);
    if (status != SL_OK) return status;
    allocate_bitmaps(segment, span);
    if (!foreign) atomic_store_explicit(&segment->tail, bytes, memory_order_release);
    /* Hints may be missing or damaged; reading goes on without them. */
    sl_segment_name(segment->base_offset, ".index", name);
    if (sl_index_open_reader(&segment->offset_index, segment->place, name, foreign) != SL_OK)
        segment->index_bad = true;
    sl_segment_name(segment->base_offset, ".timeindex", name);
    if (sl_index_open_reader(&segment->time_index, segment->place, name, foreign) != SL_OK)
        segment->index_bad = true;
    return SL_OK;
}

sl_status sl_segment_load(sl_segment *segment) {
    if (SL_LIKELY(atomic_load_explicit(&segment->loaded, memory_order_acquire))) return SL_OK;
    pthread_mutex_lock(&segment->load_mutex);
    sl_status status = SL_OK;
    if (!atomic_load_explicit(&segment->loaded, memory_order_acquire)) {
        status = load_locked(segment);
        if (status == SL_OK) atomic_store_explicit(&segment->loaded, 1, memory_order_release);
    }
    pthread_mutex_unlock(&segment->load_mutex);
    return status;
}

/* ---- preparing space ---- */

static int32_t entries_for(const sl_segment *segment, const sl_index *index,
                           const sl_options *options, int64_t end) {
    int64_t interval = options->index_interval_bytes > 60 ? options->index_interval_bytes : 60;
    int64_t tail = atomic_load_explicit(&segment->tail, memory_order_relaxed);
    int64_t entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
    entries += (end - tail) / interval + 3;
    return entries < INT32_MAX ? (int32_t)entries : INT32_MAX;
}

/* prepare_mutex held.  File length for batches up to `end`. */
static sl_status reserve_file(sl_segment *segment, int64_t end) {
    char name[SL_NAME_BYTES];
    if (end > segment->reserved_end) {
        int64_t step = segment->reserved_end;
        if (step < SL_RESERVE_BYTES_MIN) step = SL_RESERVE_BYTES_MIN;
        if (step > SL_RESERVE_BYTES_MAX) step = SL_RESERVE_BYTES_MAX;
        int64_t limit = (int64_t)segment->map_bytes;
        int64_t wanted = page_up(segment->reserved_end + step);
        int64_t least = page_up(end);
        if (wanted < least) wanted = least;
        if (wanted > limit) wanted = limit;
        int64_t start = segment->reserved_end;
        int rc = sl_os.reserve(segment->fd, start, wanted - start);
        if (rc != 0 && wanted > least) {
            /* The generous step does not fit: what this append needs may. */
            wanted = least;
            rc = sl_os.reserve(segment->fd, start, wanted - start);
        }
        if (rc != 0) {
            sl_segment_name(segment->base_offset, ".log", name);
            return sl_fail_errno(rc, segment->place->path, name, "cannot reserve space");
        }
        segment->reserved_end = wanted;
    }
    return SL_OK;
}

/* prepare_mutex held.  Index room for batches up to `end`. */
static sl_status reserve_indexes(sl_segment *segment, const sl_options *options, int64_t end) {
    char name[SL_NAME_BYTES];
    int32_t entries = entries_for(segment, &segment->offset_index, options, end);
    if (!sl_index_has_room(&segment->offset_index, entries)) {
        sl_segment_name(segment->base_offset, ".index", name);
        sl_status status = sl_index_reserve(&segment->offset_index, segment->place, name, entries);
        if (status != SL_OK) return status;
    }
    entries = entries_for(segment, &segment->time_index, options, end);
    if (sl_index_has_room(&segment->time_index, entries)) return SL_OK;
    sl_segment_name(segment->base_offset, ".timeindex", name);
    return sl_index_reserve(&segment->time_index, segment->place, name, entries);
}

static sl_status populate_failed(const sl_segment *segment, int rc, int64_t position) {
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".log", name);
    return sl_fail(rc == -ENOSPC ? SL_E_NO_SPACE : SL_E_IO, rc == -EFAULT ? EIO : -rc,
                   segment->place->path, name, -1, position,
                   "the pages to append to cannot be made ready");
}

sl_status sl_segment_prepare(sl_segment *segment, const sl_options *options, int64_t end,
                             int64_t ahead, int64_t now_ms) {
    pthread_mutex_lock(&segment->prepare_mutex);
    sl_status status = reserve_file(segment, end);
    if (status == SL_OK) {
        int64_t tail = atomic_load_explicit(&segment->tail, memory_order_relaxed);
        int64_t populated = atomic_load_explicit(&segment->populated_end, memory_order_relaxed);
        bool cold = atomic_exchange_explicit(&segment->cold, 0, memory_order_relaxed) != 0 ||
                    now_ms - segment->warmed_ms > SL_WARM_MS;
        int64_t from = cold || populated < tail ? tail : populated;
        if (ahead > SL_PREFAULT_SLICE_BYTES) ahead = SL_PREFAULT_SLICE_BYTES;
        int64_t to = page_up(end + ahead);
        if (to < populated && !cold) to = populated;
        if (to > segment->reserved_end) to = page_up(segment->reserved_end);
        if (to < end) to = end;
        status = reserve_indexes(segment, options, to);
        if (status != SL_OK && cold) atomic_store_explicit(&segment->cold, 1, memory_order_relaxed);
        if (status == SL_OK && to > from) {
            int rc = sl_os.populate(segment->map + from, (size_t)(to - from), 1);
            if (rc == 0 && cold) rc = sl_index_warm(&segment->offset_index);
            if (rc == 0 && cold) rc = sl_index_warm(&segment->time_index);
            if (rc != 0) {
                atomic_store_explicit(&segment->cold, 1, memory_order_relaxed);
                status = populate_failed(segment, rc, from);
            } else {
                if (to > populated)
                    atomic_store_explicit(&segment->populated_end, to, memory_order_release);
                segment->warmed_ms = now_ms;
            }
        }
    }
    pthread_mutex_unlock(&segment->prepare_mutex);
    return status;
}

bool sl_segment_prepare_slice(sl_segment *segment, const sl_options *options, int64_t ahead) {
    pthread_mutex_lock(&segment->prepare_mutex);
    bool more = false;
    if (segment->writable) {
        int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
        int64_t populated = atomic_load_explicit(&segment->populated_end, memory_order_relaxed);
        int64_t goal = tail + ahead;
        if (goal > (int64_t)segment->map_bytes) goal = (int64_t)segment->map_bytes;
        if (populated < tail) populated = tail;
        int64_t to = populated + SL_PREFAULT_SLICE_BYTES;
        if (to > goal) to = goal;
        if (to > populated && reserve_file(segment, to) == SL_OK &&
            reserve_indexes(segment, options, to) == SL_OK &&
            sl_os.populate(segment->map + populated, (size_t)(to - populated), 1) == 0) {
            atomic_store_explicit(&segment->populated_end, to, memory_order_release);
            more = to < goal;
        }
    }
    pthread_mutex_unlock(&segment->prepare_mutex);
    return more;
}

/* Zeros for writing past the page cache, which wants memory aligned. */
static _Alignas(4096) uint8_t zeros[SL_PREFAULT_SLICE_BYTES];

/* Never written so far, and not in the page cache as anything but zeros: stores end at populated_end, which
 * cannot move while prepare_mutex is held. */
bool sl_segment_write_ahead_slice(sl_segment *segment, int64_t ahead) {
    pthread_mutex_lock(&segment->prepare_mutex);
    bool more = false;
    if (segment->writable) {
        int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
        int64_t populated = atomic_load_explicit(&segment->populated_end, memory_order_relaxed);
        int64_t start = atomic_load_explicit(&segment->written_end, memory_order_relaxed);
        if (start < tail) start = tail;
        if (start < populated) start = populated;
        start = page_up(start);
        int64_t goal = page_up(tail + ahead);
        if (goal > (int64_t)segment->map_bytes) goal = (int64_t)segment->map_bytes;
        int64_t to =
            start + SL_PREFAULT_SLICE_BYTES < goal ? start + SL_PREFAULT_SLICE_BYTES : goal;
        if (to > start && reserve_file(segment, to) == SL_OK) {
            char name[SL_NAME_BYTES];
            sl_segment_name(segment->base_offset, ".log", name);
            int fd = sl_os.open(segment->place->dir_fd, name, O_WRONLY | O_DIRECT, 0);
            int rc = fd < 0 ? fd : sl_os_pwrite_full(fd, zeros, (size_t)(to - start), start);
            if (fd >= 0) close(fd);
            /* Not every file system can do this, and none has to: only syncs are slower without. */
            if (rc != 0) to = INT64_MAX;
            atomic_store_explicit(&segment->written_end, to, memory_order_relaxed);
            more = to < goal;
        }
    }
    pthread_mutex_unlock(&segment->prepare_mutex);
    return more;
}

/* ---- indexes while appending ---- */

void sl_segment_note_batch(sl_segment *segment, const sl_options *options, int64_t position,
                           const sl_batch_header *header) {
    int64_t largest = atomic_load_explicit(&segment->max_timestamp_ms, memory_order_relaxed);
    if (header->max_timestamp_ms > largest) {
        segment->max_timestamp_last_offset = header->last_offset;
        atomic_store_explicit(&segment->max_timestamp_ms, header->max_timestamp_ms,
                              memory_order_relaxed);
        largest = header->max_timestamp_ms;
    }
    if (segment->first_timestamp_ms < 0) segment->first_timestamp_ms = header->max_timestamp_ms;
    if (segment->bytes_since_entry > options->index_interval_bytes) {
        sl_index_append_offset(&segment->offset_index,
                               (int32_t)(header->last_offset - segment->base_offset),
                               (int32_t)position);
        if (segment->max_timestamp_last_offset >= 0)
            sl_index_append_time(
                &segment->time_index, largest,
                (int32_t)(segment->max_timestamp_last_offset - segment->base_offset));
        segment->bytes_since_entry = 0;
    }
    segment->bytes_since_entry += header->batch_bytes;
}

sl_status sl_segment_seal(sl_segment *segment) {
    pthread_mutex_lock(&segment->prepare_mutex);
    sl_status status = SL_OK;
    char name[SL_NAME_BYTES];
    if (segment->writable) {
        int64_t tail = atomic_load_explicit(&segment->tail, memory_order_relaxed);
        if (segment->max_timestamp_last_offset >= 0) {
            sl_segment_name(segment->base_offset, ".timeindex", name);
            int32_t entries = atomic_load(&segment->time_index.entries);
            status = sl_index_reserve(&segment->time_index, segment->place, name, entries + 1);
            if (status == SL_OK)
                sl_index_append_time(
                    &segment->time_index, atomic_load(&segment->max_timestamp_ms),
                    (int32_t)(segment->max_timestamp_last_offset - segment->base_offset));
        }
        if (status == SL_OK) {
            sl_segment_name(segment->base_offset, ".log", name);
            /* Should this fail half way, nothing counts as prepared any more. */
            atomic_store(&segment->populated_end, 0);
            atomic_store(&segment->cold, 1);
            int rc = sl_os.truncate(segment->fd, tail);
            if (rc != 0) {
                status = sl_fail_errno(rc, segment->place->path, name, "cannot trim the segment");
            } else {
                /* Should a later step fail, appending goes on and must reserve anew. */
                segment->reserved_end = tail;
                if (atomic_load(&segment->populated_end) > tail)
                    atomic_store_explicit(&segment->populated_end, tail, memory_order_release);
            }
        }
        if (status == SL_OK) {
            sl_segment_name(segment->base_offset, ".index", name);
            status = sl_index_trim(&segment->offset_index, segment->place, name);
        }
        if (status == SL_OK) {
            sl_segment_name(segment->base_offset, ".timeindex", name);
            status = sl_index_trim(&segment->time_index, segment->place, name);
        }
        if (status == SL_OK) {
            sl_index_seal(&segment->offset_index);
            sl_index_seal(&segment->time_index);
            segment->writable = false;
            /* From here on a stray store through our own map is a fault, not silent damage. */
            (void)mprotect(segment->map, segment->map_bytes, PROT_READ);
        }
    }
    pthread_mutex_unlock(&segment->prepare_mutex);
    return status;
}

sl_status sl_segment_sync_indexes(sl_segment *segment) {
    static const char *const suffixes[] = {".index", ".timeindex"};
    for (size_t i = 0; i < 2; i++) {
        char name[SL_NAME_BYTES];
        sl_segment_name(segment->base_offset, suffixes[i], name);
        int fd = sl_os.open(segment->place->dir_fd, name, O_RDONLY, 0);
        if (fd == -ENOENT) continue; /* truncated away meanwhile */
        int rc = fd < 0 ? fd : sl_os.sync_data(fd);
        if (fd >= 0) close(fd);
        if (rc != 0) return sl_fail_errno(rc, segment->place->path, name, "cannot sync the index");
    }
    return SL_OK;
}

sl_status sl_segment_prepare_indexes(sl_segment *segment, const sl_options *options) {
    char name[SL_NAME_BYTES];
    int64_t interval = options->index_interval_bytes > 60 ? options->index_interval_bytes : 60;
    int64_t entries = atomic_load(&segment->tail) / interval + 4;
    sl_segment_name(segment->base_offset, ".index", name);
    sl_status status =
        sl_index_reserve(&segment->offset_index, segment->place, name, (int32_t)entries);
    if (status != SL_OK) return status;
    sl_segment_name(segment->base_offset, ".timeindex", name);
    return sl_index_reserve(&segment->time_index, segment->place, name, (int32_t)entries);
}
