#include "saved_file.h"

#include "base/stopwatch.h"
#include "base/try.h"
#include "context_report.h"
#include "terminal.h"

namespace curdkv::app {

Result<SavedFile> SavedFile::open(const std::string& path, bool use_mmap) {
  const Stopwatch watch;
  CURDKV_TRY(SavedContext context, open_context(path, {.use_mmap = use_mmap}));
  return SavedFile(std::move(context), watch.ms());
}

Result<Sequence> SavedFile::restore(const Engine& engine, const Executor& executor) {
  const Stopwatch watch;
  CURDKV_TRY(Sequence sequence, context_.sequence(engine, executor));
  restore_ms_ += watch.ms();
  write_err(restored_as_text(info(), restore_ms_));
  return sequence;
}

}  // namespace curdkv::app
