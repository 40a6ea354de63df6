// Many answers behind one compressed context: tokens per second of 1 to 16 sequences decoded in step, all
// forks of one, and the memory that they take. Sizes take turns within each repetition. Prints a Markdown
// table.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/stopwatch.h"
#include "measure/bench.h"
#include "measure/memory.h"
#include "support/one_sequence.h"

using namespace curdkv;
using namespace curdkv::testing;

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr, "usage: company MODEL THREADS TOKENS PRESS RATIO REPETITIONS\n");
    return 2;
  }
  constexpr int kSteps = 16;
  const int64_t n_tokens = std::atoll(argv[3]);
  const Model model = must(Model::load(argv[1]));
  ExecutorParams params;
  params.n_threads = std::atoi(argv[2]);
  params.n_ctx = n_tokens + 256;
  Executor executor = must(Executor::create(model, params));
  Sequence context = executor.sequence();
  must(executor.read(context, random_tokens(n_tokens, model.info().n_vocab),
                     make_press(argv[4], std::atof(argv[5]))));
  struct Row {
    size_t n = 1;
    size_t cache_bytes = 0;
    int64_t resident_growth = 0;
    std::vector<double> ts, ratios;
  };
  std::vector<Row> rows(5);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].n = size_t{1} << i;
  for (int repeat = -1; repeat < std::atoi(argv[6]); ++repeat) {
    for (Row& row : rows) {
      const size_t before = measure::resident_bytes().value_or(0);
      std::vector<Sequence> forks;
      for (size_t i = 0; i < row.n; ++i) forks.push_back(context.fork());
      std::vector<Sequence*> all;
      for (Sequence& s : forks) all.push_back(&s);
      const auto next = random_tokens(static_cast<int64_t>(row.n), model.info().n_vocab, 3);
      must(decode_together(executor, all,
                           next));  // joins, which takes a graph where there is none of this size
      const Stopwatch watch;
      for (int i = 0; i < kSteps; ++i) must(decode_together(executor, all, next));
      const double ts = static_cast<double>(row.n) * kSteps * 1e3 / watch.ms();
      row.cache_bytes = context.kv_bytes();
      for (const Sequence& s : forks) row.cache_bytes += s.kv_bytes() - context.kv_bytes();
      row.resident_growth =
          static_cast<int64_t>(measure::resident_bytes().value_or(0)) - static_cast<int64_t>(before);
      if (repeat < 0) continue;  // warms up
      row.ts.push_back(ts);
      row.ratios.push_back(ts / rows[0].ts.back());
    }
  }
  std::printf(
      "| sequences | t/s in all | times one's, median | least to greatest | block and tails, MiB | RSS "
      "growth, MiB |\n"
      "|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    std::printf("| %zu | %.1f | %.2f | %.2f to %.2f | %.1f | %.1f |\n", row.n, measure::median(row.ts),
                measure::median(row.ratios), *std::min_element(row.ratios.begin(), row.ratios.end()),
                *std::max_element(row.ratios.begin(), row.ratios.end()),
                static_cast<double>(row.cache_bytes) / (1 << 20),
                static_cast<double>(row.resident_growth) / (1 << 20));
  }
}
