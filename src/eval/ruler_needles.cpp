// The eight needle tasks (niah.py).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "eval/ruler_tasks.h"

namespace curdkv::eval {

enum class Hay { noise, essay, needles };
enum class DrawnKind { word, number, uuid };
using Kind = DrawnKind;

struct NeedleTask {
  std::string_view name;
  Hay hay;
  Kind key, value;
  size_t n_keys, n_values, n_queries;
};

namespace {

constexpr NeedleTask kTasks[] = {
    {"niah_single_1", Hay::noise, Kind::word, Kind::number, 1, 1, 1},
    {"niah_single_2", Hay::essay, Kind::word, Kind::number, 1, 1, 1},
    {"niah_single_3", Hay::essay, Kind::word, Kind::uuid, 1, 1, 1},
    {"niah_multikey_1", Hay::essay, Kind::word, Kind::number, 4, 1, 1},
    {"niah_multikey_2", Hay::needles, Kind::word, Kind::number, 1, 1, 1},
    {"niah_multikey_3", Hay::needles, Kind::uuid, Kind::uuid, 1, 1, 1},
    {"niah_multiquery", Hay::essay, Kind::word, Kind::number, 4, 1, 4},
    {"niah_multivalue", Hay::essay, Kind::word, Kind::number, 1, 4, 1},
};

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

NeedleGenerator::NeedleGenerator(const NeedleTask& task, const RulerSettings& settings,
                                 const RulerTexts& texts, CountTokens count)
    : SizedGenerator(task.name, settings, std::move(count)),
      shape_(&task),
      texts_(texts),
      random_(settings.seed) {
  const bool essay = task.hay == Hay::essay;
  sizing_.max_tokens = settings.max_tokens;
  sizing_.answer_tokens = answer_tokens_;
  sizing_.before_answers = "";
  sizing_.step = essay ? 500 : settings.max_tokens < 4096 ? 5 : 25;
  if (essay && settings.rules == RulerRules::v1) {  // never repeats
    sizing_.most = texts.haystack->n_words();
    sizing_.beyond_most = true;
  }
}

Result<std::unique_ptr<NeedleGenerator>> NeedleGenerator::create(std::string_view task,
                                                                 const RulerSettings& settings,
                                                                 const RulerTexts& texts, CountTokens count) {
  for (const NeedleTask& t : kTasks) {
    if (t.name == task)
      return std::unique_ptr<NeedleGenerator>(new NeedleGenerator(t, settings, texts, std::move(count)));
  }
  return Error{ErrorCode::bad_argument, "RULER's '" + std::string(task) + "' cannot be made"};
}

void NeedleGenerator::resume(int64_t size, int64_t n_sizing) {
  // The sizes of the original's tries matter only where they decide how much is drawn.
  for (int64_t i = 1; i <= n_sizing; ++i) make(i * sizing_.step, 0);
  size_ = size;
}

std::string NeedleGenerator::draw(Kind kind) {
  if (kind == Kind::uuid) return uuid_of(random_.bits_128());
  if (kind == Kind::word) return texts_.words->at(random_.below(texts_.words->size()));
  return std::to_string(random_.between(1000000, 9999999));
}

std::string NeedleGenerator::essay(const std::vector<std::string>& needles, int64_t size) {
  size = std::min(size, sizing_.most);
  const std::vector<std::string> sentences = texts_.haystack->sentences(size);
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

std::string NeedleGenerator::lines(const std::vector<std::string>& needles, int64_t size) {
  std::vector<std::string> out(static_cast<size_t>(size), kNoise);
  if (shape_->hay == Hay::needles) {
    for (std::string& line : out) {
      const std::string key = draw(shape_->key);
      line = needle(shape_->value, key, draw(shape_->value));
    }
  }
  depths_ = random_.sample(out.size(), needles.size());
  std::sort(depths_.rbegin(), depths_.rend());
  for (size_t i = 0; i < needles.size(); ++i) {
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(depths_[i]), needles[i]);
  }
  return join(out, "\n");
}

Sample NeedleGenerator::make(int64_t size, int64_t) {
  std::vector<std::string> keys, needles;
  std::vector<std::vector<std::string>> values(shape_->n_keys);
  for (auto& of_key : values) {
    keys.push_back(draw(shape_->key));
    for (size_t v = 0; v < shape_->n_values; ++v) {
      of_key.push_back(draw(shape_->value));
      needles.push_back(needle(shape_->value, keys.back(), of_key.back()));
    }
  }
  PythonRandom(settings_.seed).shuffle(needles);
  const std::string hay = shape_->hay == Hay::essay ? essay(needles, size) : lines(needles, size);

  Sample out;
  std::vector<std::string> queries;
  for (size_t k : random_.sample(shape_->n_keys, shape_->n_queries)) {
    queries.push_back(keys[k]);
    out.references.insert(out.references.end(), values[k].begin(), values[k].end());
  }
  const bool one = out.references.size() == 1;
  const std::string kind(one ? plural(shape_->value).substr(0, plural(shape_->value).size() - 1)
                             : plural(shape_->value));
  const std::string are = one ? "is" : "are", about = "special magic " + kind,
                    asked = about + " for " + enumerate(queries) + " mentioned in the provided text";
  out.context = (one ? "A " : "Some ") + about + " " + are +
                " hidden within the following text. Make sure to memorize it. I will quiz you about the " +
                kind + " afterwards.\n" + hay + "\n";
  out.question = "What " + are + (one ? " the " : " all the ") + asked + "? ";
  out.answer_prefix = "The " + asked + " " + are;
  return out;
}

std::string NeedleGenerator::counted_answers(const Sample& sample) const {
  return join(sample.references, " ");
}

}  // namespace curdkv::eval
