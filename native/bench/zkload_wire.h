/* zkload_wire.h -- the few frames of ZooKeeper's protocol that a load needs; all big-endian.
 *
 *   frame     | length 4 | body |                         length of the body
 *   connect   | protocol 4 = 0 | last zxid 8 | timeout 4 | session 8 = 0 | 16 | password 16 | ro 1 |
 *   welcome   | protocol 4 | timeout 4 | session 8 | 16 | password 16 | ro 1 |   timeout 0: refused
 *   request   | xid 4 | op 4 | path | ...
 *     create    path | value | 1 ACL: 31 "world" "anyone" | flags 4 = 0
 *     get       path | watch 1            exists    path | watch 1
 *     set       path | value | version 4 = -1
 *   reply     | xid 4 | zxid 8 | err 4 | body, if err is 0 |
 *     create    path                      get       value | Stat 68
 *     set       Stat 68                   exists    Stat 68
 *   event     | -1 | zxid 8 | 0 | type 4 | state 4 | path |
 *
 * A path or a value is its length, 4 bytes, and its bytes.
 *
 * Source: zookeeper.jute. */
#ifndef STRATALOG_BENCH_ZKLOAD_WIRE_H
#define STRATALOG_BENCH_ZKLOAD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    OP_CREATE = 1,
    OP_EXISTS = 3,
    OP_GET = 4,
    OP_SET = 5,
    OP_PING = 11,
    XID_EVENT = -1,
    XID_PING = -2,
    EVENT_DATA_CHANGED = 3,
    STATE_CONNECTED = 3,
    ERR_NODE_EXISTS = -110,
    STAT_BYTES = 68,
    CONNECT_BYTES = 45,
    WELCOME_BYTES = 37,
    REPLY_HEADER_BYTES = 16,
    REQUEST_HEADER_BYTES = 8,
    PATH_BYTES_MAX = 128,
    /* a request without its path and value: length, header, lengths, ACL, flags */
    REQUEST_BYTES_MAX = 4 + REQUEST_HEADER_BYTES + 4 + 4 + 4 + 4 + 9 + 10 + 4
};

static inline uint8_t *put_i32(uint8_t *at, int32_t value) {
    uint32_t swapped = __builtin_bswap32((uint32_t)value);
    memcpy(at, &swapped, sizeof swapped);
    return at + sizeof swapped;
}

static inline uint8_t *put_i64(uint8_t *at, int64_t value) {
    uint64_t swapped = __builtin_bswap64((uint64_t)value);
    memcpy(at, &swapped, sizeof swapped);
    return at + sizeof swapped;
}

static inline uint8_t *put_bytes(uint8_t *at, const void *data, size_t bytes) {
    at = put_i32(at, (int32_t)bytes);
    memcpy(at, data, bytes);
    return at + bytes;
}

static inline int32_t get_i32(const uint8_t *at) {
    uint32_t raw;
    memcpy(&raw, at, sizeof raw);
    return (int32_t)__builtin_bswap32(raw);
}

static inline int64_t get_i64(const uint8_t *at) {
    uint64_t raw;
    memcpy(&raw, at, sizeof raw);
    return (int64_t)__builtin_bswap64(raw);
}

/* Write the frame of a first request; returns its end. */
static inline uint8_t *put_connect(uint8_t *at, int32_t timeout_ms) {
    static const uint8_t password[16];
    at = put_i32(at, CONNECT_BYTES);
    at = put_i32(at, 0);
    at = put_i64(at, 0);
    at = put_i32(at, timeout_ms);
    at = put_i64(at, 0);
    at = put_bytes(at, password, sizeof password);
    *at = 0;
    return at + 1;
}

typedef struct {
    int32_t xid;
    int32_t op;
    bool watch; /* of get and exists */
    const char *path;
    size_t path_bytes;
    const uint8_t *value; /* of create and set */
    size_t value_bytes;
} request;

/* Write a request's frame; returns its end. */
static inline uint8_t *put_request(uint8_t *start, const request *wanted) {
    uint8_t *at = put_i32(start + 4, wanted->xid);
    at = put_i32(at, wanted->op);
    if (wanted->op != OP_PING) at = put_bytes(at, wanted->path, wanted->path_bytes);
    switch (wanted->op) {
    case OP_CREATE:
        at = put_bytes(at, wanted->value, wanted->value_bytes);
        at = put_i32(at, 1);
        at = put_i32(at, 31);
        at = put_bytes(at, "world", 5);
        at = put_bytes(at, "anyone", 6);
        at = put_i32(at, 0);
        break;
    case OP_SET:
        at = put_bytes(at, wanted->value, wanted->value_bytes);
        at = put_i32(at, -1);
        break;
    case OP_GET:
    case OP_EXISTS: *at++ = wanted->watch; break;
    default: break;
    }
    (void)put_i32(start, (int32_t)(at - start - 4));
    return at;
}

/* Tell whether `bytes` at `at` begin with this string or buffer; `after` is its end. */
static inline bool is_bytes(const uint8_t *at, size_t left, const void *data, size_t bytes,
                            const uint8_t **after) {
    if (left < 4 + bytes || get_i32(at) != (int32_t)bytes) return false;
    *after = at + 4 + bytes;
    return memcmp(at + 4, data, bytes) == 0;
}

#endif
