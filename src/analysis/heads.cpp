// How a press spreads its budget over layers and KV heads, and how alike presses select.
#include <algorithm>

#include "analysis/figure.h"

namespace curdkv::analysis {
namespace {

// |A and B| / |A or B| of two ascending lists.
double jaccard(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  size_t both = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i] == b[j]) {
      ++both, ++i, ++j;
    } else {
      a[i] < b[j] ? ++i : ++j;
    }
  }
  const size_t any = a.size() + b.size() - both;
  return any == 0 ? 1 : static_cast<double>(both) / static_cast<double>(any);
}

class Heads : public Figure {
 public:
  explicit Heads(const Subject& subject)
      : Figure(subject),
        counts_(subject.presses.size()),
        alike_(subject.presses.size(), std::vector<double>(subject.presses.size(), 0.0)) {}

  bool looks_at(int64_t) const override { return false; }

  Result<void> add(const Layer& layer, const std::function<void(double)>&) override {
    for (size_t i = 0; i < layer.kept.size(); ++i) {
      std::vector<size_t> lengths;
      for (const auto& head : layer.kept[i]) lengths.push_back(head.size());
      counts_[i].push_back(std::move(lengths));
      for (size_t j = i; j < layer.kept.size(); ++j) {
        if (!same_ratio(i, j)) continue;
        for (size_t h = 0; h < layer.kept[i].size(); ++h) {
          alike_[i][j] += jaccard(layer.kept[i][h], layer.kept[j][h]);
        }
      }
    }
    return {};
  }

  Json json() const override {
    const auto n_heads = static_cast<double>(subject_.n_layer * subject_.n_head_kv);
    Json out = head_of("heads", subject_);
    out["presses"] = Json::array();
    for (size_t i = 0; i < counts_.size(); ++i) {
      Json press = label_of(subject_.presses[i], subject_);
      press["n_kept"] = counts_[i];      // [layer][KV head]
      press["jaccard"] = Json::array();  // with every press; null where the ratios differ
      for (size_t j = 0; j < counts_.size(); ++j) {
        press["jaccard"].push_back(
            same_ratio(i, j) ? Json(rounded(alike_[std::min(i, j)][std::max(i, j)] / n_heads, 4)) : Json());
      }
      out["presses"].push_back(std::move(press));
    }
    return out;
  }

 private:
  bool same_ratio(size_t i, size_t j) const {
    const auto n = std::ssize(subject_.tokens);
    return subject_.presses[i].removed(n) == subject_.presses[j].removed(n);
  }

  std::vector<std::vector<std::vector<size_t>>> counts_;  // [press][layer][KV head]
  std::vector<std::vector<double>> alike_;                // [press][press not before it], summed over heads
};

}  // namespace

std::unique_ptr<Figure> make_heads(const Subject& subject) {
  return std::make_unique<Heads>(subject);
}

}  // namespace curdkv::analysis
