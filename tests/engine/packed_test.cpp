// Contexts whose rows are packed: what they take, what they answer, and that neither threads nor chunks nor
// company show.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/sequence_state.h"
#include "support/expect_error.h"
#include "support/tiny_sequences.h"

namespace curdkv::testing {
namespace {

// In F32 what rows lose is all that shows; products in 8 bits would add their rounding.
OneSequence make(const ExecutorParams& params = {}) {
  return curdkv::testing::make(tiny(), params);
}

// The logits of a question asked of a context, all of its positions'.
std::vector<float> answer(OneSequence& s) {
  std::vector<float> all;
  must(s.extend(tokens(37, 2), [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  }));
  for (uint32_t i = 0; i < 3; ++i) {
    must(s.extend(tokens(1, 10 + i)));
    all.insert(all.end(), s.logits().begin(), s.logits().end());
  }
  return all;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(error / size);
}

TEST(Packed, FewerBitsAreFurtherFromTheFullCache) {
  OneSequence full = make();
  must(full.read(tokens(700), Press()));
  const std::vector<float> exact = answer(full);
  double before = 0;
  size_t bytes = full.kv_bytes();
  for (const char* type : {"f16", "q8", "q5", "q4", "q3"}) {
    OneSequence packed = make();
    must(packed.read(tokens(700), make_press(std::string("none:keys=") + type + ":values=" + type, 0)));
    EXPECT_EQ(packed.kept_tokens(), [&] {
      OneSequence s = make();
      must(s.read(tokens(700), Press()));
      return s.kept_tokens();
    }());
    if (std::string(type) != "f16") {
      EXPECT_LT(packed.kv_bytes(), bytes) << type;
    }
    bytes = packed.kv_bytes();
    const double far = distance(answer(packed), exact);
    EXPECT_GT(far, before) << type;
    before = far;
    if (std::string(type) == "f16") {
      EXPECT_LT(far, 2e-3);
    }
    if (std::string(type) == "q8") {
      EXPECT_LT(far, 1.5e-2);
    }
  }
  EXPECT_LT(before, 0.4) << "q3";
}

TEST(Packed, NeitherThreadsNorChunksNorCompanyShow) {
  for (const char* press : {"recommended", "mixkv:keys=auto:values=q4", "adacurdkv:keys=q4:values=f16"}) {
    std::vector<float> first;
    std::vector<std::vector<std::vector<int32_t>>> kept;
    for (const auto& [n_threads, n_batch] : {std::pair{2, 512}, {3, 64}, {1, 256}}) {
      ExecutorParams params;
      params.n_threads = n_threads;
      params.n_batch = n_batch;
      params.in_company = true;
      OneSequence s = must(OneSequence::create(tiny(GGML_TYPE_Q8_0), params));
      must(s.read(tokens(900), make_press(press, 0.6)));
      Sequence alone = s.sequence.fork(), other = s.sequence.fork();
      const std::vector<float> logits = answer(s);
      if (first.empty()) first = logits, kept = s.kept_tokens();
      EXPECT_EQ(logits, first) << press << " " << n_threads;
      EXPECT_EQ(s.kept_tokens(), kept);
      // The same tokens in company.
      must(s.executor.extend(other, tokens(5, 9)));
      must(s.executor.extend(alone, tokens(37, 2)));
      Sequence* both[] = {&other, &alone};
      for (uint32_t i = 0; i < 3; ++i)
        must(decode_together(s.executor, both, std::vector{tokens(1, 20)[0], tokens(1, 10 + i)[0]}));
      EXPECT_EQ(std::vector<float>(alone.logits().begin(), alone.logits().end()), logits_of(s)) << press;
    }
  }
}

TEST(Packed, ABudgetOfBytesIsKeptTo) {
  for (const double ratio : {0.8, 0.9, 0.95}) {
    OneSequence s = make();
    const ReadReport report = must(s.read(tokens(3000), make_press("recommended", ratio)));
    const double share = static_cast<double>(report.kv_bytes) / static_cast<double>(report.kv_bytes_full);
    EXPECT_LE(share, 1 - ratio) << ratio;
    EXPECT_GE(share, 0.93 * (1 - ratio)) << ratio;
    for (const auto& layer : s.kept_tokens()) {
      for (const auto& head : layer) {
        for (int32_t t = 0; t < 4; ++t) EXPECT_EQ(head[static_cast<size_t>(t)], t) << "sinks";
      }
    }
    EXPECT_EQ(report.kv_bytes, s.kv_bytes());
  }
  // Whatever selects, and in bytes told.
  for (const char* press : {"curdkv:ratio_of=bytes:keys=q4:values=q4",
                            "snapkv+pyramid+adaptive:ratio_of=bytes", "tova+bytes:keys=q5:values=q8"}) {
    OneSequence s = make();
    const ReadReport report = must(s.read(tokens(3000), make_press(press, 0.8)));
    const double share = static_cast<double>(report.kv_bytes) / static_cast<double>(report.kv_bytes_full);
    EXPECT_NEAR(share, 0.2, 0.01) << press;
  }
  PressRequest in_bytes;
  in_bytes.name = "recommended";
  in_bytes.budget_bytes = 300000;
  OneSequence s = make();
  must(s.read(tokens(3000), must(Press::make(in_bytes))));
  EXPECT_LE(s.kv_bytes(), 300000u);
  EXPECT_GE(s.kv_bytes(), 280000u);
  in_bytes.budget_bytes = 1000;
  s.clear();
  expect_error(s.read(tokens(3000), must(Press::make(in_bytes))), ErrorCode::bad_argument,
               "1000 bytes do not hold");
}

// What the heads of all layers keep under one budget is what they keep of their order when they are read with
// that order alone.
TEST(Packed, CutsAtTheTailOfThePressesOrder) {
  OneSequence shared = make();
  must(shared.read(tokens(800), make_press("tova+bytes:keys=q4:values=q4", 0.85)));
  const auto kept = shared.kept_tokens();
  bool uneven = false;
  for (size_t il = 0; il < kept.size(); ++il) {
    for (size_t h = 0; h < kept[il].size(); ++h) {
      PressRequest alone;
      alone.name = "tova+uniform";
      alone.budget = std::ssize(kept[il][h]);
      OneSequence s = make();
      must(s.read(tokens(800), must(Press::make(alone))));
      EXPECT_EQ(s.kept_tokens()[il][h], kept[il][h]) << il << " " << h;
      uneven = uneven || kept[il][h].size() != kept[0][0].size();
    }
  }
  EXPECT_TRUE(uneven);
}

// Heads that look things up get more rows, the others fewer: the bytes stay the same.
TEST(Packed, InductionShiftsRowsFromHeadToHead) {
  const auto read_with = [&](const char* settings) {
    OneSequence s = make();
    must(s.read(tokens(800), make_press(std::string("tova+bytes:keys=q4:values=q4") + settings, 0.85)));
    return std::pair{s.cache_lengths(), s.kv_bytes()};
  };
  const auto [with, bytes_with] = read_with("");
  const auto [without, bytes_without] = read_with(":induction=false");
  EXPECT_EQ(read_with(":induction=true").first, with);
  EXPECT_NE(with, without);
  EXPECT_NEAR(static_cast<double>(bytes_with), static_cast<double>(bytes_without),
              0.02 * static_cast<double>(bytes_without));
}

TEST(Packed, IsReadOnBehind) {
  OneSequence s = make(), plain = make();
  must(s.read(tokens(400), make_press("none:keys=q8:values=q8", 0)));
  must(plain.read(tokens(400), Press()));
  for (OneSequence* each : {&s, &plain}) {
    must(each->extend(tokens(11, 3)));
    must(each->read(tokens(300, 4), Press()));
  }
  EXPECT_EQ(s.cache_lengths(), plain.cache_lengths());
  OneSequence twice = make();
  must(twice.read(tokens(400), make_press("none:keys=q8:values=q8", 0)));
  must(twice.extend(tokens(11, 3)));
  must(twice.read(tokens(300, 4), make_press("none:keys=q8:values=q8", 0)));
  EXPECT_EQ(twice.cache_lengths(), plain.cache_lengths());
  const std::vector<float> exact = answer(plain);
  EXPECT_LT(distance(answer(s), exact), 1.5e-2);
  EXPECT_LT(distance(answer(twice), exact), 1.5e-2) << "two packed contexts, a tail between them";
}

TEST(Packed, SaysWhereItCannotBe) {
  ExecutorParams portable, q8_0;
  portable.portable_attention = true;
  OneSequence a = make(portable);
  expect_error(a.read(tokens(100), make_press("recommended", 0.5)), ErrorCode::bad_argument,
               "keep all layers there");
  q8_0.type_k = CacheType::f32;
  OneSequence b = make(q8_0);
  expect_error(b.read(tokens(100), make_press("mixkv:values=q4", 0.5)), ErrorCode::bad_argument,
               "must be f16");
}

}  // namespace
}  // namespace curdkv::testing
