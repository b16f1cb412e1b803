/* A file layer that counts, and fails or kills at an operation: preloaded, it stands between a process and libc.

   Only the process that armed it is meant, and only what lies under its folder. What it saw is in memory that a
   forked child shares with its parent, so that the parent can read it after a kill. It also sets the clock back, and
   lets the compiled decoder's requests for memory and threads fail. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, KILL, TEAR, STOP, FAIL, FAIL_ON, VANISH };

#define LOG_BYTES (1 << 20)

typedef struct {
    long count, used;
    char log[LOG_BYTES];
} Seen;

static Seen *seen;
static pid_t armed;
static char folder[PATH_MAX];
static size_t folder_length;
static long fatal;
static int how, code, reads;

__attribute__((constructor)) static void begin(void)
{
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* From now on: at operation `at` (from 0) under `under`, do `what`; `with` is the errno. */
void layer_arm(const char *under, long at, int what, int with, int reading)
{
    snprintf(folder, sizeof folder, "%s", under);
    folder_length = strlen(folder);
    fatal = at, how = what, code = with, reads = reading;
    seen->count = seen->used = 0;
    armed = getpid();
}

void layer_disarm(void) { armed = 0; }

/* What was seen since: a line an operation. */
const char *layer_log(void)
{
    seen->log[seen->used] = 0;
    return seen->log;
}

static const char *real_path(int base, const char *path, char *room)
{
    if (path && path[0] == '/')
        return path;
    char link[64];
    if (base == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", base);
    ssize_t length = readlink(link, room, PATH_MAX);
    if (length < 0)
        return "";
    snprintf(room + length, PATH_MAX - (size_t)length, path ? "/%s" : "", path);
    return room;
}

/* Whether the operation is to fail; does not return if the process is to die before it.
   `tears`: the caller dies half-way instead. */
static int next(const char *name, int base, const char *path, int *tears)
{
    if (!armed || armed != getpid())
        return 0;
    int before = errno;
    char room[2 * PATH_MAX];
    const char *whole = real_path(base, path, room);
    errno = before;
    if (strncmp(whole, folder, folder_length) || (whole[folder_length] != '/' && whole[folder_length]))
        return 0;
    long number = __atomic_fetch_add(&seen->count, 1, __ATOMIC_SEQ_CST);
    if (seen->used < LOG_BYTES - 2 * PATH_MAX)
        seen->used += snprintf(seen->log + seen->used, 2 * PATH_MAX, "%s %s\n", name, whole + folder_length);
    if (number != fatal && !(how == FAIL_ON && number > fatal))
        return 0;
    const int space = !strcmp(name, "open") || !strcmp(name, "write") || !strcmp(name, "mkdir") || !strcmp(name, "fsync");
    if (how == FAIL_ON && (code == ENOSPC || code == EDQUOT) && !space)
        return 0; /* a full disk still renames and removes */
    switch (how) {
    case TEAR:
        if (tears) {
            *tears = 1;
            return 0;
        } /* fall through */
    case KILL: kill(getpid(), SIGKILL); break;
    case STOP: kill(getpid(), SIGSTOP); break;
    case FAIL:
    case FAIL_ON: errno = code; return 1;
    case VANISH: {
        int (*gone)(int, const char *, int) = dlsym(RTLD_NEXT, "unlinkat");
        gone(AT_FDCWD, whole, 0);
        errno = before;
    }
    }
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name, base, ...)                                                        \
    mode_t mode = 0;                                                                 \
    if (flags & (O_CREAT | O_TMPFILE)) {                                             \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode = va_arg(more, mode_t);                                                 \
        va_end(more);                                                                \
    }                                                                                \
    int writes = flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC);                    \
    if ((writes || reads) && next(writes ? "open" : "open to read", base, path, 0))  \
        return -1;                                                                   \
    return REAL(name)(__VA_ARGS__, flags, mode)

int open(const char *path, int flags, ...) { OPEN(open, AT_FDCWD, path); }
int open64(const char *path, int flags, ...) { OPEN(open64, AT_FDCWD, path); }
int openat(int base, const char *path, int flags, ...) { OPEN(openat, base, base, path); }
int openat64(int base, const char *path, int flags, ...) { OPEN(openat64, base, base, path); }

ssize_t read(int file, void *data, size_t size)
{
    return reads && next("read", file, NULL, 0) ? -1 : REAL(read)(file, data, size);
}

ssize_t write(int file, const void *data, size_t size)
{
    int tears = 0;
    if (next("write", file, NULL, &tears))
        return -1;
    if (tears) {
        REAL(write)(file, data, size / 2);
        kill(getpid(), SIGKILL);
    }
    return REAL(write)(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    return next("write", file, NULL, 0) ? -1 : REAL(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at)
{
    return next("write", file, NULL, 0) ? -1 : REAL(pwrite64)(file, data, size, at);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t size)
{
    return next("write", to, NULL, 0) ? -1 : REAL(sendfile64)(to, from, at, size);
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *put, size_t size, unsigned flags)
{
    return next("write", to, NULL, 0) ? -1 : REAL(copy_file_range)(from, at, to, put, size, flags);
}

int fsync(int file) { return next("fsync", file, NULL, 0) ? -1 : REAL(fsync)(file); }
int ftruncate64(int file, off64_t size) { return next("truncate", file, NULL, 0) ? -1 : REAL(ftruncate64)(file, size); }
int truncate64(const char *path, off64_t size) { return next("truncate", AT_FDCWD, path, 0) ? -1 : REAL(truncate64)(path, size); }
int fchmod(int file, mode_t mode) { return next("chmod", file, NULL, 0) ? -1 : REAL(fchmod)(file, mode); }
int chmod(const char *path, mode_t mode) { return next("chmod", AT_FDCWD, path, 0) ? -1 : REAL(chmod)(path, mode); }
int mkdir(const char *path, mode_t mode) { return next("mkdir", AT_FDCWD, path, 0) ? -1 : REAL(mkdir)(path, mode); }
int mkdirat(int base, const char *path, mode_t mode) { return next("mkdir", base, path, 0) ? -1 : REAL(mkdirat)(base, path, mode); }
int rmdir(const char *path) { return next("rmdir", AT_FDCWD, path, 0) ? -1 : REAL(rmdir)(path); }
int unlink(const char *path) { return next("unlink", AT_FDCWD, path, 0) ? -1 : REAL(unlink)(path); }
int unlinkat(int base, const char *path, int flags) { return next("unlink", base, path, 0) ? -1 : REAL(unlinkat)(base, path, flags); }
int rename(const char *from, const char *to) { return next("rename", AT_FDCWD, from, 0) ? -1 : REAL(rename)(from, to); }
int renameat(int base, const char *from, int other, const char *to) { return next("rename", base, from, 0) ? -1 : REAL(renameat)(base, from, other, to); }
int link(const char *from, const char *to) { return next("link", AT_FDCWD, to, 0) ? -1 : REAL(link)(from, to); }
int linkat(int base, const char *from, int other, const char *to, int flags) { return next("link", other, to, 0) ? -1 : REAL(linkat)(base, from, other, to, flags); }

static long calls_until, seconds_back;

/* After so many looks at the clock, it is set back. */
void layer_clock(long calls, long seconds) { calls_until = calls, seconds_back = seconds; }

int clock_gettime(clockid_t which, struct timespec *now)
{
    const int result = REAL(clock_gettime)(which, now);
    if (seconds_back && which == CLOCK_REALTIME && calls_until-- <= 0)
        now->tv_sec -= seconds_back;
    return result;
}

static long allowed = -1;

/* Let the compiled decoder have so much and no more: of blocks of memory and of threads, counted together. */
void layer_starve(long requests) { allowed = requests; }

/* How many requests were left; below -1: so many were refused. */
long layer_starved(void) { return allowed; }

static int starves(void *caller)
{
    Dl_info from;
    if (allowed == -1 || !dladdr(caller, &from) || !from.dli_fname || !strstr(from.dli_fname, "_decoder"))
        return 0;
    if (allowed > 0)
        return allowed--, 0;
    if (allowed == 0)
        allowed = -1;
    return --allowed, 1;
}

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_memalign(size_t, size_t);
#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

void *malloc(size_t size) { return starves(CALLER) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return starves(CALLER) ? NULL : __libc_calloc(count, size); }
void *aligned_alloc(size_t by, size_t size) { return starves(CALLER) ? NULL : __libc_memalign(by, size); }

int pthread_create(pthread_t *thread, const pthread_attr_t *how_made, void *(*what)(void *), void *with)
{
    return starves(CALLER) ? EAGAIN : REAL(pthread_create)(thread, how_made, what, with);
}
