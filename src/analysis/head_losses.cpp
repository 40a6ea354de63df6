#include "analysis/head_losses.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/try.h"
#include "engine/layer_observer.h"
#include "eval/divergence.h"

namespace curdkv::analysis {
namespace {

constexpr int64_t kFirst = 4;       // tokens that a head never loses
constexpr int64_t kLastShare = 20;  // nor this part of them at the end
constexpr int64_t kReferences = 512;

// What every row of a context is worth to ByteShare: [layer][KV head][token].
class RowWorths : public LayerObserver {
 public:
  ScorerNeeds needs() const override { return {.n_queries = ScorerNeeds::kAll, .each_query = true}; }
  Result<void> observe(int64_t, ModelLayerView& layer) override {
    CURDKV_TRY(const Scores worth, layer.reference_worth(kReferences));
    auto& heads = layers.emplace_back();
    for (int64_t h = 0; h < layer.n_head_kv; ++h) {
      const auto row = worth.row(h);
      heads.emplace_back(row.begin(), row.end());
    }
    return {};
  }

  std::vector<std::vector<std::vector<float>>> layers;
};

// The answer's predictions, behind question and answer, as logs: [token][n_vocab].
using Predictions = std::vector<std::vector<double>>;

Result<Predictions> predict(Executor& executor, Sequence sequence, std::span<const Token> question,
                            std::span<const Token> answer) {
  CURDKV_CHECK(executor.extend(sequence, question));
  Predictions out = {eval::log_softmax(sequence.logits())};
  if (answer.size() > 1) {
    CURDKV_CHECK(executor.extend(
        sequence, answer.first(answer.size() - 1),
        [&](int64_t, std::span<const float> logits) { out.push_back(eval::log_softmax(logits)); }));
  }
  return out;
}

double mean_divergence(const Predictions& p, const Predictions& q) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += eval::divergence(p[i], q[i]);
  return sum / static_cast<double>(p.size());
}

void add_to(PerHead& sums, const PerHead& some, double factor) {
  for (size_t il = 0; il < some.size(); ++il) {
    sums.resize(some.size());
    sums[il].resize(some[il].size());
    for (size_t h = 0; h < some[il].size(); ++h) sums[il][h] += factor * some[il][h];
  }
}

double sum_of(const PerHead& x) {
  double sum = 0;
  for (const auto& layer : x) sum = std::accumulate(layer.begin(), layer.end(), sum);
  return sum;
}

}  // namespace

Result<HeadLosses> measure_head_losses(Executor& executor, const Engine& engine,
                                       std::span<const Lookup> lookups, const Progress& progress) {
  HeadLosses out;
  double n_lost = 0;
  for (size_t i = 0; i < lookups.size(); ++i) {
    const Lookup& l = lookups[i];
    CURDKV_TRY(const std::vector<Token> context, engine.prompt().context(l.context));
    CURDKV_TRY(const std::vector<Token> question, engine.prompt().question(l.question, l.answer_prefix));
    CURDKV_TRY(const std::vector<Token> answer, engine.tokenizer().tokenize(l.answer, false, false));
    Sequence full = executor.sequence();
    RowWorths worths;
    ReadOptions options;
    options.observer = &worths;
    CURDKV_CHECK(executor.read(full, context, Press(), options));
    CURDKV_TRY(const Predictions expected, predict(executor, full.fork(), question, answer));
    const int64_t n = std::ssize(context), n_out = std::max<int64_t>(0, n - kFirst - n / kLastShare);
    PerHead loss, worth;
    for (size_t il = 0; il < worths.layers.size(); ++il) {
      loss.emplace_back();
      worth.emplace_back();
      for (size_t h = 0; h < worths.layers[il].size(); ++h) {
        CURDKV_TRY(Sequence less, full.without_rows(static_cast<int64_t>(il), static_cast<int64_t>(h),
                                                    std::min(kFirst, n), n_out));
        CURDKV_TRY(const Predictions got, predict(executor, std::move(less), question, answer));
        loss[il].push_back(std::max(0.0, mean_divergence(expected, got)));
        const auto first = worths.layers[il][h].begin() + std::min(kFirst, n);
        worth[il].push_back(std::inner_product(first, first + n_out, first, 0.0));
      }
      if (progress) {
        progress(static_cast<int64_t>(i * worths.layers.size() + il + 1),
                 static_cast<int64_t>(lookups.size() * worths.layers.size()));
      }
    }
    const double all = sum_of(loss);
    n_lost += all;
    add_to(out.loss, loss, all > 0 ? 1 / (all * static_cast<double>(lookups.size())) : 0);
    add_to(out.worth, worth, 1 / static_cast<double>(lookups.size()));
  }
  if (!(n_lost > 0)) {
    return Error{ErrorCode::bad_input, "no answer depends on any KV head: there is nothing to weigh"};
  }
  return out;
}

std::vector<std::vector<float>> head_weights_of(const HeadLosses& losses) {
  // A loss that is not told from none weighs as a thousandth of the mean does.
  size_t n_heads = 0;
  for (const auto& layer : losses.loss) n_heads += layer.size();
  const double least_loss = 1e-3 * sum_of(losses.loss) / static_cast<double>(n_heads);
  const double least_worth = 1e-6 * sum_of(losses.worth) / static_cast<double>(n_heads) + 1e-30;
  std::vector<std::vector<float>> out;
  std::vector<float> all;
  for (size_t il = 0; il < losses.loss.size(); ++il) {
    out.emplace_back();
    for (size_t h = 0; h < losses.loss[il].size(); ++h) {
      const double loss = losses.loss[il][h] + least_loss, worth = losses.worth[il][h] + least_worth;
      out[il].push_back(static_cast<float>(std::pow(loss, 0.75) / std::pow(worth, 0.25)));
      all.push_back(out[il][h]);
    }
  }
  const auto middle = all.begin() + std::ssize(all) / 2;
  std::nth_element(all.begin(), middle, all.end());
  for (auto& layer : out) {
    for (float& w : layer) w /= *middle;
  }
  return out;
}

}  // namespace curdkv::analysis
