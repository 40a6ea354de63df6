// A chat about a document: turns through the model's chat template, answers as they come. The turns are kept
// within 512 rows a head, the document within 0.3 of its own.
// usage: chat MODEL DOCUMENT < QUESTIONS
#include <curdkv/conversation.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

using namespace curdkv;

namespace {

Result<void> run(const char* model, const char* document) {
  std::stringstream text;
  text << std::ifstream(document).rdbuf();
  const auto engine = Engine::open(model);
  if (!engine) return engine.error();
  auto executor = engine->executor({.n_threads = 2});
  if (!executor) return executor.error();
  auto chat = Conversation::create(*engine, *executor, {.budget = 512, .press = {.name = "ridgekv"}});
  if (!chat) return chat.error();
  const auto press = Press::make({.name = "adacurdkv", .compression_ratio = 0.7});
  if (!press) return press.error();
  if (const auto read = chat->read(text.str(), [&](int64_t) { return press; }); !read) return read.error();

  GenerateOptions options = {.n_predict = 64};
  options.on_text = [](const std::string& piece) { std::fputs(piece.c_str(), stdout); };
  for (std::string question; std::getline(std::cin, question);) {
    if (const auto answer = chat->ask(question, options); !answer) return answer.error();
    std::puts("");
  }
  const ConversationSize size = chat->size();
  std::printf("%lld tokens in %lld rows\n", static_cast<long long>(size.n_tokens),
              static_cast<long long>(size.n_rows));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("usage: chat MODEL DOCUMENT < QUESTIONS\n", stderr), 2;
  const auto done = run(argv[1], argv[2]);
  if (!done) std::fprintf(stderr, "error: %s\n", done.error().message.c_str());
  return done ? 0 : 1;
}
