// What a terminal user sees: a progress bar on stderr, output on stdout, sizes in units people read.
#pragma once

#include <cstdint>
#include <string>

#include "base/stopwatch.h"
#include "curdkv/result.h"

namespace curdkv::app {

// Drawn only when stderr is a terminal.
class ProgressBar {
 public:
  // Work is counted in units; `tokens` of them in all make the rate shown.
  ProgressBar(std::string label, int64_t n_tokens);
  ~ProgressBar();
  void update(int64_t done, int64_t total);

 private:
  std::string label_;
  int64_t n_tokens_;
  bool shown_;
  double last_ms_ = -1000;
  Stopwatch watch_;
};

// Many pieces of work, each with a progress of its own, and the time that is left; drawn only when stderr is
// a terminal.
class TaskProgress {
 public:
  TaskProgress(std::string label, std::string unit, int64_t n_total);
  ~TaskProgress();
  void update(const std::string& doing, int64_t done, int64_t total);  // of the piece in hand
  void set_done(const std::string& doing, int64_t n_done);             // so many pieces
  void add_done(const std::string& doing) { set_done(doing, n_done_ + 1); }
  void hide();  // until the next update, for something else to be written

 private:
  void draw(const std::string& doing);

  std::string label_, unit_;
  int64_t n_total_, n_done_ = 0;
  bool shown_;
  double last_ms_ = -1000;
  Stopwatch watch_;
};

// Writes to stdout and flushes. Errors: bad_input ("cannot write to standard output: Broken pipe").
Result<void> write_out(const std::string& text);

std::string human_bytes(size_t n);  // "12.3 MiB"
size_t peak_rss_bytes();            // of this process, as the system counts it

}  // namespace curdkv::app
