#include "analysis/figure.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/try.h"
#include "engine/layer_observer.h"

namespace curdkv::analysis {

std::unique_ptr<Figure> make_document(const Subject&);
std::unique_ptr<Figure> make_attention_vs_loss(const Subject&);
std::unique_ptr<Figure> make_reconstruction(const Subject&);
std::unique_ptr<Figure> make_heads(const Subject&);

namespace {

const FigureEntry kFigures[] = {
    {"document", "which tokens every KV head kept", true, make_document},
    {"attention-vs-loss", "each key's mean attention against what evicting it alone costs the output", false,
     make_attention_vs_loss},
    {"reconstruction", "how far Q K^T and softmax(Q K^T) V are from the full cache's, with lemma 3.1's bound",
     true, make_reconstruction},
    {"heads",
     "how budgets spread over layers and heads, and, of several presses at one ratio, how alike they select",
     true, make_heads},
};

// Selects for all presses in each layer and hands it to the figures.
class Observer : public LayerObserver {
 public:
  Observer(const Subject& subject, std::span<const std::unique_ptr<Figure>> figures, const Progress& progress)
      : subject_(subject), figures_(figures), progress_(progress) {}

  ScorerNeeds needs() const override {
    ScorerNeeds needs;
    for (const Press& p : subject_.presses) needs = needs | p.scorer()->needs();
    for (int64_t il = 0; il < subject_.n_layer; ++il) {
      if (looked_at(il)) needs.n_queries = ScorerNeeds::kAll;
    }
    return needs;
  }

  Result<void> observe(int64_t il, ModelLayerView& view) override {
    if (view.n_head() != subject_.n_head || view.n_head_kv != subject_.n_head_kv) {
      return Error{ErrorCode::bad_input, "a model whose layers differ in their heads cannot be analysed"};
    }
    LayerScores scores(view);
    std::vector<KeptTokens> kept;
    for (const Press& press : subject_.presses) {
      CURDKV_TRY(KeptTokens k, select_tokens(scores, press, 0, il, subject_.n_layer));
      kept.push_back(std::move(k));
    }
    LayerRows rows;
    if (looked_at(il)) {
      CURDKV_TRY(rows, LayerRows::of(view));
    }
    for (size_t i = 0; i < figures_.size(); ++i) {
      const auto note = [&](double share) {
        note_done(il, (static_cast<double>(i) + share) / static_cast<double>(figures_.size()));
      };
      CURDKV_CHECK(figures_[i]->add({il, &rows, kept}, note));
      note(1);
    }
    return {};
  }

  // A layer's reading counts as much as what figures make of it.
  void note_read(int64_t done, int64_t total) const {
    if (!progress_) return;
    const int64_t layer = total / subject_.n_layer, il = done / layer, rest = done % layer;
    progress_((rest == 0 && il > 0 ? 2 * il - 1 : 2 * il) * layer + rest, 2 * total);
    n_layer_ = layer;
  }

 private:
  bool looked_at(int64_t il) const {
    return std::any_of(figures_.begin(), figures_.end(), [&](const auto& f) { return f->looks_at(il); });
  }
  void note_done(int64_t il, double share) const {
    if (!progress_ || n_layer_ == 0) return;
    const auto part = static_cast<int64_t>(share * static_cast<double>(n_layer_));
    progress_((2 * il + 1) * n_layer_ + part, 2 * n_layer_ * subject_.n_layer);
  }

  const Subject& subject_;
  std::span<const std::unique_ptr<Figure>> figures_;
  const Progress& progress_;
  mutable int64_t n_layer_ = 0;  // units of work in a layer's reading
};

}  // namespace

std::span<const FigureEntry> list_figures() {
  return kFigures;
}

Result<std::vector<Json>> make_figures(Executor& executor, std::span<const Token> tokens,
                                       const Subject& subject, const std::vector<std::string>& names,
                                       ReadOptions options) {
  std::vector<std::unique_ptr<Figure>> figures;
  for (const std::string& name : names) {
    const auto* entry =
        std::find_if(std::begin(kFigures), std::end(kFigures), [&](const auto& f) { return f.name == name; });
    if (entry == std::end(kFigures))
      return Error{ErrorCode::bad_argument, "there is no figure '" + name + "'"};
    figures.push_back(entry->make(subject));
  }
  const Progress progress = std::move(options.progress);
  Observer observer(subject, figures, progress);
  options.observer = &observer;
  options.progress = [&](int64_t done, int64_t total) { observer.note_read(done, total); };
  Sequence sequence = executor.sequence();
  CURDKV_TRY([[maybe_unused]] const auto report, executor.read(sequence, tokens, Press(), options));
  std::vector<Json> out;
  for (const auto& figure : figures) out.push_back(figure->json());
  return out;
}

Json head_of(const char* figure, const Subject& s) {
  return {{"figure", figure},     {"model", s.model},   {"n_tokens", s.tokens.size()},
          {"n_layer", s.n_layer}, {"n_head", s.n_head}, {"n_head_kv", s.n_head_kv}};
}

Json label_of(const Press& press, const Subject& s) {
  return {{"press", press.spec()}, {"compression_ratio", press.removed(std::ssize(s.tokens))}};
}

double rounded(double x, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, x);
  return std::strtod(text, nullptr);
}

}  // namespace curdkv::analysis
