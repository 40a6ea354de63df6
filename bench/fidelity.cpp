// How far a prefill's logits are from libllama's, for each prefill kernel, those of questions and of decoding
// too, and, given the same weights as F32, how far all are from products without quantised inputs. usage:
// fidelity MODEL.gguf TEXT N_TOKENS [F32.gguf]     (F32.gguf: made by requantise)
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "curdkv/executor.h"
#include "curdkv/text.h"
#include "measure/llama_cpp.h"
#include "support/agreement.h"
#include "support/one_sequence.h"

using namespace curdkv;
using namespace curdkv::testing;

namespace {

using AllLogits = std::vector<std::vector<float>>;

// Perplexity of the tokens, each from those before it.
double perplexity(const AllLogits& logits, std::span<const Token> tokens) {
  double sum = 0;
  for (size_t i = 0; i + 1 < tokens.size(); ++i)
    sum -= eval::log_softmax(logits[i])[static_cast<size_t>(tokens[i + 1])];
  return std::exp(sum / static_cast<double>(tokens.size() - 1));
}

// step: tokens at a time.
AllLogits libllamas(const char* path, std::span<const Token> tokens, size_t step) {
  auto llama = measure::LlamaCpp::load(path, 2, static_cast<int64_t>(tokens.size()));
  if (llama == nullptr) {
    std::fprintf(stderr, "error: libllama cannot load %s\n", path);
    std::exit(1);
  }
  AllLogits all;
  for (size_t at = 0; at < tokens.size(); at += step) {
    auto logits = llama->extend(tokens.subspan(at, std::min(step, tokens.size() - at)), true);
    std::move(logits.begin(), logits.end(), std::back_inserter(all));
  }
  return all;
}

AllLogits ours(const Model& model, PrefillKernel kernel, std::span<const Token> tokens) {
  ExecutorParams params;
  params.n_threads = 2;
  params.prefill_kernel = kernel;
  OneSequence session = must(OneSequence::create(model, params));
  AllLogits all;
  ReadOptions options;
  options.logits = [&](int64_t, std::span<const float> logits) {
    all.emplace_back(logits.begin(), logits.end());
  };
  must(session.read(tokens, Press(), options));
  return all;
}

// Without a prefill: `step` tokens at a time, 1: decoded.
AllLogits appended(const Model& model, std::span<const Token> tokens, size_t step) {
  ExecutorParams params;
  params.n_threads = 2;
  OneSequence session = must(OneSequence::create(model, params));
  AllLogits all;
  for (size_t at = 0; at < tokens.size(); at += step) {
    must(session.extend(
        tokens.subspan(at, std::min(step, tokens.size() - at)),
        [&](int64_t, std::span<const float> logits) { all.emplace_back(logits.begin(), logits.end()); }));
  }
  return all;
}

Agreement compare(const AllLogits& expected, const AllLogits& got) {
  Agreement a;
  for (size_t i = 0; i < got.size(); ++i) a.add(expected[i], got[i]);
  return a;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: fidelity MODEL.gguf TEXT N_TOKENS [F32.gguf]\n");
    return 2;
  }
  std::ifstream file(argv[2]);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const Tokenizer tokenizer = must(Tokenizer::load(argv[1]));
  std::vector<Token> tokens = must(tokenizer.tokenize(text, false, true));
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(std::atoll(argv[3]))));
  const Model model = must(Model::load(argv[1]));
  AllLogits exact;
  if (argc > 4) {
    exact = libllamas(argv[4], tokens, tokens.size());
    std::printf("inputs not quantised: perplexity %.4f\n", perplexity(exact, tokens));
  }
  const AllLogits theirs = libllamas(argv[1], tokens, tokens.size());
  std::printf("libllama: perplexity %.4f\n", perplexity(theirs, tokens));
  if (!exact.empty()) compare(exact, theirs).print("  against inputs not quantised");
  compare(theirs, libllamas(argv[1], tokens, 1)).print("  its own decoding against its batches");
  compare(theirs, libllamas(argv[1], tokens, 96)).print("  its batches of 96 against those of 512");
  const auto print = [&](const char* name, const AllLogits& got) {
    std::printf("%s: perplexity %.4f\n", name, perplexity(got, tokens));
    compare(theirs, got).print("  against libllama");
    if (!exact.empty()) compare(exact, got).print("  against inputs not quantised");
  };
  print("--prefill-kernel ggml", ours(model, PrefillKernel::ggml, tokens));
  print("--prefill-kernel auto", ours(model, PrefillKernel::automatic, tokens));
  print("questions of 32 tokens", appended(model, tokens, 32));
  print("decoding", appended(model, tokens, 1));
  return 0;
}
