/* Preloaded under a test's process: reading a regular file at some place takes 50 ms, as from a disk that is busy or
   far away. Before the twentieth time, the file that READING names is made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
  static __typeof__(pread64) *real;
  static int count = 0;
  if (!real) real = (__typeof__(pread64) *)dlsym(RTLD_NEXT, "pread64");
  if (++count == 20) close(open(getenv("READING"), O_CREAT | O_WRONLY, 0600));
  usleep(50000);
  return real(fd, data, size, at);
}
