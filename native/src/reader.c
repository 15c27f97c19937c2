/* reader.c -- a read-only handle: what it believes, and how it follows a writer elsewhere.
 *
 *   a writer of ours holds the lock     its control page says where the tail is: believed as it is
 *   nobody does                         the files are walked by the rules of believe.c, and what a
 *                                       writer would keep is shown, without changing a byte: the log of
 *                                       a crash, or a partition that Apache Kafka is writing
 *
 * Where a writer would refuse, because records that had been durable are damaged, a reader goes on:
 * everything is left in place for reading to find the damage and name it.
 *
 * A new list of segments is made, held against the page or settled by walking, and only then shown to
 * cursors.  A segment that is shown never changes its kind: one that was the last and is sealed now is
 * met anew, and whoever stands in the old one keeps its map until he looks for the next.
 *
 * A segment's file is opened when it is first read, which may be after the writer exchanged it.  So its
 * inode and length are noted in the list, another file is refused, and a read that fails looks whether the list has changed since, and if so is done again by the new one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "believe.h"

static int64_t directory_mtime_ns(sl_log *log) {
    struct stat st;
    if (fstat(log->place->dir_fd, &st) != 0) return -1;
    return (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

/* The file of a segment; false: there is none. */
static bool look_at(sl_log *log, int64_t base_offset, struct stat *out) {
    char name[SL_NAME_BYTES];
    sl_segment_name(base_offset, ".log", name);
    return fstatat(log->place->dir_fd, name, out, 0) == 0;
}

/* ---- a new list ---- */

typedef struct listing {
    int64_t *bases;
    int32_t count;
    sl_segment_list list;
    int32_t met; /* how far the list that is shown was looked through for segments to keep */
} listing;

static void listing_free(listing *new) {
    free(new->bases);
    sl_list_clear(&new->list);
}

static sl_status list_directory(sl_log *log, listing *out) {
    *out = (listing){0};
    sl_status status = sl_list_bases(log->place, &out->bases, &out->count);
    if (status == SL_OK && out->count == 0)
        status = sl_fail(SL_E_NOT_FOUND, ENOENT, log->place->path, NULL, -1, -1,
                         "there is no log in this directory: check the path");
    return status;
}

/* Whether a segment that is shown can stay: it is of the same kind, and its file the same. */
static bool may_stay(const sl_segment *shown, bool growing, const struct stat *file) {
    if (atomic_load(&shown->loaded) == 0 || atomic_load(&shown->index_bad) ||
        (atomic_load(&shown->foreign_tail) != 0) != growing || shown->inode != file->st_ino)
        return false;
    return growing ? (int64_t)file->st_size <= (int64_t)shown->map_bytes
                   : (int64_t)file->st_size == shown->listed_bytes;
}

/* Add the segment with the next base: the one that is shown if it may stay, else a new one.
 * growing: its end is not its file's. */
static sl_status add_segment(sl_log *log, listing *new, bool growing, sl_segment **out) {
    int64_t base_offset = new->bases[new->list.count];
    struct stat file;
    *out = NULL;
    if (!look_at(log, base_offset, &file))
        return sl_fail(SL_E_NOT_FOUND, ENOENT, log->place->path, NULL, base_offset, -1,
                       "a segment went away while the directory was being listed");
    while (new->met < log->list.count && log->list.bases[new->met] < base_offset) new->met++;
    sl_segment *segment = NULL;
    sl_status status = SL_OK;
    if (new->met < log->list.count &&
        log->list.bases[new->met] ==
            base_offset &&may_stay(log->list.items[new->met], growing, &file)) {
        segment = log->list.items[new->met];
        sl_segment_retain(segment);
    } else {
        status = sl_segment_known(log->place, base_offset, &segment);
        if (status != SL_OK) return status;
        atomic_store(&segment->foreign_tail, growing);
        if (growing) {
            status = sl_segment_load(segment);
        } else {
            /* Opened when it is first read: it must be the file that was meant. */
            segment->listed_inode = file.st_ino;
            segment->listed_bytes = (int64_t)file.st_size;
        }
    }
    if (status == SL_OK) status = sl_list_push(&new->list, segment);
    if (status != SL_OK) sl_segment_release(segment);
    *out = segment;
    return status;
}

/* Show the new list; `new` takes the old one. */
static void show(sl_log *log, listing *new) {
    pthread_mutex_lock(&log->list_mutex);
    sl_segment_list old = log->list;
    log->list = new->list;
    atomic_store(&log->active, log->list.items[log->list.count - 1]);
    /* Within the lock: who sees the new list sees that there is one. */
    atomic_fetch_add(&log->truncation_count, 1);
    pthread_mutex_unlock(&log->list_mutex);
    new->list = old;
}

static void set_start(sl_log *log, int64_t log_start_offset) {
    int64_t first_base = log->list.bases[0];
    atomic_store(&log->log_start_offset,
                 log_start_offset > first_base ? log_start_offset : first_base);
}

/* ---- while a writer of ours lives ---- */

/* The list that belongs to a view of the page.  *out_fits false: the writer went on meanwhile. */
static sl_status list_by_page(sl_log *log, const sl_control_view *view, bool *out_fits) {
    listing new;
    *out_fits = false;
    sl_status status = list_directory(log, &new);
    for (int32_t i = 0; i < new.count &&status == SL_OK; i++) {
        sl_segment *segment;
        status = add_segment(log, &new, i == new.count - 1, &segment);
    }
    sl_control_view now;
    if (status == SL_OK &&
        new.bases[new.count - 1] == view->active_base_offset &&sl_control_read(log, &now) &&
        now.generation == view->generation) {
        atomic_store_explicit(&new.list.items[new.count - 1]->tail, now.tail, memory_order_release);
        show(log, &new);
        log->seen_generation = view->generation;
        *out_fits = true;
    }
    listing_free(&new);
    return status;
}

/* What the live writer's page says, once list and page agree.  *out_alive false: nobody writes. */
static sl_status follow_page(sl_log *log, bool *out_alive) {
    *out_alive = false;
    for (int tries = 0; tries < 1000; tries++) {
        sl_control_view view;
        if (!sl_control_writer_alive(log) || !sl_control_read(log, &view)) return SL_OK;
        sl_segment *active = atomic_load(&log->active);
        if (active != NULL && log->seen_generation == view.generation &&
            active->base_offset == view.active_base_offset) {
            atomic_store(&log->short_offset, -1); /* a writer found the log in order */
            atomic_store_explicit(&active->tail, view.tail, memory_order_release);
            set_start(log, view.log_start_offset);
            atomic_store_explicit(&log->durable_offset, view.durable_offset, memory_order_release);
            atomic_store_explicit(&log->log_end_offset, view.log_end_offset, memory_order_release);
            *out_alive = true;
            return SL_OK;
        }
        bool fits;
        sl_status status = list_by_page(log, &view, &fits);
        /* A file may go away between listing and opening it. */
        if (status != SL_OK && status != SL_E_NOT_FOUND) return status;
        if (status != SL_OK || !fits) usleep(tries < 100 ? 100 : 10000);
    }
    return sl_fail(SL_E_IO, EAGAIN, log->place->path, NULL, -1, -1,
                   "the writer changes its segments faster than they can be listed");
}

/* ---- while nobody does ---- */

/* A truncation that was decided is shown from the moment on at which the segment that holds its offset was
 * cut: later segments are no part of the log then, although nobody has removed them yet. */
static sl_status apply_truncation(sl_log *log, sl_belief *belief, listing *new) {
    if (belief->truncation < 0) return SL_OK;
    int32_t keep = new->count;
    while (keep > 1 && new->bases[keep - 1] >= belief->truncation) keep--;
    sl_scan scan;
    int64_t base_offset = new->bases[keep - 1];
    sl_status status =
        sl_scan_file(log->place, base_offset, 0, base_offset, INT64_MAX, false, false, &scan);
    if (status != SL_OK || scan.next_offset > belief->truncation) return status;
    new->count = keep;
    sl_belief_cut(belief, belief->truncation);
    return SL_OK;
}

typedef struct ending {
    int64_t tail; /* of the last segment */
    int64_t end_offset;
    int64_t short_offset; /* the file ends here, yet later records were durable; or -1 */
    int64_t batches;
    int64_t start_offset;
} ending;

/* Fill the list with the segments that are part of the log, and find where it ends. */
static sl_status settle(sl_log *log, sl_belief *belief, listing *new, ending *out) {
    sl_status status = apply_truncation(log, belief, new);
    int32_t first = sl_belief_first(belief, new->bases, new->count);
    int64_t hint = belief->recovery_point;
    if (hint < 0) {
        /* Nobody vouches for a byte (a directory of Kafka's): what lies before the last segment, and
         * before its last index entry, is left to be checked when it is read. */
        first = new->count - 1;
        struct stat file;
        /* Without a byte, it may come of a roll that left the one before unsealed. */
        if (first > 0 && look_at(log, new->bases[first], &file) && file.st_size == 0) first--;
        hint = INT64_MAX;
    }
    *out = (ending){.short_offset = -1};
    bool lost = false;
    for (int32_t i = 0; i < new->count &&status == SL_OK; i++) {
        sl_segment *segment;
        sl_verdict verdict = {0};
        if (i >= first) {
            status = sl_believe_segment(log, belief, hint, new->bases, new->count, i, &verdict);
            if (status != SL_OK) break;
        }
        const sl_scan *scan = &verdict.scan;
        bool ends = i == new->count - 1;
        int64_t tail = scan->position;
        out->batches += scan->batches;
        lost = lost || verdict.lost;
        if (!lost && verdict.ends_here) ends = true;
        /* Where records are lost all stays, and so does what cannot be walked. */
        if (lost && scan->fault != NULL) tail = scan->file_bytes;
        if (verdict.lost && scan->fault == NULL && out->short_offset < 0) {
            tail = scan->file_bytes;
            out->short_offset = scan->next_offset;
        }
        /* A start beyond the end is damaged, or the records are: show what there is. */
        out->start_offset = verdict.unstarted ? -1 : belief->log_start_offset;
        bool sealed = i < first || (!ends && tail == scan->file_bytes);
        status = add_segment(log, new, !sealed, &segment);
        if (status == SL_OK && !sealed)
            atomic_store_explicit(&segment->tail, tail, memory_order_release);
        out->tail = tail;
        out->end_offset = scan->next_offset;
        if (ends) break;
    }
    if (lost && out->end_offset < belief->known_durable) out->end_offset = belief->known_durable;
    return status;
}

static sl_status follow_anew(sl_log *log) {
    listing new;
    ending end;
    sl_belief belief;
    int64_t mtime_ns = directory_mtime_ns(log);
    sl_status status = list_directory(log, &new);
    if (status == SL_OK) status = sl_belief_read(log, sl_control_last_durable(log), &belief);
    if (status == SL_OK) status = settle(log, &belief, &new, &end);
    if (status == SL_OK) {
        sl_segment *last = new.list.items[new.list.count - 1];
        int64_t durable = belief.known_durable < 0 ? last->base_offset : belief.known_durable;
        log->walked_offset = end.end_offset;
        log->recovered_batches = end.batches;
        show(log, &new);
        set_start(log, end.start_offset);
        int64_t start_offset = atomic_load(&log->log_start_offset);
        if (end.end_offset < start_offset) end.end_offset = start_offset;
        atomic_store(&log->short_offset, end.short_offset);
        atomic_store(&log->durable_offset, durable < end.end_offset ? durable : end.end_offset);
        atomic_store_explicit(&log->log_end_offset, end.end_offset, memory_order_release);
        log->seen_generation = 0;
        log->seen_directory_ns = mtime_ns;
    }
    listing_free(&new);
    return status;
}

/* The same files as before: somebody whom we do not know may have appended to the last. */
static sl_status follow_on(sl_log *log) {
    sl_segment *last = atomic_load(&log->active);
    sl_scan scan;
    sl_status status =
        sl_scan_file(log->place, last->base_offset, atomic_load(&last->tail), log->walked_offset, 0,
                     log->checkpoint_offset >= 0, false, &scan);
    if (status != SL_OK) return status;
    log->walked_offset = scan.next_offset;
    atomic_store_explicit(&last->tail, scan.position, memory_order_release);
    if (scan.next_offset > atomic_load(&log->log_end_offset))
        atomic_store_explicit(&log->log_end_offset, scan.next_offset, memory_order_release);
    return SL_OK;
}

static sl_status follow_files(sl_log *log) {
    bool known = atomic_load(&log->active) != NULL && log->seen_generation == 0 &&
                 log->seen_directory_ns == directory_mtime_ns(log);
    return known ? follow_on(log) : follow_anew(log);
}

/* ---- both ---- */

static sl_status follow(sl_log *log) {
    bool alive = false;
    sl_status status = SL_OK;
    if (log->control == NULL) status = sl_control_watch(log);
    if (status == SL_OK && log->control != NULL) status = follow_page(log, &alive);
    if (status == SL_OK && !alive) status = follow_files(log);
    return status;
}

sl_status sl_reader_refresh(sl_log *log) {
    pthread_mutex_lock(&log->append_mutex);
    sl_status status = follow(log);
    pthread_mutex_unlock(&log->append_mutex);
    return status;
}

bool sl_reader_caught_up(sl_log *log, int64_t status, uint64_t truncations_seen) {
    if (!log->read_only || (status != SL_E_CORRUPT && status != SL_E_IO &&
                            status != SL_E_NOT_FOUND && status != SL_E_UNSUPPORTED))
        return false;
    sl_error reason = *sl_last_error();
    if (sl_reader_refresh(log) == SL_OK && atomic_load(&log->truncation_count) != truncations_seen)
        return true;
    sl_fail((sl_status)status, reason.system_errno, reason.path, NULL, reason.offset,
            reason.position, "%s", reason.message);
    return false;
}

sl_status sl_recover_reader(sl_log *log) { return follow(log); }
