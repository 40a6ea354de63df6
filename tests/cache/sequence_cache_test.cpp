// Blocks and tails: bytes, growth, forks, rewinding.
#include "cache/sequence_cache.h"

#include <ggml-cpu.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <numeric>

#include "cache/cache_type.h"
#include "engine/limits.h"
#include "support/must.h"

namespace curdkv::testing {
namespace {

constexpr int64_t kHeads = 3;

std::vector<ggml_backend_dev_t> on_cpu(int64_t n_layer) {
  ggml_cpu_init();
  return std::vector<ggml_backend_dev_t>(static_cast<size_t>(n_layer),
                                         ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
}

using Shapes = std::vector<CacheShape>;

Shapes shapes_of(int64_t n_layer, ggml_type type = GGML_TYPE_F32) {
  return Shapes(static_cast<size_t>(n_layer), {kHeads, 64, 32, type, type});
}

std::shared_ptr<KvBlock> make_block(const Shapes& shapes, const std::vector<int64_t>& lengths) {
  auto block = std::make_shared<KvBlock>();
  for (const CacheShape& shape : shapes) {
    KvLayer layer = must(KvLayer::allocate(shape, on_cpu(1)[0], std::ssize(block->layers), lengths));
    for (size_t h = 0; h < lengths.size(); ++h) {
      std::vector<int32_t> where(static_cast<size_t>(lengths[h]));
      std::iota(where.begin(), where.end(), 0);
      layer.positions[h] = RowPositions(where);
    }
    block->layers.push_back(std::move(layer));
  }
  return block;
}

// What row i of a head says of itself, in F32.
float mark_of(int64_t il, int64_t head, int64_t i) {
  return static_cast<float>(100000 * il + 10000 * head + i);
}

void fill(const RowRun& run, int64_t il, int64_t head, int64_t first) {
  for (int64_t i = 0; i < run.n; ++i) {
    for (const auto& [rows, d] : {std::pair{run.k, 64}, std::pair{run.v, 32}}) {
      auto* to = reinterpret_cast<float*>(const_cast<char*>(rows)) + i * d;
      std::fill_n(to, d, mark_of(il, head, first + i));
    }
  }
}

// Marks a head's rows from `from` on, those about to be appended included.
void fill_head(const SequenceCache& cache, int64_t il, int64_t h, int64_t from, int64_t n_new) {
  int64_t at = 0;
  cache.for_each_run(il, h, n_new, [&](const RowRun& run) {
    const int64_t skip = std::clamp<int64_t>(from - at, 0, run.n);
    const size_t bytes = static_cast<size_t>(skip) * sizeof(float);
    fill({run.k + bytes * 64, run.v + bytes * 32, run.n - skip}, il, h, at + skip);
    at += run.n;
  });
}

void fill_all(const SequenceCache& cache) {
  for (int64_t il = 0; il < cache.n_layer(); ++il) {
    for (int64_t h = 0; h < kHeads; ++h) fill_head(cache, il, h, 0, 0);
  }
}

void append(SequenceCache& cache, int64_t n) {
  const int64_t before = cache.tail().length();
  must(cache.reserve(n));
  for (int64_t il = 0; il < cache.n_layer(); ++il) {
    for (int64_t h = 0; h < kHeads; ++h) fill_head(cache, il, h, cache.length(il, h), n);
  }
  cache.append(n, 1000 + before);
}

void expect_marked(const SequenceCache& cache) {
  for (int64_t il = 0; il < cache.n_layer(); ++il) {
    for (int64_t h = 0; h < kHeads; ++h) {
      int64_t at = 0;
      cache.for_each_run(il, h, 0, [&](const RowRun& run) {
        for (int64_t i = 0; i < run.n; ++i, ++at) {
          ASSERT_EQ(reinterpret_cast<const float*>(run.k)[i * 64], mark_of(il, h, at));
          ASSERT_EQ(reinterpret_cast<const float*>(run.v)[i * 32 + 31], mark_of(il, h, at));
        }
      });
      ASSERT_EQ(at, cache.length(il, h));
      ASSERT_EQ(std::ssize(cache.positions(il, h)), at);
    }
  }
}

size_t resident_bytes() {
  long pages = 0;
  std::FILE* f = std::fopen("/proc/self/statm", "r");
  if (f == nullptr || std::fscanf(f, "%*d %ld", &pages) != 1) return 0;
  std::fclose(f);
  return static_cast<size_t>(pages) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(KvBlock, AllocatesNoMoreThanItsRows) {
  for (const CacheTypeName& named : cache_types()) {
    const Shapes shapes = shapes_of(2, to_ggml(named.type));
    SequenceCache cache(shapes, on_cpu(2));
    EXPECT_EQ(cache.n_bytes(), 0u);
    must(cache.add(make_block(shapes, {100, 7, 0})));
    const size_t rows = 2 * 107 * shapes[0].row_bytes();
    EXPECT_GE(cache.n_bytes(), rows);
    EXPECT_LE(cache.n_bytes(), rows + 2 * 128) << "alignment only";
    cache.clear();
    must(cache.add(make_block(shapes, {1, 1, 1})));
    EXPECT_LE(cache.n_bytes(), rows / 10) << "the old rows are let go";
    cache.clear();
    EXPECT_EQ(cache.n_bytes(), 0u);
    EXPECT_EQ(shapes[0].bytes_uncompressed(10), 10 * 3 * shapes[0].row_bytes());
  }
}

TEST(KvBlock, MemoryGoesBackWhateverElseWasAllocated) {
  const Shapes shapes = shapes_of(8);
  std::vector<std::unique_ptr<char[]>> others;
  const size_t before = resident_bytes();
  for (int i = 0; i < 3; ++i) {
    SequenceCache cache(shapes, on_cpu(8));
    must(cache.add(make_block(shapes, {5000, 5000, 5000})));
    fill_all(cache);
    EXPECT_GE(resident_bytes(), before + cache.n_bytes() * 9 / 10);
    others.push_back(std::make_unique<char[]>(1 << 16));
  }
  EXPECT_LE(resident_bytes(), before + (4 << 20));
}

TEST(Tail, GrowsByStepsAndMovesNothing) {
  SequenceCache cache(shapes_of(2), on_cpu(2));
  must(cache.add(make_block(shapes_of(2), {40, 1, 300})));
  fill_all(cache);
  const size_t block = cache.n_bytes();
  append(cache, 1);
  const size_t step = cache.n_bytes() - block;
  EXPECT_LE(step, 2 * 3 * static_cast<size_t>(Tail::kStep) * cache.shape(0).row_bytes() + 64);
  const char* first = nullptr;
  cache.for_each_run(0, 2, 0, [&](const RowRun& run) { first = run.n == 1 ? run.k : first; });
  for (const int64_t n : {1, 62, 5, 200, 1, 1, 700}) append(cache, n);
  EXPECT_EQ(cache.tail().length(), 971);
  EXPECT_EQ(cache.length(1, 0), 40 + 971);
  bool still_there = false;
  cache.for_each_run(0, 2, 0, [&](const RowRun& run) { still_there = still_there || run.k == first; });
  EXPECT_TRUE(still_there);
  expect_marked(cache);
  EXPECT_EQ(cache.positions(0, 1), [] {
    std::vector<int32_t> p(972);
    std::iota(p.begin() + 1, p.end(), 1000);
    return p;
  }());
}

TEST(Tail, RewindingForgetsAndAppendingGoesOn) {
  SequenceCache cache(shapes_of(1), on_cpu(1));
  append(cache, 30);
  append(cache, 100);
  append(cache, 3);
  cache.truncate(40);
  EXPECT_EQ(cache.lengths(), (std::vector<std::vector<int64_t>>{{40, 40, 40}}));
  expect_marked(cache);
  append(cache, 500);
  expect_marked(cache);
  cache.truncate(0);
  EXPECT_EQ(cache.n_bytes(), 0u);
}

TEST(Tail, ForksShareRowsAndWriteTheirOwn) {
  SequenceCache first(shapes_of(2), on_cpu(2));
  must(first.add(make_block(shapes_of(2), {10, 20, 30})));
  fill_all(first);
  append(first, 64);
  append(first, 16);
  SequenceCache second = first;
  const auto rows = [](const SequenceCache& c) {
    std::vector<const char*> all;
    c.for_each_run(1, 1, 0, [&](const RowRun& run) { all.push_back(run.k); });
    return all;
  };
  EXPECT_EQ(rows(first), rows(second));
  append(second, 5);
  EXPECT_EQ(rows(first)[0], rows(second)[0]) << "the block is shared";
  EXPECT_EQ(rows(first)[1], rows(second)[1]) << "full segments are shared";
  EXPECT_NE(rows(first).back(), rows(second).back()) << "the one that is written to is not";
  first.truncate(71);
  append(first, 3);
  expect_marked(second);
  EXPECT_EQ(second.length(0, 0), 10 + 85);
  expect_marked(first);
  EXPECT_EQ(first.length(0, 0), 10 + 74);
}

TEST(SequenceCache, EachLayerHasItsOwnSizes) {
  const Shapes shapes = {{2, 64, 32}, {5, 32, 96}};
  SequenceCache cache(shapes, on_cpu(2));
  must(cache.reserve(70));
  cache.append(70, 0);
  SequenceCache fork = cache;
  must(fork.reserve(1));
  for (const SequenceCache* c : {&cache, &fork}) {
    const auto& layers = c->tail().parts()[0].segment->layers;
    const int64_t capacity = c->tail().parts()[0].segment->capacity;
    size_t n_bytes = 0;
    for (size_t il = 0; il < 2; ++il) {
      EXPECT_EQ(layers[il].k->ne[0], shapes[il].d_head_k);
      EXPECT_EQ(layers[il].v->ne[0], shapes[il].d_head_v);
      EXPECT_EQ(layers[il].v->ne[1], capacity * shapes[il].n_head_kv);
      n_bytes += shapes[il].bytes_uncompressed(capacity);
    }
    EXPECT_GE(c->n_bytes(), n_bytes);
    EXPECT_LE(c->n_bytes(), n_bytes + 512);
    EXPECT_EQ(c->lengths(), (std::vector<std::vector<int64_t>>{{70, 70}, {70, 70, 70, 70, 70}}));
  }
  KvLayer own;
  EXPECT_EQ(must(cache.in_one_piece(1, own))->k->ne[1], 5 * 70);
}

TEST(SequenceCache, InOnePieceIsAllRowsInOrder) {
  SequenceCache cache(shapes_of(2), on_cpu(2));
  must(cache.add(make_block(shapes_of(2), {4, 0, 6})));
  fill_all(cache);
  KvLayer own;
  EXPECT_EQ(must(cache.in_one_piece(1, own)), &cache.blocks()[0]->layers[1]) << "nothing is copied";
  append(cache, 70);
  append(cache, 9);
  const KvLayer& all = *must(cache.in_one_piece(1, own));
  EXPECT_EQ(all.length, (std::vector<int64_t>{83, 79, 85}));
  for (size_t h = 0; h < 3; ++h) {
    for (int64_t i = 0; i < all.length[h]; ++i) {
      const auto row = static_cast<size_t>(all.offset[h] + i);
      EXPECT_EQ(static_cast<const float*>(all.k->data)[row * 64], mark_of(1, static_cast<int64_t>(h), i));
      EXPECT_EQ(static_cast<const float*>(all.v->data)[row * 32], mark_of(1, static_cast<int64_t>(h), i));
    }
    EXPECT_EQ(all.positions[h].unpacked(), cache.positions(1, static_cast<int64_t>(h)));
  }
}

}  // namespace
}  // namespace curdkv::testing
