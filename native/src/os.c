/* os.c -- the real operating system behind the table of os.h.
 *
 * Three calls deserve their reason:
 *
 *   reserve   fallocate with mode 0: blocks are taken and the file grows, so that a later store
 *             through a map cannot meet a full disk.  The extents stay unwritten: writing zeros
 *             instead makes large dirty folios and a durable append several times slower.  Where a
 *             file system has no fallocate the stretch is written with zeros after all.
 *   populate  MADV_POPULATE_READ / _WRITE (Linux 5.14): faults the pages in and *returns* the error
 *             (EFAULT, EIO, EHWPOISON) where touching them would raise SIGBUS.  Older kernels
 *             answer EINVAL, which counts as success: they lose the guard, not the function.
 *   map       one shared map from position 0, as long as the file may ever become.  Address space
 *             is free; touching beyond the end of the file is not, so nobody may. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static int real_open(int dir_fd, const char *name, int flags, int mode) {
    int fd;
    do {
        fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static int real_mkdir(const char *path, int mode) {
    return mkdir(path, (mode_t)mode) == 0 ? 0 : -errno;
}

static int write_zeros(int fd, int64_t start, int64_t bytes) {
    static const uint8_t zeros[65536];
    while (bytes > 0) {
        size_t chunk = bytes < (int64_t)sizeof zeros ? (size_t)bytes : sizeof zeros;
        int rc = sl_os_pwrite_full(fd, zeros, chunk, start);
        if (rc != 0) return rc;
        start += (int64_t)chunk;
        bytes -= (int64_t)chunk;
    }
    return 0;
}

static int real_reserve(int fd, int64_t start, int64_t bytes) {
    int rc;
    do {
        rc = fallocate(fd, 0, start, bytes);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0) return 0;
    if (errno == EOPNOTSUPP || errno == ENOSYS) return write_zeros(fd, start, bytes);
    return -errno;
}

static int real_truncate(int fd, int64_t bytes) {
    int rc;
    do {
        rc = ftruncate(fd, bytes);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

static int real_sync_data(int fd) { return fdatasync(fd) == 0 ? 0 : -errno; }

static int real_sync_directory(int fd) { return fsync(fd) == 0 ? 0 : -errno; }

static int real_rename(int dir_fd, const char *from, const char *to) {
    return renameat(dir_fd, from, dir_fd, to) == 0 ? 0 : -errno;
}

static int real_unlink(int dir_fd, const char *name) {
    return unlinkat(dir_fd, name, 0) == 0 ? 0 : -errno;
}

static ssize_t real_pread(int fd, void *out, size_t bytes, int64_t position) {
    ssize_t n;
    do {
        n = pread(fd, out, bytes, position);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t real_pwrite(int fd, const void *data, size_t bytes, int64_t position) {
    ssize_t n;
    do {
        n = pwrite(fd, data, bytes, position);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int real_map(int fd, size_t bytes, int writable, uint8_t **out_map) {
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *map = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return -errno;
    *out_map = map;
    return 0;
}

static int real_populate(const uint8_t *address, size_t bytes, int writable) {
    size_t page = 4096;
    uintptr_t start = (uintptr_t)address & ~(uintptr_t)(page - 1);
    uintptr_t end = ((uintptr_t)address + bytes + page - 1) & ~(uintptr_t)(page - 1);
    int advice = writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    int rc;
    do {
        rc = madvise((void *)start, end - start, advice);
    } while (rc != 0 && (errno == EINTR || errno == EAGAIN));
    if (rc == 0 || errno == EINVAL) return 0;
    return -errno;
}

static void *real_allocate(size_t bytes) { return malloc(bytes); }
static void *real_allocate_zeroed(size_t bytes) { return calloc(1, bytes); }
static void *real_reallocate(void *old, size_t bytes) { return realloc(old, bytes); }

#define SL_OS_REAL_ENTRIES                                                                         \
    {real_open,      real_mkdir,           real_reserve,   real_truncate,                          \
     real_sync_data, real_sync_directory,  real_rename,    real_unlink,                            \
     real_pread,     real_pwrite,          real_map,       real_populate,                          \
     real_allocate,  real_allocate_zeroed, real_reallocate}

const sl_os_table sl_os_real = SL_OS_REAL_ENTRIES;
sl_os_table sl_os = SL_OS_REAL_ENTRIES;

ssize_t sl_os_pread_full(int fd, void *out, size_t bytes, int64_t position) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = sl_os.pread(fd, (uint8_t *)out + done, bytes - done, position + (int64_t)done);
        if (n < 0) return n;
        if (n == 0) break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int sl_os_pwrite_full(int fd, const void *data, size_t bytes, int64_t position) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t n =
            sl_os.pwrite(fd, (const uint8_t *)data + done, bytes - done, position + (int64_t)done);
        if (n < 0) return (int)n;
        if (n == 0) return -EIO;
        done += (size_t)n;
    }
    return 0;
}

void sl_os_unmap(uint8_t *map, size_t bytes) { munmap(map, bytes); }

int64_t sl_os_file_bytes(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? (int64_t)st.st_size : -errno;
}

int64_t sl_os_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t sl_os_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
