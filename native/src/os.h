/* os.h -- the one seam between the engine and the operating system.
 *
 * Every call that can fail because of a disk, a full file system or missing memory goes through the
 * table `sl_os`.  Tests put their own functions there to fail the Nth call, to stop the process at
 * the Nth call, or to count what really happened; nothing else may replace an entry.
 *
 * Functions return 0 (or a descriptor, or bytes) and on failure -errno, so that no caller depends
 * on the thread's errno after further calls. */
#ifndef SL_OS_H
#define SL_OS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct sl_os_table {
    int (*open)(int dir_fd, const char *name, int flags, int mode); /* O_CLOEXEC is added */
    int (*mkdir)(const char *path, int mode);
    int (*reserve)(int fd, int64_t start, int64_t bytes); /* blocks and file size, zero-filled */
    int (*truncate)(int fd, int64_t bytes);
    int (*sync_data)(int fd);      /* fdatasync */
    int (*sync_directory)(int fd); /* fsync of a directory */
    int (*rename)(int dir_fd, const char *from, const char *to);
    int (*unlink)(int dir_fd, const char *name);
    ssize_t (*pread)(int fd, void *out, size_t bytes, int64_t position);
    ssize_t (*pwrite)(int fd, const void *data, size_t bytes, int64_t position);
    int (*map)(int fd, size_t bytes, int writable, uint8_t **out_map); /* MAP_SHARED from 0 */
    /* Fault pages in and say so when that fails, where a plain access would be a SIGBUS. */
    int (*populate)(const uint8_t *address, size_t bytes, int writable);
    void *(*allocate)(size_t bytes);        /* malloc; NULL on failure */
    void *(*allocate_zeroed)(size_t bytes); /* calloc: large blocks cost nothing until touched */
    void *(*reallocate)(void *old, size_t bytes);
} sl_os_table;

extern sl_os_table sl_os;

/* The real functions, for tests that wrap them. */
extern const sl_os_table sl_os_real;

/* Read exactly `bytes`, or fewer at the end of the file.  Returns bytes read or -errno. */
ssize_t sl_os_pread_full(int fd, void *out, size_t bytes, int64_t position);
/* Write exactly `bytes`.  Returns 0 or -errno. */
int sl_os_pwrite_full(int fd, const void *data, size_t bytes, int64_t position);

void sl_os_unmap(uint8_t *map, size_t bytes);
int64_t sl_os_file_bytes(int fd); /* or -errno */
int64_t sl_os_now_ms(void);       /* CLOCK_REALTIME */
int64_t sl_os_monotonic_ns(void);

#endif
