/* Preloaded under a test's process: writes down the calls that change files in the folder LOGGED_FOLDER, or sync it,
   one a line: the call, and the last part of the file's name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static ssize_t plain_write(int fd, const void *data, size_t size) { REAL(write); return real(fd, data, size); }

static void note(const char *call, const char *path) {
  static int file = -1;
  const char *folder = getenv("LOGGED_FOLDER"), *where = getenv("LOGGED_CALLS");
  if (!folder || !where || strncmp(path, folder, strlen(folder))) return;
  if (file < 0) file = open(where, O_WRONLY | O_CREAT | O_APPEND, 0600);
  const char *last = strrchr(path, '/');
  char line[PATH_MAX + 32];
  int size = snprintf(line, sizeof line, "%s %s\n", call, last ? last + 1 : path);
  plain_write(file, line, size);
}

static void note_open(const char *call, int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size > 0) { path[size] = 0; note(call, path); }
}

ssize_t write(int fd, const void *data, size_t size) { note_open("write", fd); return plain_write(fd, data, size); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); note_open("write", fd); return real(fd, data, size, at); }
int fsync(int fd) { REAL(fsync); note_open("sync", fd); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); note_open("sync", fd); return real(fd); }
int rename(const char *from, const char *to) { REAL(rename); note("rename", from); return real(from, to); }
int unlink(const char *path) { REAL(unlink); note("unlink", path); return real(path); }
