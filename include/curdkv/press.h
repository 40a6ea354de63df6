// Presses: how a context's KV cache is compressed. A press is a scorer (which tokens matter to which KV head)
// times an allocation (how many each may keep): a layer budget (how room is shared among layers), a selection
// (which tokens of a layer get it), or both. Names, parameters, defaults and help come from one table.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

class Scorer;
class Selection;
class LayerBudget;
struct ByteShare;

// A parameter as the user sees it; from this table come the flags, the help, the JSON and the checks.
struct PressParam {
  std::string name;  // "window"
  // "bool", "int", "real", "choice" or "scorer" (the name of another scorer).
  std::string kind;
  std::string default_value;  // as text
  double min = 0;             // int and real: bounds, inclusive
  double max = 0;
  std::vector<std::string> choices;
  std::string help;
};

// What can be asked for by name: presets ("adacurdkv"), and the scorers and allocations they are made of.
struct PressInfo {
  std::string name;
  std::string scorer;      // "" for none
  std::string allocation;  // "adaptive", "pyramid", "pyramid+adaptive"; "" for none
  std::string settings;    // a preset's own, "name=value:name=value"; its params have them as defaults
  std::string summary;
  std::string reference;  // paper or reference implementation
  std::vector<PressParam> params;
};

std::vector<PressInfo> list_presses();

// What `name` asks for, as a request does ("curdkv", "snapkv+adaptive"), or a scorer or an allocation alone.
// Parameters behind it are checked; a scorer that they name ("mixkv:first=snapkv") has its own among params.
// Errors: bad_argument naming what is unknown, and the press that may have been meant.
Result<PressInfo> find_press(const std::string& name);

// How kept rows are held. cache: as the sequence's cache type. The others: centred by their head's mean and
// turned by a Hadamard matrix, elements in F16 or in 8 to 3 bits with a scale for each row. automatic: keys,
// in each head, in the fewest bits that leave its queries' logits within key_error (root mean square); values
// in 3 to 8, the more room the more.
enum class RowType { cache, automatic, f16, q8, q5, q4, q3 };

// A request for compression, in the words of the command line.
struct PressRequest {
  // "none", a preset, or SCORER+ALLOCATION ("snapkv+pyramid+adaptive"); parameters may follow:
  // "curdkv:projection=true:local=false".
  std::string name = "none";
  std::map<std::string, std::string> params = {};  // as text, checked against the table
  double compression_ratio = 0;                    // fraction removed, in [0, 1)
  std::optional<int64_t> budget = {};              // tokens kept per KV head on average; overrides the ratio
  std::optional<int64_t> budget_bytes = {};        // of the context's rows, likewise
  int64_t protect_last = 0;                        // last tokens of the context that are kept in any case
  uint64_t seed = 42;                              // of random projections
};

// A checked request, ready for Executor::read. Copies share their state. Immutable: any number of threads may
// use a press at once.
class Press {
 public:
  Press() = default;  // "none": keeps everything

  // Errors: bad_argument naming the unknown press or parameter, or the value out of range.
  static Result<Press> make(const PressRequest& request);

  const std::string& name() const { return name_; }
  // The name and the parameters that were given, as they would be asked for: "curdkv:sinks=2".
  const std::string& spec() const { return spec_; }
  bool is_none() const { return scorer_ == nullptr; }
  double compression_ratio() const { return compression_ratio_; }
  std::optional<int64_t> budget() const { return budget_; }
  std::optional<int64_t> budget_bytes() const { return budget_bytes_; }
  // Whether the ratio is of the bytes that an F16 cache takes, not of rows.
  bool counts_bytes() const { return counts_bytes_; }
  RowType rows_k() const { return rows_k_; }
  RowType rows_v() const { return rows_v_; }
  double key_error() const { return key_error_; }  // of a logit, that automatic rows_k() lets pass
  // Whether kept rows are held in another way than the sequence's cache type.
  bool packs() const;
  bool measures_keys() const;  // whether it looks at queries, to choose keys' types or share out bytes
  int64_t protect_last() const { return protect_last_; }
  uint64_t seed() const { return seed_; }
  // Every parameter with its value as text, defaults included.
  const std::map<std::string, std::string>& settings() const { return settings_; }

  // Tokens each KV head keeps on average of a context of n_tokens: int(n (1 - ratio)) or the budget, at least
  // sinks + 1 beside the protected ones, at most n_tokens.
  int64_t n_kept(int64_t n_tokens) const;
  // The same for layer il of n_layer, as its layer budget has it.
  int64_t n_kept_in_layer(int64_t n_tokens, int64_t il, int64_t n_layer) const {
    return n_kept_in_layer(n_tokens, wanted(n_tokens), il, n_layer);
  }
  // Where so many are wanted, before rounding, on average over the layers.
  int64_t n_kept_in_layer(int64_t n_tokens, double wanted, int64_t il, int64_t n_layer) const;
  // n_tokens (1 - ratio) or the budget, before rounding and without bounds.
  double wanted(int64_t n_tokens) const;
  // Bytes that rows of a context may take which takes so many in an F16 cache.
  double wanted_bytes(double f16_bytes) const;
  // Fraction of a context of n_tokens that is removed, whether a ratio or a budget was asked for.
  double removed(int64_t n_tokens) const {
    return budget_ ? 1.0 - static_cast<double>(n_kept(n_tokens)) / static_cast<double>(n_tokens)
                   : compression_ratio_;
  }

  // Whether the context is read a second time for this press, repeated as ExecutorParams::repeats says.
  bool needs_repeats() const;

  // Whether Executor::compress can use this press with so many rows per head. Errors: bad_argument for one
  // that needs what is gone while generating (each token's query, a second reading), or a budget that its
  // sinks fill.
  Result<void> check_decode_budget(int64_t budget) const;
  // Latest queries that Executor::compress looks at with this press: at most 128 tokens'.
  int64_t n_recent_queries() const;
  // Whether Executor::compress renumbers positions, so that they stay below its budget.
  bool bounds_positions() const;

  // What the scores depend on beside context and budget: presses that agree in it score alike.
  const std::string& scoring() const { return scoring_; }
  const Scorer* scorer() const { return scorer_.get(); }
  const Selection* selection() const { return selection_.get(); }
  // How one budget of bytes is shared out over all layers and heads; null if it is not.
  const ByteShare* share_of_bytes() const;

 private:
  void hold_rows(const std::map<std::string, std::string>& values);
  int64_t at_least_sinks(int64_t n_kept, int64_t n_tokens) const;

  std::string name_ = "none", spec_ = "none", scoring_;
  double compression_ratio_ = 0;
  std::optional<int64_t> budget_;
  std::optional<int64_t> budget_bytes_;
  bool counts_bytes_ = false;
  RowType rows_k_ = RowType::cache, rows_v_ = RowType::cache;
  double key_error_ = 0.5;
  int64_t protect_last_ = 0;
  uint64_t seed_ = 42;
  std::map<std::string, std::string> settings_;
  std::shared_ptr<const Scorer> scorer_;
  std::shared_ptr<const Selection> selection_;
  std::shared_ptr<const LayerBudget> layer_budget_;  // null: all layers alike
};

// One way to put CurDKV's scores together (figure 3 and table 17 of the paper, and kvpress's windows).
struct AblationVariant {
  std::string press;  // as Press::make takes it
  std::string what;   // what is scored: "key", "value", "key-value average", "key-value product"
  std::string how;    // "row norms", "projected", "windows", "windows, corrected", "exact leverage"
};
std::vector<AblationVariant> ablation_variants();

}  // namespace curdkv
