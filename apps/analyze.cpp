// curdkv analyze: what compression does to a model's cache on one document, as figures for 'curdkv report'.
#include <openssl/evp.h>

#include <cstdio>

#include "base/try.h"
#include "base/utf8.h"
#include "command.h"
#include "curdkv/text.h"
#include "document.h"
#include "eval/files.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct AnalyzeOptions {
  ModelOptions model;
  SessionOptions session;
  PressOptions press;
  DocumentOptions document;
  std::string figure = "document", out;
};

std::string base64(const std::vector<unsigned char>& bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes.data(),
                                static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(n));
  return out;
}

// A bit per token, lowest first; the heads of all layers one after another, each from a new byte on.
std::string kept_bits(const std::vector<std::vector<std::vector<int32_t>>>& kept, size_t n_tokens) {
  std::vector<unsigned char> bytes;
  for (const auto& layer : kept) {
    for (const auto& head : layer) {
      const size_t start = bytes.size();
      bytes.resize(start + (n_tokens + 7) / 8);
      for (const int32_t t : head) {
        bytes[start + static_cast<size_t>(t) / 8] |= static_cast<unsigned char>(1 << (t % 8));
      }
    }
  }
  return base64(bytes);
}

// The text of each token; a character that takes several is the last one's.
std::vector<std::string> pieces_of(const Tokenizer& tokenizer, std::span<const Token> tokens) {
  Utf8Stream stream;
  std::vector<std::string> out;
  for (const Token t : tokens) out.push_back(stream.push(tokenizer.piece(t)));
  return out;
}

Result<void> run(const AnalyzeOptions& o) {
  CURDKV_TRY(const std::vector<Press> presses, o.press.resolve_all());
  CURDKV_TRY(const std::string document, o.document.read());
  CURDKV_TRY(const std::string path, o.model.resolve());
  CURDKV_TRY(const Model model, Model::load(path, o.model.params));
  CURDKV_TRY(const Tokenizer tokenizer, Tokenizer::load(path));
  CURDKV_TRY(const Prompt prompt, Prompt::create(tokenizer, !tokenizer.chat_template().empty()));
  CURDKV_TRY(const std::vector<Token> tokens, prompt.context(document));

  const InterruptScope scope;
  PrefillOptions options;
  std::vector<Session> sessions;
  std::vector<PrefillTarget> targets;
  for (const Press& press : presses) {
    CURDKV_TRY(Session session, Session::create(model, o.session.resolve()));
    sessions.push_back(std::move(session));
    if (press.needs_repeats() && options.repeats.empty()) {
      CURDKV_TRY(options.repeats, prompt.repeats(tokens));
    }
  }
  for (size_t i = 0; i < presses.size(); ++i) targets.push_back({&sessions[i], presses[i]});
  ProgressBar bar("reading", std::ssize(tokens));
  options.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
  CURDKV_TRY([[maybe_unused]] const auto reports, prefill_together(targets, tokens, options));

  const std::string file = model.info().path.substr(model.info().path.rfind('/') + 1);
  nlohmann::ordered_json figure = {{"figure", "document"},
                                   {"model", file},
                                   {"n_layer", model.info().n_layer},
                                   {"n_head_kv", model.info().n_head_kv},
                                   {"tokens", pieces_of(tokenizer, tokens)},
                                   {"kept", nlohmann::json::array()}};
  for (size_t i = 0; i < presses.size(); ++i) {
    if (presses[i].is_none()) continue;
    figure["kept"].push_back({{"press", presses[i].spec()},
                              {"compression_ratio", presses[i].removed(std::ssize(tokens))},
                              {"bits", kept_bits(sessions[i].kept_tokens(), tokens.size())}});
  }
  const std::string text = figure.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return o.out == "-" ? write_out(text) : eval::write_file(o.out, text);
}

}  // namespace

Command add_analyze(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "analyze", "what presses do to a document's cache, as data for the figures of 'curdkv report'");
  auto o = std::make_shared<AnalyzeOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  o->press.add_to(*app, "adacurdkv", 0.5, true);
  app->add_option("--figure", o->figure, "document: which tokens every KV head kept")
      ->check(CLI::IsMember({"document"}))
      ->capture_default_str();
  app->add_option("-o,--output", o->out, "JSON file (-: standard output)")->type_name("FILE")->required();
  o->session.add_to(*app);
  return [o] {
    const auto done = run(*o);
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
