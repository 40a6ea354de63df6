/* Included before everything else when llama.cpp is compiled: what has to be mended in every file of it. */
#pragma once

/* GCC before 12.4 and 13.3 tells the optimiser that _tile_loadconfig reads 8 of the 64 bytes it reads (GCC bug
 * 114098): the stores that fill the rest of a tile configuration are dropped, and the first use of a tile ends in
 * SIGILL or SIGSEGV. This one names them all; it does no harm where the compiler's own is right. */
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
static inline __attribute__((always_inline, unused)) void curdkv_tile_loadconfig(const void * config) {
    __asm__ volatile("ldtilecfg\t%0" : : "m"(*(const char(*)[64]) config));
}
#define _tile_loadconfig curdkv_tile_loadconfig
#endif

/* ggml takes small pieces of memory without looking whether it got them. Where there is none an assertion fails
 * instead, which its callers can turn into an error (ggml_set_abort_callback). Buffers go another way and are looked
 * after. GGML_SCHED_MAX_COPIES: in ggml's own files. */
#if defined(GGML_SCHED_MAX_COPIES) && defined(__linux__)
#include <malloc.h>
#include <stdlib.h>
#ifdef __cplusplus
#include <cstdlib>
extern "C" {
#endif
/* ggml_abort(), whose own declaration comes later and is spelled differently in C and C++. */
extern void curdkv_abort(const char * file, int line, const char * format, ...) __asm__("ggml_abort")
    __attribute__((noreturn));
#ifdef __cplusplus
}
#endif
#define CURDKV_CHECKED __attribute__((unused)) static inline void *
CURDKV_CHECKED curdkv_checked(void * memory, size_t n_bytes) {
    if (memory == NULL && n_bytes > 0) {
        curdkv_abort(__FILE__, __LINE__, "out of memory");
    }
    return memory;
}
CURDKV_CHECKED curdkv_malloc(size_t n_bytes) {
    return curdkv_checked(malloc(n_bytes), n_bytes);
}
CURDKV_CHECKED curdkv_calloc(size_t n, size_t size) {
    return curdkv_checked(calloc(n, size), n * size);
}
CURDKV_CHECKED curdkv_realloc(void * memory, size_t n_bytes) {
    return curdkv_checked(realloc(memory, n_bytes), n_bytes);
}
#define malloc(n_bytes) curdkv_malloc(n_bytes)
#define calloc(n, size) curdkv_calloc(n, size)
#define realloc(memory, n_bytes) curdkv_realloc(memory, n_bytes)
#endif
