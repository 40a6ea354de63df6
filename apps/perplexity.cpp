// curdkv perplexity: what compressing a context costs the text that follows it. The first part of a document
// is the context; the rest is predicted from the compressed cache and from the full one, position by
// position.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/try.h"
#include "command.h"
#include "curdkv/text.h"
#include "document.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct PerplexityOptions {
  ModelOptions model;
  SessionOptions session;
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

std::vector<double> log_softmax(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(x - max);
  const double norm = max + std::log(sum);
  std::vector<double> out;
  out.reserve(logits.size());
  for (float x : logits) out.push_back(x - norm);
  return out;
}

// Adds one position: what both predict, and the token that came.
void add(Totals& t, std::span<const float> full, std::span<const float> compressed, Token next) {
  const std::vector<double> p = log_softmax(full), q = log_softmax(compressed);
  t.nll_full -= p[static_cast<size_t>(next)];
  t.nll -= q[static_cast<size_t>(next)];
  for (size_t i = 0; i < p.size(); ++i) t.kl += std::exp(p[i]) * (p[i] - q[i]);
  t.agree +=
      std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
  ++t.n;
}

class Perplexity {
 public:
  explicit Perplexity(const PerplexityOptions& options) : o_(options) {}

  Result<void> run() {
    CURDKV_TRY(const Press press, o_.press.resolve());
    CURDKV_TRY(const std::string document, o_.document.read());
    CURDKV_TRY(const std::string path, o_.model.resolve());
    CURDKV_TRY(const Model model, Model::load(path, o_.model.params));
    CURDKV_TRY(const Tokenizer tokenizer, Tokenizer::load(path));
    CURDKV_TRY(const std::vector<Token> tokens, tokenizer.tokenize(document, false, true));
    CURDKV_CHECK(split(tokens, model));
    CURDKV_TRY(const Prompt prompt, Prompt::create(tokenizer, false));
    CURDKV_TRY(repeats_, prompt.repeats(context_));

    const InterruptScope scope;
    CURDKV_TRY(Session full, Session::create(model, o_.session.resolve()));
    CURDKV_TRY(Session compressed, Session::create(model, o_.session.resolve()));
    CURDKV_CHECK(prefill(full, Press()));
    CURDKV_CHECK(prefill(compressed, press));
    const size_t kv_bytes = compressed.kv_bytes();
    CURDKV_TRY(const Totals totals, compare(full, compressed));
    return print(model, press, totals, kv_bytes, compressed.kv_bytes_full(n_context()));
  }

 private:
  int64_t n_context() const { return static_cast<int64_t>(context_.size()); }

  Result<void> split(const std::vector<Token>& tokens, const Model& model) {
    const auto n = static_cast<int64_t>(tokens.size());
    const int64_t n_context = o_.n_context > 0 ? o_.n_context : n / 2;
    if (n_context < 1 || n_context >= n) {
      return Error{ErrorCode::bad_input,
                   "the document has " + std::to_string(n) + " tokens: too few for a context of " +
                       std::to_string(std::max<int64_t>(n_context, 1)) + " and a continuation"};
    }
    const int64_t n_rest = std::min(n - n_context, o_.n_continuation);
    const int64_t limit = o_.session.params.n_ctx > 0 ? o_.session.params.n_ctx : model.info().n_ctx_train;
    if (n_context + n_rest > limit) {
      return Error{ErrorCode::bad_input, "context and continuation take " +
                                             std::to_string(n_context + n_rest) +
                                             " tokens, and the model's context holds " +
                                             std::to_string(limit) + " (see --context-tokens)"};
    }
    context_.assign(tokens.begin(), tokens.begin() + n_context);
    rest_.assign(tokens.begin() + n_context, tokens.begin() + n_context + n_rest);
    return {};
  }

  Result<void> prefill(Session& session, const Press& press) const {
    ProgressBar bar("reading, " + press_label(press), n_context());
    PrefillOptions options;
    if (press.needs_repeats()) options.repeats = repeats_;
    options.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
    CURDKV_TRY([[maybe_unused]] const auto report, session.prefill(context_, press, options));
    return {};
  }

  // Both sessions go through the continuation in step, a few positions' logits kept at a time.
  Result<Totals> compare(Session& full, Session& compressed) const {
    constexpr size_t kStep = 32;
    Totals totals;
    add(totals, full.logits(), compressed.logits(), rest_[0]);
    ProgressBar bar("predicting", static_cast<int64_t>(rest_.size()));
    for (size_t at = 0; at + 1 < rest_.size(); at += kStep) {
      // The logits after token i predict token i + 1, so the last token need not be run.
      const std::span<const Token> step =
          std::span(rest_).subspan(at, std::min(kStep, rest_.size() - 1 - at));
      std::vector<std::vector<float>> expected;
      CURDKV_CHECK(full.extend(step, [&](int64_t, std::span<const float> logits) {
        expected.emplace_back(logits.begin(), logits.end());
      }));
      size_t i = 0;
      CURDKV_CHECK(compressed.extend(step, [&](int64_t, std::span<const float> logits) {
        add(totals, expected[i], logits, rest_[at + i + 1]);
        ++i;
      }));
      bar.update(static_cast<int64_t>(at + step.size()), static_cast<int64_t>(rest_.size()));
    }
    return totals;
  }

  Result<void> print(const Model& model, const Press& press, const Totals& t, size_t kv_bytes,
                     size_t kv_full) const {
    const auto n = static_cast<double>(t.n);
    const double ppl = std::exp(t.nll / n), ppl_full = std::exp(t.nll_full / n), kl = t.kl / n;
    const double agreement = static_cast<double>(t.agree) / n;
    if (o_.json) {
      nlohmann::ordered_json j = {{"model", model.info().path},
                                  {"press", press.name()},
                                  {"press_params", press.settings()},
                                  {"compression_ratio", press.removed(n_context())},
                                  {"budget", nullptr},
                                  {"seed", press.seed()},
                                  {"n_context_tokens", context_.size()},
                                  {"n_predicted_tokens", t.n},
                                  {"kv_bytes_full", kv_full},
                                  {"kv_bytes", kv_bytes},
                                  {"perplexity", ppl},
                                  {"perplexity_full", ppl_full},
                                  {"kl_divergence", kl},
                                  {"top1_agreement", agreement}};
      if (press.budget()) j["budget"] = *press.budget();
      return write_out(j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    }
    char out[512];
    std::snprintf(out, sizeof out,
                  "context %zu tokens, continuation %lld tokens\n%-24s perplexity %.4f  KV cache %s\n"
                  "%-24s perplexity %.4f  KV cache %s\nKL divergence to the full cache %.5f nats, top-1 "
                  "agreement %.1f %%\n",
                  context_.size(), (long long)t.n, "full cache", ppl_full, human_bytes(kv_full).c_str(),
                  press_label(press).c_str(), ppl, human_bytes(kv_bytes).c_str(), kl, 100 * agreement);
    return write_out(out);
  }

  const PerplexityOptions& o_;
  std::vector<Token> context_, rest_;
  std::vector<Repeat> repeats_;
};

}  // namespace

Command add_perplexity(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "perplexity",
      "perplexity of a text's continuation from its compressed beginning, against the full cache");
  auto o = std::make_shared<PerplexityOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  o->press.add_to(*app, "adacurdkv", 0.5);
  app->add_option("--context-tokens", o->n_context,
                  "tokens of the document that are the context (0: half of them)")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("-n,--predict", o->n_continuation, "most tokens of the rest that are predicted")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  o->session.add_to(*app);
  app->add_flag("--json", o->json, "print one JSON object instead of text");
  return [o] {
    const auto done = Perplexity(*o).run();
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
