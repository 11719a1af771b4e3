/* Preloaded under a test's process: records in RECORDED_CALLS each call that changes a file in RECORDED_FOLDER, or
   syncs it, in the order in which they took effect. `power_cuts.py` reads them. A record: the call (one letter), the
   thread (4 bytes), a place or size in the file (8), the lengths of the name (4) and of the data (4); name; data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static pthread_mutex_t recording = PTHREAD_MUTEX_INITIALIZER;

/* The name in the folder, "." for the folder itself; NULL for what is elsewhere. */
static const char *name_of(const char *path) {
  const char *folder = getenv("RECORDED_FOLDER");
  size_t size = folder ? strlen(folder) : 0;
  if (!size || strncmp(path, folder, size)) return NULL;
  return path[size] == '/' ? path + size + 1 : path[size] ? NULL : ".";
}

static const char *name_of_open(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, PATH_MAX - 1);
  if (size < 0) return NULL;
  path[size] = 0;
  return name_of(path);
}

static void record(char call, const char *name, int64_t at, const void *data, size_t size) {
  static int file = -1;
  if (file < 0) file = open(getenv("RECORDED_CALLS"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  int32_t thread = gettid();
  uint32_t lengths[2] = {strlen(name), size};
  struct iovec parts[] = {{&call, 1}, {&thread, 4}, {&at, 8}, {lengths, 8}, {(void *)name, lengths[0]}, {(void *)data, size}};
  if (writev(file, parts, 6) < 0) abort();
}

#define CHANGE(call, name, at, data, size, made, did) \
  pthread_mutex_lock(&recording); \
  made; \
  if (did) record(call, name, at, data, size); \
  pthread_mutex_unlock(&recording)

ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  char path[PATH_MAX];
  const char *name = name_of_open(fd, path);
  if (!name) return real(fd, data, size);
  ssize_t done;
  CHANGE('w', name, lseek(fd, 0, SEEK_CUR) - done, data, done, done = real(fd, data, size), done > 0);
  return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  REAL(pwrite64);
  char path[PATH_MAX];
  const char *name = name_of_open(fd, path);
  if (!name) return real(fd, data, size, at);
  ssize_t done;
  CHANGE('w', name, at, data, done, done = real(fd, data, size, at), done > 0);
  return done;
}

int ftruncate64(int fd, off64_t size) {
  REAL(ftruncate64);
  char path[PATH_MAX];
  const char *name = name_of_open(fd, path);
  if (!name) return real(fd, size);
  int failed;
  CHANGE('t', name, size, "", 0, failed = real(fd, size), !failed);
  return failed;
}

static int synced(int fd, int (*real)(int)) {
  char path[PATH_MAX];
  const char *name = name_of_open(fd, path);
  if (!name) return real(fd);
  int failed;
  CHANGE('b', name, 0, "", 0, , 1);
  failed = real(fd);
  CHANGE('e', name, 0, "", 0, , !failed);
  return failed;
}

int fsync(int fd) { REAL(fsync); return synced(fd, real); }
int fdatasync(int fd) { REAL(fdatasync); return synced(fd, real); }

int rename(const char *from, const char *to) {
  REAL(rename);
  const char *old = name_of(from), *new = name_of(to);
  if (!old || !new) return real(from, to);
  int failed;
  CHANGE('r', old, 0, new, strlen(new), failed = real(from, to), !failed);
  return failed;
}

int unlink(const char *path) {
  REAL(unlink);
  const char *name = name_of(path);
  if (!name) return real(path);
  int failed;
  CHANGE('u', name, 0, "", 0, failed = real(path), !failed);
  return failed;
}

static int opened(const char *path, int flags, mode_t mode, int (*real)(const char *, int, ...)) {
  const char *name = name_of(path);
  if (!name || !(flags & (O_CREAT | O_TRUNC))) return real(path, flags, mode);
  int fd, was_there;
  CHANGE(was_there ? 't' : 'c', name, 0, "", 0, was_there = !access(path, F_OK); fd = real(path, flags, mode),
         fd >= 0 && (!was_there || flags & O_TRUNC));
  return fd;
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return opened(path, flags, mode, real); \
  }
OPEN(open)
OPEN(open64)
