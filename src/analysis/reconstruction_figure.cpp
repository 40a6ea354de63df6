// Figure 2 of the CurDKV paper: what is left of Q K^T and of softmax(Q K^T) V after eviction, on average over
// layers and query heads.
#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/figure.h"
#include "analysis/reconstruction.h"
#include "base/parallel.h"
#include "base/try.h"

namespace curdkv::analysis {
namespace {

// Sums over heads, of losses as they are and relative to the full cache's norms.
struct Sums {
  HeadLoss loss, relative;
  double most_of_bound = 0;             // the largest share of its bound that a loss has reached
  std::vector<double> output_by_layer;  // relative, mean over the layer's heads
};

double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

class ReconstructionFigure : public Figure {
 public:
  explicit ReconstructionFigure(const Subject& subject) : Figure(subject), sums_(subject.presses.size()) {
    for (const Press& p : subject.presses) low_rank_.try_emplace(p.removed(std::ssize(subject.tokens)));
  }

  bool looks_at(int64_t) const override { return true; }

  Result<void> add(const Layer& layer, const std::function<void(double)>& progress) override {
    CURDKV_TRY(const Reconstruction r,
               reconstruct(*layer.rows, layer.kept, subject_.n_threads, subject_.stop, progress));
    for (size_t i = 0; i < sums_.size(); ++i) {
      Sums& s = sums_[i];
      double of_layer = 0;
      for (size_t h = 0; h < r.norms.size(); ++h) {
        const HeadLoss& l = r.loss[i][h];
        const double output = ratio(l.output, r.norms[h].output);
        s.loss.qk += l.qk;
        s.loss.output += l.output;
        s.loss.output_zeroed += l.output_zeroed;
        s.loss.bound += l.bound;
        s.relative.qk += ratio(l.qk, r.norms[h].qk);
        s.relative.output += output;
        s.relative.output_zeroed += ratio(l.output_zeroed, r.norms[h].output);
        s.most_of_bound = std::max(s.most_of_bound, ratio(std::max(l.output, l.output_zeroed), l.bound));
        of_layer += output;
      }
      s.output_by_layer.push_back(of_layer / static_cast<double>(r.norms.size()));
    }
    return add_low_rank(*layer.rows);
  }

  Json json() const override {
    const auto n_heads = static_cast<double>(subject_.n_layer * subject_.n_head);
    Json out = head_of("reconstruction", subject_);
    out["presses"] = Json::array();
    for (size_t i = 0; i < sums_.size(); ++i) {
      const Sums& s = sums_[i];
      Json press = label_of(subject_.presses[i], subject_);
      const auto set = [&](const char* name, double sum) { press[name] = rounded(sum / n_heads, 6); };
      set("qk", s.loss.qk);
      set("qk_relative", s.relative.qk);
      set("output", s.loss.output);
      set("output_relative", s.relative.output);
      set("output_zeroed", s.loss.output_zeroed);
      set("output_zeroed_relative", s.relative.output_zeroed);
      set("bound", s.loss.bound);
      press["most_of_bound"] = rounded(s.most_of_bound, 6);
      for (const double x : s.output_by_layer) press["output_relative_by_layer"].push_back(rounded(x));
      out["presses"].push_back(std::move(press));
    }
    const auto n_kv = static_cast<double>(subject_.n_layer * subject_.n_head_kv);
    out["low_rank"] = Json::array();
    for (const auto& [removed, l] : low_rank_) {
      out["low_rank"].push_back({{"compression_ratio", removed},
                                 {"rank", rank_at(removed, rank_)},
                                 {"keys_svd", rounded(l.keys_svd / n_kv)},
                                 {"keys_cur", rounded(l.keys_cur / n_kv)},
                                 {"values_svd", rounded(l.values_svd / n_kv)},
                                 {"values_cur", rounded(l.values_cur / n_kv)}});
    }
    return out;
  }

 private:
  // Of d dimensions, as large a share as is kept of the tokens.
  static int64_t rank_at(double removed, int64_t d) {
    return std::clamp<int64_t>(std::lround((1 - removed) * static_cast<double>(d)), 1, d);
  }

  // Keys and values have no more than d directions, so that fewer than d rows are what tells methods apart.
  Result<void> add_low_rank(const LayerRows& rows) {
    rank_ = std::min({rows.d_k, rows.d_v, rows.n_tokens});
    std::vector<int64_t> ranks;
    for (const auto& [removed, sum] : low_rank_) ranks.push_back(rank_at(removed, rank_));
    std::vector<Result<std::vector<LowRank>>> heads(static_cast<size_t>(rows.n_head_kv),
                                                    std::vector<LowRank>());
    const auto of_head = [&](int64_t h) { heads[static_cast<size_t>(h)] = low_rank(rows, h, ranks); };
    if (!parallel_for(subject_.n_threads, rows.n_head_kv, subject_.stop, of_head))
      return Error{ErrorCode::cancelled, "interrupted"};
    for (const auto& head : heads) {
      CURDKV_TRY(const std::vector<LowRank> parts, head);
      auto part = parts.begin();
      for (auto& [removed, sum] : low_rank_) {
        sum.keys_svd += part->keys_svd;
        sum.keys_cur += part->keys_cur;
        sum.values_svd += part->values_svd;
        sum.values_cur += part->values_cur;
        ++part;
      }
    }
    return {};
  }

  std::vector<Sums> sums_;              // of each press
  std::map<double, LowRank> low_rank_;  // sums over KV heads, by ratio
  int64_t rank_ = 0;                    // the full one
};

}  // namespace

std::unique_ptr<Figure> make_reconstruction(const Subject& subject) {
  return std::make_unique<ReconstructionFigure>(subject);
}

}  // namespace curdkv::analysis
