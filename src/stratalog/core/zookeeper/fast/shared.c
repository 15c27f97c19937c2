/* shared.c -- what reads, writes and commits all use.
 *
 *     bytes of a request in, bytes of a reply out
 *     the parts of a machine, each made sure of: Python may have put anything there
 *     the objects of Python's that stand for the open ACL and the events
 *
 * Source: ZooKeeperServer.java. */

#include "fast.h"

PyObject *open_acl;
PyObject *node_created, *node_deleted, *data_changed, *children_changed;

/* ---- bytes ---- */

bool take_int(cursor *from, int *value) {
    if (from->end - from->at < 4) return false;
    *value = (int)get32(from->at);
    from->at += 4;
    return true;
}

bool take_text(cursor *from, const char **text, Py_ssize_t *length) {
    int bytes;
    if (!take_int(from, &bytes) || bytes < 0 || from->end - from->at < bytes) return false;
    uint8_t seen = 0;
    for (int n = 0; n < bytes; n++) seen |= from->at[n];
    if (seen & 0x80) return false;
    *text = (const char *)from->at;
    *length = bytes;
    from->at += bytes;
    return true;
}

PyObject *reply_new(int xid, i64 zxid, size_t body_bytes, uint8_t **body) {
    size_t bytes = REPLY_HEADER_BYTES + body_bytes;
    PyObject *reply = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(LENGTH_BYTES + bytes));
    if (reply == NULL) return NULL;
    uint8_t *to = (uint8_t *)PyBytes_AsString(reply);
    to = put32(to, (uint32_t)bytes);
    to = put32(to, (uint32_t)xid);
    to = put64(to, (uint64_t)zxid);
    *body = put32(to, 0);
    return reply;
}

outcome client_send(machine_state *machine, client_state *client, PyObject *reply) {
    if (reply == NULL) return FAULT;
    int failed = 0;
    if (is_none(client->farewell)) {
        failed = PyList_Append(client->out, reply);
        if (failed == 0 && !client->talkative) {
            client->talkative = 1;
            failed = PyList_Append(machine->talkative, (PyObject *)client);
        }
    }
    Py_DECREF(reply);
    return failed < 0 ? FAULT : DONE;
}

/* ---- the parts of a machine ---- */

bool tree_is_whole(tree_state *tree) {
    if (!is_a(tree->acls, acl_counts_type, "table of ACLs") ||
        !is_a(tree->nodes, &PyDict_Type, "table of znodes") ||
        !is_a(tree->ephemerals, &PyDict_Type, "table of ephemerals") ||
        !is_a(tree->data_watchers, &PyDict_Type, "table of data watches") ||
        !is_a(tree->child_watchers, &PyDict_Type, "table of child watches") ||
        !is_a(tree->quota_paths, &PySet_Type, "set of quotas"))
        return false;
    if (tree->data_watches != NULL && tree->child_watches != NULL) return true;
    PyErr_SetString(PyExc_TypeError, "the tree has no watches");
    return false;
}

bool house_of(PyObject *machine, house *found) {
    if (!is_a(machine, machine_type, "machine")) return false;
    machine_state *one = (machine_state *)machine;
    if (!is_a(one->tree, tree_type, "machine's tree") ||
        !is_a(one->preparer, outlook_type, "machine's preparer") ||
        !is_a(one->waiting, queue_type, "queue of writes") ||
        !is_a(one->proposals, &PyList_Type, "list of proposals") ||
        !is_a(one->talkative, &PyList_Type, "list of clients"))
        return false;
    tree_state *tree = (tree_state *)one->tree;
    outlook *preparer = (outlook *)one->preparer;
    if (!tree_is_whole(tree) || !is_a(preparer->by_path, &PyDict_Type, "table of changes") ||
        !is_a(preparer->changes, queue_type, "queue of changes"))
        return false;
    found->machine = one;
    found->tree = tree;
    found->preparer = preparer;
    found->acls = (acl_counts *)tree->acls;
    return true;
}

client_state *client_of(PyObject *object) {
    if (!is_a(object, client_type, "client")) return NULL;
    client_state *client = (client_state *)object;
    if (!is_a(client->pending, queue_type, "client's queue") ||
        !is_a(client->out, &PyList_Type, "client's list of replies"))
        return NULL;
    return client;
}
