// A model whose numbers went bad says nothing: wherever logits are read, the error comes before them.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "curdkv/generate.h"
#include "engine/logits.h"
#include "support/one_sequence.h"
#include "support/score.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

Model spoiled_model(ggml_type type, const std::string& tensor, float with) {
  TinyModel shape;
  shape.d_head = 32;
  shape.n_embd = shape.n_ff = 128;
  shape.tied = false;
  shape.type = type;
  shape.spoiled = tensor;
  shape.spoiled_with = with;
  return must(Model::load(write_tiny_model(shape, temp_path("spoiled.gguf"))));
}

template <typename R>
void expect_no_numbers(const R& result) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::corrupt);
  EXPECT_NE(result.error().message.find("not numbers"), std::string::npos) << result.error().message;
}

const std::vector<std::string> kTensors = {
    "output.weight",         "output_norm.weight",  "blk.0.attn_norm.weight",   "blk.1.attn_q.weight",
    "blk.0.attn_k.weight",   "blk.1.attn_v.weight", "blk.0.attn_output.weight", "blk.1.ffn_norm.weight",
    "blk.0.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"};

TEST(Logits, DamageInAnyTensorIsAnErrorOfThePrefill) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q8_0, GGML_TYPE_Q4_1}) {
    for (const std::string& tensor : kTensors) {
      for (const float with : {kNan, kInf}) {
        const Model model = spoiled_model(type, tensor, with);
        for (const int64_t n : {3, 300}) {
          SCOPED_TRACE(::testing::Message()
                       << ggml_type_name(type) << " " << tensor << " " << with << ", " << n);
          OneSequence session = must(OneSequence::create(model, {}));
          expect_no_numbers(session.read(random_tokens(n, 100, 1), make_press("mixkv", 0.5)));
          EXPECT_TRUE(session.logits().empty());
          EXPECT_EQ(session.n_tokens(), 0);
        }
      }
    }
  }
}

// Token 0 alone is bad, so that contexts are read and what comes behind them is not.
TEST(Logits, ABadTokenIsAnErrorOfWhatItIsIn) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q8_0}) {
    const Model model = spoiled_model(type, "token_embd.weight", kNan);
    OneSequence session = must(OneSequence::create(model, {})), other = must(OneSequence::create(model, {}));
    // A whole tile, as it is token 0 that pads.
    const std::vector<Token> context(kTileTokens, 5);
    must(session.read(context, Press()));
    must(other.read(context, Press()));
    const Sequence::Mark mark = session.mark();
    const std::vector<float> before(session.logits().begin(), session.logits().end());
    for (const std::vector<Token>& bad : {std::vector<Token>{0}, {1, 2, 0}}) {
      expect_no_numbers(session.extend(bad));
      EXPECT_EQ(session.n_tokens(), kTileTokens);
      EXPECT_EQ(largest_difference(session.logits(), before), 0);
      must(session.rewind(mark));
      expect_no_numbers(session.extend(bad, [](int64_t, std::span<const float> logits) {
        for (const float x : logits) ASSERT_TRUE(std::isfinite(x));
      }));
      must(session.rewind(mark));
    }
    Sequence* both[] = {&other.sequence, &session.sequence};
    expect_no_numbers(decode_together(other.executor, both, std::vector<Token>{4, 0}));
    EXPECT_EQ(session.n_tokens(), kTileTokens);
    EXPECT_EQ(other.n_tokens(), kTileTokens) << "nothing is appended to any";
  }
}

}  // namespace
}  // namespace curdkv::testing
