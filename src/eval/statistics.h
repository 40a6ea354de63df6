// Intervals and tests over scores.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace curdkv::eval {

struct Interval {
  double mean = 0, low = 0, high = 0;
};

// Mean over groups of the mean within each, and its 95 % bootstrap interval: percentiles over 2,000 resamples
// of every group's values; seeded, so the same values give the same interval. Groups must not be empty.
Interval bootstrap(std::span<const std::vector<double>> groups);

// Friedman's test (scipy.stats.friedmanchisquare) with its mean ranks, and Nemenyi's comparison of all pairs
// (Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006).
struct Friedman {
  size_t n_blocks = 0, n_methods = 0;
  double statistic = 0, p_value = 1;          // corrected for ties; chi-squared with n_methods - 1 degrees
  std::vector<double> mean_ranks;             // 1 = best
  double critical_difference = 0;             // of mean ranks, at 5 %
  std::vector<std::vector<double>> pairwise;  // Nemenyi's p-values
};

// values[block][method], larger = better. Nothing for fewer than two blocks or two methods.
std::optional<Friedman> friedman(std::span<const std::vector<double>> values);

// Spearman's rank correlation of as many values, at least two; equal values share the mean of their ranks. 0
// if all values of one are equal. (scipy.stats.spearmanr)
double spearman(std::span<const double> a, std::span<const double> b);

// P(Q <= q) for the studentised range of k normal variables, infinite degrees of freedom.
double studentized_range_cdf(double q, size_t k);

}  // namespace curdkv::eval
