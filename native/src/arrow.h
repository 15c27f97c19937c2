/* arrow.h -- the Arrow C data and stream interface, and what arrow.c offers beyond stratalog.h.
 *
 * The three structs are a public binary interface: producer and consumer agree on this layout and
 * on nothing else, so no header and no library of the other side is needed.  The layout is fixed
 * for ever by the Arrow project (https://arrow.apache.org/docs/format/CDataInterface.html and
 * CStreamInterface.html); the words here are ours.  The guards are the ones that the specification
 * names, so that a C program may include Arrow's own header as well.
 *
 * One rule carries the whole lifetime story: a struct is alive while `release` is not NULL.  A
 * consumer takes a struct over by copying its bytes and setting release to NULL in the original
 * ("moving"); it may move a child out of a parent the same way.  Whoever holds a live struct calls
 * its release exactly once.  Hence nothing in a struct may depend on the address it stands at, and
 * a child must own all that it points to.
 *
 * Between the two cffi marks below only plain declarations stand: the Python build reads them. */
#ifndef STRATALOG_ARROW_H
#define STRATALOG_ARROW_H

#include <stdint.h>

#include "stratalog.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

/* A type: what an array's buffers mean. */
struct ArrowSchema {
    const char *format;   /* the type in Arrow's short notation: "l", "vz", "+s" */
    const char *name;     /* field name, or NULL */
    const char *metadata; /* binary key-value pairs, or NULL */
    int64_t flags;        /* ARROW_FLAG_* */
    int64_t n_children;
    struct ArrowSchema **children; /* fields of a struct */
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *); /* NULL: released or moved away */
    void *private_data;                    /* the producer's own */
};

/* Data: `length` values of a type that an ArrowSchema gave. */
struct ArrowArray {
    int64_t length;
    int64_t null_count; /* -1: not counted */
    int64_t offset;     /* values to skip at the front of every buffer */
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers; /* buffers[0] is the validity bitmap, NULL when nothing is null */
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *); /* NULL: released or moved away */
    void *private_data;
};

#endif /* ARROW_C_DATA_INTERFACE */

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

/* Arrays of one type, one after another.  Calls return 0 or an errno value. */
struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out); /* end: out->release NULL */
    const char *(*get_last_error)(struct ArrowArrayStream *); /* valid until the next call */
    void (*release)(struct ArrowArrayStream *);               /* NULL: released or moved away */
    void *private_data;
};

#endif /* ARROW_C_STREAM_INTERFACE */

/* cffi: begin */

/* How a key or value column stands in memory. */
enum {
    SL_ARROW_VIEW = 0,         /* binary_view "vz": 16-byte views into the log's own memory */
    SL_ARROW_LARGE_BINARY = 1, /* large_binary "Z": copied, 64-bit offsets */
    SL_ARROW_BINARY = 2        /* binary "z": copied, 32-bit offsets */
};

/* What a stream is to deliver.  sl_arrow_request_default gives the whole log, as views. */
typedef struct sl_arrow_request {
    int64_t start_offset; /* first record, or -1: the log's start */
    int64_t end_offset;   /* one past the last, or -1: the log's end at the time of the call */
    int32_t read_flags;   /* SL_READ_* */
    int32_t key_form;     /* SL_ARROW_* */
    int32_t value_form;   /* SL_ARROW_* */
    int32_t rows_max;     /* records of one array at most; 0: 16384 */
} sl_arrow_request;

SL_API void sl_arrow_request_default(sl_arrow_request *request);

/* As sl_log_arrow_stream, with every choice open.  `out_stream` is a struct ArrowArrayStream *;
 * its release is NULL when the call fails. */
SL_API sl_status sl_log_arrow_stream_as(sl_log *log, const sl_arrow_request *request,
                                        void *out_stream);

/* As sl_log_arrow_stream, for consumers that do not know binary_view: keys and values are copied
 * into large_binary buffers. */
SL_API sl_status sl_log_arrow_stream_copy(sl_log *log, int64_t start_offset, int64_t end_offset,
                                          void *out_stream);

/* End every stream of `log`: its cursor is closed, and its get_next reports ECANCELED from now on.
 * Waits for a get_next that runs.  Arrays that were handed out stay valid: they hold pins, not the
 * log.  Call it right before sl_log_close or sl_log_abandon; no stream of the log may be opened
 * any more by then.  Returns how many streams were cut off. */
SL_API int64_t sl_log_arrow_cut(sl_log *log);

/* The schema of a stream with these forms.  `out_schema` is a struct ArrowSchema *. */
SL_API sl_status sl_arrow_schema(int32_t key_form, int32_t value_form, void *out_schema);

/* Which forms serve a consumer that asks for `requested` (a struct ArrowSchema *, read only, left
 * to its owner)?  A column whose requested type we cannot give keeps SL_ARROW_VIEW, as the
 * PyCapsule protocol allows.  SL_E_INVALID: not our four fields at all. */
SL_API sl_status sl_arrow_forms(const void *requested, int32_t *out_key_form,
                                int32_t *out_value_form);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif /* STRATALOG_ARROW_H */
