/* scan.h -- walking the bytes of a segment that nobody vouches for: see scan.c. */
#ifndef SL_SCAN_H
#define SL_SCAN_H

#include "internal.h"

typedef struct sl_scan {
    int64_t position;    /* end of the sound prefix */
    int64_t next_offset; /* of the record that would stand there */
    int64_t batches;     /* checked by CRC */
    int64_t file_bytes;
    const char *fault; /* why it ended before the end of the file; NULL: end, or only zeros there */
    bool unsupported;  /* the fault is an older message format */
} sl_scan;

/* Walk batches of mapped bytes [position, bytes).  Batches below crc_from_offset are checked for
 * framing and order only.  Ends at the first that is not sound, or where a header is all zero.
 * contiguous: each base offset must be exactly the expected one (a log that is never compacted). */
sl_status sl_scan_bytes(const sl_place *place, int64_t base_offset, const uint8_t *map,
                        int64_t position, int64_t bytes, int64_t next_offset,
                        int64_t crc_from_offset, bool contiguous, sl_scan *out);

/* Open, map and scan a segment file.  start_hint: a position where a batch is known to begin whose
 * base offset is hint_offset, or 0 and the segment's base offset. */
sl_status sl_scan_file(const sl_place *place, int64_t base_offset, int64_t start_hint,
                       int64_t hint_offset, int64_t crc_from_offset, bool contiguous,
                       bool drop_cache, sl_scan *out);

/* Position of the first batch in [from, bytes) with a right CRC and a base offset in
 * [offset_min, offset_max); `bytes` if there is none.  Searches every byte position. */
int64_t sl_scan_find_sound(const uint8_t *map, int64_t from, int64_t bytes, int64_t offset_min,
                           int64_t offset_max);

/* How many such batches stand in a file beyond `from`. */
int64_t sl_scan_count_later(const sl_place *place, int64_t base_offset, int64_t from,
                            int64_t offset_min);

#endif
