// The variants of CurDKV that its paper's ablation compares, and those that came after.
#include "curdkv/press.h"

namespace curdkv {

std::vector<AblationVariant> ablation_variants() {
  const struct {
    const char *name, *leverage;
  } whats[] = {{"key", "key"},
               {"value", "value"},
               {"key-value average", "kv_avg"},
               {"key-value product", "kv_product"}};
  const struct {
    const char *name, *settings;
  } hows[] = {{"row norms", ":local=false"},
              {"projected", ":local=false:projection=true"},
              {"windows", ""},
              {"windows, corrected", ":tail=corrected"}};
  std::vector<AblationVariant> out;
  for (const auto& what : whats) {
    for (const auto& how : hows) {
      out.push_back({std::string("curdkv:leverage=") + what.leverage + how.settings, what.name, how.name});
    }
    // Exact scores are multiplied, never averaged.
    if (std::string(what.leverage) != "kv_avg")
      out.push_back({std::string("leverage:of=") + what.leverage, what.name, "exact leverage"});
  }
  return out;
}

}  // namespace curdkv
