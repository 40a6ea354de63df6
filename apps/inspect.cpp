// curdkv inspect: what a model file is, what its cache costs, and whether it can be run.
#include <unistd.h>

#include "base/format.h"
#include "command.h"
#include "printable.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

size_t kv_bytes_per_token(const ModelInfo& m) {  // F16, all layers
  return static_cast<size_t>(m.n_kv) * 2;
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
  out += format("layers        %lld of %lld dimensions\n", n(m.n_layer), n(m.n_embd));
  out += format("heads         %lld query, %lld KV (groups of %lld), %lld dimensions\n", n(m.n_head),
                n(m.n_head_kv), n(m.n_head / m.n_head_kv), n(m.d_head_k));
  out += format("vocabulary    %lld\ncontext       %lld tokens\n", n(m.n_vocab), n(m.n_ctx_train));
  return out + format("KV cache      %s per token, %s for the whole context (f16)\n",
                      human_bytes(kv_bytes_per_token(m)).c_str(),
                      human_bytes(kv_bytes_per_token(m) * static_cast<size_t>(m.n_ctx_train)).c_str());
}

nlohmann::ordered_json to_json(const ModelInfo& m) {
  return {{"model", m.path},
          {"supported", true},
          {"name", m.name},
          {"architecture", m.architecture},
          {"quantization", m.quantization},
          {"n_params", m.n_params},
          {"weights_bytes", m.weights_bytes},
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

int inspect(const std::string& path, bool json) {
  const auto info = Model::inspect(path);
  if (!info) {
    if (json) {
      const nlohmann::ordered_json j = {
          {"model", path}, {"supported", false}, {"reason", info.error().message}};
      if (auto w = write_out(j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"); !w)
        return report(w.error());
    }
    return report(info.error());
  }
  const auto text = json ? to_json(*info).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
                         : as_text(*info);
  const auto written = write_out(text);
  return written ? kOk : report(written.error());
}

}  // namespace

Command add_inspect(CLI::App& program) {
  CLI::App* app =
      program.add_subcommand("inspect", "describe a model file and say whether, or why not, it can be run");
  auto model = std::make_shared<ModelOptions>();
  auto json = std::make_shared<bool>(false);
  model->add_to(*app, true);
  app->add_flag("--json", *json, "print JSON");
  return [model, json] {
    const auto path = model->resolve();
    return path ? inspect(*path, *json) : report(path.error());
  };
}

}  // namespace curdkv::app
