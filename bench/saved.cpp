// A document read once, saved and opened again: bytes, times, and whether answers from the file have the bits
// of those from memory. Questions are asked of both in turn. Prints a Markdown table.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "curdkv/context.h"
#include "measure/bench.h"
#include "support/must.h"

using namespace curdkv;
using namespace curdkv::testing;

namespace {

constexpr const char* kQuestions[] = {"What is this text about, and who wrote it?",
                                      "What does it begin with?", "Which advice does it give, and to whom?",
                                      "What does it end with?"};

struct Asked {
  double first_ms = 0;        // from the question's first token to the answer's
  std::vector<float> logits;  // after the question and after each token of a greedy answer
};

Asked ask(const Engine& engine, Executor& executor, Sequence sequence, const char* question) {
  Asked out;
  const auto tokens = must(engine.prompt().question(question));
  const Stopwatch watch;
  must(executor.extend(sequence, tokens));
  out.first_ms = watch.ms();
  for (int i = 0; i < 16; ++i) {
    const auto logits = sequence.logits();
    out.logits.insert(out.logits.end(), logits.begin(), logits.end());
    const Token next = static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    must(executor.extend(sequence, {&next, 1}));
  }
  return out;
}

void print(const char* what, const std::vector<double>& ms) {
  std::printf("| %s | %.1f ms | %.1f to %.1f |\n", what, measure::median(ms),
              *std::min_element(ms.begin(), ms.end()), *std::max_element(ms.begin(), ms.end()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr, "usage: saved MODEL THREADS DOCUMENT PRESS RATIO ROUNDS\n");
    return 2;
  }
  std::stringstream document;
  document << std::ifstream(argv[3]).rdbuf();
  const Engine engine = must(Engine::open(argv[1]));
  ExecutorParams params;
  params.n_threads = std::atoi(argv[2]);
  Executor executor = must(engine.executor(params));
  const auto tokens = must(engine.prompt().context(document.str()));
  const Press press = make_press(argv[4], std::atof(argv[5]));
  Sequence read = executor.sequence();
  const ReadReport report = must(executor.read(read, tokens, press));

  const std::string path = (std::filesystem::temp_directory_path() / "curdkv-bench-saved.kvc").string();
  std::vector<double> save, open, memory, file, ratio;
  size_t n_logits = 0, n_same = 0;
  int64_t n_bytes = 0;
  for (int round = 0; round < std::atoi(argv[6]); ++round) {
    Stopwatch watch;
    must(save_context(path, engine, read, {.tokens = tokens, .press = press, .logits = false}));
    save.push_back(watch.ms());
    watch = Stopwatch();
    const SavedContext context = must(open_context(path));
    const Sequence opened = must(context.sequence(engine, executor));
    open.push_back(watch.ms());
    n_bytes = context.info().file_bytes;
    for (const char* question : kQuestions) {
      const bool file_first = file.size() % 2 == 1;
      const Asked first = ask(engine, executor, (file_first ? opened : read).fork(), question);
      const Asked second = ask(engine, executor, (file_first ? read : opened).fork(), question);
      (file_first ? file : memory).push_back(first.first_ms);
      (file_first ? memory : file).push_back(second.first_ms);
      ratio.push_back(file.back() / memory.back());
      n_logits += first.logits.size();
      for (size_t i = 0; i < first.logits.size(); ++i)
        n_same += std::memcmp(&first.logits[i], &second.logits[i], sizeof(float)) == 0 ? 1 : 0;
    }
  }
  std::filesystem::remove(path);
  const double bytes = static_cast<double>(read.kv_bytes());
  std::printf(
      "%zu tokens, %s: cache %.1f MiB of %.1f, file %.1f MiB, %.4f times the cache\n"
      "logits behind %zu questions from memory and from the file: %zu of %zu have the same bits\n"
      "| | median | least to greatest |\n|---|---|---|\n",
      tokens.size(), press.spec().c_str(), bytes / (1 << 20),
      static_cast<double>(report.kv_bytes_full) / (1 << 20), static_cast<double>(n_bytes) / (1 << 20),
      static_cast<double>(n_bytes) / bytes, memory.size(), n_same, n_logits);
  print("reading and compressing", {report.prefill_ms});
  print("saving, on the disk", save);
  print("opening, every byte checked, and making a sequence of it", open);
  print("question to first token, cache in memory", memory);
  print("question to first token, cache in the file", file);
  std::printf("| the latter over the former | %.3f | %.3f to %.3f |\n", measure::median(ratio),
              *std::min_element(ratio.begin(), ratio.end()), *std::max_element(ratio.begin(), ratio.end()));
  std::printf("| reading again over opening | %.0f | |\n", report.prefill_ms / measure::median(open));
}
