/* ggml's CPU backend, compiled several times (cpu_variants.sh), under its usual names: each function is that
 * of the best variant for the processor at hand, chosen once, when the program is loaded. Nothing of any
 * other variant ever runs. Where even the first does not fit, all functions return 0, and ggml has no CPU
 * backend.
 * cpu_functions.h, which is written by the script, has GGML_CPU_FUNCTIONS(F): F(name) for each function. */
#include <cpuid.h>
#include <stddef.h>

#include "cpu_functions.h"

enum variant { UNKNOWN, NONE, SSE42, HASWELL, ALDERLAKE, CASCADELAKE, ZEN4, SAPPHIRERAPIDS };

static int cpuid_bit(unsigned leaf, unsigned subleaf, size_t reg, int bit) {
    unsigned regs[4] = {0, 0, 0, 0};
    return __get_cpuid_count(leaf, subleaf, &regs[0], &regs[1], &regs[2], &regs[3]) && (regs[reg] >> bit & 1);
}
enum { EAX, EBX, ECX, EDX };

/* Whether the system saves the tiles' state. */
static int has_tile_state(void) {
    unsigned low = 0, high = 0;
    if (!cpuid_bit(1, 0, ECX, 27)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3;
}

/* What each needs is what the script compiles it for. The compiler's function looks at what the system saves,
 * too; what clang's does not know is asked of the processor. */
static enum variant find(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt")) return NONE;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi2") || !cpuid_bit(1, 0, ECX, 29)) /* f16c */
        return SSE42;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512cd") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vnni"))
        return cpuid_bit(7, 1, EAX, 4) ? ALDERLAKE : HASWELL; /* avx_vnni */
    if (!__builtin_cpu_supports("avx512vbmi") || !__builtin_cpu_supports("avx512bf16")) return CASCADELAKE;
    if (!cpuid_bit(7, 0, EDX, 24) || !cpuid_bit(7, 0, EDX, 25) || !has_tile_state()) return ZEN4; /* amx */
    return SAPPHIRERAPIDS;
}

static enum variant chosen(void) {
    static enum variant v = UNKNOWN;
    if (v == UNKNOWN) v = find();
    return v;
}

static void * nothing(void) {
    return NULL;
}

#define VARIANT(v, name) extern __attribute__((visibility("hidden"))) void v##_##name(void);
/* The loader asks pick_NAME() which function NAME is. */
#define FUNCTION(name)                                                                             \
    VARIANT(sse42, name) VARIANT(haswell, name) VARIANT(alderlake, name) VARIANT(cascadelake, name) \
    VARIANT(zen4, name) VARIANT(sapphirerapids, name)                                              \
    static void (*pick_##name(void))(void) {                                                       \
        switch (chosen()) {                                                                        \
            case SSE42: return sse42_##name;                                                       \
            case HASWELL: return haswell_##name;                                                   \
            case ALDERLAKE: return alderlake_##name;                                               \
            case CASCADELAKE: return cascadelake_##name;                                           \
            case ZEN4: return zen4_##name;                                                         \
            case SAPPHIRERAPIDS: return sapphirerapids_##name;                                     \
            default: return (void (*)(void)) nothing;                                              \
        }                                                                                          \
    }                                                                                              \
    void name(void) __attribute__((ifunc("pick_" #name)));
GGML_CPU_FUNCTIONS(FUNCTION)
