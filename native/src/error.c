/* error.c -- one failure record per thread, and the checks that stay on in release builds.
 *
 * A failing function fills the record once, at the place that knows file, offset and position, and
 * every caller above passes the bare status through.  Nothing is allocated, so that the report of
 * "out of memory" cannot itself fail.  Who can act decides the status: the caller (INVALID,
 * OUT_OF_RANGE, ...), the operator (NO_SPACE, LOCKED, CORRUPT), or nobody in this process
 * (POISONED); a broken invariant of the engine itself ends the process in sl_check_failed. */
#define _GNU_SOURCE
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local sl_error last_error = {.offset = -1, .position = -1};

const sl_error *sl_last_error(void) { return &last_error; }

static const char *const status_names[] = {
    "SL_OK",       "SL_E_INVALID",     "SL_E_OUT_OF_RANGE", "SL_E_NOT_FOUND", "SL_E_EXISTS",
    "SL_E_IO",     "SL_E_NO_SPACE",    "SL_E_NO_MEMORY",    "SL_E_CORRUPT",   "SL_E_POISONED",
    "SL_E_LOCKED", "SL_E_CLOSED",      "SL_E_FORKED",       "SL_E_READ_ONLY", "SL_E_TOO_LARGE",
    "SL_E_CODEC",  "SL_E_UNSUPPORTED", "SL_E_TIMED_OUT",
};

const char *sl_status_name(int32_t status) {
    if (status < 0 || (size_t)status >= sizeof status_names / sizeof status_names[0]) return "?";
    return status_names[status];
}

const char *sl_version(void) { return "0.1.0"; }

sl_status sl_fail(sl_status status, int system_errno, const char *dir, const char *name,
                  int64_t offset, int64_t position, const char *format, ...) {
    sl_error *error = &last_error;
    error->status = (int32_t)status;
    error->system_errno = system_errno;
    error->offset = offset;
    error->position = position;
    if (dir != NULL && name != NULL) {
        snprintf(error->path, sizeof error->path, "%s/%s", dir, name);
    } else {
        snprintf(error->path, sizeof error->path, "%s",
                 dir != NULL    ? dir
                 : name != NULL ? name
                                : "");
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return status;
}

sl_status sl_status_of_errno(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT: return SL_E_NO_SPACE;
    case ENOMEM: return SL_E_NO_MEMORY;
    case ENOENT:
    case ENOTDIR: return SL_E_NOT_FOUND;
    default: return SL_E_IO;
    }
}

sl_status sl_fail_errno(int negative_errno, const char *dir, const char *name, const char *doing) {
    int error = -negative_errno;
    return sl_fail(sl_status_of_errno(error), error, dir, name, -1, -1, "%s: %s", doing,
                   strerror(error));
}

sl_status sl_fail_memory(const char *doing) {
    return sl_fail(SL_E_NO_MEMORY, ENOMEM, NULL, NULL, -1, -1, "out of memory while %s", doing);
}

_Noreturn void sl_check_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "stratalog: internal invariant broken: %s (%s:%d)\n", condition, file, line);
    abort();
}
