/* zkload.h -- what the parts of stratalog-zkload share.
 *
 *   zkload.c             commands, options, the lines of JSON
 *   zkload_client.c      connections: handshake, windows, replies checked against what was asked
 *   zkload_watches.c     watches set and fired, idle sessions held
 *   zkload_echo.c        a server that answers at once and keeps nothing: the floor
 *   zkload_histogram.h   latencies        zkload_wire.h   bytes
 *
 * A complaint is one line on standard error and status 1; then no figure stands on standard
 * output, so that a failed run can never be taken for one. */
#ifndef STRATALOG_BENCH_ZKLOAD_H
#define STRATALOG_BENCH_ZKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zkload_histogram.h"
#include "zkload_wire.h"

/* ---- settings ---------------------------------------------------------------------------------- */

typedef struct {
    const char *host; /* an IPv4 address */
    const char *name; /* of this run: part of the paths it creates */
    const char *op;   /* of `run`: create, set, get, exists, mix */
    const char *dir;  /* of `sync` */
    int64_t port;
    int64_t connections;
    int64_t window; /* requests of one connection under way */
    int64_t value_bytes;
    int64_t keys;         /* znodes that get, set, exists and mix choose from */
    int64_t count;        /* requests to measure, watches, sessions; 0: by time */
    int64_t warmup_count; /* requests before */
    int64_t measure_ms;
    int64_t warmup_ms;
    int64_t timeout_ms; /* that sessions ask for */
    int64_t seed;
    int64_t pid;   /* of the server, whose processor time is taken; 0: none */
    int64_t steer; /* whether standard input says when it is over: see `run` */
} settings;

/* ---- complaints, memory, time ------------------------------------------------------------------- */

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die_system(const char *what);
void *memory(size_t count, size_t bytes);
int64_t now_ns(void);
/* User and system time of this process, and of another one; seconds. */
double own_cpu_seconds(void);
double cpu_seconds_of(int64_t pid);
void allow_many_descriptors(void);
/* The value of every znode: the same for all, so that each one that is read can be compared. */
void value_of_znodes(uint8_t *value, size_t bytes);

/* ---- connections -------------------------------------------------------------------------------- */

/* A request under way: what its reply is checked against. */
typedef struct {
    int64_t sent_ns;
    uint64_t item; /* which znode: path_of knows its path */
    int32_t op;
    uint32_t mark; /* the load's, when it was sent */
} flight;

typedef struct connection {
    int fd;
    uint32_t number;
    bool welcome; /* the session is there */
    bool polled_for_write;
    int32_t timeout_ms; /* that the server granted */
    int32_t next_xid;
    int32_t first_xid; /* of the oldest flight */
    int64_t last_zxid;
    uint64_t asked;  /* the caller's own count */
    flight *flights; /* a ring of as many as a power of two */
    uint32_t flights_mask;
    uint32_t flights_first;
    uint32_t flights_count;
    uint8_t *in;
    size_t in_bytes;
    size_t in_capacity;
    uint8_t *out;
    size_t out_start;
    size_t out_end;
    size_t out_capacity;
} connection;

typedef struct {
    int64_t zxid;
    int32_t err;
    const uint8_t *body;
    size_t body_bytes;
} reply;

typedef struct load load;

struct load {
    const settings *s;
    int epoll;
    int64_t now_ns; /* of the latest turn */
    uint32_t mark;
    uint8_t *value; /* of every znode */
    connection *connections;
    uint32_t connections_count;
    uint32_t welcomes;
    uint64_t under_way; /* requests of all connections */
    /* The path of an item; returns its length. */
    size_t (*path_of)(const load *l, int32_t op, uint64_t item, char *path);
    /* A reply with the right xid and, without an error, the right body. */
    void (*replied)(load *l, connection *c, const flight *asked, const reply *got);
    void (*event)(load *l, connection *c, const char *path, size_t path_bytes); /* data changed */
    /* All that was read is handled: ask for more here. */
    void (*refill)(load *l, connection *c);
    void (*told)(load *l, char word); /* a byte from standard input; 0 at its end */
    void *more;                       /* the command's own */
};

void load_begin(load *l, const settings *s, uint32_t connections, size_t in_bytes);
void load_connect(load *l,
                  uint32_t number); /* begin one: its session is there at some later turn */
void load_steer(load *l);           /* listen to standard input */
void load_turn(load *l, int timeout_ms);
void load_end(load *l);
void ask(load *l, connection *c, int32_t op, bool watch, uint64_t item);
void ping(load *l, connection *c);
void flush_requests(load *l, connection *c);
/* Connect all, at most 64 at once. */
void load_connect_all(load *l);

/* ---- errors --------------------------------------------------------------------------------------- */

/* Count an error nobody expected. */
void count_error(int32_t code);
/* Complain if there were any. */
void check_errors(uint64_t requests);

/* ---- commands elsewhere ----------------------------------------------------------------------------- */

void watches(const settings *s);
void sessions(const settings *s);
void echo(const settings *s);

#endif
