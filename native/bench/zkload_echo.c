/* zkload_echo.c -- a server that answers as ZooKeeper does and keeps nothing: the floor of a load.
 *
 *   a read of all there is --> each whole frame: a reply of the right length --> one write
 *
 * What is measured against it is the loop of the load, the loopback and the kernel, with the same
 * bytes in both directions: every request is answered, a get with the value that the load expects,
 * a create with its path.  It prints where it listens and ends when standard input does. */
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

enum { DESCRIPTORS_MAX = 70000, BACKLOG = 1024, IN_BYTES = 1 << 18, EVENTS_AT_ONCE = 256 };

typedef struct {
    bool welcome;
    size_t in_bytes;
    size_t out_start;
    size_t out_end;
    size_t out_capacity;
    uint8_t *out;
    uint8_t in[IN_BYTES];
} guest;

typedef struct {
    int epoll;
    int listener;
    const settings *s;
    const uint8_t *value;
    guest **guests; /* by descriptor */
} host;

static void add(const host *h, int fd, uint32_t events, int how) {
    struct epoll_event wanted = {.events = events, .data.fd = fd};
    if (epoll_ctl(h->epoll, how, fd, &wanted) != 0) die_system("epoll_ctl");
}

static uint8_t *reserve(guest *g, size_t bytes) {
    if (g->out_end + bytes > g->out_capacity) {
        g->out_capacity = 2 * (g->out_end + bytes);
        uint8_t *out = realloc(g->out, g->out_capacity);
        if (out == NULL) die("no memory for %zu bytes", g->out_capacity);
        g->out = out;
    }
    return g->out + g->out_end;
}

static void answer_connect(guest *g, int32_t timeout_ms) {
    static const uint8_t password[16];
    uint8_t *start = reserve(g, 4 + WELCOME_BYTES);
    uint8_t *at = put_i32(start, WELCOME_BYTES);
    at = put_i32(at, 0);
    at = put_i32(at, timeout_ms);
    at = put_i64(at, 1);
    at = put_bytes(at, password, sizeof password);
    *at++ = 0;
    g->out_end += (size_t)(at - start);
    g->welcome = true;
}

static void answer(const host *h, guest *g, const uint8_t *body, size_t bytes) {
    size_t value_bytes = (size_t)h->s->value_bytes;
    int32_t op = bytes >= REQUEST_HEADER_BYTES ? get_i32(body + 4) : 0;
    size_t left = bytes >= REQUEST_HEADER_BYTES + 4 ? bytes - REQUEST_HEADER_BYTES - 4 : 0;
    int32_t path_bytes = op != OP_PING && left > 0 ? get_i32(body + REQUEST_HEADER_BYTES) : 0;
    if (op == 0 || path_bytes < 0 || (size_t)path_bytes > left)
        die("a request of %zu bytes", bytes);
    size_t most = 4 + REPLY_HEADER_BYTES + 4 + value_bytes + STAT_BYTES + (size_t)path_bytes;
    uint8_t *start = reserve(g, most);
    uint8_t *at = put_i32(start + 4, get_i32(body));
    at = put_i64(at, 1);
    at = put_i32(at, 0);
    if (op == OP_CREATE) at = put_bytes(at, body + REQUEST_HEADER_BYTES + 4, (size_t)path_bytes);
    if (op == OP_GET) at = put_bytes(at, h->value, value_bytes);
    if (op == OP_GET || op == OP_SET || op == OP_EXISTS) {
        memset(at, 0, STAT_BYTES);
        at += STAT_BYTES;
    }
    (void)put_i32(start, (int32_t)(at - start - 4));
    g->out_end += (size_t)(at - start);
}

static void take(const host *h, guest *g) {
    size_t at = 0;
    while (g->in_bytes - at >= 4) {
        int32_t length = get_i32(g->in + at);
        if (length < 0 || length > IN_BYTES - 4) die("a frame of %d bytes", length);
        if (g->in_bytes - at - 4 < (size_t)length) break;
        const uint8_t *body = g->in + at + 4;
        if (g->welcome)
            answer(h, g, body, (size_t)length);
        else if (length >= CONNECT_BYTES - 1)
            answer_connect(g, get_i32(body + 12));
        else
            die("a first frame of %d bytes", length);
        at += 4 + (size_t)length;
    }
    g->in_bytes -= at;
    memmove(g->in, g->in + at, g->in_bytes);
}

static void part(const host *h, int fd) {
    free(h->guests[fd]->out);
    free(h->guests[fd]);
    h->guests[fd] = NULL;
    close(fd);
}

static void say(const host *h, guest *g, int fd) {
    bool waited = g->out_start > 0;
    while (g->out_start < g->out_end) {
        ssize_t n = send(fd, g->out + g->out_start, g->out_end - g->out_start, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            add(h, fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        if (n < 0) {
            part(h, fd);
            return;
        }
        g->out_start += (size_t)n;
        waited = waited || g->out_start < g->out_end;
    }
    g->out_start = g->out_end = 0;
    if (waited) add(h, fd, EPOLLIN, EPOLL_CTL_MOD);
}

static void welcome_guest(const host *h) {
    int fd = accept4(h->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED)) return;
    if (fd < 0) die_system("accept");
    if (fd >= DESCRIPTORS_MAX) die("more than %d connections", DESCRIPTORS_MAX);
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die_system("TCP_NODELAY");
    h->guests[fd] = memory(1, sizeof(guest));
    add(h, fd, EPOLLIN, EPOLL_CTL_ADD);
}

static void serve_guest(const host *h, int fd, uint32_t events) {
    guest *g = h->guests[fd];
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        ssize_t n = recv(fd, g->in + g->in_bytes, IN_BYTES - g->in_bytes, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            part(h, fd);
            return;
        }
        if (n > 0) {
            g->in_bytes += (size_t)n;
            take(h, g);
        }
    }
    if (g->out_end > g->out_start) say(h, g, fd);
}

static void begin_listening(host *h) {
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)h->s->port)};
    if (inet_pton(AF_INET, h->s->host, &own.sin_addr) != 1) die("--host is an IPv4 address");
    h->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (h->listener < 0 || setsockopt(h->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(h->listener, (const struct sockaddr *)&own, sizeof own) != 0 ||
        listen(h->listener, BACKLOG) != 0)
        die_system("listening");
    socklen_t bytes = sizeof own;
    if (getsockname(h->listener, (struct sockaddr *)&own, &bytes) != 0) die_system("getsockname");
    (void)printf("listening on %s:%d\n", h->s->host, ntohs(own.sin_port));
    if (fflush(stdout) != 0) die_system("standard output");
}

void echo(const settings *s) {
    allow_many_descriptors();
    uint8_t *value = memory((size_t)s->value_bytes, 1);
    value_of_znodes(value, (size_t)s->value_bytes);
    host h = {.s = s, .value = value, .guests = memory(DESCRIPTORS_MAX, sizeof(guest *))};
    h.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (h.epoll < 0) die_system("epoll_create1");
    begin_listening(&h);
    add(&h, h.listener, EPOLLIN, EPOLL_CTL_ADD);
    add(&h, STDIN_FILENO, EPOLLIN, EPOLL_CTL_ADD);
    for (bool over = false; !over;) {
        struct epoll_event events[EVENTS_AT_ONCE];
        int count = epoll_wait(h.epoll, events, EVENTS_AT_ONCE, -1);
        if (count < 0 && errno != EINTR) die_system("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            char word;
            if (fd == STDIN_FILENO)
                over = read(fd, &word, 1) <= 0 || over;
            else if (fd == h.listener)
                welcome_guest(&h);
            else if (h.guests[fd] != NULL)
                serve_guest(&h, fd, events[i].events);
        }
    }
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
        if (h.guests[fd] != NULL) part(&h, fd);
    free(h.guests);
    free(value);
    close(h.listener);
    close(h.epoll);
}
