/* scratch.h -- what the fuzzers share: a directory in memory, whole files, and how to complain.
 *
 * The directory lies in /dev/shm, else below TMPDIR or /tmp, and goes away at exit; after a finding it
 * stays, since it is part of the finding. */
#ifndef SL_FUZZ_SCRATCH_H
#define SL_FUZZ_SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stratalog.h"

/* What libFuzzer calls, and what it lends (standalone.c lends it where there is no libFuzzer). */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* The invariant is broken: say which, and stop where a debugger can look. */
#define HOLDS(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n  last error: %s: %s (%s)\n",                                       \
                    sl_status_name(sl_last_error()->status), sl_last_error()->message,             \
                    sl_last_error()->path);                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static char scratch_root[256];

static inline const char *scratch_path(char out[512], const char *name) {
    snprintf(out, 512, "%s/%s", scratch_root, name);
    return out;
}

/* Remove the files of one directory (the fuzzers nest no deeper). */
static inline void scratch_empty(const char *path) {
    DIR *directory = opendir(path);
    if (directory == NULL) return;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
}

static inline void scratch_remove(void) {
    DIR *directory = opendir(scratch_root);
    if (directory == NULL) return;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char inner[512];
        scratch_empty(scratch_path(inner, entry->d_name));
        (void)rmdir(inner);
    }
    closedir(directory);
    (void)rmdir(scratch_root);
}

static inline void scratch_begin(const char *name) {
    const char *parent = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0) parent = "/dev/shm";
    snprintf(scratch_root, sizeof scratch_root, "%s/stratalog-%s-XXXXXX",
             parent != NULL ? parent : "/tmp", name);
    HOLDS(mkdtemp(scratch_root) != NULL, "%s", scratch_root);
    atexit(scratch_remove);
}

static inline void scratch_write(const char *directory, const char *name, const void *data,
                                 size_t bytes) {
    char path[800];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    HOLDS(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes, "%s", path);
    close(fd);
}

/* The whole file, malloc'ed; NULL where there is none. */
static inline uint8_t *scratch_read(const char *directory, const char *name, size_t *out_bytes) {
    char path[800];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    struct stat st;
    HOLDS(fstat(fd, &st) == 0, "%s", path);
    *out_bytes = (size_t)st.st_size;
    uint8_t *data = malloc(*out_bytes + 1);
    HOLDS(data != NULL && read(fd, data, *out_bytes) == (ssize_t)*out_bytes, "%s", path);
    close(fd);
    return data;
}

/* Numbers for mutators: one seed, one sequence. */
static inline uint32_t scratch_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

#endif
