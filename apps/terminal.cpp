#include "terminal.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace curdkv::app {

ProgressBar::ProgressBar(std::string label, int64_t n_tokens)
    : label_(std::move(label)), n_tokens_(n_tokens), shown_(isatty(STDERR_FILENO) != 0) {}

ProgressBar::~ProgressBar() {
  if (shown_ && last_ms_ >= 0) std::fprintf(stderr, "\r\033[K");
}

void ProgressBar::update(int64_t done, int64_t total) {
  const double ms = watch_.ms();
  if (!shown_ || (done < total && ms - last_ms_ < 100)) return;
  last_ms_ = ms;
  constexpr int kWidth = 30;
  const double share = static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1));
  const int filled = static_cast<int>(share * kWidth);
  const double rate = share * static_cast<double>(n_tokens_) / std::max(ms, 1.0) * 1e3;
  const double left = share > 0 ? ms / 1e3 * (1 - share) / share : 0;
  std::fprintf(stderr, "\r%s [%s%s] %3.0f %%  %lld tokens  %.0f t/s  %.0f s left\033[K", label_.c_str(),
               std::string(static_cast<size_t>(filled), '=').c_str(),
               std::string(static_cast<size_t>(kWidth - filled), ' ').c_str(), share * 100,
               static_cast<long long>(n_tokens_), rate, left);
  std::fflush(stderr);
}

TaskProgress::TaskProgress(std::string label, std::string unit, int64_t n_total)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      n_total_(n_total),
      shown_(isatty(STDERR_FILENO) != 0) {}

TaskProgress::~TaskProgress() {
  hide();
}

void TaskProgress::hide() {
  if (shown_ && last_ms_ >= 0) std::fprintf(stderr, "\r\033[K");
  last_ms_ = -1000;
}

void TaskProgress::update(const std::string& doing, int64_t done, int64_t total) {
  draw(doing + " " + std::to_string(100 * done / std::max<int64_t>(total, 1)) + " %");
}

void TaskProgress::set_done(const std::string& doing, int64_t n_done) {
  n_done_ = n_done;
  draw(doing);
}

void TaskProgress::draw(const std::string& doing) {
  const double ms = watch_.ms();
  if (!shown_ || ms - last_ms_ < 100) return;
  last_ms_ = ms;
  std::string left = "?";
  if (n_done_ > 0) {
    const auto minutes = static_cast<int64_t>(
        ms / 6e4 * static_cast<double>(n_total_ - n_done_) / static_cast<double>(n_done_) + 0.5);
    left = std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
  }
  std::fprintf(stderr, "\r%s  %lld of %lld %s  %s left  %s\033[K", label_.c_str(),
               static_cast<long long>(n_done_), static_cast<long long>(n_total_), unit_.c_str(), left.c_str(),
               doing.c_str());
  std::fflush(stderr);
}

Result<void> write_out(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return {};
  return Error{ErrorCode::bad_input, std::string("cannot write to standard output: ") + std::strerror(errno)};
}

std::string human_bytes(size_t n) {
  char out[32];
  if (n < (size_t{1} << 20)) {
    std::snprintf(out, sizeof out, "%.1f KiB", static_cast<double>(n) / 1024);
  } else if (n < (size_t{1} << 30)) {
    std::snprintf(out, sizeof out, "%.1f MiB", static_cast<double>(n) / (1 << 20));
  } else {
    std::snprintf(out, sizeof out, "%.2f GiB", static_cast<double>(n) / (1 << 30));
  }
  return out;
}

size_t peak_rss_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace curdkv::app
