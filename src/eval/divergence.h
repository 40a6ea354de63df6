// How far one prediction is from another.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace curdkv::eval {

inline std::vector<double> log_softmax(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - max);
  const double norm = max + std::log(sum);
  std::vector<double> out;
  out.reserve(logits.size());
  for (const float x : logits) out.push_back(x - norm);
  return out;
}

// KL divergence of q from p, logs of probabilities both; nats.
inline double divergence(std::span<const double> p, std::span<const double> q) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i]) * (p[i] - q[i]);
  return sum;
}

}  // namespace curdkv::eval
