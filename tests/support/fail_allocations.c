// Preloaded into a program, lets allocations fail: FAIL_AT=N the N-th (from 1), of those of at least
// FAIL_FROM bytes; with FAIL_ALL=1 all from there on. FAIL_COUNT=1 writes their number to standard error at
// exit.
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
extern char** environ;

static atomic_long n_made;

// getenv() is for later: the first allocations come before the C library has set itself up.
static long setting(const char* name) {
  const size_t n = strlen(name);
  for (char** e = environ; e != NULL && *e != NULL; ++e) {
    if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return atol(*e + n + 1);
  }
  return 0;
}

static int fails(size_t n_bytes) {
  static long at = -1, from, all;
  if (at < 0) {
    from = setting("FAIL_FROM");
    all = setting("FAIL_ALL");
    at = setting("FAIL_AT");
  }
  if (n_bytes < (size_t)from) return 0;
  const long n = atomic_fetch_add(&n_made, 1) + 1;
  const int now = at > 0 && (all ? n >= at : n == at);
  if (now) errno = ENOMEM;
  return now;
}

void* malloc(size_t n) {
  return fails(n) ? NULL : __libc_malloc(n);
}
void* calloc(size_t n, size_t size) {
  return fails(n * size) ? NULL : __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) {
  return n > 0 && fails(n) ? NULL : __libc_realloc(p, n);
}
void* memalign(size_t alignment, size_t n) {
  return fails(n) ? NULL : __libc_memalign(alignment, n);
}
void* aligned_alloc(size_t alignment, size_t n) {
  return memalign(alignment, n);
}
int posix_memalign(void** p, size_t alignment, size_t n) {
  void* made = memalign(alignment, n);
  if (made == NULL) return ENOMEM;
  *p = made;
  return 0;
}

__attribute__((destructor)) static void report(void) {
  if (setting("FAIL_COUNT") == 0) return;
  char line[64];
  const int n = snprintf(line, sizeof line, "allocations: %ld\n", atomic_load(&n_made));
  if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) return;
}
