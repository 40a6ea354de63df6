#include "terminal.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/format.h"
#include "printable.h"

namespace curdkv::app {

namespace {

void write_to(FILE* file, const std::string& text) {
  const auto write = [&](const std::string& out) { std::fwrite(out.data(), 1, out.size(), file); };
  isatty(fileno(file)) != 0 ? write(printable(text)) : write(text);
}

// One column a byte, so that widths can be counted.
std::string plain(const std::string& text) {
  std::string out = printable_line(text);
  for (char& c : out) c = static_cast<unsigned char>(c) < 0x80 ? c : '?';
  return out;
}

}  // namespace

StatusLine::StatusLine() : shown_(isatty(STDERR_FILENO) != 0) {}

int64_t StatusLine::room() const {
  winsize size = {};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return (known ? size.ws_col : 80) - 1;  // a full last column makes some terminals begin a new line
}

void StatusLine::draw(const std::string& text) {
  if (!shown_) return;
  const auto most = static_cast<size_t>(room());
  std::string line = plain(text).substr(0, most);
  const size_t n = line.size();
  line.resize(std::max(n, std::min(n_drawn_, most)), ' ');
  n_drawn_ = n;
  std::fprintf(stderr, "\r%s", line.c_str());
  std::fflush(stderr);
}

void StatusLine::clear() {
  if (n_drawn_ == 0) return;
  draw("");
  std::fputc('\r', stderr);
}

std::string bar_text(const std::string& label, double share, const std::vector<std::string>& details,
                     int64_t room) {
  constexpr int64_t kWidest = 30, kNarrowest = 10;
  const std::string percent = format("%3.0f %%", share * 100);
  const auto with_bar = [&](int64_t width, const std::string& behind) {
    const auto filled = static_cast<size_t>(share * static_cast<double>(width));
    return label + " [" + std::string(filled, '=') + std::string(static_cast<size_t>(width) - filled, ' ') +
           "] " + percent + behind;
  };
  for (size_t n = details.size() + 1; n-- > 0;) {
    std::string behind;
    for (size_t i = 0; i < n; ++i) behind += "  " + details[i];
    const int64_t width = room - std::ssize(with_bar(0, behind));
    if (width >= kNarrowest) return with_bar(std::min(width, kWidest), behind);
  }
  const auto for_label = static_cast<size_t>(std::max<int64_t>(0, room - std::ssize(percent) - 1));
  return (label.substr(0, for_label) + " " + percent).substr(0, static_cast<size_t>(room));
}

ProgressBar::ProgressBar(std::string label, int64_t n_tokens)
    : label_(std::move(label)), n_tokens_(n_tokens) {}

void ProgressBar::update(int64_t done, int64_t total) {
  const double ms = watch_.ms();
  if (!line_.shown() || (done < total && ms - last_ms_ < 100)) return;
  last_ms_ = ms;
  const double share = static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1));
  const double rate = share * static_cast<double>(n_tokens_) / std::max(ms, 1.0) * 1e3;
  const double left = share > 0 ? ms / 1e3 * (1 - share) / share : 0;
  const std::vector<std::string> details = {format("%.0f s left", left), format("%.0f t/s", rate),
                                            format("%lld tokens", static_cast<long long>(n_tokens_))};
  line_.draw(bar_text(label_, share, details, line_.room()));
}

TaskProgress::TaskProgress(std::string label, std::string unit, int64_t n_total)
    : label_(std::move(label)), unit_(std::move(unit)), n_total_(n_total) {}

void TaskProgress::hide() {
  line_.clear();
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
  if (!line_.shown() || ms - last_ms_ < 100) return;
  last_ms_ = ms;
  std::string left = "?";
  if (n_done_ > 0) {
    const auto minutes = static_cast<int64_t>(
        ms / 6e4 * static_cast<double>(n_total_ - n_done_) / static_cast<double>(n_done_) + 0.5);
    left =
        format("%lld h %lld min", static_cast<long long>(minutes / 60), static_cast<long long>(minutes % 60));
  }
  line_.draw(format("%s  %lld of %lld %s  %s left  %s", label_.c_str(), static_cast<long long>(n_done_),
                    static_cast<long long>(n_total_), unit_.c_str(), left.c_str(), doing.c_str()));
}

Result<void> write_out(const std::string& text) {
  write_to(stdout, text);
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return {};
  return Error{ErrorCode::io, std::string("cannot write to standard output: ") + std::strerror(errno)};
}

void write_err(const std::string& text) {
  write_to(stderr, text);
}

void note(const std::string& text) {
  write_err("note: " + text + "\n");
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
