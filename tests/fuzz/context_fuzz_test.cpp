// The corpus of the reader's fuzzer, and inputs made of it by a few thousand mutations; CURDKV_FUZZ: how
// many. tests/fuzz/run.sh runs libFuzzer itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "store/reseal.h"
#include "store/store_support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace curdkv::testing {
namespace {

void run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

bool open_bytes(const std::string& bytes) {
  const MemoryFile file(bytes);
  return static_cast<bool>(open_context(file.path()));
}

std::vector<std::string> corpus() {
  std::vector<std::string> paths = {CURDKV_TEST_DATA "/context_v1.kvc", CURDKV_TEST_DATA "/context_v2.kvc"},
                           all;
  for (const auto& entry : std::filesystem::directory_iterator(CURDKV_FUZZ_CORPUS))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) all.push_back(read_bytes(path));
  return all;
}

std::string mutated(std::string bytes, std::mt19937& rng) {
  static constexpr uint64_t kNumbers[] = {0,
                                          1,
                                          0x7F,
                                          0xFF,
                                          0x7FFF,
                                          0xFFFF,
                                          0x7FFFFFFF,
                                          0xFFFFFFFF,
                                          1ULL << 40,
                                          ~0ULL,
                                          0x7FFFFFFFFFFFFFFF,
                                          0x7C00,
                                          0x7F800000};
  for (int n = static_cast<int>(rng() % 4) + 1; n > 0 && !bytes.empty(); --n) {
    // Most of what there is to get wrong lies in the header.
    const size_t range = rng() % 4 > 0 ? std::min<size_t>(bytes.size(), 4096) : bytes.size();
    const size_t at = rng() % range, m = size_t{1} << rng() % 4;
    switch (rng() % 5) {
      case 0:
        bytes[at] ^= static_cast<char>(1 << rng() % 8);
        break;
      case 1:
        bytes[at] = static_cast<char>(rng());
        break;
      case 2:
        std::memcpy(bytes.data() + at, &kNumbers[rng() % std::size(kNumbers)],
                    std::min(m, bytes.size() - at));
        break;
      case 3:
        bytes.erase(at, m);
        break;
      default:
        bytes.insert(at, bytes.substr(rng() % bytes.size(), m));
    }
  }
  return bytes;
}

TEST(ContextFuzz, NothingTheReaderIsGivenHarmsIt) {
  const std::vector<std::string> seeds = corpus();
  EXPECT_GE(std::count_if(seeds.begin(), seeds.end(), [](const std::string& s) { return open_bytes(s); }), 5);
  for (const std::string& seed : seeds) run(seed);
  const char* wanted = std::getenv("CURDKV_FUZZ");
  const long n = wanted != nullptr ? std::atol(wanted) : 6000;
  std::mt19937 rng(1);
  for (long i = 0; i < n; ++i) run(mutated(seeds[rng() % seeds.size()], rng));
}

}  // namespace
}  // namespace curdkv::testing
