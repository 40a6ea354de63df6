// How far logits are from expected ones, position by position.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

namespace curdkv::testing {

inline std::vector<double> log_softmax(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - max);
  std::vector<double> p(logits.size());
  for (size_t i = 0; i < p.size(); ++i) p[i] = logits[i] - max - std::log(sum);
  return p;
}

// Kullback-Leibler divergence of distributions from expected ones, and how often the likeliest tokens agree.
struct Agreement {
  double kl = 0;
  int64_t n = 0, n_agree = 0;
  void add(std::span<const float> expected, std::span<const float> got) {
    const auto p = log_softmax(expected), q = log_softmax(got);
    for (size_t i = 0; i < p.size(); ++i) kl += std::exp(p[i]) * (p[i] - q[i]);
    const auto best = [](const auto& x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    n_agree += best(p) == best(q);
    ++n;
  }
  double mean_kl() const { return kl / static_cast<double>(n); }
  double agreement() const { return static_cast<double>(n_agree) / static_cast<double>(n); }
  void print(const char* what) const {
    std::printf("%-50s mean KL divergence %.2g, top-1 agreement %.2f %%\n", what, mean_kl(),
                100 * agreement());
  }
};

}  // namespace curdkv::testing
