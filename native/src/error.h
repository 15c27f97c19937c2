/* error.h -- how a function of the engine reports failure: see error.c. */
#ifndef SL_ERROR_H
#define SL_ERROR_H

#include <stdlib.h>

#include "stratalog.h"

/* Record the thread's last failure and return `status`.  `dir` and `name` are joined with a slash;
 * either may be NULL.  offset and position: -1 where they say nothing. */
__attribute__((format(printf, 7, 8))) sl_status sl_fail(sl_status status, int system_errno,
                                                        const char *dir, const char *name,
                                                        int64_t offset, int64_t position,
                                                        const char *format, ...);

/* The status that suits a -errno: ENOSPC and EDQUOT are SL_E_NO_SPACE, ENOMEM is SL_E_NO_MEMORY. */
sl_status sl_status_of_errno(int error);

/* sl_fail for a system call that answered -errno. */
sl_status sl_fail_errno(int negative_errno, const char *dir, const char *name, const char *doing);
sl_status sl_fail_memory(const char *doing);

/* An invariant of the engine.  Always on: CPython's own flags define NDEBUG, and a log that goes
 * on after a broken invariant writes damage. */
_Noreturn void sl_check_failed(const char *condition, const char *file, int line);
#define SL_CHECK(condition)                                                                        \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) sl_check_failed(#condition, __FILE__, __LINE__);    \
    } while (0)

#define SL_LIKELY(x) __builtin_expect(!!(x), 1)
#define SL_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A variable that is always set before it is read, in a loop too hot to pay for zeroing it first (the
 * build zeroes automatic variables otherwise). */
#if defined(__has_attribute)
#if __has_attribute(uninitialized)
#define SL_UNINITIALIZED __attribute__((uninitialized))
#endif
#endif
#ifndef SL_UNINITIALIZED
#define SL_UNINITIALIZED
#endif

#endif
