// Generation: sample, extend by the token, until the model ends its turn.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "curdkv/executor.h"
#include "curdkv/text.h"

namespace curdkv {

// Keeps every KV head's cache within bounds while tokens are generated: when one would hold more than
// budget + interval rows, all are brought down to their `budget` best by the press's scorer
// (Executor::compress).
struct DecodeBudget {
  Press press;
  int64_t budget = 0;  // tokens per KV head; 0: unbounded
  int64_t interval = 128;
};

// Whether tokens that may come next are drafted, and checked several at a time. The text is the same: greedy
// answers keep their bits, sampled ones their random numbers. lookup: what followed earlier where the text
// went alike (prompt lookup), as long as that pays. Nothing is drafted where Executor::decodes_drafts() is
// false or the cache is bounded.
enum class Draft { none, lookup };

struct GenerateOptions {
  SamplingParams sampling = {};
  int64_t n_predict = 256;  // most tokens; -1: until the model ends its turn or the context is full
  DecodeBudget decode_budget = {};
  Draft draft = Draft::none;
  // What drafts are looked up in, beside the answer: document and question. It must outlive the call.
  std::span<const Token> history = {};
  // Called with whole UTF-8 sequences as they become complete; malformed bytes arrive as U+FFFD.
  std::function<void(const std::string& text)> on_text = nullptr;
};

struct Generation {
  std::string text;
  std::vector<Token> tokens;  // without the one that ended the turn
  bool ended = false;         // the model ended its turn
  bool context_full = false;  // it had not, but the context is full
  // Of tokens after the first; 0 if there was but one. In a batch: a token's share.
  double decode_ms_per_token = 0;
  int64_t n_drafted = 0, n_accepted = 0;  // tokens: drafted, and of these found right
};

// Starts from sequence.logits(), with random numbers of its own. Where the context ends, so does the
// generation, without an error. Errors: as of Sampler::create, Executor::extend and Executor::compress; what
// was generated before stays in the sequence.
Result<Generation> generate(Executor& executor, Sequence& sequence, const Tokenizer& tokenizer,
                            const GenerateOptions& options = {});

// Generates from several sequences in step, each until its model ends its turn or it has n_predict tokens.
// Errors: as of Sampler::create and Executor::step.
Result<std::vector<Generation>> generate_together(Executor& executor, std::span<Sequence* const> sequences,
                                                  const Tokenizer& tokenizer, int64_t n_predict,
                                                  const SamplingParams& sampling = {});

}  // namespace curdkv
