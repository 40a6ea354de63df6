// curdkv or libllama on one document and question, as the other peers are measured: one JSON line.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/stopwatch.h"
#include "curdkv/text.h"
#include "measure/engine.h"
#include "support/must.h"

using namespace curdkv;
using namespace curdkv::measure;
using namespace curdkv::testing;

int main(int argc, char** argv) {
  if (argc != 10) {
    std::fprintf(stderr,
                 "usage: peer curdkv|llama.cpp MODEL DOCUMENT QUESTION TOKENS PREDICT THREADS PRESS RATIO\n");
    return 2;
  }
  const bool ours = std::strcmp(argv[1], "curdkv") == 0;
  const auto n_context = static_cast<size_t>(std::atoll(argv[5])),
             n_predict = static_cast<size_t>(std::atoll(argv[6]));
  std::ifstream file(argv[3]);
  const std::string document((std::istreambuf_iterator<char>(file)), {});
  const Tokenizer tokenizer = must(Tokenizer::load(argv[2]));
  const std::vector<Token> tokens = must(tokenizer.tokenize(document, false, true));
  const std::vector<Token> question =
      must(tokenizer.tokenize(std::string("\n\n") + argv[4] + "\n", false, false));
  if (tokens.size() < n_context + n_predict) {
    std::fprintf(stderr, "the document has %zu tokens, too few\n", tokens.size());
    return 1;
  }
  ExecutorParams params;
  params.n_threads = std::atoi(argv[7]);
  params.n_ctx = static_cast<int64_t>(n_context + question.size() + n_predict) + 64;
  const Model model = must(Model::load(argv[2]));
  const Press press = make_press(argv[8], std::atof(argv[9]));
  std::optional<Executor> executor;
  if (ours) executor.emplace(must(Executor::create(model, params)));
  const auto engine = ours ? make_curdkv(*executor, press) : must(make_llama_cpp(model, params));
  const std::span<const Token> all(tokens);
  must(engine->read(all.first(64)));  // whatever is only done once
  engine->clear();

  const Stopwatch reading;
  must(engine->read(all.first(n_context)));
  must(engine->append(question));
  const double prefill_ms = reading.ms();
  // The document's next tokens stand for an answer: it takes the same time.
  const Stopwatch decoding;
  for (size_t i = 1; i < n_predict; ++i) must(engine->append(all.subspan(n_context + i, 1)));
  const double decode_ms = decoding.ms() / static_cast<double>(n_predict - 1);
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const nlohmann::ordered_json line = {{"engine", engine->name()},
                                       {"press", engine->press().spec()},
                                       {"compression_ratio", engine->press().compression_ratio()},
                                       {"n_context_tokens", n_context},
                                       {"prefill_ms", prefill_ms},
                                       {"decode_ms_per_token", decode_ms},
                                       {"rss_peak_bytes", static_cast<size_t>(usage.ru_maxrss) * 1024}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}
