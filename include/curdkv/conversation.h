// A conversation of several turns about documents. Each question's tokens are those of the chat template's
// rendering of the whole conversation: what the sequence holds already of it stays, the rest is appended.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "curdkv/engine.h"
#include "curdkv/press.h"
#include "curdkv/result.h"

namespace curdkv {

struct ConversationOptions {
  // Rows of a KV head that the turns since the last document may hold when a question is asked, with the
  // question's: if they would be more, the turns before it are read anew and half as many kept of them. At
  // least 64; 0: turns are never compressed.
  int64_t budget = 0;
  // What compresses them. Its ratio or budget does not matter: what counts is `budget`.
  PressRequest press = {};
};

struct ConversationSize {
  int64_t n_tokens = 0, n_turn_tokens = 0;  // in all, evicted ones included; of these since the last document
  int64_t n_rows = 0, n_turn_rows = 0;      // the most a KV head holds, likewise
  size_t kv_bytes = 0, kv_bytes_full = 0;   // allocated; with nothing evicted
  size_t kv_bytes_beside = 0;               // of the full cache beside it
};

// Owns its sequences; the executor must outlive it and is used by its calls alone meanwhile. One thread at a
// time may use it. A call that fails or is cancelled leaves the conversation as it was, but for answers that
// had begun.
class Conversation {
 public:
  // Errors: unsupported if the engine's prompt goes through no chat template; bad_argument for a budget
  // that is too small, or a press that cannot keep a budget of tokens; as of Press::make.
  static Result<Conversation> create(const Engine& engine, Executor& executor,
                                     const ConversationOptions& options = {});
  Conversation(Conversation&&) noexcept;
  Conversation& operator=(Conversation&&) noexcept;
  ~Conversation();

  // Goes on from a sequence that was read elsewhere, a saved context's, as from a document. tokens: all that
  // it holds, or none if they are not known. Errors: bad_argument if something was read or asked before.
  Result<void> start_from(Sequence context, std::vector<Token> tokens);

  // Reads a document into the conversation, at the beginning of the user's next turn. choose: is told how
  // many tokens are to be read and says by which press. Errors: its own; as of Executor::read and
  // Prompt::opening.
  using ChoosePress = std::function<Result<Press>(int64_t n_tokens)>;
  Result<ReadReport> read(const std::string& document, const ChoosePress& choose,
                          const ReadOptions& options = {});

  // Asks, and takes the answer into the conversation. options.history is the conversation's own. When it is
  // cancelled, what was generated of the answer stays as its answer; if nothing was, the question is
  // forgotten. reading: of turns that are read anew. Errors: as of Prompt::conversation, Executor::extend,
  // Executor::read and generate().
  Result<Generation> ask(const std::string& question, const GenerateOptions& options = {},
                         const ReadOptions& reading = {});
  // Asks the last question again where it was asked; the new answer takes the place of the old one. Errors:
  // also bad_input if there is none.
  Result<Generation> ask_again(const GenerateOptions& options = {}, const ReadOptions& reading = {});
  // Answers the last question from the full cache of the whole conversation, which is read when first needed
  // and kept. The conversation itself does not change. Errors: also unsupported if the tokens of what it
  // started from are not known.
  Result<Generation> ask_in_full(const GenerateOptions& options = {}, const ReadOptions& reading = {});

  // Forgets the turns since the last document, or all if there is none.
  void forget();

  // What it holds as a sequence of its own that another question can follow as it follows a document: behind
  // turns the user's next one is opened. tokens: all that it holds, none if they are not known. Errors:
  // bad_input if nothing was read or asked yet; as of Executor::extend.
  struct Snapshot {
    Sequence sequence;
    std::vector<Token> tokens;
  };
  Result<Snapshot> snapshot(const ReadOptions& reading = {}) const;

  ConversationSize size() const;
  bool has_question() const;  // asked since the last document

  struct Impl;

 private:
  explicit Conversation(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace curdkv
