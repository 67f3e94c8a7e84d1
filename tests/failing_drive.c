/* A drive that fails: loaded before the C library (LD_PRELOAD), with its calls that change files.
 *
 * The count goes over calls on what lies under a folder. Those from the one of number `at` on fail,
 * all of them or that one alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#undef fwrite

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX], first[PATH_MAX];
static int count, at, number, lasting;

void drive_fails(const char *under, int from, int with, int all) {
    snprintf(folder, sizeof folder, "%s", under);
    first[0] = 0;
    count = 0, at = from, number = with, lasting = all;
}

int drive_count(void) { return count; }
const char *drive_first(void) { return first; }

static int fails(const char *what, const char *path) {
    size_t length = strlen(folder);
    if (!length || strncmp(path, folder, length)) return 0;
    pthread_mutex_lock(&turn);
    int call = ++count, failing = at && (lasting ? call >= at : call == at);
    if (failing && !first[0]) snprintf(first, sizeof first, "%s %s", what, path);
    pthread_mutex_unlock(&turn);
    if (failing) errno = number;
    return failing;
}

static int file_fails(const char *what, int file) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int before = errno;
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(what, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(kind, name, declared, ...)                 \
    kind name declared {                                   \
        return file_fails(#name, file) ? -1 : REAL(name)(__VA_ARGS__); \
    }

ON_FILE(ssize_t, write, (int file, const void *data, size_t size), file, data, size)
ON_FILE(ssize_t, writev, (int file, const struct iovec *parts, int n), file, parts, n)
ON_FILE(ssize_t, pwrite, (int file, const void *d, size_t size, off_t to), file, d, size, to)
ON_FILE(ssize_t, pwrite64, (int file, const void *d, size_t size, off64_t to), file, d, size, to)
ON_FILE(ssize_t, pwritev, (int file, const struct iovec *p, int n, off_t to), file, p, n, to)
ON_FILE(int, fsync, (int file), file)
ON_FILE(int, fdatasync, (int file), file)
ON_FILE(int, ftruncate, (int file, off_t size), file, size)
ON_FILE(int, ftruncate64, (int file, off64_t size), file, size)

size_t fwrite(const void *data, size_t size, size_t n, FILE *stream) {
    return size * n && file_fails("fwrite", fileno(stream)) ? 0 : REAL(fwrite)(data, size, n, stream);
}

int rename(const char *from, const char *to) {
    char path[PATH_MAX];
    if (to[0] == '/') snprintf(path, sizeof path, "%s", to);
    else if (!getcwd(path, sizeof path / 2)) return -1;
    else snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", to);
    return fails("rename", path) ? -1 : REAL(rename)(from, to);
}
