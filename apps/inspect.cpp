// curdkv inspect: what a model file is, what its cache costs, and whether it can be run; what a saved context
// holds, and whether it fits a model.
#include <unistd.h>

#include <algorithm>

#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "context_report.h"
#include "curdkv/version.h"
#include "printable.h"
#include "prompt_flags.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

size_t kv_bytes_per_token(const ModelInfo& m) {  // F16, all layers
  return static_cast<size_t>(m.n_kv) * 2;
}

bool has_own_products(const BuildInfo& build, const WeightType& w) {
  return std::find(build.own_types.begin(), build.own_types.end(), w.type) != build.own_types.end();
}

// Which types the matrices have, and of which this program has no kernel of its own here.
std::string products_line(const ModelInfo& m) {
  const BuildInfo build = build_info();
  std::string all, left;
  for (const WeightType& w : m.weight_types) {
    const std::string one = w.type + " " + human_bytes(static_cast<size_t>(w.bytes));
    all += (all.empty() ? "" : ", ") + one;
    if (!has_own_products(build, w)) left += (left.empty() ? "" : ", ") + w.type;
  }
  return "matrices      " + all + (left.empty() ? "" : "; by ggml's products: " + left) + "\n";
}

// On a terminal no value ends its line: what a file says of itself cannot look like what is said of it.
std::string as_text(const ModelInfo& m) {
  const auto shown = [](const std::string& text) {
    return isatty(STDOUT_FILENO) != 0 ? printable_line(text) : text;
  };
  const auto n = [](int64_t x) { return static_cast<long long>(x); };
  std::string out = "model         " + shown(m.path) + "\nname          " + shown(m.name) +
                    "\narchitecture  " + shown(m.architecture) + " (supported)\n";
  out += format("parameters    %.1f M, %s, %s\n", static_cast<double>(m.n_params) / 1e6,
                shown(m.quantization).c_str(), human_bytes(static_cast<size_t>(m.weights_bytes)).c_str());
  out += products_line(m);
  out += format("layers        %lld of %lld dimensions\n", n(m.n_layer), n(m.n_embd));
  out += format("heads         %lld query, %lld KV (groups of %lld), %lld dimensions\n", n(m.n_head),
                n(m.n_head_kv), n(m.n_head / m.n_head_kv), n(m.d_head_k));
  out += format("vocabulary    %lld\ncontext       %lld tokens\n", n(m.n_vocab), n(m.n_ctx_train));
  return out + format("KV cache      %s per token, %s for the whole context (f16)\n",
                      human_bytes(kv_bytes_per_token(m)).c_str(),
                      human_bytes(kv_bytes_per_token(m) * static_cast<size_t>(m.n_ctx_train)).c_str());
}

nlohmann::ordered_json to_json(const ModelInfo& m) {
  const BuildInfo build = build_info();
  auto matrices = nlohmann::ordered_json::array();
  for (const WeightType& w : m.weight_types)
    matrices.push_back({{"type", w.type}, {"bytes", w.bytes}, {"own_products", has_own_products(build, w)}});
  return {{"model", m.path},
          {"supported", true},
          {"name", m.name},
          {"architecture", m.architecture},
          {"quantization", m.quantization},
          {"n_params", m.n_params},
          {"weights_bytes", m.weights_bytes},
          {"matrices", std::move(matrices)},
          {"n_layer", m.n_layer},
          {"n_embd", m.n_embd},
          {"n_head", m.n_head},
          {"n_head_kv", m.n_head_kv},
          {"d_head_k", m.d_head_k},
          {"d_head_v", m.d_head_v},
          {"n_vocab", m.n_vocab},
          {"n_ctx_train", m.n_ctx_train},
          {"kv_bytes_per_token", kv_bytes_per_token(m)}};
}

int inspect_model(const std::string& path, bool json) {
  const auto info = Model::inspect(path);
  if (!info && json) {
    const auto said = write_json({{"model", path}, {"supported", false}, {"reason", info.error().message}});
    if (!said) return report(said.error());
  }
  if (!info) return report(info.error());
  const auto written = json ? write_json(to_json(*info)) : write_out(as_text(*info));
  return written ? kOk : report(written.error());
}

struct InspectOptions {
  std::string file;
  ModelOptions model;
  PromptFlags prompt;
  bool json = false;
};

// Whether the context fits the model.
Result<void> check_fit(const SavedContext& context, const InspectOptions& o) {
  CURDKV_TRY(const Tokenizer tokenizer, Tokenizer::load(o.model.path));
  CURDKV_TRY(const PromptOptions options, o.prompt.options());
  CURDKV_TRY(const Prompt prompt, Prompt::create(tokenizer, options));
  return context.check(o.model.path, prompt);
}

int inspect_context(const InspectOptions& o) {
  const auto context = open_context(o.file);
  if (!context) return report(context.error());
  const Result<void> fits = o.model.path.empty() ? Result<void>() : check_fit(*context, o);
  std::string text = context_as_text(context->info());
  nlohmann::ordered_json j = context_json(context->info());
  if (!o.model.path.empty()) {
    if (fits) text += "fits          " + o.model.path + "\n";
    j["model"] = o.model.path;
    j["fits"] = static_cast<bool>(fits);
    if (!fits) j["reason"] = fits.error().message;
  }
  const auto written = o.json ? write_json(j) : write_out(text);
  if (!written) return report(written.error());
  return fits ? kOk : report(fits.error());
}

int inspect(const InspectOptions& o) {
  if (const auto saved = is_context(o.file); saved && *saved) return inspect_context(o);
  if (!o.file.empty() && !o.model.path.empty())
    return report(
        {ErrorCode::bad_argument, o.file + ": is no saved context; one model is inspected at a time"});
  if (!o.file.empty()) return inspect_model(o.file, o.json);
  const auto path = o.model.resolve();
  return path ? inspect_model(*path, o.json) : report(path.error());
}

}  // namespace

Command add_inspect(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "inspect", "describe a model file and say whether, or why not, it can be run; or a saved context");
  auto o = std::make_shared<InspectOptions>();
  app->add_option("FILE", o->file, "a model, or a context that 'curdkv compress' saved")->check(check_name);
  o->model.add_to(*app);
  o->prompt.add_to(*app);
  app->add_flag("--json", o->json, "print JSON");
  return [o] { return inspect(*o); };
}

}  // namespace curdkv::app
