/* index.c -- writing, reading and searching the indexes drawn in index.h.
 *
 * A writable index is a map as long as the index may ever grow; the file under it is reserved in
 * small steps (sl_index_reserve) before entries are stored, so that a store never meets a hole.
 * Entries become visible by the atomic counter, stored after the bytes: readers in this process
 * search a growing index without a lock.  Readers elsewhere take a snapshot of the file. */
#define _GNU_SOURCE
#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "batch.h"
#include "internal.h"
#include "os.h"

void sl_index_init(sl_index *index, int32_t entry_bytes) {
    *index = (sl_index){.fd = -1, .entry_bytes = entry_bytes, .last_key = -1};
}

static const uint8_t *entry_at(const sl_index *index, int32_t i) {
    return index->map + (size_t)i * (size_t)index->entry_bytes;
}

sl_offset_entry sl_index_offset_entry(const sl_index *index, int32_t i) {
    const uint8_t *p = entry_at(index, i);
    return (sl_offset_entry){sl_get_i32(p), sl_get_i32(p + 4)};
}

sl_time_entry sl_index_time_entry(const sl_index *index, int32_t i) {
    const uint8_t *p = entry_at(index, i);
    return (sl_time_entry){sl_get_i64(p), sl_get_i32(p + 8)};
}

static int64_t key_at(const sl_index *index, int32_t i) {
    return index->entry_bytes == SL_OFFSET_ENTRY_BYTES
               ? sl_index_offset_entry(index, i).relative_offset
               : sl_index_time_entry(index, i).timestamp_ms;
}

static bool entry_is_unused(const sl_index *index, int32_t i) {
    const uint8_t *p = entry_at(index, i);
    for (int32_t k = 0; k < index->entry_bytes; k++)
        if (p[k] != 0) return false;
    return true;
}

/* Entries in use: unused ones are zeros at the end (a file that its writer never trimmed). */
static int32_t count_entries(const sl_index *index, int32_t capacity) {
    int32_t low = 0;
    int32_t high = capacity;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (entry_is_unused(index, middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static sl_status map_writable(sl_index *index, const sl_place *place, const char *name,
                              int64_t bytes_max) {
    index->entries_max = (int32_t)(bytes_max / index->entry_bytes);
    index->map_bytes = (size_t)(bytes_max + 4095) & ~(size_t)4095;
    int rc = sl_os.map(index->fd, index->map_bytes, 1, &index->map);
    if (rc != 0) {
        index->map = NULL;
        return sl_fail_errno(rc, place->path, name, "cannot map the index");
    }
    return SL_OK;
}

sl_status sl_index_create(sl_index *index, const sl_place *place, const char *name,
                          int64_t bytes_max) {
    sl_index_close(index);
    int rc = sl_os.unlink(place->dir_fd, name);
    if (rc != 0 && rc != -ENOENT) return sl_fail_errno(rc, place->path, name, "cannot remove");
    index->fd = sl_os.open(place->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (index->fd < 0) {
        rc = index->fd;
        index->fd = -1;
        return sl_fail_errno(rc, place->path, name, "cannot create the index");
    }
    sl_status status = map_writable(index, place, name, bytes_max);
    if (status != SL_OK) sl_index_close(index);
    return status;
}

sl_status sl_index_open_writable(sl_index *index, const sl_place *place, const char *name,
                                 int64_t bytes_max) {
    sl_index_close(index);
    index->fd = sl_os.open(place->dir_fd, name, O_RDWR, 0);
    if (index->fd < 0) {
        int rc = index->fd;
        index->fd = -1;
        return sl_fail_errno(rc, place->path, name, "cannot open the index");
    }
    int64_t bytes = sl_os_file_bytes(index->fd);
    if (bytes < 0 || bytes % index->entry_bytes != 0 || bytes > bytes_max) {
        sl_index_close(index);
        return sl_fail(SL_E_CORRUPT, 0, place->path, name, -1, bytes,
                       "the index has an impossible length");
    }
    sl_status status = map_writable(index, place, name, bytes_max);
    if (status == SL_OK && bytes > 0) {
        int rc = sl_os.populate(index->map, (size_t)bytes, 0);
        if (rc != 0) status = sl_fail_errno(rc, place->path, name, "cannot read the index");
    }
    if (status != SL_OK) {
        sl_index_close(index);
        return status;
    }
    atomic_store_explicit(&index->file_bytes, bytes, memory_order_relaxed);
    int32_t entries = count_entries(index, (int32_t)(bytes / index->entry_bytes));
    atomic_store_explicit(&index->entries, entries, memory_order_release);
    index->last_key = entries > 0 ? key_at(index, entries - 1) : -1;
    return SL_OK;
}

sl_status sl_index_open_reader(sl_index *index, const sl_place *place, const char *name,
                               bool snapshot) {
    sl_index_close(index);
    int fd = sl_os.open(place->dir_fd, name, O_RDONLY, 0);
    if (fd < 0) return sl_fail_errno(fd, place->path, name, "cannot open the index");
    int64_t bytes = sl_os_file_bytes(fd);
    sl_status status = SL_OK;
    if (bytes < 0) status = sl_fail_errno((int)bytes, place->path, name, "cannot read the index");
    if (bytes >= ((int64_t)1 << 31))
        status = sl_fail(SL_E_CORRUPT, 0, place->path, name, -1, bytes,
                         "the index has an impossible length");
    if (status == SL_OK && bytes > 0 && snapshot) {
        index->map = sl_os.allocate((size_t)bytes);
        if (index->map == NULL) {
            status = sl_fail_memory("reading an index");
        } else {
            index->on_heap = true;
            ssize_t got = sl_os_pread_full(fd, index->map, (size_t)bytes, 0);
            if (got < 0)
                status = sl_fail_errno((int)got, place->path, name, "cannot read the index");
            bytes = got < 0 ? 0 : got;
        }
    } else if (status == SL_OK && bytes > 0) {
        int rc = sl_os.map(fd, (size_t)bytes, 0, &index->map);
        if (rc == 0) {
            index->map_bytes = (size_t)bytes;
            rc = sl_os.populate(index->map, (size_t)bytes, 0);
        } else {
            index->map = NULL;
        }
        if (rc != 0) status = sl_fail_errno(rc, place->path, name, "cannot map the index");
    }
    close(fd);
    if (status != SL_OK) {
        sl_index_close(index);
        return status;
    }
    int32_t capacity = (int32_t)(bytes / index->entry_bytes);
    atomic_store_explicit(&index->file_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&index->entries, count_entries(index, capacity), memory_order_release);
    return SL_OK;
}

bool sl_index_is_trimmed(const sl_index *index) {
    return atomic_load_explicit(&index->entries, memory_order_relaxed) *
               (int64_t)index->entry_bytes ==
           atomic_load_explicit(&index->file_bytes, memory_order_relaxed);
}

void sl_index_close(sl_index *index) {
    if (index->on_heap) {
        free(index->map);
    } else if (index->map != NULL) {
        munmap(index->map, index->map_bytes);
    }
    if (index->fd >= 0) close(index->fd);
    sl_index_init(index, index->entry_bytes);
}

static int64_t bytes_for(const sl_index *index, int32_t entries_total) {
    if (entries_total > index->entries_max) entries_total = index->entries_max;
    return (int64_t)entries_total * index->entry_bytes;
}

bool sl_index_has_room(const sl_index *index, int32_t entries_total) {
    return bytes_for(index, entries_total) <= index->file_bytes;
}

sl_status sl_index_reserve(sl_index *index, const sl_place *place, const char *name,
                           int32_t entries_total) {
    int64_t need = bytes_for(index, entries_total);
    if (need <= index->file_bytes) return SL_OK;
    int64_t end = (need + 4095) & ~(int64_t)4095;
    int64_t limit = (int64_t)index->entries_max * index->entry_bytes;
    if (end > limit) end = limit;
    int rc = sl_os.reserve(index->fd, index->file_bytes, end - index->file_bytes);
    if (rc == 0)
        rc = sl_os.populate(index->map + index->file_bytes, (size_t)(end - index->file_bytes), 1);
    if (rc != 0) return sl_fail_errno(rc, place->path, name, "cannot extend the index");
    atomic_store_explicit(&index->file_bytes, end, memory_order_relaxed);
    return SL_OK;
}

int sl_index_warm(const sl_index *index) {
    int64_t at =
        (int64_t)atomic_load_explicit(&index->entries, memory_order_relaxed) * index->entry_bytes;
    int64_t bytes =
        index->file_bytes - at < index->entry_bytes ? index->file_bytes - at : index->entry_bytes;
    if (bytes <= 0) return 0;
    return sl_os.populate(index->map + at, (size_t)bytes, 1);
}

bool sl_index_full(const sl_index *index) {
    int32_t entries = atomic_load_explicit(&index->entries, memory_order_relaxed);
    /* The time index keeps one entry free for the one that sealing adds. */
    int32_t keep = index->entry_bytes == SL_TIME_ENTRY_BYTES ? 1 : 0;
    return entries >= index->entries_max - keep;
}

void sl_index_append_offset(sl_index *index, int32_t relative_offset, int32_t position) {
    int32_t i = atomic_load_explicit(&index->entries, memory_order_relaxed);
    if (i >= index->entries_max || relative_offset <= index->last_key) return;
    SL_CHECK(((int64_t)i + 1) * index->entry_bytes <= index->file_bytes);
    uint8_t *p = index->map + (size_t)i * SL_OFFSET_ENTRY_BYTES;
    sl_put_u32(p, (uint32_t)relative_offset);
    sl_put_u32(p + 4, (uint32_t)position);
    index->last_key = relative_offset;
    atomic_store_explicit(&index->entries, i + 1, memory_order_release);
}

void sl_index_append_time(sl_index *index, int64_t timestamp_ms, int32_t relative_offset) {
    int32_t i = atomic_load_explicit(&index->entries, memory_order_relaxed);
    if (i >= index->entries_max || timestamp_ms <= index->last_key) return;
    SL_CHECK(((int64_t)i + 1) * index->entry_bytes <= index->file_bytes);
    uint8_t *p = index->map + (size_t)i * SL_TIME_ENTRY_BYTES;
    sl_put_u64(p, (uint64_t)timestamp_ms);
    sl_put_u32(p + 8, (uint32_t)relative_offset);
    index->last_key = timestamp_ms;
    atomic_store_explicit(&index->entries, i + 1, memory_order_release);
}

void sl_index_rewind(sl_index *index, int32_t entries) {
    int32_t now = atomic_load_explicit(&index->entries, memory_order_relaxed);
    if (now <= entries) return;
    atomic_store_explicit(&index->entries, entries, memory_order_release);
    memset(index->map + (size_t)entries * (size_t)index->entry_bytes, 0,
           (size_t)(now - entries) * (size_t)index->entry_bytes);
    index->last_key = entries > 0 ? key_at(index, entries - 1) : -1;
}

sl_status sl_index_trim(sl_index *index, const sl_place *place, const char *name) {
    if (index->fd < 0) return SL_OK;
    int64_t bytes =
        (int64_t)atomic_load_explicit(&index->entries, memory_order_relaxed) * index->entry_bytes;
    int rc = sl_os.truncate(index->fd, bytes);
    if (rc != 0) return sl_fail_errno(rc, place->path, name, "cannot trim the index");
    atomic_store_explicit(&index->file_bytes, bytes, memory_order_relaxed);
    return SL_OK;
}

void sl_index_seal(sl_index *index) {
    if (index->fd < 0) return;
    (void)mprotect(index->map, index->map_bytes, PROT_READ);
    close(index->fd);
    index->fd = -1;
}

int32_t sl_index_floor_offset(const sl_index *index, int32_t relative_offset) {
    int32_t low = 0;
    int32_t high = atomic_load_explicit(&index->entries, memory_order_acquire);
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (sl_get_i32(entry_at(index, middle)) <= relative_offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

int32_t sl_index_floor_time(const sl_index *index, int64_t timestamp_ms) {
    int32_t low = 0;
    int32_t high = atomic_load_explicit(&index->entries, memory_order_acquire);
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (sl_get_i64(entry_at(index, middle)) <= timestamp_ms) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}
