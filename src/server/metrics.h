// What the server counts, in Prometheus's text format at /metrics; names follow llama.cpp's, with a prefix of
// our own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

namespace curdkv::server {

// Observations in seconds, by upper bounds.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds) {}
  void observe(double seconds);
  void write(std::string& out, const char* name, const char* help) const;

 private:
  static constexpr size_t kMost = 16;
  std::span<const double> bounds_;
  mutable std::mutex mutex_;
  std::array<uint64_t, kMost> counts_ = {};
  uint64_t n_ = 0;
  double sum_ = 0;
};

class Metrics {
 public:
  Metrics();
  std::string text() const;

  std::atomic<uint64_t> prompt_tokens = 0, cached_tokens = 0, predicted_tokens = 0, context_tokens_read = 0;
  std::atomic<uint64_t> rows_full = 0, rows_kept = 0;  // of contexts read: of all heads and layers
  std::atomic<uint64_t> decode_steps = 0, decoded_together = 0;
  std::atomic<uint64_t> context_hits = 0, context_misses = 0, contexts_evicted = 0;
  std::atomic<uint64_t> requests = 0, refused = 0, cancelled = 0, failed = 0;
  std::atomic<int64_t> processing = 0, waiting = 0;  // now
  std::atomic<int64_t> context_bytes = 0, contexts_in_memory = 0;
  std::atomic<double> prompt_seconds = 0, predicted_seconds = 0;

  Histogram first_token, between_tokens, queue, reading;
};

}  // namespace curdkv::server
