// Ragged attention, in both forms, against masked dense attention computed in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "engine/attention_kernel.h"
#include "engine/ragged_attention.h"
#include "engine/session_impl.h"
#include "support/instruction_sets.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

struct Shape {
  int64_t n_head_kv = 3, n_group = 3, d_k = 64, d_v = 64;
  ggml_type type_k = GGML_TYPE_F16, type_v = GGML_TYPE_F16;
};

struct Problem {
  Shape shape;
  int64_t n_new;
  std::vector<int64_t> lengths;  // per KV head, before the new rows
  RaggedCache cache;
  std::vector<float> q;  // [n_new][n_head][d_k]
};

// A cache layer with gaps between heads (room for more), filled at random; new rows already written.
Problem make_problem(const Shape& shape, const std::vector<int64_t>& lengths, int64_t n_new) {
  Problem p = {shape, n_new, lengths, {}, {}};
  ggml_cpu_init();
  const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  p.cache = RaggedCache({1, shape.n_head_kv, shape.d_k, shape.d_v, shape.type_k, shape.type_v}, {cpu});
  p.cache.replace(0, must(p.cache.allocate_layer(0, lengths, lengths)));
  must(p.cache.reserve(n_new));
  const RaggedLayer& l = p.cache.layer(0);
  for (ggml_tensor* rows : {l.k, l.v}) {
    const auto data = random_floats(ggml_nelements(rows), rows == l.k ? 1 : 2);
    std::vector<char> bytes(ggml_nbytes(rows));
    ggml_quantize_chunk(rows->type, data.data(), bytes.data(), 0, rows->ne[1], rows->ne[0], nullptr);
    ggml_backend_tensor_set(rows, bytes.data(), 0, bytes.size());
  }
  p.q = random_floats(n_new * shape.n_head_kv * shape.n_group * shape.d_k, 3);
  return p;
}

std::vector<float> row_of(const ggml_tensor* rows, int64_t i) {
  std::vector<char> bytes(rows->nb[1]);
  ggml_backend_tensor_get(rows, bytes.data(), static_cast<size_t>(i) * rows->nb[1], bytes.size());
  std::vector<float> out(static_cast<size_t>(rows->ne[0]));
  if (rows->type == GGML_TYPE_F32) {
    std::memcpy(out.data(), bytes.data(), bytes.size());
  } else {
    ggml_get_type_traits(rows->type)->to_float(bytes.data(), out.data(), rows->ne[0]);
  }
  return out;
}

constexpr float kScale = 0.125f;

// Dense attention over all rows there are, those a query may not see masked out.
std::vector<double> reference(const Problem& p) {
  const RaggedLayer& l = p.cache.layer(0);
  const int64_t n_head = p.shape.n_head_kv * p.shape.n_group;
  std::vector<double> out;
  for (int64_t i = 0; i < p.n_new; ++i) {
    for (int64_t head = 0; head < n_head; ++head) {
      const auto h = static_cast<size_t>(head / p.shape.n_group);
      const float* q = p.q.data() + (i * n_head + head) * p.shape.d_k;
      std::vector<double> weights;
      double sum = 0;
      for (int64_t r = 0; r < l.capacity[h]; ++r) {
        const auto k = row_of(l.k, l.offset[h] + r);
        const double s = std::inner_product(k.begin(), k.end(), q, 0.0) * kScale;
        const bool seen = r <= l.length[h] + i;
        weights.push_back(seen ? std::exp(s) : 0.0);
        sum += weights.back();
      }
      std::vector<double> o(static_cast<size_t>(p.shape.d_v), 0.0);
      for (int64_t r = 0; r < l.capacity[h]; ++r) {
        const auto v = row_of(l.v, l.offset[h] + r);
        for (size_t d = 0; d < o.size(); ++d) o[d] += weights[static_cast<size_t>(r)] / sum * v[d];
      }
      out.insert(out.end(), o.begin(), o.end());
    }
  }
  return out;
}

std::vector<float> run(Problem& p, bool portable, int n_threads) {
  const int64_t n_head = p.shape.n_head_kv * p.shape.n_group;
  auto compute = make_compute(n_threads);
  ggml_context* ctx = must(compute->begin());
  ggml_tensor* q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, p.shape.d_k, n_head, p.n_new);
  ggml_set_input(q);
  const RaggedLayer& l = p.cache.layer(0);
  RaggedAttention state = {&l, p.n_new, p.shape.n_group, kScale};
  const RaggedMask mask = {l.longest(), p.n_new};
  ggml_tensor *mask_data = nullptr, *out = nullptr;
  if (portable) {
    mask_data = ggml_new_tensor_1d(ctx, GGML_TYPE_F16, mask.n_elements());
    ggml_set_input(mask_data);
    out = ragged_attention_portable(ctx, state, q, l.k, l.v, mask_data, mask);
  } else {
    out = ragged_attention_cpu(*compute, &state, q, l.k, l.v);
  }
  ggml_set_output(out);
  ggml_build_forward_expand(compute->graph(), out);
  must(compute->allocate());
  Compute::set(q, p.q);
  if (portable) mask.write(mask_data);
  must(compute->run());
  std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
  ggml_backend_tensor_get(out, result.data(), 0, result.size() * sizeof(float));
  return result;
}

double worst_error(const std::vector<float>& got, const std::vector<double>& expected) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(got[i] - expected[i]));
  return got.size() == expected.size() ? worst : 1e30;
}

std::vector<Shape> shapes() {
  std::vector<Shape> list(1);
  list.push_back({2, 7, 64, 64});  // Qwen2.5-0.5B's groups
  list.push_back({1, 1, 128, 128});
  list.push_back({4, 2, 80, 48});  // d_k != d_v
  list.push_back({3, 5, 36, 20});  // sizes that fill no vector
  list.push_back({3, 3, 64, 64, GGML_TYPE_F32, GGML_TYPE_F32});
  list.push_back({3, 3, 64, 64, GGML_TYPE_Q8_0, GGML_TYPE_Q8_0});
  list.push_back({2, 4, 64, 64, GGML_TYPE_Q8_0, GGML_TYPE_F16});
  for (const CacheTypeName& t : cache_types()) {
    list.push_back({1, 3, 64, 32, to_ggml(t.type), to_ggml(t.type)});
    list.push_back({1, 2, 32, 64, to_ggml(t.type), GGML_TYPE_Q4_0});
  }
  return list;
}

TEST(RaggedAttention, EqualsMaskedDense) {
  for (const Shape& shape : shapes()) {
    for (const int64_t n_new : {1, 2, 7, 33}) {
      std::vector<int64_t> lengths = {0, 5, 700, 128};
      lengths.resize(static_cast<size_t>(shape.n_head_kv));
      Problem p = make_problem(shape, lengths, n_new);
      const auto expected = reference(p);
      SCOPED_TRACE(::testing::Message()
                   << ggml_type_name(shape.type_k) << " d " << shape.d_k << " new " << n_new);
      EXPECT_LE(worst_error(run(p, false, 2), expected), 2e-5) << "CPU ops";
      // ggml's own op accumulates in F16 for short queries.
      EXPECT_LE(worst_error(run(p, true, 2), expected), 2e-2) << "portable ops";
    }
  }
}

TEST(RaggedAttention, SameBitsForAnyThreadsAndChunks) {
  Problem p = make_problem({}, {900, 3, 257}, 9);
  const auto expected = run(p, false, 1);
  for (int n_threads : {2, 3, 5}) EXPECT_EQ(run(p, false, n_threads), expected) << n_threads << " threads";
  // The same queries one at a time, the cache growing under them.
  std::vector<float> one_by_one;
  const int64_t width = 9 * 64;
  Problem single = make_problem({}, {900, 3, 257}, 9);
  const auto all_q = single.q;
  single.n_new = 1;
  for (int64_t i = 0; i < 9; ++i) {
    single.q.assign(all_q.begin() + i * width, all_q.begin() + (i + 1) * width);
    const auto out = run(single, false, 2);
    one_by_one.insert(one_by_one.end(), out.begin(), out.end());
    single.cache.append(1);
  }
  EXPECT_EQ(one_by_one, expected);
}

TEST(AttentionKernel, EveryInstructionSetGivesTheSame) {
  for (const Shape& shape : shapes()) {
    std::vector<int64_t> lengths = {131, 5, 0, 64};
    lengths.resize(static_cast<size_t>(shape.n_head_kv));
    for (const int64_t n_new : {1, 9}) {
      Problem p = make_problem(shape, lengths, n_new);
      const auto expected = reference(p);
      SCOPED_TRACE(::testing::Message() << ggml_type_name(shape.type_k) << " d " << shape.d_k);
      with_every_instruction_set([&] { EXPECT_LE(worst_error(run(p, false, 2), expected), 2e-5); });
    }
  }
}

TEST(AttentionKernel, ExtremeScoresStayFinite) {
  Problem p = make_problem({1, 1, 64, 64, GGML_TYPE_F32, GGML_TYPE_F32}, {300}, 1);
  for (float& x : p.q) x *= 1e4f;
  for (float x : run(p, false, 2)) EXPECT_TRUE(std::isfinite(x));
}

}  // namespace
}  // namespace curdkv::testing
