#include "command.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <thread>

#include "base/format.h"
#include "base/try.h"
#include "cpus.h"
#include "io/output_file.h"
#include "model/weights.h"
#include "numbers.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

constexpr int64_t kAllLayers = 1 << 20;  // more than any model has

std::atomic<bool> interrupted_flag{false};
std::atomic<bool> in_scope{false};

constexpr unsigned kPatience = 2;  // seconds that the work in hand may take to end in order

void on_signal(int number) {  // nothing but what is safe in a signal handler
  if (in_scope && number != SIGALRM && !interrupted_flag.exchange(true)) {
    alarm(kPatience);  // some steps are long, and some are other libraries'
    return;
  }
  remove_unfinished_files();
  constexpr char kText[] = "\ninterrupted\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kText, sizeof kText - 1);
  _exit(kInterrupted);
}

std::string default_model_path() {
  const auto env = [](const char* name) { return std::getenv(name) ? std::string(std::getenv(name)) : ""; };
  std::string cache = env("CURDKV_CACHE");
  if (cache.empty() && !env("XDG_CACHE_HOME").empty()) cache = env("XDG_CACHE_HOME") + "/curdkv";
  if (cache.empty()) cache = env("HOME") + "/.cache/curdkv";
  return cache + "/SmolLM2-135M-Instruct.Q4_1.gguf";
}

std::map<std::string, CacheType> cache_types_by_name() {
  std::map<std::string, CacheType> names;
  for (const CacheTypeName& t : cache_types()) names[t.name] = t.type;
  return names;
}

// Types of rows that presses pack; others in the cache are F16 then.
constexpr const char* kRowTypes[] = {"auto", "q8", "q5", "q4", "q3"};

bool is_row_type(const std::string& name) {
  return std::find(std::begin(kRowTypes), std::end(kRowTypes), name) != std::end(kRowTypes);
}

CacheType cache_type(const std::string& name) {
  return is_row_type(name) ? CacheType::f16 : cache_types_by_name().at(name);
}

std::string cache_type_list() {
  std::string list;
  for (const CacheTypeName& t : cache_types()) list += (list.empty() ? "" : ", ") + std::string(t.name);
  return list;
}

// llama.cpp's words for numbers of layers; "" and an unchanged text otherwise.
std::string name_layers(std::string& text) {
  if (text == "auto" || text == "all" || text == "max" || text == "-1" || text == "-2") {
    text = std::to_string(kAllLayers);
  }
  return whole_number(0, kAllLayers)(text);
}

const std::map<std::string, PrefillKernel> kPrefillKernels = {{"auto", PrefillKernel::automatic},
                                                              {"ggml", PrefillKernel::ggml},
                                                              {"int8", PrefillKernel::int8},
                                                              {"onednn", PrefillKernel::onednn}};

}  // namespace

int report(const Error& error) {
  if (error.code == ErrorCode::cancelled) {
    std::fprintf(stderr, "\ninterrupted\n");
    return kInterrupted;
  }
  write_err("error: " + error.message + "\n");
  return error.code == ErrorCode::bad_argument ? kWrongUsage : kFailed;
}

const std::atomic<bool>& interrupted() {
  return interrupted_flag;
}

InterruptScope::InterruptScope() {
  in_scope = true;
}
InterruptScope::~InterruptScope() {
  in_scope = false;
}

void install_signal_handlers() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGALRM, on_signal);
  std::signal(SIGPIPE, SIG_IGN);  // writing to a closed pipe is an error like any other
  std::signal(SIGXFSZ, SIG_IGN);  // and so is a file that becomes larger than is allowed
}

void ModelOptions::add_to(CLI::App& app, bool positional) {
  app.add_option(positional ? "-m,--model,MODEL" : "-m,--model", path,
                 "GGUF model file (default: the one 'make demo' fetches)")
      ->type_name("FILE")
      ->check([](const std::string& name) { return std::string(name.empty() ? "the name is empty" : ""); });
  app.add_option_function<int>(
         "--gpu-layers,--n-gpu-layers",
         [this](const int& n) {
           const bool possible = !gpu_devices().empty();
           if (n > 0 && !possible) {
             note("-ngl has no effect: this build finds no GPU, so that all layers stay on the CPU");
           }
           params.n_gpu_layers = possible ? n : 0;
         },
         "layers to keep on GPUs, from the last: a number, all or auto (-ngl N)")
      ->type_name("N")
      ->transform(CLI::Validator(name_layers, ""));
  app.add_flag("--mmap,!--no-mmap", params.use_mmap,
               "map the file (default), or copy the weights into memory");
}

Result<std::string> ModelOptions::resolve() const {
  if (!path.empty()) return path;
  const std::string fallback = default_model_path();
  std::error_code ignored;
  if (std::filesystem::exists(fallback, ignored)) return fallback;
  return Error{ErrorCode::io, "no model given with -m, and the default one is not at " + fallback +
                                  " ('make demo' or scripts/get_model.sh fetches it)"};
}

void ExecutorOptions::add_to(CLI::App& app) {
  params.n_threads = usable_cpus().usable();
  app.add_option("-t,--threads", params.n_threads,
                 "threads to compute with (default: as many processors as this process may use)")
      ->type_name("N")
      ->transform(whole_number(1, 512))
      ->capture_default_str();
  app.add_option("-c,--ctx-size", params.n_ctx,
                 "most tokens of document, question and answer (0: the model's own limit)")
      ->type_name("N")
      ->transform(whole_number(0, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("-b,--batch-size", params.n_batch, "tokens computed at a time; does not change results")
      ->type_name("N")
      ->transform(whole_number(1, kMostTokens))
      ->capture_default_str();
  app.add_option("--prefill-kernel", prefill_kernel,
                 "what reads the context on the CPU: auto, ggml (libllama's very bits), int8 (needs AVX-512 "
                 "VNNI), onednn")
      ->check(CLI::IsMember(kPrefillKernels))
      ->type_name("NAME")
      ->capture_default_str();
  std::vector<std::string> types(std::begin(kRowTypes), std::end(kRowTypes));
  for (const CacheTypeName& t : cache_types()) types.emplace_back(t.name);
  const auto add = [&](const char* name, std::string& type, const std::string& help) {
    return app.add_option(name, type, help)
        ->check(CLI::IsMember(types).description(""))
        ->type_name("TYPE")
        ->capture_default_str();
  };
  asked_k_ = add("--cache-type-k", type_k,
                 "type of cached keys: " + cache_type_list() +
                     "; or of those that a press keeps: q8, q5, q4, q3, auto (-ctk TYPE)");
  asked_v_ = add("--cache-type-v", type_v, "type of cached values, likewise (-ctv TYPE)");
}

std::map<std::string, std::string> ExecutorOptions::row_params() const {
  std::map<std::string, std::string> asked;
  const auto ask = [&](const CLI::Option* option, const std::string& type, const char* name) {
    if (option != nullptr && option->count() > 0) asked[name] = is_row_type(type) ? type : "cache";
  };
  ask(asked_k_, type_k, "keys");
  ask(asked_v_, type_v, "values");
  return asked;
}

bool ExecutorOptions::holds_f16() const {
  return cache_type(type_k) == CacheType::f16 && cache_type(type_v) == CacheType::f16;
}

ExecutorParams ExecutorOptions::resolve() const {
  ExecutorParams p = params;
  p.type_k = cache_type(type_k);
  p.type_v = cache_type(type_v);
  p.prefill_kernel = kPrefillKernels.at(prefill_kernel);
  p.stop = &interrupted();
  if (const Cpus cpus = usable_cpus(); p.n_threads > cpus.usable()) {
    // More would only wait for each other.
    write_err(format("warning: -t %d is more than the processors there are (%s); computing with %d\n",
                     p.n_threads, cpus.describe().c_str(), cpus.usable()));
    p.n_threads = cpus.usable();
  }
  return p;
}

std::string press_option(const PressParam& param) {
  return param.name.find('.') == std::string::npos ? "--" + param.name : "";
}

Result<Press> PressOptions::resolve(const ExecutorOptions& rows) const {
  CURDKV_TRY(const std::vector<Press> all, resolve_all(rows));
  return all[0];
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
      PressRequest asked = request;
      asked.name = name;
      asked.compression_ratio = ratio;
      // What a press's own text says goes first.
      for (const auto& [param, value] : rows.row_params()) asked.params.emplace(param, value);
      if (!byte_ratios.empty() && name.substr(0, name.find(':')) != "none")
        asked.params.emplace("ratio_of", "bytes");
      CURDKV_TRY(Press press, Press::make(asked));
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
