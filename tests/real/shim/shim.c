/*
 * What would survive a power loss?
 *
 * Preloaded into a server (LD_PRELOAD), this library writes down for every file below
 * SHIM_ROOT which bytes were written since they were last synced, and what stood there
 * before, into the journal SHIM_JOURNAL.  The process runs at full speed on the real file
 * system; after kill -9 the harness reads the journal and takes away what was not synced.
 *
 * A record of the journal is one write() with O_APPEND, so that those of many threads
 * and processes are whole and in order:
 *
 *     | kind 1B | pad 3B | result i32 | dev u64 | inode u64 | offset u64 | length u64 | size before u64 | sync id u64 | bytes.. |
 *
 *     N  the file is new or was emptied
 *     W  length bytes are about to be written at offset; then follow the bytes of the old
 *        file that stand there (as many as it has)
 *     T  it is about to be truncated to length
 *     B  a sync began (sync id)                     E  the sync ended (sync id, result)
 *
 * A write counts as covered by a sync only if its record comes before the sync's B.  W is
 * written before the write itself, so no unsynced byte is ever taken for a synced one.
 *
 * SHIM_CONTROL is a small file that the harness changes while the server runs:
 *
 *     i32[0] delay of each sync in milliseconds      i32[1] syncs to fail with EIO from now
 *     i32[2] syncs so far (counted here)             i32[3] writes to fail with ENOSPC from now
 *
 * Syncs by io_submit are seen if they are asked for one at a time through syscall().
 * Not seen: mmap'd writes, io_uring, O_SYNC, what stdio writes (such a file counts as never
 * synced if it was created here), and the directory entries themselves.  Between processes
 * a record and its write are not one step: another process's sync may come in between.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 65536
#define PREIMAGE_MAX (1 << 20)

struct record {
    char kind;
    char pad[3];
    int32_t result;
    uint64_t device, inode, offset, length, size_before, sync_id;
};

static char root[4096];
static size_t root_length;
static int journal = -1;
static volatile int32_t *control;
static atomic_uint next_sync;
/* 0 unknown, 1 below the root, 2 elsewhere; forgotten at close. */
static _Atomic unsigned char known[DESCRIPTORS_MAX];
/* One at a time: the record, the bytes that stood there, and the write belong together. */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*real_pwritev2)(int, const struct iovec *, int, off_t, int);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static long (*real_syscall)(long, ...);
static int (*real_sync_file_range)(int, off64_t, off64_t, unsigned int);
static int (*real_ftruncate)(int, off_t);
static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);

static void *next_symbol(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static void resolve(void)
{
    real_write = next_symbol("write");
    real_pwrite = next_symbol("pwrite64");
    real_writev = next_symbol("writev");
    real_pwritev = next_symbol("pwritev64");
    real_pwritev2 = next_symbol("pwritev64v2");
    real_fsync = next_symbol("fsync");
    real_fdatasync = next_symbol("fdatasync");
    real_syscall = next_symbol("syscall");
    real_sync_file_range = next_symbol("sync_file_range");
    real_ftruncate = next_symbol("ftruncate64");
    real_open = next_symbol("open64");
    real_openat = next_symbol("openat64");
    real_close = next_symbol("close");
}

__attribute__((constructor)) static void start(void)
{
    const char *path;
    resolve();
    path = getenv("SHIM_ROOT");
    if (path == NULL)
        return;
    /* The root need not exist yet: it is compared as text. */
    snprintf(root, sizeof root, "%s/", path);
    root_length = strlen(root);
    path = getenv("SHIM_CONTROL");
    if (path != NULL) {
        int file = real_open(path, O_RDWR | O_CLOEXEC);
        if (file >= 0) {
            void *page = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            if (page != MAP_FAILED)
                control = page;
            real_close(file);
        }
    }
    path = getenv("SHIM_JOURNAL");
    if (path != NULL)
        journal = real_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (journal >= 0) {
        /* Far from the small numbers that programs close in loops. */
        int high = fcntl(journal, F_DUPFD_CLOEXEC, 900);
        if (high >= 0) {
            real_close(journal);
            journal = high;
        }
    }
}

static int is_below_root(int file)
{
    char link[64], path[4096 + 64];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strncmp(path, root, root_length) == 0;
}

/* Tells if writes to the file are followed; fills its state. */
static int followed(int file, struct stat *state)
{
    int saved = errno, answer;
    if (journal < 0 || file < 0 || file >= DESCRIPTORS_MAX || file == journal)
        return 0;
    if (known[file] == 0)
        known[file] = is_below_root(file) ? 1 : 2;
    answer = known[file] == 1 && fstat(file, state) == 0 && S_ISREG(state->st_mode);
    errno = saved;
    return answer;
}

static void put_all(const void *bytes, size_t length)
{
    if (real_write(journal, bytes, length) != (ssize_t)length)
        abort(); /* A journal with holes would prove nothing. */
}

static void put(struct record *record, const struct stat *state)
{
    int saved = errno;
    record->device = state->st_dev;
    record->inode = state->st_ino;
    put_all(record, sizeof *record);
    errno = saved;
}

/* Notes a write before it happens, with the bytes it will replace. */
static void put_write(int file, const struct stat *state, uint64_t offset, uint64_t length)
{
    struct record record = {.kind = 'W', .size_before = state->st_size};
    static char buffer[sizeof(struct record) + PREIMAGE_MAX]; /* under the lock */
    uint64_t position = offset, end = offset + length;
    int saved = errno;
    record.device = state->st_dev;
    record.inode = state->st_ino;
    do {
        uint64_t piece = end - position < PREIMAGE_MAX ? end - position : PREIMAGE_MAX;
        uint64_t old = 0;
        if (position < (uint64_t)state->st_size) {
            char link[64];
            int reader;
            old = (uint64_t)state->st_size - position;
            if (old > piece)
                old = piece;
            /* The descriptor may be write-only. */
            snprintf(link, sizeof link, "/proc/self/fd/%d", file);
            reader = real_open(link, O_RDONLY | O_CLOEXEC);
            if (reader < 0 || pread(reader, buffer + sizeof record, old, position) != (ssize_t)old)
                old = 0;
            if (reader >= 0)
                real_close(reader);
        }
        record.offset = position;
        record.length = piece;
        record.sync_id = old; /* how many bytes follow */
        memcpy(buffer, &record, sizeof record);
        put_all(buffer, sizeof record + old);
        position += piece;
    } while (position < end);
    errno = saved;
}

static int is_full(void)
{
    if (control == NULL || control[3] <= 0)
        return 0;
    control[3]--;
    return 1;
}

static uint64_t total(const struct iovec *parts, int count)
{
    uint64_t length = 0;
    for (int i = 0; i < count; i++)
        length += parts[i].iov_len;
    return length;
}

static uint64_t place(int file, const struct stat *state)
{
    int flags = fcntl(file, F_GETFL);
    off_t offset = flags >= 0 && (flags & O_APPEND) ? state->st_size : lseek(file, 0, SEEK_CUR);
    return offset < 0 ? (uint64_t)state->st_size : (uint64_t)offset;
}

/* Runs one kind of write under the lock; `offset` < 0 means the file's own position. */
#define FOLLOW_WRITE(file, offset, length, call)                                           \
    do {                                                                                   \
        struct stat state;                                                                 \
        ssize_t done;                                                                      \
        if (!followed(file, &state))                                                       \
            return call;                                                                   \
        if (is_full()) {                                                                   \
            errno = ENOSPC;                                                                \
            return -1;                                                                     \
        }                                                                                  \
        pthread_mutex_lock(&order);                                                        \
        fstat(file, &state);                                                               \
        put_write(file, &state, (offset) < 0 ? place(file, &state) : (uint64_t)(offset), length); \
        done = call;                                                                       \
        pthread_mutex_unlock(&order);                                                      \
        return done;                                                                       \
    } while (0)

ssize_t write(int file, const void *bytes, size_t length)
{
    if (real_write == NULL)
        resolve();
    FOLLOW_WRITE(file, (off_t)-1, length, real_write(file, bytes, length));
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset)
{
    FOLLOW_WRITE(file, offset, length, real_pwrite(file, bytes, length, offset));
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset)
{
    FOLLOW_WRITE(file, offset, length, real_pwrite(file, bytes, length, offset));
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    FOLLOW_WRITE(file, (off_t)-1, total(parts, count), real_writev(file, parts, count));
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset)
{
    FOLLOW_WRITE(file, offset, total(parts, count), real_pwritev(file, parts, count, offset));
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t offset)
{
    FOLLOW_WRITE(file, offset, total(parts, count), real_pwritev(file, parts, count, offset));
}

ssize_t pwritev2(int file, const struct iovec *parts, int count, off_t offset, int flags)
{
    FOLLOW_WRITE(file, offset, total(parts, count), real_pwritev2(file, parts, count, offset, flags));
}

ssize_t pwritev64v2(int file, const struct iovec *parts, int count, off64_t offset, int flags)
{
    FOLLOW_WRITE(file, offset, total(parts, count), real_pwritev2(file, parts, count, offset, flags));
}

static int truncated(int file, off_t length)
{
    struct stat state;
    if (followed(file, &state)) {
        struct record record = {.kind = 'T', .length = length, .size_before = state.st_size};
        pthread_mutex_lock(&order);
        put(&record, &state);
        pthread_mutex_unlock(&order);
    }
    return real_ftruncate(file, length);
}

int ftruncate(int file, off_t length)
{
    return truncated(file, length);
}

int ftruncate64(int file, off64_t length)
{
    return truncated(file, length);
}

static void wait_as_told(void)
{
    if (control != NULL && control[0] > 0) {
        struct timespec delay = {control[0] / 1000, control[0] % 1000 * 1000000L};
        nanosleep(&delay, NULL);
    }
}

static int fails_as_told(void)
{
    if (control == NULL)
        return 0;
    __sync_fetch_and_add(&control[2], 1);
    if (control[1] <= 0)
        return 0;
    __sync_fetch_and_sub(&control[1], 1);
    return 1;
}

static int synced(int file, int (*sync)(int))
{
    struct stat state;
    struct record record = {.kind = 'B'};
    int result;
    if (!followed(file, &state))
        return sync(file);
    /* Unique over forks too. */
    record.sync_id = (uint64_t)getpid() << 32 | (uint32_t)atomic_fetch_add(&next_sync, 1);
    pthread_mutex_lock(&order);
    put(&record, &state);
    pthread_mutex_unlock(&order);
    wait_as_told();
    if (fails_as_told()) {
        result = -1;
        errno = EIO;
    } else {
        result = sync(file);
    }
    record.kind = 'E';
    record.result = result;
    pthread_mutex_lock(&order);
    put(&record, &state);
    pthread_mutex_unlock(&order);
    return result;
}

int fsync(int file)
{
    return synced(file, real_fsync);
}

int fdatasync(int file)
{
    return synced(file, real_fdatasync);
}

/* The sync that the kernel has been asked for (one at a time: kvtier/engine/logsync.py). */
static struct record asked;
static struct stat asked_state;

static long submitted(struct iocb *request, const long *a)
{
    long result;
    if (!followed((int)request->aio_fildes, &asked_state))
        return real_syscall(SYS_io_submit, a[0], a[1], a[2]);
    memset(&asked, 0, sizeof asked);
    asked.kind = 'B';
    asked.sync_id = (uint64_t)getpid() << 32 | (uint32_t)atomic_fetch_add(&next_sync, 1);
    pthread_mutex_lock(&order);
    put(&asked, &asked_state);
    pthread_mutex_unlock(&order);
    wait_as_told();
    asked.kind = 'E';
    if (fails_as_told()) {
        errno = EIO;
        result = -1;
    } else {
        result = real_syscall(SYS_io_submit, a[0], a[1], a[2]);
    }
    if (result != 1) {
        asked.result = -1;
        pthread_mutex_lock(&order);
        put(&asked, &asked_state);
        pthread_mutex_unlock(&order);
        asked.kind = 0;
    }
    return result;
}

static void told(const struct io_event *event)
{
    if (asked.kind != 'E')
        return;
    asked.result = event->res < 0 ? -1 : 0;
    pthread_mutex_lock(&order);
    put(&asked, &asked_state);
    pthread_mutex_unlock(&order);
    asked.kind = 0;
}

long syscall(long number, ...)
{
    long a[6], result;
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (real_syscall == NULL)
        resolve();
    if (number == SYS_io_submit && a[1] == 1) {
        struct iocb *request = *(struct iocb **)a[2];
        if (request->aio_lio_opcode == IOCB_CMD_FDSYNC || request->aio_lio_opcode == IOCB_CMD_FSYNC)
            return submitted(request, a);
    }
    result = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_io_getevents && result == 1)
        told((struct io_event *)a[3]);
    return result;
}

/* Starts or waits for write-back, but neither metadata nor the drive's cache: no promise. */
int sync_file_range(int file, off64_t offset, off64_t length, unsigned int flags)
{
    return real_sync_file_range(file, offset, length, flags);
}

static int opened(int file)
{
    struct stat state;
    if (file >= 0 && file < DESCRIPTORS_MAX) {
        known[file] = 0;
        if (followed(file, &state) && state.st_size == 0) {
            struct record record = {.kind = 'N'};
            pthread_mutex_lock(&order);
            put(&record, &state);
            pthread_mutex_unlock(&order);
        }
    }
    return file;
}

#define MODE_OF(flags, last)                                \
    mode_t mode = 0;                                        \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                \
        va_list arguments;                                  \
        va_start(arguments, last);                          \
        mode = va_arg(arguments, mode_t);                   \
        va_end(arguments);                                  \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags, flags)
    if (real_open == NULL)
        resolve();
    return opened(real_open(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags, flags)
    if (real_open == NULL)
        resolve();
    return opened(real_open(path, flags, mode));
}

int openat(int directory, const char *path, int flags, ...)
{
    MODE_OF(flags, flags)
    if (real_openat == NULL)
        resolve();
    return opened(real_openat(directory, path, flags, mode));
}

int openat64(int directory, const char *path, int flags, ...)
{
    MODE_OF(flags, flags)
    if (real_openat == NULL)
        resolve();
    return opened(real_openat(directory, path, flags, mode));
}

int creat(const char *path, mode_t mode)
{
    if (real_open == NULL)
        resolve();
    return opened(real_open(path, O_CREAT | O_WRONLY | O_TRUNC, mode));
}

int close(int file)
{
    if (file == journal && journal >= 0) {
        errno = EBADF; /* Daemons that close everything must not close this. */
        return -1;
    }
    if (file >= 0 && file < DESCRIPTORS_MAX)
        known[file] = 0;
    if (real_close == NULL)
        resolve();
    return real_close(file);
}
