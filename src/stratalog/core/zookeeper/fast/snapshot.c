/* snapshot.c -- znodes as a snapshot keeps them, written and read where they are plain.
 *
 *     | length 4 | path | length 4 | data | ACL index 8 | czxid 8 | mzxid 8 | ctime 8 | mtime 8
 *     | version 4 | cversion 4 | aversion 4 | owner 8 | pzxid 8 |
 *
 * The layout's home is wire/zookeeper/snapshot.py, which writes and reads any znode; a million of them
 * take Python seconds, in which nobody is served.
 *
 *     Walk(tree).piece(n)                     the bytes of the next znodes, parents first, at most n of
 *                                             them, maybe none; None at the end
 *     load(tree, data, at, field_bytes_max)   takes plain znodes, a few thousand, or up to the first that
 *                                             is not, or is damaged; returns where the next one begins
 *
 * The tree may change during a walk, between two pieces: each znode that is there all the time is written
 * once, one that goes meanwhile may be written or not; its own transaction says what is so.  One that
 * comes when the walk was at its parent already bears the parent's mark and is not written: else what goes
 * and comes back would stand there twice, and a busy parent would never end.  One walk goes on at a time.
 * Nothing is copied at the beginning of a level, so that a million children stop nobody.
 *
 * Source: DataTree.java (serializeNode). */

#include "members.h"

enum {
    NODE_TAIL_BYTES = 68,
    LOADED_AT_ONCE = 4096, /* then other threads have a turn */
    PASSED_FOR_ONE = 16,  /* a znode that is written costs a piece as much as so many passed over */
    PIECE_BYTES = 1 << 20 /* a piece ends behind so many */
};

static const char system_path[] = "/zookeeper";

/* ---- writing ---- */

/* A znode's children, and how far the walk has come among them. */
typedef struct {
    PyObject *children; /* the dict itself, which may change between two pieces */
    Py_ssize_t next;    /* where PyDict_Next goes on */
    Py_ssize_t at;      /* where `last` stood when it came */
    PyObject *last;     /* the path that came last; NULL: none */
    unsigned seen_in;   /* the piece in which its place was last made sure of */
} level;

typedef struct {
    PyObject_HEAD tree_state *tree;
    level *levels;
    Py_ssize_t depth, room;
    unsigned id, pieces;
    bool begun;
} walk;

typedef struct {
    uint8_t *bytes;
    size_t count, room;
} buffer;

static uint8_t *more(buffer *out, size_t bytes) {
    if (out->room - out->count < bytes) {
        size_t room = (out->count + bytes) * 2;
        uint8_t *grown = PyMem_Realloc(out->bytes, room);
        if (grown == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        out->bytes = grown;
        out->room = room;
    }
    uint8_t *at = out->bytes + out->count;
    out->count += bytes;
    return at;
}

static int put_node(buffer *out, PyObject *path, const znode *node) {
    Py_ssize_t path_bytes = 0,
               data_bytes = is_none(node->is.data) ? 0 : PyBytes_Size(node->is.data);
    PyObject *encoded = NULL;
    const char *text = ascii_of(path, &path_bytes);
    if (text == NULL) {
        if (PyErr_Occurred() || (encoded = java_text(path)) == NULL) return -1;
        text = PyBytes_AsString(encoded);
        path_bytes = PyBytes_Size(encoded);
    }
    uint8_t *to = more(out, 2 * LENGTH_BYTES + (size_t)(path_bytes + data_bytes) + NODE_TAIL_BYTES);
    if (to != NULL) {
        to = put32(to, (uint32_t)path_bytes);
        to = put_bytes(to, text, (size_t)path_bytes);
        to = put32(to, is_none(node->is.data) ? UINT32_MAX : (uint32_t)data_bytes);
        if (data_bytes > 0) to = put_bytes(to, PyBytes_AsString(node->is.data), (size_t)data_bytes);
        to = put64(to, (uint64_t)node->acl);
        to = put64(to, (uint64_t)node->is.czxid);
        to = put64(to, (uint64_t)node->is.mzxid);
        to = put64(to, (uint64_t)node->is.ctime);
        to = put64(to, (uint64_t)node->is.mtime);
        to = put32(to, (uint32_t)node->is.version);
        to = put32(to, (uint32_t)node->is.cversion);
        to = put32(to, (uint32_t)node->is.aversion);
        to = put64(to, (uint64_t)node->is.owner);
        put64(to, (uint64_t)node->is.pzxid);
    }
    Py_XDECREF(encoded);
    return to == NULL ? -1 : 0;
}

/* Go down into a znode's children, if it has any. */
static int enter(walk *self, const znode *node) {
    if (is_none(node->children) || PyDict_Size(node->children) == 0) return 0;
    if (self->depth == self->room) {
        Py_ssize_t room = self->room == 0 ? 16 : self->room * 2;
        level *grown = PyMem_Realloc(self->levels, (size_t)room * sizeof *grown);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->levels = grown;
        self->room = room;
    }
    self->levels[self->depth++] = (level){Py_NewRef(node->children), 0, 0, NULL, self->pieces};
    return 0;
}

static void leave(walk *self) {
    level *last = &self->levels[--self->depth];
    Py_DECREF(last->children);
    Py_XDECREF(last->last);
}

/* Between two pieces a dict may have been laid out anew.  Then the path that came last stands elsewhere,
 * or nowhere: begin again, and pass over what bears the mark of this walk. */
static void make_sure(walk *self, level *at) {
    if (at->seen_in == self->pieces) return;
    at->seen_in = self->pieces;
    if (at->last == NULL) return;
    Py_ssize_t place = at->at;
    PyObject *path, *node;
    /* A path alone would not do: the same object may stand for one that goes and comes back. */
    if (!PyDict_Next(at->children, &place, &path, &node) || path != at->last || place != at->next ||
        Py_TYPE(node) != znode_type || ((znode *)node)->walked != self->id)
        at->next = 0;
}

/* One step: a znode is written, or passed over, or a level left.  *steps counts down. */
static int step(walk *self, buffer *out, Py_ssize_t *steps) {
    level *at = &self->levels[self->depth - 1];
    PyObject *path, *found;
    make_sure(self, at);
    Py_ssize_t place = at->next;
    if (!PyDict_Next(at->children, &at->next, &path, &found)) {
        leave(self);
        return 0;
    }
    --*steps; /* who was written before costs little, or changes could outrun the walk */
    at->at = place;
    Py_INCREF(path);
    Py_XDECREF(at->last);
    at->last = path;
    if (Py_TYPE(found) != znode_type) return 0;
    unsigned mark = ((znode *)found)->walked;
    if (mark == (self->id | CAME_LATER)) leave(self); /* as all did that follow */
    if ((mark & ~CAME_LATER) == self->id) return 0;
    ((znode *)found)->walked = self->id;
    *steps -= PASSED_FOR_ONE - 1;
    if (put_node(out, path, (znode *)found) < 0) return -1;
    return enter(self, (znode *)found);
}

static int begin(walk *self, buffer *out, Py_ssize_t *steps) {
    PyObject *path = PyUnicode_FromString("");
    if (path == NULL) return -1;
    PyObject *root = PyDict_GetItemWithError(self->tree->nodes, path);
    int failed = PyErr_Occurred() ? -1 : 0;
    self->begun = true;
    if (root != NULL && Py_TYPE(root) == znode_type) {
        *steps -= PASSED_FOR_ONE;
        ((znode *)root)->walked = self->id;
        failed = put_node(out, path, (znode *)root) < 0 || enter(self, (znode *)root) < 0 ? -1 : 0;
    }
    Py_DECREF(path);
    return failed;
}

static PyObject *walk_piece(PyObject *object, PyObject *count) {
    walk *self = (walk *)object;
    Py_ssize_t steps = PyLong_AsSsize_t(count);
    if (steps <= 0) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a piece has a size");
        return NULL;
    }
    buffer out = {NULL, 0, 0};
    steps = steps < PY_SSIZE_T_MAX / PASSED_FOR_ONE ? steps * PASSED_FOR_ONE : PY_SSIZE_T_MAX;
    self->pieces++;
    int failed = self->begun ? 0 : begin(self, &out, &steps);
    bool over = self->begun && self->depth == 0;
    while (failed == 0 && self->depth > 0 && steps > 0 && out.count < PIECE_BYTES)
        failed = step(self, &out, &steps);
    PyObject *piece = NULL;
    if (failed == 0 && over && out.count == 0)
        piece = Py_NewRef(Py_None);
    else if (failed == 0)
        piece = PyBytes_FromStringAndSize((const char *)out.bytes, (Py_ssize_t)out.count);
    PyMem_Free(out.bytes);
    return piece;
}

static PyObject *walk_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *tree;
    static char *names[] = {"tree", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "O!", names, tree_type, &tree)) return NULL;
    if (((tree_state *)tree)->nodes == NULL || !PyDict_Check(((tree_state *)tree)->nodes)) {
        PyErr_SetString(PyExc_TypeError, "the tree has no table of znodes");
        return NULL;
    }
    walk *self = (walk *)PyType_GenericAlloc(type, 0);
    if (self != NULL) {
        static unsigned walks;
        if (++walks == CAME_LATER) walks = 1; /* 0: no walk has come there */
        self->id = walks;
        self->tree = (tree_state *)Py_NewRef(tree);
    }
    return (PyObject *)self;
}

static void walk_free(PyObject *object) {
    walk *self = (walk *)object;
    PyTypeObject *type = Py_TYPE(object);
    while (self->depth > 0) leave(self);
    PyMem_Free(self->levels);
    drop(self->tree);
    free_memory(object);
    Py_DECREF(type);
}

static PyMethodDef walk_methods[] = {
    {"piece", walk_piece, METH_O, "Return the bytes of the next znodes; None at the end."},
    {NULL, NULL, 0, NULL}};

int walk_add(PyObject *module) {
    PyType_Slot slots[] = {SLOT(Py_tp_new, walk_new),
                           SLOT(Py_tp_dealloc, walk_free),
                           {Py_tp_methods, walk_methods},
                           {0, NULL}};
    PyType_Spec spec = {"stratalog.core.zookeeper._fast.Walk", (int)sizeof(walk), 0,
                        Py_TPFLAGS_DEFAULT, slots};
    PyObject *type = PyType_FromSpec(&spec);
    int result = type == NULL ? -1 : PyModule_AddObjectRef(module, "Walk", type);
    Py_XDECREF(type);
    return result;
}

/* ---- reading ---- */

typedef struct {
    tree_state *tree;
    acl_counts *acls;
    const char *parent_text; /* of the last znode, in the data: most siblings stand together */
    Py_ssize_t parent_bytes;
    znode *parent;
} loading;

static int take32(cursor *from) {
    int value = (int)get32(from->at);
    from->at += 4;
    return value;
}

/* The parent of a path, found again if it is that of the last one. */
static outcome find_parent(loading *on, const char *path, Py_ssize_t bytes) {
    if (on->parent != NULL && bytes == on->parent_bytes &&
        memcmp(path, on->parent_text, (size_t)bytes) == 0)
        return DONE;
    PyObject *text = PyUnicode_FromStringAndSize(path, bytes);
    if (text == NULL) return FAULT;
    PyObject *found = PyDict_GetItemWithError(on->tree->nodes, text);
    Py_DECREF(text);
    if (found == NULL) return PyErr_Occurred() ? FAULT : SLOW;
    if (Py_TYPE(found) != znode_type) return SLOW;
    on->parent = (znode *)found;
    on->parent_text = path;
    on->parent_bytes = bytes;
    return DONE;
}

/* Give the tree a znode, which holds everything but what it needs of the tree. */
static outcome plant(loading *on, PyObject *path, znode *node, const char *text, Py_ssize_t bytes) {
    tree_state *tree = on->tree;
    if (PyDict_GetItemWithError(tree->nodes, path) != NULL) return SLOW;
    if (PyErr_Occurred()) return FAULT;
    if (is_none(on->parent->children)) {
        PyObject *names = PyDict_New();
        if (names == NULL) return FAULT;
        drop(on->parent->children);
        on->parent->children = names;
    }
    int failed = PyDict_SetItem(on->parent->children, path, (PyObject *)node);
    if (failed < 0 || PyDict_SetItem(tree->nodes, path, (PyObject *)node) < 0) return FAULT;
    if (node->acl == on->acls->open && on->acls->open != 0) on->acls->open_uses++;
    tree->data_bytes += bytes + (is_none(node->is.data) ? 0 : PyBytes_Size(node->is.data));
    if (tree->digests) {
        node->is.digest = digest_at(text, bytes, &node->is);
        tree->digest = (i64)((uint64_t)tree->digest + node->is.digest);
    }
    return DONE;
}

/* Take one znode; `from` moves only if it was taken. */
static outcome load_one(loading *on, cursor *from, i64 field_bytes_max) {
    cursor at = *from;
    const char *text;
    Py_ssize_t bytes;
    int data_bytes;
    if (!take_text(&at, &text, &bytes) || bytes > field_bytes_max || bytes < 2 || text[0] != '/')
        return SLOW;
    if (bytes >= (Py_ssize_t)sizeof system_path - 1 &&
        memcmp(text, system_path, sizeof system_path - 1) == 0)
        return SLOW;
    if (!take_int(&at, &data_bytes) || data_bytes < -1 || data_bytes > field_bytes_max) return SLOW;
    const char *data = (const char *)at.at;
    if (at.end - at.at < (data_bytes < 0 ? 0 : data_bytes) + (Py_ssize_t)NODE_TAIL_BYTES)
        return SLOW;
    at.at += data_bytes < 0 ? 0 : data_bytes;
    i64 acl = take64(&at);
    if (acl != -1 && (acl != on->acls->open || on->acls->open == 0)) return SLOW;
    Py_ssize_t slash = bytes;
    while (text[slash - 1] != '/') slash--;
    outcome result = find_parent(on, text, slash - 1);
    if (result != DONE) return result;
    znode *node = (znode *)PyType_GenericAlloc(znode_type, 0);
    PyObject *path = PyUnicode_FromStringAndSize(text, bytes);
    if (node == NULL || path == NULL) {
        result = FAULT;
        goto done;
    }
    node->acl = acl;
    node->is.czxid = take64(&at);
    node->is.mzxid = take64(&at);
    node->is.ctime = take64(&at);
    node->is.mtime = take64(&at);
    node->is.version = take32(&at);
    node->is.cversion = take32(&at);
    node->is.aversion = take32(&at);
    node->is.owner = take64(&at);
    node->is.pzxid = take64(&at);
    node->is.data =
        data_bytes < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(data, data_bytes);
    if (node->is.data == NULL)
        result = FAULT;
    else
        result = node->is.owner != 0 ? SLOW : plant(on, path, node, text, bytes);
    if (result == DONE) *from = at;
done:
    drop(node);
    Py_XDECREF(path);
    return result;
}

PyObject *snapshot_load(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *tree, *data;
    Py_ssize_t begin, bytes;
    i64 field_bytes_max;
    char *memory;
    if (!PyArg_ParseTuple(args, "O!SnL", tree_type, &tree, &data, &begin, &field_bytes_max))
        return NULL;
    if (PyBytes_AsStringAndSize(data, &memory, &bytes) < 0) return NULL;
    tree_state *into = (tree_state *)tree;
    if (begin < 0 || begin > bytes || into->acls == NULL || into->nodes == NULL ||
        !PyObject_TypeCheck(into->acls, acl_counts_type) || !PyDict_Check(into->nodes)) {
        PyErr_SetString(PyExc_ValueError, "at lies outside of data, or the tree is none");
        return NULL;
    }
    loading on = {into, (acl_counts *)into->acls, NULL, 0, NULL};
    cursor from = {(const uint8_t *)memory + begin, (const uint8_t *)memory + bytes};
    outcome result;
    int left = LOADED_AT_ONCE;
    do result = load_one(&on, &from, field_bytes_max);
    while (result == DONE && --left > 0);
    if (result == FAULT) return NULL;
    return PyLong_FromSsize_t((const char *)from.at - memory);
}
