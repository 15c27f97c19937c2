/* journal.c -- a file of somebody else's format: appended here, synced by a thread of its own.
 *
 * ZooKeeper's transaction log is such a file.  What its records are, and where they end, is the
 * caller's affair; zeros follow the last one, up to the end of what is reserved.
 *
 *   0                 durable        written          appended                 reserved
 *   |  synced         |  on its way  |  gathered, in  |  zeros, and blocks     |
 *   |                 |              |  memory only   |  that are not written  |
 *   +-----------------+--------------+----------------+------------------------+
 *
 * What is appended is gathered in memory, and its blocks are there already: a full disk is told by the
 * append that needs more of them, before anything of it is taken.  Nobody is told that it is safe before
 * the thread has written and synced it, so nothing is lost with a process but what nobody was promised.
 * Who promises more than that, or appends more than is gathered, has it written at once.
 *
 *   caller    append, append with request -- event_fd readable: durable has moved ------>
 *   thread              wait   take what is gathered; pwrite; fdatasync; publish durable; add 1 to event_fd
 *                              little room is left?  reserve the next step
 *
 * It is pwrite and no map: each sync protects the pages again that it writes, which interrupts every
 * processor that this process runs on, and each append then faults.  Reserved blocks that are written
 * for the first time cost a write of the file system's own, for their state: so zeros are written ahead,
 * up to the next multiple of AHEAD_BYTES, with the bytes that reach beyond the last one.
 *
 * Nothing is written past the page cache here, as the write-ahead of a log's segments is: stores come
 * so close to what it would write that the kernel, which finds the same page in both, answers the
 * next sync with EIO.
 *
 * The file's first bytes, its head, are synced before its name is: who finds the name finds them.
 *
 * A failed pwrite or fdatasync is final, as in sync.c: the journal is poisoned.
 *
 * One thread appends; any thread may ask for the positions. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "error.h"
#include "os.h"

enum {
    PAGE_BYTES = 4096,
    GATHERED_BYTES_MAX = 256 << 10,
    AHEAD_BYTES = 512 << 10,
};

struct sl_journal {
    char path[1024];
    int fd;
    int event_fd;
    int64_t reserve_bytes;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool at_once; /* what is appended is written before anybody hears of it */
    /* Under the mutex. */
    uint8_t *gathered, *spare; /* GATHERED_BYTES_MAX each; the thread writes spare */
    int64_t gathered_bytes;
    int64_t written;   /* what follows is gathered */
    int64_t ahead_end; /* up to here is written, with what is appended or with zeros */
    int64_t requested;
    int64_t reserved_end;
    bool writing;   /* the thread writes spare */
    bool reserving; /* blocks are being reserved, and may be made zeros, without the mutex */
    bool stopping;
    _Atomic int64_t appended;
    _Atomic int64_t durable;
    _Atomic int poisoned_errno;
};

static int64_t page_up(int64_t position) {
    return (position + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static sl_status poisoned(sl_journal *journal) {
    int error = atomic_load(&journal->poisoned_errno);
    return sl_fail(SL_E_POISONED, error, journal->path, NULL, -1, atomic_load(&journal->durable),
                   "a write or sync failed (%s): what follows this position may be lost; mend "
                   "the disk and start anew",
                   strerror(error));
}

static void wake(sl_journal *journal) {
    uint64_t one = 1;
    ssize_t written = write(journal->event_fd, &one, sizeof one);
    (void)written; /* EAGAIN: 2^64 - 2 wake-ups that nobody has read */
}

/* The mutex is held. */
static bool is_idle(const sl_journal *journal) {
    return journal->requested <= atomic_load(&journal->durable);
}

/* The next step of blocks, before an append must wait for it: when half of a step is left and nobody
 * waits, or a quarter.  The mutex is held; it is let go of while the disk works.  A failure is the
 * append's to tell: here there is nobody to tell it to. */
static void reserve_ahead(sl_journal *journal) {
    int64_t start = journal->reserved_end, left = start - atomic_load(&journal->appended);
    if (left >= journal->reserve_bytes / (is_idle(journal) ? 2 : 4)) return;
    journal->reserving = true;
    pthread_mutex_unlock(&journal->mutex);
    int rc = sl_os.reserve(journal->fd, start, journal->reserve_bytes);
    pthread_mutex_lock(&journal->mutex);
    journal->reserving = false;
    if (rc == 0) journal->reserved_end = start + journal->reserve_bytes;
    pthread_cond_broadcast(&journal->changed);
}

/* Write bytes behind what is written, and zeros behind them if blocks are reached that were not. */
static int write_ahead(sl_journal *journal, const uint8_t *data, int64_t bytes,
                       int64_t reserved_end) {
    static uint8_t zeros[AHEAD_BYTES]; /* no memory: never written */
    int64_t end = journal->written + bytes, ahead = journal->ahead_end;
    int rc = bytes == 0 ? 0 : sl_os_pwrite_full(journal->fd, data, (size_t)bytes, journal->written);
    if (rc == 0 && end > ahead) {
        ahead = (end + AHEAD_BYTES - 1) / AHEAD_BYTES * AHEAD_BYTES;
        if (ahead > reserved_end) ahead = reserved_end;
        rc = sl_os_pwrite_full(journal->fd, zeros, (size_t)(ahead - end), end);
    }
    if (rc == 0) journal->written = end, journal->ahead_end = ahead;
    return rc;
}

/* Write what is gathered and sync it.  The mutex is held; it is let go of while the disk works. */
static void write_and_sync(sl_journal *journal) {
    int64_t bytes = journal->gathered_bytes, reserved_end = journal->reserved_end;
    int64_t target = atomic_load(&journal->appended);
    uint8_t *data = journal->gathered;
    journal->gathered = journal->spare;
    journal->spare = data;
    journal->gathered_bytes = 0;
    journal->writing = true;
    pthread_mutex_unlock(&journal->mutex);
    int rc = write_ahead(journal, data, bytes, reserved_end);
    pthread_mutex_lock(&journal->mutex);
    journal->writing = false;
    pthread_cond_broadcast(&journal->changed);
    pthread_mutex_unlock(&journal->mutex);
    if (rc == 0) rc = sl_os.sync_data(journal->fd);
    if (rc != 0)
        atomic_store(&journal->poisoned_errno, -rc);
    else
        atomic_store(&journal->durable, target);
    wake(journal);
    pthread_mutex_lock(&journal->mutex);
}

static void *run(void *argument) {
    sl_journal *journal = argument;
    pthread_mutex_lock(&journal->mutex);
    while (!journal->stopping && atomic_load(&journal->poisoned_errno) == 0) {
        reserve_ahead(journal);
        while (is_idle(journal) && !journal->stopping)
            pthread_cond_wait(&journal->changed, &journal->mutex);
        if (!journal->stopping) write_and_sync(journal);
    }
    pthread_mutex_unlock(&journal->mutex);
    return NULL;
}

static sl_status sync_parent(const char *path) {
    char parent[1024];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);
    memcpy(parent, path, length);
    parent[length] = '\0';
    int fd = sl_os.open(AT_FDCWD,
                        slash == NULL ? "."
                        : length == 0 ? "/"
                                      : parent,
                        O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return sl_fail_errno(fd, parent, NULL, "cannot open the directory");
    int rc = sl_os.sync_directory(fd);
    close(fd);
    return rc == 0 ? SL_OK : sl_fail_errno(rc, parent, NULL, "cannot sync the directory");
}

/* A thread that gets no signal: Python's handlers belong to the main one. */
static int start_thread(sl_journal *journal) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&journal->thread, NULL, run, journal);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void release(sl_journal *journal) {
    if (journal->fd >= 0) close(journal->fd);
    if (journal->event_fd >= 0) close(journal->event_fd);
    pthread_cond_destroy(&journal->changed);
    pthread_mutex_destroy(&journal->mutex);
    free(journal->gathered);
    free(journal->spare);
    free(journal);
}

/* The file with its head in it, and its blocks reserved. */
static sl_status make_file(sl_journal *journal, const uint8_t *head, int64_t head_bytes) {
    const char *path = journal->path;
    journal->fd = sl_os.open(AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (journal->fd < 0) return sl_fail_errno(journal->fd, path, NULL, "cannot create the file");
    int rc = sl_os_pwrite_full(journal->fd, head, (size_t)head_bytes, 0);
    if (rc != 0) return sl_fail_errno(rc, path, NULL, "cannot write the head of the file");
    rc = sl_os.reserve(journal->fd, 0, journal->reserve_bytes);
    if (rc != 0) return sl_fail_errno(rc, path, NULL, "cannot reserve space for the file");
    rc = head_bytes > 0 ? sl_os.sync_data(journal->fd) : 0;
    if (rc != 0) return sl_fail_errno(rc, path, NULL, "cannot sync the head of the file");
    journal->reserved_end = journal->reserve_bytes;
    journal->requested = journal->written = journal->ahead_end = head_bytes;
    atomic_store(&journal->appended, head_bytes);
    atomic_store(&journal->durable, head_bytes);
    return sync_parent(path);
}

sl_status sl_journal_create(const char *path, const uint8_t *head, int64_t head_bytes,
                            int64_t reserve_bytes, int32_t at_once, sl_journal **out) {
    if (path == NULL || strlen(path) >= sizeof((sl_journal *)0)->path)
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "the path is missing or too long");
    if (reserve_bytes < PAGE_BYTES || reserve_bytes > INT32_MAX)
        return sl_fail(SL_E_INVALID, 0, path, NULL, -1, -1,
                       "reserve_bytes is %lld; it must be from 4096 to 2147483647",
                       (long long)reserve_bytes);
    if (head_bytes < 0 || head_bytes > PAGE_BYTES || (head == NULL && head_bytes > 0))
        return sl_fail(SL_E_INVALID, 0, path, NULL, -1, -1,
                       "a head of %lld bytes; it may have 0 to 4096", (long long)head_bytes);
    sl_journal *journal = sl_os.allocate_zeroed(sizeof *journal);
    if (journal == NULL) return sl_fail_memory("creating a journal");
    memcpy(journal->path, path, strlen(path) + 1);
    journal->reserve_bytes = page_up(reserve_bytes);
    journal->at_once = at_once != 0;
    journal->fd = journal->event_fd = -1;
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_cond_init(&journal->changed, NULL);
    journal->gathered = sl_os.allocate(GATHERED_BYTES_MAX);
    journal->spare = sl_os.allocate(GATHERED_BYTES_MAX);
    bool has_memory = journal->gathered != NULL && journal->spare != NULL;
    sl_status status =
        has_memory ? make_file(journal, head, head_bytes) : sl_fail_memory("creating a journal");
    if (status == SL_OK) {
        journal->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (journal->event_fd < 0) status = sl_fail_errno(-errno, path, NULL, "no eventfd");
    }
    if (status == SL_OK) {
        int rc = start_thread(journal);
        if (rc != 0) status = sl_fail_errno(-rc, path, NULL, "cannot start a thread");
    }
    if (status != SL_OK) {
        if (journal->fd >= 0) sl_os.unlink(AT_FDCWD, path);
        release(journal);
        return status;
    }
    *out = journal;
    return SL_OK;
}

/* Room up to `end`.  The mutex is held. */
static sl_status make_room(sl_journal *journal, int64_t end) {
    while (end > journal->reserved_end) {
        if (journal
                ->reserving) { /* the same blocks: zeros there must not come after what is appended */
            pthread_cond_wait(&journal->changed, &journal->mutex);
            continue;
        }
        int rc = sl_os.reserve(journal->fd, journal->reserved_end, journal->reserve_bytes);
        if (rc != 0)
            return sl_fail_errno(rc, journal->path, NULL, "cannot reserve space for the file");
        journal->reserved_end += journal->reserve_bytes;
    }
    return SL_OK;
}

/* Write what is gathered, and `data` behind it, now.  The mutex is held. */
static int write_through(sl_journal *journal, const uint8_t *data, int64_t bytes) {
    while (journal->writing) pthread_cond_wait(&journal->changed, &journal->mutex);
    int64_t position = journal->written + journal->gathered_bytes;
    int rc = write_ahead(journal, journal->gathered, journal->gathered_bytes, position);
    if (rc == 0) rc = sl_os_pwrite_full(journal->fd, data, (size_t)bytes, position);
    if (rc != 0) return rc; /* part of it may stand there */
    journal->gathered_bytes = 0;
    journal->written = position + bytes;
    if (journal->ahead_end < journal->written) journal->ahead_end = journal->written;
    return 0;
}

/* The mutex is held. */
static sl_status take(sl_journal *journal, const uint8_t *data, int64_t bytes) {
    sl_status status = make_room(journal, atomic_load(&journal->appended) + bytes);
    if (status != SL_OK) return status;
    if (journal->at_once || bytes > GATHERED_BYTES_MAX - journal->gathered_bytes) {
        int rc = write_through(journal, data, bytes);
        if (rc != 0) {
            atomic_store(&journal->poisoned_errno, -rc);
            return poisoned(journal);
        }
    } else if (bytes > 0) {
        memcpy(journal->gathered + journal->gathered_bytes, data, (size_t)bytes);
        journal->gathered_bytes += bytes;
    }
    atomic_fetch_add(&journal->appended, bytes);
    return SL_OK;
}

int64_t sl_journal_append(sl_journal *journal, const uint8_t *data, int64_t bytes,
                          int32_t request) {
    if (bytes < 0 || (data == NULL && bytes > 0))
        return -(int64_t)sl_fail(SL_E_INVALID, 0, journal->path, NULL, -1, -1,
                                 "no bytes are given");
    if (atomic_load(&journal->poisoned_errno) != 0) return -(int64_t)poisoned(journal);
    pthread_mutex_lock(&journal->mutex);
    sl_status status = take(journal, data, bytes);
    bool sleeps = status == SL_OK && request && is_idle(journal);
    if (status == SL_OK && request) journal->requested = atomic_load(&journal->appended);
    pthread_mutex_unlock(&journal->mutex);
    if (sleeps)
        pthread_cond_signal(&journal->changed); /* woken here, it need not wait for the mutex */
    return status == SL_OK ? atomic_load(&journal->appended) : -(int64_t)status;
}

int64_t sl_journal_durable(const sl_journal *journal) {
    if (atomic_load(&journal->poisoned_errno) != 0)
        return -(int64_t)poisoned((sl_journal *)(uintptr_t)journal);
    return atomic_load(&journal->durable);
}

int32_t sl_journal_event_fd(const sl_journal *journal) { return journal->event_fd; }

sl_status sl_journal_close(sl_journal *journal, int32_t trim) {
    if (journal == NULL) return SL_OK;
    pthread_mutex_lock(&journal->mutex);
    journal->stopping = true;
    pthread_cond_broadcast(&journal->changed);
    pthread_mutex_unlock(&journal->mutex);
    pthread_join(journal->thread, NULL);
    sl_status status = SL_OK;
    int64_t end = atomic_load(&journal->appended);
    if (atomic_load(&journal->poisoned_errno) != 0) {
        status = poisoned(journal);
    } else {
        int rc = write_through(journal, NULL, 0);
        if (rc == 0 && trim) rc = sl_os.truncate(journal->fd, end);
        if (rc == 0) rc = sl_os.sync_data(journal->fd);
        if (rc != 0) status = sl_fail_errno(rc, journal->path, NULL, "cannot close the file");
    }
    release(journal);
    return status;
}
