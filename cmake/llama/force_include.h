/* Included before everything else when llama.cpp is compiled: what has to be mended in every file of it. */
#pragma once

/* GCC before 12.4 and 13.3 tells the optimiser that _tile_loadconfig reads 8 of the 64 bytes it reads (GCC bug
 * 114098): the stores that fill the rest of a tile configuration are dropped, and the first use of a tile ends in
 * SIGILL or SIGSEGV. This one names them all; it does no harm where the compiler's own is right. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
static inline __attribute__((always_inline, unused)) void curdkv_tile_loadconfig(const void * config) {
    __asm__ volatile("ldtilecfg\t%0" : : "m"(*(const char(*)[64]) config));
}
#define _tile_loadconfig curdkv_tile_loadconfig
#endif
