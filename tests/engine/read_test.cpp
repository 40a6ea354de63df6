// Reading behind what a sequence holds, reading bit by bit, and being stopped on the way.
#include <gtest/gtest.h>

#include "support/tiny_sequences.h"

namespace curdkv::testing {
namespace {

// With nothing evicted, a context read in parts is the context read at once, to the last bit, wherever it is
// cut and whatever computes it.
TEST(Read, InPartsIsReadingAtOnce) {
  ExecutorParams ours, by_ggml, portable, small_chunks;
  by_ggml.prefill_kernel = PrefillKernel::ggml;
  portable.portable_attention = true;
  small_chunks.n_batch = 64;
  const std::vector<Token> all = tokens(900);
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q8_0}) {
    for (ExecutorParams params : {ours, by_ggml, portable, small_chunks}) {
      for (const CacheType cache : {CacheType::f16, CacheType::f32}) {
        params.type_k = params.type_v = cache;
        OneSequence at_once = make(tiny(type), params), in_parts = make(tiny(type), params);
        must(at_once.read(all, Press()));
        const std::span<const Token> text(all);
        for (const auto& [first, n] : {std::pair{0, 300}, {300, 149}, {449, 451}}) {
          const auto part = text.subspan(static_cast<size_t>(first), static_cast<size_t>(n));
          must(in_parts.read(part, make_press("adacurdkv", 0)));
        }
        EXPECT_EQ(in_parts.n_tokens(), 900);
        EXPECT_EQ(in_parts.kept_tokens(), at_once.kept_tokens());
        EXPECT_EQ(logits_of(in_parts), logits_of(at_once));
        must(at_once.extend(tokens(70, 2)));
        must(in_parts.extend(tokens(70, 2)));
        EXPECT_EQ(logits_of(in_parts), logits_of(at_once));
      }
    }
  }
}

// Read behind a ragged cache with a tail, tokens come to what they come to when they are asked as a question.
TEST(Read, BehindACompressedContextIsAppendingToIt) {
  for (const bool portable : {false, true}) {
    std::vector<float> in_f32;
    for (const CacheType cache : {CacheType::f32, CacheType::f16, CacheType::q8_0}) {
      ExecutorParams params;
      params.portable_attention = portable;
      params.type_k = params.type_v = cache;
      OneSequence read = make(tiny(), params), asked = make(tiny(), params);
      for (OneSequence* s : {&read, &asked}) {
        must(s->read(tokens(500), make_press("adacurdkv", 0.7)));
        must(s->extend(tokens(21, 2)));
      }
      must(read.read(tokens(200, 3), Press()));
      must(asked.extend(tokens(200, 3)));
      EXPECT_EQ(read.cache_lengths(), asked.cache_lengths());
      EXPECT_EQ(read.next_position(), 721);
      must(read.extend(tokens(30, 4)));
      must(asked.extend(tokens(30, 4)));
      if (cache == CacheType::f32) {
        in_f32 = logits_of(asked);
        EXPECT_LE(largest_difference(read.logits(), in_f32), 5e-3);
      } else {  // no further from what F32 makes of it
        EXPECT_LE(largest_difference(read.logits(), in_f32),
                  1.5 * largest_difference(asked.logits(), in_f32));
      }
    }
  }
}

// A later turn is compressed as it is read, and what was there before stays as it was.
TEST(Read, ALaterTurnIsCompressedByItself) {
  for (const char* name : {"adacurdkv", "mixkv", "snapkv", "expectedattention", "streamingllm", "h2o"}) {
    OneSequence session = make(tiny());
    must(session.read(tokens(400), make_press("curdkv", 0.5)));
    const auto before = session.kept_tokens();
    OneSequence late = make(tiny());
    must(late.read(tokens(400), make_press("curdkv", 0.5)));
    ReadOptions at_end;
    at_end.compress_at_end = true;
    must(session.read(tokens(300, 2), make_press(name, 0.6)));
    must(late.read(tokens(300, 2), make_press(name, 0.6), at_end));
    EXPECT_EQ(session.kept_tokens(), late.kept_tokens()) << name;
    EXPECT_EQ(logits_of(session), logits_of(late)) << name;
    const auto after = session.kept_tokens();
    for (size_t il = 0; il < after.size(); ++il) {
      size_t n_new = 0;
      for (size_t h = 0; h < after[il].size(); ++h) {
        const std::vector<int32_t>& all = after[il][h];
        const size_t n = before[il][h].size();
        EXPECT_EQ(std::vector<int32_t>(all.begin(), all.begin() + static_cast<int64_t>(n)), before[il][h]);
        EXPECT_TRUE(all.size() == n || all[n] >= 400) << name;
        n_new += all.size() - n;
      }
      EXPECT_EQ(n_new, 3u * 120) << name;
    }
  }
  // Positions tell sinks: of a later turn nothing is one.
  OneSequence session = make(tiny());
  must(session.read(tokens(100), Press()));
  must(session.read(tokens(300, 2), budget_press("streamingllm", 50)));
  const std::vector<int32_t> kept = session.kept_tokens()[1][1];
  EXPECT_EQ(kept.size(), 150u);
  EXPECT_EQ(kept[100], 350) << "the latest 50 and no others";
}

// Steps for others go on between the pieces of a reading, and neither notices.
TEST(Job, OthersDecodeInBetween) {
  Executor executor = must(Executor::create(tiny(GGML_TYPE_Q8_0), {.n_threads = 2, .n_batch = 128}));
  const Press press = make_press("adacurdkv", 0.6);
  Sequence alone = executor.sequence(), other_alone = executor.sequence();
  must(executor.read(alone, tokens(600), press));
  must(executor.read(other_alone, tokens(100, 5), Press()));
  std::vector<Token> said = tokens(200, 6);
  Sequence read = executor.sequence(), other = executor.sequence();
  must(executor.read(other, tokens(100, 5), Press()));
  const ReadTarget target = {&read, press};
  Job job = must(executor.begin_read({&target, 1}, tokens(600), {}));
  size_t n_pieces = 0;
  while (!must(job.advance())) {
    EXPECT_EQ(read.n_tokens(), 0) << "it changes when all is done";
    must(executor.extend(other, {&said[n_pieces], 1}));
    must(executor.extend(other_alone, {&said[n_pieces++], 1}));
  }
  EXPECT_GE(n_pieces, 3u * 5);
  EXPECT_TRUE(must(job.advance())) << "and ever after";
  EXPECT_EQ(job.reports()[0].n_tokens, 600);
  const auto same = [](const Sequence& a, const Sequence& b) {
    return a.n_tokens() == b.n_tokens() && largest_difference(a.logits(), b.logits()) == 0;
  };
  EXPECT_TRUE(same(read, alone));
  EXPECT_EQ(read.kept_tokens(), alone.kept_tokens());
  EXPECT_TRUE(same(other, other_alone));

  // Dropped on the way, it leaves the sequence as it was; so does one that evicts.
  for (const bool evicts : {false, true}) {
    Sequence copy = alone.fork();
    const ReadTarget again = {&copy, press};
    Job dropped = evicts ? must(executor.begin_compress(copy, press, 50))
                         : must(executor.begin_read({&again, 1}, tokens(200), {}));
    must(dropped.advance());
    must(dropped.advance());
    EXPECT_TRUE(same(copy, alone));
    EXPECT_EQ(copy.cache_lengths(), alone.cache_lengths());
  }
}

TEST(Stop, EndsOneReadingAndOneSpan) {
  Executor executor = must(Executor::create(tiny(), {.n_threads = 2}));
  std::atomic<bool> stop{false};
  Sequence sequence = executor.sequence();
  must(executor.read(sequence, tokens(100), Press()));
  ReadOptions options;
  options.stop = &stop;
  options.progress = [&](int64_t done, int64_t total) { stop = 2 * done > total; };
  const auto r = executor.read(sequence, tokens(700, 2), Press(), options);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, ErrorCode::cancelled);
  EXPECT_EQ(sequence.n_tokens(), 100);
  EXPECT_EQ(sequence.longest_head(), 100);

  // The flag is up: this span stays as it is, the others go on as if it were not there.
  Sequence asked = sequence.fork(), decoded = sequence.fork(), alone = sequence.fork(), off = sequence.fork();
  const std::vector<Token> question = tokens(30, 3), token = {7};
  const std::vector<Span> spans = {{&asked, question},
                                   {.sequence = &sequence, .tokens = question, .stop = &stop},
                                   {&decoded, token},
                                   {.sequence = &off, .tokens = token, .stop = &stop}};
  must(executor.step(spans));
  EXPECT_EQ(sequence.n_tokens(), 100);
  EXPECT_EQ(off.n_tokens(), 100);
  EXPECT_EQ(asked.n_tokens(), 130);
  must(executor.extend(alone, token));
  EXPECT_EQ(largest_difference(decoded.logits(), alone.logits()), 0);
  const auto all = executor.step({&spans[1], 1});
  ASSERT_FALSE(all);
  EXPECT_EQ(all.error().code, ErrorCode::cancelled);

  // Raised while the question is computed, it undoes the chunks before.
  stop = false;
  Sequence long_question = sequence.fork();
  const std::vector<Token> many = tokens(1200, 4);
  const LogitsSink raise = [&](int64_t position, std::span<const float>) { stop = position > 700; };
  must(executor.step(std::vector<Span>{
      {.sequence = &long_question, .tokens = many, .sink = &raise, .stop = &stop}, {&alone, token}}));
  EXPECT_EQ(long_question.n_tokens(), 100);
  EXPECT_EQ(long_question.longest_head(), 100);
  EXPECT_EQ(alone.n_tokens(), 102);
}

TEST(RecentQueries, BoundTheCacheAsTheyCompressAContext) {
  for (const char* name :
       {"snapkv", "snapkv:window=16", "tova", "h2o:mean=false", "scissorshands:history=100"}) {
    const Press press = budget_press(name, 150);
    ReadOptions options;
    options.n_recent_queries = press.n_recent_queries();
    ASSERT_GT(options.n_recent_queries, 0);
    OneSequence before = make(tiny()), after = make(tiny()), grown = make(tiny());
    must(before.read(tokens(500), press));
    must(after.read(tokens(500), Press(), options));
    must(after.compress(press, 150));
    EXPECT_EQ(after.longest_head(), 150) << name;
    // The same window of the same queries; TOVA looks at each head by itself here, H2O at fewer queries.
    const std::string scorer = name;
    if (scorer.starts_with("snapkv") || scorer.starts_with("scissorshands")) {
      EXPECT_EQ(after.kept_tokens(), before.kept_tokens()) << name;
    }

    // Queries of tokens that were asked and decoded count as those that were read.
    const std::vector<Token> all = tokens(500);
    const std::span<const Token> text(all);
    must(grown.read(text.first(380), Press(), options));
    must(grown.extend(text.subspan(380, 100)));
    for (size_t i = 480; i < 500; ++i) must(grown.extend(text.subspan(i, 1)));
    must(grown.compress(press, 150));
    const auto a = grown.kept_tokens(), b = after.kept_tokens();
    for (size_t il = 0; il < a.size(); ++il) {
      for (size_t h = 0; h < a[il].size(); ++h) {
        std::vector<int32_t> common;
        std::set_intersection(a[il][h].begin(), a[il][h].end(), b[il][h].begin(), b[il][h].end(),
                              std::back_inserter(common));
        EXPECT_GE(common.size(), 145u) << name << ", layer " << il << ", head " << h;
      }
    }
    // And again, when rows between are gone.
    must(grown.extend(tokens(40, 2)));
    must(grown.compress(press, 100));
    EXPECT_EQ(grown.longest_head(), 100) << name;
    if (!scorer.starts_with("h2o")) {
      EXPECT_EQ(grown.kept_tokens()[0][0].back(), 539) << name << " keeps the latest";
    }
  }
}

TEST(RecentQueries, FollowRewindsAndForks) {
  const Press press = budget_press("snapkv:window=32", 100);
  ReadOptions options;
  options.n_recent_queries = 32;
  OneSequence session = make(tiny());
  must(session.read(tokens(300), Press(), options));
  Sequence fork = session.sequence.fork();
  const Sequence::Mark mark = session.mark();
  for (const Token t : tokens(20, 2)) must(session.extend({&t, 1}));
  must(session.rewind(mark));
  must(session.compress(press, 100));
  must(session.executor.compress(fork, press, 100));
  EXPECT_EQ(session.kept_tokens(), fork.kept_tokens());
}

}  // namespace
}  // namespace curdkv::testing
