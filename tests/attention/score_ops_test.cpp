// What scorers compute in one operation against sums in double precision, and against ggml's operations.
#include <gtest/gtest.h>

#include <cmath>

#include "attention/chunk_kernel.h"
#include "attention/gram_kernel.h"
#include "attention/score_ops.h"
#include "press/chunk_attention.h"
#include "press/leverage_scores.h"
#include "support/instruction_sets.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

// Rows of a type, and what they are worth.
struct Rows {
  ggml_type type;
  int64_t d;
  std::vector<float> worth;
  std::vector<ggml_fp16_t> half;

  Rows(ggml_type t, int64_t n, int64_t n_dimensions, uint32_t seed)
      : type(t), d(n_dimensions), worth(random_floats(n * n_dimensions, seed)), half(worth.size()) {
    ggml_fp32_to_fp16_row(worth.data(), half.data(), std::ssize(half));
    if (t == GGML_TYPE_F16) ggml_fp16_to_fp32_row(half.data(), worth.data(), std::ssize(half));
  }
  void clear(int64_t row) {
    std::fill_n(worth.begin() + row * d, d, 0.0f);
    std::fill_n(half.begin() + row * d, d, ggml_fp16_t(0));
  }
  const char* data() const {
    return type == GGML_TYPE_F16 ? reinterpret_cast<const char*>(half.data())
                                 : reinterpret_cast<const char*>(worth.data());
  }
  size_t stride() const { return ggml_row_size(type, d); }
  double dot(int64_t row, const Rows& other, int64_t of_other) const {
    double sum = 0;
    for (int64_t i = 0; i < d; ++i)
      sum += static_cast<double>(worth[static_cast<size_t>(row * d + i)]) *
             other.worth[static_cast<size_t>(of_other * d + i)];
    return sum;
  }
};

struct AlignedScratch {
  explicit AlignedScratch(size_t n) : memory(n + Scratch::kAlignment) {}
  char* get() {
    const auto at = reinterpret_cast<uintptr_t>(memory.data()) % Scratch::kAlignment;
    return memory.data() + (Scratch::kAlignment - at);
  }
  std::vector<char> memory;
};

struct Case {
  int64_t n, n_group, d, n_zeros;
  float scale;
  ggml_type type;
};

void expect_columns(const Case& c, int64_t target) {
  Rows q(c.type, c.n * c.n_group, c.d, 1), k(c.type, c.n, c.d, 2);  // q: [n_group][n]
  q.clear(0);
  std::vector<float> out(static_cast<size_t>(c.n * c.n_group));
  AlignedScratch scratch(chunk_scratch_bytes(c.n, c.n_group, c.d));
  attend_chunk({.q = q.data(),
                .k = k.data(),
                .q_head_stride = static_cast<size_t>(c.n) * q.stride(),
                .q_token_stride = q.stride(),
                .k_stride = k.stride(),
                .type_q = c.type,
                .type_k = c.type,
                .n_tokens = c.n,
                .n_group = c.n_group,
                .d = c.d,
                .n_zeros = c.n_zeros,
                .scale = c.scale,
                .out = out.data(),
                .out_head_stride = c.n},
               scratch.get());
  // F32's rounding; or, in 16-bit integers, five standard deviations of what their rounding makes of a score:
  // a step of q and k, from N(0, 1), is sqrt(d) / 46,000.
  const auto d = static_cast<double>(c.d);
  const bool pairs = c.type == GGML_TYPE_F16 && in_pairs(target, c.d);
  const double of_score =
      static_cast<double>(c.scale) * (pairs ? 5 * std::sqrt(2 * d / 12) * std::sqrt(d) / 46000 : 1e-6 * d);
  for (int64_t h = 0; h < c.n_group; ++h) {
    std::vector<double> sums(static_cast<size_t>(c.n), 0.0);
    for (int64_t i = 0; i < c.n; ++i) {
      std::vector<double> p(static_cast<size_t>(c.n));
      double most = c.n_zeros > 0 ? 0 : -1e300, total = 0;
      for (int64_t j = 0; j < c.n; ++j) {
        p[static_cast<size_t>(j)] = c.scale * q.dot(h * c.n + i, k, j);
        most = std::max(most, p[static_cast<size_t>(j)]);
      }
      for (double& x : p) total += x = std::exp(x - most);
      total += static_cast<double>(c.n_zeros) * std::exp(-most);
      for (size_t j = 0; j < p.size(); ++j) sums[j] += p[j] / total;
    }
    for (int64_t j = 0; j < c.n; ++j) {
      const double expected = sums[static_cast<size_t>(j)] +
                              static_cast<double>(c.n_zeros) / static_cast<double>(c.n + c.n_zeros);
      ASSERT_NEAR(out[static_cast<size_t>(h * c.n + j)], expected, (1e-5 + of_score) * (expected + 1e-2))
          << c.n << " tokens, " << c.n_zeros << " zeros, d " << c.d << ", scale " << c.scale << ", head " << h
          << ", token " << j;
    }
  }
}

// Whole chunks and short ones, with and without zeros behind; heads narrower than a vector or no multiple of
// one; scores so large that softmax picks one key, or so
// small that it picks the zeros; a query of zeros.
TEST(ScoreOps, ColumnsAreThoseOfSoftmax) {
  const Case cases[] = {
      {256, 2, 64, 0, 1.0f, GGML_TYPE_F16},     {256, 1, 64, 0, 0.125f, GGML_TYPE_F32},
      {256, 1, 128, 0, 0.09f, GGML_TYPE_F16},   {100, 3, 64, 156, 1.0f, GGML_TYPE_F16},
      {100, 3, 64, 156, 0.125f, GGML_TYPE_F32}, {37, 2, 80, 0, 1.0f, GGML_TYPE_F16},
      {37, 2, 80, 27, 0.1f, GGML_TYPE_F32},     {1, 1, 64, 0, 1.0f, GGML_TYPE_F16},
      {1, 2, 64, 255, 1.0f, GGML_TYPE_F16},     {3, 1, 5, 4, 0.5f, GGML_TYPE_F32},
      {65, 1, 20, 0, 3.0f, GGML_TYPE_F16},      {600, 1, 24, 0, 0.2f, GGML_TYPE_F16},
      {64, 1, 256, 0, 1.0f, GGML_TYPE_F16},     {1, 8, 64, 7, 40.0f, GGML_TYPE_F32},
  };
  with_every_instruction_set([&](int64_t target) {
    for (const Case& c : cases) expect_columns(c, target);
  });
}

TEST(ScoreOps, GramMatricesAndNormsAreExactToRounding) {
  with_every_instruction_set([] {
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_F32}) {
      for (const auto& [n, d] :
           {std::pair<int64_t, int64_t>{300, 64}, {128, 128}, {5, 80}, {77, 20}, {9, 3}}) {
        const int64_t rank = d - d / 3;
        const Rows x(type, n, d, 3);
        Rows w(GGML_TYPE_F32, rank, d, 4);
        const RowsOf rows = {x.data(), x.stride(), type, n, d};
        AlignedScratch scratch(std::max(gram_scratch_bytes(d), norms_scratch_bytes(d, rank)));
        std::vector<float> gram(static_cast<size_t>(d * d)), norms(static_cast<size_t>(n)), plain = norms;
        gram_of(rows, gram.data(), scratch.get());
        squared_norms_of(rows, nullptr, 0, plain.data(), scratch.get());
        const auto expect_norms = [&] {
          squared_norms_of(rows, w.worth.data(), rank, norms.data(), scratch.get());
          for (int64_t t = 0; t < n; ++t) {
            double sum = 0;
            for (int64_t r = 0; r < rank; ++r) sum += std::pow(x.dot(t, w, r), 2);
            ASSERT_NEAR(norms[static_cast<size_t>(t)], sum, 1e-5 * sum) << n << " rows of " << d;
          }
        };
        for (int64_t i = 0; i < d; ++i) {
          for (int64_t j = 0; j < d; ++j) {
            double sum = 0;
            for (int64_t t = 0; t < n; ++t)
              sum += static_cast<double>(x.worth[static_cast<size_t>(t * d + i)]) *
                     x.worth[static_cast<size_t>(t * d + j)];
            ASSERT_NEAR(gram[static_cast<size_t>(i * d + j)], sum, 1e-5 * static_cast<double>(n))
                << n << " rows of " << d << ", element " << i << ", " << j;
          }
        }
        for (int64_t t = 0; t < n; ++t)
          ASSERT_NEAR(plain[static_cast<size_t>(t)], x.dot(t, x, t), 1e-5 * x.dot(t, x, t));
        expect_norms();
        // Of a triangle, whose zeros are left out, and of one with empty rows at its end.
        for (const int64_t n_rows : {rank, rank / 2}) {
          for (int64_t r = 0; r < rank; ++r) {
            const auto row = w.worth.begin() + r * d;
            std::fill(r < n_rows ? row + r + 1 : row, row + d, 0.0f);
          }
          expect_norms();
        }
      }
    }
  });
}

// The presses that use them, against graphs of ggml's operations: several head sizes, a short last chunk,
// slices of several parts. In 16-bit integers a score may be off by a few 1e-3 where it is not scaled.
TEST(ScoreOps, PressesScoreAsWithStandardOperations) {
  const char* presses[] = {"noncausal_attention+uniform",
                           "noncausal_attention+uniform:scaled=true",
                           "noncausal_attention+uniform:tail=corrected:chunk=100",
                           "noncausal_attention+uniform:scaled=true:tail=corrected",
                           "leverage",
                           "ridgekv",
                           "compactor",
                           "knorm"};
  with_every_instruction_set([&](int64_t target) {
    for (const int64_t d : {20, 64, 128}) {
      RandomLayer fused(1100, 2, d, 7), standard(1100, 2, d, 7);
      standard.without_fused_ops();
      for (const char* name : presses) {
        const Press press = make_press(name, 0.5);
        const auto a = fused.scores(press), b = standard.scores(press);
        ASSERT_EQ(a.size(), b.size());
        const bool standardised = press.settings().contains("chunk");
        const bool pairs = standardised && in_pairs(target, d);
        double worst = 0;
        for (size_t i = 0; i < a.size(); ++i) {
          const double error = std::abs(static_cast<double>(a[i]) - b[i]);
          // Standardised scores cross zero: there the error is relative to their spread, which is 1.
          const double size = std::abs(static_cast<double>(b[i]));
          worst = std::max(worst, error / (standardised ? std::max(1.0, size) : size));
        }
        EXPECT_LE(worst, pairs ? 2e-3 : 5e-5) << name << ", d " << d;
      }
    }
  });
}

TEST(ScoreOps, SameBitsForAnyThreadCount) {
  const Press press = make_press("mixkv", 0.5), leverage = make_press("ridgekv", 0.5);
  const RandomLayer one(2500, 2, 64, 7, 1);
  for (const int n_threads : {2, 5}) {
    const RandomLayer more(2500, 2, 64, 7, n_threads);
    EXPECT_EQ(more.scores(press), one.scores(press)) << n_threads;
    EXPECT_EQ(more.scores(leverage), one.scores(leverage)) << n_threads;
  }
}

}  // namespace
}  // namespace curdkv::testing
