// A piece of work on sequences that is done bit by bit: a reading (read.h), or evicting from what a sequence
// holds (shrink.h). Sequences change when it is done, and not before.
#pragma once

#include "engine/executor_impl.h"

namespace curdkv {

struct Job::Impl {
  Impl(Executor::Impl& executor, const std::atomic<bool>* flag) : e_(executor), stop(flag) {}
  virtual ~Impl() = default;
  // The next bit; true when that was the last.
  virtual Result<bool> advance() = 0;

  Executor::Impl& e_;
  const std::atomic<bool>* stop;  // of this job, beside the executor's; may be null
  std::vector<ReadReport> reports;
  std::optional<Error> failed;
  bool done = false;
};

}  // namespace curdkv
