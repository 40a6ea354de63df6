// What the subcommands share: options common to several, error reporting, exit codes.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "curdkv/executor.h"
#include "curdkv/model.h"
#include "curdkv/press.h"

namespace curdkv::app {

// What is compared when nothing is said of compression.
inline constexpr const char* kDefaultPress = "mixkv";
inline constexpr double kDefaultRatio = 0.5;
// Where a cache is bounded by tokens, when nothing is said: by keys and values alone, which are there at any
// time.
inline constexpr const char* kDefaultBoundPress = "ridgekv";

// What one context is compressed by then: of the bytes, as the press counts.
inline constexpr const char* kRecommended = "recommended";
inline constexpr double kRecommendedRatio = 0.8;

// Documents of fewer tokens are kept whole unless compression was asked for: there is little to gain, and
// small caches lose answers first.
inline constexpr int64_t kWorthCompressing = 1024;
inline constexpr const char* kShortDocuments =
    "A document of fewer than 1024 tokens is kept whole unless one of the options says how to compress it.";

inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;         // a file that cannot be read, a model that is not supported, ...
inline constexpr int kWrongUsage = 2;     // options that make no sense
inline constexpr int kInterrupted = 130;  // Ctrl-C, as shells expect

// Prints "error: ..." to stderr and returns the exit code for it.
int report(const Error& error);

// Ctrl-C (and SIGTERM) ends the process at once while there is nothing to lose, as when a model is being
// loaded.
void install_signal_handlers();

// What Ctrl-C and SIGTERM do while one of these lives. ends: they raise interrupted(), and the work in hand
// ends in order; a second one ends the process, and so do two seconds without an end. takes_its_time: the
// same without the two seconds. goes_on: Ctrl-C raises interrupted() and never ends the process (SIGTERM
// does, at once), as the program goes on after the work in hand; it is lowered when the scope ends.
class InterruptScope {
 public:
  enum class Then { ends, takes_its_time, goes_on };
  explicit InterruptScope(Then then = Then::ends);
  ~InterruptScope();
};
const std::atomic<bool>& interrupted();  // for ExecutorParams::stop
void lower_interrupted();

// What is wrong with a file's name, or "": for options.
std::string check_name(const std::string& name);

// -m, -ngl, --no-mmap. Without -m: the default model, if it has been fetched.
struct ModelOptions {
  std::string path;
  ModelParams params;
  void add_to(CLI::App& app);
  Result<std::string> resolve() const;
};

// -t, -c, -b, --prefill-kernel, -ctk, -ctv.
struct ExecutorOptions {
  ExecutorParams params;
  std::string type_k = "f16", type_v = "f16", prefill_kernel = "auto";
  void add_to(CLI::App& app);
  ExecutorParams resolve() const;
  bool holds_f16() const;  // keys and values that no press packs
  // The same for a context that was saved with such types. Errors: bad_argument if -ctk or -ctv say
  // otherwise.
  Result<ExecutorParams> resolve(CacheType held_k, CacheType held_v) const;
  // What -ctk and -ctv ask of presses, where they were given: their parameters "keys" and "values".
  std::map<std::string, std::string> row_params() const;

 private:
  const CLI::Option *asked_k_ = nullptr, *asked_v_ = nullptr;
};

// The option that sets a press's parameter: "--sinks". "" for one of a scorer within a scorer, which goes by
// the press's name alone: --press mix+uniform:first.ridge=3.
std::string press_option(const PressParam& param);

// --press, --compression-ratio, --byte-ratio, --budget, --budget-bytes, --protect-last, --seed; and every
// press parameter by its own option, which 'curdkv presses NAME' tells and --help does not.
struct PressOptions {
  PressRequest request;
  std::vector<std::string> names;
  std::vector<double> ratios, byte_ratios;
  bool takes_several = false;
  // several: lists of presses and ratios are taken, separated by commas; "ablation" stands for all of
  // ablation_variants().
  void add_to(CLI::App& app, const char* default_press, double default_ratio, bool several = false);
  // rows: its -ctk and -ctv say how presses hold what they keep, unless a press says so itself.
  Result<Press> resolve(const ExecutorOptions& rows) const;
  // What resolve() makes a press of.
  PressRequest asked(const ExecutorOptions& rows) const;
  Result<std::vector<Press>> resolve_all(const ExecutorOptions& rows) const;  // each at every ratio, once
  // Whether any of these options was given but the seed.
  bool asked_for_compression() const;
  // Where no press is named: the recommended one stays, or what goes with the other options where it does
  // not. bounds: whether the cache is bounded while tokens are generated.
  void choose(const ModelOptions& model, const ExecutorOptions& executor, bool bounds);
  // The press, or, with a note, none where nothing was asked for and the document is short.
  Press unless_short(const Press& press, int64_t n_tokens, bool asked) const;

 private:
  const CLI::Option *press_option_ = nullptr, *ratio_option_ = nullptr;
  std::vector<const CLI::Option*> about_compression_;
};

std::string press_label(const Press& press);  // "adacurdkv 0.70"

// To stdout. Errors: as of write_out().
Result<void> write_json(const nlohmann::ordered_json& json);

// A subcommand: adds itself to the program; the function returned runs it and gives the exit code.
using Command = std::function<int()>;
Command add_run(CLI::App& program);
Command add_chat(CLI::App& program);
Command add_compress(CLI::App& program);
Command add_serve(CLI::App& program);
Command add_presses(CLI::App& program);
Command add_inspect(CLI::App& program);
Command add_perplexity(CLI::App& program);
Command add_eval(CLI::App& program);
Command add_analyze(CLI::App& program);
Command add_report(CLI::App& program);
Command add_bench(CLI::App& program);

}  // namespace curdkv::app
