// The prompt a user asks for: -sys, -sysf, --chat-template, --chat-template-file, --raw.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "curdkv/engine.h"

namespace curdkv::app {

struct DocumentOptions;

struct PromptFlags {
  bool raw = false;

  void add_to(CLI::App& app);

  // What they come to. Errors: as of read_text(); bad_input for an empty template.
  Result<PromptOptions> options() const;

  // The model, prompted as the flags say. One without a chat template is prompted raw, with a note, if no
  // flag asks for more. Errors: as of options() and Engine::open.
  Result<Engine> open(const std::string& path, const ModelParams& params) const;

  std::vector<std::string> files() const;  // that are read

 private:
  std::string system_, system_file_, template_, template_file_;
};

// All files that a command reads, which none of its outputs may be.
std::vector<std::string> inputs_of(const std::string& model, const DocumentOptions& document,
                                   const PromptFlags& prompt);

}  // namespace curdkv::app
