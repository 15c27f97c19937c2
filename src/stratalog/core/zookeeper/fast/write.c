/* write.c -- requests become transactions: create(2), setData and delete, where they succeed.
 *
 *     request   path, data, ACL, flags        path, data, version         path, version
 *     txn       path, data, ACL, ephemeral,   path, data, new version     path
 *               parent's new cversion
 *
 *     payload   | session 8 | cxid 4 | zxid 8 | time 8 | type 4 | body | digest version 4 | digest 8 |
 *
 * As in prepare.py, whose rules these are, a request is checked against what a znode will be: the newest
 * change on its way, else the tree.  Nothing is changed before everything has been found in order, so a
 * request that fails, or is odd, goes to Python as if it had not been looked at: a path that is not
 * ASCII or lies in /zookeeper, an ACL that is not the open one or does not guard with it, a quota, a
 * time to live, a transaction that is too long.
 *
 * Source: PrepRequestProcessor.java. */

#include "fast.h"

enum {
    TXN_HEADER_BYTES = 32,
    TXN_DIGEST_BYTES = 12,
    DIGEST_VERSION = 2,
    PATH_BYTES_MAX = 1000,
    SEQUENCE_DIGITS = 10
};

/* The open ACL: one entry, all permissions, world, anyone. */
static const uint8_t open_acl_bytes[] = {0, 0, 0, 1,   0,   0,   0,   31,  0,
                                         0, 0, 5, 'w', 'o', 'r', 'l', 'd', 0,
                                         0, 0, 6, 'a', 'n', 'y', 'o', 'n', 'e'};

/* ---- what is asked ---- */

typedef struct {
    const char *path; /* ends with the sequence number already, if it has one */
    Py_ssize_t path_bytes, parent_bytes;
    const uint8_t *data;
    int data_bytes; /* -1: null */
    int flags, version;
    PyObject *path_object, *parent_object; /* owned */
} asked;

static void forget(asked *what) {
    Py_CLEAR(what->path_object);
    Py_CLEAR(what->parent_object);
}

static bool take_data(cursor *from, asked *what) {
    if (!take_int(from, &what->data_bytes) || what->data_bytes < -1) return false;
    Py_ssize_t bytes = what->data_bytes < 0 ? 0 : what->data_bytes;
    if (from->end - from->at < bytes) return false;
    what->data = from->at;
    from->at += bytes;
    return true;
}

/* A path that a znode may have, in ASCII, outside /zookeeper, not the root. */
static bool is_plain_path(const char *path, Py_ssize_t bytes) {
    static const char system[] = "/zookeeper";
    if (bytes < 2 || bytes > PATH_BYTES_MAX || path[0] != '/') return false;
    if (bytes >= (Py_ssize_t)sizeof system - 1 && memcmp(path, system, sizeof system - 1) == 0)
        return false;
    Py_ssize_t begin = 1; /* of a component */
    for (Py_ssize_t n = 1; n <= bytes; n++) {
        if (n < bytes && path[n] != '/') {
            if (path[n] < 0x20 || path[n] == 0x7f) return false;
            continue;
        }
        Py_ssize_t size = n - begin;
        if (size == 0 || (size == 1 && path[begin] == '.') ||
            (size == 2 && path[begin] == '.' && path[begin + 1] == '.'))
            return false;
        begin = n + 1;
    }
    return true;
}

static bool find_parent(asked *what) {
    Py_ssize_t slash = what->path_bytes;
    while (slash > 0 && what->path[slash - 1] != '/') slash--;
    if (slash == 0) return false;
    what->parent_bytes = slash - 1;
    return true;
}

/* ---- what will be ---- */

typedef struct {
    const numbers *node; /* NULL: it will not be there */
    int children;
    bool open;
} outlook_of;

/* Find what a znode will be. */
static outcome find(const house *in, PyObject *path, outlook_of *found) {
    PyObject *known = PyDict_GetItemWithError(in->preparer->by_path, path);
    found->node = NULL;
    if (known != NULL) {
        if (Py_TYPE(known) != change_type) return SLOW;
        const change *newest = (const change *)known;
        if (newest->gone) return DONE;
        found->node = &newest->is;
        found->children = newest->children_count;
        found->open = newest->acl == open_acl;
        return DONE;
    }
    if (PyErr_Occurred()) return FAULT;
    known = PyDict_GetItemWithError(in->tree->nodes, path);
    if (known == NULL) return PyErr_Occurred() ? FAULT : DONE;
    if (Py_TYPE(known) != znode_type) return SLOW;
    const znode *node = (const znode *)known;
    found->node = &node->is;
    found->children = is_none(node->children) ? 0 : (int)PyDict_Size(node->children);
    found->open = acl_is_open(in, node);
    return DONE;
}

static change *change_of(const outlook_of *known, PyObject *path, i64 zxid) {
    change *made = (change *)PyType_GenericAlloc(change_type, 0);
    if (made == NULL) return NULL;
    made->path = Py_NewRef(path);
    made->acl = Py_NewRef(open_acl);
    made->zxid = zxid;
    if (known != NULL) {
        const numbers *node = known->node;
        made->is.data = Py_NewRef(node->data == NULL ? Py_None : node->data);
        made->is.czxid = node->czxid;
        made->is.mzxid = node->mzxid;
        made->is.pzxid = node->pzxid;
        made->is.ctime = node->ctime;
        made->is.mtime = node->mtime;
        made->is.owner = node->owner;
        made->is.version = node->version;
        made->is.cversion = node->cversion;
        made->is.aversion = node->aversion;
        made->children_count = known->children;
    }
    return made;
}

/* Enter a change, which takes the place of what had the digest `before`. */
static int enter(const house *in, change *made, unsigned before) {
    outlook *ahead = in->preparer;
    if (PyDict_SetItem(ahead->by_path, made->path, (PyObject *)made) < 0) return -1;
    if (queue_push((queue *)ahead->changes, (PyObject *)made) < 0) return -1;
    if (in->tree->digests)
        ahead->digest = (i64)((uint64_t)ahead->digest + made->is.digest - before);
    return 0;
}

/* ---- the transaction ---- */

static size_t payload_bytes(const house *in, int kind, const asked *what) {
    size_t bytes = TXN_HEADER_BYTES + LENGTH_BYTES + (size_t)what->path_bytes;
    if (kind != OP_DELETE)
        bytes += LENGTH_BYTES + (what->data_bytes < 0 ? 0 : (size_t)what->data_bytes);
    if (kind == OP_CREATE || kind == OP_CREATE2) bytes += sizeof open_acl_bytes + 1 + 4;
    if (kind == OP_SET_DATA) bytes += 4;
    return bytes + (in->tree->digests ? TXN_DIGEST_BYTES : 0);
}

static PyObject *payload_of(const house *in, int kind, const session *who, const prepared *made,
                            const asked *what) {
    size_t bytes = payload_bytes(in, kind, what);
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes);
    if (payload == NULL) return NULL;
    uint8_t *to = (uint8_t *)PyBytes_AsString(payload);
    to = put64(to, (uint64_t)who->session_id);
    to = put32(to, (uint32_t)made->cxid);
    to = put64(to, (uint64_t)made->zxid);
    to = put64(to, (uint64_t)made->time_ms);
    to = put32(to, (uint32_t)kind);
    to = put32(to, (uint32_t)what->path_bytes);
    to = put_bytes(to, what->path, (size_t)what->path_bytes);
    if (kind != OP_DELETE) {
        to = put32(to, (uint32_t)what->data_bytes);
        to = put_bytes(to, what->data, what->data_bytes < 0 ? 0 : (size_t)what->data_bytes);
    }
    if (kind == OP_CREATE || kind == OP_CREATE2) {
        to = put_bytes(to, open_acl_bytes, sizeof open_acl_bytes);
        *to++ = (what->flags & 1) != 0;
    }
    if (kind != OP_DELETE) to = put32(to, (uint32_t)made->version);
    if (in->tree->digests) {
        to = put32(to, DIGEST_VERSION);
        put64(to, (uint64_t)in->preparer->digest);
    }
    return payload;
}

/* Everything is decided: give the transaction to those who persist it, and remember whose it is. */
static outcome propose(const house *in, client_state *client, const session *who, int xid, int kind,
                       prepared *made, asked *what) {
    machine_state *machine = in->machine;
    outcome result = FAULT;
    write_ *write = NULL;
    made->type = kind;
    made->session_id = who->session_id;
    made->cxid = xid;
    made->has_digest = in->tree->digests;
    made->digest = in->preparer->digest;
    made->path = Py_NewRef(what->path_object);
    made->parent = Py_XNewRef(what->parent_object);
    made->payload = payload_of(in, kind, who, made, what);
    write = (write_ *)PyType_GenericAlloc(write_type, 0);
    if (made->payload == NULL || write == NULL) goto done;
    write->client = Py_NewRef((PyObject *)client);
    write->prepared = Py_NewRef((PyObject *)made);
    write->kind = kind;
    write->xid = xid;
    write->at_ms = machine->now_ms;
    if (PyList_Append(machine->proposals, (PyObject *)made) < 0 ||
        queue_push((queue *)machine->waiting, (PyObject *)write) < 0 ||
        queue_push((queue *)client->pending, (PyObject *)write) < 0)
        goto done;
    result = DONE;
done:
    drop(write);
    return result;
}

static prepared *begin(const house *in) {
    prepared *made = (prepared *)PyType_GenericAlloc(prepared_type, 0);
    if (made == NULL) return NULL;
    made->zxid = ++in->preparer->zxid;
    made->time_ms = in->machine->wall_ms;
    return made;
}

static PyObject *data_object(const asked *what) {
    if (what->data_bytes < 0) return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize((const char *)what->data, what->data_bytes);
}

/* ---- the requests ---- */

/* A parent under which anybody may create and delete. */
static outcome find_open_parent(const house *in, asked *what, outlook_of *parent) {
    what->parent_object = PyUnicode_FromStringAndSize(what->path, what->parent_bytes);
    if (what->parent_object == NULL) return FAULT;
    outcome result = find(in, what->parent_object, parent);
    if (result != DONE) return result;
    return parent->node != NULL && parent->open ? DONE : SLOW;
}

static outcome find_asked(const house *in, asked *what, outlook_of *found) {
    what->path_object = PyUnicode_FromStringAndSize(what->path, what->path_bytes);
    return what->path_object == NULL ? FAULT : find(in, what->path_object, found);
}

static unsigned digest_of(const house *in, const char *path, Py_ssize_t bytes,
                          const numbers *node) {
    return in->tree->digests ? digest_at(path, bytes, node) : 0;
}

static bool fits(const house *in, int kind, const asked *what) {
    return (i64)payload_bytes(in, kind, what) <= in->preparer->txn_bytes_max;
}

static outcome create(const house *in, client_state *client, const session *who, int xid, int kind,
                      asked *what) {
    char numbered[PATH_BYTES_MAX + SEQUENCE_DIGITS + 1];
    outlook_of parent, known;
    if (what->path_bytes > PATH_BYTES_MAX || !find_parent(what)) return SLOW;
    outcome result = find_open_parent(in, what, &parent);
    if (result != DONE) return result;
    if (parent.node->owner != 0 || parent.node->cversion < 0) return SLOW;
    if (what->flags & 2) {
        int digits = PyOS_snprintf(numbered, sizeof numbered, "%.*s%0*d", (int)what->path_bytes,
                                   what->path, SEQUENCE_DIGITS, parent.node->cversion);
        if (digits != what->path_bytes + SEQUENCE_DIGITS) return SLOW; /* a NUL in the path */
        what->path = numbered;
        what->path_bytes = digits;
    }
    if (!is_plain_path(what->path, what->path_bytes) || !fits(in, kind, what)) return SLOW;
    if (in->tree->extended && (uint64_t)who->session_id >> 56 == 0xFF) return SLOW;
    if (who->session_id == INT64_MIN) return SLOW; /* as an owner it means a container */
    result = find_asked(in, what, &known);
    if (result != DONE) return result;
    if (known.node != NULL) return SLOW;

    prepared *made = begin(in);
    if (made == NULL) return FAULT;
    change *above = change_of(&parent, what->parent_object, made->zxid);
    change *node = change_of(NULL, what->path_object, made->zxid);
    PyObject *data = data_object(what);
    result = FAULT;
    if (above == NULL || node == NULL || data == NULL) goto done;
    unsigned before = parent.node->digest;
    made->version = (int)((unsigned)parent.node->cversion + 1);
    above->is.cversion = made->version;
    above->is.pzxid = made->zxid;
    above->children_count++;
    above->is.digest = digest_of(in, what->path, what->parent_bytes, &above->is);
    node->is.data = Py_NewRef(data);
    node->is.czxid = node->is.mzxid = node->is.pzxid = made->zxid;
    node->is.ctime = node->is.mtime = made->time_ms;
    node->is.owner = made->owner = what->flags & 1 ? who->session_id : 0;
    node->is.digest = digest_of(in, what->path, what->path_bytes, &node->is);
    made->data = Py_NewRef(data);
    made->parent_digest = above->is.digest;
    made->node_digest = node->is.digest;
    if (enter(in, above, before) < 0 || enter(in, node, 0) < 0) goto done;
    result = propose(in, client, who, xid, kind, made, what);
done:
    drop(above);
    drop(node);
    Py_XDECREF(data);
    drop(made);
    return result;
}

static outcome delete_(const house *in, client_state *client, const session *who, int xid,
                       asked *what) {
    outlook_of parent, known;
    if (!find_parent(what) || !is_plain_path(what->path, what->path_bytes)) return SLOW;
    outcome result = find_open_parent(in, what, &parent);
    if (result == DONE) result = find_asked(in, what, &known);
    if (result != DONE) return result;
    if (known.node == NULL || known.children > 0) return SLOW;
    if (what->version != -1 && what->version != known.node->version) return SLOW;
    if (!fits(in, OP_DELETE, what)) return SLOW;

    prepared *made = begin(in);
    if (made == NULL) return FAULT;
    change *above = change_of(&parent, what->parent_object, made->zxid);
    change *gone = change_of(NULL, what->path_object, made->zxid);
    result = FAULT;
    if (above == NULL || gone == NULL) goto done;
    unsigned before = parent.node->digest, node_before = known.node->digest;
    above->children_count--;
    above->is.pzxid = made->zxid;
    above->is.digest = digest_of(in, what->path, what->parent_bytes, &above->is);
    gone->gone = 1;
    made->parent_digest = above->is.digest;
    if (enter(in, above, before) < 0 || enter(in, gone, node_before) < 0) goto done;
    result = propose(in, client, who, xid, OP_DELETE, made, what);
done:
    drop(above);
    drop(gone);
    drop(made);
    return result;
}

static outcome set_data(const house *in, client_state *client, const session *who, int xid,
                        asked *what) {
    outlook_of known;
    if (!is_plain_path(what->path, what->path_bytes)) return SLOW;
    outcome result = find_asked(in, what, &known);
    if (result != DONE) return result;
    if (known.node == NULL || !known.open || !fits(in, OP_SET_DATA, what)) return SLOW;
    if (what->version != -1 && what->version != known.node->version) return SLOW;

    prepared *made = begin(in);
    if (made == NULL) return FAULT;
    unsigned before = known.node->digest;
    change *node = change_of(&known, what->path_object, made->zxid);
    PyObject *data = data_object(what);
    result = FAULT;
    if (node == NULL || data == NULL) goto done;
    made->version = (int)((unsigned)known.node->version + 1);
    drop(node->is.data);
    node->is.data = Py_NewRef(data);
    node->is.version = made->version;
    node->is.mtime = made->time_ms;
    node->is.mzxid = made->zxid;
    node->is.digest = digest_of(in, what->path, what->path_bytes, &node->is);
    made->data = Py_NewRef(data);
    made->node_digest = node->is.digest;
    if (enter(in, node, before) < 0) goto done;
    result = propose(in, client, who, xid, OP_SET_DATA, made, what);
done:
    drop(node);
    Py_XDECREF(data);
    drop(made);
    return result;
}

outcome write_fast(const house *in, client_state *client, session *who, int xid, int kind,
                   cursor body) {
    asked what;
    memset(&what, 0, sizeof what);
    if (in->preparer->enforce_quota && PySet_Size(in->tree->quota_paths) > 0) return SLOW;
    if (!take_text(&body, &what.path, &what.path_bytes)) return SLOW;
    outcome result = SLOW;
    if (kind == OP_DELETE) {
        if (take_int(&body, &what.version)) result = delete_(in, client, who, xid, &what);
    } else if (!take_data(&body, &what)) {
        return SLOW;
    } else if (kind == OP_SET_DATA) {
        if (take_int(&body, &what.version)) result = set_data(in, client, who, xid, &what);
    } else if (body.end - body.at >= (Py_ssize_t)sizeof open_acl_bytes &&
               memcmp(body.at, open_acl_bytes, sizeof open_acl_bytes) == 0) {
        body.at += sizeof open_acl_bytes;
        if (take_int(&body, &what.flags) && what.flags >= 0 && what.flags <= 3)
            result = create(in, client, who, xid, kind, &what);
    }
    forget(&what);
    return result;
}
