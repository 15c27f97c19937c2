/* crc32.h -- CRC-32 as in zlib, for stratalog-load alone: the checksum that all subjects agree on.
 *
 * A touched scan takes this checksum inside the measurement, for us as for every peer.  Java and Go
 * have it as folding by carry-less multiplication in their standard libraries, Python has zlib's; a
 * plain table here would measure the table.  So where the processor has PCLMULQDQ, 64 bytes are
 * folded at once, and what is left over goes through tables of eight bytes a step:
 *
 *    |<------ 64 bytes: four lanes of 16 ------>|  16  |  16  |  0 to 15: tables  |
 *
 * It is nobody's storage format here: what the engine stores is CRC-32C (src/crc32c.h).
 *
 * Source: V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction", Intel 2009; the constants are those for the reflected polynomial 0xEDB88320. */
#ifndef STRATALOG_BENCH_CRC32_H
#define STRATALOG_BENCH_CRC32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static uint32_t crc32_tables[8][256];
static bool crc32_folds;

/* Fill the tables and look at the processor; once, before any other call. */
static void crc32_begin(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
        crc32_tables[0][i] = crc;
    }
    for (int table = 1; table < 8; table++) {
        for (int i = 0; i < 256; i++) {
            uint32_t crc = crc32_tables[table - 1][i];
            crc32_tables[table][i] = (crc >> 8) ^ crc32_tables[0][crc & 0xFF];
        }
    }
#if defined(__x86_64__)
    crc32_folds = __builtin_cpu_supports("pclmul") != 0 && __builtin_cpu_supports("sse4.1") != 0;
#endif
}

/* crc is inverted already. */
static uint32_t crc32_by_table(uint32_t crc, const uint8_t *data, size_t bytes) {
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint64_t word = (uint64_t)data[0] | (uint64_t)data[1] << 8 | (uint64_t)data[2] << 16 |
                        (uint64_t)data[3] << 24 | (uint64_t)data[4] << 32 |
                        (uint64_t)data[5] << 40 | (uint64_t)data[6] << 48 | (uint64_t)data[7] << 56;
        word ^= crc;
        crc = 0;
        for (int table = 7; table >= 0; table--, word >>= 8)
            crc ^= crc32_tables[table][word & 0xFF];
    }
    for (; bytes > 0; data++, bytes--) crc = (crc >> 8) ^ crc32_tables[0][(crc ^ *data) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("pclmul,sse4.1"))) static __m128i crc32_folded(__m128i lane, __m128i by,
                                                                     __m128i next) {
    __m128i low = _mm_clmulepi64_si128(lane, by, 0x00);
    __m128i high = _mm_clmulepi64_si128(lane, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

static __m128i crc32_load(const uint8_t *data) {
    return _mm_loadu_si128((const __m128i *)(const void *)data);
}

/* bytes is a multiple of 16 and at least 64; crc is inverted already. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t
crc32_by_folding(uint32_t crc, const uint8_t *data, size_t bytes) {
    const __m128i by_64 = _mm_set_epi64x(0x01C6E41596, 0x0154442BD4);
    const __m128i by_16 = _mm_set_epi64x(0x00CCAA009E, 0x01751997D0);
    const __m128i by_8 = _mm_set_epi64x(0, 0x0163CD6124);
    const __m128i barrett = _mm_set_epi64x(0x01F7011641, 0x01DB710641);
    const __m128i mask = _mm_setr_epi32(~0, 0, ~0, 0);

    __m128i a = _mm_xor_si128(crc32_load(data), _mm_cvtsi32_si128((int32_t)crc));
    __m128i b = crc32_load(data + 16);
    __m128i c = crc32_load(data + 32);
    __m128i d = crc32_load(data + 48);
    data += 64, bytes -= 64;
    for (; bytes >= 64; data += 64, bytes -= 64) {
        a = crc32_folded(a, by_64, crc32_load(data));
        b = crc32_folded(b, by_64, crc32_load(data + 16));
        c = crc32_folded(c, by_64, crc32_load(data + 32));
        d = crc32_folded(d, by_64, crc32_load(data + 48));
    }
    a = crc32_folded(a, by_16, b);
    a = crc32_folded(a, by_16, c);
    a = crc32_folded(a, by_16, d);
    for (; bytes >= 16; data += 16, bytes -= 16) a = crc32_folded(a, by_16, crc32_load(data));

    /* 128 bits to 64, then 64 to 32 by Barrett's reduction. */
    __m128i folded = _mm_clmulepi64_si128(a, by_16, 0x10);
    a = _mm_xor_si128(_mm_srli_si128(a, 8), folded);
    folded = _mm_srli_si128(a, 4);
    a = _mm_clmulepi64_si128(_mm_and_si128(a, mask), by_8, 0x00);
    a = _mm_xor_si128(a, folded);
    folded = _mm_clmulepi64_si128(_mm_and_si128(a, mask), barrett, 0x10);
    folded = _mm_clmulepi64_si128(_mm_and_si128(folded, mask), barrett, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, folded), 1);
}
#endif

/* The checksum of `bytes` bytes at `data`, continuing from `crc`; 0 to begin, as zlib's crc32. */
static uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t bytes) {
    crc = ~crc;
#if defined(__x86_64__)
    if (crc32_folds && bytes >= 64) {
        size_t folded = bytes & ~(size_t)15;
        crc = crc32_by_folding(crc, data, folded);
        data += folded, bytes -= folded;
    }
#endif
    return ~crc32_by_table(crc, data, bytes);
}

#endif
