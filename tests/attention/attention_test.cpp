// Ragged attention, in both forms, against masked dense attention computed in double precision.
#include <ggml-cpu.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "attention/attention_kernel.h"
#include "attention/ragged_attention.h"
#include "cache/cache_type.h"
#include "engine/limits.h"
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
  SequenceCache cache;      // before the new rows
  std::vector<float> q;     // [n_new][n_head][d_k]
  std::vector<float> k, v;  // [n_new][n_head_kv][d]
};

// Rows of heads as the cache has them: quantised.
std::vector<char> quantised(const std::vector<float>& data, ggml_type type, int64_t d) {
  const int64_t n_rows = std::ssize(data) / d;
  std::vector<char> bytes(static_cast<size_t>(n_rows) * ggml_row_size(type, d));
  if (data.empty()) return bytes;
  if (type == GGML_TYPE_F32) {
    std::memcpy(bytes.data(), data.data(), bytes.size());
  } else {
    ggml_get_type_traits_cpu(type)->from_float(data.data(), bytes.data(), n_rows * d);
  }
  return bytes;
}

// A cache whose heads hold `lengths` rows, the last n_tail of them in a tail that grew n_step at a time.
Problem make_problem(const Shape& shape, const std::vector<int64_t>& lengths, int64_t n_new,
                     int64_t n_tail = 0, int64_t n_step = 1) {
  ggml_cpu_init();
  const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  const CacheShape of_cache = {shape.n_head_kv, shape.d_k, shape.d_v, shape.type_k, shape.type_v};
  Problem p = {shape, n_new, SequenceCache({of_cache}, {cpu}), {}, {}, {}};
  std::vector<int64_t> in_block;
  for (int64_t length : lengths) in_block.push_back(length - n_tail);
  auto block = std::make_shared<KvBlock>();
  block->layers.push_back(must(KvLayer::allocate(of_cache, cpu, 0, in_block)));
  must(p.cache.add(block));
  for (int64_t at = 0; at < n_tail; at += n_step) {
    must(p.cache.reserve(std::min(n_step, n_tail - at)));
    p.cache.append(std::min(n_step, n_tail - at), 0);
  }
  // The same rows for a head, wherever they lie.
  for (int64_t h = 0; h < shape.n_head_kv; ++h) {
    const int64_t n = lengths[static_cast<size_t>(h)];
    const auto seed = static_cast<uint32_t>(10 * h);
    const auto k = quantised(random_floats(n * shape.d_k, seed + 1), shape.type_k, shape.d_k);
    const auto v = quantised(random_floats(n * shape.d_v, seed + 2), shape.type_v, shape.d_v);
    size_t at_k = 0, at_v = 0;
    p.cache.for_each_run(0, h, 0, [&](const RowRun& run) {
      const size_t k_bytes = static_cast<size_t>(run.n) * of_cache.row_bytes_k(),
                   v_bytes = static_cast<size_t>(run.n) * of_cache.row_bytes_v();
      std::memcpy(const_cast<char*>(run.k), k.data() + at_k, k_bytes);
      std::memcpy(const_cast<char*>(run.v), v.data() + at_v, v_bytes);
      at_k += k_bytes;
      at_v += v_bytes;
    });
  }
  must(p.cache.reserve(n_new));
  p.q = random_floats(n_new * shape.n_head_kv * shape.n_group * shape.d_k, 3);
  p.k = random_floats(n_new * shape.n_head_kv * shape.d_k, 4);
  p.v = random_floats(n_new * shape.n_head_kv * shape.d_v, 5);
  return p;
}

std::vector<float> row_of(const char* row, ggml_type type, int64_t d) {
  std::vector<float> out(static_cast<size_t>(d));
  if (type == GGML_TYPE_F32) {
    std::memcpy(out.data(), row, out.size() * sizeof(float));
  } else {
    ggml_get_type_traits(type)->to_float(row, out.data(), d);
  }
  return out;
}

constexpr float kScale = 0.125f;

// Dense attention over all rows there are, those a query may not see masked out; once the new rows are
// stored.
std::vector<double> reference(const Problem& p) {
  const Shape& shape = p.shape;
  const int64_t n_head = shape.n_head_kv * shape.n_group;
  std::vector<std::vector<std::vector<float>>> keys, values;  // [head][row]
  for (int64_t h = 0; h < shape.n_head_kv; ++h) {
    keys.emplace_back();
    values.emplace_back();
    p.cache.for_each_run(0, h, 0, [&](const RowRun& run) {
      for (int64_t r = 0; r < run.n; ++r) {
        const auto at = static_cast<size_t>(r);
        keys.back().push_back(
            row_of(run.k + at * ggml_row_size(shape.type_k, shape.d_k), shape.type_k, shape.d_k));
        values.back().push_back(
            row_of(run.v + at * ggml_row_size(shape.type_v, shape.d_v), shape.type_v, shape.d_v));
      }
    });
    for (int64_t t = 0; t < p.n_new; ++t) {
      const auto fresh = [&](const std::vector<float>& all, ggml_type type, int64_t d) {
        const auto first = all.begin() + (t * shape.n_head_kv + h) * d;
        return row_of(quantised(std::vector<float>(first, first + d), type, d).data(), type, d);
      };
      keys.back().push_back(fresh(p.k, shape.type_k, shape.d_k));
      values.back().push_back(fresh(p.v, shape.type_v, shape.d_v));
    }
  }
  std::vector<double> out;
  for (int64_t i = 0; i < p.n_new; ++i) {
    for (int64_t head = 0; head < n_head; ++head) {
      const auto h = static_cast<size_t>(head / shape.n_group);
      const float* q = p.q.data() + (i * n_head + head) * shape.d_k;
      const auto n_seen = static_cast<size_t>(p.cache.length(0, static_cast<int64_t>(h)) + i + 1);
      std::vector<double> weights;
      double sum = 0;
      for (size_t r = 0; r < keys[h].size(); ++r) {
        const double s = std::inner_product(keys[h][r].begin(), keys[h][r].end(), q, 0.0) * kScale;
        weights.push_back(r < n_seen ? std::exp(s) : 0.0);
        sum += weights.back();
      }
      std::vector<double> o(static_cast<size_t>(shape.d_v), 0.0);
      for (size_t r = 0; r < keys[h].size(); ++r) {
        for (size_t d = 0; d < o.size(); ++d) o[d] += weights[r] / sum * values[h][r][d];
      }
      out.insert(out.end(), o.begin(), o.end());
    }
  }
  return out;
}

// The attention of the problems' new tokens, in one graph; several only with the CPU's ops.
std::vector<float> run_together(std::vector<Problem*> problems, bool portable, int n_threads) {
  const Shape& shape = problems[0]->shape;
  const int64_t n_head = shape.n_head_kv * shape.n_group;
  auto compute = make_compute(n_threads);
  ggml_context* ctx = must(compute->begin());
  StepAttention step;
  const AttentionLayer layer = {0, shape.n_group, kScale};
  std::vector<float> q_data, k_data, v_data;
  int64_t n = 0;
  for (const Problem* p : problems) {
    step.spans.push_back({&p->cache, p->n_new, n});
    step.decoding = step.decoding && p->n_new == 1;
    n += p->n_new;
    q_data.insert(q_data.end(), p->q.begin(), p->q.end());
    k_data.insert(k_data.end(), p->k.begin(), p->k.end());
    v_data.insert(v_data.end(), p->v.begin(), p->v.end());
  }
  const auto input = [&](ggml_type type, int64_t a, int64_t b, int64_t c) {
    ggml_tensor* t = ggml_new_tensor_3d(ctx, type, a, b, c);
    ggml_set_input(t);
    return t;
  };
  ggml_tensor* q = input(GGML_TYPE_F32, shape.d_k, n_head, n);
  ggml_tensor* k = input(GGML_TYPE_F32, shape.d_k, shape.n_head_kv, n);
  ggml_tensor* v = input(GGML_TYPE_F32, shape.d_v, shape.n_head_kv, n);
  const RaggedMask mask = {problems[0]->cache.longest(0), n};
  PortableInputs inputs;
  ggml_tensor* out = nullptr;
  if (portable) {
    inputs.mask = input(GGML_TYPE_F16, mask.n_elements(), 1, 1);
    inputs.rows = input(GGML_TYPE_I64, n * shape.n_head_kv, 1, 1);
    out = ragged_attention_portable(*compute, step, layer, q, k, v, inputs, mask);
  } else {
    out = ragged_attention_cpu(*compute, &step, layer, n_attention_blocks(step, 0), q, k, v);
  }
  ggml_set_output(out);
  ggml_build_forward_expand(compute->graph(), out);
  must(compute->allocate());
  Compute::set(q, q_data);
  Compute::set(k, k_data);
  Compute::set(v, v_data);
  if (portable) {
    mask.write(inputs.mask);
    Compute::set(inputs.rows, tail_rows(step.spans[0], shape.n_head_kv));
  }
  must(compute->run());
  std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
  ggml_backend_tensor_get(out, result.data(), 0, result.size() * sizeof(float));
  return result;
}

std::vector<float> run(Problem& p, bool portable, int n_threads) {
  return run_together({&p}, portable, n_threads);
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
      for (const int64_t n_tail : {0, 70}) {
        std::vector<int64_t> lengths = {n_tail, n_tail + 5, 700, 128};
        lengths.resize(static_cast<size_t>(shape.n_head_kv));
        Problem p = make_problem(shape, lengths, n_new, n_tail, 30);
        const auto expected = reference(p);
        SCOPED_TRACE(::testing::Message() << ggml_type_name(shape.type_k) << " d " << shape.d_k << " new "
                                          << n_new << " tail " << n_tail);
        EXPECT_LE(worst_error(run(p, false, 2), expected), 2e-5) << "CPU ops";
        // ggml's own op accumulates in F16 for short queries.
        EXPECT_LE(worst_error(run(p, true, 2), expected), 2e-2) << "portable ops";
      }
    }
  }
}

TEST(RaggedAttention, SameBitsForAnyThreadsAndChunks) {
  Problem p = make_problem({}, {900, 3, 257}, 9);
  const auto expected = run(p, false, 1);
  for (int n_threads : {2, 3, 5}) EXPECT_EQ(run(p, false, n_threads), expected) << n_threads << " threads";
  // The same tokens one at a time, the cache growing under them.
  std::vector<float> one_by_one;
  Problem single = make_problem({}, {900, 3, 257}, 9);
  const Problem all = single;
  single.n_new = 1;
  for (int64_t i = 0; i < 9; ++i) {
    const auto part = [&](const std::vector<float>& x) {
      const int64_t width = std::ssize(x) / 9;
      return std::vector<float>(x.begin() + i * width, x.begin() + (i + 1) * width);
    };
    single.q = part(all.q);
    single.k = part(all.k);
    single.v = part(all.v);
    must(single.cache.reserve(1));
    const auto out = run(single, false, 2);
    one_by_one.insert(one_by_one.end(), out.begin(), out.end());
    single.cache.append(1, 0);
  }
  EXPECT_EQ(one_by_one, expected);
}

TEST(RaggedAttention, SameBitsWhereverRowsLie) {
  for (const Shape& shape : {Shape(), Shape{3, 3, 64, 64, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}}) {
    for (const int64_t n_new : {1, 6}) {
      Problem in_block = make_problem(shape, {900, 300, 257}, n_new);
      const auto expected = run(in_block, false, 2);
      for (const auto& [n_tail, n_step] : {std::pair{1, 1}, {64, 64}, {200, 7}, {257, 100}}) {
        Problem spread = make_problem(shape, {900, 300, 257}, n_new, n_tail, n_step);
        EXPECT_EQ(run(spread, false, 2), expected) << n_tail << " rows in the tail, by " << n_step;
      }
    }
  }
}

TEST(RaggedAttention, SameBitsInCompany) {
  for (const int64_t n_new : {1, 5}) {
    Problem a = make_problem({}, {900, 3, 257}, n_new), b = make_problem({}, {128, 200, 1}, n_new, 1),
            c = make_problem({}, {70, 70, 70}, n_new, 70, 9);
    std::vector<float> alone;
    for (Problem* p : {&a, &b, &c}) {
      const auto out = run(*p, false, 3);
      alone.insert(alone.end(), out.begin(), out.end());
    }
    for (int n_threads : {1, 3}) EXPECT_EQ(run_together({&a, &b, &c}, false, n_threads), alone);
  }
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
