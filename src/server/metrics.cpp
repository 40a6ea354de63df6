#include "server/metrics.h"

#include "base/format.h"

namespace curdkv::server {
namespace {

constexpr double kFirst[] = {0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300};
constexpr double kBetween[] = {0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 5};

void head(std::string& out, const char* name, const char* type, const char* help) {
  out += format("# HELP curdkv:%s %s\n# TYPE curdkv:%s %s\n", name, help, name, type);
}

void write(std::string& out, const char* type, const char* name, const char* help, double value) {
  head(out, name, type, help);
  out += format("curdkv:%s %.17g\n", name, value);
}

}  // namespace

void Histogram::observe(double seconds) {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < bounds_.size(); ++i) counts_[i] += seconds <= bounds_[i] ? 1 : 0;
  ++n_;
  sum_ += seconds;
}

void Histogram::write(std::string& out, const char* name, const char* help) const {
  const std::lock_guard lock(mutex_);
  head(out, name, "histogram", help);
  for (size_t i = 0; i < bounds_.size(); ++i) {
    out += format("curdkv:%s_bucket{le=\"%g\"} %llu\n", name, bounds_[i],
                  static_cast<unsigned long long>(counts_[i]));
  }
  const auto n = static_cast<unsigned long long>(n_);
  out += format("curdkv:%s_bucket{le=\"+Inf\"} %llu\ncurdkv:%s_sum %.17g\ncurdkv:%s_count %llu\n", name, n,
                name, sum_, name, n);
}

Metrics::Metrics() : first_token(kFirst), between_tokens(kBetween), queue(kFirst), reading(kFirst) {}

std::string Metrics::text() const {
  std::string out;
  const auto counter = [&](const char* name, const char* help, double value) {
    write(out, "counter", name, help, value);
  };
  const auto gauge = [&](const char* name, const char* help, double value) {
    write(out, "gauge", name, help, value);
  };
  const auto n = [](const std::atomic<uint64_t>& x) { return static_cast<double>(x.load()); };
  const auto now = [](const std::atomic<int64_t>& x) { return static_cast<double>(x.load()); };
  counter("prompt_tokens_total", "Tokens of prompts, those found in contexts included.", n(prompt_tokens));
  counter("prompt_tokens_cached_total", "Of these, found in contexts and earlier prompts.", n(cached_tokens));
  counter("prompt_seconds_total", "Time to answers' first tokens.", prompt_seconds.load());
  counter("tokens_predicted_total", "Tokens generated.", n(predicted_tokens));
  counter("tokens_predicted_seconds_total", "Time of those after the first.", predicted_seconds.load());
  counter("n_decode_total", "Steps that decoded.", n(decode_steps));
  gauge("n_busy_slots_per_decode", "Answers that a step went on with, on average.",
        n(decode_steps) > 0 ? n(decoded_together) / n(decode_steps) : 0);
  counter("context_tokens_read_total", "Tokens read into contexts.", n(context_tokens_read));
  counter("rows_evicted_total", "Rows of KV heads that presses let go.", n(rows_full) - n(rows_kept));
  counter("context_hits_total", "Prompts that began with a context at hand.", n(context_hits));
  counter("context_misses_total", "Prompts whose context had to be read.", n(context_misses));
  counter("contexts_evicted_total", "Contexts that left the memory.", n(contexts_evicted));
  gauge("context_bytes", "Keys and values of contexts in memory.", now(context_bytes));
  gauge("contexts_in_memory", "Contexts in memory.", now(contexts_in_memory));
  counter("requests_total", "Requests that asked for work of the model.", n(requests));
  counter("requests_refused_total", "Of these, refused as the queue was full.", n(refused));
  counter("requests_cancelled_total", "Of these, left by their clients.", n(cancelled));
  counter("requests_failed_total", "Of these, ended by an error.", n(failed));
  gauge("requests_processing", "Requests at work.", now(processing));
  gauge("requests_deferred", "Requests that wait.", now(waiting));
  first_token.write(out, "time_to_first_token_seconds", "From a request's arrival to its first token.");
  between_tokens.write(out, "inter_token_seconds", "Between two tokens of an answer.");
  queue.write(out, "queue_seconds", "From a request's arrival to the beginning of work on it.");
  reading.write(out, "context_read_seconds", "Reading a context.");
  return out;
}

}  // namespace curdkv::server
