/* zkload_watches.c -- many watches, and many sessions that do nothing.
 *
 *   watches   every connection reads each of COUNT / C znodes and leaves a watch; one more
 *             connection, which watches nothing, then sets each znode once: C events for a set
 *
 *       {"watches", "set_seconds", "fire_seconds", "sets", "events", ...}
 *
 *     fire_seconds is from the first set to the last event.  An event must be for a znode that this
 *     connection watches, and there is one for each: a second one, or none, is a complaint.
 *
 *   sessions  COUNT sessions, at most 64 being opened at a time
 *
 *       {"sessions", "open_seconds"}    once all are open, then they are held
 *
 *     Each is kept with a ping at a third of what the server granted, until standard input ends.
 *     A server that closes one ends the program. */
#define _GNU_SOURCE
#include "zkload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WATCHER_IN_BYTES = 1 << 16, SESSION_IN_BYTES = 512, TURN_MS = 50 };

/* ---- watches ------------------------------------------------------------------------------------- */

static const char PARENT[] = "/zkload";
static const char STEM[] = "/zkload/w";
enum { STEM_BYTES = sizeof STEM - 1, DIGITS = 7 };

typedef enum { MAKE, WATCH, FIRE } stage;

typedef struct {
    stage stage;
    uint64_t znodes;
    uint64_t next; /* of the connection that makes and sets */
    uint64_t events;
    bool *seen; /* by connection and znode */
} watch_state;

/* Item 0 is the parent; znode i is item i + 1. */
static size_t watch_path(const load *l, int32_t op, uint64_t item, char *path) {
    (void)l;
    (void)op;
    if (item == 0) {
        memcpy(path, PARENT, sizeof PARENT - 1);
        return sizeof PARENT - 1;
    }
    memcpy(path, STEM, STEM_BYTES);
    uint64_t number = item - 1;
    for (int i = DIGITS - 1; i >= 0; i--, number /= 10)
        path[STEM_BYTES + i] = (char)('0' + number % 10);
    return STEM_BYTES + DIGITS;
}

static bool is_setter(const load *l, const connection *c) {
    return c->number == l->connections_count - 1;
}

static void watch_refill(load *l, connection *c) {
    watch_state *w = l->more;
    while (c->flights_count < (uint32_t)l->s->window) {
        if (is_setter(l, c) && w->stage == MAKE && w->next <= w->znodes)
            ask(l, c, OP_CREATE, false, w->next++);
        else if (!is_setter(l, c) && w->stage == WATCH && c->asked < w->znodes)
            ask(l, c, OP_GET, true, ++c->asked);
        else if (is_setter(l, c) && w->stage == FIRE && w->next <= w->znodes)
            ask(l, c, OP_SET, false, w->next++);
        else
            return;
    }
}

static void watch_replied(load *l, connection *c, const flight *asked, const reply *got) {
    const watch_state *w = l->more;
    if (w->stage == MAKE && got->err == ERR_NODE_EXISTS) {
        if (asked->item > 0) ask(l, c, OP_SET, false, asked->item);
    } else if (got->err != 0) {
        count_error(got->err);
    }
}

static void watch_event(load *l, connection *c, const char *path, size_t path_bytes) {
    watch_state *w = l->more;
    uint64_t number = 0;
    bool right = path_bytes == STEM_BYTES + DIGITS && memcmp(path, STEM, STEM_BYTES) == 0;
    for (size_t i = STEM_BYTES; right && i < path_bytes; i++) {
        right = path[i] >= '0' && path[i] <= '9';
        number = number * 10 + (uint64_t)(path[i] - '0');
    }
    if (!right || w->stage != FIRE || is_setter(l, c) || number >= w->znodes)
        die("connection %u: an event for %.*s, which it does not watch", c->number, (int)path_bytes,
            path);
    bool *seen = &w->seen[(uint64_t)c->number * w->znodes + number];
    if (*seen) die("connection %u: a second event for %.*s", c->number, (int)path_bytes, path);
    *seen = true;
    w->events++;
}

/* Let every connection work through a stage; returns how long it took. */
static double work_through(load *l, watch_state *w, stage next, uint64_t events) {
    int64_t begun_ns = now_ns();
    l->now_ns = begun_ns;
    w->stage = next;
    w->next = next == MAKE ? 0 : 1;
    for (uint32_t i = 0; i < l->connections_count; i++) {
        watch_refill(l, &l->connections[i]);
        flush_requests(l, &l->connections[i]);
    }
    while (l->under_way > 0 || w->events < events) load_turn(l, -1);
    check_errors(w->znodes);
    return (double)(now_ns() - begun_ns) / 1e9;
}

void watches(const settings *s) {
    if (s->count < 1 || s->count % s->connections != 0)
        die("--count is how many watches: a multiple of --connections");
    uint64_t wanted = (uint64_t)s->count;
    watch_state w = {.znodes = wanted / (uint64_t)s->connections,
                     .seen = memory(wanted, sizeof(bool))};
    load l = {.path_of = watch_path, .replied = watch_replied, .event = watch_event, .more = &w};
    load_begin(&l, s, (uint32_t)s->connections + 1, WATCHER_IN_BYTES);
    load_connect_all(&l);
    l.refill = watch_refill;
    (void)work_through(&l, &w, MAKE, 0);
    double set_seconds = work_through(&l, &w, WATCH, 0);
    double cpu_before = cpu_seconds_of(s->pid);
    double fire_seconds = work_through(&l, &w, FIRE, wanted);
    double cpu_seconds = cpu_seconds_of(s->pid) - cpu_before;
    (void)printf("{\"watches\": %" PRIu64 ", \"connections\": %" PRId64
                 ", \"set_seconds\": %.9f, \"sets\": %" PRIu64 ", \"events\": %" PRIu64
                 ", \"fire_seconds\": %.9f, \"server_cpu_seconds\": %.3f}\n",
                 wanted, s->connections, set_seconds, w.znodes, w.events, fire_seconds,
                 cpu_seconds);
    load_end(&l);
    free(w.seen);
}

/* ---- sessions ------------------------------------------------------------------------------------- */

static void session_told(load *l, char word) {
    if (word == 0) *(bool *)l->more = true;
}

void sessions(const settings *s) {
    if (s->count < 1 || s->count > 65535) die("--count is how many sessions: 1 to 65535");
    settings own = *s;
    own.window = 1;
    bool over = false;
    load l = {.told = session_told, .more = &over};
    load_begin(&l, &own, (uint32_t)s->count, SESSION_IN_BYTES);
    int64_t begun_ns = now_ns();
    load_connect_all(&l);
    (void)printf("{\"sessions\": %" PRIu32 ", \"timeout_ms\": %d, \"open_seconds\": %.9f}\n",
                 l.welcomes, l.connections[0].timeout_ms, (double)(now_ns() - begun_ns) / 1e9);
    if (fflush(stdout) != 0) die_system("standard output");
    load_steer(&l);
    /* One round of pings in a third of the timeout, spread over it. */
    int64_t round_ns = (int64_t)l.connections[0].timeout_ms * 1000000 / 3;
    int64_t round_begun_ns = now_ns();
    uint32_t pinged = 0;
    while (!over) {
        load_turn(&l, TURN_MS);
        double due = (double)(l.now_ns - round_begun_ns) / (double)round_ns;
        while (pinged < l.connections_count && (double)pinged < due * l.connections_count)
            ping(&l, &l.connections[pinged++]);
        if (pinged == l.connections_count && due >= 1.0) {
            pinged = 0;
            round_begun_ns = l.now_ns;
        }
    }
    load_end(&l);
}
