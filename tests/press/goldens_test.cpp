// Scores and selections against the real kvpress: CURPress with all its options, and AdaKVPress over it.
#include <gguf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "press/allocation.h"
#include "press/scorer.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

// A golden file (see goldens/extract.py), all tensors in memory.
class Golden {
 public:
  explicit Golden(const std::string& name) {
    const std::string path = std::string(CURDKV_TEST_DATA) + "/" + name;
    file_.reset(gguf_init_from_file(path.c_str(), {false, &context_}));
    if (!file_) throw std::runtime_error("cannot read " + path);
  }
  ~Golden() { ggml_free(context_); }

  std::vector<std::string> names(const std::string& prefix) const {
    std::vector<std::string> out;
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.get()); ++i) {
      const std::string name = gguf_get_tensor_name(file_.get(), i);
      if (name.starts_with(prefix)) out.push_back(name);
    }
    return out;
  }
  const ggml_tensor* tensor(const std::string& name) const { return ggml_get_tensor(context_, name.c_str()); }
  template <typename T>
  std::vector<T> data(const std::string& name) const {
    const ggml_tensor* t = tensor(name);
    const T* begin = static_cast<const T*>(t->data);
    return std::vector<T>(begin, begin + ggml_nelements(t));
  }

 private:
  struct Free {
    void operator()(gguf_context* g) const { gguf_free(g); }
  };
  ggml_context* context_ = nullptr;
  std::unique_ptr<gguf_context, Free> file_;
};

// "cur.kv_product.random.local" as a press; the names are those of the golden files.
std::string press_for(const std::string& name, const std::string& preset) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has(".w7.sinks0")) return preset + ":window=7:sinks=0";
  std::string leverage = "kv_product";
  for (const char* l : {"key", "value", "kv_avg", "kv_product"}) {
    if (name.starts_with(std::string("cur.") + l)) leverage = l;
  }
  return preset + ":leverage=" + leverage + ":projection=" + (has(".random") ? "true" : "false") +
         ":local=" + (has(".local") ? "true" : "false");
}

// The selections are equal, or differ in tokens whose reference scores are equal to F32 rounding: in layer 0
// equal tokens have equal norms up to the order in which the squares are summed.
void expect_same_but_for_ties(const std::vector<int32_t>& kept, const std::vector<int32_t>& expected,
                              std::span<const float> reference, const std::string& name) {
  std::vector<int32_t> ours, theirs;
  std::set_difference(kept.begin(), kept.end(), expected.begin(), expected.end(), std::back_inserter(ours));
  std::set_difference(expected.begin(), expected.end(), kept.begin(), kept.end(), std::back_inserter(theirs));
  ASSERT_EQ(ours.size(), theirs.size()) << name;
  ASSERT_LE(ours.size(), 1u) << name;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double a = reference[static_cast<size_t>(ours[i])], b = reference[static_cast<size_t>(theirs[i])];
    std::printf("%s: token %d kept for %d, reference scores differ by %.1g relative\n", name.c_str(), ours[i],
                theirs[i], a / b - 1);
    EXPECT_NEAR(a / b, 1, 5e-7) << name;
  }
}

double ratio_of(const std::string& name) {
  return std::stod(name.substr(name.rfind(".r") + 2)) / 100;
}

class Goldens : public ::testing::TestWithParam<const char*> {
 protected:
  Golden golden_{GetParam()};
  const int64_t n_tokens_ = golden_.tensor("keys")->ne[1];
  TestLayer layer_{n_tokens_,     golden_.tensor("keys")->ne[2], golden_.tensor("keys")->ne[0],
                   GGML_TYPE_F32, golden_.data<float>("keys"),   golden_.data<float>("values")};
  // The golden files use one Gaussian for all heads; theirs is stored with the rank fastest.
  Gaussian gaussian_ = [this](int64_t d, int64_t rank, int64_t n) {
    const auto g = golden_.data<float>("gaussian");
    std::vector<float> out;
    for (int64_t h = 0; h < n; ++h) {
      for (int64_t r = 0; r < rank; ++r) {
        for (int64_t i = 0; i < d; ++i) out.push_back(g[static_cast<size_t>(i * rank + r)]);
      }
    }
    return out;
  };
};

TEST_P(Goldens, ScoresAreKvpresss) {
  const auto names = golden_.names("score.cur.");
  ASSERT_EQ(names.size(), 14u);
  for (const std::string& name : names) {
    const Press press = make_press(press_for(name.substr(6), "curdkv"), 0.5);
    const auto scores = layer_.scores(press, gaussian_);
    const auto expected = golden_.data<float>(name);
    ASSERT_EQ(scores.size(), expected.size());
    double worst = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(scores[i]) / expected[i] - 1));
    }
    EXPECT_LE(worst, 1e-4) << name;
  }
}

TEST_P(Goldens, KeptTokensAreKvpresss) {
  const auto names = golden_.names("kept.cur.");
  ASSERT_GT(names.size(), 30u);
  for (const std::string& name : names) {
    const Press press = make_press(press_for(name.substr(5, name.rfind(".r") - 5), "curdkv"), ratio_of(name));
    const auto scores = layer_.scores(press, gaussian_);
    const KeptTokens kept = press.allocation()->select({scores, n_tokens_, 3}, press.n_kept(n_tokens_));
    const auto reference = golden_.data<float>("score." + name.substr(5, name.rfind(".r") - 5));
    const auto flat = golden_.data<int32_t>(name);
    ASSERT_EQ(flat.size(), 3 * kept[0].size()) << name;
    for (size_t h = 0; h < 3; ++h) {
      const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(h * kept[0].size());
      const std::vector<int32_t> expected(begin, begin + static_cast<std::ptrdiff_t>(kept[0].size()));
      expect_same_but_for_ties(kept[h], expected,
                               std::span(reference).subspan(h * static_cast<size_t>(n_tokens_)), name);
    }
  }
}

TEST_P(Goldens, AdaptiveMasksAreKvpresss) {
  const auto names = golden_.names("mask.ada_cur");
  ASSERT_GE(names.size(), 3u);
  for (const std::string& name : names) {
    const bool local = name.find("nolocal") == std::string::npos;
    const Press press =
        make_press(std::string("adacurdkv:local=") + (local ? "true" : "false"), ratio_of(name));
    const KeptTokens kept = layer_.select(press);
    std::vector<int32_t> mask(static_cast<size_t>(3 * n_tokens_), 0);
    for (size_t h = 0; h < kept.size(); ++h) {
      for (int32_t t : kept[h]) mask[h * static_cast<size_t>(n_tokens_) + static_cast<size_t>(t)] = 1;
    }
    EXPECT_EQ(mask, golden_.data<int32_t>(name)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, Goldens, ::testing::Values("cur_layer00.gguf", "cur_layer14.gguf"),
                         [](const auto& i) { return std::string(i.param).substr(4, 7); });

}  // namespace
}  // namespace curdkv::testing
