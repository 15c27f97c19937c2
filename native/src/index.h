/* index.h -- Kafka's two sparse indexes of one segment.  Big-endian, no header, no checksum.
 *
 *   .index      8 bytes an entry    | relative last offset of a batch i32 | its position i32 |
 *   .timeindex 12 bytes an entry    | largest timestamp so far i64 | relative last offset i32 |
 *                                     of the batch that holds it
 *
 * An entry is written once more than index_interval_bytes of batches stand before it since the last
 * entry, and the time index gets one more when its segment is sealed.  Relative means: minus the
 * segment's base offset.  Keys rise strictly.  Unused space is zero; an entry of zeros is unused,
 * since no entry can point to position 0.
 *
 * Indexes are hints: nobody waits for their sync, every lookup is checked against the log itself,
 * and a bad one is thrown away and built again. */
#ifndef SL_INDEX_H
#define SL_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>

#include "stratalog.h"

enum { SL_OFFSET_ENTRY_BYTES = 8, SL_TIME_ENTRY_BYTES = 12 };

typedef struct sl_place sl_place;

typedef struct sl_index {
    uint8_t *map;
    size_t map_bytes; /* of address space */
    int fd;           /* open while writable, else -1 */
    bool on_heap;     /* map is malloc'ed: a snapshot of a file somebody else writes */
    int32_t entry_bytes;
    int32_t entries_max;
    _Atomic int64_t file_bytes; /* reserved so far */
    _Atomic int32_t entries;
    int64_t last_key; /* relative offset, or timestamp; what the next entry must exceed */
} sl_index;

void sl_index_init(sl_index *index, int32_t entry_bytes);

/* A new empty file of this name, any old one unlinked first so that readers keep theirs. */
sl_status sl_index_create(sl_index *index, const sl_place *place, const char *name,
                          int64_t bytes_max);
/* The existing file, to append to.  SL_E_CORRUPT when its length or order cannot be right. */
sl_status sl_index_open_writable(sl_index *index, const sl_place *place, const char *name,
                                 int64_t bytes_max);
/* The existing file read-only; `snapshot` copies it, for a file that is being written. */
sl_status sl_index_open_reader(sl_index *index, const sl_place *place, const char *name,
                               bool snapshot);
void sl_index_close(sl_index *index);

/* Whether entries_total fit into what is reserved, or into what may ever be. */
bool sl_index_has_room(const sl_index *index, int32_t entries_total);
/* Reserve room for entries_total, so that appending cannot fail.  SL_E_NO_SPACE, ... */
sl_status sl_index_reserve(sl_index *index, const sl_place *place, const char *name,
                           int32_t entries_total);
/* Touch the page the next entry goes to, so that a store there cannot be a SIGBUS. */
int sl_index_warm(const sl_index *index);
bool sl_index_full(const sl_index *index);
/* Whether the file holds entries and nothing else, as sealing leaves it. */
bool sl_index_is_trimmed(const sl_index *index);
void sl_index_append_offset(sl_index *index, int32_t relative_offset, int32_t position);
void sl_index_append_time(sl_index *index, int64_t timestamp_ms, int32_t relative_offset);
void sl_index_rewind(sl_index *index, int32_t entries); /* undo appends */
/* Cut the file to its entries; appending may go on after a new sl_index_reserve. */
sl_status sl_index_trim(sl_index *index, const sl_place *place, const char *name);
/* No more entries after a trim: make the map read-only. */
void sl_index_seal(sl_index *index);

typedef struct sl_offset_entry {
    int32_t relative_offset;
    int32_t position;
} sl_offset_entry;
typedef struct sl_time_entry {
    int64_t timestamp_ms;
    int32_t relative_offset;
} sl_time_entry;

sl_offset_entry sl_index_offset_entry(const sl_index *index, int32_t i);
sl_time_entry sl_index_time_entry(const sl_index *index, int32_t i);

/* The last entry whose offset (timestamp) is <= the target: its number, or -1. */
int32_t sl_index_floor_offset(const sl_index *index, int32_t relative_offset);
int32_t sl_index_floor_time(const sl_index *index, int64_t timestamp_ms);

#endif
