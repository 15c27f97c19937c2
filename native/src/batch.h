/* batch.h -- every byte of a record batch v2.  Big-endian; varints are zig-zag, 7 bits a byte.
 *
 *   position 0        8            12           16   17      21     23        27
 *   +--------+--------+------------+------------+----+-------+------+---------+--------
 *   | base offset     | length     | leader     | 2  | crc   | attr | last    | base
 *   |                 | (after it) | epoch      |    | 32C   |      | offset d| timestamp ...
 *   +-----------------+------------+------------+----+-------+------+---------+--------
 *   27          35          43         51      53       57      61
 *   +-----------+-----------+----------+-------+--------+-------+------------------------
 *   | base      | max       | producer | prod. | base   | count | records, or one blob
 *   | timestamp | timestamp | id       | epoch | seq.   |       | of a codec
 *   +-----------+-----------+----------+-------+--------+-------+------------------------
 *                 CRC-32C covers 21 .. end: base offset, length, leader epoch and magic lie
 *                 outside, so a broker assigns offset and epoch without touching the checksum.
 *
 *   record: length varint | attributes 0 | timestamp delta varlong | offset delta varint |
 *           key length varint, -1 null | key | value length varint, -1 null | value |
 *           header count varint | { key length varint | key | value length varint, -1 | value }*
 *
 * A batch is sound if and only if (1) 49 <= length and the batch ends inside what is there,
 * (2) magic is 2, (3) base offset >= 0 and 0 <= count <= last offset delta + 1, (4) the CRC matches;
 * and its records are sound if each ends inside the blob, their offset deltas rise strictly up to
 * the last offset delta, there are exactly `count`, and nothing follows them.
 *
 * Left to others: where batches lie (segment.c), what attributes mean to clients. */
#ifndef SL_BATCH_H
#define SL_BATCH_H

#include <stdbool.h>
#include <string.h>

#include "error.h"
#include "stratalog.h"

enum {
    SL_AT_BASE_OFFSET = 0,
    SL_AT_LENGTH = 8,
    SL_AT_LEADER_EPOCH = 12,
    SL_AT_MAGIC = 16,
    SL_AT_CRC = 17,
    SL_AT_ATTRIBUTES = 21,
    SL_AT_LAST_OFFSET_DELTA = 23,
    SL_AT_BASE_TIMESTAMP = 27,
    SL_AT_MAX_TIMESTAMP = 35,
    SL_AT_PRODUCER_ID = 43,
    SL_AT_PRODUCER_EPOCH = 51,
    SL_AT_BASE_SEQUENCE = 53,
    SL_AT_RECORD_COUNT = 57,
    SL_LENGTH_BIAS = 12,         /* the length field counts what follows it */
    SL_RECORD_FRAMING_BYTES = 40 /* no record's framing is longer, headers' own apart */
};

static inline uint16_t sl_get_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap16(v);
}
static inline uint32_t sl_get_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}
static inline uint64_t sl_get_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}
static inline int32_t sl_get_i32(const uint8_t *p) { return (int32_t)sl_get_u32(p); }
static inline int64_t sl_get_i64(const uint8_t *p) { return (int64_t)sl_get_u64(p); }
static inline void sl_put_u16(uint8_t *p, uint16_t v) {
    v = __builtin_bswap16(v);
    memcpy(p, &v, sizeof v);
}
static inline void sl_put_u32(uint8_t *p, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof v);
}
static inline void sl_put_u64(uint8_t *p, uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
}
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the accessors above swap bytes: a big-endian processor needs its own"
#endif

/* ---- varints ---- */

static inline uint32_t sl_zigzag32(int32_t v) { return ((uint32_t)v << 1) ^ (uint32_t)(v >> 31); }
static inline uint64_t sl_zigzag64(int64_t v) { return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63); }
static inline size_t sl_varint_bytes(uint32_t zigzag) {
    return (size_t)(31 - __builtin_clz(zigzag | 1)) / 7 + 1;
}
static inline size_t sl_varlong_bytes(uint64_t zigzag) {
    return (size_t)(63 - __builtin_clzll(zigzag | 1)) / 7 + 1;
}
static inline uint8_t *sl_put_varint(uint8_t *p, uint32_t zigzag) {
    while (zigzag >= 0x80) {
        *p++ = (uint8_t)(zigzag | 0x80);
        zigzag >>= 7;
    }
    *p++ = (uint8_t)zigzag;
    return p;
}
static inline uint8_t *sl_put_varlong(uint8_t *p, uint64_t zigzag) {
    while (zigzag >= 0x80) {
        *p++ = (uint8_t)(zigzag | 0x80);
        zigzag >>= 7;
    }
    *p++ = (uint8_t)zigzag;
    return p;
}

const uint8_t *sl_get_varint_slow(const uint8_t *p, const uint8_t *end, int32_t *out);
const uint8_t *sl_get_varlong_slow(const uint8_t *p, const uint8_t *end, int64_t *out);

/* Decode at p, before end; NULL when it runs over the end or is longer than the type allows. */
static inline const uint8_t *sl_get_varint(const uint8_t *p, const uint8_t *end, int32_t *out) {
    if (SL_LIKELY(end - p >= 2)) {
        uint32_t first = p[0];
        if (first < 0x80) {
            *out = (int32_t)(first >> 1) ^ -(int32_t)(first & 1);
            return p + 1;
        }
        uint32_t second = p[1];
        if (second < 0x80) {
            uint32_t z = (first & 0x7f) | second << 7;
            *out = (int32_t)(z >> 1) ^ -(int32_t)(z & 1);
            return p + 2;
        }
    }
    return sl_get_varint_slow(p, end, out);
}
static inline const uint8_t *sl_get_varlong(const uint8_t *p, const uint8_t *end, int64_t *out) {
    if (SL_LIKELY(p < end && *p < 0x80)) {
        *out = (int64_t)(*p >> 1) ^ -(int64_t)(*p & 1);
        return p + 1;
    }
    return sl_get_varlong_slow(p, end, out);
}

/* One decoded record; key and value are NULL when null. */
typedef struct sl_record_view {
    int64_t timestamp_delta_ms;
    int32_t offset_delta;
    int32_t key_bytes;   /* -1 null */
    int32_t value_bytes; /* -1 null */
    int32_t headers_count;
    const uint8_t *key;
    const uint8_t *value;
    const uint8_t *headers;
} sl_record_view;

/* Decode the record at p.  Returns the byte after it, or NULL if it is not sound.  Headers are
 * skipped here and walked only by sl_record_headers_sound. */
static inline const uint8_t *sl_record_decode(const uint8_t *p, const uint8_t *end,
                                              sl_record_view *out) {
    int32_t length;
    p = sl_get_varint(p, end, &length);
    if (SL_UNLIKELY(p == NULL || length < 0 || length > end - p)) return NULL;
    const uint8_t *record_end = p + length;
    if (SL_UNLIKELY(p == record_end)) return NULL;
    p++; /* attributes: unused by the format */
    p = sl_get_varlong(p, record_end, &out->timestamp_delta_ms);
    if (SL_UNLIKELY(p == NULL)) return NULL;
    p = sl_get_varint(p, record_end, &out->offset_delta);
    if (SL_UNLIKELY(p == NULL)) return NULL;
    p = sl_get_varint(p, record_end, &out->key_bytes);
    if (SL_UNLIKELY(p == NULL)) return NULL;
    if (out->key_bytes < 0) {
        if (SL_UNLIKELY(out->key_bytes != -1)) return NULL;
        out->key = NULL;
    } else {
        if (SL_UNLIKELY(out->key_bytes > record_end - p)) return NULL;
        out->key = p;
        p += out->key_bytes;
    }
    p = sl_get_varint(p, record_end, &out->value_bytes);
    if (SL_UNLIKELY(p == NULL)) return NULL;
    if (out->value_bytes < 0) {
        if (SL_UNLIKELY(out->value_bytes != -1)) return NULL;
        out->value = NULL;
    } else {
        if (SL_UNLIKELY(out->value_bytes > record_end - p)) return NULL;
        out->value = p;
        p += out->value_bytes;
    }
    p = sl_get_varint(p, record_end, &out->headers_count);
    if (SL_UNLIKELY(p == NULL || out->headers_count < 0)) return NULL;
    out->headers = p;
    /* A header takes two bytes at least: a count that cannot be true is refused before anyone
     * allocates for it. */
    if (SL_UNLIKELY(out->headers_count > (record_end - p) / 2)) return NULL;
    if (SL_UNLIKELY(out->headers_count == 0 && p != record_end)) return NULL;
    return record_end;
}

/* The shape that most records have: a timestamp delta of one byte, lengths of at most two, no key, no
 * headers.  Returns the byte after the record and sets offset delta, value and its length; NULL when
 * it has another shape or is not sound (sl_record_decode tells which).  p + 16 <= end. */
static inline const uint8_t *sl_record_decode_plain(const uint8_t *p, const uint8_t *end,
                                                    int64_t *timestamp_delta_ms,
                                                    int32_t *offset_delta, const uint8_t **value,
                                                    int32_t *value_bytes) {
    uint32_t length = *p++;
    if (length >= 0x80) {
        uint32_t high = *p++;
        if (SL_UNLIKELY(high >= 0x80)) return NULL;
        length = (length & 0x7f) | high << 7;
    }
    const uint8_t *record_end = p + (length >> 1);
    uint32_t time = p[1];
    uint32_t delta = p[2];
    p += 3;
    if (delta >= 0x80) {
        uint32_t high = *p++;
        if (SL_UNLIKELY(high >= 0x80)) return NULL;
        delta = (delta & 0x7f) | high << 7;
    }
    uint32_t key = *p++;
    uint32_t bytes = *p++;
    if (bytes >= 0x80) {
        uint32_t high = *p++;
        if (SL_UNLIKELY(high >= 0x80)) return NULL;
        bytes = (bytes & 0x7f) | high << 7;
    }
    /* Odd means negative in zig-zag; the record must end one byte, the header count, after its
     * value, which bounds the value too. */
    if (SL_UNLIKELY((((length | delta | bytes) & 1) | (time & 0x80) | (key ^ 1)) != 0)) return NULL;
    const uint8_t *value_end = p + (bytes >> 1);
    if (SL_UNLIKELY(value_end + 1 != record_end || record_end > end || *value_end != 0))
        return NULL;
    *timestamp_delta_ms = (int64_t)(time >> 1) ^ -(int64_t)(time & 1);
    *offset_delta = (int32_t)(delta >> 1);
    *value = p;
    *value_bytes = (int32_t)(bytes >> 1);
    return record_end;
}

bool sl_record_headers_sound(const uint8_t *headers, const uint8_t *end, int32_t count);

/* ---- header ---- */

/* Decode without any check; 61 bytes must be there. */
void sl_header_decode(const uint8_t *data, sl_batch_header *out);

/* The rule the batch breaks, in words for a person, or NULL.  Decodes the header.  `unsupported` is
 * set when the magic byte names an older format.  checks as sl_batch_check; SL_CHECK_RECORDS
 * decompresses into `scratch` (may be NULL without a codec), bounded by limit_bytes. */
const char *sl_batch_fault(const uint8_t *data, size_t bytes, int32_t checks, size_t limit_bytes,
                           sl_buffer *scratch, sl_batch_header *out, bool *unsupported);

/* Whether the stored CRC matches; the batch's bytes must all be there. */
bool sl_batch_crc_matches(const uint8_t *data, const sl_batch_header *header);

/* ---- encoding ---- */

/* Where an append stands in its columns. */
typedef struct sl_encoder {
    const sl_records *records;
    int64_t next; /* index of the next record */
    const uint8_t *value;
    const uint8_t *key;
    const uint8_t *headers;
    int64_t now_ms; /* for records without a timestamp */
} sl_encoder;

typedef struct sl_encoded {
    int32_t record_count;
    int64_t base_timestamp_ms;
    int64_t max_timestamp_ms;
} sl_encoded;

sl_status sl_encoder_begin(sl_encoder *encoder, const sl_records *records, int64_t now_ms);

/* An upper bound of the next record's encoded bytes. */
size_t sl_encoder_next_bound(const sl_encoder *encoder);

/* Encode records from encoder->next on into out, as many as begin before soft_bytes and fit into
 * capacity.  Returns the bytes written and advances the encoder. */
size_t sl_encode_records(sl_encoder *encoder, uint8_t *out, size_t capacity, size_t soft_bytes,
                         sl_encoded *out_encoded);

/* Write the 61 bytes before records that stand at out + 61, and their CRC. */
void sl_encode_header(uint8_t *out, size_t batch_bytes, int64_t base_offset,
                      const sl_records *records, const sl_encoded *encoded, int64_t first_record);

/* ---- codecs ---- */

sl_status sl_codec_compress(int32_t codec, int32_t level, const uint8_t *in, size_t bytes,
                            sl_buffer *out);
sl_status sl_codec_decompress(int32_t codec, const uint8_t *in, size_t bytes, size_t limit_bytes,
                              sl_buffer *out);
bool sl_codec_available(int32_t codec);

#endif
