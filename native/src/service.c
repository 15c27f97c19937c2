/* service.c -- the two background threads of a process, shared by all its writers.
 *
 *   preparer  reserves and pre-faults space ahead of the tail of busy logs, so that an append is a
 *             store into memory that is already there; writes zeros ahead of tails that are synced often
 *   flusher   syncs logs in interval mode, serves request_durable, and after a segment was sealed
 *             syncs it and moves the recovery point
 *
 * One of each per process, not per log: a thousand small partitions cost no thousand threads, and on
 * a local journaling file system a single stream of syncs is the fastest.  Nobody who waits for
 * durability in the foreground waits for these threads (sync.c leads its own syncs).
 *
 * They start with the first writer and end with the last.  A forked child inherits none of them: the
 * fork handler resets this file's state, and the child's own logs start new ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

typedef struct sl_waiter {
    struct sl_waiter *next;
    int64_t end_offset;
    int event_fd;
} sl_waiter;

static pthread_mutex_t service_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t prepare_wanted;
static pthread_cond_t flush_wanted;
static pthread_cond_t idle;
static sl_log *registered_logs;
static sl_log *prepare_queue;
static sl_log *preparing;
static sl_log *flushing;
static bool threads_running;
static uint64_t generation; /* of the threads; one that finds another number here ends */
static pthread_t preparer_thread;
static pthread_t flusher_thread;
static pthread_once_t once = PTHREAD_ONCE_INIT;

_Atomic uint32_t sl_fork_count;

static void initialise_conditions(void) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&prepare_wanted, &attributes);
    pthread_cond_init(&flush_wanted, &attributes);
    pthread_cond_init(&idle, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void before_fork(void) { pthread_mutex_lock(&service_mutex); }
static void after_fork_parent(void) { pthread_mutex_unlock(&service_mutex); }

static void after_fork_child(void) {
    /* The threads are gone and the logs belong to the parent: forget both.  The mutex is ours, taken
     * before the fork; the conditions may have had waiters, so they are made anew. */
    atomic_fetch_add(&sl_fork_count, 1);
    registered_logs = NULL;
    prepare_queue = NULL;
    preparing = NULL;
    flushing = NULL;
    threads_running = false;
    generation++;
    initialise_conditions();
    pthread_mutex_unlock(&service_mutex);
}

static void initialise(void) {
    initialise_conditions();
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- preparer ---- */

int64_t sl_prefault_window(const sl_log *log, const sl_segment *segment) {
    if (log->options.sync == SL_SYNC_ALWAYS) return 0;
    /* Pages faulted in for writing count as dirty: the next sync writes them, used or not.  So
     * prepare in proportion to what was appended since the last sync, never more than a quarter. */
    int64_t burst = atomic_load_explicit(&segment->tail, memory_order_relaxed) -
                    atomic_load_explicit(&segment->synced_tail, memory_order_relaxed) +
                    atomic_load_explicit(&segment->burst_carry, memory_order_relaxed);
    int64_t window = burst / 4;
    if (window < 64 << 10) return 0;
    return window < SL_PREFAULT_WINDOW_BYTES ? window : SL_PREFAULT_WINDOW_BYTES;
}

int64_t sl_write_ahead_window(const sl_segment *segment) {
    /* In proportion to what is there: a thousand small logs are to stay small. */
    int64_t tail = atomic_load_explicit(&segment->tail, memory_order_relaxed);
    if (tail < 64 << 10) return 0;
    return tail < SL_WRITE_AHEAD_BYTES ? tail : SL_WRITE_AHEAD_BYTES;
}

static void prepare_log(sl_log *log) {
    pthread_mutex_lock(&log->list_mutex);
    sl_segment *segment = log->list.count > 0 ? log->list.items[log->list.count - 1] : NULL;
    if (segment != NULL) sl_segment_retain(segment);
    pthread_mutex_unlock(&log->list_mutex);
    if (segment == NULL) return;
    while (sl_segment_prepare_slice(segment, &log->options, sl_prefault_window(log, segment))) {}
    if (atomic_exchange(&log->write_ahead_wanted, 0) != 0)
        while (sl_segment_write_ahead_slice(segment, sl_write_ahead_window(segment))) {}
    sl_segment_release(segment);
}

static void *run_preparer(void *argument) {
    uint64_t mine = (uint64_t)(uintptr_t)argument;
    pthread_mutex_lock(&service_mutex);
    while (generation == mine) {
        sl_log *log = prepare_queue;
        if (log == NULL) {
            pthread_cond_wait(&prepare_wanted, &service_mutex);
            continue;
        }
        prepare_queue = log->next_in_prepare;
        preparing = log;
        pthread_mutex_unlock(&service_mutex);
        prepare_log(log);
        pthread_mutex_lock(&service_mutex);
        atomic_store_explicit(&log->in_prepare, 0, memory_order_relaxed);
        preparing = NULL;
        pthread_cond_broadcast(&idle);
    }
    pthread_mutex_unlock(&service_mutex);
    return NULL;
}

void sl_service_prepare(sl_log *log) {
    /* Called from the append path: one relaxed load when it is queued already. */
    if (atomic_load_explicit(&log->in_prepare, memory_order_relaxed) != 0) return;
    if (atomic_exchange_explicit(&log->in_prepare, 1, memory_order_relaxed) != 0) return;
    pthread_mutex_lock(&service_mutex);
    if (log->registered) {
        log->next_in_prepare = prepare_queue;
        prepare_queue = log;
        pthread_cond_signal(&prepare_wanted);
    } else {
        atomic_store_explicit(&log->in_prepare, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&service_mutex);
}

void sl_service_write_ahead(sl_log *log) {
    atomic_store(&log->write_ahead_wanted, 1);
    sl_service_prepare(log);
}

/* ---- flusher ---- */

static void signal_event(int event_fd) {
    uint64_t one = 1;
    if (event_fd >= 0 && write(event_fd, &one, sizeof one) < 0) {
        /* The counter is full, which wakes its reader just as well, or the reader closed it. */
    }
}

/* service_mutex held: take the waiters that durable_offset or a poisoned log has released. */
static void release_waiters(sl_log *log) {
    int64_t durable = atomic_load(&log->durable_offset);
    bool poisoned = atomic_load(&log->poisoned_errno) != 0;
    sl_waiter **link = &log->waiters;
    while (*link != NULL) {
        sl_waiter *waiter = *link;
        if (poisoned || waiter->end_offset <= durable) {
            *link = waiter->next;
            signal_event(waiter->event_fd);
            free(waiter);
        } else {
            link = &waiter->next;
        }
    }
}

static void write_checkpoint(sl_log *log) {
    if (atomic_exchange(&log->checkpoint_wanted, 0) == 0) return;
    if (log->options.flags & SL_OPEN_NO_CHECKPOINTS) return;
    /* A truncation must not move the log's end below what is written here. */
    pthread_mutex_lock(&log->checkpoint_mutex);
    int64_t durable = atomic_load(&log->durable_offset);
    /* Nor one that was decided and not followed: this handle's durable offset is the old end then. */
    if (durable > log->checkpoint_offset && atomic_load(&log->poisoned_errno) == 0 &&
        sl_sync_sealed_indexes(log) == SL_OK &&
        sl_checkpoint_write(log->place, sl_recovery_point_file, durable) == SL_OK)
        log->checkpoint_offset = durable;
    /* A checkpoint that cannot be written costs the next recovery time, not data: it is tried again at
     * the next roll. */
    pthread_mutex_unlock(&log->checkpoint_mutex);
}

static void flush_log(sl_log *log) {
    if (atomic_load(&log->poisoned_errno) == 0 &&
        sl_sync_to(log, atomic_load(&log->log_end_offset), -1) == SL_OK)
        write_checkpoint(log);
}

/* service_mutex held.  A log that wants flushing now, or NULL and when to look again. */
static sl_log *next_to_flush(int64_t now_ns, int64_t *out_wake_ns) {
    *out_wake_ns = -1;
    for (sl_log *log = registered_logs; log != NULL; log = log->next_registered) {
        if (atomic_exchange(&log->in_flush, 0) != 0) return log;
        if (log->options.sync != SL_SYNC_INTERVAL || atomic_load(&log->poisoned_errno) != 0)
            continue;
        if (now_ns >= log->interval_deadline_ns) {
            log->interval_deadline_ns = now_ns + (int64_t)log->options.sync_interval_ms * 1000000;
            if (atomic_load(&log->durable_offset) < atomic_load(&log->log_end_offset)) return log;
        }
        if (*out_wake_ns < 0 || log->interval_deadline_ns < *out_wake_ns)
            *out_wake_ns = log->interval_deadline_ns;
    }
    return NULL;
}

static void *run_flusher(void *argument) {
    uint64_t mine = (uint64_t)(uintptr_t)argument;
    pthread_mutex_lock(&service_mutex);
    while (generation == mine) {
        int64_t wake_ns;
        sl_log *log = next_to_flush(sl_os_monotonic_ns(), &wake_ns);
        if (log == NULL) {
            if (wake_ns < 0) {
                pthread_cond_wait(&flush_wanted, &service_mutex);
            } else {
                struct timespec wake = {.tv_sec = wake_ns / 1000000000,
                                        .tv_nsec = wake_ns % 1000000000};
                pthread_cond_timedwait(&flush_wanted, &service_mutex, &wake);
            }
            continue;
        }
        flushing = log;
        pthread_mutex_unlock(&service_mutex);
        flush_log(log);
        pthread_mutex_lock(&service_mutex);
        release_waiters(log);
        flushing = NULL;
        pthread_cond_broadcast(&idle);
    }
    pthread_mutex_unlock(&service_mutex);
    return NULL;
}

void sl_service_flush(sl_log *log) {
    if (atomic_exchange(&log->in_flush, 1) != 0) return;
    pthread_mutex_lock(&service_mutex);
    pthread_cond_signal(&flush_wanted);
    pthread_mutex_unlock(&service_mutex);
}

sl_status sl_log_request_durable(sl_log *log, int64_t end_offset, int32_t event_fd) {
    sl_status status = sl_log_writable(log);
    if (status != SL_OK) return status;
    if (atomic_load_explicit(&log->durable_offset, memory_order_acquire) >= end_offset) {
        signal_event(event_fd);
        return SL_OK;
    }
    if (event_fd >= 0) {
        sl_waiter *waiter = sl_os.allocate(sizeof *waiter);
        if (waiter == NULL) return sl_fail_memory("waiting for durability");
        pthread_mutex_lock(&service_mutex);
        *waiter = (sl_waiter){.next = log->waiters, .end_offset = end_offset, .event_fd = event_fd};
        log->waiters = waiter;
        pthread_mutex_unlock(&service_mutex);
    }
    sl_service_flush(log);
    return SL_OK;
}

/* ---- registration ---- */

sl_status sl_service_register(sl_log *log) {
    pthread_once(&once, initialise);
    pthread_mutex_lock(&service_mutex);
    int rc = 0;
    if (!threads_running) {
        void *argument = (void *)(uintptr_t)generation;
        rc = pthread_create(&preparer_thread, NULL, run_preparer, argument);
        if (rc == 0) {
            rc = pthread_create(&flusher_thread, NULL, run_flusher, argument);
            if (rc != 0) {
                generation++;
                pthread_cond_broadcast(&prepare_wanted);
                pthread_mutex_unlock(&service_mutex);
                pthread_join(preparer_thread, NULL);
                pthread_mutex_lock(&service_mutex);
            }
        }
        threads_running = rc == 0;
    }
    if (rc == 0) {
        log->registered = true;
        log->next_registered = registered_logs;
        registered_logs = log;
        log->interval_deadline_ns =
            sl_os_monotonic_ns() + (int64_t)log->options.sync_interval_ms * 1000000;
        if (log->options.sync == SL_SYNC_INTERVAL) pthread_cond_signal(&flush_wanted);
    }
    pthread_mutex_unlock(&service_mutex);
    if (rc != 0)
        return sl_fail(SL_E_NO_MEMORY, rc, log->place->path, NULL, -1, -1,
                       "cannot start the background threads: %s", strerror(rc));
    return SL_OK;
}

void sl_service_unregister(sl_log *log) {
    if (!log->registered) return;
    pthread_mutex_lock(&service_mutex);
    log->registered = false;
    sl_log **link = &registered_logs;
    while (*link != NULL && *link != log) link = &(*link)->next_registered;
    if (*link == log) *link = log->next_registered;
    for (link = &prepare_queue; *link != NULL && *link != log; link = &(*link)->next_in_prepare) {}
    if (*link == log) *link = log->next_in_prepare;
    while (preparing == log || flushing == log) pthread_cond_wait(&idle, &service_mutex);
    while (log->waiters != NULL) {
        sl_waiter *waiter = log->waiters;
        log->waiters = waiter->next;
        signal_event(waiter->event_fd);
        free(waiter);
    }
    bool last = registered_logs == NULL && threads_running;
    pthread_t ended[2] = {preparer_thread, flusher_thread};
    if (last) {
        /* A log opened from here on starts a pair of its own. */
        generation++;
        threads_running = false;
        pthread_cond_broadcast(&prepare_wanted);
        pthread_cond_broadcast(&flush_wanted);
    }
    pthread_mutex_unlock(&service_mutex);
    if (last) {
        pthread_join(ended[0], NULL);
        pthread_join(ended[1], NULL);
    }
}
