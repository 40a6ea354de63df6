#include "curdkv/generate.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/guard.h"
#include "base/stopwatch.h"
#include "base/try.h"
#include "base/utf8.h"
#include "engine/prompt_lookup.h"

namespace curdkv {
namespace {

// One generation under way.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, Sampler sampler, const GenerateOptions& options)
      : tokenizer_(tokenizer), sampler_(std::move(sampler)), options_(options) {}

  // Takes the next token; nothing when the generation is over.
  std::optional<Token> next(std::span<const float> logits) {
    if (done()) return std::nullopt;
    const Token token = sampler_.sample(logits);
    g_.ended = tokenizer_.ends_generation(token);
    if (g_.ended) return std::nullopt;
    g_.tokens.push_back(token);
    emit(utf8_.push(tokenizer_.piece(token)));
    if (done()) return std::nullopt;
    return token;
  }
  void note_full() { g_.context_full = true; }
  void note_decoded(double ms, int64_t n = 1) {
    decode_ms_ += ms;
    n_decoded_ += n;
  }
  void note_drafted(size_t n_drafted, size_t n_accepted) {
    g_.n_drafted += static_cast<int64_t>(n_drafted);
    g_.n_accepted += static_cast<int64_t>(n_accepted);
  }

  Generation finish() {
    emit(utf8_.flush());
    if (n_decoded_ > 0) g_.decode_ms_per_token = decode_ms_ / static_cast<double>(n_decoded_);
    return std::move(g_);
  }

 private:
  bool done() const { return options_.n_predict >= 0 && std::ssize(g_.tokens) >= options_.n_predict; }
  void emit(const std::string& text) {
    g_.text += text;
    if (options_.on_text && !text.empty()) options_.on_text(text);
  }

  const Tokenizer& tokenizer_;
  Sampler sampler_;
  const GenerateOptions& options_;
  Generation g_;
  Utf8Stream utf8_;
  double decode_ms_ = 0;
  int64_t n_decoded_ = 0;
};

bool is_full(const Executor& executor, const Sequence& sequence) {
  return sequence.next_position() >= executor.n_ctx();
}

Error nothing_to_start_from() {
  return {ErrorCode::bad_argument, "there is nothing to generate from yet"};
}

// Decoding by drafts. Each step takes the token at hand and what may follow it; the writer chooses from the
// logits after each, as it would without drafts, until a choice is another than the draft's.
class Drafting {
 public:
  Drafting(Executor& executor, Sequence& sequence, Writer& writer, std::span<const Token> history)
      : executor_(executor), sequence_(sequence), writer_(writer), lookup_(history) {}

  // Appends `token`, and what was drafted and found right. The next token, or nothing when the generation is
  // over.
  Result<std::optional<Token>> advance(Token token) {
    lookup_.append(token);
    std::vector<Token> tokens = {token};
    const int64_t room = executor_.n_ctx() - sequence_.next_position() - 1;
    const auto most = static_cast<size_t>(std::clamp<int64_t>(room, 0, static_cast<int64_t>(pace_.length())));
    for (const Token t : lookup_.draft(most)) tokens.push_back(t);

    const Stopwatch watch;
    size_t n_right = 0;  // of `tokens`, the first included
    std::optional<Token> next;
    std::vector<float> after;  // logits after the last right one
    const LogitsSink sink = [&](int64_t, std::span<const float> logits) {
      if (n_right > 0 && next != tokens[n_right]) return;
      ++n_right;
      next = writer_.next(logits);
      const bool all = n_right == tokens.size();
      if (!all && next != tokens[n_right]) after.assign(logits.begin(), logits.end());
      if (!all && next == tokens[n_right]) lookup_.append(*next);
    };
    const Span span = {&sequence_, tokens, &sink, true};
    CURDKV_CHECK(executor_.step({&span, 1}));
    const size_t n_wrong = tokens.size() - n_right;
    if (n_wrong > 0) CURDKV_CHECK(sequence_.drop_last(static_cast<int64_t>(n_wrong), after));
    const double ms = watch.ms();
    writer_.note_decoded(ms, static_cast<int64_t>(n_right));
    if (tokens.size() == 1) {
      pace_.note_alone(ms);
    } else {
      pace_.note_drafted(tokens.size() - 1, n_right - 1, ms);
      writer_.note_drafted(tokens.size() - 1, n_right - 1);
    }
    return next;
  }

 private:
  Executor& executor_;
  Sequence& sequence_;
  Writer& writer_;
  PromptLookup lookup_;
  DraftPace pace_;
};

}  // namespace

Result<Generation> generate(Executor& executor, Sequence& sequence, const Tokenizer& tokenizer,
                            const GenerateOptions& options) {
  return guarded([&]() -> Result<Generation> {
    if (sequence.logits().empty()) return nothing_to_start_from();
    const DecodeBudget& bound = options.decode_budget;
    if (bound.budget < 0 || bound.interval < 1) {
      return Error{ErrorCode::bad_argument,
                   "a budget of tokens while generating cannot be negative, nor its interval less than 1"};
    }
    CURDKV_TRY(Sampler sampler, Sampler::create(options.sampling));
    Writer writer(tokenizer, std::move(sampler), options);
    std::optional<Drafting> drafting;
    if (options.draft == Draft::lookup && bound.budget == 0 && executor.decodes_drafts())
      drafting.emplace(executor, sequence, writer, options.history);
    std::optional<Token> token = writer.next(sequence.logits());
    while (token) {
      const Stopwatch watch;
      if (bound.budget > 0 && sequence.longest_head() - bound.budget >= bound.interval) {
        CURDKV_CHECK(executor.compress(sequence, bound.press, bound.budget));
      }
      if (is_full(executor, sequence)) {
        writer.note_full();
        break;
      }
      if (drafting) {
        CURDKV_TRY(token, drafting->advance(*token));
        continue;
      }
      CURDKV_CHECK(executor.extend(sequence, {&*token, 1}));
      writer.note_decoded(watch.ms());
      token = writer.next(sequence.logits());
    }
    return writer.finish();
  });
}

Result<std::vector<Generation>> generate_together(Executor& executor, std::span<Sequence* const> sequences,
                                                  const Tokenizer& tokenizer, int64_t n_predict,
                                                  const SamplingParams& sampling) {
  return guarded([&]() -> Result<std::vector<Generation>> {
    const GenerateOptions options = {.sampling = sampling, .n_predict = n_predict};
    std::vector<Writer> writers;
    for (const Sequence* sequence : sequences) {
      if (sequence->logits().empty()) return nothing_to_start_from();
      CURDKV_TRY(Sampler sampler, Sampler::create(sampling));
      writers.emplace_back(tokenizer, std::move(sampler), options);
    }
    std::vector<size_t> going(sequences.size());
    std::iota(going.begin(), going.end(), size_t{0});
    for (;;) {
      std::vector<size_t> still;
      std::vector<Token> tokens;
      for (const size_t i : going) {
        const auto token = writers[i].next(sequences[i]->logits());
        if (!token) continue;
        if (is_full(executor, *sequences[i])) {
          writers[i].note_full();
          continue;
        }
        still.push_back(i);
        tokens.push_back(*token);
      }
      going = std::move(still);
      if (going.empty()) break;
      const Stopwatch watch;
      std::vector<Span> step;
      for (size_t i = 0; i < going.size(); ++i) step.push_back({sequences[going[i]], {&tokens[i], 1}});
      CURDKV_CHECK(executor.step(step));
      for (const size_t i : going) writers[i].note_decoded(watch.ms() / static_cast<double>(going.size()));
    }
    std::vector<Generation> out;
    for (Writer& w : writers) out.push_back(w.finish());
    return out;
  });
}

}  // namespace curdkv
