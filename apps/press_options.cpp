// Which press, how much of the cache it keeps, and its parameters, by options.
#include <algorithm>
#include <cstdio>
#include <set>

#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "numbers.h"
#include "terminal.h"

namespace curdkv::app {

std::string press_option(const PressParam& param) {
  return param.name.find('.') == std::string::npos ? "--" + param.name : "";
}

Result<Press> PressOptions::resolve(const ExecutorOptions& rows) const {
  CURDKV_TRY(const std::vector<Press> all, resolve_all(rows));
  return all[0];
}

namespace {

// One of several. What a press's own text says goes first.
PressRequest one_of(const PressOptions& o, const ExecutorOptions& rows, const std::string& name,
                    double ratio) {
  PressRequest asked = o.request;
  asked.name = name;
  asked.compression_ratio = ratio;
  for (const auto& [param, value] : rows.row_params()) asked.params.emplace(param, value);
  if (!o.byte_ratios.empty() && name.substr(0, name.find(':')) != "none")
    asked.params.emplace("ratio_of", "bytes");
  return asked;
}

}  // namespace

PressRequest PressOptions::asked(const ExecutorOptions& rows) const {
  return one_of(*this, rows, names[0], byte_ratios.empty() ? ratios[0] : byte_ratios[0]);
}

Result<std::vector<Press>> PressOptions::resolve_all(const ExecutorOptions& rows) const {
  std::vector<Press> all;
  std::set<std::pair<std::string, double>> seen;
  std::vector<std::string> asked_for;
  for (const std::string& name : names) {
    if (!takes_several || name != "ablation") {
      asked_for.push_back(name);
      continue;
    }
    for (const AblationVariant& v : ablation_variants()) asked_for.push_back(v.press);
  }
  for (const std::string& name : asked_for) {
    for (const double ratio : byte_ratios.empty() ? ratios : byte_ratios) {
      CURDKV_TRY(Press press, Press::make(one_of(*this, rows, name, ratio)));
      if (seen.emplace(press.spec(), press.compression_ratio()).second) all.push_back(std::move(press));
      if (request.budget || request.budget_bytes) break;  // instead of a ratio
    }
  }
  return all;
}

void PressOptions::add_to(CLI::App& app, const char* default_press, double default_ratio, bool several) {
  names = {default_press};
  about_compression_.clear();
  ratios = {default_ratio};
  takes_several = several;
  const char* list = several ? "; several, separated by commas, are compared" : "";
  auto* press_name =
      app.add_option("--press", names,
                     std::string("how the context's cache is compressed: none, a name from 'curdkv presses', "
                                 "or NAME:param=value:param=value") +
                         list + (several ? "; ablation: all that CurDKV can be made of" : "") +
                         "\n'curdkv presses NAME' tells a press's parameters, each an option here as well")
          ->type_name("NAME")
          ->capture_default_str();
  auto* ratio_option =
      app.add_option(
             "--compression-ratio", ratios,
             std::string("fraction of the cache that is removed, 0 to below 1; of its bytes, where the "
                         "press counts those") +
                 list)
          ->type_name("R")
          ->transform(real_number("a number in [0, 1)"))
          ->capture_default_str();
  auto* byte_ratio =
      app.add_option("--byte-ratio", byte_ratios,
                     std::string("fraction of an F16 cache's bytes that is removed, instead of rows") + list)
          ->type_name("R")
          ->transform(real_number("a number in [0, 1)"))
          ->excludes(ratio_option);
  for (CLI::Option* o : {press_name, ratio_option, byte_ratio}) {
    if (several) {
      o->delimiter(',')->allow_extra_args(false);
    } else {
      o->expected(1);
    }
  }
  press_option_ = press_name;
  ratio_option_ = ratio_option;
  about_compression_ = {press_name, ratio_option, byte_ratio};
  auto* budget =
      app.add_option("--budget", request.budget, "tokens kept per KV head (on average), instead of a ratio")
          ->type_name("TOKENS")
          ->transform(whole_number(1, kMostTokens))
          ->excludes(ratio_option)
          ->excludes(byte_ratio);
  about_compression_.push_back(budget);
  about_compression_.push_back(
      app.add_option("--budget-bytes", request.budget_bytes, "bytes of the cache, instead of a ratio")
          ->type_name("N")
          ->transform(whole_number(1, int64_t{1} << 50))
          ->excludes(ratio_option)
          ->excludes(byte_ratio)
          ->excludes(budget));
  about_compression_.push_back(app.add_option("--protect-last", request.protect_last,
                                              "last tokens of the context that are kept in any case")
                                   ->type_name("N")
                                   ->transform(whole_number(0, kMostTokens))
                                   ->capture_default_str());
  app.add_option("-s,--seed", request.seed, "seed of random projections and of sampling (-1: draw one)")
      ->type_name("N")
      ->transform(seed_number())
      ->capture_default_str();
  std::set<std::string> params;
  for (const PressInfo& press : list_presses()) {
    for (const PressParam& p : press.params) {
      if (!press_option(p).empty()) params.insert(p.name);
    }
  }
  for (const std::string& name : params) {
    const auto set = [this, name](const std::string& text) { request.params[name] = text; };
    // In no group, which leaves it out of the help.
    about_compression_.push_back(app.add_option_function<std::string>("--" + name, set)->group(""));
  }
}

void PressOptions::choose(const ModelOptions& model, const ExecutorOptions& executor, bool bounds) {
  if (press_option_->count() > 0) return;
  bounds = bounds && !asked_for_compression();
  const bool must_not_pack = request.budget || model.params.n_gpu_layers != 0 || !executor.holds_f16();
  if (!bounds && !must_not_pack) return;
  names = {bounds ? kDefaultBoundPress : kDefaultPress};
  if (ratio_option_->count() == 0) ratios = {kDefaultRatio};
}

Press PressOptions::unless_short(const Press& press, int64_t n_tokens, bool asked) const {
  if (asked || asked_for_compression() || press.is_none() || n_tokens >= kWorthCompressing) return press;
  note(
      format("the document has %lld tokens, too few to be worth compressing, and is kept whole "
             "(--press or --compression-ratio compresses it)",
             (long long)n_tokens));
  return Press();
}

bool PressOptions::asked_for_compression() const {
  return std::any_of(about_compression_.begin(), about_compression_.end(),
                     [](const CLI::Option* o) { return o->count() > 0; });
}

std::string press_label(const Press& press) {
  if (press.is_none()) return press.packs() ? press.spec() : "full cache";
  char number[32];
  if (press.budget()) {
    std::snprintf(number, sizeof number, " budget %lld", static_cast<long long>(*press.budget()));
  } else if (press.budget_bytes()) {
    std::snprintf(number, sizeof number, " budget %lld bytes", static_cast<long long>(*press.budget_bytes()));
  } else {
    std::snprintf(number, sizeof number, " %.2f", press.compression_ratio());
  }
  return press.spec() + number;
}

}  // namespace curdkv::app
