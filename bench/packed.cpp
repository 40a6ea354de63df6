// Decoding's attention over packed rows, type by type, as the engine runs it: all layers of a model's shape,
// with as many rows as the bytes of so many F16 rows hold, in turn with these; beside the machine's read
// speed, measured in the same run. Prints Markdown. usage: packed [REPETITIONS] [F16_ROWS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "attention/ragged_attention.h"
#include "base/stopwatch.h"
#include "measure/bench.h"
#include "measure/machine.h"
#include "shapes.h"
#include "support/score.h"

using namespace curdkv;
using namespace curdkv::measure;
using namespace curdkv::testing;

namespace {

constexpr std::pair<RowType, const char*> kTypes[] = {{RowType::f16, "f16"},
                                                      {RowType::q8, "q8"},
                                                      {RowType::q5, "q5"},
                                                      {RowType::q4, "q4"},
                                                      {RowType::q3, "q3"}};

// A layer's rows at random: some are encoded, and laid out again and again.
KvLayer random_layer(const CacheShape& shape, int64_t il, RowType type, int64_t n_rows) {
  const std::vector<KvLayer::PackedLength> lengths(static_cast<size_t>(shape.n_head_kv),
                                                   {type, type, n_rows});
  KvLayer layer = must(KvLayer::allocate_packed(shape, il, lengths));
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(kRowsTogether * shape.d_head_k));
  for (float& v : x) v = normal(rng);
  std::vector<char> encoded(static_cast<size_t>(kRowsTogether * encoded_row_bytes(type, shape.d_head_k)));
  encode_rows(type, x.data(), kRowsTogether, shape.d_head_k, encoded.data());
  std::vector<const char*> rows;
  for (int64_t r = 0; r < kRowsTogether; ++r)
    rows.push_back(encoded.data() + r * encoded_row_bytes(type, shape.d_head_k));
  std::vector<int32_t> positions(static_cast<size_t>(n_rows));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i);
  for (size_t h = 0; h < lengths.size(); ++h) {
    for (int64_t r = 0; r < n_rows; r += kRowsTogether) {
      const auto some = std::span(rows).first(static_cast<size_t>(std::min(kRowsTogether, n_rows - r)));
      put_keys(layer.packed[h].k, r, some);
      put_values(layer.packed[h].v, r, some);
    }
    layer.positions[h] = RowPositions(positions);
  }
  return layer;
}

// Every layer's attention of one new token.
class Attention {
 public:
  Attention(const Shape& s, RowType type, int64_t n_rows, int n_threads)
      : n_rows_(n_rows), compute_(make_compute(n_threads)) {
    const CacheShape shape = {s.n_head_kv, s.d, s.d, GGML_TYPE_F16, GGML_TYPE_F16};
    const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    const auto n_layer = static_cast<size_t>(s.n_layer);
    cache_ = SequenceCache(std::vector(n_layer, shape), std::vector(n_layer, cpu));
    auto block = std::make_shared<KvBlock>();
    for (int64_t il = 0; il < s.n_layer; ++il) block->layers.push_back(random_layer(shape, il, type, n_rows));
    n_bytes_ = static_cast<double>(block->n_bytes());
    must(cache_.add(std::move(block)));
    must(cache_.reserve(1));
    step_ = {true, {{&cache_, 1, 0}}};
    ggml_context* ctx = must(compute_->begin());
    ggml_tensor* q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.d, s.n_head_kv * s.n_group, 1);
    ggml_tensor* row = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.d, s.n_head_kv, 1);
    for (ggml_tensor* x : {q, row}) ggml_set_input(x);
    for (int64_t il = 0; il < s.n_layer; ++il) {
      ggml_tensor* out = ragged_attention_cpu(*compute_, &step_, {il, s.n_group, 0.125f},
                                              n_attention_blocks(step_, il), q, row, row);
      ggml_set_output(out);
      ggml_build_forward_expand(compute_->graph(), out);
    }
    must(compute_->allocate());
    std::mt19937 rng(2);
    std::normal_distribution<float> normal;
    for (ggml_tensor* x : {q, row}) {
      std::vector<float> data(static_cast<size_t>(ggml_nelements(x)));
      for (float& v : data) v = normal(rng);
      Compute::set(x, data);
    }
  }
  double ms() {
    const Stopwatch watch;
    must(compute_->run());
    return watch.ms();
  }
  double n_bytes() const { return n_bytes_; }
  int64_t n_rows() const { return n_rows_; }

 private:
  int64_t n_rows_;
  double n_bytes_ = 0;
  std::unique_ptr<Compute> compute_;
  SequenceCache cache_;
  StepAttention step_;
};

void print_table(const Shape& shape, int64_t f16_rows, int n_threads, int n_repeat) {
  std::vector<std::unique_ptr<Attention>> all;
  const int64_t budget = f16_rows * encoded_row_bytes(RowType::f16, shape.d);
  for (const auto& [type, name] : kTypes) {
    all.push_back(
        std::make_unique<Attention>(shape, type, budget / encoded_row_bytes(type, shape.d), n_threads));
  }
  const Machine machine(n_threads, static_cast<size_t>(all[0]->n_bytes()));
  std::vector<std::vector<double>> ms(all.size()), of_read(all.size()), to_f16(all.size());
  for (int r = -1; r < n_repeat; ++r) {
    const double read = machine.read_gb_s();
    for (size_t i = 0; i < all.size(); ++i) {
      const double took = all[i]->ms();
      if (r < 0) continue;
      ms[i].push_back(took);
      of_read[i].push_back(100 * all[i]->n_bytes() / took / 1e6 / read);
      to_f16[i].push_back(ms[0].back() / took);
    }
  }
  std::printf("\n%s, groups of %lld, %.1f MB, %d thread%s\n\n", shape.name, (long long)shape.n_group,
              all[0]->n_bytes() / 1e6, n_threads, n_threads == 1 ? "" : "s");
  std::printf(
      "| rows | a head | ms a token | ns a row | GB/s | of reading, %% (range) | x F16 in as many bytes |\n"
      "|---|---|---|---|---|---|---|\n");
  for (size_t i = 0; i < all.size(); ++i) {
    const auto [low, high] = std::minmax_element(of_read[i].begin(), of_read[i].end());
    const double n_rows = static_cast<double>(all[i]->n_rows() * shape.n_head_kv * shape.n_layer),
                 t = median(ms[i]);
    std::printf("| %s | %lld | %.2f | %.1f | %.1f | %.0f (%.0f to %.0f) | %.2f |\n", kTypes[i].second,
                (long long)all[i]->n_rows(), t, t * 1e6 / n_rows, all[i]->n_bytes() / t / 1e6,
                median(of_read[i]), *low, *high, median(to_f16[i]));
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int n_repeat = argc > 1 ? std::atoi(argv[1]) : 9;
  const int64_t f16_rows = argc > 2 ? std::atoll(argv[2]) : 2048;
  ggml_cpu_init();
  for (const Shape& shape : kShapes) {
    for (const int n_threads : {1, 2}) print_table(shape, f16_rows, n_threads, n_repeat);
  }
  return 0;
}
