// A tile configuration must reach the processor whole: compiled as llama.cpp's files are, with the forced
// include. Where there is no AMX, `ldtilecfg` traps, and the trap handler reads the 64 bytes it was given.
#include <gtest/gtest.h>

#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <signal.h>
#include <ucontext.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "base/cpu.h"

namespace curdkv::testing {
namespace {

// As the processor reads it.
struct TileConfig {
  uint8_t palette = 0, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

std::array<uint8_t, 64> seen;  // what the last ldtilecfg was given

// The register that an instruction's field names, as the trap left it.
uint64_t register_value(const ucontext_t& c, int field) {
  static constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return static_cast<uint64_t>(c.uc_mcontext.gregs[kOrder[field]]);
}

// VEX C4, RXB.m, W.vvvv.L.pp, opcode 49, ModRM, SIB, displacement. Reads the operand and steps over the
// instruction; anything else ends the process, as a trap should.
void on_illegal_instruction(int, siginfo_t*, void* context) {
  auto& c = *static_cast<ucontext_t*>(context);
  const auto* at = reinterpret_cast<const uint8_t*>(c.uc_mcontext.gregs[REG_RIP]);
  if (at[0] != 0xC4 || (at[1] & 0x1F) != 2 || (at[2] & 3) != 0 || at[3] != 0x49 || (at[4] >> 6) == 3)
    _exit(4);
  const bool more_base = (at[1] & 0x20) == 0, more_index = (at[1] & 0x40) == 0;
  const int mod = at[4] >> 6, rm = at[4] & 7;
  const uint8_t* next = at + 5;
  uint64_t address = 0;
  bool wide = mod == 2;
  if (rm == 4) {
    const int scale = *next >> 6, index = (*next >> 3 & 7) + (more_index ? 8 : 0), base = *next & 7;
    ++next;
    if (index != 4) address += register_value(c, index) << scale;
    if (base == 5 && mod == 0) {
      wide = true;
    } else {
      address += register_value(c, base + (more_base ? 8 : 0));
    }
  } else if (rm == 5 && mod == 0) {
    int32_t offset;
    std::memcpy(&offset, next, 4);
    next += 4;
    address = reinterpret_cast<uint64_t>(next) + static_cast<uint64_t>(int64_t{offset});
  } else {
    address = register_value(c, rm + (more_base ? 8 : 0));
  }
  if (mod == 1) {
    address += static_cast<uint64_t>(int64_t{static_cast<int8_t>(*next++)});
  } else if (wide) {
    int32_t offset;
    std::memcpy(&offset, next, 4);
    next += 4;
    address += static_cast<uint64_t>(int64_t{offset});
  }
  std::memcpy(seen.data(), reinterpret_cast<const void*>(address), seen.size());
  c.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(next);
}

// Clang's intrinsic, which needs no mending, asks for a function that may use it.
#ifdef __clang__
#define CURDKV_TILES __attribute__((target("amx-tile")))
#else
#define CURDKV_TILES
#endif

// The stores lie in the function that configures, as in ggml's.
[[gnu::noinline]] CURDKV_TILES void configure(uint8_t rows, uint16_t bytes) {
  alignas(64) TileConfig config = {};
  config.palette = 1;
  config.start_row = 0;
  for (int i = 0; i < 8; ++i) {
    config.rows[i] = static_cast<uint8_t>(rows + i);
    config.bytes_per_row[i] = static_cast<uint16_t>(bytes + 4 * i);
  }
  _tile_loadconfig(&config);
}

TEST(TileConfig, ReachesTheProcessorWhole) {
  const auto features = cpu_features();
  if (std::find(features.begin(), features.end(), "amx_tile") != features.end())
    GTEST_SKIP() << "ldtilecfg does not trap here; parity_test computes with the tiles themselves";
  struct sigaction action = {}, before = {};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, &before);
  seen.fill(0xEE);
  configure(2, 32);
  sigaction(SIGILL, &before, nullptr);
  TileConfig got;
  std::memcpy(&got, seen.data(), sizeof got);
  EXPECT_EQ(got.palette, 1);
  EXPECT_EQ(got.start_row, 0);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(got.rows[i], 2 + i) << i;
    EXPECT_EQ(got.bytes_per_row[i], 32 + 4 * i) << i;
  }
  for (int i = 8; i < 16; ++i) EXPECT_EQ(got.rows[i] + got.bytes_per_row[i], 0) << i;
}

}  // namespace
}  // namespace curdkv::testing

#endif
