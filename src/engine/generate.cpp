#include "curdkv/generate.h"

#include "base/stopwatch.h"
#include "base/try.h"
#include "base/utf8.h"

namespace curdkv {

Result<Generation> generate(Session& session, const Tokenizer& tokenizer, Sampler& sampler,
                            const GenerateOptions& options) {
  if (session.logits().empty())
    return Error{ErrorCode::bad_argument, "there is nothing to generate from yet"};
  Generation g;
  Utf8Stream utf8;
  const auto emit = [&](const std::string& text) {
    g.text += text;
    if (options.on_text && !text.empty()) options.on_text(text);
  };
  double decode_ms = 0;
  int64_t n_decoded = 0;
  while (static_cast<int64_t>(g.tokens.size()) < options.n_predict) {
    const Token token = sampler.sample(session.logits());
    if (tokenizer.ends_generation(token)) {
      g.ended = true;
      break;
    }
    g.tokens.push_back(token);
    emit(utf8.push(tokenizer.piece(token)));
    if (static_cast<int64_t>(g.tokens.size()) == options.n_predict) break;
    const Stopwatch watch;
    const DecodeBudget& bound = options.decode_budget;
    if (bound.budget > 0 && session.longest_head() >= bound.budget + bound.interval) {
      CURDKV_CHECK(session.compress(bound.press, bound.budget, bound.interval));
    }
    CURDKV_CHECK(session.extend({&token, 1}));
    decode_ms += watch.ms();
    ++n_decoded;
  }
  emit(utf8.flush());
  if (n_decoded > 0) g.decode_ms_per_token = decode_ms / static_cast<double>(n_decoded);
  return g;
}

}  // namespace curdkv
