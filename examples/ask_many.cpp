// Compress once, ask many times: the first run reads a document and saves its compressed context, later ones
// open it in milliseconds.
// usage: ask_many MODEL CONTEXT DOCUMENT QUESTION...
#include <curdkv/context.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace curdkv;

namespace {

Result<void> read_and_save(const Engine& engine, Executor& executor, const char* document, const char* path) {
  std::stringstream text;
  text << std::ifstream(document).rdbuf();
  const auto press = Press::make({.name = "adacurdkv", .compression_ratio = 0.7});
  if (!press) return press.error();
  const auto tokens = engine.prompt().context(text.str());
  if (!tokens) return tokens.error();
  Sequence sequence = executor.sequence();
  if (const auto read = executor.read(sequence, *tokens, *press); !read) return read.error();
  return save_context(path, engine, sequence,
                      {.documents = {{.name = document, .n_bytes = std::ssize(text.str())}},
                       .tokens = *tokens,
                       .press = *press});
}

// Each question is asked of the context alone: of a fork of it.
Result<std::string> ask(const Engine& engine, Executor& executor, const Sequence& context,
                        const char* question) {
  Sequence asked = context.fork();
  const auto tokens = engine.prompt().question(question);
  if (!tokens) return tokens.error();
  if (const auto extended = executor.extend(asked, *tokens); !extended) return extended.error();
  const auto answer = generate(executor, asked, engine.tokenizer(), {.n_predict = 64});
  if (!answer) return answer.error();
  return answer->text;
}

Result<void> run(int argc, char** argv) {
  const auto engine = Engine::open(argv[1]);
  if (!engine) return engine.error();
  auto executor = engine->executor({.n_threads = 2});
  if (!executor) return executor.error();
  if (!std::filesystem::exists(argv[2])) {
    if (const auto saved = read_and_save(*engine, *executor, argv[3], argv[2]); !saved) return saved;
  }
  const auto saved = open_context(argv[2]);
  if (!saved) return saved.error();
  const auto context = saved->sequence(*engine, *executor);
  if (!context) return context.error();
  std::printf("%lld tokens, %lld of %lld bytes\n", static_cast<long long>(saved->info().n_tokens),
              static_cast<long long>(saved->info().kv_bytes),
              static_cast<long long>(saved->info().kv_bytes_full));
  for (int i = 4; i < argc; ++i) {
    const auto answer = ask(*engine, *executor, *context, argv[i]);
    if (!answer) return answer.error();
    std::printf("> %s\n%s\n", argv[i], answer->c_str());
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return std::fputs("usage: ask_many MODEL CONTEXT DOCUMENT QUESTION...\n", stderr), 2;
  const auto done = run(argc, argv);
  if (!done) std::fprintf(stderr, "error: %s\n", done.error().message.c_str());
  return done ? 0 : 1;
}
