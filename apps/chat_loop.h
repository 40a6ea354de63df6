// A chat under way: lines are read until there are no more, questions answered and commands obeyed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "command.h"
#include "curdkv/context.h"
#include "curdkv/conversation.h"
#include "document.h"
#include "line_input.h"
#include "prompt_flags.h"

namespace curdkv::app {

struct ChatOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  DocumentOptions document;
  PromptFlags prompt;
  GenerateOptions generate;
  std::string context;  // a saved one's file, instead of a document
  int64_t budget = 0;
  bool escapes = false;
};

class ChatLoop {
 public:
  // press: of documents that are read.
  ChatLoop(const ChatOptions& options, const Engine& engine, Executor& executor, Conversation& conversation,
           const Press& press)
      : o_(options), engine_(engine), executor_(executor), chat_(conversation), press_(press) {}

  // Reads a document into the conversation and says how that went.
  Result<void> read(const std::string& text, std::vector<ContextDocument> parts);

  // To the end of the input. The exit code: failed if what did not come from a terminal could not all be
  // done. Errors: io if nothing can be written.
  Result<int> run();

  std::vector<ContextDocument> documents;  // read so far
  std::optional<Press> made_by;            // the press of the first

 private:
  struct Command;
  static const std::vector<Command>& commands();
  Result<void> obey(const std::string& line);
  Result<void> answer(const std::function<Result<Generation>(const GenerateOptions&)>& ask);
  Result<void> ask(const std::string& question);
  Result<void> ask_again(const std::string&);
  Result<void> ask_in_full(const std::string&);
  Result<void> forget(const std::string&);
  Result<void> save(const std::string& path);
  Result<void> show_size(const std::string&);
  Result<void> read_file(const std::string& path);
  Result<void> help(const std::string&);
  Result<void> exit(const std::string&);

  const ChatOptions& o_;
  const Engine& engine_;
  Executor& executor_;
  Conversation& chat_;
  Press press_;
  LineInput input_;
  int64_t n_asked_again_ = 0;            // since the last question
  double first_ms_ = 0, decode_ms_ = 0;  // of the last answer: to its first token; of each behind it
  bool over_ = false;
  Result<void> written_;  // once an answer could not be, nothing can
};

}  // namespace curdkv::app
