/* fast.h -- what the parts of stratalog.core.zookeeper._fast share.
 *
 * The machine is written in Python, and its state lies in the types declared here: so the same znode is
 * seen by Python and by C.  C takes the plain case of the requests that come by the hundred thousand:
 *
 *     exists, getData, getChildren(2), ping      answered at once, where nothing is odd
 *     create(2), setData, delete                 decided, applied and answered, where they succeed
 *
 * and leaves everything else, every refusal included, to the functions of the same purpose in Python,
 * before it has changed anything.  So there is one home for each rule's exception, and what C does is
 * held against Python byte by byte (tests/core/test_zookeeper_fast.py).
 *
 *     types.c      the types, their members and their making
 *     shared.c     bytes in and out, the parts of a machine
 *     numbers.c    digests and Stats
 *     read.c       reads
 *     write.c      requests become transactions
 *     apply.c      transactions change the tree, and are answered; a log's come back
 *     snapshot.c   znodes as a snapshot keeps them
 *     module.c     frames in, commits in; the module
 *
 * The interpreter's lock is held everywhere.  The limited API of CPython 3.11 is enough. */

#ifndef STRATALOG_ZOOKEEPER_FAST_H
#define STRATALOG_ZOOKEEPER_FAST_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef long long i64; /* as Python's T_LONGLONG has it */

/* What became of an attempt: an exception is set, Python must do it, or it is done. */
typedef enum { FAULT = -1, SLOW = 0, DONE = 1 } outcome;

/* ---- types ---- */

/* What a znode is and a change to one will make it. */
typedef struct {
    PyObject_HEAD PyObject *data; /* bytes or None */
    i64 czxid, mzxid, pzxid, ctime, mtime, owner;
    int version, cversion, aversion;
    unsigned digest;
} numbers;

typedef struct {
    numbers is;
    PyObject *children; /* dict of znodes by path, which is that of the tree's table; or None */
    i64 acl;            /* index in the AclTable */
    unsigned walked;    /* the walk that came here last: see snapshot.c */
} znode;

/* The mark of a znode to which its parent's walk did not come: it was created behind it. */
#define CAME_LATER (1u << 31)

typedef struct {
    numbers is;
    PyObject *path;
    PyObject *acl; /* tuple */
    i64 zxid;
    int children_count;
    char gone;
} change;

typedef struct {
    PyObject_HEAD i64 session_id, timeout_ms, bucket_ms;
    char closing;
} session;

/* A transaction on its way.  `path` is set where C decided it; then `fields` and `digests` are made
 * only if somebody asks. */
typedef struct {
    PyObject_HEAD i64 session_id, zxid, time_ms, digest;
    int type, cxid;
    char has_digest;
    PyObject *payload, *fields, *digests;
    PyObject *path, *parent, *data;
    i64 owner;
    int version; /* the znode's new one; of a create, the parent's new cversion */
    unsigned node_digest, parent_digest;
} prepared;

typedef struct {
    PyObject_HEAD PyObject *client, *prepared;
    int kind, xid;
    i64 at_ms;
} write_;

/* A ring of objects. */
typedef struct {
    PyObject_HEAD PyObject **at;
    Py_ssize_t room, first, count;
} queue;

/* The bases of Python's classes: what C must see of them. */

typedef struct { /* AclTable */
    PyObject_HEAD i64 open, open_uses;
} acl_counts;

typedef struct { /* Tree */
    PyObject_HEAD PyObject *nodes, *ephemerals, *acls, *quota_paths;
    PyObject *data_watches, *child_watches, *data_watchers, *child_watchers;
    i64 digest, last_zxid, data_bytes;
    char extended, digests;
} tree_state;

typedef struct { /* Preparer */
    PyObject_HEAD PyObject *by_path, *changes;
    i64 zxid, digest, txn_bytes_max;
    char enforce_quota;
} outlook;

typedef struct { /* Client */
    PyObject_HEAD PyObject *session, *pending, *held, *out, *farewell;
    char talkative;
} client_state;

typedef struct { /* Standalone */
    PyObject_HEAD PyObject *tree, *preparer, *waiting, *proposals, *talkative, *tracker,
        *statistics;
    i64 now_ms, wall_ms, tick_ms;
    char fast, strict;
} machine_state;

/* What is counted where requests go by: see statistics.py. */

typedef struct { /* Spread; with `times`, a dict, a Summary */
    PyObject_HEAD i64 count, total, least, greatest;
    PyObject *times;
} spread_counts;

typedef struct { /* Traffic */
    PyObject_HEAD i64 received, received_bytes, sent, sent_bytes;
} traffic_counts;

typedef struct { /* Sizes */
    PyObject_HEAD i64 last, least, greatest;
} size_counts;

extern PyTypeObject *spread_type, *traffic_type, *sizes_type;
extern PyTypeObject *znode_type, *change_type, *session_type, *prepared_type, *write_type,
    *queue_type;
extern PyTypeObject *acl_counts_type, *tree_type, *outlook_type, *client_type, *machine_type;

/* What Python's modules told: see module.c. */
extern PyObject *open_acl;
extern PyObject *node_created, *node_deleted, *data_changed, *children_changed;

int types_add(PyObject *module);
int walk_add(PyObject *module);
PyObject *snapshot_load(PyObject *module, PyObject *args);
PyObject *replay(PyObject *module, PyObject *args);

/* Let go of any object of ours, or of NULL. */
static inline void drop(void *object) { Py_XDECREF((PyObject *)object); }

static inline bool is_none(PyObject *object) { return object == NULL || object == Py_None; }

/* ---- queue ---- */

int queue_push(queue *self, PyObject *object);
PyObject *queue_pop(queue *self); /* a new reference; the queue is not empty */
static inline PyObject *queue_head(queue *self) { return self->at[self->first]; }

/* ---- numbers.c ---- */

enum { STAT_BYTES = 68 };

void numbers_begin(void);
void put_stat(uint8_t *to, const znode *node, bool extended);
/* The digest of a znode at an ASCII path that is not below /zookeeper; "" is the root. */
unsigned digest_at(const char *path, Py_ssize_t length, const numbers *node);
/* The same for any path: `path` is a str; false with an exception set. */
bool digest_any(PyObject *path, const numbers *node, unsigned *digest);

/* The text of a str that is ASCII; NULL: it is not, or an exception is set. */
const char *ascii_of(PyObject *text, Py_ssize_t *bytes);
/* Any str as Java's writer encodes it: a new bytes object. */
PyObject *java_text(PyObject *text);

/* ---- bytes, big-endian ---- */

static inline uint32_t get32(const uint8_t *from) {
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static inline uint8_t *put32(uint8_t *to, uint32_t value) {
    value = __builtin_bswap32(value);
    memcpy(to, &value, 4);
    return to + 4;
}

static inline uint8_t *put64(uint8_t *to, uint64_t value) {
    value = __builtin_bswap64(value);
    memcpy(to, &value, 8);
    return to + 8;
}

static inline uint8_t *put_bytes(uint8_t *to, const void *from, size_t bytes) {
    if (bytes > 0) memcpy(to, from, bytes);
    return to + bytes;
}

enum { LENGTH_BYTES = 4, REPLY_HEADER_BYTES = 16, REQUEST_HEADER_BYTES = 8 };

/* A reply's bytes: its header is written, `*body` is where `body_bytes` go.  NULL: no memory. */
PyObject *reply_new(int xid, i64 zxid, size_t body_bytes, uint8_t **body);

/* Take over a reply (NULL: a fault) for a client; nothing follows a farewell. */
outcome client_send(machine_state *machine, client_state *client, PyObject *reply);

/* ---- a request's record ---- */

typedef struct {
    const uint8_t *at, *end;
} cursor;

/* The 8 bytes must be there. */
static inline i64 take64(cursor *from) {
    uint64_t high = get32(from->at), low = get32(from->at + 4);
    from->at += 8;
    return (i64)(high << 32 | low);
}

/* A string of ASCII, not null; false: Python must look at it. */
bool take_text(cursor *from, const char **text, Py_ssize_t *length);
bool take_int(cursor *from, int *value);

/* ---- the steps ---- */

typedef struct {
    machine_state *machine;
    tree_state *tree;
    outlook *preparer;
    acl_counts *acls;
} house;

/* Whether an object is of a type, or of one below it; false with an exception set that names it. */
static inline bool is_a(PyObject *object, PyTypeObject *type, const char *what) {
    if (object != NULL && PyObject_TypeCheck(object, type)) return true;
    PyErr_Format(PyExc_TypeError, "the %s is not what it must be", what);
    return false;
}
/* A client whose queue and list of replies are what they must be; NULL with an exception set. */
client_state *client_of(PyObject *object);
/* Whether a tree has its tables; false with an exception set. */
bool tree_is_whole(tree_state *tree);
/* Find the parts of a machine; false with an exception set where one is not what it must be. */
bool house_of(PyObject *machine, house *found);

static inline bool acl_is_open(const house *in, const znode *node) {
    return node->acl == -1 || (node->acl == in->acls->open && in->acls->open != 0);
}

outcome read_fast(const house *in, client_state *client, int xid, int kind, cursor body);
outcome write_fast(const house *in, client_state *client, session *who, int xid, int kind,
                   cursor body);
/* Apply what C decided and answer it. */
outcome apply_fast(const house *in, write_ *write);
/* Forget the changes that the tree has by now. */
int outlook_applied(outlook *self, i64 zxid);

/* A value came, so many times; one below 0 did not. */
int spread_add(spread_counts *self, i64 value, i64 times);
void sizes_add(size_counts *self, i64 last, i64 least, i64 greatest);

/* ---- frames in: module.c ---- */

typedef struct {
    i64 frame_max, answer_max, pending_max, slow_max;
} bounds;

typedef struct {
    Py_ssize_t at, frames, last;
    bool bounded;
} fed;

/* Take whole frames of `data`, bytes, from `at` on; -1 with an exception set. */
int feed_frames(PyObject *machine, PyObject *who, PyObject *data, Py_ssize_t at,
                const bounds *within, fed *taken);

/* What other modules of C may call, by a capsule. */
typedef struct {
    int (*feed)(PyObject *machine, PyObject *who, PyObject *data, Py_ssize_t at,
                const bounds *within, fed *taken);
    int (*spread_add)(spread_counts *self, i64 value, i64 times);
    void (*sizes_add)(size_counts *self, i64 last, i64 least, i64 greatest);
    PyTypeObject *client_type, *machine_type, *tree_type, *queue_type;
    PyTypeObject *spread_type, *traffic_type, *sizes_type;
} fast_api;

#define FAST_API_NAME "stratalog.core.zookeeper._fast.api"

enum { /* opcodes */
       OP_CREATE = 1,
       OP_DELETE = 2,
       OP_EXISTS = 3,
       OP_GET_DATA = 4,
       OP_SET_DATA = 5,
       OP_GET_CHILDREN = 8,
       OP_PING = 11,
       OP_GET_CHILDREN2 = 12,
       OP_CREATE2 = 15
};

#endif
