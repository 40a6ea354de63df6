// What a terminal user sees: a progress bar on stderr, output on stdout, sizes in units people read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "curdkv/result.h"

namespace curdkv::app {

// One line at the bottom of the terminal, drawn over and over, never wider than the terminal is at that
// moment. No escape sequences: a carriage return, and blanks over what stood there. Drawn only when stderr is
// a terminal.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine() { clear(); }
  bool shown() const { return shown_; }
  int64_t room() const;  // columns
  void draw(const std::string& text);
  void clear();

 private:
  bool shown_;
  size_t n_drawn_ = 0;
};

// "label [====    ]  45 %  details": as much of it as `room` columns hold.
std::string bar_text(const std::string& label, double share, const std::vector<std::string>& details,
                     int64_t room);

class ProgressBar {
 public:
  // Work is counted in units; `tokens` of them in all make the rate shown.
  ProgressBar(std::string label, int64_t n_tokens);
  void update(int64_t done, int64_t total);

 private:
  StatusLine line_;
  std::string label_;
  int64_t n_tokens_;
  double last_ms_ = -1000;
  Stopwatch watch_;
};

// Many pieces of work, each with a progress of its own, and the time that is left.
class TaskProgress {
 public:
  TaskProgress(std::string label, std::string unit, int64_t n_total);
  void update(const std::string& doing, int64_t done, int64_t total);  // of the piece in hand
  void set_done(const std::string& doing, int64_t n_done);             // so many pieces
  void add_done(const std::string& doing) { set_done(doing, n_done_ + 1); }
  void hide();  // until the next update, for something else to be written

 private:
  void draw(const std::string& doing);

  StatusLine line_;
  std::string label_, unit_;
  int64_t n_total_, n_done_ = 0;
  double last_ms_ = -1000;
  Stopwatch watch_;
};

// Writes to stdout and flushes. What would act on a terminal is shown instead if stdout is one; a file or a
// pipe gets the bytes as they are. Errors: io ("cannot write to standard output: Broken pipe").
Result<void> write_out(const std::string& text);
// The same to stderr, where errors have nowhere to go.
void write_err(const std::string& text);
void note(const std::string& text);  // "note: ...", a line on stderr

std::string human_bytes(size_t n);  // "12.3 MiB"
size_t peak_rss_bytes();            // of this process, as the system counts it

}  // namespace curdkv::app
