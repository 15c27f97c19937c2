/* arrow.c -- a log as a stream of Arrow record batches, keys and values left where they are.
 *
 * Promise: sl_log_arrow_stream delivers records [start_offset, end_offset) in order, each once, as
 *
 *   struct< offset:    int64                     not null     "l"
 *           timestamp: timestamp[ms, tz=UTC]     not null     "tsm:UTC"
 *           key:       binary_view               nullable     "vz"
 *           value:     binary_view               nullable     "vz"  >
 *
 * Headers are left out: they are rare, and a list of structs costs every reader two more levels of
 * arrays.  Read them through sl_cursor_next.  Records of control batches are left out as by every
 * cursor.  A Kafka timestamp of -1 (none) is delivered as -1, the millisecond before 1970.
 *
 * No value is copied.  A column has a view of 16 bytes for each record, which points into buffers
 * that are the segment's map, or the memory of a decompressed batch:
 *
 *     a view                                                          the array's buffers
 *     0            4            8               12             16
 *     +------------+------------+---------------+--------------+      0     validity, or NULL
 *     | length     | first four | number of the | start within |      1     views
 *     | (over 12)  | bytes      | window        | the window   |      2...  windows
 *     +------------+------------+---------------+--------------+      last  lengths of windows
 *     | length     | the bytes themselves, then zeros          |
 *     | (up to 12) | (a column of short values pins nothing)   |
 *     +------------+-------------------------------------------+
 *
 * A window is the part of the map that this array's values span and not the whole segment,
 * because consumers that write IPC or count bytes take a buffer for what it says it is.  Windows of
 * neighbouring cursor chunks that share a pin grow together; small compressed batches become
 * buffers of one array, so that an array has up to 16384 records however small the batches are.
 *
 * Lifetimes, from the shortest to the longest:
 *
 *   stream   holds a cursor, hence needs the log.  sl_log_close frees the log, so whoever closes
 *            it calls sl_log_arrow_cut first; the stream then answers ECANCELED instead of touching
 *            freed memory.  All live streams stand in one list for that purpose.
 *   array    holds pins and its own allocations, never the log: it outlives close, truncation and
 *            the stream.  Each child owns its own pins, since consumers move children out of their
 *            parent; dropping `value` frees the segment though `offset` is kept.
 *
 * Threads.  Nothing here knows Python.  Release callbacks run on any thread, with or without
 * Python's lock held.  They may therefore never wait for a thread that could be waiting for that
 * lock, and a codec written in Python makes sl_cursor_next such a thread: so `streams_mutex` is
 * never held while another lock is taken, and a release waits for a stream's own lock only, which
 * get_next of the same stream cannot hold (the format forbids that overlap).  The same is asked of
 * the engine: sl_pin_release and sl_cursor_close take no lock that is held across a codec call.
 *
 * A forked child inherits copies of streams whose locks and cursor may be in any state: get_next
 * refuses there, and release frees nothing.
 *
 * Left to others: which records there are and whether they are sound (cursor), capsules
 * (src/stratalog/_native_capsule.c) and the conversation with consumers (columns.py). */
#define _GNU_SOURCE
#include "arrow.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "os.h"

enum {
    ROWS_MAX = 16384,       /* scratch and views of that many records stay in a level-2 cache */
    ARRAY_BYTES = 32 << 20, /* an array is long enough once it refers to this many bytes */
    SOURCES_MAX = 1024,     /* ... or to this many blocks */
    COPY_STEP = 256,        /* copied forms look at ARRAY_BYTES this often, to bound their memory */
    INLINE_BYTES = 12,      /* the longest value that stands in its view */
    FIELDS = 4
};

typedef struct view {
    int32_t bytes;
    union {
        uint8_t inlined[INLINE_BYTES];
        struct {
            uint8_t prefix[4];
            int32_t buffer;
            int32_t start;
        } there;
    } u;
} view;

_Static_assert(sizeof(view) == 16, "the format fixes a view at 16 bytes");

/* ---- schema ------------------------------------------------------------------------------- */

/* A moved child keeps pointing at names and formats, so those are constants; the structs
 * themselves are the parent's, as the format allows. */
typedef struct schema_block {
    struct ArrowSchema children[FIELDS];
    struct ArrowSchema *pointers[FIELDS];
} schema_block;

static const char *const field_names[FIELDS] = {"offset", "timestamp", "key", "value"};
static const char *const form_formats[] = {"vz", "Z", "z"};
static const size_t form_widths[] = {0, sizeof(int64_t), sizeof(int32_t)}; /* of an offset */
static const int32_t form_count = (int32_t)(sizeof form_formats / sizeof form_formats[0]);

static bool is_form(int32_t form) { return form >= 0 && form < form_count; }

static void release_field(struct ArrowSchema *field) { field->release = NULL; }

static void release_schema(struct ArrowSchema *schema) {
    for (int64_t i = 0; i < schema->n_children; i++) {
        struct ArrowSchema *child = schema->children[i];
        if (child->release != NULL) child->release(child);
    }
    free(schema->private_data);
    schema->release = NULL;
}

sl_status sl_arrow_schema(int32_t key_form, int32_t value_form, void *out_schema) {
    struct ArrowSchema *schema = out_schema;
    if (schema == NULL || !is_form(key_form) || !is_form(value_form)) {
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1,
                       "a schema needs a place to stand and two of SL_ARROW_*");
    }
    memset(schema, 0, sizeof *schema);
    schema_block *block = sl_os.allocate(sizeof *block);
    if (block == NULL) return sl_fail_memory("describing Arrow columns");
    const char *const formats[] = {"l", "tsm:UTC", form_formats[key_form],
                                   form_formats[value_form]};
    for (int i = 0; i < FIELDS; i++) {
        block->children[i] = (struct ArrowSchema){
            .format = formats[i],
            .name = field_names[i],
            .flags = i < 2 ? 0 : ARROW_FLAG_NULLABLE,
            .release = release_field,
        };
        block->pointers[i] = &block->children[i];
    }
    *schema = (struct ArrowSchema){
        .format = "+s",
        .name = "",
        .n_children = FIELDS,
        .children = block->pointers,
        .release = release_schema,
        .private_data = block,
    };
    return SL_OK;
}

static int32_t form_for(const char *format) {
    for (int32_t form = 0; form < form_count; form++) {
        if (format != NULL && strcmp(format, form_formats[form]) == 0) return form;
    }
    return SL_ARROW_VIEW;
}

sl_status sl_arrow_forms(const void *requested, int32_t *out_key_form, int32_t *out_value_form) {
    const struct ArrowSchema *schema = requested;
    bool ours = schema != NULL && schema->release != NULL && schema->format != NULL &&
                strcmp(schema->format, "+s") == 0 && schema->n_children == FIELDS;
    for (int i = 0; ours && i < FIELDS; i++) {
        const struct ArrowSchema *field = schema->children[i];
        ours = field != NULL && field->name != NULL && strcmp(field->name, field_names[i]) == 0;
    }
    if (!ours) {
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1,
                       "the requested schema is not struct<offset, timestamp, key, value>: a "
                       "stream changes types on request, but neither number nor order of columns");
    }
    *out_key_form = form_for(schema->children[2]->format);
    *out_value_form = form_for(schema->children[3]->format);
    return SL_OK;
}

/* ---- one column --------------------------------------------------------------------------- */

/* A block of the log's memory that views point into.  The window is what the array publishes; the
 * block is what the pin is known to hold, within which the window may grow. */
typedef struct source {
    sl_pin *pin;
    const uint8_t *block_start;
    const uint8_t *block_end;
    const uint8_t *window_start;
    const uint8_t *window_end;
} source;

/* All that a child array owns, and its private_data.  The parent has none of it. */
typedef struct column {
    void *fixed;       /* numbers, offsets of copied bytes, or views; no views: all is null */
    uint8_t *validity; /* NULL while nothing is null */
    int64_t null_count;
    int64_t capacity; /* records that `fixed` and `validity` have room for */
    int32_t form;
    int32_t source_count;
    int32_t source_capacity;
    source *sources;
    uint8_t *bytes; /* copied forms */
    int64_t bytes_used;
    int64_t bytes_capacity;
    int64_t *lengths;     /* of the published windows */
    const void **buffers; /* NULL until published */
} column;

static void column_free(column *c) {
    if (c == NULL) return;
    for (int32_t i = 0; i < c->source_count; i++) sl_pin_release(c->sources[i].pin);
    free(c->fixed);
    free(c->validity);
    free(c->sources);
    free(c->bytes);
    free(c->lengths);
    free(c->buffers);
    free(c);
}

/* entry_bytes: 8 for numbers and 64-bit offsets, 4 for 32-bit offsets; 0: views, which come with the
 * first value that is not null. */
static column *column_new(int64_t capacity, int32_t form, size_t entry_bytes) {
    column *c = sl_os.allocate_zeroed(sizeof *c);
    if (c == NULL) return NULL;
    c->form = form;
    c->capacity = capacity;
    if (entry_bytes == 0) return c;
    c->fixed = sl_os.allocate(((size_t)capacity + 1) * entry_bytes);
    if (c->fixed == NULL) {
        column_free(c);
        return NULL;
    }
    memset(c->fixed, 0, entry_bytes); /* offsets begin with 0, and have one more than records */
    return c;
}

/* Mark the record null.  The bitmap comes with the first null: most columns have none. */
static sl_status column_set_null(column *c, int64_t row) {
    if (c->validity == NULL) {
        size_t bytes = ((size_t)c->capacity + 7) / 8;
        c->validity = sl_os.allocate(bytes);
        if (c->validity == NULL) return sl_fail_memory("building an Arrow column");
        memset(c->validity, 0xff, bytes);
    }
    c->validity[row >> 3] = (uint8_t)(c->validity[row >> 3] & ~(1u << (row & 7)));
    c->null_count++;
    return SL_OK;
}

static sl_status column_add_source(column *c, const sl_columns *chunk, const uint8_t *first) {
    if (c->source_count == c->source_capacity) {
        int32_t capacity = c->source_capacity == 0 ? 4 : c->source_capacity * 2;
        source *grown = sl_os.reallocate(c->sources, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return sl_fail_memory("building an Arrow column");
        c->sources = grown;
        c->source_capacity = capacity;
    }
    sl_pin_retain(chunk->pin);
    c->sources[c->source_count++] = (source){
        .pin = chunk->pin,
        .block_start = chunk->base,
        .block_end = chunk->base + chunk->base_bytes,
        .window_start = first,
        .window_end = first,
    };
    return SL_OK;
}

/* May views into `chunk` go on using the column's last source?  Yes if both are one pin's memory
 * without a hole between them: then all of the window stays readable. */
static bool column_continues(column *c, const sl_columns *chunk) {
    if (c->source_count == 0) return false;
    source *last = &c->sources[c->source_count - 1];
    uintptr_t start = (uintptr_t)chunk->base;
    uintptr_t end = start + (uintptr_t)chunk->base_bytes;
    if (last->pin != chunk->pin || start > (uintptr_t)last->block_end ||
        end < (uintptr_t)last->block_start) {
        return false;
    }
    if (end > (uintptr_t)last->block_end) last->block_end = chunk->base + chunk->base_bytes;
    if (start < (uintptr_t)last->block_start) last->block_start = chunk->base;
    return true;
}

/* Give a column its views, after `row` nulls. */
static sl_status column_begin_views(column *c, int64_t row) {
    c->fixed = sl_os.allocate((size_t)c->capacity * sizeof(view));
    if (c->fixed == NULL) return sl_fail_memory("building an Arrow column");
    memset(c->fixed, 0, (size_t)row * sizeof(view));
    c->null_count = 0;
    sl_status status = SL_OK;
    for (int64_t i = 0; i < row && status == SL_OK; i++) status = column_set_null(c, i);
    return status;
}

/* Add the chunk's first `count` keys or values at `row`, as views.  A log without keys is common:
 * while all is null nothing is allocated, and `zeros` is published. */
static sl_status column_add_views(column *c, int64_t row, int64_t count, const sl_columns *chunk,
                                  const int32_t *starts, const int32_t *ends, bool all_null) {
    if (c->fixed == NULL) {
        if (all_null && c->capacity <= ROWS_MAX) {
            c->null_count += count;
            return SL_OK;
        }
        sl_status status = column_begin_views(c, row);
        if (status != SL_OK) return status;
    }
    view *views = (view *)c->fixed + row;
    source *last = column_continues(c, chunk) ? &c->sources[c->source_count - 1] : NULL;
    for (int64_t i = 0; i < count; i++) {
        view *v = &views[i];
        if (ends[i] < 0) {
            memset(v, 0, sizeof *v);
            sl_status status = column_set_null(c, row + i);
            if (status != SL_OK) return status;
            continue;
        }
        const uint8_t *data = chunk->base + starts[i];
        int32_t bytes = ends[i] - starts[i];
        if (bytes <= INLINE_BYTES) {
            memset(v, 0, sizeof *v);
            v->bytes = bytes;
            memcpy(v->u.inlined, data, (size_t)bytes);
            continue;
        }
        /* Positions rise within a chunk, so a new source is rare: the first value of a block, or a
         * window that would outgrow the 32 bits of a view's start. */
        if (last == NULL || data < last->window_start ||
            data + bytes - last->window_start > INT32_MAX) {
            sl_status status = column_add_source(c, chunk, data);
            if (status != SL_OK) return status;
            last = &c->sources[c->source_count - 1];
        }
        v->bytes = bytes;
        memcpy(v->u.there.prefix, data, sizeof v->u.there.prefix);
        v->u.there.buffer = c->source_count - 1;
        v->u.there.start = (int32_t)(data - last->window_start);
        if (data + bytes > last->window_end) last->window_end = data + bytes;
    }
    return SL_OK;
}

/* Add the chunk's first `count` keys or values at `row`, copied. */
static sl_status column_add_copies(column *c, int64_t row, int64_t count, const sl_columns *chunk,
                                   const int32_t *starts, const int32_t *ends) {
    int64_t total = c->bytes_used;
    for (int64_t i = 0; i < count; i++) total += ends[i] < 0 ? 0 : ends[i] - starts[i];
    if (total > c->bytes_capacity) {
        int64_t capacity = c->bytes_capacity * 2 > total ? c->bytes_capacity * 2 : total;
        uint8_t *grown = sl_os.reallocate(c->bytes, (size_t)capacity);
        if (grown == NULL) return sl_fail_memory("copying records into an Arrow column");
        c->bytes = grown;
        c->bytes_capacity = capacity;
    }
    for (int64_t i = 0; i < count; i++) {
        if (ends[i] < 0) {
            sl_status status = column_set_null(c, row + i);
            if (status != SL_OK) return status;
        } else if (ends[i] > starts[i]) {
            size_t bytes = (size_t)(ends[i] - starts[i]);
            memcpy(c->bytes + c->bytes_used, chunk->base + starts[i], bytes);
            c->bytes_used += (int64_t)bytes;
        }
        if (c->form == SL_ARROW_BINARY) {
            ((int32_t *)c->fixed)[row + i + 1] = (int32_t)c->bytes_used;
        } else {
            ((int64_t *)c->fixed)[row + i + 1] = c->bytes_used;
        }
    }
    return SL_OK;
}

static void release_column(struct ArrowArray *array) {
    column_free(array->private_data);
    array->release = NULL;
}

/* Views and validity of a column that is all null.  And an empty buffer still gets an address: some
 * consumers take NULL for a broken array.  Never written, so it is one page of the kernel's. */
static view zeros[ROWS_MAX];

/* Hand the column over to a child array.  On failure the column stays the caller's. */
static sl_status column_publish(column *c, int64_t rows, bool binary, struct ArrowArray *out) {
    int64_t n_buffers = !binary ? 2 : c->form == SL_ARROW_VIEW ? 3 + (int64_t)c->source_count : 3;
    c->buffers = sl_os.allocate((size_t)n_buffers * sizeof *c->buffers);
    if (c->buffers == NULL) return sl_fail_memory("building an Arrow column");
    c->buffers[0] = c->validity;
    c->buffers[1] = c->fixed;
    if (c->fixed == NULL) c->buffers[0] = c->buffers[1] = zeros;
    if (binary && c->form == SL_ARROW_VIEW) {
        if (c->source_count > 0) {
            c->lengths = sl_os.allocate((size_t)c->source_count * sizeof *c->lengths);
            if (c->lengths == NULL) return sl_fail_memory("building an Arrow column");
        }
        for (int32_t i = 0; i < c->source_count; i++) {
            const source *s = &c->sources[i];
            c->buffers[2 + i] = s->window_start;
            c->lengths[i] = s->window_end - s->window_start;
        }
        c->buffers[n_buffers - 1] = c->lengths != NULL ? (const void *)c->lengths : zeros;
    } else if (binary) {
        c->buffers[2] = c->bytes != NULL ? (const void *)c->bytes : zeros;
    }
    *out = (struct ArrowArray){
        .length = rows,
        .null_count = c->null_count,
        .n_buffers = n_buffers,
        .buffers = c->buffers,
        .release = release_column,
        .private_data = c,
    };
    return SL_OK;
}

/* ---- one array ---------------------------------------------------------------------------- */

/* The parent's memory: the children's structs, until consumers copy them away. */
typedef struct array_block {
    struct ArrowArray children[FIELDS];
    struct ArrowArray *pointers[FIELDS];
    const void *buffers[1]; /* no struct of ours is null */
} array_block;

static void release_array(struct ArrowArray *array) {
    for (int64_t i = 0; i < array->n_children; i++) {
        struct ArrowArray *child = array->children[i];
        if (child->release != NULL) child->release(child);
    }
    free(array->private_data);
    array->release = NULL;
}

/* Build the parent from four columns.  They are gone whatever is returned. */
static sl_status publish_array(column *columns[FIELDS], int64_t rows, struct ArrowArray *out) {
    array_block *block = sl_os.allocate_zeroed(sizeof *block);
    sl_status status = block != NULL ? SL_OK : sl_fail_memory("building an Arrow array");
    for (int i = 0; i < FIELDS && status == SL_OK; i++) {
        status = column_publish(columns[i], rows, i >= 2, &block->children[i]);
        if (status != SL_OK) break;
        columns[i] = NULL; /* the child owns it from here on */
        block->pointers[i] = &block->children[i];
    }
    if (status != SL_OK) {
        for (int i = 0; i < FIELDS; i++) {
            if (block != NULL && block->children[i].release != NULL) {
                block->children[i].release(&block->children[i]);
            }
            column_free(columns[i]);
        }
        free(block);
        return status;
    }
    *out = (struct ArrowArray){
        .length = rows,
        .n_buffers = 1,
        .n_children = FIELDS,
        .buffers = block->buffers,
        .children = block->pointers,
        .release = release_array,
        .private_data = block,
    };
    return SL_OK;
}

/* ---- the stream --------------------------------------------------------------------------- */

typedef struct stream {
    /* The list, guarded by streams_mutex. */
    struct stream *next;
    struct stream *previous;
    int32_t references; /* the owner's, and sl_log_arrow_cut's while it works on this stream */
    bool cut;
    const sl_log *log; /* compared only; the cursor is what reaches the log */
    pid_t pid;

    /* Reading, guarded by mutex. */
    pthread_mutex_t mutex;
    sl_cursor *cursor; /* NULL once cut or released */
    bool ended;
    sl_arrow_request request; /* offsets resolved */
    int32_t *scratch;         /* key start, key end, value start, value end: rows_max of each */
    char error[2048];
} stream;

static pthread_mutex_t streams_mutex = PTHREAD_MUTEX_INITIALIZER;
static stream *streams_first = NULL;

/* In a forked child no stream of the parent can work, and the lock may be held by a thread that
 * does not exist here. */
static void forget_streams_in_child(void) {
    streams_mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    streams_first = NULL;
}

static void watch_forks(void) { (void)pthread_atfork(NULL, NULL, forget_streams_in_child); }

static void stream_link(stream *s) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&streams_mutex);
    s->next = streams_first;
    if (s->next != NULL) s->next->previous = s;
    streams_first = s;
    pthread_mutex_unlock(&streams_mutex);
}

/* Drop one reference; the owner's also leaves the list. */
static void stream_unreference(stream *s, bool owner) {
    pthread_mutex_lock(&streams_mutex);
    if (owner) {
        if (s->previous != NULL) {
            s->previous->next = s->next;
        } else {
            streams_first = s->next;
        }
        if (s->next != NULL) s->next->previous = s->previous;
    }
    bool last = --s->references == 0;
    pthread_mutex_unlock(&streams_mutex);
    if (!last) return;
    pthread_mutex_destroy(&s->mutex);
    free(s->scratch);
    free(s);
}

static void stream_close_cursor(stream *s) {
    pthread_mutex_lock(&s->mutex);
    sl_cursor_close(s->cursor);
    s->cursor = NULL;
    pthread_mutex_unlock(&s->mutex);
}

int64_t sl_log_arrow_cut(sl_log *log) {
    int64_t count = 0;
    for (;;) {
        pthread_mutex_lock(&streams_mutex);
        stream *s = streams_first;
        while (s != NULL && (s->log != log || s->cut)) s = s->next;
        if (s != NULL) {
            s->cut = true;
            s->references++;
        }
        pthread_mutex_unlock(&streams_mutex);
        if (s == NULL) return count;
        stream_close_cursor(s); /* waits for its get_next, with no other lock held */
        stream_unreference(s, false);
        count++;
    }
}

static int errno_of(sl_status status) {
    switch (status) {
    case SL_OK: return 0;
    case SL_E_INVALID:
    case SL_E_OUT_OF_RANGE: return EINVAL;
    case SL_E_NO_MEMORY: return ENOMEM;
    case SL_E_NOT_FOUND: return ENOENT;
    case SL_E_CLOSED:
    case SL_E_FORKED: return ECANCELED;
    case SL_E_UNSUPPORTED: return ENOTSUP;
    default: return EIO;
    }
}

/* Keep the thread's last failure as the stream's own text: get_last_error may be asked by another
 * thread, or after other calls of this one have failed. */
static int stream_fail(stream *s, sl_status status) {
    const sl_error *error = sl_last_error();
    int written = snprintf(s->error, sizeof s->error, "%s: %s", sl_status_name((int32_t)status),
                           error->message);
    size_t used = written < 0 ? 0 : (size_t)written;
    if (used < sizeof s->error && error->path[0] != '\0') {
        snprintf(s->error + used, sizeof s->error - used, " [%s, offset %lld, position %lld]",
                 error->path, (long long)error->offset, (long long)error->position);
    }
    return errno_of(status);
}

static sl_status add(column *c, int64_t row, int64_t count, const sl_columns *chunk, bool keys) {
    const int32_t *starts = keys ? chunk->key_start : chunk->value_start;
    const int32_t *ends = keys ? chunk->key_end : chunk->value_end;
    bool all_null = (keys ? chunk->null_keys : chunk->null_values) == chunk->count;
    return c->form == SL_ARROW_VIEW ? column_add_views(c, row, count, chunk, starts, ends, all_null)
                                    : column_add_copies(c, row, count, chunk, starts, ends);
}

static int64_t bytes_referred(const column *c) {
    int64_t bytes = c->bytes_used;
    for (int32_t i = 0; i < c->source_count; i++) {
        bytes += c->sources[i].window_end - c->sources[i].window_start;
    }
    return bytes;
}

/* Would this chunk overflow 32-bit offsets?  Alone it never does: its block is below 2 GiB. */
static bool overflows(const stream *s, const column *key, const column *value,
                      const sl_columns *chunk) {
    return (s->request.key_form == SL_ARROW_BINARY &&
            key->bytes_used + chunk->base_bytes > INT32_MAX) ||
           (s->request.value_form == SL_ARROW_BINARY &&
            value->bytes_used + chunk->base_bytes > INT32_MAX);
}

/* Fill four columns with up to `rows_max` records; *out_rows is 0 at the end.  When it fails, or
 * when a chunk has to wait for the next array, the cursor stands where the next array begins. */
static sl_status read_rows(stream *s, column *columns[FIELDS], int64_t rows_max,
                           int64_t *out_rows) {
    bool copies = s->request.key_form != SL_ARROW_VIEW || s->request.value_form != SL_ARROW_VIEW;
    int64_t scratch_rows = s->request.rows_max;
    sl_columns chunk = {0};
    chunk.key_start = s->scratch;
    chunk.key_end = s->scratch + scratch_rows;
    chunk.value_start = s->scratch + 2 * scratch_rows;
    chunk.value_end = s->scratch + 3 * scratch_rows;

    int64_t begin = sl_cursor_next_offset(s->cursor);
    int64_t rows = 0;
    sl_status status = SL_OK;
    while (rows < rows_max) {
        int64_t wanted = rows_max - rows;
        chunk.capacity = copies && wanted > COPY_STEP ? COPY_STEP : wanted;
        chunk.offsets = (int64_t *)columns[0]->fixed + rows;
        chunk.timestamps_ms = (int64_t *)columns[1]->fixed + rows;
        int64_t count = sl_cursor_next(s->cursor, &chunk);
        if (count <= 0) {
            /* What was read before the damage is delivered first; the next call meets it again. */
            if (count < 0 && rows == 0) return (sl_status)-count;
            s->ended = count == 0;
            break;
        }
        /* A compacted log has gaps, so a chunk may reach past the end. */
        int64_t kept = count;
        while (kept > 0 && chunk.offsets[kept - 1] >= s->request.end_offset) kept--;
        bool full = rows > 0 && overflows(s, columns[2], columns[3], &chunk);
        if (full) {
            status = sl_cursor_seek(s->cursor, chunk.offsets[0]);
        } else {
            status = add(columns[2], rows, kept, &chunk, true);
            if (status == SL_OK) status = add(columns[3], rows, kept, &chunk, false);
        }
        sl_pin_release(chunk.pin); /* the columns hold their own */
        if (status != SL_OK) {
            (void)sl_cursor_seek(s->cursor, begin); /* a later call finds the same records */
            return status;
        }
        if (full) break;
        rows += kept;
        if (kept < count || chunk.next_offset >= s->request.end_offset) {
            s->ended = true;
            break;
        }
        if (columns[2]->source_count + columns[3]->source_count > SOURCES_MAX ||
            bytes_referred(columns[2]) + bytes_referred(columns[3]) > ARRAY_BYTES) {
            break;
        }
    }
    *out_rows = rows;
    return SL_OK;
}

static sl_status stream_read(stream *s, struct ArrowArray *out) {
    int64_t left = s->request.end_offset - sl_cursor_next_offset(s->cursor);
    if (left <= 0) {
        s->ended = true;
        return SL_OK;
    }
    int64_t rows_max = left < s->request.rows_max ? left : s->request.rows_max;
    column *columns[FIELDS] = {
        column_new(rows_max, SL_ARROW_VIEW, sizeof(int64_t)),
        column_new(rows_max, SL_ARROW_VIEW, sizeof(int64_t)),
        column_new(rows_max, s->request.key_form, form_widths[s->request.key_form]),
        column_new(rows_max, s->request.value_form, form_widths[s->request.value_form]),
    };
    sl_status status = SL_OK;
    int64_t rows = 0;
    for (int i = 0; i < FIELDS; i++) {
        if (columns[i] == NULL) status = sl_fail_memory("building an Arrow array");
    }
    if (status == SL_OK) status = read_rows(s, columns, rows_max, &rows);
    if (status != SL_OK || rows == 0) {
        for (int i = 0; i < FIELDS; i++) column_free(columns[i]);
        return status;
    }
    int64_t begin = ((const int64_t *)columns[0]->fixed)[0];
    status = publish_array(columns, rows, out);
    if (status != SL_OK) {
        s->ended = false;
        (void)sl_cursor_seek(s->cursor, begin);
    }
    return status;
}

static int stream_get_next(struct ArrowArrayStream *self, struct ArrowArray *out) {
    stream *s = self->private_data;
    memset(out, 0, sizeof *out);
    if (s->pid != getpid()) {
        return stream_fail(s, sl_fail(SL_E_FORKED, 0, NULL, NULL, -1, -1,
                                      "this stream belongs to the parent process: open the log "
                                      "in the child"));
    }
    pthread_mutex_lock(&s->mutex);
    int result = 0;
    if (!s->ended && s->cursor == NULL) { /* a stream that reached its end misses nothing */
        result = stream_fail(s, sl_fail(SL_E_CLOSED, 0, NULL, NULL, -1, -1,
                                        "the log was closed before this stream was read to its "
                                        "end: keep the log open while reading"));
    } else if (!s->ended) {
        sl_status status = stream_read(s, out);
        if (status != SL_OK) result = stream_fail(s, status);
    }
    pthread_mutex_unlock(&s->mutex);
    return result;
}

static int stream_get_schema(struct ArrowArrayStream *self, struct ArrowSchema *out) {
    stream *s = self->private_data;
    sl_status status = sl_arrow_schema(s->request.key_form, s->request.value_form, out);
    return status == SL_OK ? 0 : stream_fail(s, status);
}

static const char *stream_get_last_error(struct ArrowArrayStream *self) {
    stream *s = self->private_data;
    return s->error[0] != '\0' ? s->error : NULL;
}

static void stream_release(struct ArrowArrayStream *self) {
    stream *s = self->private_data;
    self->release = NULL;
    self->private_data = NULL;
    if (s->pid != getpid()) return; /* a leak in a forked child, instead of the parent's locks */
    stream_close_cursor(s);
    stream_unreference(s, true);
}

/* ---- opening ------------------------------------------------------------------------------ */

void sl_arrow_request_default(sl_arrow_request *request) {
    *request = (sl_arrow_request){.start_offset = -1, .end_offset = -1};
}

/* Replace -1 and what lies past the end by offsets of the log as it is now. */
static sl_status resolve_offsets(sl_log *log, sl_arrow_request *request) {
    sl_status status = sl_log_refresh(log); /* a read-only handle may not know the end yet */
    if (status != SL_OK) return status;
    int64_t end = sl_log_end_offset(log);
    if (end < 0) return (sl_status)-end;
    if (request->start_offset == -1) request->start_offset = sl_log_start_offset(log);
    if (request->start_offset < -1) return (sl_status)-request->start_offset;
    if (request->end_offset == -1 || request->end_offset > end) request->end_offset = end;
    return SL_OK;
}

sl_status sl_log_arrow_stream_as(sl_log *log, const sl_arrow_request *request, void *out_stream) {
    struct ArrowArrayStream *out = out_stream;
    if (out != NULL) memset(out, 0, sizeof *out);
    if (log == NULL || request == NULL || out == NULL || request->start_offset < -1 ||
        request->end_offset < -1 || !is_form(request->key_form) || !is_form(request->value_form) ||
        request->rows_max < 0) {
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1,
                       "an Arrow stream needs a log, offsets >= -1, forms of SL_ARROW_* and "
                       "rows_max >= 0");
    }
    stream *s = sl_os.allocate_zeroed(sizeof *s);
    if (s == NULL) return sl_fail_memory("opening an Arrow stream");
    s->references = 1;
    s->log = log;
    s->pid = getpid();
    s->request = *request;
    if (s->request.rows_max == 0) s->request.rows_max = ROWS_MAX;
    s->scratch = sl_os.allocate((size_t)s->request.rows_max * 4 * sizeof *s->scratch);
    sl_status status = s->scratch != NULL ? SL_OK : sl_fail_memory("opening an Arrow stream");
    if (status == SL_OK) status = resolve_offsets(log, &s->request);
    if (status == SL_OK) {
        status = sl_cursor_open(log, s->request.start_offset, request->read_flags, &s->cursor);
    }
    if (status != SL_OK) {
        free(s->scratch);
        free(s);
        return status;
    }
    pthread_mutex_init(&s->mutex, NULL);
    stream_link(s);
    *out = (struct ArrowArrayStream){
        .get_schema = stream_get_schema,
        .get_next = stream_get_next,
        .get_last_error = stream_get_last_error,
        .release = stream_release,
        .private_data = s,
    };
    return SL_OK;
}

sl_status sl_log_arrow_stream(sl_log *log, int64_t start_offset, int64_t end_offset,
                              void *out_stream) {
    sl_arrow_request request = {.start_offset = start_offset, .end_offset = end_offset};
    return sl_log_arrow_stream_as(log, &request, out_stream);
}

sl_status sl_log_arrow_stream_copy(sl_log *log, int64_t start_offset, int64_t end_offset,
                                   void *out_stream) {
    sl_arrow_request request = {start_offset,          end_offset, 0, SL_ARROW_LARGE_BINARY,
                                SL_ARROW_LARGE_BINARY, 0};
    return sl_log_arrow_stream_as(log, &request, out_stream);
}
