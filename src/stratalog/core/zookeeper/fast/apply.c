/* apply.c -- transactions that C decided change the tree, and are answered.
 *
 * The znodes' digests were summed when the transaction was decided.  Watches fire through Python's
 * managers, where anybody watches at all.  What the tree has become meanwhile may have made the
 * transaction an odd one (a quota, a parent that is gone): then Python applies it, from its fields.
 *
 * Source: DataTree.java, FinalRequestProcessor.java. */

#include "fast.h"

enum { DIGEST_EVERY = 128 }; /* as in tree.py, which remembers the digest of such a zxid */

/* ---- watches ---- */

static int fire(PyObject *manager, PyObject *path, PyObject *event, i64 zxid, PyObject *acl,
                PyObject *told, PyObject **meant) {
    PyObject *told_now =
        told == NULL
            ? PyObject_CallMethod(manager, "trigger", "OOLO", path, event, zxid, acl)
            : PyObject_CallMethod(manager, "trigger", "OOLOO", path, event, zxid, acl, told);
    if (told_now == NULL) return -1;
    if (meant != NULL)
        *meant = told_now;
    else
        Py_DECREF(told_now);
    return 0;
}

/* The children's manager hears of the parent, whose name is "/" if it is the root. */
static int fire_parent(const house *in, PyObject *parent, i64 zxid) {
    PyObject *path =
        PyUnicode_GetLength(parent) == 0 ? PyUnicode_FromString("/") : Py_NewRef(parent);
    if (path == NULL) return -1;
    int result = fire(in->tree->child_watches, path, children_changed, zxid, open_acl, NULL, NULL);
    Py_DECREF(path);
    return result;
}

/* ---- owners ---- */

static int own(const house *in, PyObject *path, i64 owner) {
    int result = -1;
    PyObject *key = PyLong_FromLongLong(owner), *paths;
    if (key == NULL) return -1;
    paths = Py_XNewRef(PyDict_GetItemWithError(in->tree->ephemerals, key));
    if (paths == NULL && !PyErr_Occurred()) {
        paths = PyDict_New();
        if (paths != NULL && PyDict_SetItem(in->tree->ephemerals, key, paths) < 0) Py_CLEAR(paths);
    }
    if (paths != NULL) result = PyDict_SetItem(paths, path, Py_None);
    Py_XDECREF(paths);
    Py_DECREF(key);
    return result;
}

/* ---- the transactions: SLOW before anything has changed ---- */

static znode *node_at(const house *in, PyObject *path) {
    PyObject *found = PyDict_GetItemWithError(in->tree->nodes, path);
    return found == NULL || Py_TYPE(found) != znode_type ? NULL : (znode *)found;
}

static void take_digest(tree_state *tree, numbers *node, unsigned digest) {
    if (!tree->digests) return;
    tree->digest = (i64)((uint64_t)tree->digest + digest - node->digest);
    node->digest = digest;
}

static Py_ssize_t bytes_of(PyObject *data) { return is_none(data) ? 0 : PyBytes_Size(data); }

/* The parent's watchers are told with its ACL: the open one, or Python does it. */
static bool parent_is_plain(const house *in, const znode *parent) {
    return PyDict_Size(in->tree->child_watchers) == 0 || acl_is_open(in, parent);
}

static outcome create(const house *in, const prepared *txn, znode **made) {
    tree_state *tree = in->tree;
    znode *parent = node_at(in, txn->parent);
    if (parent == NULL || txn->version <= parent->is.cversion || in->acls->open == 0 ||
        !parent_is_plain(in, parent))
        return SLOW;
    znode *node = (znode *)PyType_GenericAlloc(znode_type, 0);
    if (node == NULL) return FAULT;
    node->is.data = Py_NewRef(txn->data);
    node->acl = in->acls->open;
    node->walked = parent->walked | CAME_LATER;
    node->is.czxid = node->is.mzxid = node->is.pzxid = txn->zxid;
    node->is.ctime = node->is.mtime = txn->time_ms;
    node->is.owner = txn->owner;
    if (is_none(parent->children)) {
        PyObject *names = PyDict_New();
        if (names == NULL) goto fault;
        drop(parent->children);
        parent->children = names;
    }
    /* It was decided that there is none, and nothing has come between: see write.c. */
    Py_ssize_t before = PyDict_Size(tree->nodes);
    if (PyDict_SetItem(parent->children, txn->path, (PyObject *)node) < 0 ||
        PyDict_SetItem(tree->nodes, txn->path, (PyObject *)node) < 0)
        goto fault;
    if (PyDict_Size(tree->nodes) == before) {
        PyErr_Format(PyExc_RuntimeError, "%R was to be created and is there", txn->path);
        goto fault;
    }
    in->acls->open_uses++;
    parent->is.cversion = txn->version;
    parent->is.pzxid = txn->zxid;
    take_digest(tree, &parent->is, txn->parent_digest);
    take_digest(tree, &node->is, txn->node_digest);
    tree->data_bytes += PyUnicode_GetLength(txn->path) + bytes_of(txn->data);
    if (txn->owner != 0 && own(in, txn->path, txn->owner) < 0) goto fault;
    if (PyDict_Size(tree->data_watchers) > 0 &&
        fire(tree->data_watches, txn->path, node_created, txn->zxid, open_acl, NULL, NULL) < 0)
        goto fault;
    if (PyDict_Size(tree->child_watchers) > 0 && fire_parent(in, txn->parent, txn->zxid) < 0)
        goto fault;
    *made = node;
    return DONE;
fault:
    drop(node);
    return FAULT;
}

static outcome delete_(const house *in, const prepared *txn) {
    tree_state *tree = in->tree;
    znode *parent = node_at(in, txn->parent), *node = node_at(in, txn->path);
    if (parent == NULL || node == NULL || is_none(parent->children) ||
        txn->zxid <= parent->is.pzxid || !parent_is_plain(in, parent))
        return SLOW;
    if (!is_none(node->children) && PyDict_Size(node->children) > 0) return SLOW;
    /* Owners of other kinds, and the last use of an ACL, are Python's. */
    if (node->is.owner != 0 || node->acl != in->acls->open || in->acls->open_uses < 2) return SLOW;
    if (PyDict_DelItem(parent->children, txn->path) < 0) return FAULT;
    parent->is.pzxid = txn->zxid;
    take_digest(tree, &parent->is, txn->parent_digest);
    take_digest(tree, &node->is, 0);
    in->acls->open_uses--;
    tree->data_bytes -= PyUnicode_GetLength(txn->path) + bytes_of(node->is.data);
    if (PyDict_DelItem(tree->nodes, txn->path) < 0) return FAULT;
    PyObject *told = NULL;
    int failed = 0;
    if (PyDict_Size(tree->data_watchers) > 0)
        failed =
            fire(tree->data_watches, txn->path, node_deleted, txn->zxid, open_acl, NULL, &told);
    if (failed == 0 && PyDict_Size(tree->child_watchers) > 0) {
        failed =
            fire(tree->child_watches, txn->path, node_deleted, txn->zxid, open_acl, told, NULL);
        if (failed == 0) failed = fire_parent(in, txn->parent, txn->zxid);
    }
    Py_XDECREF(told);
    return failed < 0 ? FAULT : DONE;
}

static outcome set_data(const house *in, const prepared *txn, uint8_t *stat) {
    tree_state *tree = in->tree;
    znode *node = node_at(in, txn->path);
    if (node == NULL) return SLOW;
    if (PyDict_Size(tree->data_watchers) > 0 && !acl_is_open(in, node)) return SLOW;
    tree->data_bytes += bytes_of(txn->data) - bytes_of(node->is.data);
    PyObject *before = node->is.data;
    node->is.data = Py_NewRef(txn->data);
    Py_XDECREF(before);
    node->is.mtime = txn->time_ms;
    node->is.mzxid = txn->zxid;
    node->is.version = txn->version;
    take_digest(tree, &node->is, txn->node_digest);
    put_stat(stat, node, tree->extended);
    if (PyDict_Size(tree->data_watchers) > 0 &&
        fire(tree->data_watches, txn->path, data_changed, txn->zxid, open_acl, NULL, NULL) < 0)
        return FAULT;
    return DONE;
}

/* Hold the digest against the tree's; Python counts what differs, and keeps some in a log. */
static int verify(const house *in, const prepared *txn) {
    if (!in->tree->digests) return 0;
    if (txn->digest == in->tree->digest && in->tree->last_zxid % DIGEST_EVERY != 0) return 0;
    PyObject *same =
        PyObject_CallMethod((PyObject *)in->tree, "verify", "L", (long long)txn->digest);
    Py_XDECREF(same);
    return same == NULL ? -1 : 0;
}

static PyObject *answer(const house *in, const write_ *write, const prepared *txn,
                        const znode *node, const uint8_t *stat) {
    Py_ssize_t path_bytes = 0;
    const char *path = "";
    bool created = write->kind == OP_CREATE || write->kind == OP_CREATE2;
    size_t bytes = 0;
    if (created) {
        path = PyUnicode_AsUTF8AndSize(txn->path, &path_bytes);
        bytes = LENGTH_BYTES + (size_t)path_bytes;
    }
    if (write->kind == OP_CREATE2 || write->kind == OP_SET_DATA) bytes += STAT_BYTES;
    uint8_t *to;
    PyObject *reply = reply_new(write->xid, in->tree->last_zxid, bytes, &to);
    if (reply == NULL) return NULL;
    if (created) {
        to = put32(to, (uint32_t)path_bytes);
        to = put_bytes(to, path, (size_t)path_bytes);
    }
    if (write->kind == OP_CREATE2) put_stat(to, node, in->tree->extended);
    if (write->kind == OP_SET_DATA) memcpy(to, stat, STAT_BYTES);
    return reply;
}

outcome apply_fast(const house *in, write_ *write) {
    prepared *txn = (prepared *)write->prepared;
    uint8_t stat[STAT_BYTES];
    znode *made = NULL;
    outcome result = SLOW;
    if (txn->path == NULL || PySet_Size(in->tree->quota_paths) > 0) return SLOW;
    if (txn->type == OP_SET_DATA)
        result = set_data(in, txn, stat);
    else if (txn->type == OP_DELETE)
        result = delete_(in, txn);
    else
        result = create(in, txn, &made);
    if (result != DONE) return result;
    if (in->tree->last_zxid < txn->zxid) in->tree->last_zxid = txn->zxid;
    if (verify(in, txn) < 0 || outlook_applied(in->preparer, txn->zxid) < 0)
        result = FAULT;
    else if (!is_none(write->client))
        result = client_send(in->machine, (client_state *)write->client,
                             answer(in, write, txn, made, stat));
    drop(made);
    return result;
}
