/* test_batch.c -- the record batch v2, byte by byte, and everything it is not.
 *
 * The golden batches below were built from Kafka's format table by a program that shares nothing with
 * the engine, its CRC computed bit by bit.  They are laid out as the header is:
 *
 *   base offset 8, length 4, leader epoch 4, magic 1 | CRC-32C 4 | attributes 2 .. count 4 | records
 *
 * What must never pass: a batch with one bit changed, cut short anywhere, or made by somebody who
 * knows the checksum and lies about counts and lengths.  Two fields may change unnoticed, since the
 * format leaves them outside the CRC so that a broker can assign them: base offset (bytes 0..7) and
 * leader epoch (bytes 12..15).  Base offsets are held against their neighbours by those who read
 * segments (test_recovery.c); a leader epoch is what it says.
 *
 * Every batch that is looked at ends where a page ends and the next one is forbidden, so that reading
 * one byte too far is a crash and not a guess, whatever the build. */
#define _GNU_SOURCE
#include "batch.h"

#include <limits.h>
#include <sys/mman.h>

#include "check.h"
#include "crc32c.h"

static const char one_record[] = /* 74 bytes: key k, value "value", offset 42 */
    "000000000000002a0000003effffffff02"
    "482a6e81"
    "0000000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff00000001"
    "18000000026b0a76616c756500";
static const char nulls[] = /* 82 bytes: null and null, empty key and null, null and empty value */
    "0000000000000000000000460000000502"
    "cf66779b"
    "0000000000020000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff00000003"
    "0c0000000101000c0000020001000c000004010000";
static const char with_headers[] = /* 80 bytes: h1=x, an empty name with null, h3 with nothing */
    "000000000000000700000044ffffffff02"
    "96eefba6"
    "0000000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff00000001"
    "24000000010276060468310278000104683300";
static const char commit_marker[] = /* 78 bytes: COMMIT of producer 77, coordinator epoch 12 */
    "00000000000003e8000000420000000902"
    "1c029d76"
    "0030000000000000018bcfe568000000018bcfe56800000000000000004d0003ffffffff00000001"
    "2000000008000000010c00000000000c00";
static const char log_append_time[] = /* 77 bytes */
    "000000000000000300000041ffffffff02"
    "16ac3a54"
    "0008000000010000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff00000002"
    "0e000000010261000e00000201026200";
static const char transactional[] = /* 79 bytes: offset 2^40, the last sequence before the wrap */
    "0000010000000000000000430000000202"
    "deca9653"
    "0010000000010000018bcfe568000000018bcfe568000000001cbe991a147fff7fffffff00000002"
    "100000000261023100100000020262023200";
static const char older_later[] = /* 89 bytes: timestamp deltas 0, -8193, 8192 */
    "00000000000000000000004dffffffff02"
    "59a7f570"
    "0000000000020000018bcfe568000000018bcfe58800ffffffffffffffffffffffffffff00000003"
    "0e000000010278001200818001020102790012008080010401027a00";
static const char value_64[] = /* 134 bytes: the first lengths that take two bytes */
    "00000000000000000000007affffffff02"
    "fecebcf6"
    "0000000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff00000001"
    "8e01000000018001000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
    "2425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f00";

enum { GUARDED_BYTES = 1 << 16 };
static const int64_t time_ms = 1700000000000;

static uint8_t *guarded; /* GUARDED_BYTES of memory, and a page after them that nobody may touch */

/* The same bytes, ending where the forbidden page begins. */
static uint8_t *at_edge(const uint8_t *data, size_t bytes) {
    uint8_t *copy = guarded + GUARDED_BYTES - bytes;
    memcpy(copy, data, bytes);
    return copy;
}

static size_t unhex(const char *hex, uint8_t *out) {
    size_t bytes = strlen(hex) / 2;
    for (size_t i = 0; i < bytes; i++) {
        unsigned value;
        if (sscanf(hex + 2 * i, "%2x", &value) != 1) abort();
        out[i] = (uint8_t)value;
    }
    return bytes;
}

static sl_records blank(int64_t count) {
    return (sl_records){.count = count,
                        .timestamp_ms = time_ms,
                        .codec_level = INT32_MIN,
                        .leader_epoch = -1,
                        .producer_epoch = -1,
                        .base_sequence = -1,
                        .producer_id = -1};
}

/* Make the checksum right again: what an attacker would do. */
static void reseal(uint8_t *batch, size_t bytes) {
    sl_put_u32(batch + SL_AT_CRC, sl_crc32c(0, batch + SL_AT_ATTRIBUTES, bytes - SL_AT_ATTRIBUTES));
}

/* ---- golden bytes ---- */

static void check_golden(const char *name, const char *hex, const sl_records *records,
                         int64_t base_offset) {
    uint8_t want[512];
    uint8_t got[512];
    size_t bytes = unhex(hex, want);
    int64_t n = sl_batch_encode(records, base_offset, got, sizeof got);
    CHECK_NOTE(n == (int64_t)bytes, "%s: %" PRId64 " bytes, not %zu", name, n, bytes);
    if (n != (int64_t)bytes) return;
    for (size_t i = 0; i < bytes; i++)
        CHECK_NOTE(got[i] == want[i], "%s: byte %zu is %02x, not %02x", name, i, got[i], want[i]);
    sl_batch_header header;
    CHECK_OK(sl_batch_check(at_edge(want, bytes), bytes, SL_CHECK_RECORDS, &header));
    CHECK_EQ(header.base_offset, base_offset);
    CHECK_EQ(header.last_offset, base_offset + records->count - 1);
    CHECK_EQ(header.batch_bytes, bytes);
    CHECK_EQ(header.leader_epoch, records->leader_epoch);
    CHECK_EQ(header.attributes, records->attributes);
    CHECK_EQ(header.record_count, records->count);
    CHECK_EQ(header.base_timestamp_ms, time_ms);
    CHECK_EQ(header.producer_id, records->producer_id);
    CHECK_EQ(header.producer_epoch, records->producer_epoch);
    CHECK_EQ(header.base_sequence, records->base_sequence);
}

static void test_golden(void) {
    static const uint8_t letters[] = "kvalueabxyz12";
    sl_records r = blank(1);
    int32_t key_bytes[3] = {1, 1, 1};
    int32_t value_bytes[3] = {5, 1, 1};
    r.keys = letters;
    r.key_bytes = key_bytes;
    r.values = letters + 1;
    r.value_bytes = value_bytes;
    check_golden("one record", one_record, &r, 42);

    r = blank(3);
    int32_t null_keys[3] = {-1, 0, -1};
    int32_t null_values[3] = {-1, -1, 0};
    r.keys = letters;
    r.key_bytes = null_keys;
    r.values = letters;
    r.value_bytes = null_values;
    r.leader_epoch = 5;
    check_golden("nulls", nulls, &r, 0);

    r = blank(1);
    static const uint8_t headers[] = {4, 'h', '1', 2, 'x', 0, 1, 4, 'h', '3', 0};
    int32_t headers_bytes = sizeof headers;
    int32_t headers_count = 3;
    r.values = letters + 1;
    r.uniform_value_bytes = 1;
    r.headers = headers;
    r.headers_bytes = &headers_bytes;
    r.headers_count = &headers_count;
    check_golden("headers", with_headers, &r, 7);

    r = blank(1);
    static const uint8_t marker_key[] = {0, 0, 0, 1};
    static const uint8_t marker_value[] = {0, 0, 0, 0, 0, 12};
    int32_t marker_key_bytes = sizeof marker_key;
    r.keys = marker_key;
    r.key_bytes = &marker_key_bytes;
    r.values = marker_value;
    r.uniform_value_bytes = sizeof marker_value;
    r.attributes = SL_ATTRIBUTE_TRANSACTIONAL | SL_ATTRIBUTE_CONTROL;
    r.leader_epoch = 9;
    r.producer_id = 77;
    r.producer_epoch = 3;
    check_golden("commit marker", commit_marker, &r, 1000);
    CHECK_EQ(strlen(commit_marker) / 2, 78);

    r = blank(2);
    r.values = letters + 6;
    r.uniform_value_bytes = 1;
    r.attributes = SL_ATTRIBUTE_LOG_APPEND_TIME;
    int64_t ignored[2] = {1, 2};
    check_golden("log append time", log_append_time, &r, 3);
    r.timestamps_ms = ignored; /* the log's time wins over the records' own */
    check_golden("log append time over others", log_append_time, &r, 3);

    r = blank(2);
    r.keys = letters + 6;
    r.key_bytes = key_bytes;
    r.values = letters + 11;
    r.uniform_value_bytes = 1;
    r.attributes = SL_ATTRIBUTE_TRANSACTIONAL;
    r.leader_epoch = 2;
    r.producer_id = 123456789012;
    r.producer_epoch = 32767;
    r.base_sequence = INT32_MAX;
    check_golden("transactional", transactional, &r, (int64_t)1 << 40);

    r = blank(3);
    int64_t times[3] = {time_ms, time_ms - 8193, time_ms + 8192};
    r.values = letters + 8;
    r.uniform_value_bytes = 1;
    r.timestamps_ms = times;
    check_golden("older and later", older_later, &r, 0);

    r = blank(1);
    uint8_t counting[64];
    for (unsigned i = 0; i < sizeof counting; i++) counting[i] = (uint8_t)i;
    r.values = counting;
    r.uniform_value_bytes = sizeof counting;
    check_golden("64 bytes", value_64, &r, 0);
}

/* ---- varints ---- */

static void test_varints(void) {
    uint8_t bytes[16];
    for (unsigned shift = 0; shift < 64; shift++) {
        for (int64_t step = -2; step <= 2; step++) {
            uint64_t z = ((uint64_t)1 << shift) + (uint64_t)step;
            size_t n = (size_t)(sl_put_varlong(bytes, z) - bytes);
            CHECK_EQ(n, sl_varlong_bytes(z));
            int64_t long_value;
            const uint8_t *edge = at_edge(bytes, n);
            CHECK(sl_get_varlong(edge, edge + n, &long_value) == edge + n);
            CHECK_EQ(sl_zigzag64(long_value), z);
            for (size_t cut = 0; cut < n; cut++) {
                edge = at_edge(bytes, cut);
                CHECK(sl_get_varlong(edge, edge + cut, &long_value) == NULL);
            }
            if (shift >= 32) continue;
            uint32_t z32 = (uint32_t)z;
            n = (size_t)(sl_put_varint(bytes, z32) - bytes);
            CHECK_EQ(n, sl_varint_bytes(z32));
            int32_t value;
            edge = at_edge(bytes, n);
            CHECK(sl_get_varint(edge, edge + n, &value) == edge + n);
            CHECK_EQ(sl_zigzag32(value), z32);
            for (size_t cut = 0; cut < n; cut++) {
                edge = at_edge(bytes, cut);
                CHECK(sl_get_varint(edge, edge + cut, &value) == NULL);
            }
        }
    }
    /* More bits than the type has, or more bytes than it may take. */
    static const uint8_t too_large[] = {0x80, 0x80, 0x80, 0x80, 0x10};
    static const uint8_t too_long[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    static const uint8_t too_large_64[] = {0x80, 0x80, 0x80, 0x80, 0x80,
                                           0x80, 0x80, 0x80, 0x80, 0x02};
    static const uint8_t too_long_64[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                          0x80, 0x80, 0x80, 0x80, 0x00};
    int32_t value;
    int64_t long_value;
    CHECK(sl_get_varint(too_large, too_large + sizeof too_large, &value) == NULL);
    CHECK(sl_get_varint(too_long, too_long + sizeof too_long, &value) == NULL);
    CHECK(sl_get_varlong(too_large_64, too_large_64 + sizeof too_large_64, &long_value) == NULL);
    CHECK(sl_get_varlong(too_long_64, too_long_64 + sizeof too_long_64, &long_value) == NULL);
    /* A number with idle leading zeros is still that number: Kafka takes it, so it is taken. */
    static const uint8_t idle[] = {0x82, 0x00};
    CHECK(sl_get_varint(idle, idle + 2, &value) == idle + 2 && value == 1);
}

/* Every length around which a record's framing grows by a byte. */
static void test_boundary_sizes(void) {
    static const int32_t sizes[] = {0,    1,    54,   55,   56,   57,   58,   63,      64,     65,
                                    8183, 8184, 8185, 8191, 8192, 8193, 8194, 1048566, 1048576};
    uint8_t *values = calloc(1, 1048576);
    uint8_t *out = malloc(1048576 + 200);
    REQUIRE(values != NULL && out != NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        sl_records r = blank(1);
        r.values = values;
        r.uniform_value_bytes = sizes[i];
        size_t body = 5 + sl_varint_bytes(sl_zigzag32(sizes[i])) + (size_t)sizes[i];
        size_t whole = SL_BATCH_OVERHEAD + sl_varint_bytes(sl_zigzag32((int32_t)body)) + body;
        CHECK_EQ(sl_batch_encode(&r, 0, out, whole), whole);
        CHECK_OK(sl_batch_check(out, whole, SL_CHECK_RECORDS, NULL));
        CHECK_FAILS(sl_batch_encode(&r, 0, out, whole - 1), SL_E_TOO_LARGE);
    }
    free(values);
    free(out);
}

/* ---- round trips ---- */

enum { ROUND_RECORDS = 40, ROUND_BYTES = 300 };

typedef struct round_trip {
    sl_records records;
    int32_t value_bytes[ROUND_RECORDS];
    int32_t key_bytes[ROUND_RECORDS];
    int32_t headers_bytes[ROUND_RECORDS];
    int32_t headers_count[ROUND_RECORDS];
    int64_t timestamps_ms[ROUND_RECORDS];
    uint8_t values[ROUND_RECORDS * ROUND_BYTES];
    uint8_t keys[ROUND_RECORDS * ROUND_BYTES];
    uint8_t headers[ROUND_RECORDS * 64];
} round_trip;

static void draw(round_trip *t) {
    t->records = blank(1 + check_below(ROUND_RECORDS));
    sl_records *r = &t->records;
    size_t header_at = 0;
    for (size_t i = 0; i < sizeof t->values; i++) {
        t->values[i] = (uint8_t)check_random();
        t->keys[i] = (uint8_t)check_random();
    }
    for (int64_t i = 0; i < r->count; i++) {
        t->value_bytes[i] = (int32_t)check_below(ROUND_BYTES + 1) - 1;
        t->key_bytes[i] = (int32_t)check_below(check_below(2) == 0 ? 2 : ROUND_BYTES + 1) - 1;
        int64_t spread = (int64_t)1 << check_below(40);
        t->timestamps_ms[i] = time_ms + check_below(spread) - spread / 2;
        t->headers_count[i] = (int32_t)check_below(3);
        size_t begun = header_at;
        for (int32_t h = 0; h < t->headers_count[i]; h++) {
            t->headers[header_at++] = 2;
            t->headers[header_at++] = (uint8_t)('a' + h);
            t->headers[header_at++] = h == 0 ? 1 : 0;
        }
        t->headers_bytes[i] = (int32_t)(header_at - begun);
    }
    r->values = t->values;
    r->value_bytes = t->value_bytes;
    if (check_below(2) == 0) {
        r->keys = t->keys;
        r->key_bytes = t->key_bytes;
    }
    if (check_below(2) == 0) {
        r->headers = t->headers;
        r->headers_bytes = t->headers_bytes;
        r->headers_count = t->headers_count;
    }
    if (check_below(2) == 0) r->timestamps_ms = t->timestamps_ms;
    if (check_below(4) == 0) {
        r->value_bytes = NULL;
        r->uniform_value_bytes = (int32_t)check_below(100);
    }
}

static void check_round_trip(const round_trip *t) {
    static uint8_t out[ROUND_RECORDS * (2 * ROUND_BYTES + 120) + SL_BATCH_OVERHEAD];
    const sl_records *r = &t->records;
    int64_t n = sl_batch_encode(r, 5, out, sizeof out);
    REQUIRE(n > 0);
    /* Exactly enough is enough, one byte less is refused, and nothing is written beyond. */
    uint8_t *exact = guarded + GUARDED_BYTES - n;
    CHECK_EQ(sl_batch_encode(r, 5, exact, (size_t)n), n);
    CHECK(memcmp(exact, out, (size_t)n) == 0);
    CHECK_FAILS(sl_batch_encode(r, 5, exact, (size_t)n - 1), SL_E_TOO_LARGE);
    sl_batch_header header;
    CHECK_OK(sl_batch_check(exact, (size_t)n, SL_CHECK_RECORDS, &header));
    CHECK_EQ(header.record_count, r->count);
    CHECK_EQ(header.last_offset, 5 + r->count - 1);
    const uint8_t *p = exact + SL_BATCH_OVERHEAD;
    const uint8_t *value = t->values;
    const uint8_t *key = t->keys;
    const uint8_t *headers = t->headers;
    int64_t largest = INT64_MIN;
    for (int64_t i = 0; i < r->count; i++) {
        sl_record_view view;
        p = sl_record_decode(p, exact + n, &view);
        REQUIRE(p != NULL);
        CHECK_EQ(view.offset_delta, i);
        int64_t want_ms = r->timestamps_ms != NULL ? r->timestamps_ms[i] : time_ms;
        CHECK_EQ(header.base_timestamp_ms + view.timestamp_delta_ms, want_ms);
        if (want_ms > largest) largest = want_ms;
        int32_t length = r->value_bytes != NULL ? r->value_bytes[i] : r->uniform_value_bytes;
        CHECK_EQ(view.value_bytes, length);
        CHECK((view.value == NULL) == (length < 0));
        if (length > 0) CHECK(memcmp(view.value, value, (size_t)length) == 0);
        value += length > 0 ? length : 0;
        length = r->keys != NULL ? r->key_bytes[i] : -1;
        CHECK_EQ(view.key_bytes, length);
        CHECK((view.key == NULL) == (length < 0));
        if (length > 0) CHECK(memcmp(view.key, key, (size_t)length) == 0);
        key += length > 0 ? length : 0;
        int32_t count = r->headers != NULL ? r->headers_count[i] : 0;
        CHECK_EQ(view.headers_count, count);
        CHECK(sl_record_headers_sound(view.headers, p, count));
        if (count > 0) CHECK(memcmp(view.headers, headers, (size_t)t->headers_bytes[i]) == 0);
        headers += t->headers_bytes[i];
    }
    CHECK(p == exact + n);
    CHECK_EQ(header.max_timestamp_ms, largest);
}

/* ---- damage ---- */

/* The bytes of a batch, and after them another one, so that a length grown by a flipped bit finds
 * bytes to run over. */
static void check_flips(uint8_t *data, size_t bytes, size_t beyond) {
    sl_batch_header sound;
    REQUIRE(sl_batch_check(data, bytes + beyond, SL_CHECK_RECORDS, &sound) == SL_OK);
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        size_t at = bit / 8;
        data[at] ^= (uint8_t)(1u << (bit % 8));
        sl_batch_header header;
        sl_status status = sl_batch_check(data, bytes + beyond, SL_CHECK_RECORDS, &header);
        bool free_field = at < 8 || (at >= 12 && at < 16);
        CHECK_NOTE(status != SL_OK || free_field, "bit %zu of byte %zu passed", bit % 8, at);
        if (status == SL_OK) {
            CHECK_EQ(header.record_count, sound.record_count);
            CHECK_EQ(header.batch_bytes, sound.batch_bytes);
            CHECK((at < 8) == (header.base_offset != sound.base_offset));
            CHECK((at >= 12) == (header.leader_epoch != sound.leader_epoch));
        }
        data[at] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void check_cuts(const uint8_t *data, size_t bytes) {
    for (size_t cut = 0; cut < bytes; cut++) {
        const uint8_t *edge = at_edge(data, cut);
        for (int32_t checks = SL_CHECK_HEADER; checks <= SL_CHECK_RECORDS; checks++)
            CHECK_FAILS(sl_batch_check(edge, cut, checks, NULL), SL_E_CORRUPT);
    }
}

static void test_damage(void) {
    static const char *const all[] = {one_record,      nulls,         with_headers, commit_marker,
                                      log_append_time, transactional, older_later};
    uint8_t data[2048];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        size_t bytes = unhex(all[i], data);
        size_t beyond = unhex(all[(i + 1) % 7], data + bytes);
        check_flips(data, bytes, 0);
        check_flips(data, bytes, beyond);
        check_cuts(data, bytes);
    }
    static round_trip t;
    for (int i = 0; i < 3; i++) {
        static uint8_t big[ROUND_RECORDS * (2 * ROUND_BYTES + 120)];
        do {
            draw(&t);
        } while (t.records.count > 12);
        int64_t n = sl_batch_encode(&t.records, 9, big, sizeof big / 2);
        REQUIRE(n > 0);
        memcpy(big + n, big, (size_t)n);
        check_flips(big, (size_t)n, (size_t)n);
        check_cuts(big, (size_t)n);
    }
}

/* ---- lies with a right checksum ---- */

typedef struct lie {
    const char *what;
    size_t at;
    int bytes;
    uint64_t value;
    sl_status header_status; /* what SL_CHECK_HEADER says */
    sl_status status;        /* what SL_CHECK_RECORDS says */
} lie;

static void test_hostile_headers(void) {
    /* Over `nulls`: 82 bytes, last offset delta 2, three records. */
    static const lie lies[] = {
        {"length 0", SL_AT_LENGTH, 4, 0, SL_E_CORRUPT, SL_E_CORRUPT},
        {"length 48", SL_AT_LENGTH, 4, 48, SL_E_CORRUPT, SL_E_CORRUPT},
        {"length 49 cuts the records off", SL_AT_LENGTH, 4, 49, SL_OK, SL_E_CORRUPT},
        {"length -1", SL_AT_LENGTH, 4, UINT32_MAX, SL_E_CORRUPT, SL_E_CORRUPT},
        {"length largest", SL_AT_LENGTH, 4, INT32_MAX, SL_E_CORRUPT, SL_E_CORRUPT},
        {"length smallest", SL_AT_LENGTH, 4, 0x80000000, SL_E_CORRUPT, SL_E_CORRUPT},
        {"length one more", SL_AT_LENGTH, 4, 71, SL_E_CORRUPT, SL_E_CORRUPT},
        {"magic 0", SL_AT_MAGIC, 1, 0, SL_E_UNSUPPORTED, SL_E_UNSUPPORTED},
        {"magic 1", SL_AT_MAGIC, 1, 1, SL_E_UNSUPPORTED, SL_E_UNSUPPORTED},
        {"magic 3", SL_AT_MAGIC, 1, 3, SL_E_CORRUPT, SL_E_CORRUPT},
        {"magic 255", SL_AT_MAGIC, 1, 255, SL_E_CORRUPT, SL_E_CORRUPT},
        {"base offset -1", SL_AT_BASE_OFFSET, 8, UINT64_MAX, SL_E_CORRUPT, SL_E_CORRUPT},
        {"last offset overflows", SL_AT_BASE_OFFSET, 8, INT64_MAX - 1, SL_E_CORRUPT, SL_E_CORRUPT},
        {"last offset just fits", SL_AT_BASE_OFFSET, 8, INT64_MAX - 3, SL_OK, SL_OK},
        {"delta -1", SL_AT_LAST_OFFSET_DELTA, 4, UINT32_MAX, SL_E_CORRUPT, SL_E_CORRUPT},
        {"delta too small", SL_AT_LAST_OFFSET_DELTA, 4, 1, SL_E_CORRUPT, SL_E_CORRUPT},
        {"delta too large is a compacted batch", SL_AT_LAST_OFFSET_DELTA, 4, 9, SL_OK, SL_OK},
        {"count -1", SL_AT_RECORD_COUNT, 4, UINT32_MAX, SL_E_CORRUPT, SL_E_CORRUPT},
        {"count 0 hides records: an emptied batch", SL_AT_RECORD_COUNT, 4, 0, SL_OK, SL_OK},
        {"count 2 leaves bytes", SL_AT_RECORD_COUNT, 4, 2, SL_OK, SL_E_CORRUPT},
        {"count 4", SL_AT_RECORD_COUNT, 4, 4, SL_E_CORRUPT, SL_E_CORRUPT},
        {"count largest", SL_AT_RECORD_COUNT, 4, INT32_MAX, SL_E_CORRUPT, SL_E_CORRUPT},
        {"codec 5 does not exist", SL_AT_ATTRIBUTES, 2, 5, SL_OK, SL_E_CORRUPT},
        {"codec 7 does not exist", SL_AT_ATTRIBUTES, 2, 7, SL_OK, SL_E_CORRUPT},
        {"codec 4 is not registered here: nobody can look inside", SL_AT_ATTRIBUTES, 2, 4, SL_OK,
         SL_OK},
        {"every other attribute", SL_AT_ATTRIBUTES, 2, 0xfff8, SL_OK, SL_OK},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        uint8_t data[256];
        size_t bytes = unhex(nulls, data);
        for (int k = 0; k < lies[i].bytes; k++)
            data[lies[i].at + (size_t)k] =
                (uint8_t)(lies[i].value >> (8 * (lies[i].bytes - 1 - k)));
        reseal(data, bytes);
        const uint8_t *edge = at_edge(data, bytes);
        sl_status status = sl_batch_check(edge, bytes, SL_CHECK_HEADER, NULL);
        CHECK_NOTE(status == lies[i].header_status, "%s: header check says %s", lies[i].what,
                   sl_status_name(status));
        status = sl_batch_check(edge, bytes, SL_CHECK_RECORDS, NULL);
        CHECK_NOTE(status == lies[i].status, "%s: full check says %s", lies[i].what,
                   sl_status_name(status));
    }
}

/* One batch around record bytes given as hex; refused, or taken if `sound`. */
static void check_records(const char *what, int32_t count, int32_t last_delta, const char *hex,
                          bool sound) {
    uint8_t data[512];
    (void)unhex(one_record, data);
    size_t bytes = SL_BATCH_OVERHEAD + unhex(hex, data + SL_BATCH_OVERHEAD);
    sl_put_u32(data + SL_AT_LENGTH, (uint32_t)(bytes - SL_LENGTH_BIAS));
    sl_put_u32(data + SL_AT_LAST_OFFSET_DELTA, (uint32_t)last_delta);
    sl_put_u32(data + SL_AT_RECORD_COUNT, (uint32_t)count);
    reseal(data, bytes);
    sl_status status = sl_batch_check(at_edge(data, bytes), bytes, SL_CHECK_RECORDS, NULL);
    CHECK_NOTE((status == SL_OK) == sound, "%s: %s", what, sl_status_name(status));
}

static void test_hostile_records(void) {
    check_records("the shape all others vary", 1, 0, "0c000000010100", true);
    check_records("length zero", 1, 0, "00", false);
    check_records("length -1", 1, 0, "01", false);
    check_records("length too long", 1, 0, "0e000000010100", false);
    check_records("length too short", 1, 0, "0a000000010100", false);
    check_records("length of six bytes", 1, 0, "8c8080808000000000010100", false);
    check_records("length of more than 32 bits", 1, 0, "8c80808010000000010100", false);
    check_records("length largest", 1, 0, "feffffff0f000000010100", false);
    check_records("an attribute byte and no more", 1, 0, "0200", false);
    check_records("timestamp delta of ten bytes", 1, 0, "1e00ffffffffffffffffff0100010100", true);
    check_records("timestamp delta of eleven bytes", 1, 0, "2000ffffffffffffffffffff0100010100",
                  false);
    check_records("key length -2", 1, 0, "0c000000030100", false);
    check_records("key longer than the record", 1, 0, "0c000000060100", false);
    check_records("value length -2", 1, 0, "0c000000010300", false);
    check_records("value longer than the record", 1, 0, "0c000000010800", false);
    check_records("no header count", 1, 0, "0a0000000101", false);
    check_records("header count -1", 1, 0, "0c000000010101", false);
    check_records("header count 1 and no header", 1, 0, "0c000000010102", false);
    check_records("header count largest", 1, 0, "140000000101feffffff0f", false);
    check_records("bytes after no headers", 1, 0, "0e00000001010000", false);
    check_records("one header", 1, 0, "12000000010102026101", true);
    check_records("header key -1", 1, 0, "100000000101020101", false);
    check_records("header value -2", 1, 0, "12000000010102026103", false);
    check_records("header value too long", 1, 0, "12000000010102026102", false);
    check_records("bytes after the headers", 1, 0, "1400000001010202610100", false);
    check_records("offset deltas rise", 2, 1, "0c0000000101000c000002010100", true);
    check_records("offset deltas leave gaps", 2, 9, "0c0000020101000c000012010100", true);
    check_records("offset delta twice", 2, 1, "0c0000020101000c000002010100", false);
    check_records("offset deltas fall", 2, 1, "0c0000020101000c000000010100", false);
    check_records("offset delta beyond the last", 2, 1, "0c0000000101000c000004010100", false);
    check_records("offset delta below zero", 1, 0, "0c000001010100", false);
    check_records("bytes after the last record", 1, 0, "0c00000001010000", false);
    check_records("a record too few", 2, 1, "0c000000010100", false);
}

static void test_refusals(void) {
    uint8_t out[256];
    sl_records r = blank(0);
    CHECK_FAILS(sl_batch_encode(&r, 0, out, sizeof out), SL_E_INVALID);
    r = blank(1);
    r.uniform_value_bytes = 4;
    CHECK_FAILS(sl_batch_encode(&r, 0, out, sizeof out), SL_E_INVALID);
    r.values = out;
    r.uniform_value_bytes = -1;
    CHECK_FAILS(sl_batch_encode(&r, 0, out, sizeof out), SL_E_INVALID);
    r.uniform_value_bytes = 1;
    r.keys = out;
    CHECK_FAILS(sl_batch_encode(&r, 0, out, sizeof out), SL_E_INVALID);
    r.keys = NULL;
    r.headers = out;
    CHECK_FAILS(sl_batch_encode(&r, 0, out, sizeof out), SL_E_INVALID);
    r.headers = NULL;
    CHECK_FAILS(sl_batch_encode(&r, 0, out, SL_BATCH_OVERHEAD - 1), SL_E_TOO_LARGE);
    r.codec = SL_CODEC_ZSTD;
    CHECK_FAILS(sl_batch_encode(&r, 0, out, sizeof out), SL_E_CODEC);
    r.codec = 9;
    CHECK_FAILS(sl_batch_encode(&r, 0, out, sizeof out), SL_E_CODEC);
    CHECK(strcmp(sl_status_name(SL_E_CODEC), "SL_E_CODEC") == 0);
    CHECK(strcmp(sl_status_name(-1), "?") == 0 && strcmp(sl_status_name(99), "?") == 0);
    CHECK(strcmp(sl_version(), "0.1.0") == 0 && strlen(sl_crc32c_name()) > 0);
}

int main(void) {
    check_begin("batch");
    guarded = mmap(NULL, GUARDED_BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    REQUIRE(guarded != MAP_FAILED);
    REQUIRE(mprotect(guarded + GUARDED_BYTES, 4096, PROT_NONE) == 0);
    test_golden();
    test_varints();
    test_boundary_sizes();
    static round_trip t;
    for (int i = 0; i < 400; i++) {
        draw(&t);
        check_round_trip(&t);
    }
    test_damage();
    test_hostile_headers();
    test_hostile_records();
    test_refusals();
    return check_end();
}
