// curdkv chat: what is asked for, and how a chat begins.
#include "base/try.h"
#include "chat_loop.h"
#include "numbers.h"
#include "questions.h"
#include "sampling_flags.h"
#include "saved_file.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

Result<void> check_options(const ChatOptions& o) {
  const auto refused = [](const std::string& what) { return Error{ErrorCode::bad_argument, what}; };
  if (o.prompt.raw) return refused("a chat goes through a chat template: leave out --raw");
  if (!o.context.empty() && !o.document.empty())
    return refused(
        "a chat begins with a document or with a saved context: leave out -f and -p, or --context");
  for (const std::string& file : o.document.files()) {
    if (file == "/dev/stdin")
      return refused("questions are read from standard input, so that no document can be: give a file");
  }
  return {};
}

// What compresses the turns: the documents' press, where it can keep a budget of tokens.
ConversationOptions bounds(const ChatOptions& o, const Press& press) {
  ConversationOptions out = {.budget = o.budget, .press = {}};
  const bool fits = !press.is_none() && !press.counts_bytes() && !press.needs_repeats();
  out.press.name = fits ? press.spec() : kDefaultBoundPress;
  out.press.seed = press.seed();
  return out;
}

// The context and its file's words of it, for /save.
Result<void> restore(SavedFile& saved, const Engine& engine, const Executor& executor,
                     Conversation& conversation, ChatLoop& loop) {
  CURDKV_TRY(Sequence context, saved.restore(engine, executor));
  const ContextInfo& info = saved.info();
  CURDKV_CHECK(conversation.start_from(std::move(context), info.tokens));
  loop.documents = info.documents;
  auto press = Press::make({.name = info.press,
                            .compression_ratio = info.compression_ratio,
                            .budget = info.budget,
                            .budget_bytes = info.budget_bytes,
                            .seed = info.seed});
  if (press) loop.made_by = std::move(*press);
  return {};
}

Result<int> chat(const ChatOptions& o) {
  CURDKV_CHECK(check_options(o));
  CURDKV_TRY(const Press press, o.press.resolve(o.executor));
  std::vector<ContextDocument> documents;
  std::string document;
  if (!o.document.empty()) {
    CURDKV_TRY(document, o.document.read(&documents));
  }
  CURDKV_TRY(const std::string path, o.model.resolve());
  CURDKV_TRY([[maybe_unused]] const Sampler possible, Sampler::create(o.generate.sampling));
  std::optional<SavedFile> saved;
  ExecutorParams params;
  if (o.context.empty()) {
    params = o.executor.resolve();
  } else {
    CURDKV_TRY(saved, SavedFile::open(o.context, o.model.params.use_mmap));
    CURDKV_TRY(params, o.executor.resolve(saved->info().type_k, saved->info().type_v));
  }
  CURDKV_TRY(const PromptOptions prompt, o.prompt.options());
  CURDKV_TRY(const Engine engine, Engine::open(path, {o.model.params, prompt}));
  if (!engine.prompt().is_chat()) {
    return Error{ErrorCode::unsupported,
                 "the model has no chat template; give one with --chat-template (chatml)"};
  }
  if (saved) CURDKV_CHECK(saved->context().check(engine));
  const int64_t n_held = saved ? saved->info().next_position : 0;
  CURDKV_TRY(params.n_ctx, context_limit(engine.info(), params.n_ctx, n_held, 0));
  CURDKV_TRY(Executor executor, engine.executor(params));
  CURDKV_TRY(Conversation conversation, Conversation::create(engine, executor, bounds(o, press)));
  ChatLoop loop(o, engine, executor, conversation, press);
  if (saved) CURDKV_CHECK(restore(*saved, engine, executor, conversation, loop));
  if (!document.empty()) {
    const InterruptScope scope;
    CURDKV_CHECK(loop.read(document, std::move(documents)));
  }
  return loop.run();
}

}  // namespace

Command add_chat(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "chat", "ask about a document turn by turn, from its compressed cache; /help lists what else there is");
  auto o = std::make_shared<ChatOptions>();
  o->model.add_to(*app);
  o->document.add_to(*app);
  app->add_option("--context", o->context,
                  "a context that 'curdkv compress' or /save saved, instead of a document")
      ->type_name("FILE")
      ->check(check_name);
  o->prompt.add_to(*app);
  o->press.add_to(*app, kRecommended, kRecommendedRatio);
  app->footer(kShortDocuments);
  app->add_option("--chat-budget", o->budget,
                  "tokens per KV head that the turns since the document may hold when a question is asked; "
                  "beyond, those before it are compressed to half (0: never)")
      ->type_name("TOKENS")
      ->transform(whole_number(0, kMostTokens))
      ->capture_default_str();
  app->add_flag("-e,--escape,!--no-escape", o->escapes,
                "take \\n, \\t, \\\", \\\\ and \\x41 in -p for what they stand for");
  add_generation(*app, o->generate);
  o->executor.add_to(*app);
  return [o] {
    settle_generation(o->generate, o->press.request.seed);
    o->press.choose(o->model, o->executor, false);
    if (o->escapes) o->document.unescape();
    const auto code = chat(*o);
    return code ? *code : report(code.error());
  };
}

}  // namespace curdkv::app
