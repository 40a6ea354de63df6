// Figure 1 of the CurDKV paper: does attention tell what evicting a key costs?
#include <algorithm>
#include <cmath>

#include "analysis/figure.h"
#include "analysis/key_loss.h"
#include "base/parallel.h"
#include "eval/statistics.h"

namespace curdkv::analysis {
namespace {

// `count` of [0, n), evenly spaced from first to last.
std::vector<int64_t> sample(int64_t n, int64_t count) {
  std::vector<int64_t> out;
  count = std::min(count, n);
  for (int64_t i = 0; i < count; ++i) out.push_back(count == 1 ? n / 2 : i * (n - 1) / (count - 1));
  return out;
}

class AttentionVsLoss : public Figure {
 public:
  explicit AttentionVsLoss(const Subject& subject)
      : Figure(subject),
        layers_(sample(subject.n_layer, subject.n_sampled_layers)),
        heads_(sample(subject.n_head, subject.n_sampled_heads)) {}

  bool looks_at(int64_t il) const override {
    return std::find(layers_.begin(), layers_.end(), il) != layers_.end();
  }

  Result<void> add(const Layer& layer, const std::function<void(double)>&) override {
    if (!looks_at(layer.il)) return {};
    std::vector<KeyLoss> losses(heads_.size());
    const auto of_head = [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      losses[at] = key_losses(*layer.rows, heads_[at], subject_.stop);
    };
    if (!parallel_for(subject_.n_threads, std::ssize(heads_), subject_.stop, of_head) ||
        (subject_.stop != nullptr && *subject_.stop)) {
      return Error{ErrorCode::cancelled, "interrupted"};
    }
    for (size_t i = 0; i < heads_.size(); ++i) {
      const KeyLoss& l = losses[i];
      std::vector<double> sums = l.attention;  // over the queries that see a key, instead of their mean
      for (size_t j = 0; j < sums.size(); ++j) sums[j] *= static_cast<double>(sums.size() - j);
      Json head = {{"layer", layer.il},
                   {"head", heads_[i]},
                   {"spearman", rounded(eval::spearman(l.attention, l.loss))},
                   {"spearman_of_sums", rounded(eval::spearman(sums, l.loss))}};
      for (const double x : l.attention) head["attention"].push_back(rounded(x));
      for (const double x : l.loss) head["loss"].push_back(rounded(x));
      out_.push_back(std::move(head));
    }
    return {};
  }

  Json json() const override {
    Json out = head_of("attention-vs-loss", subject_);
    out["heads"] = out_;
    return out;
  }

 private:
  std::vector<int64_t> layers_, heads_;
  Json out_ = Json::array();
};

}  // namespace

std::unique_ptr<Figure> make_attention_vs_loss(const Subject& subject) {
  return std::make_unique<AttentionVsLoss>(subject);
}

}  // namespace curdkv::analysis
