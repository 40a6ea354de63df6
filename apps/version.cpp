#include "version.h"

#include "cpus.h"
#include "curdkv/version.h"

namespace curdkv::app {

std::string version_text() {
  const BuildInfo b = build_info();
  const Cpus cpus = usable_cpus();
  std::string out = "curdkv " + b.version + "\n";
  const auto line = [&](std::string name, const std::string& value) {
    name.resize(20, ' ');
    out += name + (value.empty() ? "none" : value) + "\n";
  };
  const auto list = [](const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& w : words) text += (text.empty() ? "" : " ") + w;
    return text;
  };
  line("compiler", b.compiler);
  line("built on", b.llama_cpp);
  line("processor", b.cpu);
  line("  has", list(b.cpu_features));
  line("  ggml uses", list(b.ggml_features));
  line("threads by default", std::to_string(cpus.usable()) + " (processors: " + cpus.describe() + ")");
  line("GPUs", list(b.gpus));
  line("kernels", "on the CPU, by default");
  line("  prefill products", b.prefill_products);
  line("  prefill attention", b.prefill_attention);
  line("  decoding products", b.decoding_products);
  line("  attention", b.attention);
  out.pop_back();
  return out;
}

}  // namespace curdkv::app
