/* read.c -- reads, answered from the tree as it is.
 *
 *     exists        Stat
 *     getData       data, Stat
 *     getChildren   names        getChildren2   names, Stat
 *
 * where the znode is there, anybody may read it, and path and names are ASCII.  A watch asked for is
 * set by Python's manager, before the answer is made.
 *
 * Source: FinalRequestProcessor.java. */

#include "fast.h"

static bool take_flag(cursor *from, bool *flag) {
    if (from->end - from->at < 1 || *from->at > 1) return false;
    *flag = *from->at++ != 0;
    return true;
}

/* How many bytes a vector of the names takes, each a path without its first `skip` bytes; -1: Python
 * must encode one of them, or an exception is set. */
static Py_ssize_t names_bytes(PyObject *children, Py_ssize_t skip) {
    Py_ssize_t bytes = LENGTH_BYTES, at = 0;
    PyObject *path;
    if (is_none(children)) return bytes;
    while (PyDict_Next(children, &at, &path, NULL)) {
        Py_ssize_t length;
        if (ascii_of(path, &length) == NULL || length < skip) return -1;
        bytes += LENGTH_BYTES + length - skip;
    }
    return bytes;
}

static uint8_t *put_names(uint8_t *to, PyObject *children, Py_ssize_t skip) {
    Py_ssize_t at = 0;
    PyObject *path;
    to = put32(to, is_none(children) ? 0 : (uint32_t)PyDict_Size(children));
    while (!is_none(children) && PyDict_Next(children, &at, &path, NULL)) {
        Py_ssize_t length;
        const char *text = PyUnicode_AsUTF8AndSize(path, &length);
        to = put32(to, (uint32_t)(length - skip));
        to = put_bytes(to, text + skip, (size_t)(length - skip));
    }
    return to;
}

static uint8_t *put_data(uint8_t *to, PyObject *data) {
    if (is_none(data)) return put32(to, UINT32_MAX);
    char *bytes;
    Py_ssize_t length;
    PyBytes_AsStringAndSize(data, &bytes, &length);
    to = put32(to, (uint32_t)length);
    return put_bytes(to, bytes, (size_t)length);
}

outcome read_fast(const house *in, client_state *client, int xid, int kind, cursor body) {
    const char *text;
    Py_ssize_t length;
    bool watch;
    if (!take_text(&body, &text, &length) || !take_flag(&body, &watch)) return SLOW;
    if (memchr(text, 0, (size_t)length) != NULL) return SLOW; /* exists refuses it */
    PyObject *path = PyUnicode_FromStringAndSize(text, length);
    if (path == NULL) return FAULT;
    outcome result = SLOW;
    tree_state *tree = in->tree;
    PyObject *found = PyDict_GetItemWithError(tree->nodes, path);
    if (found == NULL) {
        if (PyErr_Occurred()) result = FAULT;
        goto done;
    }
    if (Py_TYPE(found) != znode_type) goto done;
    const znode *node = (const znode *)found;
    bool children = kind == OP_GET_CHILDREN || kind == OP_GET_CHILDREN2;
    Py_ssize_t bytes = kind == OP_GET_CHILDREN ? 0 : STAT_BYTES;
    Py_ssize_t skip = length > 1 ? length + 1 : 1; /* the root is "" and "/" */
    if (!acl_is_open(in, node)) goto done;
    if (kind == OP_GET_DATA)
        bytes += LENGTH_BYTES + (is_none(node->is.data) ? 0 : PyBytes_Size(node->is.data));
    if (children) {
        Py_ssize_t names = names_bytes(node->children, skip);
        if (names < 0) {
            if (PyErr_Occurred()) result = FAULT;
            goto done;
        }
        bytes += names;
    }
    if (watch) {
        PyObject *manager = children ? tree->child_watches : tree->data_watches;
        PyObject *set = PyObject_CallMethod(manager, "add", "OO", path, (PyObject *)client);
        if (set == NULL) {
            result = FAULT;
            goto done;
        }
        Py_DECREF(set);
    }
    uint8_t *to;
    PyObject *reply = reply_new(xid, tree->last_zxid, (size_t)bytes, &to);
    if (reply != NULL) {
        if (kind == OP_GET_DATA) to = put_data(to, node->is.data);
        if (children) to = put_names(to, node->children, skip);
        if (kind != OP_GET_CHILDREN) put_stat(to, node, tree->extended);
    }
    result = client_send(in->machine, client, reply);
done:
    Py_DECREF(path);
    return result;
}
