#include "eval/ruler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "base/try.h"

namespace curdkv::eval {

enum class Hay { noise, essay, needles };
enum class DrawnKind { word, number, uuid };
using Kind = DrawnKind;

struct RulerTask {
  std::string_view name;
  Hay hay;
  Kind key, value;
  size_t n_keys, n_values, n_queries;
};

namespace {

constexpr RulerTask kTasks[] = {
    {"niah_single_1", Hay::noise, Kind::word, Kind::number, 1, 1, 1},
    {"niah_single_2", Hay::essay, Kind::word, Kind::number, 1, 1, 1},
    {"niah_single_3", Hay::essay, Kind::word, Kind::uuid, 1, 1, 1},
    {"niah_multikey_1", Hay::essay, Kind::word, Kind::number, 4, 1, 1},
    {"niah_multikey_2", Hay::needles, Kind::word, Kind::number, 1, 1, 1},
    {"niah_multikey_3", Hay::needles, Kind::uuid, Kind::uuid, 1, 1, 1},
    {"niah_multiquery", Hay::essay, Kind::word, Kind::number, 4, 1, 4},
    {"niah_multivalue", Hay::essay, Kind::word, Kind::number, 1, 4, 1},
};

constexpr int64_t kAnswerTokens = 128;
constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) out += (i > 0 ? between : "") + parts[i];
  return out;
}

// "k1, k2, k3, and k4"
std::string enumerate(std::vector<std::string> keys) {
  if (keys.size() == 1) return keys[0];
  keys.back() = "and " + keys.back();
  return join(keys, ", ");
}

std::string_view plural(Kind kind) {
  return kind == Kind::uuid ? "uuids" : "numbers";
}

std::string needle(Kind kind, const std::string& key, const std::string& value) {
  return "One of the special magic " + std::string(plural(kind)) + " for " + key + " is: " + value + ".";
}

// The 40 depths in percent that essays take needles at, evenly from 0 to 100 and rounded.
size_t depth_at(size_t i) {
  return static_cast<size_t>(std::nearbyint(static_cast<double>(i) * 100.0 / 39.0));
}

std::string uuid_of(std::array<uint32_t, 4> words) {
  words[2] = (words[2] & 0xffff0fffu) | 0x4000u;      // version 4
  words[1] = (words[1] & 0x3fffffffu) | 0x80000000u;  // variant of RFC 4122
  char out[40];
  std::snprintf(out, sizeof out, "%08x-%04x-%04x-%04x-%04x%08x", words[3], words[2] >> 16, words[2] & 0xffff,
                words[1] >> 16, words[1] & 0xffff, words[0]);
  return out;
}

}  // namespace

RulerGenerator::RulerGenerator(const RulerTask& task, const RulerSettings& settings, const Haystack& haystack,
                               const WordList& words, CountTokens count)
    : task_(&task),
      settings_(settings),
      haystack_(&haystack),
      words_(&words),
      count_(std::move(count)),
      random_(settings.seed),
      step_(task.hay == Hay::essay       ? 500
            : settings.max_tokens < 4096 ? 5
                                         : 25) {}

Result<RulerGenerator> RulerGenerator::create(std::string_view task, const RulerSettings& settings,
                                              const Haystack& haystack, const WordList& words,
                                              CountTokens count) {
  CURDKV_TRY(RulerGenerator out, resume(task, settings, haystack, words, std::move(count), 0, 0));
  CURDKV_CHECK(settings.rules == RulerRules::v1 ? out.find_size_v1() : out.find_size_v2());
  // Where the original's smallest haystack is too large, which it cannot handle, smaller ones are tried.
  if (out.size_ == 0) CURDKV_CHECK(out.search(1, out.step_ - 1));
  if (out.size_ == 0) return out.too_few_tokens();
  return out;
}

Result<RulerGenerator> RulerGenerator::resume(std::string_view task, const RulerSettings& settings,
                                              const Haystack& haystack, const WordList& words,
                                              CountTokens count, int64_t size, int64_t n_sizing) {
  for (const RulerTask& t : kTasks) {
    if (t.name != task) continue;
    RulerGenerator out(t, settings, haystack, words, std::move(count));
    // The sizes of the original's tries matter only where they decide how much is drawn.
    for (int64_t i = 1; i <= n_sizing; ++i) out.make(i * out.step_);
    out.size_ = size;
    return out;
  }
  return Error{ErrorCode::bad_argument, "RULER has no needle task '" + std::string(task) + "'"};
}

std::string RulerGenerator::draw(Kind kind) {
  if (kind == Kind::uuid) return uuid_of(random_.bits_128());
  if (kind == Kind::word) return words_->at(random_.below(words_->size()));
  return std::to_string(random_.between(1000000, 9999999));
}

std::string RulerGenerator::essay(const std::vector<std::string>& needles, int64_t size) {
  if (settings_.rules == RulerRules::v1) size = std::min(size, haystack_->n_words());  // never repeats
  const std::vector<std::string> sentences = haystack_->sentences(size);
  depths_.clear();
  for (size_t i : random_.sample(40, needles.size())) depths_.push_back(depth_at(i));
  std::sort(depths_.begin(), depths_.end());
  std::vector<std::string> parts;
  size_t from = 0;
  const auto sentences_until = [&](size_t end) {
    parts.push_back(join({sentences.begin() + static_cast<std::ptrdiff_t>(from),
                          sentences.begin() + static_cast<std::ptrdiff_t>(end)},
                         " "));
    from = end;
  };
  for (size_t i = 0; i < needles.size(); ++i) {
    const double depth = static_cast<double>(depths_[i]) / 100;
    sentences_until(static_cast<size_t>(static_cast<double>(sentences.size()) * depth));
    parts.push_back(needles[i]);
  }
  sentences_until(sentences.size());
  return join(parts, " ");
}

std::string RulerGenerator::lines(const std::vector<std::string>& needles, int64_t size) {
  std::vector<std::string> out(static_cast<size_t>(size), kNoise);
  if (task_->hay == Hay::needles) {
    for (std::string& line : out) {
      const std::string key = draw(task_->key);
      line = needle(task_->value, key, draw(task_->value));
    }
  }
  depths_ = random_.sample(out.size(), needles.size());
  std::sort(depths_.rbegin(), depths_.rend());
  for (size_t i = 0; i < needles.size(); ++i) {
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(depths_[i]), needles[i]);
  }
  return join(out, "\n");
}

Sample RulerGenerator::make(int64_t size) {
  std::vector<std::string> keys, needles;
  std::vector<std::vector<std::string>> values(task_->n_keys);
  for (auto& of_key : values) {
    keys.push_back(draw(task_->key));
    for (size_t v = 0; v < task_->n_values; ++v) {
      of_key.push_back(draw(task_->value));
      needles.push_back(needle(task_->value, keys.back(), of_key.back()));
    }
  }
  PythonRandom(settings_.seed).shuffle(needles);
  const std::string hay = task_->hay == Hay::essay ? essay(needles, size) : lines(needles, size);

  Sample out;
  out.task = task_->name;
  std::vector<std::string> queries;
  for (size_t k : random_.sample(task_->n_keys, task_->n_queries)) {
    queries.push_back(keys[k]);
    out.references.insert(out.references.end(), values[k].begin(), values[k].end());
  }
  const bool one = out.references.size() == 1;
  const std::string kind(one ? plural(task_->value).substr(0, plural(task_->value).size() - 1)
                             : plural(task_->value));
  const std::string are = one ? "is" : "are", about = "special magic " + kind,
                    asked = about + " for " + enumerate(queries) + " mentioned in the provided text";
  out.context = (one ? "A " : "Some ") + about + " " + are +
                " hidden within the following text. Make sure to memorize it. I will quiz you about the " +
                kind + " afterwards.\n" + hay + "\n";
  out.question = "What " + are + (one ? " the " : " all the ") + asked + "? ";
  out.answer_prefix = "The " + asked + " " + are;
  return out;
}

Result<int64_t> RulerGenerator::count_of(int64_t size, bool with_answers) {
  const Sample s = make(size);
  return count_(s.context + s.question + s.answer_prefix + (with_answers ? join(s.references, " ") : ""));
}

Result<void> RulerGenerator::find_size_v1() {
  for (int64_t size = step_;; size += step_) {
    CURDKV_TRY(const int64_t n, count_of(size, true));
    if (n + kAnswerTokens > settings_.max_tokens) {
      size_ = size - step_;
      break;
    }
    if (task_->hay == Hay::essay && size > haystack_->n_words()) {
      size_ = haystack_->n_words();
      break;
    }
    if (n + kAnswerTokens == settings_.max_tokens) {
      size_ = size + step_;  // the original's loop ends here, one step too far; next() steps back
      break;
    }
  }
  return {};
}

Result<void> RulerGenerator::find_size_v2() {
  CURDKV_TRY(const int64_t n_first, count_of(step_, false));
  const double per_unit = static_cast<double>(n_first) / static_cast<double>(step_);
  const auto high = static_cast<int64_t>(static_cast<double>(settings_.max_tokens) / per_unit * 3);
  return search(step_, std::max(high, 2 * step_));
}

// The largest size from low to high that fits, if any does.
Result<void> RulerGenerator::search(int64_t low, int64_t high) {
  while (low <= high) {
    const int64_t middle = (low + high) / 2;
    CURDKV_TRY(const int64_t n, count_of(middle, false));
    if (n + kAnswerTokens <= settings_.max_tokens) {
      size_ = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  return {};
}

Error RulerGenerator::too_few_tokens() const {
  return {ErrorCode::bad_argument, std::to_string(settings_.max_tokens) + " tokens are too few for " +
                                       std::string(task_->name) + " and the 128 of its answer"};
}

Result<Sample> RulerGenerator::next() {
  for (int64_t size = size_; size > 0; size = size > step_ ? size - step_ : size * 9 / 10) {
    Sample sample = make(size);
    CURDKV_TRY(const int64_t n, count_(sample.context + sample.question + sample.answer_prefix));
    if (n + kAnswerTokens <= settings_.max_tokens) {
      sample.index = n_made_++;
      sample.origin = sample.task + " " + std::to_string(sample.index);
      return sample;
    }
  }
  return too_few_tokens();
}

}  // namespace curdkv::eval
