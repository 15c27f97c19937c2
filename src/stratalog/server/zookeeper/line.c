/* line.c -- stratalog.server.zookeeper._line: a connection's bytes on the short way.
 *
 *     event loop --> turn --> epoll_wait --> synced, if the log has news: server.py
 *                                        --> recv(2), of each that has something
 *                                              |
 *     transport --> data_received --------------+-- whole frames, few, nothing odd --> feed --> speak --> send(2)
 *                                               |
 *                                               +-- anything else --> received_oddly: connection.py, frames.py
 *
 * Line is the base of a server's connections, Hub of the server.  A connection that is plain is watched:
 * its transport is told to pause, and the hub reads its socket itself, all that are readable in one turn,
 * which settles once for all of them.  After news of a sync it looks again: who was answered first has
 * asked again by then.  Whatever is no data, such as an end or an error, the transport is
 * told to find out by itself.  What came is handed to the machine by the C of the machine
 * (fast/module.c); what is to be said leaves by the connection's own descriptor, as long as its transport
 * holds nothing back; and what goes by is counted.  Python decides what is odd: the first frame, 4-letter
 * words, a cut frame, crowds, farewells, a reader that does not read, TLS (whose descriptor is -1 here).
 *
 *     plain     nothing is kept of what came before, and everything that comes is taken
 *     watched   the hub reads it, and its transport does not
 *     held      the transport has bytes that have not left: all that follows goes through it
 *
 * The interpreter's lock is held; nothing here waits. */

#include "members.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    FRAMES_MAX = 8,
    PIECES_MAX = 64,
    OWN_XID_SIGN = 0x80,
    EVENTS_MAX = 128,
    READ_BYTES = 256 << 10
};

typedef struct {
    PyObject_HEAD PyObject *machine, *by_client, *failure, *reply_sizes;
    i64 waiting_bytes, outstanding_bytes_max, reads_seen, turn_began_ms, heard;
    bounds within;
    char settling, turning;
    int poller;
    PyObject **watched; /* by descriptor: a connection; None: news of the log; NULL: not watched */
    int watched_end;
    char *read;
} hub;

typedef struct {
    PyObject_HEAD PyObject *hub, *client, *traffic, *latency;
    i64 asked_at_ms, last_latency_ms, answered_at_ms, last_zxid, waiting_bytes;
    int fd, watched_fd; /* -1: not watched */
    char plain, held, stopped;
    char header[REQUEST_HEADER_BYTES], own_header[REQUEST_HEADER_BYTES];
    char has_header, has_own_header;
} line;

static const fast_api *fast;
static PyTypeObject *hub_type, *line_type;

static i64 clock_ms(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (i64)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static outcome call(PyObject *object, const char *name) {
    PyObject *done = PyObject_CallMethod(object, name, NULL);
    Py_XDECREF(done);
    return done == NULL ? FAULT : DONE;
}

/* ---- what is to be said ---- */

static void count_sent(line *self, const client_state *client, i64 now_ms, i64 zxid,
                       Py_ssize_t count, i64 bytes) {
    traffic_counts *traffic = (traffic_counts *)self->traffic;
    traffic->sent += count;
    traffic->sent_bytes += bytes - LENGTH_BYTES * count;
    if (self->asked_at_ms == 0) return;
    self->last_latency_ms = now_ms - self->asked_at_ms;
    self->asked_at_ms = ((queue *)client->pending)->count > 0 ? now_ms : 0;
    self->answered_at_ms = now_ms;
    self->last_zxid = zxid;
}

/* Send what a client was told: DONE if it left, or the transport has the rest; SLOW: Python must. */
static outcome flush(hub *in, line *self, client_state *client, i64 now_ms, i64 zxid) {
    Py_ssize_t count = PyList_Size(client->out);
    if (self->fd < 0 || self->held || count == 0 || count > PIECES_MAX || self->stopped ||
        !is_none(client->farewell))
        return SLOW;
    struct iovec pieces[PIECES_MAX];
    i64 bytes = 0, least = INT64_MAX, greatest = 0, last = 0;
    for (Py_ssize_t n = 0; n < count; n++) {
        char *piece;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyList_GetItem(client->out, n), &piece, &size) < 0)
            return FAULT;
        pieces[n] = (struct iovec){piece, (size_t)size};
        bytes += size;
        last = size - LENGTH_BYTES;
        if (last < least) least = last;
        if (last > greatest) greatest = last;
    }
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
    const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    ssize_t sent = count == 1 ? send(self->fd, pieces[0].iov_base, pieces[0].iov_len, flags)
                              : sendmsg(self->fd, &message, flags);
    if (sent < 0) sent = 0; /* the transport tries again, and meets the same error */
    fast->sizes_add((size_counts *)in->reply_sizes, last, least, greatest);
    bool asked = self->asked_at_ms != 0;
    count_sent(self, client, now_ms, zxid, count, bytes);
    if (asked && fast->spread_add((spread_counts *)self->latency, self->last_latency_ms, count) < 0)
        return FAULT;
    outcome result = DONE;
    if (sent < bytes) {
        PyObject *done = PyObject_CallMethod((PyObject *)self, "send_rest", "n", (Py_ssize_t)sent);
        Py_XDECREF(done);
        if (done == NULL) result = FAULT;
    }
    if (PyList_SetSlice(client->out, 0, count, NULL) < 0) return FAULT;
    if (self->waiting_bytes > 0 && ((queue *)client->pending)->count == 0) {
        in->waiting_bytes -= self->waiting_bytes;
        self->waiting_bytes = 0;
    }
    return result;
}

static outcome say(hub *in, PyObject *who, i64 now_ms, i64 zxid) {
    client_state *client = (client_state *)who;
    client->talkative = 0;
    PyObject *found = PyDict_GetItemWithError(in->by_client, who);
    if (found == NULL) return PyErr_Occurred() ? FAULT : DONE;
    if (!is_a(found, line_type, "client's connection")) return FAULT;
    if (!is_a(client->pending, fast->queue_type, "client's queue") ||
        !is_a(client->out, &PyList_Type, "client's list of replies"))
        return FAULT;
    Py_INCREF(found);
    outcome result = flush(in, (line *)found, client, now_ms, zxid);
    if (result == SLOW) {
        PyObject *done =
            PyObject_CallMethod(found, "flush", "OLL", who, (long long)now_ms, (long long)zxid);
        Py_XDECREF(done);
        result = done == NULL ? FAULT : DONE;
    }
    Py_DECREF(found);
    return result;
}

static outcome count_reads(hub *in, const machine_state *machine, i64 waited_ms) {
    PyObject *answered = PyObject_GetAttrString(machine->statistics, "reads_answered");
    if (answered == NULL) return FAULT;
    i64 count = PyLong_AsLongLong(answered) - in->reads_seen;
    Py_DECREF(answered);
    if (PyErr_Occurred()) return FAULT;
    if (count == 0) return DONE;
    in->reads_seen += count;
    static const char *const names[] = {"reads", "latency"};
    for (int n = 0; n < 2; n++) {
        PyObject *spread = PyObject_GetAttrString(machine->statistics, names[n]);
        bool sound = spread != NULL && is_a(spread, fast->spread_type, "count of latencies");
        int failed = sound ? fast->spread_add((spread_counts *)spread, waited_ms, count) : -1;
        Py_XDECREF(spread);
        if (failed < 0) return FAULT;
    }
    return DONE;
}

/* Send what is to be sent; what is read was asked for at `asked_ms`, about. */
static outcome speak(hub *in, i64 asked_ms) {
    if (!is_a(in->machine, fast->machine_type, "server's machine") ||
        !is_a(in->by_client, &PyDict_Type, "table of connections") ||
        !is_a(in->reply_sizes, fast->sizes_type, "count of sizes"))
        return FAULT;
    machine_state *machine = (machine_state *)in->machine;
    if (!is_a(machine->tree, fast->tree_type, "tree") || machine->statistics == NULL) return FAULT;
    i64 now_ms = clock_ms(CLOCK_MONOTONIC), zxid = ((tree_state *)machine->tree)->last_zxid;
    if (count_reads(in, machine, now_ms - asked_ms) != DONE) return FAULT;
    PyObject *talkative = machine->talkative, *empty = PyList_New(0);
    if (empty == NULL) return FAULT;
    machine->talkative = empty;
    outcome result = DONE;
    for (Py_ssize_t n = 0; n < PyList_Size(talkative) && result == DONE; n++) {
        PyObject *who = Py_NewRef(PyList_GetItem(talkative, n));
        result = is_a(who, fast->client_type, "client") ? say(in, who, now_ms, zxid) : FAULT;
        Py_DECREF(who);
    }
    Py_DECREF(talkative);
    return result;
}

static PyObject *hub_speak(PyObject *self, PyObject *asked_ms) {
    i64 asked = PyLong_AsLongLong(asked_ms);
    if (asked == -1 && PyErr_Occurred()) return NULL;
    if (speak((hub *)self, asked) != DONE) return NULL;
    Py_RETURN_NONE;
}

/* ---- what comes ---- */

/* Whether these bytes are whole frames, few of them. */
static bool are_few_frames(const uint8_t *data, Py_ssize_t bytes, i64 frame_max) {
    Py_ssize_t at = 0;
    for (int n = 0; n < FRAMES_MAX && bytes - at >= LENGTH_BYTES; n++) {
        i64 length = (int32_t)get32(data + at);
        if (length < 0 || length > frame_max || length > bytes - at - LENGTH_BYTES) return false;
        at += LENGTH_BYTES + (Py_ssize_t)length;
        if (at == bytes) return true;
    }
    return false;
}

static void note(line *self, const uint8_t *data, const fed *all, Py_ssize_t bytes) {
    traffic_counts *traffic = (traffic_counts *)self->traffic;
    Py_ssize_t header =
        bytes - all->last < REQUEST_HEADER_BYTES ? bytes - all->last : REQUEST_HEADER_BYTES;
    traffic->received += all->frames;
    traffic->received_bytes += all->at;
    memcpy(self->header, data + all->last, (size_t)header);
    self->has_header = (char)header;
    if (header > 0 && !(data[all->last] & OWN_XID_SIGN)) {
        memcpy(self->own_header, self->header, (size_t)header);
        self->has_own_header = (char)header;
    }
}

/* SLOW: nothing has been taken. */
static outcome take(line *self, PyObject *data) {
    hub *in = (hub *)self->hub;
    if (!self->plain || in == NULL || !is_none(in->failure) || self->client == NULL ||
        !PyObject_TypeCheck(self->client, fast->client_type))
        return SLOW;
    client_state *client = (client_state *)self->client;
    char *memory;
    Py_ssize_t bytes;
    if (PyBytes_AsStringAndSize(data, &memory, &bytes) < 0) return FAULT;
    if (is_none(client->session) || !is_none(client->held) || !is_none(client->farewell) ||
        !are_few_frames((const uint8_t *)memory, bytes, in->within.frame_max))
        return SLOW;
    if (!is_a(in->machine, fast->machine_type, "server's machine") ||
        !is_a(client->pending, fast->queue_type, "client's queue"))
        return FAULT;
    in->heard++;
    machine_state *machine = (machine_state *)in->machine;
    if (!machine->fast) return SLOW; /* it may have a way of its own to wait */
    machine->now_ms = clock_ms(CLOCK_MONOTONIC);
    machine->wall_ms = clock_ms(CLOCK_REALTIME);
    i64 asked_ms = machine->now_ms;
    if (self->asked_at_ms == 0) self->asked_at_ms = asked_ms;
    fed all = {0, 0, 0, false}, more;
    do {
        if (fast->feed(in->machine, self->client, data, all.at, &in->within, &more) < 0)
            return FAULT;
        more.frames += all.frames;
        all = more;
    } while (!all.bounded && all.at < bytes);
    note(self, (const uint8_t *)memory, &all, bytes);
    i64 waiting = ((queue *)client->pending)->count;
    if (waiting > 0) {
        self->waiting_bytes += all.at;
        in->waiting_bytes += all.at;
    }
    if (all.bounded || waiting > in->within.pending_max ||
        (waiting > 0 && in->waiting_bytes > in->outstanding_bytes_max)) {
        PyObject *done = PyObject_CallMethod((PyObject *)self, "leave", "On", data, all.at);
        Py_XDECREF(done);
        if (done == NULL) return FAULT;
    }
    if (in->settling) return DONE;
    if (PyList_Size(machine->proposals) > 0) return call((PyObject *)in, "begin_settling");
    return speak(in, asked_ms);
}

/* ---- reading what is watched ---- */

static PyObject *system_refused(void) { return PyErr_SetFromErrno(PyExc_OSError); }

static PyObject *hub_open_poller(PyObject *self, PyObject *unused) {
    (void)unused;
    hub *in = (hub *)self;
    if (in->poller >= 0) return PyErr_Format(PyExc_RuntimeError, "there is a poller");
    if (in->read == NULL) in->read = malloc(READ_BYTES);
    if (in->read == NULL) return PyErr_NoMemory();
    in->poller = epoll_create1(EPOLL_CLOEXEC);
    return in->poller < 0 ? system_refused() : PyLong_FromLong(in->poller);
}

static void let_go(hub *in, int fd) {
    epoll_ctl(in->poller, EPOLL_CTL_DEL, fd, NULL); /* it is there */
    Py_CLEAR(in->watched[fd]);                      /* this may be the last of it */
}

static void stop_watching(hub *in, line *self) {
    int fd = self->watched_fd;
    self->watched_fd = -1;
    if (fd >= 0) let_go(in, fd);
}

/* Nobody is watched any more. */
static void close_poller(hub *in) {
    for (int fd = 0; fd < in->watched_end; fd++) {
        if (in->watched[fd] == Py_None)
            let_go(in, fd);
        else if (in->watched[fd] != NULL)
            stop_watching(in, (line *)in->watched[fd]);
    }
    if (in->poller >= 0) close(in->poller);
    in->poller = -1;
    free(in->watched);
    free(in->read);
    in->watched = NULL;
    in->read = NULL;
    in->watched_end = 0;
}

static PyObject *hub_close_poller(PyObject *self, PyObject *unused) {
    (void)unused;
    close_poller((hub *)self);
    Py_RETURN_NONE;
}

static bool make_place(hub *in, int fd) {
    if (fd < in->watched_end) return true;
    int end = fd + 64;
    PyObject **places = realloc(in->watched, (size_t)end * sizeof *places);
    if (places == NULL) return false;
    for (int n = in->watched_end; n < end; n++) places[n] = NULL;
    in->watched = places;
    in->watched_end = end;
    return true;
}

/* Watch a descriptor for somebody; false with an exception set. */
static bool begin_watching(hub *in, int fd, PyObject *who, uint32_t events) {
    if (in == NULL || in->poller < 0 || fd < 0) {
        PyErr_SetString(PyExc_RuntimeError, "there is nobody to watch it, or nothing to watch");
        return false;
    }
    if (!make_place(in, fd)) {
        PyErr_NoMemory();
        return false;
    }
    if (in->watched[fd] != NULL) {
        PyErr_Format(PyExc_RuntimeError, "another has descriptor %d", fd);
        return false;
    }
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(in->poller, EPOLL_CTL_ADD, fd, &event) < 0) {
        system_refused();
        return false;
    }
    in->watched[fd] = Py_NewRef(who);
    return true;
}

/* An eventfd is told of once each time it is added to: nobody need read it. */
static PyObject *hub_watch_log(PyObject *self, PyObject *descriptor) {
    long fd = PyLong_AsLong(descriptor);
    if (fd == -1 && PyErr_Occurred()) return NULL;
    hub *in = (hub *)self;
    const uint32_t events = EPOLLIN | EPOLLET;
    if (fd >= 0 && fd < in->watched_end && in->watched[fd] == Py_None) {
        /* Watched before; unless that one was closed, and this is another with its number. */
        struct epoll_event event = {.events = events, .data.fd = (int)fd};
        if (epoll_ctl(in->poller, EPOLL_CTL_ADD, (int)fd, &event) < 0 && errno != EEXIST)
            return system_refused();
    } else if (!begin_watching(in, (int)fd, Py_None, events)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *hub_unwatch_log(PyObject *self, PyObject *descriptor) {
    hub *in = (hub *)self;
    long fd = PyLong_AsLong(descriptor);
    if (fd == -1 && PyErr_Occurred()) return NULL;
    if (fd >= 0 && fd < in->watched_end && in->watched[fd] == Py_None) let_go(in, (int)fd);
    Py_RETURN_NONE;
}

static PyObject *line_watch(PyObject *object, PyObject *unused) {
    (void)unused;
    line *self = (line *)object;
    if (self->watched_fd >= 0) Py_RETURN_NONE;
    if (!begin_watching((hub *)self->hub, self->fd, object, EPOLLIN)) return NULL;
    self->watched_fd = self->fd;
    Py_RETURN_NONE;
}

static PyObject *line_unwatch(PyObject *object, PyObject *unused) {
    (void)unused;
    line *self = (line *)object;
    if (self->hub != NULL) stop_watching((hub *)self->hub, self);
    Py_RETURN_NONE;
}

static outcome receive(line *self, PyObject *data) {
    outcome result = take(self, data);
    if (result != SLOW) return result;
    PyObject *done = PyObject_CallMethod((PyObject *)self, "received_oddly", "O", data);
    Py_XDECREF(done);
    return done == NULL ? FAULT : DONE;
}

/* An exception that nobody expects: what it left half done must not go on.  Returns NULL. */
static PyObject *broken(line *self) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (self->hub != NULL) {
        PyObject *told =
            PyObject_CallMethod(self->hub, "broken", "O", value == NULL ? Py_None : value);
        if (told == NULL) PyErr_WriteUnraisable(self->hub);
        Py_XDECREF(told);
    }
    PyErr_Restore(type, value, trace);
    return NULL;
}

static PyObject *line_received(PyObject *self, PyObject *data) {
    if (!PyBytes_Check(data)) return PyObject_CallMethod(self, "received_oddly", "O", data);
    Py_INCREF(self); /* it may be closed meanwhile */
    outcome result = receive((line *)self, data);
    Py_DECREF(self);
    if (result == FAULT) return broken((line *)self);
    Py_RETURN_NONE;
}

static outcome hear(hub *in, line *self, uint32_t events) {
    ssize_t got = 0;
    if (!(events & (EPOLLERR | EPOLLHUP))) {
        got = recv(self->watched_fd, in->read, READ_BYTES, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return DONE;
    }
    if (got <= 0) return call((PyObject *)self, "hear_transport");
    PyObject *data = PyBytes_FromStringAndSize(in->read, got);
    if (data == NULL) return FAULT;
    outcome result = receive(self, data);
    Py_DECREF(data);
    return result;
}

/* Take what came to all that are watched; tell whether the log had news. */
static outcome look(hub *in, bool *news) {
    struct epoll_event events[EVENTS_MAX];
    int count = in->poller < 0 ? 0 : epoll_wait(in->poller, events, EVENTS_MAX, 0);
    outcome result = DONE;
    *news = false;
    for (int n = 0; n < count; n++) {
        int fd = events[n].data.fd;
        *news = *news || (fd < in->watched_end && in->watched[fd] == Py_None);
    }
    if (*news) result = call((PyObject *)in, "synced");
    for (int n = 0; n < count && result == DONE; n++) {
        int fd = events[n].data.fd;
        PyObject *found = fd < in->watched_end ? in->watched[fd] : NULL;
        if (found == NULL || found == Py_None) continue; /* it was closed in this very turn */
        Py_INCREF(found);
        result = hear(in, (line *)found, events[n].events);
        Py_DECREF(found);
    }
    return result;
}

static PyObject *hub_turn(PyObject *self, PyObject *unused) {
    (void)unused;
    hub *in = (hub *)self;
    bool news;
    in->turning = 1;
    outcome result = look(in, &news);
    if (result == DONE && news) result = look(in, &news);
    in->turning = 0;
    if (result == DONE && in->settling) result = call(self, "settle");
    if (result != DONE) return NULL;
    Py_RETURN_NONE;
}

/* ---- the types ---- */

static PyMemberDef hub_members[] = {OWNED(hub, machine, "machine"),
                                    OWNED(hub, by_client, "_by_client"),
                                    OBJECT(hub, failure, "failure"),
                                    OWNED(hub, reply_sizes, "reply_sizes"),
                                    NUMBER(hub, waiting_bytes, "waiting_bytes"),
                                    NUMBER(hub, outstanding_bytes_max, "_outstanding_bytes_max"),
                                    NUMBER(hub, reads_seen, "_reads_seen"),
                                    NUMBER(hub, within.frame_max, "_frame_bytes_max"),
                                    NUMBER(hub, within.answer_max, "_answer_bytes_max"),
                                    NUMBER(hub, within.pending_max, "_pending_max"),
                                    NUMBER(hub, within.slow_max, "_slow_max"),
                                    NUMBER(hub, turn_began_ms, "_turn_began_ms"),
                                    NUMBER(hub, heard, "_heard"),
                                    FLAG(hub, settling, "_settling"),
                                    FLAG(hub, turning, "_turning"),
                                    END};
static PyMethodDef hub_methods[] = {
    {"speak", hub_speak, METH_O, "Send what is to be sent; it was asked for at this time, ms."},
    {"open_poller", hub_open_poller, METH_NOARGS,
     "Return what is readable when ``turn`` has work."},
    {"turn", hub_turn, METH_NOARGS, "Take what came to the connections that are watched."},
    {"watch_log", hub_watch_log, METH_O,
     "Call ``synced`` in a turn when this eventfd is added to."},
    {"unwatch_log", hub_unwatch_log, METH_O, "Do so no more."},
    {"close_poller", hub_close_poller, METH_NOARGS, "Watch none any more."},
    {NULL, NULL, 0, NULL}};

static int hub_set(PyObject *self, PyObject *value, void *unused) {
    (void)unused;
    if (value == NULL || !is_a(value, hub_type, "server")) return -1;
    if (((line *)self)->watched_fd >= 0) {
        PyErr_SetString(PyExc_RuntimeError, "another server watches it");
        return -1;
    }
    PyObject *before = ((line *)self)->hub;
    ((line *)self)->hub = Py_NewRef(value);
    Py_XDECREF(before);
    return 0;
}

static PyObject *hub_get(PyObject *self, void *unused) {
    (void)unused;
    PyObject *server = ((line *)self)->hub;
    return Py_NewRef(server == NULL ? Py_None : server);
}

static int counts_set(PyObject *self, PyObject *value, void *traffic) {
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "counts stay");
        return -1;
    }
    if (!is_a(value, traffic != NULL ? fast->traffic_type : fast->spread_type, "counts")) return -1;
    PyObject **place = traffic != NULL ? &((line *)self)->traffic : &((line *)self)->latency;
    PyObject *before = *place;
    *place = Py_NewRef(value);
    Py_XDECREF(before);
    return 0;
}

static PyObject *counts_get(PyObject *self, void *traffic) {
    PyObject *counts = traffic != NULL ? ((line *)self)->traffic : ((line *)self)->latency;
    return Py_NewRef(counts == NULL ? Py_None : counts);
}

static PyObject *is_watched(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(((line *)self)->watched_fd >= 0);
}

static PyObject *header_get(PyObject *self, void *own) {
    line *one = (line *)self;
    return own != NULL ? PyBytes_FromStringAndSize(one->own_header, one->has_own_header)
                       : PyBytes_FromStringAndSize(one->header, one->has_header);
}

static int header_set(PyObject *self, PyObject *value, void *own) {
    line *one = (line *)self;
    char *bytes;
    Py_ssize_t size;
    if (value == NULL || PyBytes_AsStringAndSize(value, &bytes, &size) < 0) return -1;
    if (size > REQUEST_HEADER_BYTES) {
        PyErr_SetString(PyExc_ValueError, "a header has at most 8 bytes");
        return -1;
    }
    memcpy(own != NULL ? one->own_header : one->header, bytes, (size_t)size);
    *(own != NULL ? &one->has_own_header : &one->has_header) = (char)size;
    return 0;
}

static PyMemberDef line_members[] = {OBJECT(line, client, "client"),
                                     NUMBER(line, asked_at_ms, "_asked_at_ms"),
                                     NUMBER(line, last_latency_ms, "last_latency_ms"),
                                     NUMBER(line, answered_at_ms, "answered_at_ms"),
                                     NUMBER(line, last_zxid, "last_zxid"),
                                     NUMBER(line, waiting_bytes, "_waiting_bytes"),
                                     SMALL(line, fd, "fd"),
                                     FLAG(line, plain, "_plain"),
                                     FLAG(line, held, "_held"),
                                     FLAG(line, stopped, "_stopped"),
                                     END};
static char yes; /* its address tells the one field from the other */
static PyGetSetDef line_getset[] = {{"_server", hub_get, hub_set, NULL, NULL},
                                    {"is_watched", is_watched, NULL, NULL, NULL},
                                    {"traffic", counts_get, counts_set, NULL, &yes},
                                    {"latency", counts_get, counts_set, NULL, NULL},
                                    {"last_header", header_get, header_set, NULL, NULL},
                                    {"last_own_header", header_get, header_set, NULL, &yes},
                                    {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef line_methods[] = {{"data_received", line_received, METH_O, "Take what came."},
                                     {"watch", line_watch, METH_NOARGS, "Let the hub read it."},
                                     {"unwatch", line_unwatch, METH_NOARGS, "The hub stops."},
                                     {NULL, NULL, 0, NULL}};

static PyObject *new_one(PyTypeObject *type, PyObject *args, PyObject *named) {
    (void)args;
    (void)named;
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    if (PyType_IsSubtype(type, line_type))
        ((line *)self)->fd = ((line *)self)->watched_fd = -1;
    else
        ((hub *)self)->poller = -1;
    return self;
}

static void free_one(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    free_memory(self);
    Py_DECREF(type);
}

static int hub_visit(PyObject *self, visitproc visit, void *arg) {
    hub *one = (hub *)self;
    Py_VISIT(one->machine);
    Py_VISIT(one->by_client);
    Py_VISIT(one->failure);
    Py_VISIT(one->reply_sizes);
    for (int fd = 0; fd < one->watched_end; fd++) Py_VISIT(one->watched[fd]);
    return 0;
}

static int hub_clear(PyObject *self) {
    hub *one = (hub *)self;
    close_poller(one);
    Py_CLEAR(one->machine);
    Py_CLEAR(one->by_client);
    Py_CLEAR(one->failure);
    Py_CLEAR(one->reply_sizes);
    return 0;
}

static void hub_free(PyObject *self) {
    PyObject_GC_UnTrack(self);
    hub_clear(self);
    free_one(self);
}

static int line_visit(PyObject *self, visitproc visit, void *arg) {
    line *one = (line *)self;
    Py_VISIT(one->hub);
    Py_VISIT(one->client);
    Py_VISIT(one->traffic);
    Py_VISIT(one->latency);
    return 0;
}

static int line_clear(PyObject *self) {
    line *one = (line *)self;
    if (one->hub != NULL) stop_watching((hub *)one->hub, one);
    Py_CLEAR(one->hub);
    Py_CLEAR(one->client);
    Py_CLEAR(one->traffic);
    Py_CLEAR(one->latency);
    return 0;
}

static void line_free(PyObject *self) {
    PyObject_GC_UnTrack(self);
    line_clear(self);
    free_one(self);
}

static PyType_Slot hub_slots[] = {SLOT(Py_tp_new, new_one),
                                  SLOT(Py_tp_dealloc, hub_free),
                                  SLOT(Py_tp_traverse, hub_visit),
                                  SLOT(Py_tp_clear, hub_clear),
                                  {Py_tp_members, hub_members},
                                  {Py_tp_methods, hub_methods},
                                  {0, NULL}};
static PyType_Slot line_slots[] = {SLOT(Py_tp_new, new_one),         SLOT(Py_tp_dealloc, line_free),
                                   SLOT(Py_tp_traverse, line_visit), SLOT(Py_tp_clear, line_clear),
                                   {Py_tp_members, line_members},    {Py_tp_getset, line_getset},
                                   {Py_tp_methods, line_methods},    {0, NULL}};

static PyTypeObject *type_add(PyObject *module, const char *name, size_t bytes,
                              PyType_Slot *slots) {
    PyType_Spec spec = {name, (int)bytes, 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
    PyObject *type = PyType_FromSpec(&spec);
    if (type != NULL && PyModule_AddObjectRef(module, strrchr(name, '.') + 1, type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "_line",
                                        "A connection's bytes on the short way.",
                                        -1,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

PyMODINIT_FUNC PyInit__line(void) {
    PyObject *machines = PyImport_ImportModule("stratalog.core.zookeeper._fast");
    if (machines == NULL) return NULL;
    Py_DECREF(machines); /* it stays among the loaded ones */
    PyObject *capsule = PyObject_GetAttrString(machines, "api");
    if (capsule == NULL) return NULL;
    fast = PyCapsule_GetPointer(capsule, FAST_API_NAME);
    Py_DECREF(capsule);
    if (fast == NULL) return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL) return NULL;
    hub_type = type_add(module, "stratalog.server.zookeeper._line.Hub", sizeof(hub), hub_slots);
    line_type = type_add(module, "stratalog.server.zookeeper._line.Line", sizeof(line), line_slots);
    if (hub_type == NULL || line_type == NULL) Py_CLEAR(module);
    return module;
}
