/* stratalog.h -- the whole public C interface of libstratalog, a durable log in Kafka's own files.
 *
 * A log is one directory, laid out exactly like a Kafka partition directory:
 *
 *   events/
 *     00000000000000000000.log         record batches v2, back to back       (data)
 *     00000000000000000000.index       offset -> position, sparse            (hint, rebuildable)
 *     00000000000000000000.timeindex   timestamp -> offset, sparse           (hint, rebuildable)
 *     00000000000000183042.log ...     the next segment; the last one is the active segment
 *     recovery-point-offset-checkpoint everything below this offset was durable
 *     log-start-offset-checkpoint      first readable offset, once truncate_prefix moved it
 *     .lock                            writer's lock and control page (private to this library)
 *
 * Words.  An *offset* is a record's number, a *position* is a byte's place in a file.  "first" and
 * "last" are inclusive, "start" and "end" are half-open.  Units are the last part of a name.
 *
 * Three durability words, never blurred:
 *   appended   the bytes are in the page cache: they survive the death of this process
 *   durable    fdatasync returned: they survive power loss; offsets below durable_offset
 *   committed  replicated by a quorum or ISR rule: decided by callers, never here
 *
 * Threads.  Every function may be called from any thread; a handle may be shared.  Appends are
 * serialised inside; readers take no lock that an append holds for long.  A handle does not work in
 * a forked child: calls return SL_E_FORKED and the child reopens the directory by itself.
 *
 * Errors.  Functions return sl_status, or a value >= 0 and -(sl_status) for failures.  The thread's
 * last failure, with file, offset, position and errno, is in sl_last_error().
 *
 * Left to others: topics, sockets, replication, codecs (plugged in by sl_codec), and the truth
 * about time: timestamps are milliseconds since 1970-01-01 UTC, given by the caller or taken from
 * CLOCK_REALTIME.
 *
 * Between the two cffi marks below only plain declarations stand: the Python build reads them. */
#ifndef STRATALOG_H
#define STRATALOG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef SL_API
#define SL_API __attribute__((visibility("default")))
#endif

/* cffi: begin */

/* ---- status and errors ------------------------------------------------------------------- */

typedef enum sl_status {
    SL_OK = 0,
    SL_E_INVALID = 1,      /* an argument is wrong; nothing happened */
    SL_E_OUT_OF_RANGE = 2, /* offset outside [log_start_offset, log_end_offset] */
    SL_E_NOT_FOUND = 3,    /* no such directory, or no record there */
    SL_E_EXISTS = 4,       /* exclusive creation of a log that exists */
    SL_E_IO = 5,           /* the system refused; system_errno says why */
    SL_E_NO_SPACE = 6, /* disk full: nothing of the failed call is kept, reads go on, retry later */
    SL_E_NO_MEMORY = 7,    /* malloc or mmap failed; nothing happened */
    SL_E_CORRUPT = 8,      /* bytes on disk are damaged; path, offset and position name the place */
    SL_E_POISONED = 9,     /* an earlier sync failed: close, reopen and look at durable_offset */
    SL_E_LOCKED = 10,      /* another handle or process writes this log */
    SL_E_CLOSED = 11,      /* the handle was closed */
    SL_E_FORKED = 12,      /* the handle belongs to the parent process */
    SL_E_READ_ONLY = 13,   /* a write through a read-only handle */
    SL_E_TOO_LARGE = 14,   /* a record or batch exceeds a limit of this log */
    SL_E_CODEC = 15,       /* a codec is missing, failed, or exceeded its output bound */
    SL_E_UNSUPPORTED = 16, /* a format this library does not read (message format v0 or v1) */
    SL_E_TIMED_OUT = 17    /* the wait ended before the event */
} sl_status;

typedef struct sl_error {
    int32_t status;       /* sl_status */
    int32_t system_errno; /* 0 when the system had no part in it */
    int64_t offset;       /* record number concerned, or -1 */
    int64_t position;     /* byte position in `path`, or -1 */
    char path[1024];      /* file or directory concerned, or "" */
    char message[512];    /* one sentence, with the remedy where there is one */
} sl_error;

/* The calling thread's last failure.  Never NULL; valid until the thread's next failing call. */
SL_API const sl_error *sl_last_error(void);
SL_API const char *sl_status_name(int32_t status); /* "SL_E_CORRUPT" */
SL_API const char *sl_version(void);               /* "0.1.0" */
SL_API const char *sl_crc32c_name(void);           /* implementation chosen for this processor */

/* ---- record batches v2 ------------------------------------------------------------------- */

enum {
    SL_BATCH_OVERHEAD = 61, /* bytes of a batch header */
    SL_CODEC_NONE = 0,
    SL_CODEC_GZIP = 1,
    SL_CODEC_SNAPPY = 2,
    SL_CODEC_LZ4 = 3,
    SL_CODEC_ZSTD = 4,
    SL_ATTRIBUTE_CODEC_MASK = 0x07,
    SL_ATTRIBUTE_LOG_APPEND_TIME = 0x08,
    SL_ATTRIBUTE_TRANSACTIONAL = 0x10,
    SL_ATTRIBUTE_CONTROL = 0x20,
    SL_ATTRIBUTE_DELETE_HORIZON = 0x40
};

typedef struct sl_batch_header {
    int64_t base_offset;
    int64_t last_offset;  /* base_offset + last offset delta */
    int32_t batch_bytes;  /* whole batch, header included = batchLength + 12 */
    int32_t leader_epoch; /* partitionLeaderEpoch; -1 none */
    uint32_t crc;         /* as stored */
    int32_t attributes;   /* SL_ATTRIBUTE_* and codec */
    int32_t last_offset_delta;
    int32_t record_count;
    int64_t base_timestamp_ms; /* or the delete horizon, when that attribute is set */
    int64_t max_timestamp_ms;
    int64_t producer_id;
    int32_t producer_epoch;
    int32_t base_sequence;
} sl_batch_header;

enum {
    SL_CHECK_HEADER = 0, /* framing only: length, magic, deltas */
    SL_CHECK_CRC = 1,    /* and the CRC-32C */
    SL_CHECK_RECORDS = 2 /* and every record, decompressing where a codec is set */
};

/* Decode and check the batch that starts at data[0].
 * SL_E_CORRUPT names the failed rule and the position within `data`; SL_E_UNSUPPORTED for magic 0
 * and 1; bytes < the batch's length is SL_E_CORRUPT ("truncated").  checks: one of SL_CHECK_*. */
SL_API sl_status sl_batch_check(const uint8_t *data, size_t bytes, int32_t checks,
                                sl_batch_header *out_header);

/* Records to append, as columns.  Only `count` and the values must be set; zero is a good default
 * for the rest, but for timestamp_ms (-1 = now), leader_epoch, producer_id/epoch/sequence (-1).
 * All memory stays the caller's and is read only during the call. */
typedef struct sl_records {
    int64_t count;
    const uint8_t *values; /* all values back to back, or NULL with value_pointers */
    const uint8_t *const
        *value_pointers;          /* where each value begins; NULL: they stand in `values` */
    const int32_t *value_bytes;   /* count lengths, -1 = null value */
    const uint8_t *keys;          /* all keys back to back, or NULL: every key is null */
    const int32_t *key_bytes;     /* count lengths, -1 = null key; NULL with keys */
    const uint8_t *headers;       /* encoded headers back to back, or NULL: none anywhere */
    const int32_t *headers_bytes; /* bytes of each record's headers, header count excluded */
    const int32_t *headers_count; /* number of headers of each record */
    const int64_t *timestamps_ms; /* count timestamps, or NULL: all are timestamp_ms */
    int64_t timestamp_ms;         /* -1: the clock's time at the call */
    int32_t uniform_value_bytes;  /* if value_bytes is NULL: every value has this length */
    int32_t codec;                /* SL_CODEC_* */
    int32_t codec_level;          /* passed to the codec; INT32_MIN: its default */
    int32_t attributes;           /* SL_ATTRIBUTE_TRANSACTIONAL, _CONTROL, _LOG_APPEND_TIME */
    int32_t leader_epoch;         /* -1 none */
    int32_t producer_epoch;       /* -1 none */
    int32_t base_sequence;        /* -1 none */
    int32_t one_batch;            /* nonzero: all in one batch, whatever batch_bytes says */
    int64_t producer_id;          /* -1 none */
    int64_t out_appended_count;   /* set by the call, also when it fails: records appended */
} sl_records;

/* Encode records[0..count) as one batch with the given base offset into out[0..capacity).
 * Returns the batch's bytes, or -(sl_status): SL_E_TOO_LARGE when capacity does not suffice. */
SL_API int64_t sl_batch_encode(const sl_records *records, int64_t base_offset, uint8_t *out,
                               size_t capacity);

/* A codec, plugged in once per process.  Each call handles one batch; `out` grows through
 * sl_buffer_reserve.  Return 0, or nonzero for failure; decompress must stop past limit_bytes. */
typedef struct sl_buffer {
    uint8_t *data;
    size_t bytes;    /* in use; the codec sets it */
    size_t capacity; /* allocated */
} sl_buffer;

SL_API sl_status sl_buffer_reserve(sl_buffer *buffer, size_t capacity);
SL_API void sl_buffer_free(sl_buffer *buffer);

typedef int (*sl_compress_fn)(int32_t codec, int32_t level, const uint8_t *in, size_t in_bytes,
                              sl_buffer *out);
typedef int (*sl_decompress_fn)(int32_t codec, const uint8_t *in, size_t in_bytes,
                                size_t limit_bytes, sl_buffer *out);
SL_API sl_status sl_codec_register(int32_t codec, sl_compress_fn compress,
                                   sl_decompress_fn decompress);

/* ---- a log -------------------------------------------------------------------------------- */

typedef struct sl_log sl_log;

enum {
    SL_OPEN_READ_ONLY = 1, /* no lock, no change on disk; follows a live writer */
    SL_OPEN_CREATE = 2,    /* make the directory and an empty log where there is none */
    SL_OPEN_EXCLUSIVE = 4, /* with CREATE: SL_E_EXISTS where there is one */
    SL_OPEN_REPAIR = 8, /* damage below the recovery point: cut the log there instead of failing */
    SL_OPEN_NO_CHECKPOINTS = 16 /* the caller keeps recovery point and log start (a broker) */
};

enum {
    SL_SYNC_NONE = 0,     /* the caller flushes */
    SL_SYNC_INTERVAL = 1, /* a thread flushes every sync_interval_ms or sync_interval_bytes */
    SL_SYNC_ALWAYS = 2    /* append returns once durable; concurrent appends share one sync */
};

typedef struct sl_options {
    int32_t flags;                /* SL_OPEN_* */
    int32_t sync;                 /* SL_SYNC_* */
    int32_t sync_interval_ms;     /* 1000 */
    int32_t index_interval_bytes; /* 4096: an index entry per this many bytes at most */
    int32_t leader_epoch;         /* written into batches that carry none; -1 */
    int32_t batch_bytes; /* 65536: appends of many records are cut into batches about this long */
    int64_t sync_interval_bytes;    /* 16 MiB */
    int64_t segment_bytes;          /* 256 MiB; [4096, 2^31 - 4096] */
    int64_t segment_ms;             /* roll when the first record is older than this; -1 never */
    int64_t segment_index_bytes;    /* 10 MiB: roll when an index is full */
    int64_t decompressed_bytes_max; /* 128 MiB: bound of one batch's records after decompression */
    int64_t initial_offset;         /* first offset of a new log; 0 */
    int64_t recovery_point;         /* with NO_CHECKPOINTS: the caller's; else -1 */
    int64_t log_start_offset;       /* with NO_CHECKPOINTS: the caller's; else -1 */
} sl_options;

SL_API void sl_options_default(sl_options *options);

/* Open or create the log in `directory`.  A writer takes the directory's lock, recovers what an
 * unclean end left behind, and keeps preparing space on a background thread.
 * SL_E_LOCKED, SL_E_NOT_FOUND, SL_E_CORRUPT (damage below the recovery point), SL_E_IO, ... */
SL_API sl_status sl_log_open(const char *directory, const sl_options *options, sl_log **out_log);

/* Flush (a writer whose log is healthy), trim the files to their exact length, write the
 * checkpoints, release the lock and free the handle.  Exported pins stay valid.
 * The handle is gone whatever is returned; SL_E_POISONED or SL_E_IO: not everything is durable.
 * No other call on the handle may run or follow. */
SL_API sl_status sl_log_close(sl_log *log);

/* Release the handle without touching the directory, as a crash would (tests; forked children). */
SL_API void sl_log_abandon(sl_log *log);

/* Append records, splitting them into batches of about batch_bytes.  Returns the first record's
 * offset.  One batch is atomic; out_appended_count tells how many records stand in the log.
 * With SL_SYNC_ALWAYS returns after fdatasync.
 * SL_E_NO_SPACE, SL_E_TOO_LARGE, SL_E_POISONED, SL_E_READ_ONLY, SL_E_FORKED, SL_E_IO, SL_E_CODEC. */
SL_API int64_t sl_log_append(sl_log *log, sl_records *records);

/* Append one record with a null key, no headers and the clock's time: the short way. */
SL_API int64_t sl_log_append_value(sl_log *log, const uint8_t *value, size_t bytes);

/* Append complete batches that a producer encoded.  Base offset and leader epoch are overwritten
 * (both lie outside the CRC), all else is stored as given, byte for byte.  data may hold several
 * batches.  checks: SL_CHECK_*.  leader_epoch -1: keep the producer's.  Returns the first offset. */
SL_API int64_t sl_log_append_batches(sl_log *log, uint8_t const *data, size_t bytes,
                                     int32_t leader_epoch, int32_t checks);

/* As above, but offsets and epochs are kept: what a follower fetched from its leader.  The first
 * base offset must be log_end_offset, or beyond it with SL_OPEN_NO_CHECKPOINTS (the leader's log may
 * be compacted).  Returns the first base offset. */
SL_API int64_t sl_log_append_replicated(sl_log *log, uint8_t const *data, size_t bytes);

/* Make everything appended so far durable. */
SL_API sl_status sl_log_flush(sl_log *log);

/* Return once every offset < end_offset is durable, syncing if need be.  timeout_ms -1: no limit. */
SL_API sl_status sl_log_wait_durable(sl_log *log, int64_t end_offset, int64_t timeout_ms);

/* Ask the flusher thread to make offsets < end_offset durable; returns at once.  `event_fd` (or -1)
 * is an eventfd that gets 1 added once that is so, or once the log is poisoned. */
SL_API sl_status sl_log_request_durable(sl_log *log, int64_t end_offset, int32_t event_fd);

SL_API int64_t sl_log_start_offset(sl_log *log);
SL_API int64_t sl_log_end_offset(sl_log *log);
SL_API int64_t sl_log_durable_offset(sl_log *log);

/* A read-only handle looks for what the writer has done since: new tail, new and deleted segments.
 * Reads do it by themselves at the end of what they know.  A no-op for a writer. */
SL_API sl_status sl_log_refresh(sl_log *log);

/* Drop records below / from `offset` on.  Durable when it returns; atomic over a crash. */
SL_API sl_status sl_log_truncate_prefix(sl_log *log, int64_t offset);
SL_API sl_status sl_log_truncate_suffix(sl_log *log, int64_t offset);

/* Begin a new segment now (a no-op when the active one is empty). */
SL_API sl_status sl_log_roll(sl_log *log);

/* First offset whose record has a timestamp >= timestamp_ms, or -(SL_E_NOT_FOUND).
 * out_timestamp_ms may be NULL. */
SL_API int64_t sl_log_offset_for_timestamp(sl_log *log, int64_t timestamp_ms,
                                           int64_t *out_timestamp_ms);

/* ---- a journal: a file of another format, appended and synced ------------------------------ */

typedef struct sl_journal sl_journal;

/* Create the file, over what was there, with `head` (at most 4096 bytes, NULL for none) as its first
 * bytes, and reserve its blocks in steps of reserve_bytes (4096 to 2^31 - 1).  When this returns the
 * head is durable, and the name after it; when it fails there is no file.  at_once: what is appended
 * survives the process when sl_journal_append returns; otherwise it does when it is durable. */
SL_API sl_status sl_journal_create(const char *path, const uint8_t *head, int64_t head_bytes,
                                   int64_t reserve_bytes, int32_t at_once, sl_journal **out);

/* Append bytes, none maybe; returns the position behind them, or -(sl_status).  After SL_E_NO_SPACE
 * nothing has changed; any other failure is final.  request: ask for everything appended so far to be
 * synced, which nobody waits for here.  One thread at a time.  The event descriptor, an eventfd that is
 * the journal's, becomes readable whenever sl_journal_durable has something to say: the position up to
 * which the file is on the disk, or -(SL_E_POISONED). */
SL_API int64_t sl_journal_append(sl_journal *journal, const uint8_t *data, int64_t bytes,
                                 int32_t request);
SL_API int64_t sl_journal_durable(const sl_journal *journal);
SL_API int32_t sl_journal_event_fd(const sl_journal *journal);

/* Sync and close.  trim: cut what was reserved and not used. */
SL_API sl_status sl_journal_close(sl_journal *journal, int32_t trim);

/* ---- reading ------------------------------------------------------------------------------ */

/* Keeps exported memory alive: a segment's map or a decompressed batch.  Counted by
 * sl_stats.pinned_bytes until released.  May be released from any thread, after close too. */
typedef struct sl_pin sl_pin;
SL_API void sl_pin_retain(sl_pin *pin);
SL_API void sl_pin_release(sl_pin *pin);

/* A run of records that share one block of memory.  The caller supplies the arrays, each of
 * `capacity` entries (NULL if it is not wanted; start and end of a column go together); positions
 * are relative to `base`.
 * key_end[i] == -1: null key; value_end[i] == -1: null value. */
typedef struct sl_columns {
    int64_t capacity;
    int64_t count;
    const uint8_t *base; /* read-only memory, valid while `pin` is held */
    int64_t base_bytes;
    sl_pin *pin; /* one reference, the caller's to release; NULL when count is 0 */
    int64_t *offsets;
    int64_t *timestamps_ms;
    int32_t *key_start;
    int32_t *key_end;
    int32_t *value_start;
    int32_t *value_end;
    int32_t *headers_start; /* position of the first header's key length */
    int32_t *headers_count;
    int64_t null_keys; /* how many of the keys are null */
    int64_t null_values;
    int64_t with_headers; /* how many records have at least one header */
    int64_t next_offset;  /* where reading goes on */
} sl_columns;

typedef struct sl_batch_view {
    const uint8_t *data; /* batch_bytes of them, as on disk, valid while `pin` is held */
    sl_pin *pin;         /* one reference, the caller's to release */
    int64_t segment_base_offset;
    int64_t position; /* of data[0] in the segment file */
    sl_batch_header header;
} sl_batch_view;

typedef struct sl_cursor sl_cursor;

enum {
    SL_READ_NO_CRC = 1,      /* trust what is on disk */
    SL_READ_CONTROL = 2,     /* return records of control batches too */
    SL_READ_SKIP_CORRUPT = 4 /* go on after damage at the next sound batch; see sl_cursor_skipped */
};

/* Begin reading at start_offset, in [log_start_offset, log_end_offset].  The log must outlive the
 * cursor.  A cursor serves one thread at a time. */
SL_API sl_status sl_cursor_open(sl_log *log, int64_t start_offset, int32_t flags,
                                sl_cursor **out_cursor);
SL_API void sl_cursor_close(sl_cursor *cursor);
SL_API sl_status sl_cursor_seek(sl_cursor *cursor, int64_t offset);
SL_API int64_t sl_cursor_next_offset(const sl_cursor *cursor);
SL_API int64_t sl_cursor_skipped_bytes(const sl_cursor *cursor);

/* Fill columns with the next records; returns their count, 0 at the log's end (call again later
 * to follow the tail), or -(sl_status).  After an error the cursor stands before the bad batch. */
SL_API int64_t sl_cursor_next(sl_cursor *cursor, sl_columns *columns);

/* The next whole batch, as on disk: 1, or 0 at the end, or -(sl_status). */
SL_API int64_t sl_cursor_next_batch(sl_cursor *cursor, sl_batch_view *out_batch);

/* One record by offset: the record itself or, in a compacted log, the next one.  Fills columns
 * (capacity >= 1) with it; returns 1 or -(sl_status). */
SL_API int64_t sl_log_get(sl_log *log, int64_t offset, sl_columns *columns);

/* Many records by offset, copied.  For each i: value_bytes[i] and key_bytes[i] are lengths, or -1
 * for null, or -2 where no such record is; the bytes stand in `out` back to back, key then value.
 * offsets need no order.  Returns the count found or -(sl_status). */
SL_API int64_t sl_log_lookup_many(sl_log *log, const int64_t *offsets, int64_t count,
                                  int64_t *timestamps_ms, int32_t *key_bytes, int32_t *value_bytes,
                                  sl_buffer *out);

/* Whole batches from start_offset on, as one block as on disk: at most max_bytes, but at least one
 * batch if any exists.  Stays within one segment.  For replying to a fetch.  out->header is the
 * first batch's; returns the block's bytes, 0 at the end, or -(sl_status). */
SL_API int64_t sl_log_read_range(sl_log *log, int64_t start_offset, int64_t end_offset,
                                 int64_t max_bytes, sl_batch_view *out);

/* ---- state, verification ------------------------------------------------------------------ */

typedef struct sl_stats {
    int64_t log_start_offset;
    int64_t log_end_offset;
    int64_t durable_offset;
    int64_t segment_count;
    int64_t log_bytes;      /* bytes of record batches */
    int64_t reserved_bytes; /* bytes of disk reserved beyond them */
    int64_t pinned_bytes;   /* kept alive by exported pins */
    int64_t sync_count;
    int64_t roll_count;
    int64_t append_count;             /* calls */
    int64_t recovered_batches;        /* checked when this handle opened the log */
    int64_t recovery_discarded_bytes; /* torn tail cut away when this handle opened the log */
    int64_t recovery_later_batches;   /* sound batches seen beyond the cut (unordered write-back) */
    int64_t damage_offset;            /* first offset lost to a repair, -1 none */
    int32_t poisoned_errno;           /* 0 while healthy */
    int32_t writer_alive;             /* read-only handle: a writer holds the lock */
} sl_stats;

SL_API sl_status sl_log_stats(sl_log *log, sl_stats *out_stats);

typedef struct sl_segment_info {
    int64_t base_offset;
    int64_t end_offset;
    int64_t log_bytes;
    int64_t index_entries;
    int64_t time_index_entries;
    int64_t max_timestamp_ms; /* -1 empty */
} sl_segment_info;

SL_API int64_t sl_log_segment_count(sl_log *log);
SL_API sl_status sl_log_segment_info(sl_log *log, int64_t segment_number, sl_segment_info *out);

typedef struct sl_problem {
    int64_t offset;
    int64_t position;
    int32_t kind; /* SL_PROBLEM_* */
    int32_t reserved;
    char path[1024];
    char message[256];
} sl_problem;

enum { SL_PROBLEM_DATA = 1, SL_PROBLEM_INDEX = 2, SL_PROBLEM_TIME_INDEX = 3, SL_PROBLEM_GAP = 4 };

/* Read every byte of one segment: framing, CRC, records, order, and both indexes against the data.
 * Returns the number of problems (at most `capacity` are written), or -(sl_status). */
SL_API int64_t sl_log_verify_segment(sl_log *log, int64_t segment_number, sl_problem *out,
                                     int64_t capacity, int64_t *out_batches, int64_t *out_records);

/* ---- small files --------------------------------------------------------------------------- */

/* Replace `path` by `bytes` of data, all or nothing over a crash: write a temporary file beside
 * it, fdatasync, rename, fsync the directory. */
SL_API sl_status sl_file_replace(const char *path, const uint8_t *data, size_t bytes);

/* cffi: end */

/* Arrow C stream interface; see arrow.c.  `out_stream` is a struct ArrowArrayStream *. */
SL_API sl_status sl_log_arrow_stream(sl_log *log, int64_t start_offset, int64_t end_offset,
                                     void *out_stream);

#ifdef __cplusplus
}
#endif

#endif /* STRATALOG_H */
