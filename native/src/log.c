/* log.c -- a log: its options, its list of segments, its beginning and its end.
 *
 * Opening          place (directory) -> control page and lock -> recovery -> background threads
 * Closing          background threads -> sync -> seal the active segment -> recovery point -> lock
 *
 * The list of segments is sorted by base offset; an offset belongs to the last segment whose base is
 * not above it.  list_mutex guards the list itself, for as long as a binary search takes; a reader
 * leaves with a reference to its segment and never comes back for the bytes.
 *
 * Left to others: what recovery finds (recovery.c), appending (append.c), reading (cursor.c). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arrow.h"
#include "crc32c.h"
#include "internal.h"

const char *sl_crc32c_name(void) { return sl_crc32c_implementation(); }

void sl_options_default(sl_options *options) {
    *options = (sl_options){
        .sync = SL_SYNC_NONE,
        .sync_interval_ms = 1000,
        .index_interval_bytes = 4096,
        .leader_epoch = -1,
        .batch_bytes = 64 << 10,
        .sync_interval_bytes = 16 << 20,
        .segment_bytes = 256 << 20,
        .segment_ms = -1,
        .segment_index_bytes = 10 << 20,
        .decompressed_bytes_max = 128 << 20,
        .initial_offset = 0,
        .recovery_point = -1,
        .log_start_offset = -1,
    };
}

static sl_status check_options(const sl_options *o) {
    const char *wrong = NULL;
    if (o->segment_bytes < SL_SEGMENT_BYTES_MIN || o->segment_bytes > SL_SEGMENT_BYTES_MAX)
        wrong = "segment_bytes must be in [4096, 2^31 - 4096]";
    if (o->batch_bytes < 1) wrong = "batch_bytes must be positive";
    if (o->index_interval_bytes < 0) wrong = "index_interval_bytes must not be negative";
    if (o->segment_index_bytes < 4096 || o->segment_index_bytes > (1 << 30))
        wrong = "segment_index_bytes must be in [4096, 2^30]";
    if (o->sync < SL_SYNC_NONE || o->sync > SL_SYNC_ALWAYS) wrong = "sync is none of SL_SYNC_*";
    if (o->sync_interval_ms < 1 || o->sync_interval_bytes < 1)
        wrong = "sync_interval_ms and sync_interval_bytes must be positive";
    if (o->decompressed_bytes_max < 1) wrong = "decompressed_bytes_max must be positive";
    if (o->initial_offset < 0) wrong = "initial_offset must not be negative";
    if ((o->flags & SL_OPEN_READ_ONLY) && (o->flags & (SL_OPEN_CREATE | SL_OPEN_REPAIR)))
        wrong = "a read-only handle can neither create nor repair";
    if (wrong == NULL) return SL_OK;
    return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "options: %s", wrong);
}

/* ---- the list ---- */

sl_status sl_list_reserve(sl_segment_list *list) {
    if (list->count == list->capacity) {
        int32_t capacity = list->capacity > 0 ? list->capacity * 2 : 8;
        int64_t *bases = sl_os.reallocate(list->bases, (size_t)capacity * sizeof *bases);
        if (bases == NULL) return sl_fail_memory("adding a segment");
        list->bases = bases;
        sl_segment **items = sl_os.reallocate(list->items, (size_t)capacity * sizeof *items);
        if (items == NULL) return sl_fail_memory("adding a segment");
        list->items = items;
        list->capacity = capacity;
    }
    return SL_OK;
}

sl_status sl_list_push(sl_segment_list *list, sl_segment *segment) {
    sl_status status = sl_list_reserve(list);
    if (status != SL_OK) return status;
    SL_CHECK(list->count == 0 || segment->base_offset > list->bases[list->count - 1]);
    list->bases[list->count] = segment->base_offset;
    list->items[list->count++] = segment;
    return SL_OK;
}

void sl_list_clear(sl_segment_list *list) {
    for (int32_t i = 0; i < list->count; i++) sl_segment_release(list->items[i]);
    free(list->bases);
    free(list->items);
    *list = (sl_segment_list){0};
}

/* Number of the last segment whose base offset is <= offset, or -1; list_mutex held. */
static int32_t floor_segment(const sl_segment_list *list, int64_t offset) {
    int32_t low = 0;
    int32_t high = list->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (list->bases[middle] <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

static sl_segment *retained(sl_log *log, int32_t number) {
    if (number < 0 || number >= log->list.count) return NULL;
    sl_segment_retain(log->list.items[number]);
    return log->list.items[number];
}

sl_segment *sl_log_segment_for(sl_log *log, int64_t offset) {
    pthread_mutex_lock(&log->list_mutex);
    int32_t number = floor_segment(&log->list, offset);
    sl_segment *segment = retained(log, number < 0 ? 0 : number);
    pthread_mutex_unlock(&log->list_mutex);
    return segment;
}

sl_segment *sl_log_segment_after(sl_log *log, int64_t base_offset) {
    pthread_mutex_lock(&log->list_mutex);
    sl_segment *segment = retained(log, floor_segment(&log->list, base_offset) + 1);
    pthread_mutex_unlock(&log->list_mutex);
    return segment;
}

int64_t sl_log_segment_end(sl_log *log, int64_t base_offset) {
    pthread_mutex_lock(&log->list_mutex);
    int32_t next = floor_segment(&log->list, base_offset) + 1;
    int64_t end = next < log->list.count
                      ? log->list.bases[next]
                      : atomic_load_explicit(&log->log_end_offset, memory_order_acquire);
    pthread_mutex_unlock(&log->list_mutex);
    return end;
}

sl_segment *sl_log_segment_number(sl_log *log, int64_t number) {
    pthread_mutex_lock(&log->list_mutex);
    sl_segment *segment =
        number >= 0 && number < log->list.count ? retained(log, (int32_t)number) : NULL;
    pthread_mutex_unlock(&log->list_mutex);
    return segment;
}

/* ---- open ---- */

static sl_status make_directory(const char *directory, const sl_options *options) {
    if (!(options->flags & SL_OPEN_CREATE) || directory == NULL || directory[0] == '\0')
        return SL_OK;
    int rc = sl_os.mkdir(directory, 0755);
    if (rc == 0) {
        /* The directory's own name must survive too. */
        char parent[960];
        size_t length = strlen(directory);
        while (length > 1 && directory[length - 1] == '/') length--;
        while (length > 0 && directory[length - 1] != '/') length--;
        if (length >= sizeof parent) return SL_OK; /* sl_place_open refuses such a name */
        memcpy(parent, directory, length);
        parent[length] = '\0';
        int fd = sl_os.open(AT_FDCWD, length > 0 ? parent : ".", O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0) return sl_fail_errno(fd, parent, NULL, "cannot open the parent directory");
        rc = sl_os.sync_directory(fd);
        close(fd);
        if (rc != 0) return sl_fail_errno(rc, parent, NULL, "cannot sync the parent directory");
        return SL_OK;
    }
    if (rc == -EEXIST) return SL_OK;
    return sl_fail_errno(rc, directory, NULL, "cannot create the directory");
}

static void free_log(sl_log *log) {
    free(atomic_load(&log->marks));
    sl_pin_release(log->unpacked);
    pthread_mutex_destroy(&log->unpacked_mutex);
    pthread_mutex_destroy(&log->checkpoint_mutex);
    sl_list_clear(&log->list);
    sl_control_close(log);
    sl_buffer_free(&log->scratch);
    sl_buffer_free(&log->compressed);
    pthread_mutex_destroy(&log->append_mutex);
    pthread_mutex_destroy(&log->list_mutex);
    sl_place_release(log->place);
    free(log);
}

sl_status sl_log_open(const char *directory, const sl_options *given, sl_log **out_log) {
    sl_options options;
    if (given != NULL) {
        options = *given;
    } else {
        sl_options_default(&options);
    }
    *out_log = NULL;
    sl_status status = check_options(&options);
    /* A batch and its framing must fit a segment, whatever the defaults say. */
    if (options.batch_bytes > options.segment_bytes / 2)
        options.batch_bytes = (int32_t)(options.segment_bytes / 2);
    if (status == SL_OK) status = make_directory(directory, &options);
    if (status != SL_OK) return status;
    sl_place *place;
    status = sl_place_open(directory, &place);
    if (status != SL_OK) {
        if (status == SL_E_NOT_FOUND && !(options.flags & SL_OPEN_CREATE))
            return sl_fail(status, ENOENT, directory, NULL, -1, -1,
                           "there is no log here: check the path, or open it with create");
        return status;
    }
    sl_log *log = sl_os.allocate_zeroed(sizeof *log);
    if (log == NULL) {
        sl_place_release(place);
        return sl_fail_memory("opening a log");
    }
    log->place = place;
    log->options = options;
    log->lock_fd = -1;
    log->read_only = (options.flags & SL_OPEN_READ_ONLY) != 0;
    log->fork_generation = atomic_load(&sl_fork_count);
    log->damage_offset = -1;
    atomic_store(&log->short_offset, -1);
    log->checkpoint_offset = -1;
    /* Held for a fraction of a microsecond: spinning for it beats going to sleep, which is what costs
     * when many appenders wake after one sync. */
    pthread_mutexattr_t adaptive;
    pthread_mutexattr_init(&adaptive);
    pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&log->append_mutex, &adaptive);
    pthread_mutexattr_destroy(&adaptive);
    pthread_mutex_init(&log->list_mutex, NULL);
    pthread_mutex_init(&log->unpacked_mutex, NULL);
    pthread_mutex_init(&log->checkpoint_mutex, NULL);
    status = log->read_only ? sl_recover_reader(log) : sl_recover_writer(log);
    if (status == SL_OK && !log->read_only) status = sl_service_register(log);
    if (status != SL_OK) {
        free_log(log);
        return status;
    }
    *out_log = log;
    return SL_OK;
}

/* ---- close ---- */

static sl_status close_writer(sl_log *log) {
    /* Also when all is durable: a truncation that was decided but not followed must be left to the
     * next open, and a checkpoint of the old end would contradict it. */
    if (atomic_load(&log->poisoned_errno) != 0) return sl_sync_poisoned(log);
    int64_t end_offset = atomic_load(&log->log_end_offset);
    sl_status status = sl_sync_to(log, end_offset, -1);
    if (status != SL_OK) return status;
    status = sl_segment_seal(atomic_load(&log->active));
    if (status != SL_OK) return status;
    if (log->options.flags & SL_OPEN_NO_CHECKPOINTS) return SL_OK;
    status = sl_sync_sealed_indexes(log);
    if (status != SL_OK) return status;
    if (log->checkpoint_offset == end_offset) return SL_OK;
    return sl_checkpoint_write(log->place, sl_recovery_point_file, end_offset);
}

/* A process that may not touch the files any more: a forked child, or after a failed sync. */
static void drop_cached_pages(sl_log *log) {
    /* What a failed sync left in the page cache looks newer than the disk.  Unmapped and unread it
     * can be dropped, so that the next open sees what is really there. */
    for (int32_t i = 0; i < log->list.count; i++) {
        sl_segment *segment = log->list.items[i];
        if (segment->fd < 0 || atomic_load(&segment->references) != 1) continue;
        int fd = segment->fd;
        segment->fd = -1;
        sl_segment_release(segment);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
        log->list.items[i] = NULL;
    }
}

sl_status sl_log_close(sl_log *log) {
    if (log == NULL) return SL_OK;
    sl_log_arrow_cut(log);
    if (atomic_load(&sl_fork_count) != log->fork_generation) {
        free_log(log);
        return SL_OK;
    }
    sl_service_unregister(log);
    sl_status status = SL_OK;
    if (!log->read_only) {
        status = close_writer(log);
        if (status == SL_E_NOT_FOUND) {
            /* The files went away under an open log: no answer to "is there a log here". */
            sl_error reason = *sl_last_error();
            status = sl_fail(SL_E_IO, reason.system_errno, reason.path, NULL, reason.offset,
                             reason.position, "%s", reason.message);
        }
        if (atomic_load(&log->poisoned_errno) != 0) drop_cached_pages(log);
    }
    free_log(log);
    return status;
}

void sl_log_abandon(sl_log *log) {
    if (log == NULL) return;
    sl_log_arrow_cut(log);
    if (atomic_load(&sl_fork_count) == log->fork_generation) sl_service_unregister(log);
    free_log(log);
}

/* ---- state ---- */

sl_status sl_log_usable(sl_log *log) {
    if (SL_UNLIKELY(log == NULL))
        return sl_fail(SL_E_CLOSED, 0, NULL, NULL, -1, -1, "the log is closed");
    if (SL_UNLIKELY(atomic_load_explicit(&sl_fork_count, memory_order_relaxed) !=
                    log->fork_generation))
        return sl_fail(
            SL_E_FORKED, 0, log->place->path, NULL, -1, -1,
            "this handle belongs to the parent process: open the log again in the child");
    return SL_OK;
}

sl_status sl_log_writable(sl_log *log) {
    sl_status status = sl_log_usable(log);
    if (SL_UNLIKELY(status != SL_OK)) return status;
    if (SL_UNLIKELY(log->read_only))
        return sl_fail(SL_E_READ_ONLY, EROFS, log->place->path, NULL, -1, -1,
                       "the log was opened read-only");
    if (SL_UNLIKELY(atomic_load_explicit(&log->poisoned_errno, memory_order_acquire) != 0))
        return sl_sync_poisoned(log);
    return SL_OK;
}

int64_t sl_log_start_offset(sl_log *log) {
    return atomic_load_explicit(&log->log_start_offset, memory_order_acquire);
}
int64_t sl_log_end_offset(sl_log *log) {
    return atomic_load_explicit(&log->log_end_offset, memory_order_acquire);
}
int64_t sl_log_durable_offset(sl_log *log) {
    return atomic_load_explicit(&log->durable_offset, memory_order_acquire);
}

sl_status sl_log_refresh(sl_log *log) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK || !log->read_only) return status;
    return sl_reader_refresh(log);
}

static int64_t segment_bytes(sl_log *log, sl_segment *segment) {
    if (atomic_load_explicit(&segment->loaded, memory_order_acquire))
        return atomic_load_explicit(&segment->tail, memory_order_acquire);
    char name[SL_NAME_BYTES];
    sl_segment_name(segment->base_offset, ".log", name);
    struct stat st;
    return fstatat(log->place->dir_fd, name, &st, 0) == 0 ? (int64_t)st.st_size : 0;
}

sl_status sl_log_stats(sl_log *log, sl_stats *out) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return status;
    *out = (sl_stats){
        .log_start_offset = atomic_load(&log->log_start_offset),
        .log_end_offset = atomic_load(&log->log_end_offset),
        .durable_offset = atomic_load(&log->durable_offset),
        .pinned_bytes = atomic_load(&log->place->pinned_bytes),
        .sync_count = atomic_load(&log->sync_count),
        .recovered_batches = log->recovered_batches,
        .recovery_discarded_bytes = log->recovery_discarded_bytes,
        .recovery_later_batches = log->recovery_later_batches,
        .damage_offset = log->damage_offset,
        .poisoned_errno = atomic_load(&log->poisoned_errno),
    };
    if (!log->read_only) {
        pthread_mutex_lock(&log->append_mutex);
        out->append_count = log->append_count;
        out->roll_count = log->roll_count;
        pthread_mutex_unlock(&log->append_mutex);
    }
    out->writer_alive = sl_control_writer_alive(log) ? 1 : 0;
    for (int64_t i = 0;; i++) {
        sl_segment *segment = sl_log_segment_number(log, i);
        if (segment == NULL) break;
        out->segment_count++;
        out->log_bytes += segment_bytes(log, segment);
        pthread_mutex_lock(&segment->prepare_mutex);
        if (segment->writable)
            out->reserved_bytes += segment->reserved_end - atomic_load(&segment->tail);
        pthread_mutex_unlock(&segment->prepare_mutex);
        sl_segment_release(segment);
    }
    return SL_OK;
}

int64_t sl_log_segment_count(sl_log *log) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return -(int64_t)status;
    pthread_mutex_lock(&log->list_mutex);
    int64_t count = log->list.count;
    pthread_mutex_unlock(&log->list_mutex);
    return count;
}

static sl_status segment_info(sl_log *log, int64_t segment_number, sl_segment_info *out) {
    sl_status status;
    sl_segment *segment = sl_log_segment_number(log, segment_number);
    if (segment == NULL)
        return sl_fail(SL_E_NOT_FOUND, 0, log->place->path, NULL, -1, -1,
                       "there is no segment %lld", (long long)segment_number);
    status = sl_segment_load(segment);
    if (status == SL_OK) {
        *out = (sl_segment_info){
            .base_offset = segment->base_offset,
            .end_offset = sl_log_segment_end(log, segment->base_offset),
            .log_bytes = atomic_load_explicit(&segment->tail, memory_order_acquire),
            .index_entries = atomic_load(&segment->offset_index.entries),
            .time_index_entries = atomic_load(&segment->time_index.entries),
        };
        status = sl_segment_max_timestamp(segment, &out->max_timestamp_ms);
    }
    sl_segment_release(segment);
    return status;
}

sl_status sl_log_segment_info(sl_log *log, int64_t segment_number, sl_segment_info *out) {
    sl_status status = sl_log_usable(log);
    if (status != SL_OK) return status;
    int64_t result;
    SL_READ_SETTLED(log, result, -(int64_t)segment_info(log, segment_number, out));
    return (sl_status)-result;
}

/* ---- pins ---- */

sl_pin *sl_pin_new(sl_segment *segment, sl_place *place, uint8_t *owned, int64_t bytes) {
    sl_pin *pin = sl_os.allocate(sizeof *pin);
    if (pin == NULL) return NULL;
    *pin = (sl_pin){.place = place, .segment = segment, .owned = owned, .bytes = bytes};
    atomic_store(&pin->references, 1);
    sl_place_retain(place);
    if (segment != NULL) sl_segment_retain(segment);
    atomic_fetch_add_explicit(&place->pinned_bytes, bytes, memory_order_relaxed);
    return pin;
}

void sl_pin_retain(sl_pin *pin) {
    if (pin != NULL) atomic_fetch_add_explicit(&pin->references, 1, memory_order_relaxed);
}

void sl_pin_release(sl_pin *pin) {
    if (pin == NULL) return;
    if (atomic_fetch_sub_explicit(&pin->references, 1, memory_order_acq_rel) != 1) return;
    atomic_fetch_sub_explicit(&pin->place->pinned_bytes, pin->bytes, memory_order_relaxed);
    free(pin->owned);
    sl_segment_release(pin->segment);
    sl_place_release(pin->place);
    free(pin);
}
