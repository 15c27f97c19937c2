/* internal.h -- the structures that the engine's files share, and who owns what.
 *
 *   sl_log ----- list of segments (list_mutex) ----- sl_segment ---- maps of .log, .index, .timeindex
 *     |                                                 ^
 *     |-- append state  (append_mutex)                  | reference
 *     |-- sync state    (sync.c: atomics and a futex)   |
 *     |-- control page  (control.c: shared memory)    sl_pin  (exported memory), sl_cursor
 *     `-- place: directory descriptor and path, outlives the log as long as a segment lives
 *
 * Lock order: append_mutex, checkpoint_mutex, list_mutex, then prepare_mutex or load_mutex of a
 * segment.  The leader of a sync holds none of them while the disk works.
 *
 * What readers see is bounded by `tail` of a segment: stored with release once a batch and
 * everything before it are complete, loaded with acquire before any byte is looked at.  Bytes below
 * the tail never change; a truncation makes new files and new segments. */
#ifndef SL_INTERNAL_H
#define SL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "batch.h"
#include "error.h"
#include "index.h"
#include "os.h"
#include "stratalog.h"

enum {
    SL_NAME_BYTES = 48, /* "00000000000000000000.timeindex.cleaned" and its end */
    SL_SEGMENT_BYTES_MIN = 4096,
    SL_RESERVE_BYTES_MIN = 16 << 10,
    SL_RESERVE_BYTES_MAX = 32 << 20,
    SL_PREFAULT_SLICE_BYTES = 256 << 10, /* longest hold of prepare_mutex by the preparer */
    SL_PREFAULT_WINDOW_BYTES = 8 << 20,
    SL_WRITE_AHEAD_BYTES = 1 << 20,        /* zeros on disk ahead of a tail that is synced often */
    SL_WRITE_AHEAD_GROUP_BYTES = 64 << 10, /* by syncs of at most so many bytes */
    SL_WRITE_AHEAD_SYNC_MS = 5,            /* that follow one another within this time */
    SL_GUARD_WINDOW_BYTES = 128 << 10,
    SL_WARM_MS = 1000 /* after this long a prepared page may have been written back */
};
#define SL_SEGMENT_BYTES_MAX (((int64_t)1 << 31) - 4096)

struct sl_place {
    _Atomic int32_t references;
    int dir_fd;
    _Atomic int64_t pinned_bytes;
    char path[960];
};

sl_status sl_place_open(const char *directory, sl_place **out);
void sl_place_retain(sl_place *place);
void sl_place_release(sl_place *place);

struct sl_pin {
    _Atomic int32_t references;
    sl_place *place;
    struct sl_segment *segment; /* or NULL */
    uint8_t *owned;             /* a decompressed batch, or NULL */
    int64_t bytes;
};

/* A pin on `bytes` of a segment's map (retained here), or on owned memory (taken over). */
sl_pin *sl_pin_new(struct sl_segment *segment, sl_place *place, uint8_t *owned, int64_t bytes);

typedef struct sl_segment {
    _Atomic int32_t references;
    uint64_t id; /* never used twice in this process */
    sl_place *place;
    int64_t base_offset;
    _Atomic int loaded; /* map and indexes are there */
    pthread_mutex_t load_mutex;
    pthread_mutex_t prepare_mutex; /* reserving, pre-faulting, sealing */
    int fd;                        /* -1 once nothing is left to sync */
    _Atomic bool writable;         /* the active segment of a writer */
    _Atomic int foreign_tail;      /* the last segment of a read-only handle: grows under us */
    uint8_t *map;
    size_t map_bytes;
    _Atomic int64_t tail; /* end of published batches, position */
    int64_t reserved_end; /* file length while writable (prepare_mutex) */
    _Atomic int64_t populated_end;
    _Atomic int64_t written_end; /* zeros were written up to here; stores know nothing of it */
    _Atomic int cold;            /* a sync may have write-protected the tail's page */
    int64_t warmed_ms;
    _Atomic int64_t burst_carry;       /* bytes appended before this segment since the last sync */
    int64_t bytes_since_entry;         /* since the last index entry */
    _Atomic int64_t max_timestamp_ms;  /* -1: no batch yet */
    int64_t max_timestamp_last_offset; /* last offset of the batch that holds it */
    int64_t first_timestamp_ms;
    int64_t snapshot_tail;  /* tail when a foreign index was read */
    _Atomic bool index_bad; /* an index contradicted the log: walk instead */
    sl_index offset_index;
    sl_index time_index;
    _Atomic int64_t synced_tail; /* bytes known durable */
    _Atomic(uint64_t) *verified; /* one bit per 32 bytes of position: CRC seen right; or NULL */
    _Atomic(uint64_t) *guarded;  /* one bit per SL_GUARD_WINDOW_BYTES: could be read once */
    size_t verified_words;
    size_t guarded_words;
    ino_t inode;
    ino_t listed_inode;   /* a reader's sealed segment: what its file was when it was listed; */
    int64_t listed_bytes; /* -1: whatever is there */
} sl_segment;

void sl_segment_name(int64_t base_offset, const char *suffix, char out[SL_NAME_BYTES]);
sl_status sl_segment_known(sl_place *place, int64_t base_offset, sl_segment **out);
sl_status sl_segment_create(sl_place *place, int64_t base_offset, const sl_options *options,
                            sl_segment **out);
/* Make a known segment the writable active one; `end` is its sound length, anything beyond is
 * cut.  The indexes are opened, or made anew and left empty when they cannot be right or
 * `rebuild` says so: then *out_rebuilt is set and the caller feeds sl_segment_note_batch. */
sl_status sl_segment_make_writable(sl_segment *segment, const sl_options *options, int64_t end,
                                   bool rebuild, bool *out_rebuilt);
sl_status sl_segment_load(sl_segment *segment);
void sl_segment_retain(sl_segment *segment);
void sl_segment_release(sl_segment *segment);

/* Room for batches up to `end`, reserved and faulted in; `ahead` more bytes if that is cheap. */
sl_status sl_segment_prepare(sl_segment *segment, const sl_options *options, int64_t end,
                             int64_t ahead, int64_t now_ms);
/* One slice of preparing ahead.  Returns false when nothing is left to do (or nothing can be). */
bool sl_segment_prepare_slice(sl_segment *segment, const sl_options *options, int64_t ahead);

/* One slice of writing zeros to the disk ahead of the tail, up to tail + ahead.  Returns as above. */
bool sl_segment_write_ahead_slice(sl_segment *segment, int64_t ahead);

/* Index bookkeeping for a batch that stands at `position`. */
void sl_segment_note_batch(sl_segment *segment, const sl_options *options, int64_t position,
                           const sl_batch_header *header);
/* No more appends: last time-index entry, files cut to length, map read-only. */
sl_status sl_segment_seal(sl_segment *segment);
/* Before a recovery point moves past a sealed segment: nobody builds its indexes again then. */
sl_status sl_segment_sync_indexes(sl_segment *segment);

/* Fault [start, end) in; an error where reading it would be a SIGBUS. */
sl_status sl_segment_guard(sl_segment *segment, int64_t start, int64_t end, bool again);

/* Decode the header at `position`, checked for framing against `tail`. */
sl_status sl_segment_header_at(sl_segment *segment, int64_t position, int64_t tail,
                               sl_batch_header *out);
/* Position of the first batch whose last offset >= offset; the tail when there is none.
 * out_expected (may be NULL): the lowest base offset that batch may have. */
sl_status sl_segment_find_offset(sl_segment *segment, int64_t offset, int64_t *out_position,
                                 int64_t *out_expected);
/* The rule on the order of offsets that a batch breaks, or NULL.  expected: the lowest base offset it
 * may have; end_offset: where the segment's offsets end.  The next header must be readable. */
const char *sl_segment_order_fault(const sl_segment *segment, int64_t position,
                                   const sl_batch_header *header, int64_t tail, int64_t expected,
                                   int64_t end_offset);
/* Position of the first batch whose max timestamp >= timestamp_ms; the tail when there is none. */
sl_status sl_segment_find_timestamp(sl_segment *segment, int64_t timestamp_ms,
                                    int64_t *out_position);
/* Whether the kept indexes of a segment with `end` bytes seem to be its own. */
bool sl_segment_indexes_hold(sl_segment *segment, int64_t end);
/* Position of the index entry at or below offset, checked against the log; 0 when there is none. */
int64_t sl_segment_floor_position(sl_segment *segment, int64_t offset);
/* Reserve index room for everything up to the tail. */
sl_status sl_segment_prepare_indexes(sl_segment *segment, const sl_options *options);
/* Largest timestamp in the segment, -1 when empty; remembered. */
sl_status sl_segment_max_timestamp(sl_segment *segment, int64_t *out_timestamp_ms);
/* The same, and the last offset of the first batch that has it; from the last time entry that holds
 * and the batches after it. */
sl_status sl_segment_largest_timestamp(sl_segment *segment, int64_t *out_timestamp_ms,
                                       int64_t *out_last_offset);
bool sl_segment_is_verified(const sl_segment *segment, int64_t position);
void sl_segment_set_verified(sl_segment *segment, int64_t position);

/* ---- control page (control.c) ---- */

typedef struct sl_control sl_control;

/* ---- the log ---- */

typedef struct sl_segment_list {
    int64_t *bases;
    sl_segment **items;
    int32_t count;
    int32_t capacity;
} sl_segment_list;

struct sl_log {
    sl_place *place;
    sl_options options;
    int lock_fd;
    bool read_only;
    uint32_t fork_generation;
    sl_control *control;
    _Atomic int poisoned_errno;

    pthread_mutex_t append_mutex;
    sl_buffer scratch; /* uncompressed records (append_mutex) */
    sl_buffer compressed;
    int64_t append_count;

    pthread_mutex_t list_mutex;
    sl_segment_list list;
    _Atomic(sl_segment *) active;      /* the list's last; stable under append_mutex */
    _Atomic uint64_t truncation_count; /* cursors look again when it moves */

    _Atomic int64_t log_start_offset;
    _Atomic int64_t log_end_offset;
    _Atomic int64_t durable_offset;

    /* sync.c */
    _Atomic uint32_t sync_leader;   /* 0 or 1 */
    _Atomic uint32_t sync_sequence; /* futex: one more each time a sync ended */
    _Atomic int32_t sync_waiters;
    int32_t sync_expected; /* waiters woken last time (the leader's) */
    int64_t sync_cost_ns;  /* smoothed (the leader's) */
    int64_t sync_ended_ns; /* the last one (the leader's) */
    int64_t sync_bytes;    /* it found unsynced in the active segment (the leader's) */
    int64_t written_room; /* negative: half of what is to be written ahead is used (the leader's) */
    _Atomic int write_ahead_wanted;
    _Atomic int64_t sync_count;
    _Atomic int directory_dirty;
    _Atomic int checkpoint_wanted;    /* a segment was sealed since the last checkpoint */
    uint64_t seen_generation;         /* read-only: the control page's */
    int64_t seen_directory_ns;        /* read-only: the directory's mtime when it was read */
    pthread_mutex_t checkpoint_mutex; /* the recovery point on disk, against truncation */
    int64_t walked_offset;            /* read-only: of the record after the last that was walked */
    _Atomic int64_t short_offset; /* read-only: durable records from here on are missing; or -1 */
    int64_t checkpoint_offset;    /* that recovery point (checkpoint_mutex) */

    /* service.c */
    struct sl_log *next_in_prepare;
    _Atomic int in_prepare; /* queued for, or at, the preparer */
    _Atomic int in_flush;   /* the flusher is asked to look */
    bool registered;
    struct sl_log *next_registered;
    int64_t interval_deadline_ns;
    struct sl_waiter *waiters; /* eventfds to signal (service mutex) */

    /* lookup.c */
    _Atomic(struct sl_marks *) marks; /* NULL until the first point lookup */
    pthread_mutex_t unpacked_mutex;
    sl_pin *unpacked; /* the last compressed batch looked into, or NULL */
    uint64_t unpacked_segment_id;
    int64_t unpacked_position;

    int64_t roll_count;
    int64_t recovered_batches;
    int64_t recovery_discarded_bytes;
    int64_t recovery_later_batches;
    int64_t damage_offset;
};

extern _Atomic uint32_t sl_fork_count;

sl_status sl_log_usable(sl_log *log);   /* open, not forked */
sl_status sl_log_writable(sl_log *log); /* and a healthy writer */

/* References to the segment that holds `offset`, or to the one after base_offset; NULL if none. */
sl_segment *sl_log_segment_for(sl_log *log, int64_t offset);
sl_segment *sl_log_segment_after(sl_log *log, int64_t base_offset);
/* Where the offsets of the segment with this base end: the next one's base, or the log's end. */
int64_t sl_log_segment_end(sl_log *log, int64_t base_offset);
sl_segment *sl_log_segment_number(sl_log *log, int64_t number);

sl_status sl_list_push(sl_segment_list *list, sl_segment *segment); /* takes the reference */
sl_status sl_list_reserve(sl_segment_list *list);                   /* the next push cannot fail */
void sl_list_clear(sl_segment_list *list);

/* append.c: roll with append_mutex held; the new segment begins at log_end_offset. */
sl_status sl_log_roll_locked(sl_log *log);
/* Make [old tail, tail) and [.., log_end_offset) visible. */
void sl_log_publish(sl_log *log, sl_segment *segment, int64_t tail, int64_t log_end_offset);

/* ---- recovery.c ---- */

sl_status sl_recover_writer(sl_log *log);

/* ---- reader.c ---- */

sl_status sl_recover_reader(sl_log *log);
sl_status sl_reader_refresh(sl_log *log);
/* A read through a read-only handle failed: did the writer merely change its files since they were
 * listed (truncations_seen: log->truncation_count before the read)?  Then the list is new now, and the
 * read deserves another try. */
bool sl_reader_caught_up(sl_log *log, int64_t status, uint64_t truncations_seen);

enum { SL_READER_TRIES = 100 };
/* result = call, a value >= 0 or -(sl_status), tried again as long as the files were moving. */
#define SL_READ_SETTLED(log, result, call)                                                         \
    for (int tries_ = 0;; tries_++) {                                                              \
        uint64_t seen_ = atomic_load_explicit(&(log)->truncation_count, memory_order_acquire);     \
        (result) = (call);                                                                         \
        if (SL_LIKELY((result) >= 0) || tries_ >= SL_READER_TRIES ||                               \
            !sl_reader_caught_up(log, -(int64_t)(result), seen_))                                  \
            break;                                                                                 \
    }

/* Base offsets of the segments in the directory, sorted; free(*out_bases). */
sl_status sl_list_bases(const sl_place *place, int64_t **out_bases, int32_t *out_count);
/* Feed the whole sound part of a writable segment to its indexes. */
sl_status sl_rebuild_indexes(sl_log *log, sl_segment *segment);
/* Returns 0, or -errno when the .log file is still there. */
int sl_delete_segment_files(const sl_place *place, int64_t base_offset);

/* ---- files.c ---- */

sl_status sl_file_replace_at(const sl_place *place, const char *name, const void *data,
                             size_t bytes);
sl_status sl_file_read_at(const sl_place *place, const char *name, char *out, size_t capacity,
                          size_t *out_bytes);
/* The one offset of a checkpoint of our own directory, -1 when there is none or it is no checkpoint.  A
 * file that is there and cannot be read is a failure: what it decided must not be forgotten. */
sl_status sl_checkpoint_read(const sl_place *place, const char *name, int64_t *out_offset);
sl_status sl_checkpoint_write(const sl_place *place, const char *name, int64_t offset);
extern const char sl_recovery_point_file[];
extern const char sl_log_start_file[];
extern const char sl_truncation_file[];

/* ---- control.c ---- */

/* Lock the directory for writing and map the control page; previous_durable: what the last writer
 * knew to be durable (-1 unknown); previous_poisoned: its last sync had failed. */
sl_status sl_control_lock(sl_log *log, int64_t *previous_durable, bool *previous_poisoned);
/* Map the control page of somebody else's log if there is one. */
sl_status sl_control_watch(sl_log *log);
void sl_control_close(sl_log *log);
bool sl_control_writer_alive(sl_log *log);
void sl_control_begin(sl_log *log); /* structure is about to change */
void sl_control_end(sl_log *log, int64_t active_base_offset);
void sl_control_publish(sl_log *log, int64_t tail, int64_t log_end_offset);
void sl_control_publish_durable(sl_log *log, int64_t durable_offset);
void sl_control_publish_start(sl_log *log, int64_t log_start_offset);
void sl_control_reset_durable(sl_log *log, int64_t durable_offset); /* may go back: truncation */
int64_t sl_control_last_durable(const sl_log *log); /* whoever wrote last; -1 unknown */
void sl_control_poison(sl_log *log);
void sl_control_heal(sl_log *log);
int sl_control_warm(const sl_log *log); /* so that a store into the page cannot be a SIGBUS */
typedef struct sl_control_view {
    uint64_t generation;
    int64_t active_base_offset;
    int64_t tail;
    int64_t log_end_offset;
    int64_t durable_offset;
    int64_t log_start_offset;
} sl_control_view;
bool sl_control_read(sl_log *log, sl_control_view *out);

/* ---- sync.c ---- */

/* Make offsets < end_offset durable.  deadline_ns: CLOCK_MONOTONIC, or -1. */
sl_status sl_sync_to(sl_log *log, int64_t end_offset, int64_t deadline_ns);
sl_status sl_sync_poisoned(sl_log *log);
/* Before the recovery point moves: indexes of all segments sealed since it did last. */
sl_status sl_sync_sealed_indexes(sl_log *log);
/* Keep others from syncing while files are being exchanged. */
void sl_sync_exclude(sl_log *log);
void sl_sync_readmit(sl_log *log);

/* ---- service.c ---- */

sl_status sl_service_register(sl_log *log);
void sl_service_unregister(sl_log *log); /* returns when no thread looks at the log any more */
void sl_service_prepare(sl_log *log);
void sl_service_flush(sl_log *log); /* checkpoint and sync in the background */
int64_t sl_prefault_window(const sl_log *log, const sl_segment *segment);
int64_t sl_write_ahead_window(const sl_segment *segment);
void sl_service_write_ahead(sl_log *log); /* the preparer, once prefaulting is done */

#endif
