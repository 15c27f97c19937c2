/*
 * crc32c.h: the checksum of record batches, CRC-32C (Castagnoli).
 *
 * Every function here may be called from any number of threads at once.
 * How the work is done, and how fast, is told at the top of crc32c.c.
 */
#ifndef STRATALOG_CRC32C_H
#define STRATALOG_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * Returns the checksum of `bytes` bytes at `data`, continuing from `crc`.
 *
 * Pass 0 to start, or the result of a previous call to continue where that
 * call ended; the inversions before and after are done inside, so that
 * sl_crc32c(0, "123456789", 9) is 0xE3069283.  `data` may have any alignment,
 * and may be NULL when `bytes` is 0.
 */
uint32_t sl_crc32c(uint32_t crc, const void *data, size_t bytes);

/*
 * Returns the checksum of two pieces laid end to end, given the checksum of
 * each and the length of the second.  Neither piece is read, and the cost
 * grows only with the number of bits in `bytes_b`.
 */
uint32_t sl_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t bytes_b);

/*
 * Names the implementation now in use: "vpclmulqdq", "pclmulqdq", "sse4.2",
 * "armv8" or "table".  The string is constant and is never freed.
 */
const char *sl_crc32c_implementation(void);

/*
 * Chooses an implementation by one of the names above, for the whole process;
 * NULL goes back to the best one this processor has.  Returns 0, or -1 (and
 * changes nothing) when this processor or this build lacks it.  All of them
 * give the same results, so this is for tests and benchmarks.
 */
int sl_crc32c_force(const char *name);

#endif
