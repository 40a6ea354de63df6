// Text to tokens and back, prompts, and the choice of the next token: libllama's, behind a small border.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "curdkv/chat.h"
#include "curdkv/result.h"
#include "curdkv/token.h"

namespace curdkv {

// Copies share the vocabulary, which is freed with the last of them. Immutable: any number of threads may use
// a tokenizer at once.
class Tokenizer {
 public:
  // Reads the vocabulary of a GGUF file. Errors: io for a file that cannot be read; with libllama's reason
  // unsupported for a tokenizer it does not know, otherwise corrupt; out_of_memory.
  static Result<Tokenizer> load(const std::string& path);

  // specials: whether text such as "<|im_end|>" becomes the control token it names. Without it no token of
  // the result is a control or user-defined one, whatever the text says: that is for what users wrote. begin:
  // whether the model's begin-of-sequence token goes in front, if it has one that belongs there. Errors:
  // bad_input for what the vocabulary has no tokens for, or more than 2 GiB.
  Result<std::vector<Token>> tokenize(const std::string& text, bool specials, bool begin) const;

  // A prompt of several parts: a template's text with specials, users' text without. Where a part ends within
  // a word, the word's tokens are those of the whole. begin: the prompt starts here, as above; otherwise it
  // goes on from what was tokenised before, and gets no leading space in vocabularies that put one there.
  // Errors: as above.
  Result<std::vector<Token>> tokenize(std::span<const PromptPart> parts, bool begin) const;

  // The bytes of one token; control tokens give "" unless specials says so. May end inside a UTF-8 sequence.
  std::string piece(Token token, bool specials = false) const;
  std::string text(std::span<const Token> tokens) const;

  bool ends_generation(Token token) const;
  int64_t n_vocab() const;

  // The model's chat template (Jinja source), or "" if it has none.
  std::string chat_template() const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

struct PromptOptions {
  // true: the context opens the user's turn of a chat template and the question closes it; false: context and
  // question follow each other as they are. Unset: true where the model has a template or anything below asks
  // for one.
  std::optional<bool> chat = {};
  std::string system = {};  // the system turn's text; "": the template's own, if it has one
  ChatTemplateOptions chat_template = {};
};

// What a user said in a turn of a conversation, behind a document if one was read there, and the answer.
struct Exchange {
  bool document = false;
  std::string question, answer;
};

// How a document and the questions about it become tokens. Only the context is ever compressed, so it comes
// first and is the same for every question (question-agnostic). Owns its texts and shares the tokenizer's
// vocabulary. Immutable: any number of threads may use a prompt at once.
class Prompt {
 public:
  // Errors: bad_argument for a system turn without a chat template; as of ChatTemplate::create.
  static Result<Prompt> create(const Tokenizer& tokenizer, const PromptOptions& options = {});

  bool is_chat() const { return template_.has_value(); }        // whether it goes through a chat template
  const std::string& chat_template() const { return source_; }  // in Jinja, or its name; "" without one
  const UserTurn& turn() const { return turn_; }  // what goes around document and question; empty without one

  // Errors: as of Tokenizer::tokenize.
  Result<std::vector<Token>> context(const std::string& document) const;
  Result<std::vector<Token>> question(const std::string& question) const;
  // As the benchmarks ask (kvpress's pipeline): nothing goes between context and question, and the answer
  // begins with `answer_prefix`.
  Result<std::vector<Token>> question(const std::string& question, const std::string& answer_prefix) const;
  // A conversation: the tokens of all that the template writes from behind its last document on, or, without
  // one, from the beginning; to where the answer to the last question begins. That of the last exchange is
  // not looked at. Errors: unsupported without a chat template; bad_argument if there is no exchange; as of
  // ChatTemplate::parts and Tokenizer::tokenize.
  Result<std::vector<Token>> conversation(std::span<const Exchange> exchanges) const;
  // The same to where the user's next turn has begun with `text`. exchanges may be none. Errors: as above.
  Result<std::vector<Token>> opening(std::span<const Exchange> exchanges, const std::string& text) const;
  // A further document of a user's turn that began with one.
  Result<std::vector<Token>> next_document(const std::string& document) const;
  // What KVzip's second reading repeats of a context made by context(): chunks of 2,048 tokens, each behind a
  // request in the words of the reference implementation (kvpress KVzipPress).
  Result<std::vector<Repeat>> repeats(std::span<const Token> context) const;

 private:
  explicit Prompt(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  Result<std::vector<Token>> asked(const std::string& question, const std::string& answer) const;
  std::string without_lead(const std::string& text) const;
  Result<std::vector<PromptPart>> parts_behind_document(std::span<const Exchange> exchanges) const;

  Tokenizer tokenizer_;
  std::optional<ChatTemplate> template_;
  UserTurn turn_;
  std::string source_, system_;
};

// llama.cpp's, under its names; what is 0 or 1 by default does nothing then.
struct SamplingParams {
  float temperature = 0;  // 0: the likeliest, and of what follows only penalties and biases count
  int32_t top_k = 40;     // 0: all
  float top_p = 0.95f;
  float min_p = 0.05f;
  uint32_t seed = 42;
  float typical_p = 1;
  float repeat_penalty = 1, frequency_penalty = 0, presence_penalty = 0;
  int32_t repeat_last_n = 64;                            // generated tokens that penalties look at; -1: all
  std::vector<std::pair<Token, float>> logit_bias = {};  // -infinity: never
};

// What an answer is held to: a grammar in llama.cpp's GBNF, from the beginning on or, lazy, from where one of
// the patterns (regular expressions) or tokens has come up.
struct Constraint {
  std::string grammar = {};  // "": none
  bool lazy = false;
  std::vector<std::string> trigger_patterns = {};
  std::vector<Token> trigger_tokens = {};
  std::vector<Token> prefill = {};  // of the grammar's text, what the prompt has written already
};

// Owns its state, which every call changes: one thread at a time may use a sampler.
class Sampler {
 public:
  // Errors: bad_argument for a parameter out of range.
  static Result<Sampler> create(const SamplingParams& params);
  // Errors: also bad_argument for a grammar that is none.
  static Result<Sampler> create(const SamplingParams& params, const Tokenizer& tokenizer,
                                const Constraint& constraint);
  // May throw what libllama throws; guarded by whoever generates.
  Token sample(std::span<const float> logits);

  struct Impl;
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;
  ~Sampler();

 private:
  explicit Sampler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace curdkv
