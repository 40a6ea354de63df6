// What each press costs: one reading of random tokens for all presses, and the time each took to score,
// select and compact beside the time of the reading itself: medians and ranges over repeats. Prints a
// Markdown table. A context longer than the model was trained for takes the same time as any other.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "support/one_sequence.h"

using namespace curdkv;
using namespace curdkv::testing;

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: scoring MODEL THREADS REPEATS TOKENS...\n");
    return 2;
  }
  const Model model = must(Model::load(argv[1]));
  std::vector<std::string> names = {"none"};
  for (const PressInfo& p : list_presses()) {
    if (!p.scorer.empty() && !p.allocation.empty()) names.push_back(p.name);
  }
  const int n_repeats = std::atoi(argv[3]);
  std::vector<std::vector<std::vector<ReadReport>>> columns;  // [tokens][repeat][press]
  for (int i = 4; i < argc; ++i) {
    const int64_t n_tokens = std::atoll(argv[i]);
    ExecutorParams params;
    params.n_threads = std::atoi(argv[2]);
    params.n_ctx = 2 * n_tokens + 4096;
    const auto tokens = random_tokens(n_tokens, model.info().n_vocab);
    params.repeats = [&](std::span<const Token>) {  // 2,048 tokens at a time behind a request of 20
      std::vector<Repeat> out;
      for (int64_t first = 0; first < n_tokens; first += 2048) {
        const int64_t n = std::min<int64_t>(2048, n_tokens - first);
        out.push_back({first, n, {tokens.begin(), tokens.begin() + 20}});
        out.back().tokens.insert(out.back().tokens.end(), tokens.begin() + first, tokens.begin() + first + n);
      }
      return Result(out);
    };
    columns.emplace_back();
    for (int repeat = 0; repeat < n_repeats; ++repeat) {
      Executor executor = must(Executor::create(model, params));
      std::vector<Sequence> sequences;
      for (size_t p = 0; p < names.size(); ++p) sequences.push_back(executor.sequence());
      std::vector<ReadTarget> targets;
      for (size_t p = 0; p < names.size(); ++p) targets.push_back({&sequences[p], make_press(names[p], 0.9)});
      columns.back().push_back(must(executor.read_together(targets, tokens)));
      std::fprintf(stderr, "%lld tokens, repeat %d done\n", (long long)n_tokens, repeat + 1);
    }
  }
  std::printf("\n| press |");
  for (int i = 4; i < argc; ++i) std::printf(" %s tokens, ms | of prefill |", argv[i]);
  std::printf("\n|---|");
  for (int i = 4; i < argc; ++i) std::printf("---|---|");
  for (size_t p = 0; p < names.size(); ++p) {
    std::printf("\n| %s |", p == 0 ? "reading itself" : names[p].c_str());
    for (const auto& repeats : columns) {
      std::vector<double> ms, share;
      for (const auto& reports : repeats) {
        const double reading = reports[0].prefill_ms - reports[0].compress_ms;
        ms.push_back(p == 0 ? reading : reports[p].compress_ms - reports[0].compress_ms);
        share.push_back(100 * ms.back() / reading);
      }
      for (auto* x : {&ms, &share}) std::sort(x->begin(), x->end());
      std::printf(" %.0f | %.2f %% (%.2f to %.2f) |", ms[ms.size() / 2], share[share.size() / 2],
                  share.front(), share.back());
    }
  }
  std::printf("\nOver keeping everything, which copies all rows.\n");
  return 0;
}
