// A press of one's own, put together of a scorer, a layer budget, a selection and their parameters, beside a
// published one: how many rows each leaves to every KV head of the middle layer, for the work of one reading.
// (A scorer of one's own is a file in the library's source: docs/add-a-press.md.)
// usage: own_press MODEL DOCUMENT
#include <curdkv/engine.h>

#include <cstdio>
#include <fstream>
#include <sstream>

using namespace curdkv;

namespace {

Result<void> run(const char* model, const char* document) {
  const auto engine = Engine::open(model);
  if (!engine) return engine.error();
  auto executor = engine->executor({.n_threads = 2});
  if (!executor) return executor.error();
  std::stringstream text;
  text << std::ifstream(document).rdbuf();
  const auto tokens = engine->prompt().context(text.str());
  if (!tokens) return tokens.error();

  std::vector<Sequence> sequences;
  std::vector<ReadTarget> targets;
  for (const char* name : {"snapkv+pyramid+adaptive:window=16", "adacurdkv"}) {
    const auto press = Press::make({.name = name, .compression_ratio = 0.75});
    if (!press) return press.error();
    sequences.push_back(executor->sequence());
    targets.push_back({nullptr, *press});
  }
  for (size_t i = 0; i < targets.size(); ++i) targets[i].sequence = &sequences[i];
  if (const auto read = executor->read_together(targets, *tokens); !read) return read.error();
  for (const ReadTarget& t : targets) {
    const auto rows = t.sequence->cache_lengths();
    std::printf("%s, %zu bytes:", t.press.spec().c_str(), t.sequence->kv_bytes());
    for (const int64_t n : rows[rows.size() / 2]) std::printf(" %lld", static_cast<long long>(n));
    std::printf(" of %zu rows\n", tokens->size());
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("usage: own_press MODEL DOCUMENT\n", stderr), 2;
  const auto done = run(argv[1], argv[2]);
  if (!done) std::fprintf(stderr, "error: %s\n", done.error().message.c_str());
  return done ? 0 : 1;
}
