/* files.c -- small files that are replaced whole: checkpoints and metadata.
 *
 * One writer for all of them, because the order is easy to get wrong and each step has lost data
 * somewhere:
 *
 *   1. write NAME.tmp and fdatasync it     a rename may reach the disk before the content does
 *   2. rename NAME.tmp to NAME             atomic for names: old content or new, nothing between
 *   3. fsync the directory                 a synced file without a name is a lost file
 *
 * A checkpoint of one log's directory is Kafka's OffsetCheckpoint file with a single line:
 *
 *   0                      version
 *   1                      number of lines that follow
 *   events 0 183042        topic, partition, offset
 *
 * Topic and partition are taken from the directory's name, as Kafka builds it (TOPIC-PARTITION);
 * reading ignores them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "internal.h"

const char sl_recovery_point_file[] = "recovery-point-offset-checkpoint";
const char sl_log_start_file[] = "log-start-offset-checkpoint";
const char sl_truncation_file[] = ".truncation";

sl_status sl_place_open(const char *directory, sl_place **out) {
    if (directory == NULL || directory[0] == '\0')
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "the directory's name is empty");
    sl_place *place = sl_os.allocate_zeroed(sizeof *place);
    if (place == NULL) return sl_fail_memory("opening a directory");
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/') length--;
    if (length >= sizeof place->path) {
        free(place);
        return sl_fail(SL_E_INVALID, ENAMETOOLONG, NULL, NULL, -1, -1,
                       "the directory's name is longer than %zu bytes", sizeof place->path - 1);
    }
    memcpy(place->path, directory, length);
    atomic_store(&place->references, 1);
    place->dir_fd = sl_os.open(AT_FDCWD, place->path, O_RDONLY | O_DIRECTORY, 0);
    if (place->dir_fd < 0) {
        sl_status status =
            sl_fail_errno(place->dir_fd, place->path, NULL, "cannot open the directory");
        free(place);
        return status;
    }
    *out = place;
    return SL_OK;
}

void sl_place_retain(sl_place *place) {
    atomic_fetch_add_explicit(&place->references, 1, memory_order_relaxed);
}

void sl_place_release(sl_place *place) {
    if (place == NULL) return;
    if (atomic_fetch_sub_explicit(&place->references, 1, memory_order_acq_rel) != 1) return;
    close(place->dir_fd);
    free(place);
}

sl_status sl_file_replace_at(const sl_place *place, const char *name, const void *data,
                             size_t bytes) {
    char temporary[256];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.tmp", name) >= sizeof temporary)
        return sl_fail(SL_E_INVALID, ENAMETOOLONG, place->path, name, -1, -1,
                       "the name is too long");
    int fd = sl_os.open(place->dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return sl_fail_errno(fd, place->path, temporary, "cannot create");
    int rc = sl_os_pwrite_full(fd, data, bytes, 0);
    const char *doing = "cannot write";
    if (rc == 0) {
        rc = sl_os.sync_data(fd);
        doing = "cannot sync";
    }
    close(fd);
    if (rc == 0) {
        rc = sl_os.rename(place->dir_fd, temporary, name);
        doing = "cannot rename into place";
    }
    if (rc != 0) {
        (void)sl_os.unlink(place->dir_fd, temporary);
        return sl_fail_errno(rc, place->path, name, doing);
    }
    rc = sl_os.sync_directory(place->dir_fd);
    if (rc != 0) return sl_fail_errno(rc, place->path, NULL, "cannot sync the directory");
    return SL_OK;
}

sl_status sl_file_replace(const char *path, const uint8_t *data, size_t bytes) {
    if (path == NULL || (data == NULL && bytes > 0))
        return sl_fail(SL_E_INVALID, 0, NULL, NULL, -1, -1, "path or data is NULL");
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    char directory[960] = ".";
    size_t length = slash != NULL ? (size_t)(slash - path) : 0;
    if (name[0] == '\0' || length >= sizeof directory)
        return sl_fail(SL_E_INVALID, 0, path, NULL, -1, -1, "not the path of a file");
    if (slash == path) {
        memcpy(directory, "/", 2);
    } else if (slash != NULL) {
        memcpy(directory, path, length);
        directory[length] = '\0';
    }
    sl_place *place;
    sl_status status = sl_place_open(directory, &place);
    if (status != SL_OK) return status;
    status = sl_file_replace_at(place, name, data, bytes);
    sl_place_release(place);
    return status;
}

sl_status sl_file_read_at(const sl_place *place, const char *name, char *out, size_t capacity,
                          size_t *out_bytes) {
    int fd = sl_os.open(place->dir_fd, name, O_RDONLY, 0);
    if (fd < 0) return sl_fail_errno(fd, place->path, name, "cannot open");
    ssize_t got = sl_os_pread_full(fd, out, capacity, 0);
    close(fd);
    if (got < 0) return sl_fail_errno((int)got, place->path, name, "cannot read");
    *out_bytes = (size_t)got;
    return SL_OK;
}

static int64_t checkpoint_offset(char *text) {
    /* Version and count on lines of their own, then the offset as the third line's last word. */
    char *line = strchr(text, '\n');
    if (line == NULL || strncmp(text, "0\n", 2) != 0 || strncmp(line + 1, "1\n", 2) != 0) return -1;
    char *entry = line + 3;
    char *end = strchr(entry, '\n');
    if (end == NULL) return -1;
    *end = '\0';
    char *word = strrchr(entry, ' ');
    if (word == NULL || word[1] < '0' || word[1] > '9') return -1;
    char *rest;
    errno = 0;
    long long offset = strtoll(word + 1, &rest, 10);
    if (errno != 0 || *rest != '\0' || offset < 0) return -1;
    return offset;
}

sl_status sl_checkpoint_read(const sl_place *place, const char *name, int64_t *out_offset) {
    char text[2048];
    size_t bytes;
    *out_offset = -1;
    sl_status status = sl_file_read_at(place, name, text, sizeof text - 1, &bytes);
    if (status == SL_E_NOT_FOUND) return SL_OK;
    if (status != SL_OK) return status;
    text[bytes] = '\0';
    *out_offset = checkpoint_offset(text);
    return SL_OK;
}

sl_status sl_checkpoint_write(const sl_place *place, const char *name, int64_t offset) {
    const char *base = strrchr(place->path, '/');
    base = base != NULL && base[1] != '\0' ? base + 1 : place->path;
    char topic[256];
    size_t length = strlen(base);
    if (length >= sizeof topic) length = sizeof topic - 1;
    memcpy(topic, base, length);
    topic[length] = '\0';
    long partition = 0;
    char *dash = strrchr(topic, '-');
    if (dash != NULL && dash != topic && dash[1] >= '0' && dash[1] <= '9') {
        char *rest;
        errno = 0;
        long number = strtol(dash + 1, &rest, 10);
        if (errno == 0 && *rest == '\0' && number <= INT32_MAX) {
            partition = number;
            *dash = '\0';
        }
    }
    for (char *p = topic; *p != '\0'; p++)
        if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') *p = '_';
    char text[512];
    int bytes =
        snprintf(text, sizeof text, "0\n1\n%s %ld %lld\n", topic, partition, (long long)offset);
    return sl_file_replace_at(place, name, text, (size_t)bytes);
}
