/* module.c -- stratalog.core.zookeeper._fast: frames in, commits in.
 *
 *     feed(machine, client, data, at, bounds...)          whole frames of `data`, from `at` on
 *           |
 *           +-- plain, and the machine is `fast`:   read.c, write.c
 *           +-- anything else:                      machine.receive(client, frame)
 *
 *     commit(machine, zxid)                               waiting writes up to `zxid`, in their order
 *           |
 *           +-- decided here:                       apply.c
 *           +-- decided in Python:                  machine.commit_one(write)
 *           then the client's reads behind it:      read.c, machine.resume_one(client, entry)
 *
 * The rules of standalone.py hold: replies in the order of requests, nothing seen before its commit.
 *
 * Source: ZooKeeperServer.java, FinalRequestProcessor.java. */

#include "fast.h"

static Py_ssize_t long_answer_bytes;

/* ---- frames in ---- */

static bool is_read(int kind) {
    return kind == OP_GET_DATA || kind == OP_EXISTS || kind == OP_GET_CHILDREN ||
           kind == OP_GET_CHILDREN2;
}

static bool is_write(int kind) {
    return kind == OP_CREATE || kind == OP_SET_DATA || kind == OP_DELETE || kind == OP_CREATE2;
}

static outcome touch(const house *in, session *who) {
    machine_state *machine = in->machine;
    i64 tick_ms = machine->tick_ms;
    i64 bucket_ms = ((machine->now_ms + who->timeout_ms) / tick_ms + 1) * tick_ms;
    if (bucket_ms == who->bucket_ms) return DONE;
    PyObject *moved = PyObject_CallMethod(machine->tracker, "touch", "OL", (PyObject *)who,
                                          (long long)machine->now_ms);
    Py_XDECREF(moved);
    return moved == NULL ? FAULT : DONE;
}

/* Answer a read, if it is plain. */
static outcome answer_read(const house *in, client_state *client, const uint8_t *frame,
                           Py_ssize_t bytes, i64 *reads) {
    if (!in->machine->fast || bytes < REQUEST_HEADER_BYTES) return SLOW;
    int xid = (int)get32(frame), kind = (int)get32(frame + 4);
    if (kind == OP_PING) {
        uint8_t *none;
        return client_send(in->machine, client, reply_new(-2, in->tree->last_zxid, 0, &none));
    }
    if (!is_read(kind)) return SLOW;
    cursor body = {frame + REQUEST_HEADER_BYTES, frame + bytes};
    outcome result = read_fast(in, client, xid, kind, body);
    *reads += result == DONE;
    return result;
}

/* Take one frame, if it is plain.  `reads` counts those that were answered. */
static outcome take(const house *in, client_state *client, const uint8_t *frame, Py_ssize_t bytes,
                    i64 *reads) {
    machine_state *machine = in->machine;
    if (!machine->fast || machine->strict || bytes < REQUEST_HEADER_BYTES ||
        machine->tick_ms <= 0 || machine->now_ms < 0)
        return SLOW;
    if (!is_none(client->held) || client->session == NULL ||
        Py_TYPE(client->session) != session_type)
        return SLOW;
    session *who = (session *)client->session;
    if (who->closing) return SLOW;
    int xid = (int)get32(frame), kind = (int)get32(frame + 4);
    if (is_write(kind)) {
        cursor body = {frame + REQUEST_HEADER_BYTES, frame + bytes};
        if (touch(in, who) != DONE) return FAULT;
        return write_fast(in, client, who, xid, kind, body);
    }
    if (((queue *)client->pending)->count > 0 || (!is_read(kind) && kind != OP_PING)) return SLOW;
    if (touch(in, who) != DONE) return FAULT;
    return answer_read(in, client, frame, bytes, reads);
}

static int count_reads(const house *in, i64 reads) {
    if (reads == 0) return 0;
    PyObject *statistics = in->machine->statistics;
    PyObject *before = PyObject_GetAttrString(statistics, "reads_answered");
    PyObject *more = PyLong_FromLongLong(reads);
    PyObject *after = before == NULL || more == NULL ? NULL : PyNumber_Add(before, more);
    int result = after == NULL ? -1 : PyObject_SetAttrString(statistics, "reads_answered", after);
    Py_XDECREF(before);
    Py_XDECREF(more);
    Py_XDECREF(after);
    return result;
}

/* The bytes of the answers from `*seen` on, which is moved behind them. */
static i64 bytes_answered(client_state *client, Py_ssize_t *seen) {
    i64 bytes = 0;
    for (Py_ssize_t end = PyList_Size(client->out); *seen < end; ++*seen)
        bytes += PyBytes_Size(PyList_GetItem(client->out, *seen));
    return bytes;
}

static i64 waiting_of(client_state *client) {
    i64 held = is_none(client->held) ? 0 : PyObject_Size(client->held);
    return ((queue *)client->pending)->count + held;
}

/* Let Python take a frame. */
static outcome receive(PyObject *machine, client_state *client, const uint8_t *frame,
                       Py_ssize_t bytes) {
    PyObject *copy = PyBytes_FromStringAndSize((const char *)frame, bytes), *done = NULL;
    if (copy != NULL)
        done = PyObject_CallMethod(machine, "receive", "OO", (PyObject *)client, copy);
    Py_XDECREF(copy);
    Py_XDECREF(done);
    return done == NULL ? FAULT : DONE;
}

int feed_frames(PyObject *machine, PyObject *who, PyObject *data, Py_ssize_t at,
                const bounds *within, fed *taken) {
    house in;
    client_state *client = client_of(who);
    if (client == NULL || !house_of(machine, &in)) return -1;
    char *memory;
    Py_ssize_t bytes;
    if (PyBytes_AsStringAndSize(data, &memory, &bytes) < 0) return -1;
    if (at < 0 || at > bytes) {
        PyErr_SetString(PyExc_ValueError, "at lies outside of data");
        return -1;
    }
    Py_ssize_t seen = PyList_Size(client->out);
    i64 reads = 0, slow = 0, answered = 0;
    *taken = (fed){at, 0, at, false};
    while (bytes - at >= LENGTH_BYTES && !taken->bounded && slow < within->slow_max) {
        const uint8_t *frame = (const uint8_t *)memory + at + LENGTH_BYTES;
        i64 length = (int32_t)get32((const uint8_t *)memory + at);
        if (length < 0 || length > within->frame_max || length > bytes - at - LENGTH_BYTES) break;
        taken->last = at + LENGTH_BYTES;
        taken->at = at = taken->last + (Py_ssize_t)length;
        taken->frames++;
        if (!is_none(client->farewell)) continue;
        outcome result = take(&in, client, frame, (Py_ssize_t)length, &reads);
        if (result == SLOW) {
            slow++;
            result = receive(machine, client, frame, (Py_ssize_t)length);
            if (result == DONE && (!house_of(machine, &in) || client_of(who) == NULL))
                result = FAULT;
        }
        if (result == FAULT) return -1;
        answered += bytes_answered(client, &seen);
        taken->bounded = answered > within->answer_max || waiting_of(client) > within->pending_max;
    }
    return count_reads(&in, reads);
}

PyDoc_STRVAR(
    feed_doc,
    "feed(machine, client, data, at, frame_bytes_max, answer_bytes_max, pending_max, slow_max)\n"
    "--\n\n"
    "Take the whole frames of ``data`` from ``at`` on, within the bounds; see standalone.py.");

static PyObject *feed(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *machine, *who, *data;
    Py_ssize_t at;
    bounds within;
    fed taken;
    if (!PyArg_ParseTuple(args, "OOSnLLLL", &machine, &who, &data, &at, &within.frame_max,
                          &within.answer_max, &within.pending_max, &within.slow_max))
        return NULL;
    if (feed_frames(machine, who, data, at, &within, &taken) < 0) return NULL;
    return Py_BuildValue("nnnO", taken.at, taken.frames, taken.last,
                         taken.bounded ? Py_True : Py_False);
}

/* ---- commits in ---- */

/* After a long answer, Python looks at what they are all together. */
static int check_answers(PyObject *machine, client_state *client) {
    Py_ssize_t count = PyList_Size(client->out);
    if (count == 0 || PyBytes_Size(PyList_GetItem(client->out, count - 1)) <= long_answer_bytes)
        return 0;
    PyObject *done = PyObject_CallMethod(machine, "check_answers", "O", (PyObject *)client);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Answer the reads that waited behind a write, up to the next one. */
static int resume(const house *in, PyObject *machine, client_state *client, i64 *reads) {
    while (!is_none(client->session) && is_none(client->farewell)) {
        queue *pending = (queue *)client->pending;
        if (pending->count == 0) return 0;
        if (Py_TYPE(queue_head(pending)) == write_type) return 0;
        PyObject *entry = queue_pop(pending);
        outcome result = SLOW;
        if (PyBytes_Check(entry))
            result = answer_read(in, client, (const uint8_t *)PyBytes_AsString(entry),
                                 PyBytes_Size(entry), reads);
        if (result == SLOW) {
            PyObject *done =
                PyObject_CallMethod(machine, "resume_one", "OO", (PyObject *)client, entry);
            Py_XDECREF(done);
            result = done == NULL ? FAULT : DONE;
        }
        Py_DECREF(entry);
        if (result == FAULT || check_answers(machine, client) < 0) return -1;
        if (client_of((PyObject *)client) == NULL) return -1;
    }
    return 0;
}

static int count_updates(PyObject *machine, i64 at_ms, i64 times) {
    if (times == 0) return 0;
    PyObject *done =
        PyObject_CallMethod(machine, "count_updates", "LL", (long long)at_ms, (long long)times);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int commit_one(const house *in, PyObject *machine, write_ *write, i64 *reads) {
    client_state *client = NULL;
    if (!is_none(write->client) && (client = client_of(write->client)) == NULL) return -1;
    outcome result = in->machine->fast ? apply_fast(in, write) : SLOW;
    if (result == SLOW) {
        PyObject *done = PyObject_CallMethod(machine, "commit_one", "O", (PyObject *)write);
        Py_XDECREF(done);
        result = done == NULL ? FAULT : DONE;
    }
    if (result == FAULT) return -1;
    if (is_none(write->client)) return 0; /* its connection is gone, maybe just now */
    queue *pending = (queue *)client->pending;
    if (pending->count > 0) Py_DECREF(queue_pop(pending));
    return resume(in, machine, client, reads);
}

PyDoc_STRVAR(commit_doc, "commit(machine, zxid)\n--\n\n"
                         "Apply every waiting write up to ``zxid``, in order, and answer it.");

static PyObject *commit(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *machine;
    i64 zxid, at_ms = 0, alike = 0, reads = 0; /* writes of the same time are counted together */
    house in;
    if (!PyArg_ParseTuple(args, "OL", &machine, &zxid) || !house_of(machine, &in)) return NULL;
    queue *waiting = (queue *)in.machine->waiting;
    while (waiting->count > 0) {
        PyObject *head = queue_head(waiting);
        if (!is_a(head, write_type, "first write")) return NULL;
        if (((prepared *)((write_ *)head)->prepared)->zxid > zxid) break;
        write_ *write = (write_ *)queue_pop(waiting);
        int failed = 0;
        if (write->at_ms != at_ms) {
            failed = count_updates(machine, at_ms, alike);
            at_ms = write->at_ms;
            alike = 0;
        }
        if (failed == 0) failed = commit_one(&in, machine, write, &reads);
        alike++;
        drop(write);
        if (failed < 0 || !house_of(machine, &in)) return NULL;
    }
    if (count_updates(machine, at_ms, alike) < 0 || count_reads(&in, reads) < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- the module ---- */

PyDoc_STRVAR(
    tell_doc,
    "tell(open_acl, created, deleted, data_changed, children_changed, long_answer_bytes)\n--\n\n"
    "Say which objects of Python's stand for the open ACL and the events, and what a long answer "
    "is.");

static PyObject *tell(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *told[5];
    PyObject **places[] = {&open_acl, &node_created, &node_deleted, &data_changed,
                           &children_changed};
    if (!PyArg_ParseTuple(args, "O!OOOOn", &PyTuple_Type, &told[0], &told[1], &told[2], &told[3],
                          &told[4], &long_answer_bytes))
        return NULL;
    for (int n = 0; n < 5; n++) {
        PyObject *before = *places[n];
        *places[n] = Py_NewRef(told[n]);
        Py_XDECREF(before);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(digest_doc, "digest_of(path, node)\n--\n\n"
                         "Return the digest of a znode, here or to come.");

static PyObject *digest_object(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *path, *node;
    unsigned digest;
    if (!PyArg_ParseTuple(args, "UO", &path, &node)) return NULL;
    if (Py_TYPE(node) != znode_type && Py_TYPE(node) != change_type) {
        PyErr_SetString(PyExc_TypeError, "a Znode or a Change has a digest");
        return NULL;
    }
    if (!digest_any(path, (numbers *)node, &digest)) return NULL;
    return PyLong_FromUnsignedLong(digest);
}

PyDoc_STRVAR(replay_doc,
             "replay(tree, payload)\n--\n\n"
             "Apply a transaction of a log, if it is plain; return the digest it carries, "
             "None if none, or False: it is Python's to apply.");
PyDoc_STRVAR(load_doc,
             "load(tree, data, at, field_bytes_max)\n--\n\n"
             "Take the plain znodes of a snapshot; return where the first other one begins.");

static PyMethodDef functions[] = {{"feed", feed, METH_VARARGS, feed_doc},
                                  {"commit", commit, METH_VARARGS, commit_doc},
                                  {"tell", tell, METH_VARARGS, tell_doc},
                                  {"digest_of", digest_object, METH_VARARGS, digest_doc},
                                  {"load", snapshot_load, METH_VARARGS, load_doc},
                                  {"replay", replay, METH_VARARGS, replay_doc},
                                  {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "_fast",
                                        "The plain requests of a ZooKeeper, in C.",
                                        -1,
                                        functions,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

static int api_add(PyObject *module) {
    static fast_api api;
    api = (fast_api){feed_frames, spread_add, sizes_add,   client_type,  machine_type,
                     tree_type,   queue_type, spread_type, traffic_type, sizes_type};
    PyObject *capsule = PyCapsule_New(&api, FAST_API_NAME, NULL);
    int result = capsule == NULL ? -1 : PyModule_AddObjectRef(module, "api", capsule);
    Py_XDECREF(capsule);
    return result;
}

PyMODINIT_FUNC PyInit__fast(void) {
    numbers_begin();
    open_acl = PyTuple_New(0); /* until `tell`: no ACL is it */
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL &&
        (open_acl == NULL || types_add(module) < 0 || walk_add(module) < 0 || api_add(module) < 0))
        Py_CLEAR(module);
    return module;
}
