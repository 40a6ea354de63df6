// A sequence's logits against expected ones, by the way they were computed.
#pragma once

#include <algorithm>

#include "support/one_sequence.h"

namespace curdkv::testing {

// The largest difference in each stage.
struct Stages {
  double prefill = 0, extend = 0, decode = 0;
};

// Reads tokens in all three ways: 200 as a context, 70 in one go and the rest one at a time, at least 271.
// expected: logits after every token. difference(got, expected) as largest_difference().
template <typename Difference>
Stages compare_stages(OneSequence& session, std::span<const Token> tokens,
                      const std::vector<std::vector<float>>& expected, const Difference& difference) {
  Stages worst;
  const auto sink_of = [&](double& most) -> LogitsSink {
    return [&](int64_t position, std::span<const float> logits) {
      most = std::max(most, difference(logits, expected[static_cast<size_t>(position)]));
    };
  };
  ReadOptions options;
  options.logits = sink_of(worst.prefill);
  must(session.read(tokens.first(200), Press(), options));
  must(session.extend(tokens.subspan(200, 70), sink_of(worst.extend)));
  for (size_t i = 270; i < tokens.size(); ++i) {
    must(session.extend(tokens.subspan(i, 1)));
    worst.decode = std::max(worst.decode, difference(session.logits(), expected[i]));
  }
  return worst;
}

}  // namespace curdkv::testing
