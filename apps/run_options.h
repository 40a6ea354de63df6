// What curdkv run is asked for.
#pragma once

#include <string>
#include <vector>

#include "command.h"
#include "document.h"
#include "prompt_flags.h"
#include "truncate.h"

namespace curdkv::app {

struct RunOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  DocumentOptions document;
  PromptFlags prompt;
  GenerateOptions generate;
  std::vector<std::string> questions;
  std::string context;  // a saved one's file, instead of a document
  Truncate truncate = Truncate::none;
  bool json = false;
  bool compare_full = false;
  bool query_aware = false;
  bool escapes = false;
};

// Answers from a saved context. Errors: bad_argument for options that have no meaning there; as of
// open_context() and SavedContext::sequence().
Result<void> run_saved(const RunOptions& options);

}  // namespace curdkv::app
