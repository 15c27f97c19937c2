/* apply.c -- transactions that C decided change the tree, and are answered; those of a log come back.
 *
 *     commit    apply_fast: decided here, and answered
 *     restart   replay: read from a log, plain creates, setData and deletes
 *
 * The znodes' digests were summed when the transaction was decided.  Watches fire through Python's
 * managers, where anybody watches at all.  What the tree has become meanwhile may have made the
 * transaction an odd one (a quota, a parent that is gone): then Python applies it, from its fields.
 *
 * Source: DataTree.java, FinalRequestProcessor.java, SerializeUtils.java. */

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

/* ---- transactions of a log ---- */

enum {
    TXN_HEADER_BYTES = 32, /* session 8, cxid 4, zxid 8, time 8, type 4 */
    TXN_DIGEST_BYTES = 12, /* version 4, digest 8 */
    ALL_PERMISSIONS = 31
};

static bool take_word(cursor *from, const char *word) {
    const char *text;
    Py_ssize_t bytes;
    return take_text(from, &text, &bytes) && bytes == (Py_ssize_t)strlen(word) &&
           memcmp(text, word, (size_t)bytes) == 0;
}

/* The path, and where its name begins; those below /zookeeper, and the root, are Python's. */
static bool take_path(cursor *from, const char **text, Py_ssize_t *bytes, Py_ssize_t *name) {
    static const char system_path[] = "/zookeeper";
    const Py_ssize_t system_bytes = (Py_ssize_t)sizeof system_path - 1;
    if (!take_text(from, text, bytes) || *bytes < 2 || (*text)[0] != '/') return false;
    if ((*text)[*bytes - 1] == '/' || memchr(*text, 0, (size_t)*bytes) != NULL) return false;
    if (*bytes >= system_bytes && memcmp(*text, system_path, (size_t)system_bytes) == 0)
        return false;
    for (*name = *bytes; (*text)[*name - 1] != '/';) --*name;
    return true;
}

static bool take_data(cursor *from, PyObject **data) {
    int bytes;
    if (!take_int(from, &bytes) || bytes < -1 || (bytes > 0 && from->end - from->at < bytes))
        return false;
    *data =
        bytes < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize((const char *)from->at, bytes);
    from->at += bytes < 0 ? 0 : bytes;
    return *data != NULL;
}

/* The open ACL, and no owner. */
static bool take_openness(cursor *from) {
    int count, permissions;
    return take_int(from, &count) && count == 1 && take_int(from, &permissions) &&
           permissions == ALL_PERMISSIONS && take_word(from, "world") &&
           take_word(from, "anyone") && from->end - from->at >= 1 && *from->at++ == 0;
}

/* What is left is a digest or nothing. */
static bool take_end(cursor *from, prepared *txn) {
    if (from->at == from->end) return true;
    if (from->end - from->at != TXN_DIGEST_BYTES) return false;
    from->at += 4;
    txn->digest = take64(from);
    txn->has_digest = 1;
    return true;
}

static unsigned digest_then(const tree_state *tree, const char *path, Py_ssize_t bytes,
                            const numbers *then) {
    return tree->digests ? digest_at(path, bytes, then) : 0;
}

static outcome replay_set(const house *in, prepared *txn, cursor *body, const char *path,
                          Py_ssize_t bytes) {
    uint8_t stat[STAT_BYTES];
    const znode *node = node_at(in, txn->path);
    if (node == NULL || !take_data(body, &txn->data) || !take_int(body, &txn->version) ||
        !take_end(body, txn))
        return SLOW;
    numbers then = node->is;
    then.data = txn->data;
    then.mtime = txn->time_ms;
    then.mzxid = txn->zxid;
    then.version = txn->version;
    txn->node_digest = digest_then(in->tree, path, bytes, &then);
    return set_data(in, txn, stat);
}

static outcome replay_delete(const house *in, prepared *txn, cursor *body, const char *path,
                             Py_ssize_t name) {
    const znode *parent = node_at(in, txn->parent);
    if (parent == NULL || !take_end(body, txn)) return SLOW;
    numbers then = parent->is;
    then.pzxid = txn->zxid;
    txn->parent_digest = digest_then(in->tree, path, name - 1, &then);
    return delete_(in, txn);
}

static outcome replay_create(const house *in, prepared *txn, cursor *body, const char *path,
                             Py_ssize_t bytes, Py_ssize_t name) {
    const znode *parent = node_at(in, txn->parent);
    if (parent == NULL || PyDict_GetItemWithError(in->tree->nodes, txn->path) != NULL ||
        !take_data(body, &txn->data) || !take_openness(body) || !take_int(body, &txn->version) ||
        !take_end(body, txn))
        return SLOW;
    numbers then = parent->is, new = {.data = txn->data};
    then.cversion = txn->version;
    then.pzxid = txn->zxid;
    txn->parent_digest = digest_then(in->tree, path, name - 1, &then);
    new.czxid = new.mzxid = new.pzxid = txn->zxid;
    new.ctime = new.mtime = txn->time_ms;
    txn->node_digest = digest_then(in->tree, path, bytes, &new);
    znode *made = NULL;
    outcome result = create(in, txn, &made);
    drop(made);
    return result;
}

static outcome replay_one(const house *in, prepared *txn, cursor body) {
    const char *path;
    Py_ssize_t bytes, name;
    if (body.end - body.at < TXN_HEADER_BYTES) return SLOW;
    txn->session_id = take64(&body);
    body.at += 4;
    txn->zxid = take64(&body);
    txn->time_ms = take64(&body);
    take_int(&body, &txn->type);
    bool makes = txn->type == OP_CREATE || txn->type == OP_CREATE2;
    if ((!makes && txn->type != OP_SET_DATA && txn->type != OP_DELETE) ||
        PySet_Size(in->tree->quota_paths) > 0 || !take_path(&body, &path, &bytes, &name))
        return SLOW;
    outcome result = FAULT;
    txn->path = PyUnicode_FromStringAndSize(path, bytes);
    txn->parent = PyUnicode_FromStringAndSize(path, name - 1);
    if (txn->path != NULL && txn->parent != NULL)
        result = makes                      ? replay_create(in, txn, &body, path, bytes, name)
                 : txn->type == OP_SET_DATA ? replay_set(in, txn, &body, path, bytes)
                                            : replay_delete(in, txn, &body, path, name);
    if (PyErr_Occurred()) result = FAULT;
    drop(txn->path);
    drop(txn->parent);
    drop(txn->data);
    return result;
}

PyObject *replay(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *tree, *data;
    char *payload;
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "O!S", tree_type, &tree, &data) ||
        PyBytes_AsStringAndSize(data, &payload, &bytes) < 0)
        return NULL;
    house in = {.tree = (tree_state *)tree};
    if (!tree_is_whole(in.tree)) return NULL;
    in.acls = (acl_counts *)in.tree->acls;
    prepared txn = {0};
    cursor body = {(const uint8_t *)payload, (const uint8_t *)payload + bytes};
    outcome result = replay_one(&in, &txn, body);
    if (result == FAULT) return NULL;
    if (result == SLOW) return Py_NewRef(Py_False);
    if (in.tree->last_zxid < txn.zxid) in.tree->last_zxid = txn.zxid;
    return txn.has_digest ? PyLong_FromLongLong(txn.digest) : Py_NewRef(Py_None);
}
