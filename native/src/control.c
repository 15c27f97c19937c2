/* control.c -- the file `.lock`: who may write, and what readers elsewhere may see.
 *
 *   0        8            16          24             32      40               48         56
 *   +--------+------------+-----------+--------------+-------+----------------+----------+---------+
 *   | magic  | generation | writer's  | active       | tail  | log end offset | log start| sync    |
 *   |        |            | pid       | base offset  |       |                | offset   | failed  |
 *   +--------+------------+-----------+--------------+-------+----------------+----------+---------+
 *   64       72        80       88
 *   +--------+---------+--------+---------+
 *   | durable offset, its complement, twice: slots written in turn
 *   +--------+---------+--------+---------+                            host byte order, 4096 bytes
 *
 * The lock itself is an open-file-description lock on the file: unlike POSIX locks it does not
 * vanish when some other descriptor of the file is closed, and two handles in one process exclude
 * each other too.
 *
 * The page under it is shared memory.  The writer stores tail and log end after each append, with
 * release; a reader in another process loads them with acquire.  The generation is odd while the
 * list of segments changes; a reader that sees it move reads the directory again.
 *
 * After the writer's death the page still tells two things.  *Durable offset*: what had been synced.
 * It is a lower bound after a power loss too, since it was stored after the sync, and recovery uses
 * it to tell damage from a torn tail.  Its two slots, each with a complement, survive a torn store.
 * *Sync failed*: the page cache may show bytes that the disk does not have; recovery then drops the
 * cached pages before it believes a single one.  When nobody holds the lock the rest of the page
 * means nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

enum { CONTROL_BYTES = 4096 };
static const uint64_t control_magic = 0x31304c5254434c53u; /* "SLCTRL01" in little-endian memory */

struct sl_control {
    _Atomic uint64_t magic;
    _Atomic uint64_t generation;
    _Atomic int64_t writer_pid;
    _Atomic int64_t active_base_offset;
    _Atomic int64_t tail;
    _Atomic int64_t log_end_offset;
    _Atomic int64_t log_start_offset;
    _Atomic int64_t sync_failed;
    struct {
        _Atomic int64_t offset;
        _Atomic int64_t complement;
    } durable[2];
};
_Static_assert(sizeof(struct sl_control) == 96, "the control page is drawn with these positions");

static const char control_name[] = ".lock";

static int64_t durable_of(const struct sl_control *page) {
    int64_t best = -1;
    for (int i = 0; i < 2; i++) {
        int64_t offset = atomic_load(&page->durable[i].offset);
        if (offset >= 0 && atomic_load(&page->durable[i].complement) == ~offset && offset > best)
            best = offset;
    }
    return best;
}

static sl_status map_page(sl_log *log, int writable) {
    uint8_t *map;
    int rc = sl_os.map(log->lock_fd, CONTROL_BYTES, writable, &map);
    if (rc != 0) return sl_fail_errno(rc, log->place->path, control_name, "cannot map");
    rc = sl_os.populate(map, CONTROL_BYTES, writable);
    if (rc != 0) {
        munmap(map, CONTROL_BYTES);
        return sl_fail_errno(rc, log->place->path, control_name, "cannot make the page ready");
    }
    log->control = (struct sl_control *)(void *)map;
    return SL_OK;
}

sl_status sl_control_lock(sl_log *log, int64_t *previous_durable, bool *previous_poisoned) {
    const char *path = log->place->path;
    log->lock_fd = sl_os.open(log->place->dir_fd, control_name, O_RDWR | O_CREAT, 0644);
    if (log->lock_fd < 0) {
        int rc = log->lock_fd;
        log->lock_fd = -1;
        return sl_fail_errno(rc, path, control_name, "cannot open the lock file");
    }
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(log->lock_fd, F_OFD_SETLK, &lock) != 0) {
        int error = errno;
        int64_t words[3] = {0};
        (void)sl_os_pread_full(log->lock_fd, words, sizeof words, 0);
        if (error != EAGAIN && error != EACCES)
            return sl_fail(SL_E_IO, error, path, control_name, -1, -1, "cannot lock the directory");
        return sl_fail(
            SL_E_LOCKED, error, path, control_name, -1, -1,
            "process %lld has this log open for writing: close it there, or open the log "
            "read-only",
            (long long)words[2]);
    }
    int64_t bytes = sl_os_file_bytes(log->lock_fd);
    if (bytes < CONTROL_BYTES) {
        int rc = sl_os.reserve(log->lock_fd, 0, CONTROL_BYTES);
        if (rc != 0) return sl_fail_errno(rc, path, control_name, "cannot reserve the lock file");
    }
    sl_status status = map_page(log, 1);
    if (status != SL_OK) return status;
    struct sl_control *page = log->control;
    *previous_durable = -1;
    *previous_poisoned = false;
    if (atomic_load(&page->magic) == control_magic) {
        *previous_durable = durable_of(page);
        *previous_poisoned = atomic_load(&page->sync_failed) != 0;
    }
    uint64_t generation = atomic_load(&page->generation);
    atomic_store(&page->generation, (generation | 1) + 2); /* odd: not ready for readers */
    atomic_store(&page->magic, control_magic);
    atomic_store(&page->writer_pid, (int64_t)getpid());
    return SL_OK;
}

sl_status sl_control_watch(sl_log *log) {
    log->lock_fd = sl_os.open(log->place->dir_fd, control_name, O_RDONLY, 0);
    if (log->lock_fd < 0) {
        int rc = log->lock_fd;
        log->lock_fd = -1;
        /* Apache Kafka wrote this directory, or nobody has yet. */
        if (rc == -ENOENT) return SL_OK;
        return sl_fail_errno(rc, log->place->path, control_name, "cannot open the lock file");
    }
    if (sl_os_file_bytes(log->lock_fd) < CONTROL_BYTES) {
        close(log->lock_fd);
        log->lock_fd = -1;
        return SL_OK;
    }
    return map_page(log, 0);
}

void sl_control_close(sl_log *log) {
    if (log->control != NULL) munmap(log->control, CONTROL_BYTES);
    log->control = NULL;
    if (log->lock_fd >= 0) close(log->lock_fd);
    log->lock_fd = -1;
}

bool sl_control_writer_alive(sl_log *log) {
    if (!log->read_only) return true;
    if (log->control == NULL || atomic_load(&log->control->magic) != control_magic) return false;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    if (fcntl(log->lock_fd, F_OFD_GETLK, &lock) != 0) return false;
    return lock.l_type == F_WRLCK;
}

void sl_control_begin(sl_log *log) {
    uint64_t generation = atomic_load_explicit(&log->control->generation, memory_order_relaxed);
    atomic_store_explicit(&log->control->generation, generation | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

void sl_control_end(sl_log *log, int64_t active_base_offset) {
    struct sl_control *page = log->control;
    sl_segment *active = atomic_load(&log->active);
    atomic_store_explicit(&page->active_base_offset, active_base_offset, memory_order_relaxed);
    atomic_store_explicit(&page->tail, atomic_load(&active->tail), memory_order_relaxed);
    atomic_store_explicit(&page->log_end_offset, atomic_load(&log->log_end_offset),
                          memory_order_relaxed);
    atomic_store_explicit(&page->log_start_offset, atomic_load(&log->log_start_offset),
                          memory_order_relaxed);
    uint64_t generation = atomic_load_explicit(&page->generation, memory_order_relaxed);
    atomic_store_explicit(&page->generation, generation + 1, memory_order_release);
}

void sl_control_publish(sl_log *log, int64_t tail, int64_t log_end_offset) {
    atomic_store_explicit(&log->control->tail, tail, memory_order_release);
    atomic_store_explicit(&log->control->log_end_offset, log_end_offset, memory_order_release);
}

void sl_control_publish_durable(sl_log *log, int64_t durable_offset) {
    struct sl_control *page = log->control;
    /* Overwrite the slot that holds the smaller value: the other stays whole if we die here. */
    int64_t first = atomic_load(&page->durable[0].offset);
    int64_t second = atomic_load(&page->durable[1].offset);
    int slot = first <= second ? 0 : 1;
    atomic_store(&page->durable[slot].complement, 0);
    atomic_store(&page->durable[slot].offset, durable_offset);
    atomic_store(&page->durable[slot].complement, ~durable_offset);
}

int64_t sl_control_last_durable(const sl_log *log) {
    if (log->control == NULL || atomic_load(&log->control->magic) != control_magic) return -1;
    return durable_of(log->control);
}

void sl_control_reset_durable(sl_log *log, int64_t durable_offset) {
    struct sl_control *page = log->control;
    for (int slot = 0; slot < 2; slot++) {
        atomic_store(&page->durable[slot].complement, 0);
        atomic_store(&page->durable[slot].offset, durable_offset);
        atomic_store(&page->durable[slot].complement, ~durable_offset);
    }
}

void sl_control_publish_start(sl_log *log, int64_t log_start_offset) {
    atomic_store_explicit(&log->control->log_start_offset, log_start_offset, memory_order_release);
}

void sl_control_poison(sl_log *log) { atomic_store(&log->control->sync_failed, 1); }
void sl_control_heal(sl_log *log) { atomic_store(&log->control->sync_failed, 0); }

int sl_control_warm(const sl_log *log) {
    return sl_os.populate((const uint8_t *)log->control, CONTROL_BYTES, 1);
}

bool sl_control_read(sl_log *log, sl_control_view *out) {
    struct sl_control *page = log->control;
    for (int tries = 0; tries < 100000; tries++) {
        uint64_t before = atomic_load_explicit(&page->generation, memory_order_acquire);
        if ((before & 1) == 0) {
            out->generation = before;
            /* Log end before tail: every record below the end lies below the tail then. */
            out->log_end_offset = atomic_load_explicit(&page->log_end_offset, memory_order_acquire);
            out->tail = atomic_load_explicit(&page->tail, memory_order_acquire);
            out->active_base_offset =
                atomic_load_explicit(&page->active_base_offset, memory_order_acquire);
            out->log_start_offset =
                atomic_load_explicit(&page->log_start_offset, memory_order_acquire);
            out->durable_offset = durable_of(page);
            atomic_thread_fence(memory_order_acquire);
            if (atomic_load_explicit(&page->generation, memory_order_relaxed) == before)
                return true;
        }
        if (!sl_control_writer_alive(log)) return false;
        usleep(tries < 100 ? 0 : 100);
    }
    return false;
}
