/* sync.c -- from appended to durable.
 *
 * There is no timer and no hand-over to another thread: whoever needs durability first becomes the
 * leader and calls fdatasync itself; those who come meanwhile wait on a futex and find their records
 * covered by that sync or the next one.  So a lone appender pays the disk and nothing else, and N
 * appenders share one sync.
 *
 *        need durable >= end?
 *              |  already so --------------------------------------> return
 *              v
 *     sync_leader 0 -> 1 by me?  -- no --> wait on sync_sequence --> look again
 *              | yes
 *              v
 *     (siblings expected: yield until they have appended, at most a quarter of a sync's cost)
 *     note log end offset; fdatasync every segment with unsynced bytes, oldest first;
 *     fsync the directory if a segment was created; publish durable_offset = noted end
 *              |
 *              v
 *     sync_leader = 0, sync_sequence + 1, wake all
 *
 * The pause for siblings matters: without it the first of 64 woken appenders leads a sync for its one
 * record while 63 wait for the next, and the rate halves.
 *
 * A failed fdatasync is final.  Linux marks the pages clean, so a second call would answer 0 for
 * bytes that never reached the disk: the log is poisoned, every waiter and every later append gets
 * SL_E_POISONED, and only a new handle, which re-reads the disk, may go on.
 *
 * Left to others: when the flusher calls this (service.c), what survives a crash (recovery.c). */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

enum { SYNC_SEGMENTS_MAX = 64 };

static void futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t timeout_ns) {
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000,
                               .tv_nsec = timeout_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ns >= 0 ? &timeout : NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

sl_status sl_sync_poisoned(sl_log *log) {
    int error = atomic_load_explicit(&log->poisoned_errno, memory_order_acquire);
    return sl_fail(
        SL_E_POISONED, error, log->place->path, NULL,
        atomic_load_explicit(&log->durable_offset, memory_order_relaxed), -1,
        "a sync failed (%s): records from durable_offset on may be lost; close this log, "
        "mend the disk, reopen and append them again",
        strerror(error));
}

static sl_status poison(sl_log *log, int rc) {
    int expected = 0;
    atomic_compare_exchange_strong(&log->poisoned_errno, &expected, -rc);
    sl_control_poison(log);
    return sl_sync_poisoned(log);
}

/* Oldest segments first that have bytes not known durable, up to SYNC_SEGMENTS_MAX; retained. */
static int unsynced_segments(sl_log *log, sl_segment **out) {
    pthread_mutex_lock(&log->list_mutex);
    int32_t first = log->list.count;
    while (first > 0) {
        sl_segment *segment = log->list.items[first - 1];
        if (first != log->list.count && segment->fd < 0) break; /* sealed and synced */
        first--;
    }
    int count = 0;
    for (int32_t i = first; i < log->list.count && count < SYNC_SEGMENTS_MAX; i++) {
        out[count] = log->list.items[i];
        sl_segment_retain(out[count++]);
    }
    pthread_mutex_unlock(&log->list_mutex);
    return count;
}

/* Sealed and durable to its end: its descriptor has done its duty. */
static void close_synced(sl_log *log, sl_segment *segment) {
    pthread_mutex_lock(&log->list_mutex);
    pthread_mutex_lock(&segment->prepare_mutex);
    if (!segment->writable && segment->fd >= 0 &&
        atomic_load(&segment->synced_tail) >= atomic_load(&segment->tail)) {
        close(segment->fd);
        segment->fd = -1;
    }
    pthread_mutex_unlock(&segment->prepare_mutex);
    pthread_mutex_unlock(&log->list_mutex);
}

static sl_status sync_segments(sl_log *log) {
    for (;;) {
        sl_segment *segments[SYNC_SEGMENTS_MAX];
        int count = unsynced_segments(log, segments);
        int rc = 0;
        for (int i = 0; i < count; i++) {
            sl_segment *segment = segments[i];
            int64_t tail = atomic_load_explicit(&segment->tail, memory_order_acquire);
            int64_t synced_tail = atomic_load(&segment->synced_tail);
            log->sync_bytes = tail - synced_tail;
            log->written_room = 0;
            if (sl_write_ahead_window(segment) > 0)
                log->written_room =
                    atomic_load(&segment->written_end) - tail - sl_write_ahead_window(segment) / 2;
            if (rc == 0 && segment->fd >= 0 && synced_tail < tail) {
                rc = sl_os.sync_data(segment->fd);
                /* Writing a page out protects it against stores: the next append must fault it in
                 * again, where a failure can still be returned. */
                atomic_store_explicit(&segment->cold, 1, memory_order_relaxed);
                if (rc == 0) {
                    atomic_store(&segment->synced_tail, tail);
                    atomic_store_explicit(&segment->burst_carry, 0, memory_order_relaxed);
                }
            }
            if (rc == 0 && i < count - 1) close_synced(log, segment);
        }
        for (int i = 0; i < count; i++) sl_segment_release(segments[i]);
        if (rc != 0) return poison(log, rc);
        if (count < SYNC_SEGMENTS_MAX) return SL_OK;
    }
}

sl_status sl_sync_sealed_indexes(sl_log *log) {
    sl_status status = SL_OK;
    /* From base to base, not by number: truncate_prefix may move the numbers meanwhile. */
    sl_segment *segment = sl_log_segment_for(log, log->checkpoint_offset - 1);
    while (segment != NULL && status == SL_OK) {
        if (!segment->writable) status = sl_segment_sync_indexes(segment);
        sl_segment *next = sl_log_segment_after(log, segment->base_offset);
        sl_segment_release(segment);
        segment = next;
    }
    sl_segment_release(segment);
    return status;
}

static sl_status lead(sl_log *log) {
    int64_t begun_ns = sl_os_monotonic_ns();
    if (log->sync_expected > 1) {
        int64_t patience_ns = log->sync_cost_ns / 4;
        if (patience_ns > 200000) patience_ns = 200000;
        while (atomic_load_explicit(&log->sync_waiters, memory_order_relaxed) <
                   log->sync_expected - 1 &&
               sl_os_monotonic_ns() - begun_ns < patience_ns)
            sched_yield();
    }
    int64_t sync_begun_ns = sl_os_monotonic_ns();
    int64_t end_offset = atomic_load_explicit(&log->log_end_offset, memory_order_acquire);
    sl_status status = sync_segments(log);
    if (status == SL_OK && atomic_exchange(&log->directory_dirty, 0) != 0) {
        int rc = sl_os.sync_directory(log->place->dir_fd);
        if (rc != 0) status = poison(log, rc);
    }
    if (status != SL_OK) return status;
    int64_t cost_ns = sl_os_monotonic_ns() - sync_begun_ns;
    log->sync_cost_ns += (cost_ns - log->sync_cost_ns) / 8;
    atomic_fetch_add_explicit(&log->sync_count, 1, memory_order_relaxed);
    bool often = sync_begun_ns - log->sync_ended_ns < SL_WRITE_AHEAD_SYNC_MS * 1000000;
    log->sync_ended_ns = sync_begun_ns + cost_ns;
    if (often && log->written_room < 0 && log->sync_bytes <= SL_WRITE_AHEAD_GROUP_BYTES)
        sl_service_write_ahead(log);
    sl_control_publish_durable(log, end_offset);
    atomic_store_explicit(&log->durable_offset, end_offset, memory_order_release);
    return SL_OK;
}

static bool take_leadership(sl_log *log) {
    uint32_t nobody = 0;
    return atomic_compare_exchange_strong(&log->sync_leader, &nobody, 1);
}

static void end_leadership(sl_log *log) {
    int32_t waiters = atomic_load(&log->sync_waiters);
    log->sync_expected = waiters + 1;
    atomic_store(&log->sync_leader, 0);
    atomic_fetch_add(&log->sync_sequence, 1);
    if (atomic_load(&log->sync_waiters) > 0) futex_wake_all(&log->sync_sequence);
}

sl_status sl_sync_to(sl_log *log, int64_t end_offset, int64_t deadline_ns) {
    for (;;) {
        if (atomic_load_explicit(&log->durable_offset, memory_order_acquire) >= end_offset)
            return SL_OK;
        if (atomic_load_explicit(&log->poisoned_errno, memory_order_acquire) != 0)
            return sl_sync_poisoned(log);
        int64_t log_end = atomic_load_explicit(&log->log_end_offset, memory_order_acquire);
        if (log_end < end_offset)
            return sl_fail(SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, end_offset, -1,
                           "records below this offset were truncated away: the log ends at %lld",
                           (long long)log_end);
        uint32_t sequence = atomic_load(&log->sync_sequence);
        if (take_leadership(log)) {
            sl_status status = SL_OK;
            if (atomic_load(&log->poisoned_errno) == 0 &&
                atomic_load_explicit(&log->durable_offset, memory_order_acquire) < end_offset)
                status = lead(log);
            end_leadership(log);
            if (status != SL_OK) return status;
            continue;
        }
        int64_t timeout_ns = -1;
        if (deadline_ns >= 0) {
            timeout_ns = deadline_ns - sl_os_monotonic_ns();
            if (timeout_ns <= 0)
                return sl_fail(SL_E_TIMED_OUT, 0, log->place->path, NULL, end_offset, -1,
                               "the records are appended but not yet durable");
        }
        atomic_fetch_add(&log->sync_waiters, 1);
        futex_wait(&log->sync_sequence, sequence, timeout_ns);
        atomic_fetch_sub(&log->sync_waiters, 1);
    }
}

void sl_sync_exclude(sl_log *log) {
    for (;;) {
        uint32_t sequence = atomic_load(&log->sync_sequence);
        if (take_leadership(log)) return;
        atomic_fetch_add(&log->sync_waiters, 1);
        futex_wait(&log->sync_sequence, sequence, -1);
        atomic_fetch_sub(&log->sync_waiters, 1);
    }
}

void sl_sync_readmit(sl_log *log) { end_leadership(log); }

sl_status sl_log_flush(sl_log *log) {
    sl_status status = sl_log_writable(log);
    if (status != SL_OK) return status;
    return sl_sync_to(log, atomic_load_explicit(&log->log_end_offset, memory_order_acquire), -1);
}

sl_status sl_log_wait_durable(sl_log *log, int64_t end_offset, int64_t timeout_ms) {
    sl_status status = sl_log_writable(log);
    if (status != SL_OK) return status;
    if (end_offset > atomic_load_explicit(&log->log_end_offset, memory_order_acquire))
        return sl_fail(
            SL_E_OUT_OF_RANGE, 0, log->place->path, NULL, end_offset, -1,
            "nothing below this offset's predecessor was appended yet: log end offset is %lld",
            (long long)atomic_load(&log->log_end_offset));
    int64_t deadline_ns = timeout_ms < 0 ? -1 : sl_os_monotonic_ns() + timeout_ms * 1000000;
    return sl_sync_to(log, end_offset, deadline_ns);
}
