// Checks of exactness that hold for any model; run on tiny ones (fast) and on the default one (model).
#pragma once

#include <gtest/gtest.h>

#include "curdkv/generate.h"
#include "support/one_sequence.h"

namespace curdkv::testing {

struct Outcome {
  std::vector<std::vector<std::vector<int32_t>>> kept;
  std::vector<float> prefill_logits, question_logits;
  std::vector<Token> answer;
  bool operator==(const Outcome&) const = default;
};

inline Token argmax(std::span<const float> logits) {
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

inline std::vector<Token> greedy(OneSequence& session, int64_t n) {
  std::vector<Token> out;
  for (int64_t i = 0; i < n; ++i) {
    out.push_back(argmax(session.logits()));
    must(session.extend({&out.back(), 1}));
  }
  return out;
}

inline Outcome answer(OneSequence& session, std::span<const Token> context, std::span<const Token> question,
                      const Press& press, const ReadOptions& options = {}) {
  session.clear();
  Outcome o;
  must(session.read(context, press, options));
  o.kept = session.kept_tokens();
  o.prefill_logits.assign(session.logits().begin(), session.logits().end());
  must(session.extend(question));
  o.question_logits.assign(session.logits().begin(), session.logits().end());
  o.answer = greedy(session, 16);
  return o;
}

// Same bits for any number of threads and any chunk size.
inline void expect_same_for_threads_and_chunks(
    const Model& model, std::span<const Token> context, std::span<const Token> question, const Press& press,
    std::initializer_list<std::pair<int, int64_t>> threads_and_chunks) {
  std::optional<Outcome> first;
  for (const auto& [n_threads, n_batch] : threads_and_chunks) {
    ExecutorParams params;
    params.n_threads = n_threads;
    params.n_batch = n_batch;
    OneSequence session = must(OneSequence::create(model, params));
    const Outcome o = answer(session, context, question, press);
    if (!first) first = o;
    SCOPED_TRACE(::testing::Message() << n_threads << " threads, chunks of " << n_batch);
    EXPECT_EQ(o.kept, first->kept);
    EXPECT_EQ(largest_difference(o.prefill_logits, first->prefill_logits), 0);
    EXPECT_EQ(largest_difference(o.question_logits, first->question_logits), 0);
    EXPECT_EQ(o.answer, first->answer);
  }
}

// Compressing layer by layer is compressing after a full prefill.
inline void expect_layerwise_is_exact(const Model& model, std::span<const Token> context,
                                      std::span<const Token> question, const Press& press) {
  ExecutorParams params;
  params.n_threads = 2;
  OneSequence session = must(OneSequence::create(model, params));
  ReadOptions late;
  late.compress_at_end = true;
  EXPECT_EQ(answer(session, context, question, press), answer(session, context, question, press, late));
}

// After rewind(), a question is answered as if no other had come before.
inline void expect_rewind_forgets(const Model& model, std::span<const Token> context,
                                  std::span<const Token> question, const Press& press) {
  ExecutorParams params;
  params.n_threads = 2;
  OneSequence session = must(OneSequence::create(model, params));
  const Outcome alone = answer(session, context, question, press);
  session.clear();
  must(session.read(context, press));
  const Sequence::Mark mark = session.mark();
  const std::vector<Token> other =
      random_tokens(300, model.info().n_vocab, 99);  // long: the cache has to grow
  must(session.extend(other));
  greedy(session, 20);
  must(session.rewind(mark));
  EXPECT_EQ(largest_difference(session.logits(), alone.prefill_logits), 0);
  must(session.extend(question));
  EXPECT_EQ(largest_difference(session.logits(), alone.question_logits), 0);
  EXPECT_EQ(greedy(session, 16), alone.answer);
}

}  // namespace curdkv::testing
