// curdkv perplexity: what compressing a context costs the text that follows it. The first part of a document
// is the context; the rest is predicted from the compressed cache and from the full one, position by
// position.
#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "curdkv/engine.h"
#include "document.h"
#include "eval/divergence.h"
#include "numbers.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct PerplexityOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  DocumentOptions document;
  int64_t n_context = 0;  // 0: half of the document
  int64_t n_continuation = 512;
  bool json = false;
};

struct Totals {
  int64_t n = 0;
  double nll = 0, nll_full = 0, kl = 0;  // sums, nats
  int64_t agree = 0;
};

// Adds one position: what both predict, and the token that came.
void add(Totals& t, std::span<const float> full, std::span<const float> compressed, Token next) {
  const std::vector<double> p = eval::log_softmax(full), q = eval::log_softmax(compressed);
  t.nll_full -= p[static_cast<size_t>(next)];
  t.nll -= q[static_cast<size_t>(next)];
  t.kl += eval::divergence(p, q);
  t.agree +=
      std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
  ++t.n;
}

// One press at one ratio.
struct Side {
  Press press;
  Sequence sequence;
  size_t kv_bytes = 0;  // of the compressed context
  Totals totals = {};
};

class Perplexity {
 public:
  explicit Perplexity(const PerplexityOptions& options) : o_(options) {}

  Result<void> run() {
    CURDKV_TRY(const std::vector<Press> presses, o_.press.resolve_all(o_.executor));
    CURDKV_TRY(const std::string document, o_.document.read());
    CURDKV_TRY(const std::string path, o_.model.resolve());
    CURDKV_TRY(const Engine engine, Engine::open(path, {o_.model.params, {.chat = false}}));
    CURDKV_TRY(const std::vector<Token> tokens, engine.prompt().context(document));
    CURDKV_CHECK(split(tokens, engine.info()));

    const InterruptScope scope;
    CURDKV_TRY(Executor executor, engine.executor(o_.executor.resolve()));
    Sequence full = executor.sequence();
    std::vector<Side> sides;
    for (const Press& press : presses) sides.push_back({press, executor.sequence()});
    CURDKV_CHECK(read(executor, full, sides));
    CURDKV_CHECK(compare(executor, full, sides));
    return print(engine.info(), sides, executor.kv_bytes_full(n_context()));
  }

 private:
  int64_t n_context() const { return static_cast<int64_t>(context_.size()); }

  Result<void> split(const std::vector<Token>& tokens, const ModelInfo& model) {
    const auto n = static_cast<int64_t>(tokens.size());
    const int64_t n_context = o_.n_context > 0 ? o_.n_context : n / 2;
    if (n_context < 1 || n_context >= n) {
      return Error{ErrorCode::bad_input,
                   "the document has " + std::to_string(n) + " tokens: too few for a context of " +
                       std::to_string(std::max<int64_t>(n_context, 1)) + " and a continuation"};
    }
    const int64_t asked = o_.n_continuation < 0 ? n : std::max<int64_t>(o_.n_continuation, 1);
    const int64_t n_rest = std::min(n - n_context, asked);
    const int64_t limit = o_.executor.params.n_ctx > 0 ? o_.executor.params.n_ctx : model.n_ctx_train;
    if (n_context + n_rest > limit) {
      const bool given = o_.executor.params.n_ctx > 0 && o_.executor.params.n_ctx < model.n_ctx_train;
      return Error{ErrorCode::bad_input,
                   "context and continuation take " + std::to_string(n_context + n_rest) + " tokens, and " +
                       (given ? "-c allows " : "the model's context holds ") + std::to_string(limit) + " (" +
                       (given ? "raise -c, or " : "") + "make --context-tokens or -n less)"};
    }
    context_.assign(tokens.begin(), tokens.begin() + n_context);
    rest_.assign(tokens.begin() + n_context, tokens.begin() + n_context + n_rest);
    return {};
  }

  // One reading for all.
  Result<void> read(Executor& executor, Sequence& full, std::vector<Side>& sides) const {
    ReadOptions options;
    std::vector<ReadTarget> targets = {{&full, Press()}};
    for (Side& side : sides) targets.push_back({&side.sequence, side.press});
    ProgressBar bar("reading", n_context());
    options.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
    CURDKV_TRY([[maybe_unused]] const auto reports, executor.read_together(targets, context_, options));
    for (Side& side : sides) side.kv_bytes = side.sequence.kv_bytes();
    return {};
  }

  // The full cache goes through some of the continuation, its logits kept, and then every other in turn.
  Result<void> compare(Executor& executor, Sequence& full, std::vector<Side>& sides) const {
    const size_t n_vocab = full.logits().size(), n_all = rest_.size() - 1;
    const size_t step = std::clamp<size_t>((size_t{256} << 20) / (n_vocab * sizeof(float)), 1, 512);
    for (Side& side : sides) add(side.totals, full.logits(), side.sequence.logits(), rest_[0]);
    ProgressBar bar("predicting", static_cast<int64_t>(n_all * (sides.size() + 1)));
    int64_t n_done = 0;
    std::vector<float> expected;
    for (size_t at = 0; at < n_all; at += step) {
      // The logits after token i predict token i + 1, so the last token need not be run.
      const std::span<const Token> tokens = std::span(rest_).subspan(at, std::min(step, n_all - at));
      expected.clear();
      const auto advance = [&](int64_t, std::span<const float>) {
        bar.update(++n_done, static_cast<int64_t>(n_all * (sides.size() + 1)));
      };
      CURDKV_CHECK(executor.extend(full, tokens, [&](int64_t position, std::span<const float> logits) {
        expected.insert(expected.end(), logits.begin(), logits.end());
        advance(position, logits);
      }));
      for (Side& side : sides) {
        size_t i = 0;
        CURDKV_CHECK(
            executor.extend(side.sequence, tokens, [&](int64_t position, std::span<const float> logits) {
              add(side.totals, std::span(expected).subspan(i * n_vocab, n_vocab), logits, rest_[at + i + 1]);
              ++i;
              advance(position, logits);
            }));
      }
    }
    return {};
  }

  nlohmann::ordered_json to_json(const ModelInfo& model, const Side& side, size_t kv_full) const {
    const Totals& t = side.totals;
    const auto n = static_cast<double>(t.n);
    nlohmann::ordered_json j = {{"model", model.path},
                                {"press", side.press.name()},
                                {"press_params", side.press.settings()},
                                {"compression_ratio", side.press.removed(n_context())},
                                {"budget", nullptr},
                                {"seed", side.press.seed()},
                                {"n_context_tokens", context_.size()},
                                {"n_predicted_tokens", t.n},
                                {"kv_bytes_full", kv_full},
                                {"kv_bytes", side.kv_bytes},
                                {"perplexity", std::exp(t.nll / n)},
                                {"perplexity_full", std::exp(t.nll_full / n)},
                                {"kl_divergence", t.kl / n},
                                {"top1_agreement", static_cast<double>(t.agree) / n}};
    if (side.press.budget()) j["budget"] = *side.press.budget();
    return j;
  }

  // JSON: an object, or a list of them when several presses were asked for.
  Result<void> print(const ModelInfo& model, const std::vector<Side>& sides, size_t kv_full) const {
    if (o_.json) {
      auto j = nlohmann::ordered_json::array();
      for (const Side& side : sides) j.push_back(to_json(model, side, kv_full));
      const auto& out = sides.size() == 1 ? j[0] : j;
      return write_json(out);
    }
    int width = 24;
    for (const Side& s : sides) width = std::max(width, static_cast<int>(press_label(s.press).size()));
    std::string out =
        format("context %zu tokens, continuation %lld tokens\n%-*s  %10s  %9s  %8s  %6s\n", context_.size(),
               (long long)sides[0].totals.n, width, "", "KV cache", "perplexity", "KL", "top-1");
    const Totals& any = sides[0].totals;
    out += format("%-*s  %10s  %10.3f\n", width, "full cache", human_bytes(kv_full).c_str(),
                  std::exp(any.nll_full / static_cast<double>(any.n)));
    for (const Side& side : sides) {
      const Totals& t = side.totals;
      const auto n = static_cast<double>(t.n);
      out += format("%-*s  %10s  %10.3f  %8.4f  %4.1f %%\n", width, press_label(side.press).c_str(),
                    human_bytes(side.kv_bytes).c_str(), std::exp(t.nll / n), t.kl / n,
                    100 * static_cast<double>(t.agree) / n);
    }
    return write_out(
        out +
        "KL: mean divergence of the full cache's predictions, nats; top-1: how often both name the "
        "same next token\n");
  }

  const PerplexityOptions& o_;
  std::vector<Token> context_, rest_;
};

}  // namespace

Command add_perplexity(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "perplexity",
      "perplexity of a text's continuation from its compressed beginning, against the full cache");
  auto o = std::make_shared<PerplexityOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  o->press.add_to(*app, kDefaultPress, kDefaultRatio, true);
  app->add_option("--context-tokens", o->n_context,
                  "tokens of the document that are the context (0: half of them)")
      ->type_name("N")
      ->transform(whole_number(0, kMostTokens))
      ->capture_default_str();
  app->add_option("-n,--predict,--n-predict", o->n_continuation,
                  "most tokens of the rest that are predicted (-1: all)")
      ->type_name("N")
      ->transform(whole_number(-2, kMostTokens))
      ->capture_default_str();
  o->executor.add_to(*app);
  app->add_flag("--json", o->json, "print one JSON object instead of text");
  return [o] {
    const auto done = Perplexity(*o).run();
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
