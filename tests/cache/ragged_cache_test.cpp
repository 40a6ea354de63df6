#include "cache/ragged_cache.h"

#include <ggml-cpu.h>
#include <gtest/gtest.h>

#include "engine/session_impl.h"
#include "support/must.h"

namespace curdkv::testing {
namespace {

RaggedCache make_cache(int64_t n_layer, ggml_type type = GGML_TYPE_F16) {
  ggml_cpu_init();
  const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  return RaggedCache({n_layer, 3, 64, 32, type, type},
                     std::vector<ggml_backend_dev_t>(static_cast<size_t>(n_layer), cpu));
}

void allocate(RaggedCache& cache, const std::vector<int64_t>& lengths) {
  cache.replace(0, must(cache.allocate_layer(0, lengths, lengths)));
}

// Every element of a head's rows becomes 1000 * head + row, in F32.
void fill(const RaggedLayer& l) {
  for (ggml_tensor* t : {l.k, l.v}) {
    for (size_t h = 0; h < l.length.size(); ++h) {
      for (int64_t r = 0; r < l.length[h]; ++r) {
        const std::vector<float> row(static_cast<size_t>(t->ne[0]),
                                     static_cast<float>(1000 * h + static_cast<size_t>(r)));
        ggml_backend_tensor_set(t, row.data(), static_cast<size_t>(l.offset[h] + r) * t->nb[1], t->nb[1]);
      }
    }
  }
}

void expect_filled(const RaggedLayer& l, const std::vector<int64_t>& lengths) {
  for (const ggml_tensor* t : {l.k, l.v}) {
    for (size_t h = 0; h < lengths.size(); ++h) {
      for (int64_t r = 0; r < lengths[h]; ++r) {
        std::vector<float> row(static_cast<size_t>(t->ne[0]));
        ggml_backend_tensor_get(t, row.data(), static_cast<size_t>(l.offset[h] + r) * t->nb[1], t->nb[1]);
        for (float x : row) ASSERT_EQ(x, static_cast<float>(1000 * h + static_cast<size_t>(r)));
      }
    }
  }
}

TEST(RaggedCache, AllocatesNoMoreThanItsRows) {
  for (const CacheTypeName& named : cache_types()) {
    const ggml_type type = to_ggml(named.type);
    RaggedCache cache = make_cache(2, type);
    EXPECT_EQ(cache.n_bytes(), 0u);
    allocate(cache, {100, 7, 0});
    const size_t rows = 107 * (ggml_row_size(type, 64) + ggml_row_size(type, 32));
    EXPECT_GE(cache.n_bytes(), rows);
    EXPECT_LE(cache.n_bytes(), rows + 256) << "alignment only";
    allocate(cache, {1, 1, 1});
    EXPECT_LE(cache.n_bytes(), rows / 10) << "the old rows are freed";
    cache.clear();
    EXPECT_EQ(cache.n_bytes(), 0u);
    EXPECT_EQ(cache.n_bytes_uncompressed(10),
              10 * 2 * 3 * (ggml_row_size(type, 64) + ggml_row_size(type, 32)));
  }
}

TEST(RaggedCache, GrowingKeepsEveryRow) {
  RaggedCache cache = make_cache(1, GGML_TYPE_F32);
  allocate(cache, {40, 1, 300});
  fill(cache.layer(0));
  const uint64_t full = cache.version();
  must(cache.reserve(5));
  const uint64_t roomy = cache.version();
  EXPECT_NE(roomy, full) << "there was no room";
  expect_filled(cache.layer(0), {40, 1, 300});
  must(cache.reserve(5));
  EXPECT_EQ(cache.version(), roomy) << "now there is";
  cache.append(5);
  EXPECT_EQ(cache.layer(0).length, (std::vector<int64_t>{45, 6, 305}));
  fill(cache.layer(0));
  must(cache.reserve(5000));
  EXPECT_NE(cache.version(), roomy);
  expect_filled(cache.layer(0), {45, 6, 305});
}

TEST(RaggedCache, GrowsFromNothing) {
  RaggedCache cache = make_cache(2);
  EXPECT_EQ(cache.version(), 0u);
  must(cache.reserve(1));
  EXPECT_NE(cache.version(), 0u);
  for (int64_t c : cache.layer(1).capacity) EXPECT_GE(c, 1);
}

TEST(RaggedCache, RewindRestoresLengths) {
  RaggedCache cache = make_cache(1);
  allocate(cache, {4, 5, 6});
  const RaggedCache::Mark mark = cache.mark();
  must(cache.reserve(10));
  cache.append(10);
  cache.rewind(mark);
  EXPECT_EQ(cache.layer(0).length, (std::vector<int64_t>{4, 5, 6}));
}

}  // namespace
}  // namespace curdkv::testing
