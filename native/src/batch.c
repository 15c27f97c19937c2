/* batch.c -- encoder and decoder of the record batch drawn in batch.h.
 *
 * Encoding writes straight into its destination, usually the mapped segment: one pass over the
 * records, then one pass of CRC over bytes that are still in the cache, then the header.  The path
 * that most appends take (no keys, no headers, one timestamp) has its own loop, since the general
 * one spends as long on asking as on copying. */
#include "batch.h"

#include <limits.h>
#include <stdatomic.h>

#include "crc32c.h"
#include "os.h"

/* ---- varints ---- */

const uint8_t *sl_get_varint_slow(const uint8_t *p, const uint8_t *end, int32_t *out) {
    uint32_t z = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (p >= end) return NULL;
        uint32_t byte = *p++;
        if (shift == 28 && byte > 0x0f) return NULL;
        z |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = (int32_t)(z >> 1) ^ -(int32_t)(z & 1);
            return p;
        }
    }
    return NULL;
}

const uint8_t *sl_get_varlong_slow(const uint8_t *p, const uint8_t *end, int64_t *out) {
    uint64_t z = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p >= end) return NULL;
        uint64_t byte = *p++;
        if (shift == 63 && byte > 1) return NULL;
        z |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = (int64_t)(z >> 1) ^ -(int64_t)(z & 1);
            return p;
        }
    }
    return NULL;
}

bool sl_record_headers_sound(const uint8_t *p, const uint8_t *end, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        int32_t bytes;
        p = sl_get_varint(p, end, &bytes);
        if (p == NULL || bytes < 0 || bytes > end - p) return false;
        p += bytes;
        p = sl_get_varint(p, end, &bytes);
        if (p == NULL || bytes < -1 || bytes > end - p) return false;
        if (bytes > 0) p += bytes;
    }
    return p == end;
}

/* ---- header and checks ---- */

void sl_header_decode(const uint8_t *data, sl_batch_header *out) {
    out->base_offset = sl_get_i64(data + SL_AT_BASE_OFFSET);
    int32_t length = sl_get_i32(data + SL_AT_LENGTH);
    out->batch_bytes = length <= INT32_MAX - SL_LENGTH_BIAS ? length + SL_LENGTH_BIAS : INT32_MAX;
    out->leader_epoch = sl_get_i32(data + SL_AT_LEADER_EPOCH);
    out->crc = sl_get_u32(data + SL_AT_CRC);
    out->attributes = sl_get_u16(data + SL_AT_ATTRIBUTES);
    out->last_offset_delta = sl_get_i32(data + SL_AT_LAST_OFFSET_DELTA);
    /* Unsigned addition: a hostile base offset must not overflow; the rules refuse it afterwards. */
    out->last_offset =
        (int64_t)((uint64_t)out->base_offset + (uint64_t)(int64_t)out->last_offset_delta);
    out->base_timestamp_ms = sl_get_i64(data + SL_AT_BASE_TIMESTAMP);
    out->max_timestamp_ms = sl_get_i64(data + SL_AT_MAX_TIMESTAMP);
    out->producer_id = sl_get_i64(data + SL_AT_PRODUCER_ID);
    out->producer_epoch = (int16_t)sl_get_u16(data + SL_AT_PRODUCER_EPOCH);
    out->base_sequence = sl_get_i32(data + SL_AT_BASE_SEQUENCE);
    out->record_count = sl_get_i32(data + SL_AT_RECORD_COUNT);
}

bool sl_batch_crc_matches(const uint8_t *data, const sl_batch_header *header) {
    size_t covered = (size_t)header->batch_bytes - SL_AT_ATTRIBUTES;
    return sl_crc32c(0, data + SL_AT_ATTRIBUTES, covered) == header->crc;
}

static const char *records_fault(const uint8_t *p, const uint8_t *end,
                                 const sl_batch_header *header) {
    int32_t previous = -1;
    for (int32_t i = 0; i < header->record_count; i++) {
        sl_record_view record;
        const uint8_t *next = sl_record_decode(p, end, &record);
        if (next == NULL) return "a record runs over the end of its batch or is malformed";
        if (record.offset_delta <= previous || record.offset_delta > header->last_offset_delta)
            return "record offsets do not rise, or exceed the batch's last offset";
        if (!sl_record_headers_sound(record.headers, next, record.headers_count))
            return "a record's headers are malformed";
        previous = record.offset_delta;
        p = next;
    }
    return p == end ? NULL : "bytes follow the last record of the batch";
}

const char *sl_batch_fault(const uint8_t *data, size_t bytes, int32_t checks, size_t limit_bytes,
                           sl_buffer *scratch, sl_batch_header *out, bool *unsupported) {
    *unsupported = false;
    if (bytes < SL_AT_MAGIC + 1) return "truncated: fewer bytes than a batch header";
    uint8_t magic = data[SL_AT_MAGIC];
    if (magic != 2) {
        int32_t length = sl_get_i32(data + SL_AT_LENGTH);
        *unsupported = magic < 2 && length >= 14;
        return *unsupported ? "message format v0 or v1 is not supported (magic byte below 2)"
                            : "the magic byte is not 2";
    }
    if (bytes < SL_BATCH_OVERHEAD) return "truncated: fewer bytes than a batch header";
    sl_header_decode(data, out);
    if (out->batch_bytes < SL_BATCH_OVERHEAD) return "the length field is below a batch's minimum";
    if ((size_t)out->batch_bytes > bytes)
        return "truncated: the batch is longer than what is there";
    if (out->base_offset < 0 || out->last_offset_delta < 0 ||
        out->base_offset >= INT64_MAX - out->last_offset_delta) /* an offset must follow */
        return "base offset or last offset delta is negative or too large";
    if (out->record_count < 0 || out->record_count - 1 > out->last_offset_delta)
        return "the record count does not fit the last offset delta";
    if (checks < SL_CHECK_CRC) return NULL;
    if (!sl_batch_crc_matches(data, out)) return "CRC-32C mismatch";
    if (checks < SL_CHECK_RECORDS) return NULL;
    const uint8_t *records = data + SL_BATCH_OVERHEAD;
    size_t records_bytes = (size_t)out->batch_bytes - SL_BATCH_OVERHEAD;
    int32_t codec = out->attributes & SL_ATTRIBUTE_CODEC_MASK;
    if (codec != SL_CODEC_NONE && out->record_count > 0) {
        if (codec > SL_CODEC_ZSTD) return "the codec in the attributes is unknown";
        if (scratch == NULL || !sl_codec_available(codec)) return NULL; /* nobody can look inside */
        if (sl_codec_decompress(codec, records, records_bytes, limit_bytes, scratch) != SL_OK)
            return "the compressed records cannot be decompressed";
        records = scratch->data;
        records_bytes = scratch->bytes;
    }
    if (out->record_count == 0) return NULL;
    return records_fault(records, records + records_bytes, out);
}

sl_status sl_batch_check(const uint8_t *data, size_t bytes, int32_t checks,
                         sl_batch_header *out_header) {
    sl_buffer scratch = {0};
    sl_batch_header header = {0};
    bool unsupported;
    const char *fault =
        sl_batch_fault(data, bytes, checks, 128u << 20, &scratch, &header, &unsupported);
    sl_buffer_free(&scratch);
    if (out_header != NULL) *out_header = header;
    if (fault == NULL) return SL_OK;
    return sl_fail(unsupported ? SL_E_UNSUPPORTED : SL_E_CORRUPT, 0, NULL, NULL, -1, 0,
                   "record batch: %s", fault);
}

/* ---- encoding ---- */

sl_status sl_encoder_begin(sl_encoder *encoder, const sl_records *records, int64_t now_ms) {
    if (records->count <= 0)
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "records.count must be positive");
    if (records->values == NULL && records->value_pointers == NULL &&
        records->value_bytes == NULL && records->uniform_value_bytes > 0)
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "records.values is NULL");
    if ((records->keys != NULL && records->key_bytes == NULL) ||
        (records->headers != NULL &&
         (records->headers_bytes == NULL || records->headers_count == NULL)))
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1,
                       "records.keys and records.headers need their length columns");
    if (records->value_bytes == NULL && records->uniform_value_bytes < 0)
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1,
                       "records.uniform_value_bytes is negative");
    *encoder = (sl_encoder){.records = records,
                            .value = records->values,
                            .key = records->keys,
                            .headers = records->headers,
                            .now_ms = records->timestamp_ms >= 0 ? records->timestamp_ms : now_ms};
    return SL_OK;
}

static inline int32_t value_length(const sl_records *records, int64_t i) {
    return records->value_bytes != NULL ? records->value_bytes[i] : records->uniform_value_bytes;
}

/* Where value i begins, given where it would stand back to back. */
static inline const uint8_t *value_at(const sl_records *records, int64_t i, const uint8_t *next) {
    return records->value_pointers != NULL ? records->value_pointers[i] : next;
}

static inline size_t positive(int32_t length) { return length > 0 ? (size_t)length : 0; }

size_t sl_encoder_next_bound(const sl_encoder *encoder) {
    const sl_records *r = encoder->records;
    int64_t i = encoder->next;
    size_t bytes = SL_RECORD_FRAMING_BYTES + positive(value_length(r, i));
    if (r->keys != NULL) bytes += positive(r->key_bytes[i]);
    if (r->headers != NULL) bytes += positive(r->headers_bytes[i]);
    return bytes;
}

/* The common shape: null keys, no headers, one timestamp for all. */
static size_t encode_plain(sl_encoder *encoder, uint8_t *out, size_t capacity, size_t soft_bytes,
                           sl_encoded *encoded) {
    const sl_records *r = encoder->records;
    const int32_t *lengths = r->value_bytes;
    int32_t uniform = r->uniform_value_bytes;
    const uint8_t *const *pointers = r->value_pointers;
    const uint8_t *value = encoder->value;
    uint8_t *p = out;
    uint8_t *soft_end = soft_bytes < capacity ? out + soft_bytes : out + capacity;
    uint8_t *hard_end = out + capacity;
    int64_t i = encoder->next;
    int64_t count = r->count;
    if (count - i > INT32_MAX) count = i + INT32_MAX;
    int32_t delta = 0;
    for (; i < count; i++, delta++) {
        int32_t length = lengths != NULL ? lengths[i] : uniform;
        size_t bytes = positive(length);
        if (SL_UNLIKELY((p >= soft_end && delta > 0) ||
                        (size_t)(hard_end - p) < SL_RECORD_FRAMING_BYTES + bytes))
            break;
        uint32_t zigzag_delta = (uint32_t)delta << 1;
        uint32_t zigzag_length = sl_zigzag32(length < 0 ? -1 : length);
        size_t body = 4 + sl_varint_bytes(zigzag_delta) + sl_varint_bytes(zigzag_length) + bytes;
        p = sl_put_varint(p, (uint32_t)body << 1);
        p[0] = 0; /* attributes */
        p[1] = 0; /* timestamp delta */
        p = sl_put_varint(p + 2, zigzag_delta);
        *p++ = 1; /* key length -1: null */
        p = sl_put_varint(p, zigzag_length);
        if (pointers != NULL) {
            memcpy(p, pointers[i], bytes);
        } else {
            memcpy(p, value, bytes);
            value += bytes;
        }
        p += bytes;
        *p++ = 0; /* header count */
    }
    encoded->record_count = delta;
    encoded->base_timestamp_ms = encoder->now_ms;
    encoded->max_timestamp_ms = encoder->now_ms;
    encoder->next = i;
    encoder->value = value;
    return (size_t)(p - out);
}

static size_t encode_general(sl_encoder *encoder, uint8_t *out, size_t capacity, size_t soft_bytes,
                             sl_encoded *encoded) {
    const sl_records *r = encoder->records;
    bool append_time = (r->attributes & SL_ATTRIBUTE_LOG_APPEND_TIME) != 0;
    uint8_t *p = out;
    int32_t delta = 0;
    int64_t base_timestamp = encoder->now_ms;
    int64_t max_timestamp = encoder->now_ms;
    for (; encoder->next < r->count && delta < INT32_MAX; delta++) {
        int64_t i = encoder->next;
        if ((delta > 0 && (size_t)(p - out) >= soft_bytes) ||
            capacity - (size_t)(p - out) < sl_encoder_next_bound(encoder))
            break;
        int64_t timestamp = encoder->now_ms;
        if (r->timestamps_ms != NULL && !append_time && r->timestamps_ms[i] >= 0)
            timestamp = r->timestamps_ms[i];
        if (delta == 0) base_timestamp = max_timestamp = timestamp;
        if (timestamp > max_timestamp) max_timestamp = timestamp;
        int32_t key_length = r->keys != NULL ? r->key_bytes[i] : -1;
        int32_t length = value_length(r, i);
        int32_t headers_count = r->headers != NULL ? r->headers_count[i] : 0;
        size_t key_bytes = positive(key_length);
        size_t value_bytes = positive(length);
        size_t headers_bytes = headers_count > 0 ? positive(r->headers_bytes[i]) : 0;
        uint64_t zigzag_time = sl_zigzag64(timestamp - base_timestamp);
        uint32_t zigzag_key = sl_zigzag32(key_length < 0 ? -1 : key_length);
        uint32_t zigzag_value = sl_zigzag32(length < 0 ? -1 : length);
        uint32_t zigzag_delta = (uint32_t)delta << 1;
        uint32_t zigzag_headers = (uint32_t)headers_count << 1;
        size_t body = 1 + sl_varlong_bytes(zigzag_time) + sl_varint_bytes(zigzag_delta) +
                      sl_varint_bytes(zigzag_key) + key_bytes + sl_varint_bytes(zigzag_value) +
                      value_bytes + sl_varint_bytes(zigzag_headers) + headers_bytes;
        p = sl_put_varint(p, (uint32_t)body << 1);
        *p++ = 0; /* attributes */
        p = sl_put_varlong(p, zigzag_time);
        p = sl_put_varint(p, zigzag_delta);
        p = sl_put_varint(p, zigzag_key);
        if (key_bytes > 0) memcpy(p, encoder->key, key_bytes);
        p += key_bytes;
        p = sl_put_varint(p, zigzag_value);
        if (value_bytes > 0) memcpy(p, value_at(r, i, encoder->value), value_bytes);
        p += value_bytes;
        p = sl_put_varint(p, zigzag_headers);
        if (headers_bytes > 0) memcpy(p, encoder->headers, headers_bytes);
        p += headers_bytes;
        encoder->key += key_bytes;
        if (r->value_pointers == NULL && value_bytes > 0) encoder->value += value_bytes;
        if (r->headers != NULL) encoder->headers += positive(r->headers_bytes[i]);
        encoder->next++;
    }
    encoded->record_count = delta;
    encoded->base_timestamp_ms = base_timestamp;
    encoded->max_timestamp_ms = max_timestamp;
    return (size_t)(p - out);
}

size_t sl_encode_records(sl_encoder *encoder, uint8_t *out, size_t capacity, size_t soft_bytes,
                         sl_encoded *out_encoded) {
    const sl_records *r = encoder->records;
    if (r->keys == NULL && r->headers == NULL && r->timestamps_ms == NULL &&
        (r->values != NULL || r->value_pointers != NULL))
        return encode_plain(encoder, out, capacity, soft_bytes, out_encoded);
    return encode_general(encoder, out, capacity, soft_bytes, out_encoded);
}

void sl_encode_header(uint8_t *out, size_t batch_bytes, int64_t base_offset,
                      const sl_records *records, const sl_encoded *encoded, int64_t first_record) {
    int32_t attributes = (records->codec & SL_ATTRIBUTE_CODEC_MASK) |
                         (records->attributes & ~SL_ATTRIBUTE_CODEC_MASK);
    int32_t sequence = records->base_sequence;
    if (sequence >= 0) {
        /* Sequences wrap from 2^31 - 1 to 0. */
        sequence = (int32_t)(((uint64_t)sequence + (uint64_t)first_record) & INT32_MAX);
    }
    sl_put_u64(out + SL_AT_BASE_OFFSET, (uint64_t)base_offset);
    sl_put_u32(out + SL_AT_LENGTH, (uint32_t)(batch_bytes - SL_LENGTH_BIAS));
    sl_put_u32(out + SL_AT_LEADER_EPOCH, (uint32_t)records->leader_epoch);
    out[SL_AT_MAGIC] = 2;
    sl_put_u16(out + SL_AT_ATTRIBUTES, (uint16_t)attributes);
    sl_put_u32(out + SL_AT_LAST_OFFSET_DELTA, (uint32_t)(encoded->record_count - 1));
    sl_put_u64(out + SL_AT_BASE_TIMESTAMP, (uint64_t)encoded->base_timestamp_ms);
    sl_put_u64(out + SL_AT_MAX_TIMESTAMP, (uint64_t)encoded->max_timestamp_ms);
    sl_put_u64(out + SL_AT_PRODUCER_ID, (uint64_t)records->producer_id);
    sl_put_u16(out + SL_AT_PRODUCER_EPOCH, (uint16_t)records->producer_epoch);
    sl_put_u32(out + SL_AT_BASE_SEQUENCE, (uint32_t)sequence);
    sl_put_u32(out + SL_AT_RECORD_COUNT, (uint32_t)encoded->record_count);
    sl_put_u32(out + SL_AT_CRC,
               sl_crc32c(0, out + SL_AT_ATTRIBUTES, batch_bytes - SL_AT_ATTRIBUTES));
}

int64_t sl_batch_encode(const sl_records *records, int64_t base_offset, uint8_t *out,
                        size_t capacity) {
    sl_encoder encoder;
    sl_encoded encoded;
    sl_status status = sl_encoder_begin(&encoder, records, sl_os_now_ms());
    if (status != SL_OK) return -(int64_t)status;
    if (capacity < SL_BATCH_OVERHEAD)
        return -(int64_t)sl_fail(SL_E_TOO_LARGE, 0, NULL, NULL, -1, -1,
                                 "capacity is below a batch header's 61 bytes");
    if (records->codec == SL_CODEC_NONE) {
        /* The bound per record is generous, so encode into a scratch a little longer than the
         * capacity would allow only where the caller's buffer is exact. */
        sl_buffer scratch = {0};
        size_t slack = capacity + SL_RECORD_FRAMING_BYTES;
        status = sl_buffer_reserve(&scratch, slack);
        if (status != SL_OK) return -(int64_t)status;
        size_t bytes = sl_encode_records(&encoder, scratch.data, slack - SL_BATCH_OVERHEAD,
                                         SIZE_MAX, &encoded);
        bool fits = encoder.next == records->count && bytes + SL_BATCH_OVERHEAD <= capacity;
        if (fits) {
            memcpy(out + SL_BATCH_OVERHEAD, scratch.data, bytes);
            sl_encode_header(out, bytes + SL_BATCH_OVERHEAD, base_offset, records, &encoded, 0);
        }
        sl_buffer_free(&scratch);
        if (fits) return (int64_t)(bytes + SL_BATCH_OVERHEAD);
        return -(int64_t)sl_fail(SL_E_TOO_LARGE, 0, NULL, NULL, -1, -1,
                                 "the records need more than %zu bytes", capacity);
    }
    sl_buffer plain = {0};
    sl_buffer packed = {0};
    size_t need = 64;
    int64_t result;
    for (;;) {
        encoder.next = 0;
        encoder.value = records->values;
        encoder.key = records->keys;
        encoder.headers = records->headers;
        need *= 4;
        status = need > ((size_t)1 << 31)
                     ? sl_fail(SL_E_TOO_LARGE, 0, NULL, NULL, -1, -1, "the records exceed 2 GiB")
                     : sl_buffer_reserve(&plain, need);
        if (status != SL_OK) break;
        plain.bytes = sl_encode_records(&encoder, plain.data, plain.capacity, SIZE_MAX, &encoded);
        if (encoder.next == records->count) break;
    }
    if (status == SL_OK)
        status = sl_codec_compress(records->codec, records->codec_level, plain.data, plain.bytes,
                                   &packed);
    if (status == SL_OK && packed.bytes + SL_BATCH_OVERHEAD > capacity)
        status = sl_fail(SL_E_TOO_LARGE, 0, NULL, NULL, -1, -1,
                         "the compressed records need %zu bytes of %zu",
                         packed.bytes + SL_BATCH_OVERHEAD, capacity);
    result = -(int64_t)status;
    if (status == SL_OK) {
        memcpy(out + SL_BATCH_OVERHEAD, packed.data, packed.bytes);
        result = (int64_t)(packed.bytes + SL_BATCH_OVERHEAD);
        sl_encode_header(out, (size_t)result, base_offset, records, &encoded, 0);
    }
    sl_buffer_free(&plain);
    sl_buffer_free(&packed);
    return result;
}

/* ---- codecs ---- */

static struct {
    _Atomic(sl_compress_fn) compress;
    _Atomic(sl_decompress_fn) decompress;
} codecs[SL_CODEC_ZSTD + 1];

static const char *const codec_names[] = {"none", "gzip", "snappy", "lz4", "zstd"};

sl_status sl_codec_register(int32_t codec, sl_compress_fn compress, sl_decompress_fn decompress) {
    if (codec <= SL_CODEC_NONE || codec > SL_CODEC_ZSTD)
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "codec %d does not exist", codec);
    atomic_store(&codecs[codec].compress, compress);
    atomic_store(&codecs[codec].decompress, decompress);
    return SL_OK;
}

bool sl_codec_available(int32_t codec) {
    return codec > SL_CODEC_NONE && codec <= SL_CODEC_ZSTD &&
           atomic_load(&codecs[codec].decompress) != NULL;
}

static sl_status codec_missing(int32_t codec) {
    if (codec < 0 || codec > SL_CODEC_ZSTD)
        return sl_fail(SL_E_CODEC, 0, NULL, NULL, -1, -1, "codec %d does not exist", codec);
    return sl_fail(SL_E_CODEC, 0, NULL, NULL, -1, -1,
                   "codec %s is not registered: call sl_codec_register first", codec_names[codec]);
}

sl_status sl_codec_compress(int32_t codec, int32_t level, const uint8_t *in, size_t bytes,
                            sl_buffer *out) {
    sl_compress_fn compress = NULL;
    if (codec > 0 && codec <= SL_CODEC_ZSTD) compress = atomic_load(&codecs[codec].compress);
    if (compress == NULL) return codec_missing(codec);
    out->bytes = 0;
    if (compress(codec, level, in, bytes, out) != 0)
        return sl_fail(SL_E_CODEC, 0, NULL, NULL, -1, -1, "codec %s failed to compress %zu bytes",
                       codec_names[codec], bytes);
    return SL_OK;
}

sl_status sl_codec_decompress(int32_t codec, const uint8_t *in, size_t bytes, size_t limit_bytes,
                              sl_buffer *out) {
    sl_decompress_fn decompress = NULL;
    if (codec > 0 && codec <= SL_CODEC_ZSTD) decompress = atomic_load(&codecs[codec].decompress);
    if (decompress == NULL) return codec_missing(codec);
    out->bytes = 0;
    if (decompress(codec, in, bytes, limit_bytes, out) != 0 || out->bytes > limit_bytes)
        return sl_fail(SL_E_CODEC, 0, NULL, NULL, -1, -1,
                       "codec %s cannot decompress %zu bytes within %zu", codec_names[codec], bytes,
                       limit_bytes);
    return SL_OK;
}

sl_status sl_buffer_reserve(sl_buffer *buffer, size_t capacity) {
    if (capacity <= buffer->capacity) return SL_OK;
    uint8_t *grown = sl_os.reallocate(buffer->data, capacity);
    if (grown == NULL) return sl_fail_memory("growing a buffer");
    buffer->data = grown;
    buffer->capacity = capacity;
    return SL_OK;
}

void sl_buffer_free(sl_buffer *buffer) {
    free(buffer->data);
    *buffer = (sl_buffer){0};
}
