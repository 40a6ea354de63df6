// A saved context's file that a run or a chat goes on from.
#pragma once

#include <string>
#include <utility>

#include "curdkv/context.h"

namespace curdkv::app {

class SavedFile {
 public:
  // Errors: as of open_context().
  static Result<SavedFile> open(const std::string& path, bool use_mmap);

  // The context as a sequence, and a line on stderr that says so. Errors: as of SavedContext::sequence.
  Result<Sequence> restore(const Engine& engine, const Executor& executor);

  const SavedContext& context() const { return context_; }
  const ContextInfo& info() const { return context_.info(); }
  // What the file took so far: opened, checked and made a sequence of; the model's own loading is not in it.
  double restore_ms() const { return restore_ms_; }

 private:
  SavedFile(SavedContext context, double open_ms) : context_(std::move(context)), restore_ms_(open_ms) {}

  SavedContext context_;
  double restore_ms_;
};

}  // namespace curdkv::app
