/* truncate.h -- what recovery needs of truncate.c. */
#ifndef SL_TRUNCATE_H
#define SL_TRUNCATE_H

#include "internal.h"

/* Carry out again a truncate_suffix to `offset` that a crash interrupted.  bases[0..*count) are the
 * segments there are; *count shrinks to those that stay.  *out_end_offset: where the log ends now. */
sl_status sl_truncation_redo(sl_log *log, const int64_t *bases, int32_t *count, int64_t offset,
                             int64_t *out_end_offset);

#endif
