// Memory while and after reading a context: layer-by-layer prefill against keeping the whole cache until the
// end, as other engines do. Each row runs in a process of its own, so that its peak RSS is its own. Prints a
// Markdown table.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "measure/memory.h"
#include "support/one_sequence.h"

using namespace curdkv;
using namespace curdkv::testing;

namespace {

double mib(size_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

void print_row(const std::string& path, int n_threads, int64_t n_tokens, const Press& press, bool at_end) {
  const Model model = must(Model::load(path));
  ExecutorParams params;
  params.n_threads = n_threads;
  params.n_ctx = n_tokens + 64;
  OneSequence session = must(OneSequence::create(model, params));
  // A first run touches all weights and scratch memory; what grows afterwards is the context's.
  must(session.read(random_tokens(512, model.info().n_vocab), Press()));
  session.clear();
  const size_t before = measure::resident_bytes().value_or(0);
  ReadOptions options;
  options.compress_at_end = at_end;
  const ReadReport report = must(session.read(random_tokens(n_tokens, model.info().n_vocab), press, options));
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const size_t peak = static_cast<size_t>(usage.ru_maxrss) * 1024;
  const size_t kept = session.kv_bytes(), after = measure::resident_bytes().value_or(0);
  session.clear();
  const size_t freed = after - measure::resident_bytes().value_or(0);
  std::printf("| %lld | %s %.2f | %s | %.1f | %.1f | %.1f | %.1f | %.2f | %.2f | %.0f |\n",
              (long long)n_tokens, press.name().c_str(), press.compression_ratio(),
              at_end ? "at the end" : "layer by layer", mib(session.kv_bytes_full(n_tokens)),
              mib(report.kv_bytes_peak), mib(report.hidden_bytes), mib(peak - before), mib(kept), mib(freed),
              static_cast<double>(n_tokens) * 1e3 / report.prefill_ms);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: memory MODEL THREADS PRESS TOKENS...\n");
    return 2;
  }
  std::printf(
      "MiB; RSS growth is over the process before the context was read\n\n"
      "| tokens | press | compressed | full cache | reported peak | of it hidden states | RSS growth, peak | "
      "cache kept | RSS given back by freeing it | t/s |\n|---|---|---|---|---|---|---|---|---|---|\n");
  for (int i = 4; i < argc; ++i) {
    for (const bool at_end : {false, true}) {
      std::fflush(stdout);
      const pid_t child = fork();
      if (child == 0) {
        print_row(argv[1], std::atoi(argv[2]), std::atoll(argv[i]), make_press(argv[3], 0.8), at_end);
        std::fflush(stdout);
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      if (status != 0) return 1;
    }
  }
  return 0;
}
