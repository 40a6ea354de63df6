#include "eval/ruler_sizing.h"

#include <algorithm>

#include "base/try.h"

namespace curdkv::eval {

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) out += (i > 0 ? between : "") + parts[i];
  return out;
}

std::string prompt_of(const Sample& sample) {
  return sample.context + sample.question + sample.answer_prefix;
}

std::string python_list(const std::vector<std::string>& items) {
  std::string out = "[";
  for (size_t i = 0; i < items.size(); ++i) {
    const char quote = items[i].find('\'') == std::string::npos ? '\'' : '"';
    out += i > 0 ? ", " : "";
    out += quote;
    out += items[i];
    out += quote;
  }
  return out + "]";
}

Result<void> SizedGenerator::find_size() {
  if (settings_.rules == RulerRules::v1) {
    CURDKV_CHECK(find_size_v1());
  } else {
    CURDKV_TRY(const int64_t high, largest_tried());
    CURDKV_CHECK(search(sizing_.step, std::max(high, 2 * sizing_.step)));
  }
  // Where the original's smallest prompt is too large, which it cannot handle, smaller ones are tried.
  if (size_ < sizing_.least) CURDKV_CHECK(search(sizing_.least, sizing_.step - 1));
  if (size_ < sizing_.least) return too_few_tokens();
  return {};
}

Result<void> SizedGenerator::find_size_v1() {
  for (int64_t size = sizing_.step;; size += sizing_.step) {
    const Sample sample = make(size, 0);
    CURDKV_TRY(int64_t n, count_(prompt_of(sample) + sizing_.before_answers + counted_answers(sample)));
    n += sizing_.example_tokens + sizing_.answer_tokens;
    if (n > sizing_.max_tokens) {
      size_ = size - sizing_.step;
      break;
    }
    if (size + (sizing_.beyond_most ? 0 : sizing_.step) > sizing_.most) {
      size_ = sizing_.most;
      break;
    }
    if (n == sizing_.max_tokens) {
      size_ = size + sizing_.step;  // the original's loop ends here, one step too far; next() steps back
      break;
    }
  }
  return {};
}

Result<double> SizedGenerator::tokens_per_unit(int64_t size) {
  CURDKV_TRY(const int64_t n, count_(prompt_of(make(size, 0))));
  return static_cast<double>(n) / static_cast<double>(size);
}

Result<int64_t> SizedGenerator::largest_tried() {
  CURDKV_TRY(const double per_unit, tokens_per_unit(sizing_.step));
  return static_cast<int64_t>(static_cast<double>(sizing_.max_tokens) / per_unit * 3);
}

Result<bool> SizedGenerator::fits_when_sized(int64_t size) {
  if (size > sizing_.most) return false;
  CURDKV_TRY(const int64_t n, count_(prompt_of(make(size, 0))));
  return n + sizing_.example_tokens + sizing_.answer_tokens <= sizing_.max_tokens;
}

// The largest size from low to high that fits, if any does.
Result<void> SizedGenerator::search(int64_t low, int64_t high) {
  while (low <= high) {
    const int64_t middle = (low + high) / 2;
    CURDKV_TRY(const bool fits, fits_when_sized(middle));
    if (fits) {
      size_ = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  return {};
}

Result<Sample> SizedGenerator::next() {
  if (n_made_ >= most_samples()) return Error{ErrorCode::bad_argument, task_ + " has no more samples"};
  // The original tries its smallest size for ever.
  constexpr int kMostTries = 100;
  const bool v1 = settings_.rules == RulerRules::v1;  // which counts the example alone
  int64_t size = size_;
  for (int i = 0; i < kMostTries; ++i) {
    Sample sample = make(size, n_made_);
    if (!v1) add_example(sample);
    CURDKV_TRY(const int64_t n, count_(prompt_of(sample)));
    if (n + (v1 ? sizing_.example_tokens : 0) + sizing_.answer_tokens <= sizing_.max_tokens) {
      if (v1) add_example(sample);
      return numbered(std::move(sample));
    }
    const int64_t smaller = size - sizing_.step;
    size = std::max(smaller >= sizing_.least ? smaller : size * 9 / 10, sizing_.least);
  }
  return too_few_tokens();
}

}  // namespace curdkv::eval
