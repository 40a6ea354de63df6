// Figures of what compression does to a model's cache on one document, as data: JSON for machines, which
// 'curdkv report' draws. All of them come from one reading of the document, layer by layer.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "analysis/layer_rows.h"
#include "curdkv/executor.h"
#include "curdkv/press.h"
#include "press/allocation.h"

namespace curdkv::analysis {

using Json = nlohmann::ordered_json;

// What every figure is of.
struct Subject {
  std::string model;  // file name
  int64_t n_layer = 0, n_head = 0, n_head_kv = 0;
  std::vector<std::string> tokens;  // the document's, as text
  std::vector<Press> presses;       // none of them "none"
  int n_threads = 1;
  const std::atomic<bool>* stop = nullptr;
  // For figures that look at samples only: layers, evenly spaced from first to last, and of each as many
  // query heads.
  int64_t n_sampled_layers = 4, n_sampled_heads = 4;
};

struct Layer {
  int64_t il;
  const LayerRows* rows;             // null if no figure looks at them
  std::span<const KeptTokens> kept;  // by each of the presses
};

class Figure {
 public:
  explicit Figure(const Subject& subject) : subject_(subject) {}
  virtual ~Figure() = default;
  // Whether add() looks at the layer's keys, values and queries.
  virtual bool looks_at(int64_t il) const = 0;
  // Layers come in ascending order. progress: told the share of this layer's work that is done.
  virtual Result<void> add(const Layer& layer, const std::function<void(double)>& progress) = 0;
  virtual Json json() const = 0;  // once all layers were added

 protected:
  const Subject& subject_;  // outlives the figure
};

struct FigureEntry {
  const char* name;
  const char* summary;
  bool needs_press;  // shows what a press does; made of a subject with presses only
  std::unique_ptr<Figure> (*make)(const Subject&);
};
std::span<const FigureEntry> list_figures();

// Reads the document once and makes the figures. options: progress is told the reading's and the figures'
// work together. Errors: as of Executor::read; bad_argument for a name that is not listed.
Result<std::vector<Json>> make_figures(Executor& executor, std::span<const Token> tokens,
                                       const Subject& subject, const std::vector<std::string>& names,
                                       ReadOptions options);

// Parts of json() that figures share: {"figure", "model", "n_tokens", "n_layer", "n_head", "n_head_kv"}, and
// {"press", "compression_ratio"} of one press.
Json head_of(const char* figure, const Subject& subject);
Json label_of(const Press& press, const Subject& subject);
double rounded(double x, int digits = 5);  // to so many significant digits

}  // namespace curdkv::analysis
