// A long generation in constant memory: the cache is brought back to a budget every so often while tokens are
// generated. Prints, per press, the longest any head's cache got, RSS along the way, and the perplexity of
// the result under the same model with its full cache, which tells whether it is still language. "none" is
// the unbounded cache.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "curdkv/engine.h"
#include "measure/memory.h"
#include "support/one_sequence.h"

using namespace curdkv;
using namespace curdkv::testing;

namespace {

double rss_mib() {
  return static_cast<double>(measure::resident_bytes().value_or(0)) / (1 << 20);
}

// Of tokens after the first, each predicted from all before it.
double perplexity(const Model& model, int n_threads, std::span<const Token> tokens) {
  ExecutorParams params;
  params.n_threads = n_threads;
  params.n_ctx = static_cast<int64_t>(tokens.size());
  OneSequence session = must(OneSequence::create(model, params));
  double nll = 0;
  ReadOptions options;
  options.logits = [&](int64_t position, std::span<const float> logits) {
    if (position + 1 == std::ssize(tokens)) return;
    const double top = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (float x : logits) sum += std::exp(x - top);
    nll += top + std::log(sum) - logits[static_cast<size_t>(tokens[static_cast<size_t>(position) + 1])];
  };
  must(session.read(tokens, Press(), options));
  return std::exp(nll / static_cast<double>(tokens.size() - 1));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) {
    std::fprintf(stderr, "usage: endless MODEL THREADS TOKENS BUDGET INTERVAL PRESS...\n");
    return 2;
  }
  const Engine engine = must(Engine::open(argv[1]));
  const Tokenizer& tokenizer = engine.tokenizer();
  const int n_threads = std::atoi(argv[2]);
  const int64_t n_tokens = std::atoll(argv[3]), budget = std::atoll(argv[4]), interval = std::atoll(argv[5]);
  const auto prompt = must(tokenizer.tokenize("The history of the harbour began in the year", false, true));
  for (int i = 6; i < argc; ++i) {
    const Press press = make_press(argv[i], 0);
    ExecutorParams params;
    params.n_threads = n_threads;
    OneSequence session = must(OneSequence::create(engine.model(), params));
    must(session.read(prompt, Press()));
    SamplingParams sampling;
    sampling.temperature = 1;
    sampling.top_k = 0;
    sampling.top_p = 1;
    Sampler sampler = must(Sampler::create(sampling));
    std::vector<Token> tokens = prompt;
    int64_t longest = 0;
    std::string rss;
    for (int64_t n = 0; n < n_tokens; ++n) {
      Token token = sampler.sample(session.logits());
      // A base text goes on where a turn would end.
      if (tokenizer.ends_generation(token)) token = prompt[0];
      if (!press.is_none() && session.longest_head() >= budget + interval) {
        must(session.compress(press, budget));
      }
      must(session.extend({&token, 1}));
      tokens.push_back(token);
      longest = std::max(longest, session.longest_head());
      if (n + 1 == budget + interval || (n + 1) % 1000 == 0) {
        char text[64];
        std::snprintf(text, sizeof text, "%s%.1f at %lld", rss.empty() ? "" : ", ", rss_mib(),
                      (long long)n + 1);
        rss += text;
      }
    }
    std::printf("%s: %lld tokens, longest head %lld, cache %.2f MiB, next position %lld, RSS MiB %s\n",
                argv[i], (long long)n_tokens, (long long)longest,
                static_cast<double>(session.kv_bytes()) / (1 << 20), (long long)session.next_position(),
                rss.c_str());
    session.clear();
    std::printf("  perplexity under the full cache %.2f\n  ends: ...%s\n",
                perplexity(engine.model(), n_threads, tokens),
                tokenizer.text(std::span(tokens).last(60)).c_str());
    std::fflush(stdout);
  }
  return 0;
}
