/* check.c -- the counters, the random numbers and the directory that check.h promises.
 *
 * The directory lies in memory where there is such a file system: sweeps open thousands of logs, and
 * what a sync is worth is nothing that a living process could test. */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REPORTS_MAX = 30 };

_Atomic uint64_t check_count;
_Atomic uint64_t check_failures;

static uint64_t random_state;
static char root[512];
static pid_t owner;

bool check_failed(const char *file, int line, const char *what) {
    if (atomic_fetch_add(&check_failures, 1) >= REPORTS_MAX) return false;
    fprintf(stderr, "%s:%d: %s", file, line, what);
    return true;
}

/* splitmix64: its state is one number, so a seed that was printed is a seed that repeats the run. */
uint64_t check_mix(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t check_random(void) { return check_mix(&random_state); }

int64_t check_below(int64_t below) { return (int64_t)(check_random() % (uint64_t)below); }

void check_remove_tree(const char *path) {
    DIR *directory = opendir(path);
    if (directory != NULL) {
        struct dirent *entry;
        while ((entry = readdir(directory)) != NULL) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
            char inner[1024];
            snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
            struct stat st;
            if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode)) {
                check_remove_tree(inner);
            } else {
                (void)unlink(inner);
            }
        }
        closedir(directory);
    }
    (void)rmdir(path);
}

static void remove_root(void) {
    /* A forked child that ends by exit() must not take its parent's directory along. */
    if (root[0] != '\0' && getpid() == owner) check_remove_tree(root);
}

_Noreturn void check_give_up(void) {
    fflush(stdout);
    remove_root();
    _exit(1); /* other threads may run: nothing of theirs is torn down */
}

void check_begin(const char *name) {
    const char *seed = getenv("STRATALOG_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)getpid() << 20 ^ 20240611;
    printf("%s: STRATALOG_SEED=%" PRIu64 "\n", name, random_state);
    fflush(stdout);
    const char *parent = getenv("TMPDIR");
    if (parent == NULL) parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(root, sizeof root, "%s/stratalog-%s-XXXXXX", parent, name);
    if (mkdtemp(root) == NULL) {
        perror(root);
        exit(1);
    }
    owner = getpid();
    atexit(remove_root);
}

const char *check_path(char out[1024], const char *name) {
    snprintf(out, 1024, "%s/%s", root, name);
    return out;
}

int check_end(void) {
    uint64_t failures = atomic_load(&check_failures);
    if (failures != 0) {
        fprintf(stderr, "%" PRIu64 " of %" PRIu64 " checks failed\n", failures,
                atomic_load(&check_count));
        return 1;
    }
    printf("%" PRIu64 " checks passed\n", atomic_load(&check_count));
    return 0;
}
