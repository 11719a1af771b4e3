/* Preloaded under a test's process: fails the N-th call that changes a regular file, with the errno given.
   arm(n, error) begins to count from 0; n < 0 only counts. made() tells how many there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long count = 0, fail_at = -1;
static int error_number = EIO, counting = 0, stays = 0;

void arm(long n, int error, int sticky) { count = 0; fail_at = n; error_number = error; stays = sticky; counting = 1; }
long made(void) { counting = 0; return count; }

static int regular(int fd) { struct stat s; return fstat(fd, &s) == 0 && (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode)); }

static int fails(void) {
  if (!counting) return 0;
  long now = count++;
  if (fail_at < 0 || (stays ? now < fail_at : now != fail_at)) return 0;
  errno = error_number;
  return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { REAL(write); if (regular(fd) && fails()) return -1; return real(fd, data, size); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); if (regular(fd) && fails()) return -1; return real(fd, data, size, at); }
int fsync(int fd) { REAL(fsync); if (regular(fd) && fails()) return -1; return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); if (regular(fd) && fails()) return -1; return real(fd); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); if (regular(fd) && fails()) return -1; return real(fd, size); }
int rename(const char *from, const char *to) { REAL(rename); if (fails()) return -1; return real(from, to); }
