#include <curdkv/engine.h>
#include <cstdio>

int main(int, char** argv) {
  const auto engine = curdkv::Engine::open(argv[1]);
  const auto press = curdkv::Press::make({.name = "adacurdkv", .compression_ratio = 0.7});
  if (!engine || !press) return 1;
  auto executor = engine->executor();
  const auto context = engine->prompt().context("A long document would stand here; this one is short.");
  const auto question = engine->prompt().question("What is this?");
  if (!executor || !context || !question) return 1;
  auto sequence = executor->sequence();
  const auto read = executor->read(sequence, *context, *press);
  if (!read || !executor->extend(sequence, *question)) return 1;
  const auto answer = generate(*executor, sequence, engine->tokenizer(), {.n_predict = 8});
  if (!answer) return 1;
  std::printf("%s\n(from %zu of %zu bytes)\n", answer->text.c_str(), read->kv_bytes, read->kv_bytes_full);
}
