#include "server/answer.h"

#include <algorithm>
#include <cmath>

#include "base/guard.h"
#include "base/try.h"

namespace curdkv::server {

std::string StopTexts::push(std::string_view text) {
  held_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : texts_) {
    const size_t at = held_.find(stop);
    if (at < first) {
      first = at;
      found_ = stop;
    }
  }
  size_t n_shown = held_.size();
  if (first != std::string::npos) {
    n_shown = first;
  } else {
    for (const std::string& stop : texts_) {
      for (size_t n = std::min(stop.size() - 1, held_.size()); n > 0; --n) {
        if (!held_.ends_with(std::string_view(stop).substr(0, n))) continue;
        n_shown = std::min(n_shown, held_.size() - n);
        break;
      }
    }
  }
  std::string shown = held_.substr(0, n_shown);
  held_.erase(0, n_shown);
  return shown;
}

std::string StopTexts::flush() {
  return found_.empty() ? std::move(held_) : std::string();
}

TokenProb probability(std::span<const float> logits, Token token, int n_top) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x - most));
  const double norm = most + std::log(sum);
  const auto log_of = [&](Token t) { return static_cast<float>(logits[static_cast<size_t>(t)] - norm); };
  TokenProb out = {token, log_of(token), {}};
  if (n_top <= 0) return out;
  std::vector<Token> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<Token>(i);
  const auto n = std::min<std::ptrdiff_t>(n_top, std::ssize(order));
  // Of equal ones the first, so that the list is the same everywhere.
  std::partial_sort(order.begin(), order.begin() + n, order.end(), [&](Token a, Token b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (std::ptrdiff_t i = 0; i < n; ++i)
    out.top.emplace_back(order[static_cast<size_t>(i)], log_of(order[static_cast<size_t>(i)]));
  return out;
}

Answer::Answer(TaskPtr task, int choice, Sampler sampler, Sequence sequence)
    : task_(std::move(task)),
      choice_(choice),
      sampler_(std::move(sampler)),
      sequence_(std::move(sequence)),
      stops_(task_->stops) {}

Result<Answer> Answer::begin(const TaskPtr& task, int choice, const Tokenizer& tokenizer, Sequence sequence) {
  SamplingParams sampling = task->sampling;
  sampling.seed += static_cast<uint32_t>(choice);
  CURDKV_TRY(Sampler sampler, Sampler::create(sampling, tokenizer, task->constraint));
  return Answer(task, choice, std::move(sampler), std::move(sequence));
}

void Answer::tell(const std::string& text) {
  if (text.empty() && probs_.empty()) return;
  task_->events.push(
      {.kind = Event::Kind::text, .choice = choice_, .text = text, .probs = std::move(probs_)});
  probs_.clear();
}

void Answer::end(const char* finish) {
  over_ = true;
  next_.reset();
  tell(stops_.push(utf8_.flush()) + stops_.flush());
  task_->events.push(
      {.kind = Event::Kind::choice_done, .choice = choice_, .finish = finish, .stopped_by = stops_.found()});
}

Result<void> Answer::choose(const Tokenizer& tokenizer, int64_t n_ctx) {
  next_.reset();
  const int64_t most = task_->n_predict;
  if (most >= 0 && n_tokens_ >= most) {
    end("length");
    return {};
  }
  const std::span<const float> logits = sequence_.logits();
  Token token = 0;
  CURDKV_CHECK(guarded([&] { token = sampler_.sample(logits); }));
  if (tokenizer.ends_generation(token)) {
    end("stop");
    return {};
  }
  ++n_tokens_;
  if (task_->n_top >= 0) probs_.push_back(probability(logits, token, task_->n_top));
  const bool shown = std::find(task_->shown.begin(), task_->shown.end(), token) != task_->shown.end();
  const std::string text = stops_.push(utf8_.push(tokenizer.piece(token, shown)));
  if (!text.empty()) tell(text);
  if (!stops_.found().empty()) {
    end("stop");
  } else if (n_tokens_ == most || sequence_.next_position() >= n_ctx) {
    end("length");
  } else {
    next_ = token;
  }
  return {};
}

}  // namespace curdkv::server
