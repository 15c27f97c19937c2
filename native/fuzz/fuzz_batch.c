/* fuzz_batch.c -- one record batch of any bytes: sl_batch_check reads nothing outside, and is right.
 *
 * What must hold for every input:
 *
 *   a stricter check refuses at least what a laxer one does (header, CRC, records)
 *   its answer is that of the slow reading below, which shares no code with the engine but the format
 *   the header it gives back is what stands in the bytes
 *   the quick decoder of plain records, where it answers, answers what the full decoder does
 *   bytes behind the batch change nothing, and the batch short of a byte is refused
 *
 * libFuzzer hands the input over as a heap block of exactly its length, so AddressSanitizer sees the
 * first byte read too far.  The mutator mends length and CRC most of the time: without that hardly any
 * input would come further than the checksum.  Codec 1 is a stand-in (every byte turned round) so that
 * the records of compressed batches are reached without a library. */
#define _GNU_SOURCE
#include "batch.h"
#include "scratch.h"

enum { LIMIT_BYTES = 1 << 20 };

/* ---- the stand-in codec ---- */

static int turn(int32_t codec, int32_t level, const uint8_t *in, size_t bytes, sl_buffer *out) {
    (void)codec;
    (void)level;
    if (sl_buffer_reserve(out, bytes > 0 ? bytes : 1) != SL_OK) return 1;
    for (size_t i = 0; i < bytes; i++) out->data[i] = in[i] ^ 0xff;
    out->bytes = bytes;
    return 0;
}

static int turn_back(int32_t codec, const uint8_t *in, size_t bytes, size_t limit, sl_buffer *out) {
    if (bytes > limit) return 1;
    return turn(codec, 0, in, bytes, out);
}

/* ---- the slow reading ---- */

static uint32_t slow_crc(const uint8_t *p, size_t bytes) {
    static uint32_t table[256];
    if (table[1] == 0) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) c = (c & 1) != 0 ? c >> 1 ^ 0x82F63B78u : c >> 1;
            table[i] = c;
        }
    }
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) crc = table[(crc ^ p[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

static int64_t big_endian(const uint8_t *p, int bytes) {
    uint64_t v = (p[0] & 0x80) != 0 ? UINT64_MAX : 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[i];
    return (int64_t)v;
}

typedef struct span {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
} span;

static int64_t slow_varint(span *s, int bits) {
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        if (s->p >= s->end || shift >= bits) {
            s->bad = true;
            return 0;
        }
        uint8_t byte = *s->p++;
        uint64_t part = byte & 0x7fu;
        /* Bits that the type cannot hold are refused, not dropped. */
        if (shift + 7 > bits && part >> (bits - shift) != 0) s->bad = true;
        v |= part << shift;
        if ((byte & 0x80) == 0) break;
    }
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static void slow_bytes(span *s, bool nullable) {
    int64_t bytes = slow_varint(s, 32);
    if (s->bad || (bytes == -1 && nullable)) return;
    if (bytes < 0 || bytes > s->end - s->p) {
        s->bad = true;
        return;
    }
    s->p += bytes;
}

static bool slow_records_sound(const uint8_t *records, size_t bytes, int64_t count, int64_t last) {
    span all = {records, records + bytes, false};
    int64_t previous = -1;
    for (int64_t i = 0; i < count; i++) {
        int64_t length = slow_varint(&all, 32);
        if (all.bad || length < 1 || length > all.end - all.p) return false;
        span one = {all.p + 1, all.p + length, false};
        all.p += length;
        (void)slow_varint(&one, 64);
        int64_t delta = one.bad ? 0 : slow_varint(&one, 32);
        if (one.bad || delta <= previous || delta > last) return false;
        previous = delta;
        slow_bytes(&one, true);
        if (!one.bad) slow_bytes(&one, true);
        int64_t headers = one.bad ? 0 : slow_varint(&one, 32);
        if (one.bad || headers < 0) return false;
        for (int64_t h = 0; h < headers && !one.bad; h++) {
            slow_bytes(&one, false);
            if (!one.bad) slow_bytes(&one, true);
        }
        if (one.bad || one.p != one.end) return false;
    }
    return all.p == all.end;
}

/* The strictest check that the batch passes: -1 none. */
static int32_t slow_level(const uint8_t *d, size_t size) {
    if (size < SL_BATCH_OVERHEAD) return -1;
    int64_t length = big_endian(d + 8, 4);
    if (length < 49 || length + 12 > (int64_t)size || d[16] != 2) return -1;
    int64_t base = big_endian(d, 8);
    int64_t last = big_endian(d + 23, 4);
    int64_t count = big_endian(d + 57, 4);
    if (base < 0 || last < 0 || count < 0 || count > last + 1) return -1;
    if (base > INT64_MAX - last - 1) return -1; /* no offset could follow */
    size_t bytes = (size_t)length + 12;
    if (slow_crc(d + 21, bytes - 21) != (uint32_t)big_endian(d + 17, 4)) return SL_CHECK_HEADER;
    const uint8_t *records = d + SL_BATCH_OVERHEAD;
    size_t records_bytes = bytes - SL_BATCH_OVERHEAD;
    int codec = d[22] & SL_ATTRIBUTE_CODEC_MASK;
    if (count == 0) return SL_CHECK_RECORDS; /* emptied by compaction */
    if (codec == 0)
        return slow_records_sound(records, records_bytes, count, last) ? SL_CHECK_RECORDS
                                                                       : SL_CHECK_CRC;
    if (codec > SL_CODEC_ZSTD) return SL_CHECK_CRC;
    if (codec != SL_CODEC_GZIP) return SL_CHECK_RECORDS; /* nobody can look inside */
    uint8_t *plain = malloc(records_bytes > 0 ? records_bytes : 1);
    HOLDS(plain != NULL, "no memory");
    for (size_t i = 0; i < records_bytes; i++) plain[i] = records[i] ^ 0xff;
    bool sound = slow_records_sound(plain, records_bytes, count, last);
    free(plain);
    return sound ? SL_CHECK_RECORDS : SL_CHECK_CRC;
}

/* ---- the test ---- */

static int32_t level_of(const uint8_t *data, size_t size, sl_batch_header *out) {
    int32_t level = -1;
    for (int32_t checks = SL_CHECK_HEADER; checks <= SL_CHECK_RECORDS; checks++) {
        sl_batch_header header;
        sl_status status = sl_batch_check(data, size, checks, &header);
        HOLDS(status == SL_OK || status == SL_E_CORRUPT || status == SL_E_UNSUPPORTED ||
                  status == SL_E_CODEC,
              "check %d answers %s", checks, sl_status_name((int32_t)status));
        HOLDS(status != SL_OK || level == checks - 1, "check %d passes where a laxer one does not",
              checks);
        if (status != SL_OK) continue;
        level = checks;
        *out = header;
    }
    return level;
}

static void check_header(const uint8_t *d, const sl_batch_header *h) {
    HOLDS(
        h->base_offset == big_endian(d, 8) && h->batch_bytes == big_endian(d + 8, 4) + 12 &&
            h->leader_epoch == big_endian(d + 12, 4) && h->crc == (uint32_t)big_endian(d + 17, 4) &&
            (h->attributes & 0xffff) == (big_endian(d + 21, 2) & 0xffff) &&
            h->last_offset_delta == big_endian(d + 23, 4) &&
            h->last_offset == h->base_offset + h->last_offset_delta &&
            h->base_timestamp_ms == big_endian(d + 27, 8) &&
            h->max_timestamp_ms == big_endian(d + 35, 8) &&
            h->producer_id == big_endian(d + 43, 8) && h->producer_epoch == big_endian(d + 51, 2) &&
            h->base_sequence == big_endian(d + 53, 4) && h->record_count == big_endian(d + 57, 4),
        "the header is not what stands there");
}

/* Both decoders over bytes that may be anything. */
static void check_decoders(const uint8_t *p, const uint8_t *end) {
    for (int i = 0; i < 2000 && p < end; i++) {
        sl_record_view record;
        const uint8_t *next = sl_record_decode(p, end, &record);
        if (next != NULL) (void)sl_record_headers_sound(record.headers, next, record.headers_count);
        if (end - p >= 16) {
            int64_t time;
            int32_t delta;
            int32_t bytes;
            const uint8_t *value;
            const uint8_t *plain = sl_record_decode_plain(p, end, &time, &delta, &value, &bytes);
            if (plain != NULL)
                HOLDS(plain == next && time == record.timestamp_delta_ms &&
                          delta == record.offset_delta && value == record.value &&
                          bytes == record.value_bytes && record.key == NULL &&
                          record.headers_count == 0,
                      "the two decoders read different records");
        }
        if (next == NULL) return;
        p = next;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sl_batch_header header = {0};
    int32_t level = level_of(data, size, &header);
    int32_t slow = slow_level(data, size);
    HOLDS(level == slow, "checks pass up to %d, the slow reading says %d", level, slow);
    if (size > SL_BATCH_OVERHEAD) check_decoders(data + SL_BATCH_OVERHEAD, data + size);
    check_decoders(data, data + size);
    if (level < 0) return 0;
    check_header(data, &header);
    size_t bytes = (size_t)header.batch_bytes;
    uint8_t *exact = malloc(bytes);
    HOLDS(exact != NULL, "no memory");
    memcpy(exact, data, bytes);
    sl_batch_header again;
    HOLDS(level_of(exact, bytes, &again) == level, "bytes behind the batch matter");
    HOLDS(sl_batch_check(exact, bytes - 1, SL_CHECK_HEADER, &again) == SL_E_CORRUPT,
          "a batch short of a byte passes");
    free(exact);
    return 0;
}

/* ---- inputs ---- */

static size_t draw_batch(uint8_t *out, size_t capacity, uint64_t *state) {
    enum { RECORDS = 24, BYTES = 40 };
    static uint8_t bytes[RECORDS * BYTES];
    int32_t value_bytes[RECORDS];
    int32_t key_bytes[RECORDS];
    int64_t times[RECORDS];
    int64_t count = 1 + scratch_random(state) % RECORDS;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)scratch_random(state);
    for (int64_t i = 0; i < count; i++) {
        value_bytes[i] = (int32_t)(scratch_random(state) % (BYTES + 1)) - 1;
        key_bytes[i] = (int32_t)(scratch_random(state) % 12) - 1;
        times[i] = 1700000000000 + scratch_random(state) % 100000;
    }
    bool keyed = scratch_random(state) % 2 == 0;
    sl_records records = {.count = count,
                          .values = bytes,
                          .value_bytes = value_bytes,
                          .keys = keyed ? bytes : NULL,
                          .key_bytes = keyed ? key_bytes : NULL,
                          .timestamps_ms = scratch_random(state) % 2 == 0 ? times : NULL,
                          .timestamp_ms = 1700000000000,
                          .codec = scratch_random(state) % 4 == 0 ? SL_CODEC_GZIP : SL_CODEC_NONE,
                          .codec_level = INT32_MIN,
                          .leader_epoch = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .one_batch = 1,
                          .producer_id = -1};
    int64_t encoded = sl_batch_encode(&records, scratch_random(state) % 1000, out, capacity);
    return encoded > 0 ? (size_t)encoded : 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    uint64_t state = seed;
    if (size < SL_BATCH_OVERHEAD || scratch_random(&state) % 64 == 0) {
        size_t drawn = draw_batch(data, max_size, &state);
        if (drawn > 0) return drawn;
    }
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size < SL_BATCH_OVERHEAD) return size;
    uint32_t mend = scratch_random(&state) % 8;
    if (mend >= 1) { /* of eight: one left as it is, one without a right CRC, six with everything */
        sl_put_u32(data + SL_AT_LENGTH, (uint32_t)(size - SL_LENGTH_BIAS));
        data[SL_AT_MAGIC] = 2;
        if (scratch_random(&state) % 2 == 0) data[SL_AT_BASE_OFFSET] &= 0x7f;
    }
    if (mend >= 2) sl_put_u32(data + SL_AT_CRC, slow_crc(data + 21, size - 21));
    return size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    HOLDS(sl_codec_register(SL_CODEC_GZIP, turn, turn_back) == SL_OK, "the stand-in codec");
    return 0;
}
