#include "eval/statistics.h"

#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/quadrature/gauss_kronrod.hpp>
#include <boost/math/tools/roots.hpp>
#include <cmath>
#include <numeric>
#include <random>

namespace curdkv::eval {
namespace {

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Ranks from 1 for the largest; equal values share the mean of theirs. Adds sum(t^3 - t) over ties.
std::vector<double> ranks_of(std::span<const double> values, double& ties) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i + 1;
    while (end < order.size() && values[order[end]] == values[order[i]]) ++end;
    for (size_t j = i; j < end; ++j) ranks[order[j]] = static_cast<double>(i + end + 1) / 2;
    const auto t = static_cast<double>(end - i);
    ties += t * t * t - t;
    i = end;
  }
  return ranks;
}

void add_nemenyi(Friedman& f) {
  const auto k = static_cast<double>(f.n_methods), n = static_cast<double>(f.n_blocks);
  const double unit = std::sqrt(k * (k + 1) / (12 * n));  // of a mean rank, as the range is studentised
  f.pairwise.assign(f.n_methods, std::vector<double>(f.n_methods, 1));
  for (size_t i = 0; i < f.n_methods; ++i) {
    for (size_t j = 0; j < f.n_methods; ++j) {
      const double q = std::abs(f.mean_ranks[i] - f.mean_ranks[j]) / unit;
      f.pairwise[i][j] = 1 - studentized_range_cdf(q, f.n_methods);
    }
  }
  const auto excess = [&](double q) { return studentized_range_cdf(q, f.n_methods) - 0.95; };
  const auto close = [](double a, double b) { return b - a < 1e-9; };
  const auto [low, high] = boost::math::tools::bisect(excess, 0.1, 20.0, close);
  f.critical_difference = (low + high) / 2 * unit;
}

}  // namespace

Interval bootstrap(std::span<const std::vector<double>> groups) {
  constexpr size_t kResamples = 2000;
  std::mt19937_64 random(42);
  std::vector<double> means;
  for (size_t r = 0; r < kResamples; ++r) {
    double sum = 0;
    for (const auto& group : groups) {
      double of_group = 0;
      for (size_t i = 0; i < group.size(); ++i) of_group += group[random() % group.size()];
      sum += of_group / static_cast<double>(group.size());
    }
    means.push_back(sum / static_cast<double>(groups.size()));
  }
  std::sort(means.begin(), means.end());
  Interval out = {0, means[kResamples / 40], means[kResamples - 1 - kResamples / 40]};
  for (const auto& group : groups) out.mean += mean(group) / static_cast<double>(groups.size());
  return out;
}

double spearman(std::span<const double> a, std::span<const double> b) {
  double ties = 0;
  const std::vector<double> x = ranks_of(a, ties), y = ranks_of(b, ties);
  const double middle = static_cast<double>(x.size() + 1) / 2;  // the mean rank
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - middle) * (y[i] - middle);
    xx += (x[i] - middle) * (x[i] - middle);
    yy += (y[i] - middle) * (y[i] - middle);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

double studentized_range_cdf(double q, size_t k) {
  if (q <= 0) return 0;
  const boost::math::normal normal;
  const auto integrand = [&](double z) {
    return pdf(normal, z) * std::pow(cdf(normal, z) - cdf(normal, z - q), static_cast<double>(k) - 1);
  };
  const double integral =
      boost::math::quadrature::gauss_kronrod<double, 61>::integrate(integrand, -9.0, 9.0, 10, 1e-12);
  return std::min(1.0, static_cast<double>(k) * integral);
}

std::optional<Friedman> friedman(std::span<const std::vector<double>> values) {
  if (values.size() < 2 || values[0].size() < 2) return std::nullopt;
  Friedman f;
  f.n_blocks = values.size();
  f.n_methods = values[0].size();
  const auto k = static_cast<double>(f.n_methods), n = static_cast<double>(f.n_blocks);
  f.mean_ranks.assign(f.n_methods, 0);
  double ties = 0;
  for (const auto& block : values) {
    const std::vector<double> ranks = ranks_of(block, ties);
    for (size_t j = 0; j < f.n_methods; ++j) f.mean_ranks[j] += ranks[j] / n;
  }
  double sum = 0;
  for (const double r : f.mean_ranks) sum += (r - (k + 1) / 2) * (r - (k + 1) / 2);
  const double correction = 1 - ties / (n * k * (k * k - 1));
  if (correction > 1e-12) {  // otherwise all are equal in every block
    f.statistic = 12 * n / (k * (k + 1)) * sum / correction;
    f.p_value = cdf(complement(boost::math::chi_squared(k - 1), f.statistic));
  }
  add_nemenyi(f);
  return f;
}

}  // namespace curdkv::eval
