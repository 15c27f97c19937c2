/* types.c -- the types, their members and their making.
 *
 *     Znode, Change, Session, Prepared, Write, Queue      whole here
 *     AclCounts, TreeState, Outlook, ClientState,         bases: Python's class adds what only it needs
 *     MachineState
 *
 * None is known to the cyclic collector, so a tree of a million znodes costs it nothing.  The only
 * cycle, a client whose pending writes name it, is taken apart when its connection goes.
 *
 * Objects are held by `free_one`, which lets go of what a type's table says it holds. */

#include "members.h"

PyTypeObject *spread_type, *traffic_type, *sizes_type;
PyTypeObject *znode_type, *change_type, *session_type, *prepared_type, *write_type, *queue_type;
PyTypeObject *acl_counts_type, *tree_type, *outlook_type, *client_type, *machine_type;

#define AT(object, offset) ((PyObject **)(void *)((char *)(object) + (offset)))

/* Let go of the objects at these offsets (the last is -1), then of the memory. */
static void free_one(PyObject *self, const Py_ssize_t *held) {
    PyTypeObject *type = Py_TYPE(self);
    for (; *held >= 0; held++) Py_CLEAR(*AT(self, *held));
    free_memory(self);
    Py_DECREF(type);
}

/* Exchange what is held; NULL stays NULL. */
static void put(PyObject **place, PyObject *object) {
    PyObject *before = *place;
    Py_XINCREF(object);
    *place = object;
    Py_XDECREF(before);
}

/* ---- numbers ---- */

static PyObject *data_get(PyObject *self, void *unused) {
    (void)unused;
    PyObject *data = ((numbers *)self)->data;
    return Py_NewRef(data == NULL ? Py_None : data);
}

static int data_set(PyObject *self, PyObject *value, void *unused) {
    (void)unused;
    if (value == NULL || (value != Py_None && !PyBytes_Check(value))) {
        PyErr_SetString(PyExc_TypeError, "data is bytes or None");
        return -1;
    }
    put(&((numbers *)self)->data, value);
    return 0;
}

/* clang-format off */
#define NUMBERS(type)                                                                        \
    NUMBER(type, is.czxid, "czxid"), NUMBER(type, is.mzxid, "mzxid"),                        \
    NUMBER(type, is.pzxid, "pzxid"), NUMBER(type, is.ctime, "ctime"),                        \
    NUMBER(type, is.mtime, "mtime"), NUMBER(type, is.owner, "owner"),                        \
    SMALL(type, is.version, "version"), SMALL(type, is.cversion, "cversion"),                \
    SMALL(type, is.aversion, "aversion"), {"digest", T_UINT, offsetof(type, is.digest), 0, NULL}
/* clang-format on */

/* ---- Znode ---- */

static PyObject *znode_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *data;
    i64 acl, zxid, time_ms, owner;
    static char *names[] = {"data", "acl", "zxid", "time_ms", "owner", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "OLLLL", names, &data, &acl, &zxid, &time_ms,
                                     &owner))
        return NULL;
    znode *self = (znode *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    if (data_set((PyObject *)self, data, NULL) < 0) {
        drop(self);
        return NULL;
    }
    self->acl = acl;
    self->is.czxid = self->is.mzxid = self->is.pzxid = zxid;
    self->is.ctime = self->is.mtime = time_ms;
    self->is.owner = owner;
    return (PyObject *)self;
}

static void znode_free(PyObject *self) {
    static const Py_ssize_t held[] = {offsetof(znode, is.data), offsetof(znode, children), -1};
    free_one(self, held);
}

static PyObject *children_get(PyObject *self, void *unused) {
    (void)unused;
    PyObject *children = ((znode *)self)->children;
    return Py_NewRef(children == NULL ? Py_None : children);
}

static int children_set(PyObject *self, PyObject *value, void *unused) {
    (void)unused;
    if (value == NULL || (value != Py_None && !PyDict_Check(value))) {
        PyErr_SetString(PyExc_TypeError, "children is a dict or None");
        return -1;
    }
    put(&((znode *)self)->children, value);
    return 0;
}

static PyObject *znode_stat(PyObject *self, PyObject *extended) {
    int is_extended = PyObject_IsTrue(extended);
    if (is_extended < 0) return NULL;
    PyObject *stat = PyBytes_FromStringAndSize(NULL, STAT_BYTES);
    if (stat != NULL) put_stat((uint8_t *)PyBytes_AsString(stat), (znode *)self, is_extended);
    return stat;
}

static PyObject *znode_joins(PyObject *self, PyObject *parent) {
    if (Py_TYPE(parent) != znode_type) {
        PyErr_SetString(PyExc_TypeError, "a parent is a Znode");
        return NULL;
    }
    ((znode *)self)->walked = ((znode *)parent)->walked | CAME_LATER;
    Py_RETURN_NONE;
}

static PyMemberDef znode_members[] = {NUMBERS(znode), NUMBER(znode, acl, "acl"), END};
static PyGetSetDef znode_getset[] = {{"data", data_get, data_set, NULL, NULL},
                                     {"children", children_get, children_set, NULL, NULL},
                                     {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef znode_methods[] = {
    {"stat", znode_stat, METH_O, "Return the 68 bytes of its Stat."},
    {"joins", znode_joins, METH_O,
     "It is created below a parent: walks that were there pass it by."},
    {NULL, NULL, 0, NULL}};

/* ---- Change ---- */

static PyObject *change_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *path;
    i64 zxid;
    static char *names[] = {"path", "zxid", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "UL", names, &path, &zxid)) return NULL;
    change *self = (change *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    self->path = Py_NewRef(path);
    self->zxid = zxid;
    return (PyObject *)self;
}

static void change_free(PyObject *self) {
    static const Py_ssize_t held[] = {offsetof(change, is.data), offsetof(change, path),
                                      offsetof(change, acl), -1};
    free_one(self, held);
}

static PyMemberDef change_members[] = {NUMBERS(change),
                                       OWNED(change, path, "path"),
                                       OWNED(change, acl, "acl"),
                                       NUMBER(change, zxid, "zxid"),
                                       SMALL(change, children_count, "children_count"),
                                       FLAG(change, gone, "gone"),
                                       END};
static PyGetSetDef change_getset[] = {{"data", data_get, data_set, NULL, NULL},
                                      {NULL, NULL, NULL, NULL, NULL}};

/* ---- Session ---- */

static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    i64 session_id, timeout_ms;
    static char *names[] = {"session_id", "timeout_ms", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "LL", names, &session_id, &timeout_ms))
        return NULL;
    session *self = (session *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    self->session_id = session_id;
    self->timeout_ms = timeout_ms;
    return (PyObject *)self;
}

static void plain_free(PyObject *self) {
    static const Py_ssize_t held[] = {-1};
    free_one(self, held);
}

static PyMemberDef session_members[] = {
    NUMBER(session, session_id, "session_id"), NUMBER(session, timeout_ms, "timeout_ms"),
    NUMBER(session, bucket_ms, "bucket_ms"), FLAG(session, closing, "closing"), END};

/* ---- Prepared ---- */

static PyObject *prepared_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    prepared got;
    PyObject *digest;
    static char *names[] = {"kind",   "session_id", "cxid",    "zxid",    "time_ms",
                            "fields", "digest",     "payload", "digests", NULL};
    memset(&got, 0, sizeof got);
    if (!PyArg_ParseTupleAndKeywords(args, named, "iLiLLO!OSO!", names, &got.type, &got.session_id,
                                     &got.cxid, &got.zxid, &got.time_ms, &PyTuple_Type, &got.fields,
                                     &digest, &got.payload, &PyDict_Type, &got.digests))
        return NULL;
    if (digest != Py_None) {
        got.has_digest = 1;
        got.digest = PyLong_AsLongLong(digest);
        if (got.digest == -1 && PyErr_Occurred()) return NULL;
    }
    prepared *self = (prepared *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    self->type = got.type;
    self->session_id = got.session_id;
    self->cxid = got.cxid;
    self->zxid = got.zxid;
    self->time_ms = got.time_ms;
    self->has_digest = got.has_digest;
    self->digest = got.digest;
    self->fields = Py_NewRef(got.fields);
    self->payload = Py_NewRef(got.payload);
    self->digests = Py_NewRef(got.digests);
    return (PyObject *)self;
}

static void prepared_free(PyObject *self) {
    static const Py_ssize_t held[] = {offsetof(prepared, payload),
                                      offsetof(prepared, fields),
                                      offsetof(prepared, digests),
                                      offsetof(prepared, path),
                                      offsetof(prepared, parent),
                                      offsetof(prepared, data),
                                      -1};
    free_one(self, held);
}

static PyObject *prepared_digest(PyObject *self, void *unused) {
    (void)unused;
    prepared *one = (prepared *)self;
    return one->has_digest ? PyLong_FromLongLong(one->digest) : Py_NewRef(Py_None);
}

/* What Python would have decided: the fields of the transaction's body. */
static PyObject *prepared_fields(PyObject *self, void *unused) {
    (void)unused;
    prepared *one = (prepared *)self;
    if (one->fields == NULL) {
        if (one->type == OP_DELETE)
            one->fields = Py_BuildValue("(O)", one->path);
        else if (one->type == OP_SET_DATA)
            one->fields = Py_BuildValue("(OOi)", one->path, one->data, one->version);
        else
            one->fields = Py_BuildValue("(OOOOi)", one->path, one->data, open_acl,
                                        one->owner != 0 ? Py_True : Py_False, one->version);
    }
    return Py_XNewRef(one->fields);
}

/* By path, as the znodes will be. */
static PyObject *prepared_digests(PyObject *self, void *unused) {
    (void)unused;
    prepared *one = (prepared *)self;
    if (one->digests == NULL) {
        if (!one->has_digest)
            one->digests = PyDict_New();
        else if (one->type == OP_SET_DATA)
            one->digests = Py_BuildValue("{OI}", one->path, one->node_digest);
        else
            one->digests = Py_BuildValue("{OIOI}", one->parent, one->parent_digest, one->path,
                                         one->node_digest);
    }
    return Py_XNewRef(one->digests);
}

static PyMemberDef prepared_members[] = {SMALL(prepared, type, "type"),
                                         NUMBER(prepared, session_id, "session_id"),
                                         SMALL(prepared, cxid, "cxid"),
                                         NUMBER(prepared, zxid, "zxid"),
                                         NUMBER(prepared, time_ms, "time_ms"),
                                         OWNED(prepared, payload, "payload"),
                                         END};
static PyGetSetDef prepared_getset[] = {{"digest", prepared_digest, NULL, NULL, NULL},
                                        {"fields", prepared_fields, NULL, NULL, NULL},
                                        {"digests", prepared_digests, NULL, NULL, NULL},
                                        {NULL, NULL, NULL, NULL, NULL}};

/* ---- Write ---- */

static PyObject *write_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *client, *what;
    int kind, xid;
    i64 at_ms;
    static char *names[] = {"client", "kind", "xid", "prepared", "at_ms", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "OiiO!L", names, &client, &kind, &xid,
                                     prepared_type, &what, &at_ms))
        return NULL;
    write_ *self = (write_ *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    self->client = Py_NewRef(client);
    self->prepared = Py_NewRef(what);
    self->kind = kind;
    self->xid = xid;
    self->at_ms = at_ms;
    return (PyObject *)self;
}

static void write_free(PyObject *self) {
    static const Py_ssize_t held[] = {offsetof(write_, client), offsetof(write_, prepared), -1};
    free_one(self, held);
}

static PyMemberDef write_members[] = {
    OBJECT(write_, client, "client"),
    {"prepared", T_OBJECT_EX, offsetof(write_, prepared), READONLY, NULL},
    SMALL(write_, kind, "kind"),
    SMALL(write_, xid, "xid"),
    NUMBER(write_, at_ms, "at_ms"),
    END};

/* ---- Queue ---- */

int queue_push(queue *self, PyObject *object) {
    if (self->count == self->room) {
        Py_ssize_t room = self->room == 0 ? 4 : self->room * 2;
        PyObject **at = PyMem_Malloc((size_t)room * sizeof *at);
        if (at == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (Py_ssize_t n = 0; n < self->count; n++)
            at[n] = self->at[(self->first + n) & (self->room - 1)];
        PyMem_Free(self->at);
        self->at = at;
        self->room = room;
        self->first = 0;
    }
    self->at[(self->first + self->count++) & (self->room - 1)] = Py_NewRef(object);
    return 0;
}

PyObject *queue_pop(queue *self) {
    PyObject *head = self->at[self->first];
    self->at[self->first] = NULL;
    self->first = (self->first + 1) & (self->room - 1);
    self->count--;
    return head;
}

static PyObject *queue_append(PyObject *self, PyObject *object) {
    if (queue_push((queue *)self, object) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_popleft(PyObject *self, PyObject *unused) {
    (void)unused;
    if (((queue *)self)->count == 0) {
        PyErr_SetString(PyExc_IndexError, "the queue is empty");
        return NULL;
    }
    return queue_pop((queue *)self);
}

static PyObject *queue_last(PyObject *self, PyObject *unused) {
    (void)unused;
    queue *one = (queue *)self;
    if (one->count == 0) {
        PyErr_SetString(PyExc_IndexError, "the queue is empty");
        return NULL;
    }
    PyObject **place = &one->at[(one->first + --one->count) & (one->room - 1)];
    PyObject *last = *place;
    *place = NULL;
    return last;
}

static PyObject *queue_clear(PyObject *self, PyObject *unused) {
    (void)unused;
    queue *one = (queue *)self;
    while (one->count > 0) Py_DECREF(queue_pop(one));
    Py_RETURN_NONE;
}

static void queue_free(PyObject *self) {
    queue *one = (queue *)self;
    while (one->count > 0) Py_DECREF(queue_pop(one));
    PyMem_Free(one->at);
    plain_free(self);
}

static Py_ssize_t queue_length(PyObject *self) { return ((queue *)self)->count; }

static PyObject *queue_item(PyObject *self, Py_ssize_t n) {
    queue *one = (queue *)self;
    if (n < 0 || n >= one->count) {
        PyErr_SetString(PyExc_IndexError, "the queue is shorter");
        return NULL;
    }
    return Py_NewRef(one->at[(one->first + n) & (one->room - 1)]);
}

static PyMethodDef queue_methods[] = {
    {"append", queue_append, METH_O, "Put an object behind all others."},
    {"popleft", queue_popleft, METH_NOARGS, "Remove and return the first object."},
    {"pop", queue_last, METH_NOARGS, "Remove and return the last object."},
    {"clear", queue_clear, METH_NOARGS, "Remove every object."},
    {NULL, NULL, 0, NULL}};

/* ---- what is counted ---- */

enum { EXACT_BITS = 6 }; /* larger values are kept to one part in 32 */

static int times_add(PyObject *counts, i64 value, i64 times) {
    int bits = 64 - (value == 0 ? 64 : __builtin_clzll((unsigned long long)value));
    if (bits > EXACT_BITS) value = value >> (bits - EXACT_BITS) << (bits - EXACT_BITS);
    PyObject *key = PyLong_FromLongLong(value), *after = NULL;
    if (key == NULL) return -1;
    PyObject *before = PyDict_GetItemWithError(counts, key);
    int result = -1;
    if (before != NULL || !PyErr_Occurred())
        after = PyLong_FromLongLong((before == NULL ? 0 : PyLong_AsLongLong(before)) + times);
    if (after != NULL) result = PyDict_SetItem(counts, key, after);
    Py_XDECREF(after);
    Py_DECREF(key);
    return result;
}

int spread_add(spread_counts *self, i64 value, i64 times) {
    if (value < 0 || times <= 0) return 0;
    if (self->count == 0 || value < self->least) self->least = value;
    if (value > self->greatest) self->greatest = value;
    self->count += times;
    self->total += value * times;
    return self->times != NULL && PyDict_Check(self->times) ? times_add(self->times, value, times)
                                                            : 0;
}

void sizes_add(size_counts *self, i64 last, i64 least, i64 greatest) {
    self->last = last;
    if (least < self->least || self->least < 0) self->least = least;
    if (greatest > self->greatest) self->greatest = greatest;
}

static PyObject *spread_added(PyObject *self, PyObject *args) {
    i64 value, times = 1;
    if (!PyArg_ParseTuple(args, "L|L", &value, &times)) return NULL;
    if (spread_add((spread_counts *)self, value, times) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *sizes_added(PyObject *self, PyObject *args) {
    i64 last, least, greatest;
    if (!PyArg_ParseTuple(args, "LLL", &last, &least, &greatest)) return NULL;
    sizes_add((size_counts *)self, last, least, greatest);
    Py_RETURN_NONE;
}

static void spread_free(PyObject *self) {
    static const Py_ssize_t held[] = {offsetof(spread_counts, times), -1};
    free_one(self, held);
}

static PyMemberDef spread_members[] = {
    NUMBER(spread_counts, count, "count"),  NUMBER(spread_counts, total, "total"),
    NUMBER(spread_counts, least, "least"),  NUMBER(spread_counts, greatest, "greatest"),
    OBJECT(spread_counts, times, "_times"), END};
static PyMethodDef spread_methods[] = {
    {"add", spread_added, METH_VARARGS, "A value came, so many times; one below 0 did not."},
    {NULL, NULL, 0, NULL}};
static PyMemberDef traffic_members[] = {NUMBER(traffic_counts, received, "received"),
                                        NUMBER(traffic_counts, received_bytes, "received_bytes"),
                                        NUMBER(traffic_counts, sent, "sent"),
                                        NUMBER(traffic_counts, sent_bytes, "sent_bytes"), END};
static PyMemberDef sizes_members[] = {NUMBER(size_counts, last, "last"),
                                      NUMBER(size_counts, least, "least"),
                                      NUMBER(size_counts, greatest, "greatest"), END};
static PyMethodDef sizes_methods[] = {{"add", sizes_added, METH_VARARGS, "Some replies left."},
                                      {NULL, NULL, 0, NULL}};

/* ---- bases ---- */

static PyMemberDef acl_counts_members[] = {NUMBER(acl_counts, open, "_open"),
                                           NUMBER(acl_counts, open_uses, "_open_uses"), END};

static PyMemberDef tree_members[] = {OWNED(tree_state, nodes, "nodes"),
                                     OWNED(tree_state, ephemerals, "ephemerals"),
                                     OWNED(tree_state, acls, "acls"),
                                     OWNED(tree_state, quota_paths, "_quota_paths"),
                                     OWNED(tree_state, data_watches, "_data_watches"),
                                     OWNED(tree_state, child_watches, "_child_watches"),
                                     OWNED(tree_state, data_watchers, "_data_watchers"),
                                     OWNED(tree_state, child_watchers, "_child_watchers"),
                                     NUMBER(tree_state, digest, "digest"),
                                     NUMBER(tree_state, last_zxid, "last_zxid"),
                                     NUMBER(tree_state, data_bytes, "data_bytes"),
                                     FLAG(tree_state, extended, "extended"),
                                     FLAG(tree_state, digests, "digests"),
                                     END};

static void tree_free(PyObject *self) {
    static const Py_ssize_t held[] = {offsetof(tree_state, nodes),
                                      offsetof(tree_state, ephemerals),
                                      offsetof(tree_state, acls),
                                      offsetof(tree_state, quota_paths),
                                      offsetof(tree_state, data_watches),
                                      offsetof(tree_state, child_watches),
                                      offsetof(tree_state, data_watchers),
                                      offsetof(tree_state, child_watchers),
                                      -1};
    free_one(self, held);
}

static PyMemberDef outlook_members[] = {OWNED(outlook, by_path, "_by_path"),
                                        OWNED(outlook, changes, "_changes"),
                                        NUMBER(outlook, zxid, "zxid"),
                                        NUMBER(outlook, digest, "_digest"),
                                        NUMBER(outlook, txn_bytes_max, "_txn_bytes_max"),
                                        FLAG(outlook, enforce_quota, "_enforce_quota"),
                                        END};

int outlook_applied(outlook *self, i64 zxid) {
    queue *changes = (queue *)self->changes;
    while (changes->count > 0 && ((change *)queue_head(changes))->zxid <= zxid) {
        PyObject *made = queue_pop(changes);
        PyObject *path = ((change *)made)->path;
        PyObject *newest = PyDict_GetItemWithError(self->by_path, path);
        int result = newest == made ? PyDict_DelItem(self->by_path, path) : 0;
        if (newest == NULL && PyErr_Occurred()) result = -1;
        drop(made);
        if (result < 0) return -1;
    }
    return 0;
}

static PyObject *applied(PyObject *self, PyObject *zxid) {
    i64 upto = PyLong_AsLongLong(zxid);
    if (upto == -1 && PyErr_Occurred()) return NULL;
    if (outlook_applied((outlook *)self, upto) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef outlook_methods[] = {
    {"applied", applied, METH_O, "Forget the changes that the tree has by now."},
    {NULL, NULL, 0, NULL}};

static void outlook_free(PyObject *self) {
    static const Py_ssize_t held[] = {offsetof(outlook, by_path), offsetof(outlook, changes), -1};
    free_one(self, held);
}

static PyMemberDef client_members[] = {OBJECT(client_state, session, "session"),
                                       OWNED(client_state, pending, "pending"),
                                       OBJECT(client_state, held, "held"),
                                       OWNED(client_state, out, "out"),
                                       OBJECT(client_state, farewell, "farewell"),
                                       FLAG(client_state, talkative, "talkative"),
                                       END};

static void client_free(PyObject *self) {
    static const Py_ssize_t held[] = {
        offsetof(client_state, session),  offsetof(client_state, pending),
        offsetof(client_state, held),     offsetof(client_state, out),
        offsetof(client_state, farewell), -1};
    free_one(self, held);
}

static PyMemberDef machine_members[] = {OWNED(machine_state, tree, "tree"),
                                        OWNED(machine_state, preparer, "preparer"),
                                        OWNED(machine_state, waiting, "_waiting"),
                                        OWNED(machine_state, proposals, "_proposals"),
                                        OWNED(machine_state, talkative, "_talkative"),
                                        OWNED(machine_state, tracker, "tracker"),
                                        OWNED(machine_state, statistics, "statistics"),
                                        NUMBER(machine_state, now_ms, "now_ms"),
                                        NUMBER(machine_state, wall_ms, "wall_ms"),
                                        NUMBER(machine_state, tick_ms, "_tick_ms"),
                                        FLAG(machine_state, fast, "fast"),
                                        FLAG(machine_state, strict, "_strict"),
                                        END};

static void machine_free(PyObject *self) {
    static const Py_ssize_t held[] = {
        offsetof(machine_state, tree),       offsetof(machine_state, preparer),
        offsetof(machine_state, waiting),    offsetof(machine_state, proposals),
        offsetof(machine_state, talkative),  offsetof(machine_state, tracker),
        offsetof(machine_state, statistics), -1};
    free_one(self, held);
}

/* A base: whatever its class passes to its constructor is its class's affair. */
static PyObject *base_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    (void)args;
    (void)named;
    return PyType_GenericAlloc(type, 0);
}

/* ---- all of them ---- */

typedef struct {
    PyTypeObject **type;
    const char *name;
    size_t bytes;
    newfunc make;
    destructor free;
    PyMemberDef *members;
    PyGetSetDef *getset;
    PyMethodDef *methods;
} description;

int types_add(PyObject *module) {
    static PyGetSetDef none[] = {{NULL, NULL, NULL, NULL, NULL}};
    static PyMethodDef no_methods[] = {{NULL, NULL, 0, NULL}};
    static PyMemberDef no_members[] = {END};
#define NAMED(name) "stratalog.core.zookeeper._fast." name
    /* clang-format off */
    const description all[] = {
        {&znode_type, NAMED("Znode"), sizeof(znode), znode_new, znode_free, znode_members, znode_getset, znode_methods},
        {&change_type, NAMED("Change"), sizeof(change), change_new, change_free, change_members, change_getset, no_methods},
        {&session_type, NAMED("Session"), sizeof(session), session_new, plain_free, session_members, none, no_methods},
        {&prepared_type, NAMED("Prepared"), sizeof(prepared), prepared_new, prepared_free, prepared_members, prepared_getset, no_methods},
        {&write_type, NAMED("Write"), sizeof(write_), write_new, write_free, write_members, none, no_methods},
        {&queue_type, NAMED("Queue"), sizeof(queue), base_new, queue_free, no_members, none, queue_methods},
        {&spread_type, NAMED("SpreadCounts"), sizeof(spread_counts), base_new, spread_free, spread_members, none, spread_methods},
        {&traffic_type, NAMED("TrafficCounts"), sizeof(traffic_counts), base_new, plain_free, traffic_members, none, no_methods},
        {&sizes_type, NAMED("SizeCounts"), sizeof(size_counts), base_new, plain_free, sizes_members, none, sizes_methods},
        {&acl_counts_type, NAMED("AclCounts"), sizeof(acl_counts), base_new, plain_free, acl_counts_members, none, no_methods},
        {&tree_type, NAMED("TreeState"), sizeof(tree_state), base_new, tree_free, tree_members, none, no_methods},
        {&outlook_type, NAMED("Outlook"), sizeof(outlook), base_new, outlook_free, outlook_members, none, outlook_methods},
        {&client_type, NAMED("ClientState"), sizeof(client_state), base_new, client_free, client_members, none, no_methods},
        {&machine_type, NAMED("MachineState"), sizeof(machine_state), base_new, machine_free, machine_members, none, no_methods},
    };
    /* clang-format on */
    for (size_t n = 0; n < sizeof all / sizeof *all; n++) {
        const description *one = &all[n];
        PyType_Slot slots[9] = {SLOT(Py_tp_new, one->make),
                                SLOT(Py_tp_dealloc, one->free),
                                {Py_tp_members, one->members},
                                {Py_tp_getset, one->getset},
                                {Py_tp_methods, one->methods}};
        if (one->type == &queue_type) {
            slots[5] = (PyType_Slot)SLOT(Py_sq_length, queue_length);
            slots[6] = (PyType_Slot)SLOT(Py_sq_item, queue_item);
        }
        PyType_Spec spec = {one->name, (int)one->bytes, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                            slots};
        PyObject *type = PyType_FromSpec(&spec);
        if (type == NULL) return -1;
        *one->type = (PyTypeObject *)type;
        if (PyModule_AddObjectRef(module, strrchr(one->name, '.') + 1, type) < 0) return -1;
    }
    return 0;
}
