#include "curdkv/conversation.h"

#include <algorithm>

#include "base/format.h"
#include "base/guard.h"
#include "base/try.h"
#include "curdkv/generate.h"

namespace curdkv {
namespace {

constexpr int64_t kLeastBudget = 64;

int64_t n_common(std::span<const Token> a, std::span<const Token> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// A sequence, and the tokens it holds from a certain point on.
struct Line {
  Sequence sequence;
  std::vector<Token> tokens = {};
  int64_t n_read = 0;        // of these, in blocks, which are let go of as a whole
  int64_t n_asked_from = 0;  // of these, before the last question

  Line fork() const { return {sequence.fork(), tokens, n_read, n_asked_from}; }

  Result<void> drop_to(int64_t n) {
    CURDKV_CHECK(sequence.drop_last(std::ssize(tokens) - n, {}));
    tokens.resize(static_cast<size_t>(n));
    n_asked_from = std::min(n_asked_from, n);
    return {};
  }

  // Holds what is wanted afterwards, which goes on from its blocks, and the logits behind it.
  Result<void> go_to(Executor& executor, std::span<const Token> wanted) {
    int64_t n = n_common(tokens, wanted);
    if (n == std::ssize(wanted)) n = n_asked_from;  // the logits there are gone
    CURDKV_CHECK(drop_to(n));
    CURDKV_CHECK(executor.extend(sequence, wanted.subspan(static_cast<size_t>(n))));
    tokens.assign(wanted.begin(), wanted.end());
    n_asked_from = n;
    return {};
  }
};

}  // namespace

struct Conversation::Impl {
  Engine engine;
  Executor& executor;
  ConversationOptions options;
  Sequence base;  // to the end of the last document
  Line line;      // the same, and the turns since
  std::vector<Exchange> exchanges = {};
  bool behind_document = false;         // the user's next turn has begun with a document
  bool forgotten = false;               // the turns, and nothing was asked since
  std::vector<Token> read_tokens = {};  // up to the end of the last document
  bool tokens_known = true;
  std::optional<Line> full = std::nullopt;  // the whole conversation's tokens in a full cache

  const Prompt& prompt() const { return engine.prompt(); }
  bool has_question() const { return !exchanges.empty() && !behind_document; }

  Result<Press> press(int64_t protect_last) const {
    PressRequest request = options.press;
    request.compression_ratio = 0;
    request.budget_bytes.reset();
    request.budget = options.budget / 2;
    request.protect_last = protect_last;
    return Press::make(request);
  }
  int64_t turn_rows() const;
  Error nothing_asked() const;
  Result<void> make_room(Line& at, std::span<const Token> wanted, std::span<const Token> older,
                         const ReadOptions& reading) const;
  Result<void> ask_last(bool again, const ReadOptions& reading);
  Result<Generation> answer(Line& at, const GenerateOptions& asked, std::string& said) const;
  Result<void> read_in_full(const ReadOptions& reading);
};

Error Conversation::Impl::nothing_asked() const {
  const char* when = forgotten         ? "since the turns were forgotten"
                     : behind_document ? "since the document was read"
                                       : "yet";
  return {ErrorCode::bad_input, std::string("there is no question ") + when};
}

int64_t Conversation::Impl::turn_rows() const {
  const auto before = base.cache_lengths(), now = line.sequence.cache_lengths();
  int64_t most = 0;
  for (size_t il = 0; il < now.size(); ++il) {
    for (size_t h = 0; h < now[il].size(); ++h) most = std::max(most, now[il][h] - before[il][h]);
  }
  return most;
}

// Sees to it that `at`, a line behind base, can go to what is wanted within the budget. older: of what is
// wanted, the turns before the last question. They are read anew, behind the document: every token of theirs
// is weighed with all the others there, whatever was kept of them before, and the document's rows stay.
Result<void> Conversation::Impl::make_room(Line& at, std::span<const Token> wanted,
                                           std::span<const Token> older, const ReadOptions& reading) const {
  const int64_t n_kept = n_common(at.tokens, wanted), half = options.budget / 2;
  const bool compressible = options.budget > 0 && std::ssize(older) > half;
  const bool too_many = turn_rows() + std::ssize(wanted) - n_kept > options.budget;
  if (n_kept >= at.n_read && !(compressible && too_many)) return {};
  Line fresh = {base.fork()};
  if (compressible) {
    // The latest exchange is what the next question may be about.
    const int64_t n_latest = std::clamp<int64_t>(std::ssize(older) - at.n_asked_from, 0, half / 2);
    CURDKV_TRY(const Press by, press(n_latest));
    CURDKV_CHECK(executor.read(fresh.sequence, older, by, reading));
    fresh.tokens.assign(older.begin(), older.end());
    fresh.n_read = fresh.n_asked_from = std::ssize(older);
  }
  at = std::move(fresh);
  return {};
}

// The line up to where the last exchange's answer begins. again: from where it was asked before.
Result<void> Conversation::Impl::ask_last(bool again, const ReadOptions& reading) {
  CURDKV_TRY(const std::vector<Token> wanted, prompt().conversation(exchanges));
  std::vector<Token> older;
  if (exchanges.size() > 1 && !exchanges.back().document) {
    CURDKV_TRY(older, prompt().opening(std::span(exchanges).first(exchanges.size() - 1), ""));
    older.resize(static_cast<size_t>(n_common(older, wanted)));
  }
  const int64_t n = base.next_position() + std::ssize(wanted);
  if (n > executor.n_ctx()) {
    return Error{ErrorCode::bad_input, format("the question does not fit: with it the conversation has %lld "
                                              "tokens, and the context holds %lld",
                                              (long long)n, (long long)executor.n_ctx())};
  }
  if (!again || n_common(line.tokens, wanted) < line.n_read)
    CURDKV_CHECK(make_room(line, wanted, older, reading));
  return line.go_to(executor, wanted);
}

// said: what was generated, also when it ends with an error.
Result<Generation> Conversation::Impl::answer(Line& at, const GenerateOptions& asked,
                                              std::string& said) const {
  GenerateOptions o = asked;
  std::vector<Token> history = read_tokens;
  history.insert(history.end(), at.tokens.begin(), at.tokens.end());
  o.history = history;
  o.decode_budget = {};
  o.on_text = [&](const std::string& text) {
    said += text;
    if (asked.on_text) asked.on_text(text);
  };
  const int64_t n_before = at.sequence.n_tokens();
  auto generation = generate(executor, at.sequence, engine.tokenizer(), o);
  const int64_t n_held = at.sequence.n_tokens() - n_before;
  if (generation) {
    const auto& tokens = generation->tokens;
    at.tokens.insert(at.tokens.end(), tokens.begin(), tokens.begin() + n_held);
  } else if (n_held > 0) {
    CURDKV_CHECK(at.sequence.drop_last(n_held, {}));
  }
  return generation;
}

// All up to the end of the last document, with nothing evicted.
Result<void> Conversation::Impl::read_in_full(const ReadOptions& reading) {
  if (full && n_common(full->tokens, read_tokens) < full->n_read) full.reset();
  if (full && full->n_read == std::ssize(read_tokens)) return {};
  Line at = full ? full->fork() : Line{executor.sequence()};
  CURDKV_CHECK(at.drop_to(n_common(at.tokens, read_tokens)));
  const auto rest = std::span(read_tokens).subspan(at.tokens.size());
  if (!rest.empty()) CURDKV_CHECK(executor.read(at.sequence, rest, Press(), reading));
  at.tokens = read_tokens;
  at.n_read = at.n_asked_from = std::ssize(read_tokens);
  full = std::move(at);
  return {};
}

Conversation::Conversation(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Conversation::Conversation(Conversation&&) noexcept = default;
Conversation& Conversation::operator=(Conversation&&) noexcept = default;
Conversation::~Conversation() = default;

Result<Conversation> Conversation::create(const Engine& engine, Executor& executor,
                                          const ConversationOptions& options) {
  return guarded([&]() -> Result<Conversation> {
    if (!engine.prompt().is_chat()) {
      return Error{ErrorCode::unsupported,
                   "a conversation needs a chat template, and the prompt goes through none"};
    }
    auto impl = std::make_unique<Impl>(
        Impl{engine, executor, options, executor.sequence(), Line{executor.sequence()}});
    if (options.budget == 0) return Conversation(std::move(impl));
    if (options.budget < kLeastBudget) {
      return Error{ErrorCode::bad_argument,
                   format("turns cannot be kept within %lld tokens per head; at least %lld",
                          (long long)options.budget, (long long)kLeastBudget)};
    }
    constexpr int64_t kMany = int64_t{1} << 20;
    CURDKV_TRY(const Press press, impl->press(options.budget / 4));
    if (press.is_none() || press.counts_bytes() || press.needs_repeats() ||
        press.n_kept(kMany) > options.budget / 2) {
      return Error{ErrorCode::bad_argument, "the press '" + press.name() +
                                                "' cannot keep turns within a budget of tokens; ridgekv and "
                                                "mixkv can"};
    }
    return Conversation(std::move(impl));
  });
}

Result<void> Conversation::start_from(Sequence context, std::vector<Token> tokens) {
  return guarded([&]() -> Result<void> {
    Impl& c = *impl_;
    if (c.base.n_tokens() > 0 || !c.exchanges.empty())
      return Error{ErrorCode::bad_argument, "the conversation has begun already"};
    if (context.n_tokens() == 0 || (!tokens.empty() && std::ssize(tokens) != context.n_tokens()))
      return Error{ErrorCode::bad_argument, "the tokens are not as many as the context holds"};
    c.base = context.fork();
    c.line = Line{std::move(context)};
    c.tokens_known = !tokens.empty();
    c.read_tokens = std::move(tokens);
    c.behind_document = true;
    return {};
  });
}

Result<ReadReport> Conversation::read(const std::string& document, const ChoosePress& choose,
                                      const ReadOptions& options) {
  return guarded([&]() -> Result<ReadReport> {
    Impl& c = *impl_;
    CURDKV_TRY(const std::vector<Token> tokens, c.behind_document
                                                    ? c.prompt().next_document(document)
                                                    : c.prompt().opening(c.exchanges, document));
    Line at = c.line.fork();
    int64_t n_held = n_common(at.tokens, tokens);
    if (n_held < at.n_read) {
      at = Line{c.base.fork()};
      n_held = 0;
    }
    CURDKV_CHECK(at.drop_to(n_held));
    const auto rest = std::span(tokens).subspan(static_cast<size_t>(n_held));
    CURDKV_TRY(const Press press, choose(std::ssize(rest)));
    CURDKV_TRY(ReadReport report, c.executor.read(at.sequence, rest, press, options));
    if (c.tokens_known) c.read_tokens.insert(c.read_tokens.end(), tokens.begin(), tokens.end());
    c.base = at.sequence.fork();
    c.line = Line{std::move(at.sequence)};
    c.behind_document = true;
    c.forgotten = false;
    return report;
  });
}

Result<Generation> Conversation::ask(const std::string& question, const GenerateOptions& options,
                                     const ReadOptions& reading) {
  return guarded([&]() -> Result<Generation> {
    Impl& c = *impl_;
    const bool behind_document = c.behind_document;
    c.exchanges.push_back({behind_document, question, ""});
    c.behind_document = false;
    std::string said;
    const auto asked = c.ask_last(false, reading);
    auto generation = asked ? c.answer(c.line, options, said) : Result<Generation>(asked.error());
    if (!generation && said.empty()) {
      c.exchanges.pop_back();
      c.behind_document = behind_document;
      if (asked) CURDKV_CHECK(c.line.drop_to(c.line.n_asked_from));
      return generation;
    }
    c.forgotten = false;
    c.exchanges.back().answer = said;
    return generation;
  });
}

Result<Generation> Conversation::ask_again(const GenerateOptions& options, const ReadOptions& reading) {
  return guarded([&]() -> Result<Generation> {
    Impl& c = *impl_;
    if (!c.has_question()) return c.nothing_asked();
    CURDKV_CHECK(c.line.drop_to(std::max(c.line.n_asked_from, c.line.n_read)));
    CURDKV_CHECK(c.ask_last(true, reading));
    std::string said;
    auto generation = c.answer(c.line, options, said);
    if (generation || !said.empty()) c.exchanges.back().answer = said;
    return generation;
  });
}

Result<Generation> Conversation::ask_in_full(const GenerateOptions& options, const ReadOptions& reading) {
  return guarded([&]() -> Result<Generation> {
    Impl& c = *impl_;
    if (!c.has_question()) return c.nothing_asked();
    if (!c.tokens_known) {
      return Error{ErrorCode::unsupported,
                   "the context was saved without its tokens, so that it cannot be read in full"};
    }
    CURDKV_CHECK(c.read_in_full(reading));
    std::vector<Token> wanted = c.read_tokens;
    CURDKV_TRY(const std::vector<Token> turns, c.prompt().conversation(c.exchanges));
    wanted.insert(wanted.end(), turns.begin(), turns.end());
    CURDKV_CHECK(c.full->go_to(c.executor, wanted));
    std::string said;
    return c.answer(*c.full, options, said);
  });
}

void Conversation::forget() {
  Impl& c = *impl_;
  c.forgotten = c.forgotten || c.has_question();
  c.line = Line{c.base.fork()};
  size_t n = c.exchanges.size();
  while (n > 0 && !c.exchanges[n - 1].document && !c.behind_document) --n;
  const bool has_document = n > 0 && !c.behind_document;
  c.exchanges.resize(has_document ? n - 1 : n);
  c.behind_document = c.behind_document || has_document;
}

Result<Conversation::Snapshot> Conversation::snapshot(const ReadOptions& reading) const {
  return guarded([&]() -> Result<Snapshot> {
    const Impl& c = *impl_;
    if (c.behind_document) return Snapshot{c.base.fork(), c.read_tokens};
    if (c.exchanges.empty()) return Error{ErrorCode::bad_input, "there is nothing to save yet"};
    CURDKV_TRY(const std::vector<Token> wanted, c.prompt().opening(c.exchanges, ""));
    Line at = c.line.fork();
    CURDKV_CHECK(c.make_room(at, wanted, wanted, reading));
    CURDKV_CHECK(at.go_to(c.executor, wanted));
    std::vector<Token> tokens = c.read_tokens;
    tokens.insert(tokens.end(), wanted.begin(), wanted.end());
    if (!c.tokens_known) tokens.clear();
    return Snapshot{std::move(at.sequence), std::move(tokens)};
  });
}

ConversationSize Conversation::size() const {
  const Impl& c = *impl_;
  const Sequence& s = c.line.sequence;
  return {.n_tokens = s.n_tokens(),
          .n_turn_tokens = s.n_tokens() - c.base.n_tokens(),
          .n_rows = s.longest_head(),
          .n_turn_rows = c.turn_rows(),
          .kv_bytes = s.kv_bytes(),
          .kv_bytes_full = c.executor.kv_bytes_full(s.n_tokens()),
          .kv_bytes_beside = c.full ? c.full->sequence.kv_bytes() : 0};
}

bool Conversation::has_question() const {
  return impl_->has_question();
}

}  // namespace curdkv
