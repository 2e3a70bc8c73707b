// Records, in one order, what a server receives, writes to its database files, syncs, and answers: the evidence for
// promise P1 (no byte of a 2xx leaves before a sync that follows its append).
//
//   cc -shared -fPIC -O2 -o libsyncwatch.so syncwatch.c -ldl
//   SYNCWATCH_LOG=log LD_PRELOAD=./libsyncwatch.so server
//
// A request carries a marker, `sluice-marker-` and eight further letters or digits, in its first 64 KiB. One line each:
//   N R FD MARKER      these bytes were read from socket FD and hold the marker
//   N W PATH MARKER    a write to database file PATH holds the marker (logged after it succeeded)
//   N S PATH BEGIN     a sync of PATH succeeded; it covers what was written up to number BEGIN
//   N A FD STATUS      a write to socket FD holds the status line of an HTTP/1.1 answer, 2xx to 5xx (logged before the
//                      kernel gets it)
//   N C FD             FD was closed, and its number may come again
// N counts up from 1. A line is numbered and written under one lock, so the file's order is the order of the events.
// W and S stand after their call, R after and A before it: each on the side that can only make the check stricter.
// A marker counts as written only where it lies whole in one write, so bodies should fit into one page of the database.
// Not seen: mmap, sendfile, io_uring, and the calls of programs that do not go through libc.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 65536
#define PATH_BYTES_MAX 512
#define MARKER_PREFIX "sluice-marker-"
#define MARKER_PREFIX_BYTES (sizeof(MARKER_PREFIX) - 1)
#define MARKER_BYTES (MARKER_PREFIX_BYTES + 8)
#define MARKERS_PER_CALL_MAX 256

enum kind { KIND_UNKNOWN = 0, KIND_OTHER, KIND_SOCKET, KIND_DATABASE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char kinds[FDS_MAX];
static char *paths[FDS_MAX];
static unsigned long sequence;
static int log_fd = -1;

// MARK: - The log

// Called with the lock held. Raw system calls: libc's would come back to this file.
static void log_line(const char *format, ...) {
    if (log_fd == -1) {
        const char *path = getenv("SYNCWATCH_LOG");
        log_fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -2;
    }
    if (log_fd < 0) return;
    char line[PATH_BYTES_MAX + 128];
    int used = snprintf(line, sizeof line, "%lu ", ++sequence);
    va_list arguments;
    va_start(arguments, format);
    used += vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    if (used > (int)sizeof line - 2) used = sizeof line - 2;
    line[used++] = '\n';
    syscall(SYS_write, log_fd, line, (size_t)used);
}

// MARK: - What an fd is

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static int is_database_path(const char *path) {
    return ends_with(path, "-wal") || ends_with(path, ".db") || ends_with(path, ".sqlite") || ends_with(path, ".sqlite3");
}

// Called with the lock held. Asks the kernel once for each fd; `close` forgets.
static enum kind kind_of(int fd) {
    if (fd < 0 || fd >= FDS_MAX) return KIND_OTHER;
    if (kinds[fd] != KIND_UNKNOWN) return kinds[fd];
    struct stat status;
    kinds[fd] = KIND_OTHER;
    if (fstat(fd, &status) != 0) return KIND_OTHER;
    if (S_ISSOCK(status.st_mode)) return kinds[fd] = KIND_SOCKET;
    if (!S_ISREG(status.st_mode)) return KIND_OTHER;
    char link[64], path[PATH_BYTES_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return KIND_OTHER;
    path[length] = 0;
    if (!is_database_path(path)) return KIND_OTHER;
    free(paths[fd]);
    paths[fd] = strdup(path);
    return kinds[fd] = KIND_DATABASE;
}

static void forget(int fd) {
    if (fd < 0 || fd >= FDS_MAX) return;
    pthread_mutex_lock(&lock);
    if (kinds[fd] == KIND_SOCKET) log_line("C %d", fd);
    kinds[fd] = KIND_UNKNOWN;
    free(paths[fd]);
    paths[fd] = NULL;
    pthread_mutex_unlock(&lock);
}

// MARK: - What bytes hold

static int is_marker_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// The next whole marker at or after `from`; NULL if there is none.
static const char *next_marker(const char *from, const char *end) {
    while (from < end && (size_t)(end - from) >= MARKER_BYTES) {
        const char *found = memmem(from, end - from, MARKER_PREFIX, MARKER_PREFIX_BYTES);
        if (!found || (size_t)(end - found) < MARKER_BYTES) return NULL;
        size_t offset = MARKER_PREFIX_BYTES;
        while (offset < MARKER_BYTES && is_marker_letter(found[offset])) offset++;
        if (offset == MARKER_BYTES) return found;
        from = found + 1;
    }
    return NULL;
}

static void log_markers(int fd, enum kind kind, const char *bytes, size_t count) {
    const char *end = bytes + count, *found = bytes;
    for (int i = 0; i < MARKERS_PER_CALL_MAX && (found = next_marker(found, end)); i++, found += MARKER_BYTES) {
        if (kind == KIND_SOCKET) log_line("R %d %.*s", fd, (int)MARKER_BYTES, found);
        else log_line("W %s %.*s", paths[fd], (int)MARKER_BYTES, found);
    }
}

// A marker may lie across two buffers of one call: SQLite's pages and NIO's parts do, so they are looked at as one.
static void log_markers_joined(int fd, enum kind kind, const struct iovec *parts, int count, size_t transferred) {
    if (count == 1) {
        log_markers(fd, kind, parts[0].iov_base, transferred < parts[0].iov_len ? transferred : parts[0].iov_len);
        return;
    }
    char *joined = malloc(transferred ? transferred : 1);
    if (!joined) return;
    size_t used = 0;
    for (int i = 0; i < count && used < transferred; i++) {
        size_t length = parts[i].iov_len < transferred - used ? parts[i].iov_len : transferred - used;
        memcpy(joined + used, parts[i].iov_base, length);
        used += length;
    }
    log_markers(fd, kind, joined, used);
    free(joined);
}

static void was_read(int fd, const struct iovec *parts, int count, ssize_t result) {
    if (result <= 0) return;
    int error = errno;
    pthread_mutex_lock(&lock);
    if (kind_of(fd) == KIND_SOCKET) log_markers_joined(fd, KIND_SOCKET, parts, count, (size_t)result);
    pthread_mutex_unlock(&lock);
    errno = error;
}

// Every status line of a socket write, for a pipelined server may send several at once.
static void will_write(int fd, const struct iovec *parts, int count) {
    static const char start[] = "HTTP/1.1 ";
    int error = errno;
    pthread_mutex_lock(&lock);
    if (kind_of(fd) == KIND_SOCKET) {
        for (int i = 0; i < count; i++) {
            const char *found = parts[i].iov_base, *end = found + parts[i].iov_len;
            while (found && end - found >= 12 && (found = memmem(found, end - found, start, sizeof start - 1))) {
                if (end - found >= 12 && found[9] >= '2' && found[9] <= '5') log_line("A %d %.3s", fd, found + 9);
                found += sizeof start - 1;
            }
        }
    }
    pthread_mutex_unlock(&lock);
    errno = error;
}

static void was_written(int fd, const struct iovec *parts, int count, ssize_t result) {
    if (result <= 0) return;
    int error = errno;
    pthread_mutex_lock(&lock);
    if (kind_of(fd) == KIND_DATABASE) log_markers_joined(fd, KIND_DATABASE, parts, count, (size_t)result);
    pthread_mutex_unlock(&lock);
    errno = error;
}

static unsigned long will_sync(void) {
    pthread_mutex_lock(&lock);
    unsigned long begin = sequence;
    pthread_mutex_unlock(&lock);
    return begin;
}

static void was_synced(int fd, unsigned long begin, int result) {
    if (result != 0) return;
    pthread_mutex_lock(&lock);
    if (kind_of(fd) == KIND_DATABASE) log_line("S %s %lu", paths[fd], begin);
    pthread_mutex_unlock(&lock);
}

// MARK: - The calls

#define REAL(type, name, ...)                                                   \
    static type (*real)(__VA_ARGS__);                                           \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)
#define ONE(buffer, size) struct iovec one = {(void *)(buffer), (size)}

ssize_t read(int fd, void *buffer, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    ssize_t result = real(fd, buffer, size);
    ONE(buffer, size);
    was_read(fd, &one, 1, result);
    return result;
}

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    REAL(ssize_t, recv, int, void *, size_t, int);
    ssize_t result = real(fd, buffer, size, flags);
    ONE(buffer, size);
    if (!(flags & MSG_PEEK)) was_read(fd, &one, 1, result);
    return result;
}

ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from, socklen_t *length) {
    REAL(ssize_t, recvfrom, int, void *, size_t, int, struct sockaddr *, socklen_t *);
    ssize_t result = real(fd, buffer, size, flags, from, length);
    ONE(buffer, size);
    if (!(flags & MSG_PEEK)) was_read(fd, &one, 1, result);
    return result;
}

ssize_t readv(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, readv, int, const struct iovec *, int);
    ssize_t result = real(fd, parts, count);
    was_read(fd, parts, count, result);
    return result;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    REAL(ssize_t, recvmsg, int, struct msghdr *, int);
    ssize_t result = real(fd, message, flags);
    if (!(flags & MSG_PEEK)) was_read(fd, message->msg_iov, (int)message->msg_iovlen, result);
    return result;
}

ssize_t write(int fd, const void *buffer, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    ONE(buffer, size);
    will_write(fd, &one, 1);
    ssize_t result = real(fd, buffer, size);
    was_written(fd, &one, 1, result);
    return result;
}

ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    REAL(ssize_t, send, int, const void *, size_t, int);
    ONE(buffer, size);
    will_write(fd, &one, 1);
    return real(fd, buffer, size, flags);
}

ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    REAL(ssize_t, sendto, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    ONE(buffer, size);
    will_write(fd, &one, 1);
    return real(fd, buffer, size, flags, to, length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(ssize_t, sendmsg, int, const struct msghdr *, int);
    will_write(fd, message->msg_iov, (int)message->msg_iovlen);
    return real(fd, message, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    will_write(fd, parts, count);
    ssize_t result = real(fd, parts, count);
    was_written(fd, parts, count, result);
    return result;
}

#define POSITIONED_WRITE(name, offset_type)                                     \
    ssize_t name(int fd, const void *buffer, size_t size, offset_type offset) { \
        REAL(ssize_t, name, int, const void *, size_t, offset_type);            \
        ssize_t result = real(fd, buffer, size, offset);                        \
        ONE(buffer, size);                                                      \
        was_written(fd, &one, 1, result);                                       \
        return result;                                                          \
    }
POSITIONED_WRITE(pwrite, off_t)
POSITIONED_WRITE(pwrite64, off64_t)

#define POSITIONED_WRITEV(name, offset_type)                                             \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type offset) {     \
        REAL(ssize_t, name, int, const struct iovec *, int, offset_type);                \
        ssize_t result = real(fd, parts, count, offset);                                 \
        was_written(fd, parts, count, result);                                           \
        return result;                                                                   \
    }
POSITIONED_WRITEV(pwritev, off_t)
POSITIONED_WRITEV(pwritev64, off64_t)

int fsync(int fd) {
    REAL(int, fsync, int);
    unsigned long begin = will_sync();
    int result = real(fd);
    was_synced(fd, begin, result);
    return result;
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    unsigned long begin = will_sync();
    int result = real(fd);
    was_synced(fd, begin, result);
    return result;
}

int close(int fd) {
    // Before the call: afterwards another thread may have the number already.
    forget(fd);
    REAL(int, close, int);
    return real(fd);
}

// A new fd may have a number that was closed without libc's `close`.
static int opened(int fd) {
    int error = errno;
    forget(fd);
    errno = error;
    return fd;
}

#define MODE_OF(flags, mode)                                     \
    mode_t mode = 0;                                             \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                       \
        va_list arguments;                                       \
        va_start(arguments, flags);                              \
        mode = (mode_t)va_arg(arguments, int);                   \
        va_end(arguments);                                       \
    }

#define OPEN(name)                                               \
    int name(const char *path, int flags, ...) {                 \
        MODE_OF(flags, mode)                                     \
        REAL(int, name, const char *, int, ...);                 \
        return opened(real(path, flags, mode));                  \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                             \
    int name(int directory, const char *path, int flags, ...) {  \
        MODE_OF(flags, mode)                                     \
        REAL(int, name, int, const char *, int, ...);            \
        return opened(real(directory, path, flags, mode));       \
    }
OPENAT(openat)
OPENAT(openat64)
