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
std::atomic<InterruptScope::Then> then{InterruptScope::Then::ends};

constexpr unsigned kPatience = 2;  // seconds that the work in hand may take to end in order

void on_signal(int number) {  // nothing but what is safe in a signal handler
  if (in_scope && then == InterruptScope::Then::goes_on) {
    if (number == SIGINT) {
      interrupted_flag = true;
      return;
    }
  } else if (in_scope && number != SIGALRM && !interrupted_flag.exchange(true)) {
    // Some steps are long, and some are other libraries'.
    if (then == InterruptScope::Then::ends) alarm(kPatience);
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
                                                              {"onednn", PrefillKernel::onednn},
                                                              {"amx", PrefillKernel::amx}};

}  // namespace

int report(const Error& error) {
  if (error.code == ErrorCode::cancelled) {
    std::fprintf(stderr, "\ninterrupted\n");
    return kInterrupted;
  }
  write_err("error: " + error.message + "\n");
  return error.code == ErrorCode::bad_argument ? kWrongUsage : kFailed;
}

Result<void> write_json(const nlohmann::ordered_json& json) {
  return write_out(json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

const std::atomic<bool>& interrupted() {
  return interrupted_flag;
}

void lower_interrupted() {
  interrupted_flag = false;
}

InterruptScope::InterruptScope(Then what) {
  then = what;
  in_scope = true;
}
InterruptScope::~InterruptScope() {
  in_scope = false;
  if (then == Then::goes_on) lower_interrupted();
}

void install_signal_handlers() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGALRM, on_signal);
  std::signal(SIGPIPE, SIG_IGN);  // writing to a closed pipe is an error like any other
  std::signal(SIGXFSZ, SIG_IGN);  // and so is a file that becomes larger than is allowed
  std::signal(SIGCHLD, SIG_DFL);  // how a program ended that was run is to be known
}

std::string check_name(const std::string& name) {
  return name.empty() ? "the name is empty" : "";
}

void ModelOptions::add_to(CLI::App& app) {
  app.add_option("-m,--model", path, "GGUF model file (default: the one 'make demo' fetches)")
      ->type_name("FILE")
      ->check(check_name);
  // Before the number of layers: all, when nothing is said of it.
  app.add_option_function<std::vector<std::string>>(
         "--rpc",
         [this](const std::vector<std::string>& servers) {
           params.rpc_servers = servers;
           params.n_gpu_layers = kAllLayers;
         },
         "ggml RPC servers (llama.cpp's rpc-server) that layers lie on as on GPUs; trusted ones, as nothing "
         "is "
         "encrypted")
      ->type_name("HOST:PORT,...")
      ->delimiter(',');
  app.add_option_function<int>(
         "--gpu-layers,--n-gpu-layers",
         [this](const int& n) {
           const bool possible = !params.rpc_servers.empty() || !gpu_devices().empty();
           if (n > 0 && !possible) {
             note("-ngl has no effect: this build finds no GPU, so that all layers stay on the CPU");
           }
           params.n_gpu_layers = possible ? n : 0;
         },
         "layers to keep on GPUs or RPC servers, from the last: a number, all or auto (-ngl N)")
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
                 "what reads the context on the CPU: auto, ggml (libllama's very bits), int8 (needs AVX2), "
                 "amx, onednn")
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

Result<ExecutorParams> ExecutorOptions::resolve(CacheType held_k, CacheType held_v) const {
  const auto other = [](const CLI::Option* asked, const std::string& type, CacheType held) {
    return asked != nullptr && asked->count() > 0 && (is_row_type(type) || cache_type(type) != held);
  };
  if (other(asked_k_, type_k, held_k) || other(asked_v_, type_v, held_v)) {
    return Error{
        ErrorCode::bad_argument,
        "the context has rows of another type than -ctk or -ctv says, and keeps them; leave these out"};
  }
  ExecutorParams p = resolve();
  p.type_k = held_k;
  p.type_v = held_v;
  return p;
}

}  // namespace curdkv::app
