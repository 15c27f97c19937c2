/* believe.h -- how far the files of a directory are believed: see believe.c. */
#ifndef SL_BELIEVE_H
#define SL_BELIEVE_H

#include "scan.h"

typedef struct sl_belief {
    int64_t recovery_point;   /* walking the bytes begins here; -1: nobody vouches for any */
    int64_t known_durable;    /* everything below was synced; -1 unknown */
    int64_t log_start_offset; /* -1: where the first segment begins */
    int64_t truncation;       /* of a truncate_suffix that was decided and not finished; -1 none */
    bool contiguous;          /* only our own appends made this tail: offsets have no gaps */
    bool drop_cache;          /* the page cache may show what the disk does not have */
} sl_belief;

typedef struct sl_verdict {
    sl_scan scan;
    bool gap;       /* sound to its end, but the next segment begins later */
    bool ends_here; /* the log ends in this segment; what lies behind is no part of it */
    bool lost;      /* and it ends below known_durable: records are missing */
    bool unstarted; /* and below its own start: that checkpoint or the records are damaged */
} sl_verdict;

/* Read the small files.  previous_durable: by the control page, -1 unknown. */
sl_status sl_belief_read(sl_log *log, int64_t previous_durable, sl_belief *out);

/* A decided truncation was carried out: nothing from end_offset on was ever there. */
void sl_belief_cut(sl_belief *belief, int64_t end_offset);

/* The first segment that has to be walked; those before it are whole. */
int32_t sl_belief_first(const sl_belief *belief, const int64_t *bases, int32_t count);

/* Walk segment i of those that begin at bases[0..count).  hint: an offset that an index entry may stand
 * for, so that walking begins there. */
sl_status sl_believe_segment(sl_log *log, const sl_belief *belief, int64_t hint,
                             const int64_t *bases, int32_t count, int32_t i, sl_verdict *out);

#endif
