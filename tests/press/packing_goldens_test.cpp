// Rows in few bits and the one budget of bytes on real layers, against an independent numpy program
// (tests/reference/packing.py, goldens/packing_layerXX.gguf).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include "engine/packed_reading.h"
#include "press/attention_worth.h"
#include "press/byte_budget.h"
#include "support/golden.h"
#include "support/score.h"

namespace curdkv::testing {
namespace {

constexpr int64_t kHeads = 3, kGroup = 3, kD = 64;
constexpr int64_t kReferences = 512;      // asked for
constexpr int64_t kTypeReferences = 384;  // for keys' types: each third is of the same head
const std::map<std::string, RowType> kTypes = {
    {"q3", RowType::q3}, {"q4", RowType::q4}, {"q5", RowType::q5}, {"q8", RowType::q8}};

int bits_of(RowType type) {
  const RowFormat& f = row_format(type);
  return f.bits + (f.extra ? 1 : 0);
}

// How many levels lie below that of a code.
int rank_of_level(RowType type, uint8_t code) {
  int below = 0;
  for (int other = 0; other < row_format(type).n_levels(); ++other)
    below += row_level(type, other) < row_level(type, code) ? 1 : 0;
  return below;
}

// A budget of bytes, by the names of the numpy program's results.
struct BudgetCase {
  int factor, floor, percent;  // queries' size, floor in percent of an even share, share of the F16 bytes
  std::string name() const {
    return "counts.x" + std::to_string(factor) + ".f" + std::to_string(floor) + ".s" +
           std::to_string(percent);
  }
};
std::vector<BudgetCase> budget_cases() {
  std::vector<BudgetCase> cases;
  for (const int factor : {1, 4}) {
    for (const int floor : {30, 80}) {
      for (const int percent : {50, 25, 15, 10, 5, 1}) cases.push_back({factor, floor, percent});
    }
  }
  return cases;
}

// What is no number is as bad as can be.
void note(double& worst, double error) {
  worst = std::max(worst, std::isnan(error) ? INFINITY : error);
}

// What the numpy program reckons with: mixkv's order.
constexpr const char* kPress = "mix+bytes:first.ridge=3:first.smooth=3:keys=auto:values=q3";

class PackingGoldens : public ::testing::TestWithParam<const char*> {
 protected:
  Golden inputs_{std::string("layer") + GetParam() + ".gguf"};
  Golden golden_{std::string("packing_layer") + GetParam() + ".gguf"};
  const int64_t n_tokens_ = inputs_.tensor("keys")->ne[1];
  TestLayer layer_{{n_tokens_,
                    kHeads,
                    kGroup,
                    kD,
                    GGML_TYPE_F32,
                    inputs_.data<float>("keys"),
                    inputs_.data<float>("values"),
                    inputs_.data<float>("queries"),
                    {.pairing = RopePairing::neox, .n_rot = kD, .freq_base = inputs_.number("rope_theta")}}};
  const CacheShape shape_ = {kHeads, kD, kD, GGML_TYPE_F32, GGML_TYPE_F32};
  const Press press_ = make_press(kPress, 0.5);
  std::unique_ptr<PrefilledLayer> view_ = layer_.view(press_);
  const ReferenceQueries references_ = *must(view_->reference_queries(kReferences));
  const ReferenceQueries type_references_ = *must(view_->reference_queries(kTypeReferences));

  const double f16_bytes_ = static_cast<double>(kHeads * n_tokens_) * 2.0 * (kD + kD);

  // Types and means by a press; of auto as if queries were so many times as large.
  std::vector<EncodedHead> heads_of(const Press& press, double factor = 1) {
    return must(choose_types(layer_.compute(), layer_.kv(), shape_, n_tokens_,
                             {press.rows_k(), press.rows_v(), press.key_error()}, type_references_,
                             static_cast<float>(factor) * view_->kq_scale));
  }

  // Every stride-th reference query.
  void expect_references(const ReferenceQueries& ours, int64_t stride, const std::string& name) const {
    const auto theirs = golden_.data<float>("references." + name);
    const int64_t n = golden_.tensor("references." + name)->ne[1];
    ASSERT_EQ(n, (ours.n + stride - 1) / stride) << name;
    double error = 0, square = 0;
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < n * kD; ++i) {
        const int64_t at = (h * ours.n + i / kD * stride) * kD + i % kD;
        const double expected = theirs[static_cast<size_t>(h * n * kD + i)];
        note(error, std::abs(ours.q[static_cast<size_t>(at)] - expected));
        square += expected * expected;
      }
    }
    const double size = std::sqrt(square / static_cast<double>(theirs.size()));
    std::printf("references, %s: worst error %.1e of their size\n", name.c_str(), error / size);
    EXPECT_LE(error, 3e-4 * size) << name;
  }

  void expect_rows(const std::string& name, RowType type, bool keys, const std::vector<EncodedHead>& heads);
  std::vector<RowsOfHead> rows_of_heads(LayerView& view, const std::vector<EncodedHead>& heads,
                                        const TokenOrder& order);
  double relative_error(const PackedHead& packed, std::span<const int32_t> tokens, int64_t head) const;
};

TEST_P(PackingGoldens, ReferenceQueries) {
  expect_references(references_, 5, "n512");
  expect_references(*must(view_->reference_queries(96)), 1, "n96");
}

TEST_P(PackingGoldens, Worth) {
  const auto expected = golden_.data<float>("worth");
  double of_heads = 0;
  const auto errors = [&](LayerView& view) {
    of_heads = 0;
    const ReferenceWorth worth = must(attention_worth(view, references_));
    EXPECT_EQ(worth.rows.data().size(), expected.size());
    double worst = 0, squares = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double error = static_cast<double>(worth.rows.data()[i]) / static_cast<double>(expected[i]) - 1;
      note(worst, std::abs(error));
      squares += error * error;
    }
    const auto induction = golden_.data<float>("induction");
    for (size_t h = 0; h < kHeads; ++h)
      note(of_heads, std::abs(static_cast<double>(worth.induction[h] / induction[h]) - 1));
    return std::pair(worst, std::sqrt(squares / static_cast<double>(expected.size())));
  };
  // The fused operation takes keys and queries in 8 bits, which changes a logit by 0.01 or so.
  const auto [worst, rms] = errors(*view_);
  std::printf("worth in 8 bits: worst relative error %.1e, root mean square %.1e\n", worst, rms);
  EXPECT_LE(worst, 0.08);
  EXPECT_LE(rms, 0.02);
  std::printf("induction in 8 bits: worst relative error %.1e\n", of_heads);
  EXPECT_LE(of_heads, 0.02);
  layer_.without_fused_ops();
  EXPECT_LE(errors(*layer_.view(press_)).first, 3e-4);
  EXPECT_LE(of_heads, 3e-4);
}

TEST_P(PackingGoldens, Means) {
  const std::vector<EncodedHead> heads = heads_of(press_);
  for (const bool keys : {true, false}) {
    const auto theirs = golden_.data<ggml_fp16_t>(keys ? "mean_k" : "mean_v");
    for (int64_t h = 0; h < kHeads; ++h) {
      const EncodedHead& head = heads[static_cast<size_t>(h)];
      const std::vector<ggml_fp16_t>& ours = keys ? head.mean_k : head.mean_v;
      ASSERT_EQ(std::ssize(ours), kD);
      for (int64_t i = 0; i < kD; ++i) {
        const float expected = ggml_fp16_to_fp32(theirs[static_cast<size_t>(h * kD + i)]);
        EXPECT_NEAR(ggml_fp16_to_fp32(ours[static_cast<size_t>(i)]), expected,
                    1e-3 * std::abs(expected) + 1e-6);
      }
    }
  }
}

// Levels, scales and errors of sampled rows.
void PackingGoldens::expect_rows(const std::string& name, RowType type, bool keys,
                                 const std::vector<EncodedHead>& heads) {
  const auto levels = golden_.data<int8_t>("levels_" + name);
  const auto scales = golden_.data<float>("scale_" + name), errors = golden_.data<float>("error_" + name);
  const int64_t n = golden_.tensor("levels_" + name)->ne[1];
  const auto rows = inputs_.data<float>(keys ? "keys" : "values");
  const float unit = row_format(type).unit;
  int64_t n_other = 0;
  double worst_scale = 0, worst_error = 0;
  for (int64_t h = 0; h < kHeads; ++h) {
    const EncodedHead& head = heads[static_cast<size_t>(h)];
    const std::vector<ggml_fp16_t>& mean = keys ? head.mean_k : head.mean_v;
    double error = 0;
    for (int64_t r = 0; r < n; ++r) {
      const char* row = head.rows.data() + r * head.row_bytes(shape_) + (keys ? 0 : head.key_bytes(shape_));
      uint8_t code[kD];
      RowCodes codes = {0, code};
      take_apart(type, row, kD, codes);
      const auto at = static_cast<size_t>(h * n + r);
      const double scale = static_cast<double>(ggml_fp16_to_fp32(codes.scale)) * unit;
      note(worst_scale, std::abs(scale / scales[at] - 1));
      for (int64_t i = 0; i < kD; ++i) {
        const int ours = rank_of_level(type, code[i]);
        const int theirs = levels[at * kD + static_cast<size_t>(i)] + (type == RowType::q8 ? 128 : 0);
        n_other += ours != theirs ? 1 : 0;
        ASSERT_LE(std::abs(ours - theirs), 1) << name << " head " << h << " row " << r << " element " << i;
      }
      float x[kD];
      decode_row(type, row, kD, x);
      for (int64_t i = 0; i < kD; ++i) x[i] += ggml_fp16_to_fp32(mean[static_cast<size_t>(i)]);
      turn_row(x, kD);
      const int64_t token = head.tokens[static_cast<size_t>(r)];
      for (int64_t i = 0; i < kD; ++i) {
        const double off = x[i] - rows[static_cast<size_t>((h * n_tokens_ + token) * kD + i)];
        error += off * off / static_cast<double>(n * kD);
      }
    }
    note(worst_error, std::abs(error / errors[static_cast<size_t>(h)] - 1));
  }
  std::printf("%s: %d of %zu levels differ, scales by %.1e, mean squared errors by %.1e\n", name.c_str(),
              static_cast<int>(n_other), levels.size(), worst_scale, worst_error);
  EXPECT_LE(static_cast<double>(n_other), 0.002 * static_cast<double>(levels.size())) << name;
  EXPECT_LE(worst_scale, 1e-3) << name;
  EXPECT_LE(worst_error, 1e-4) << name;
}

TEST_P(PackingGoldens, Rows) {
  for (const auto& [name, type] : kTypes) {
    std::vector<EncodedHead> heads = heads_of(make_press("none:keys=" + name + ":values=" + name, 0));
    const int64_t n = golden_.tensor("levels_k." + name)->ne[1];
    for (EncodedHead& head : heads) {
      ASSERT_EQ(head.type_k, type);
      ASSERT_EQ(head.type_v, type);
      for (int64_t i = 0; i < n; ++i) head.tokens.push_back(static_cast<int32_t>(i * n_tokens_ / n));
    }
    must(encode_rows(layer_.compute(), layer_.kv(), shape_, heads));
    expect_rows("k." + name, type, true, heads);
    expect_rows("v." + name, type, false, heads);
  }
}

TEST_P(PackingGoldens, KeyTypes) {
  for (const int factor : {1, 4}) {
    const auto expected = golden_.data<int32_t>("key_type.x" + std::to_string(factor));
    const std::vector<EncodedHead> heads = heads_of(press_, factor);
    for (size_t h = 0; h < kHeads; ++h) {
      EXPECT_EQ(bits_of(heads[h].type_k), expected[h]) << "head " << h << " at " << factor;
      EXPECT_EQ(heads[h].type_v, RowType::q3);
    }
  }
}

// Where queries are just as large that a type's error comes close to the most that is allowed, from either
// side.
TEST_P(PackingGoldens, ErrorsOfLogits) {
  for (const auto& [name, type] : kTypes) {
    const auto errors = golden_.data<float>("logit_error." + name);
    for (size_t h = 0; h < kHeads; ++h) {
      EXPECT_EQ(heads_of(press_, 0.5 / errors[h] * 0.998)[h].type_k, type) << "head " << h;
      EXPECT_GT(bits_of(heads_of(press_, 0.5 / errors[h] * 1.002)[h].type_k), bits_of(type)) << "head " << h;
    }
  }
}

std::vector<RowsOfHead> PackingGoldens::rows_of_heads(LayerView& view, const std::vector<EncodedHead>& heads,
                                                      const TokenOrder& order) {
  const ReferenceWorth worth = must(attention_worth(view, references_));
  std::vector<RowsOfHead> rows;
  for (size_t h = 0; h < heads.size(); ++h) {
    rows.push_back({n_tokens_, heads[h].row_bytes(shape_), order.n_fixed,
                    worth_of_head(worth, static_cast<int64_t>(h), *press_.share_of_bytes())});
  }
  return rows;
}

// Of a head's rows, which are those of `tokens`: squares of what was lost, over squares of all.
double PackingGoldens::relative_error(const PackedHead& packed, std::span<const int32_t> tokens,
                                      int64_t head) const {
  const auto keys = inputs_.data<float>("keys"), values = inputs_.data<float>("values");
  double error = 0, square = 0;
  for (int64_t r = 0; r < std::ssize(tokens); ++r) {
    float k[kD], v[kD];
    unpack_key(packed.k, r, k);
    unpack_value(packed.v, r, v);
    const int64_t at = (head * n_tokens_ + tokens[static_cast<size_t>(r)]) * kD;
    for (int64_t i = 0; i < kD; ++i) {
      const double key = keys[static_cast<size_t>(at + i)], value = values[static_cast<size_t>(at + i)];
      error += (k[i] - key) * (k[i] - key) + (v[i] - value) * (v[i] - value);
      square += key * key + value * value;
    }
  }
  return error / square;
}

// Of worth in F32: in 8 bits counts are off by a row or two (see AReadingKeepsThem).
TEST_P(PackingGoldens, CountsAndTokensOfOneBudget) {
  layer_.without_fused_ops();
  const std::unique_ptr<PrefilledLayer> view = layer_.view(press_);
  const auto order_of_all = golden_.data<int32_t>("order");
  int64_t n_kept = 0, n_other = 0, worst = 0;
  for (const BudgetCase& c : budget_cases()) {
    SCOPED_TRACE(c.name());
    LayerScores scores(*view);
    const TokenOrder order =
        must(order_tokens(scores, press_, 0, c.percent / 100.0 * static_cast<double>(n_tokens_)));
    EXPECT_EQ(order.n_fixed, 5);
    ByteBudget budget(c.percent / 100.0 * f16_bytes_, c.floor / 100.0, kHeads, 256, 52 * n_tokens_);
    for (RowsOfHead& rows : rows_of_heads(*view, heads_of(press_, c.factor), order))
      budget.add(std::move(rows));
    const std::vector<int64_t> counts = budget.counts();
    const auto expected = golden_.data<int32_t>(c.name());
    for (size_t h = 0; h < kHeads; ++h) {
      worst = std::max(worst, std::abs(counts[h] - expected[h]));
      const std::vector<int32_t>& tokens = order.tokens[h];
      ASSERT_EQ(std::ssize(tokens), n_tokens_);
      EXPECT_EQ(std::set<int32_t>(tokens.begin(), tokens.begin() + 4), (std::set<int32_t>{0, 1, 2, 3}));
      const auto first = order_of_all.begin() + static_cast<std::ptrdiff_t>(h) * n_tokens_;
      const std::set<int32_t> theirs(first, first + expected[h]);
      n_kept += expected[h];
      for (int64_t r = 0; r < expected[h]; ++r)
        n_other += theirs.contains(tokens[static_cast<size_t>(r)]) ? 0 : 1;
    }
  }
  std::printf("counts differ by at most %d, %d of %d kept tokens\n", static_cast<int>(worst),
              static_cast<int>(n_other), static_cast<int>(n_kept));
  EXPECT_LE(worst, 1);
  EXPECT_LE(static_cast<double>(n_other), 0.005 * static_cast<double>(n_kept));
}

// The same in one go. What a layer takes beside its rows, were each head to hold one, the budget has on top.
TEST_P(PackingGoldens, AReadingKeepsThem) {
  const std::vector<KvLayer::PackedLength> one(kHeads, {RowType::q3, RowType::q3, 1});
  const auto beside = static_cast<double>(must(KvLayer::allocate_packed(shape_, 0, one)).n_bytes()) -
                      static_cast<double>(52 * kHeads);
  const auto order = golden_.data<int32_t>("order");
  for (const BudgetCase& c : budget_cases()) {
    if (c.factor != 1) continue;
    SCOPED_TRACE(c.name());
    PressRequest request;
    request.name = std::string(kPress) + ":floor=0." + std::to_string(c.floor);
    request.budget_bytes = static_cast<int64_t>(c.percent / 100.0 * f16_bytes_ + beside);
    const Press press = must(Press::make(request));
    PackedReading reading(press, std::span(&shape_, 1), n_tokens_, 0, 0);
    LayerScores scores(*view_);
    KvBlock block;
    must(reading.add(layer_.compute(), layer_.kv(), scores, block));
    must(reading.finish(layer_.compute(), block));
    ASSERT_EQ(block.layers.size(), 1u);
    const KvLayer& layer = block.layers[0];
    const auto expected = golden_.data<int32_t>(c.name());
    for (size_t h = 0; h < kHeads; ++h) {
      const auto first = order.begin() + static_cast<std::ptrdiff_t>(h) * n_tokens_;
      const std::set<int32_t> theirs(first, first + expected[h]);
      const auto n = layer.length[h];
      EXPECT_LE(std::abs(n - expected[h]), 2) << "head " << h;
      const std::vector<int32_t> tokens = layer.positions[h].unpacked();
      ASSERT_EQ(std::ssize(tokens), n);
      const auto n_other =
          std::count_if(tokens.begin(), tokens.end(), [&](int32_t t) { return !theirs.contains(t); });
      EXPECT_LE(n_other, std::max<int64_t>(0, n - expected[h]) + n / 200) << "head " << h;
      EXPECT_LE(relative_error(layer.packed[h], tokens, static_cast<int64_t>(h)), 0.04)
          << "rows are not those of their tokens";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, PackingGoldens, ::testing::Values("00", "14"));

}  // namespace
}  // namespace curdkv::testing
