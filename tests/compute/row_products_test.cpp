// The passes of a decoded token, done at once, against sums in double precision; and what lies between
// products.
#include "compute/products/row_products.h"

#include <gtest/gtest.h>

#include <ggml-cpu.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "compute/products/row_kernel.h"
#include "support/must.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

constexpr int64_t kEmbd = 768, kHidden = 1056;  // no multiple of what threads take at a time
constexpr float kEps = 1e-5f;

// Matrices and vectors of a layer in the CPU's memory, and in double precision.
class Layer {
 public:
  Layer() : context_(make_ggml_context(16)) {
    q = make(kEmbd, 200, true);
    k = make(kEmbd, 70, false);
    gate = make(kEmbd, kHidden, true);
    up = make(kEmbd, kHidden, false);
    down = make(kHidden, kEmbd, true);
    norm = ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, kEmbd);
    buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), ggml_backend_cpu_buffer_type()));
    for (const Linear& m : {q, k, gate, up, down}) fill(m);
    const Floats weight = random_floats(kEmbd, 5);
    ggml_backend_tensor_set(norm, weight.data(), 0, ggml_nbytes(norm));
  }

  Linear q, k, gate, up, down;
  ggml_tensor* norm;

  Doubles normed(const float* x) const {
    double squares = 0;
    for (int64_t i = 0; i < kEmbd; ++i) squares += double{x[i]} * x[i];
    Doubles y;
    for (int64_t i = 0; i < kEmbd; ++i) {
      y.push_back(x[i] / std::sqrt(squares / kEmbd + kEps) *
                  static_cast<const float*>(norm->data)[static_cast<size_t>(i)]);
    }
    return y;
  }
  static Doubles product(const Linear& m, const Doubles& x) {
    Floats row(x.size());
    Doubles y;
    for (int64_t r = 0; r < m.w->ne[1]; ++r) {
      ggml_get_type_traits(m.w->type)->to_float(
          static_cast<const char*>(m.w->data) + static_cast<size_t>(r) * m.w->nb[1], row.data(), m.w->ne[0]);
      double sum = m.b == nullptr ? 0 : static_cast<const float*>(m.b->data)[r];
      for (size_t i = 0; i < x.size(); ++i) sum += x[i] * row[i];
      y.push_back(sum);
    }
    return y;
  }

 private:
  Linear make(int64_t n_in, int64_t n_out, bool biased) {
    const ggml_type type = n_in % 256 == 0 ? GGML_TYPE_Q4_K : GGML_TYPE_Q8_0;
    return {ggml_new_tensor_2d(context_.get(), type, n_in, n_out),
            biased ? ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, n_out) : nullptr};
  }
  static void fill(const Linear& m) {
    const Floats values = random_floats(ggml_nelements(m.w), 3);
    std::vector<char> bytes(ggml_nbytes(m.w));
    ggml_quantize_chunk(m.w->type, values.data(), bytes.data(), 0, m.w->ne[1], m.w->ne[0], nullptr);
    ggml_backend_tensor_set(m.w, bytes.data(), 0, bytes.size());
    if (m.b != nullptr) ggml_backend_tensor_set(m.b, values.data(), 0, ggml_nbytes(m.b));
  }

  GgmlContext context_;
  GgmlBuffer buffer_;
};

double relative_error(const float* y, const Doubles& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (y[i] - expected[i]) * (y[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(error / size);
}

struct Passes {
  Floats q, k, added, fed;  // [n_out, n]
};

// Of n columns, of which n_counting count.
Passes run(const Layer& l, const Floats& x, int64_t n, int64_t n_counting, int n_threads) {
  const auto compute = make_compute(n_threads);
  ggml_context* ctx = must(compute->begin());
  RowProducts products(*compute, &n_counting);
  ggml_tensor* in = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, kEmbd, n);
  ggml_set_input(in);
  const Linear matrices[] = {l.q, l.k};
  const Products::Projected p = products.project(ctx, {l.norm, kEps}, matrices, in);
  ggml_tensor* outs[] = {ggml_cont(ctx, p.results[0]), ggml_cont(ctx, p.results[1]),
                         products.add_product(ctx, l.down, products.multiply(ctx, l.up.w, in), in),
                         products.feed_forward(ctx, {{l.norm, kEps}, l.gate, l.up, l.down}, in)};
  EXPECT_EQ(outs[3]->op, GGML_OP_CUSTOM);
  for (ggml_tensor* out : outs) {
    ggml_set_output(out);
    ggml_build_forward_expand(compute->graph(), out);
  }
  must(compute->allocate());
  ggml_backend_tensor_set(in, x.data(), 0, ggml_nbytes(in));
  Passes result;
  for (int i = 0; i < 2; ++i) {  // the graph serves again
    must(compute->run());
    Floats* to[] = {&result.q, &result.k, &result.added, &result.fed};
    for (size_t o = 0; o < std::size(outs); ++o) {
      to[o]->resize(static_cast<size_t>(outs[o]->ne[0] * n_counting));
      ggml_backend_tensor_get(outs[o], to[o]->data(), 0, to[o]->size() * sizeof(float));
    }
  }
  return result;
}

#define CURDKV_NEEDS_ROW_KERNEL()            \
  if (!row_kernel_takes(GGML_TYPE_Q8_0, 64)) \
  GTEST_SKIP() << "no kernel in 8 bits: neither AVX2 nor NEON's dot products"

TEST(RowProducts, PassesAreThoseOfALayer) {
  CURDKV_NEEDS_ROW_KERNEL();
  const Layer l;
  constexpr int64_t kN = 3;
  const Floats x = random_floats(kEmbd * kN, 11);
  const Passes got = run(l, x, kN, kN, 2);
  constexpr double kBar = 0.012;  // of inputs in 8 bits, twice
  for (int64_t c = 0; c < kN; ++c) {
    const float* column = x.data() + c * kEmbd;
    const Doubles normed = l.normed(column), plain(column, column + kEmbd);
    EXPECT_LT(relative_error(got.q.data() + c * 200, Layer::product(l.q, normed)), kBar);
    EXPECT_LT(relative_error(got.k.data() + c * 70, Layer::product(l.k, normed)), kBar);
    Doubles added = Layer::product(l.down, Layer::product(l.up, plain));
    for (size_t i = 0; i < added.size(); ++i) added[i] += plain[i];
    EXPECT_LT(relative_error(got.added.data() + c * kEmbd, added), kBar);
    Doubles hidden = Layer::product(l.gate, normed);
    const Doubles up = Layer::product(l.up, normed);
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] *= up[i] / (1 + std::exp(-hidden[i]));
    Doubles fed = Layer::product(l.down, hidden);
    for (size_t i = 0; i < fed.size(); ++i) fed[i] += plain[i];
    EXPECT_LT(relative_error(got.fed.data() + c * kEmbd, fed), kBar);
  }
}

TEST(RowProducts, AColumnHasTheSameBitsInAnyCompanyOnAnyNumberOfThreads) {
  CURDKV_NEEDS_ROW_KERNEL();
  const Layer l;
  const Floats x = random_floats(kEmbd * 12, 13);
  const Passes alone = run(l, x, 1, 1, 1);
  for (const int n_threads : {1, 2, 3, 7}) {
    for (const int64_t n : {1, 4, 12}) {
      for (const int64_t n_counting : {int64_t{1}, n - 1, n}) {
        if (n_counting == 0) continue;
        const Passes got = run(l, x, n, n_counting, n_threads);
        const auto begins = [](const Floats& all, const Floats& first) {
          return std::memcmp(all.data(), first.data(), first.size() * sizeof(float)) == 0;
        };
        EXPECT_TRUE(begins(got.q, alone.q) && begins(got.k, alone.k)) << n << " on " << n_threads;
        EXPECT_TRUE(begins(got.added, alone.added) && begins(got.fed, alone.fed)) << n << " on " << n_threads;
      }
    }
  }
}

TEST(RowKernel, RoundsInputsToTheNearestOf127Steps) {
  Floats x = random_floats(64, 17);
  for (int i = 0; i < 8; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i) - 3.5f;  // ties go to even
  x[9] = 127;
  std::vector<RowInput> in(2);
  quantise_input(x.data(), 64, reinterpret_cast<char*>(in.data()));
  for (size_t b = 0; b < 2; ++b) {
    float most = 0;
    int sum = 0;
    for (size_t i = 0; i < 32; ++i) most = std::max(most, std::fabs(x[32 * b + i]));
    for (size_t i = 0; i < 32; ++i) {
      EXPECT_EQ(in[b].q[i], std::nearbyint(x[32 * b + i] * (127 / most))) << i;
      sum += in[b].q[i];
    }
    EXPECT_EQ(in[b].scale, most / 127);
    EXPECT_EQ(in[b].sum, in[b].scale * static_cast<float>(sum));
    for (size_t i = 0; i < 8; ++i) {
      const int8_t* q = in[b].q + 4 * i;
      EXPECT_EQ(in[b].minus_sums[i], -(q[0] + q[1] + q[2] + q[3]));
    }
  }
}

TEST(RowKernel, NormsAndSiluAreThoseOfDoublePrecision) {
  const Floats x = random_floats(77, 19);
  double squares = 0;
  for (const float v : x) squares += double{v} * v;
  EXPECT_NEAR(norm_scale(x.data(), 77, 1e-3f) * std::sqrt(squares / 77 + 1e-3), 1, 1e-6);
  Floats gate, by;
  for (float v = -120; v < 120; v += 0.0137f) gate.push_back(v);
  by.assign(gate.size(), 3);
  const Floats before = gate;
  multiply_by_silu(gate.data(), by.data(), std::ssize(gate));
  for (size_t i = 0; i < gate.size(); ++i) {
    const double expected = 3.0 * before[i] / (1 + std::exp(-double{before[i]}));
    EXPECT_NEAR(gate[i], expected, 1e-6 * std::fabs(expected) + 1e-35) << before[i];
  }
  Floats odd = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  multiply_by_silu(odd.data(), by.data(), 2);
  EXPECT_TRUE(std::isnan(odd[0]));
  EXPECT_TRUE(std::isinf(odd[1]));
}

}  // namespace
}  // namespace curdkv::testing
