// A library to preload: the n-th system call on files of one folder fails, writes half, or ends the process.
//
// Calls that the C library makes for itself, such as those of fopen, do not pass through here.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KILL_BEFORE = -1, KILL_AFTER = -2, HALF = -3 };

static char folder[PATH_MAX];
static int armed, action, sticky, log_fd = -1;
static long at, seen;

// Begin to count calls on files below `path`. The one with number `number` (and, if `all_after`, each after it)
// fails with the error `what`, or what KILL_BEFORE, KILL_AFTER and HALF say. Each call is a line of the file
// `log`, unless that is a null pointer.
void inject(const char* path, long number, int what, int all_after, const char* log) {
  snprintf(folder, sizeof folder, "%s", path);
  at = number, action = what, sticky = all_after, seen = 0;
  if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  armed = 1;
}

static int inside(const char* path) {
  const size_t length = strlen(folder);
  return armed && path && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static const char* path_of(int fd, char* buffer) {
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const long length = syscall(SYS_readlinkat, AT_FDCWD, name, buffer, PATH_MAX - 1);
  buffer[length > 0 ? length : 0] = 0;
  return buffer;
}

// Whether this call is one to disturb; counts it if its file is in the folder.
static int chosen(const char* call, const char* path) {
  if (!inside(path)) return 0;
  const long number = ++seen;
  if (log_fd >= 0) {
    char line[PATH_MAX + 64];
    const int length = snprintf(line, sizeof line, "%s %s\n", call, path + strlen(folder));
    syscall(SYS_write, log_fd, line, (size_t)length);
  }
  const int now = number == at || (sticky && at > 0 && number > at);
  if (now && action == KILL_BEFORE) syscall(SYS_kill, getpid(), SIGKILL);
  return now;
}

#define REAL(name) __typeof__(name)* real = (__typeof__(name)*)dlsym(RTLD_NEXT, #name)
#define AFTER \
  if (now && action == KILL_AFTER) syscall(SYS_kill, getpid(), SIGKILL)

// A call by path, by descriptor, and one that writes or reads a number of bytes.
#define BY_PATH(type, name, arguments, path, given, failed) \
  type name arguments {                                     \
    REAL(name);                                             \
    const int now = chosen(#name, path);                    \
    if (now && action > 0) return errno = action, (failed); \
    type found = real given;                                \
    AFTER;                                                  \
    return found;                                           \
  }
#define BY_FD(type, name, arguments, given, failed)            \
  type name arguments {                                        \
    REAL(name);                                                \
    char path[PATH_MAX] = "";                                  \
    const int now = armed && chosen(#name, path_of(fd, path)); \
    if (now && action > 0) return errno = action, (failed);    \
    type found = real given;                                   \
    AFTER;                                                     \
    return found;                                              \
  }
#define HALVED(name, arguments, given)                         \
  ssize_t name arguments {                                     \
    REAL(name);                                                \
    char path[PATH_MAX] = "";                                  \
    const int now = armed && chosen(#name, path_of(fd, path)); \
    if (now && action > 0) return errno = action, -1;          \
    if (now && action == HALF && size > 1) size /= 2;          \
    const ssize_t found = real given;                          \
    AFTER;                                                     \
    return found;                                              \
  }
#define OPEN(name)                                    \
  int name(const char* path, int flags, ...) {        \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    const mode_t mode = va_arg(rest, mode_t);         \
    va_end(rest);                                     \
    REAL(name);                                       \
    const int now = chosen(#name, path);              \
    if (now && action > 0) return errno = action, -1; \
    const int found = real(path, flags, mode);        \
    AFTER;                                            \
    return found;                                     \
  }

OPEN(open)
OPEN(open64)
HALVED(write, (int fd, const void* data, size_t size), (fd, data, size))
HALVED(pwrite, (int fd, const void* data, size_t size, off_t from), (fd, data, size, from))
HALVED(pwrite64, (int fd, const void* data, size_t size, off64_t from), (fd, data, size, from))
HALVED(read, (int fd, void* data, size_t size), (fd, data, size))
BY_FD(int, fsync, (int fd), (fd), -1)
BY_FD(int, fdatasync, (int fd), (fd), -1)
BY_FD(int, ftruncate, (int fd, off_t size), (fd, size), -1)
BY_FD(int, ftruncate64, (int fd, off64_t size), (fd, size), -1)
BY_FD(int, flock, (int fd, int how), (fd, how), -1)
BY_FD(void*, mmap, (void* where, size_t size, int access, int flags, int fd, off_t from),
      (where, size, access, flags, fd, from), MAP_FAILED)
BY_FD(void*, mmap64, (void* where, size_t size, int access, int flags, int fd, off64_t from),
      (where, size, access, flags, fd, from), MAP_FAILED)
BY_PATH(int, rename, (const char* from, const char* to), from, (from, to), -1)
BY_PATH(int, unlink, (const char* path), path, (path), -1)
BY_PATH(int, mkdir, (const char* path, mode_t mode), path, (path, mode), -1)
BY_PATH(int, rmdir, (const char* path), path, (path), -1)
BY_PATH(int, truncate, (const char* path, off_t size), path, (path, size), -1)
BY_PATH(int, truncate64, (const char* path, off64_t size), path, (path, size), -1)
