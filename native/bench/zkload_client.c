/* zkload_client.c -- connections of a load, all on one epoll: asked in windows, checked in order.
 *
 *   load_connect --> connecting --> connect request sent --> welcome --> ask ... ask
 *                                                                         |
 *         refill <-- replied, event <-- each whole frame checked <-- one read of all there is
 *            |
 *            +--> requests into one buffer --> one write
 *
 * Every reply is checked: xids come in the order they were asked in, zxids of a connection never
 * fall, the body has the length and the bytes that belong to the request.  What does not fit ends
 * the program; an error code is counted and ends it later (check_errors), with the number of each.
 *
 * Time.  A request is sent when its batch is built, a reply is there when its read has returned:
 * what waits in this program is charged to the server, never the other way round.
 *
 * Addresses.  A server may limit the connections of one address, by default to 60.  To a loopback
 * address every 40 connections come from an address of their own, 127.0.0.2 and up, so that servers
 * are measured as they are shipped.
 *
 * Left to others: what is asked (zkload.c, zkload_watches.c). */
#define _GNU_SOURCE
#include "zkload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS_PER_ADDRESS = 40,
    CONNECTING_AT_ONCE = 64,
    EVENTS_AT_ONCE = 256,
    OUT_BYTES = 4096,
    FRAME_BYTES_MAX = 4 << 20,
    ERROR_CODES_MAX = 16
};

static const uint64_t STANDARD_INPUT = UINT64_MAX;

/* ---- errors --------------------------------------------------------------------------------------- */

static struct {
    int32_t code;
    uint64_t count;
} errors[ERROR_CODES_MAX];
static uint64_t errors_all;

void count_error(int32_t code) {
    errors_all++;
    for (size_t i = 0; i < ERROR_CODES_MAX; i++) {
        if (errors[i].count > 0 && errors[i].code != code) continue;
        errors[i].code = code;
        errors[i].count++;
        return;
    }
}

void check_errors(uint64_t requests) {
    if (errors_all == 0) return;
    char text[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < ERROR_CODES_MAX && errors[i].count > 0; i++) {
        int n = snprintf(text + used, sizeof text - used, "%s%d x %llu", i > 0 ? ", " : "",
                         errors[i].code, (unsigned long long)errors[i].count);
        if (n < 0 || (size_t)n >= sizeof text - used) break;
        used += (size_t)n;
    }
    die("%llu of %llu requests failed: %s", (unsigned long long)errors_all,
        (unsigned long long)requests, text);
}

/* ---- sending ---------------------------------------------------------------------------------------- */

static void poll_for(load *l, connection *c, bool write, int how) {
    struct epoll_event wanted = {.events = EPOLLIN | (write ? EPOLLOUT : 0U),
                                 .data.u64 = c->number};
    if (epoll_ctl(l->epoll, how, c->fd, &wanted) != 0) die_system("epoll_ctl");
    c->polled_for_write = write;
}

static uint8_t *room(connection *c, size_t bytes) {
    if (c->out_end + bytes > c->out_capacity) {
        size_t kept = c->out_end - c->out_start;
        size_t capacity = c->out_capacity;
        while (capacity < kept + bytes) capacity *= 2;
        uint8_t *out = memory(capacity, 1);
        memcpy(out, c->out + c->out_start, kept);
        free(c->out);
        c->out = out;
        c->out_capacity = capacity;
        c->out_start = 0;
        c->out_end = kept;
    }
    return c->out + c->out_end;
}

void flush_requests(load *l, connection *c) {
    while (c->out_start < c->out_end) {
        ssize_t n = send(c->fd, c->out + c->out_start, c->out_end - c->out_start, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            if (!c->polled_for_write) poll_for(l, c, true, EPOLL_CTL_MOD);
            return;
        }
        if (n < 0) die_system("sending to the server");
        c->out_start += (size_t)n;
    }
    c->out_start = c->out_end = 0;
    if (c->polled_for_write) poll_for(l, c, false, EPOLL_CTL_MOD);
}

void ask(load *l, connection *c, int32_t op, bool watch, uint64_t item) {
    if (c->flights_count > c->flights_mask) die("more requests under way than the window has");
    char path[PATH_BYTES_MAX];
    request wanted = {.xid = c->next_xid, .op = op, .watch = watch, .path = path};
    wanted.path_bytes = l->path_of(l, op, item, path);
    wanted.value = l->value;
    wanted.value_bytes = (size_t)l->s->value_bytes;
    uint8_t *at = room(c, REQUEST_BYTES_MAX + wanted.path_bytes + wanted.value_bytes);
    c->out_end += (size_t)(put_request(at, &wanted) - at);
    flight *asked = &c->flights[(c->flights_first + c->flights_count++) & c->flights_mask];
    *asked = (flight){.sent_ns = l->now_ns, .item = item, .op = op, .mark = l->mark};
    c->next_xid++;
    l->under_way++;
}

void ping(load *l, connection *c) {
    request wanted = {.xid = XID_PING, .op = OP_PING};
    uint8_t *at = room(c, REQUEST_BYTES_MAX);
    c->out_end += (size_t)(put_request(at, &wanted) - at);
    flush_requests(l, c);
}

/* ---- connecting ------------------------------------------------------------------------------------- */

static void choose_address(const load *l, const connection *c, uint32_t target) {
    if (target >> 24 != 127 || l->connections_count <= CONNECTIONS_PER_ADDRESS) return;
    int late = 1; /* the port is chosen at connect: as many for each address */
    (void)setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    struct sockaddr_in own = {.sin_family = AF_INET};
    own.sin_addr.s_addr = htonl(0x7f000002U + c->number / CONNECTIONS_PER_ADDRESS);
    if (bind(c->fd, (const struct sockaddr *)&own, sizeof own) != 0) die_system("bind");
}

void load_connect(load *l, uint32_t number) {
    connection *c = &l->connections[number];
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->s->port)};
    if (inet_pton(AF_INET, l->s->host, &server.sin_addr) != 1) die("--host is an IPv4 address");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die_system("socket");
    int on = 1;
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die_system("TCP_NODELAY");
    choose_address(l, c, ntohl(server.sin_addr.s_addr));
    if (connect(c->fd, (const struct sockaddr *)&server, sizeof server) != 0 &&
        errno != EINPROGRESS)
        die_system("connect");
    uint8_t *at = room(c, 4 + CONNECT_BYTES);
    c->out_end += (size_t)(put_connect(at, (int32_t)l->s->timeout_ms) - at);
    poll_for(l, c, true, EPOLL_CTL_ADD);
}

void load_begin(load *l, const settings *s, uint32_t connections, size_t in_bytes) {
    allow_many_descriptors();
    l->s = s;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) die_system("epoll_create1");
    l->connections = memory(connections, sizeof *l->connections);
    l->connections_count = connections;
    l->value = memory((size_t)s->value_bytes, 1);
    value_of_znodes(l->value, (size_t)s->value_bytes);
    uint32_t flights = 1;
    while (flights < s->window) flights *= 2;
    for (uint32_t i = 0; i < connections; i++) {
        l->connections[i] = (connection){.fd = -1,
                                         .number = i,
                                         .next_xid = 1,
                                         .first_xid = 1,
                                         .flights = memory(flights, sizeof(flight)),
                                         .flights_mask = flights - 1,
                                         .in = memory(in_bytes, 1),
                                         .in_capacity = in_bytes,
                                         .out = memory(OUT_BYTES, 1),
                                         .out_capacity = OUT_BYTES};
    }
    l->now_ns = now_ns();
}

void load_steer(load *l) {
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = STANDARD_INPUT};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &wanted) != 0)
        die_system("standard input must be a pipe");
}

void load_connect_all(load *l) {
    for (uint32_t begun = 0; l->welcomes < l->connections_count;) {
        while (begun < l->connections_count && begun - l->welcomes < CONNECTING_AT_ONCE)
            load_connect(l, begun++);
        load_turn(l, -1);
    }
}

void load_end(load *l) {
    for (uint32_t i = 0; i < l->connections_count; i++) {
        connection *c = &l->connections[i];
        if (c->fd >= 0) close(c->fd);
        free(c->flights);
        free(c->in);
        free(c->out);
    }
    free(l->connections);
    free(l->value);
    close(l->epoll);
}

/* ---- replies ---------------------------------------------------------------------------------------- */

static void check_body(const load *l, const connection *c, const flight *asked, const reply *got) {
    const uint8_t *at = got->body;
    const uint8_t *end = at + got->body_bytes;
    bool right = true;
    size_t stat_bytes = STAT_BYTES;
    if (asked->op == OP_CREATE) {
        char path[PATH_BYTES_MAX];
        size_t bytes = l->path_of(l, asked->op, asked->item, path);
        right = is_bytes(at, (size_t)(end - at), path, bytes, &at);
        stat_bytes = 0;
    } else if (asked->op == OP_GET) {
        right = is_bytes(at, (size_t)(end - at), l->value, (size_t)l->s->value_bytes, &at);
    }
    if (!right || (size_t)(end - at) != stat_bytes)
        die("connection %u, xid %d, op %d: a wrong answer of %zu bytes", c->number, c->first_xid,
            asked->op, got->body_bytes);
}

static void take_event(load *l, connection *c, const reply *got) {
    const uint8_t *at = got->body;
    if (got->body_bytes < 12 || get_i32(at) != EVENT_DATA_CHANGED ||
        get_i32(at + 4) != STATE_CONNECTED || l->event == NULL ||
        (size_t)get_i32(at + 8) != got->body_bytes - 12)
        die("connection %u: an event that nobody asked for", c->number);
    l->event(l, c, (const char *)at + 12, got->body_bytes - 12);
}

static void take_reply(load *l, connection *c, const uint8_t *body, size_t bytes) {
    if (bytes < REPLY_HEADER_BYTES) die("connection %u: a reply of %zu bytes", c->number, bytes);
    int32_t xid = get_i32(body);
    reply got = {.zxid = get_i64(body + 4),
                 .err = get_i32(body + 12),
                 .body = body + REPLY_HEADER_BYTES,
                 .body_bytes = bytes - REPLY_HEADER_BYTES};
    if (xid == XID_EVENT) {
        take_event(l, c, &got);
        return;
    }
    if (xid == XID_PING && got.err == 0) return;
    if (c->flights_count == 0 || xid != c->first_xid)
        die("connection %u: xid %d where %d was due", c->number, xid, c->first_xid);
    if (got.zxid < c->last_zxid)
        die("connection %u, xid %d: the zxid fell from 0x%llx to 0x%llx", c->number, xid,
            (unsigned long long)c->last_zxid, (unsigned long long)got.zxid);
    c->last_zxid = got.zxid;
    flight asked = c->flights[c->flights_first++ & c->flights_mask];
    if (got.err == 0)
        check_body(l, c, &asked, &got);
    else if (got.body_bytes != 0)
        die("connection %u, xid %d: an error with a body", c->number, xid);
    c->flights_count--;
    c->first_xid++;
    l->under_way--;
    l->replied(l, c, &asked, &got);
}

static void take_welcome(load *l, connection *c, const uint8_t *body, size_t bytes) {
    if (bytes != WELCOME_BYTES) die("connection %u: a welcome of %zu bytes", c->number, bytes);
    c->timeout_ms = get_i32(body + 4);
    if (c->timeout_ms <= 0 || get_i64(body + 8) == 0)
        die("connection %u: the server gives no session", c->number);
    c->welcome = true;
    l->welcomes++;
}

/* Handle the whole frames of what was read; keep the rest. */
static void take_frames(load *l, connection *c) {
    size_t at = 0;
    size_t need = 0;
    while (c->in_bytes - at >= 4) {
        int32_t length = get_i32(c->in + at);
        if (length < 0 || length > FRAME_BYTES_MAX)
            die("connection %u: a frame of %d bytes", c->number, length);
        if (c->in_bytes - at - 4 < (size_t)length) {
            need = 4 + (size_t)length;
            break;
        }
        const uint8_t *body = c->in + at + 4;
        at += 4 + (size_t)length;
        if (c->welcome)
            take_reply(l, c, body, (size_t)length);
        else
            take_welcome(l, c, body, (size_t)length);
    }
    c->in_bytes -= at;
    memmove(c->in, c->in + at, c->in_bytes);
    if (need > c->in_capacity) {
        uint8_t *in = memory(need, 1);
        memcpy(in, c->in, c->in_bytes);
        free(c->in);
        c->in = in;
        c->in_capacity = need;
    }
}

/* Read once; returns whether there was anything. */
static bool take_input(load *l, connection *c) {
    ssize_t n = recv(c->fd, c->in + c->in_bytes, c->in_capacity - c->in_bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n < 0) die_system("receiving from the server");
    if (n == 0) die("connection %u: the server closed it", c->number);
    c->in_bytes += (size_t)n;
    l->now_ns = now_ns();
    take_frames(l, c);
    return true;
}

static void take_word(load *l) {
    char word = 0;
    ssize_t n = read(STDIN_FILENO, &word, 1);
    if (n < 0) die_system("standard input");
    if (n == 0 && epoll_ctl(l->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL) != 0)
        die_system("epoll_ctl");
    l->told(l, word);
}

void load_turn(load *l, int timeout_ms) {
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = epoll_wait(l->epoll, events, EVENTS_AT_ONCE, timeout_ms);
    if (count < 0 && errno != EINTR) die_system("epoll_wait");
    l->now_ns = now_ns();
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == STANDARD_INPUT) {
            take_word(l);
            continue;
        }
        connection *c = &l->connections[events[i].data.u64];
        bool came = (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && take_input(l, c);
        if (came && c->welcome && l->refill != NULL) l->refill(l, c);
        if (c->out_end > c->out_start) flush_requests(l, c);
    }
}
