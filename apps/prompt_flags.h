// The prompt a user asks for: -sys, -sysf, --chat-template, --chat-template-file, --raw.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "curdkv/text.h"

namespace curdkv::app {

struct PromptFlags {
  bool raw = false;

  void add_to(CLI::App& app);

  // What they come to. A model without a chat template is prompted raw, with a note, if no flag asks for
  // more. Errors: bad_argument for flags that exclude each other, bad_input for a file that cannot be read.
  Result<Prompt> resolve(const Tokenizer& tokenizer) const;

  // The same as options of the library, for records of a run.
  Result<PromptOptions> options() const;

  std::vector<std::string> files() const;  // that are read

 private:
  std::string system_, system_file_, template_, template_file_;
};

}  // namespace curdkv::app
