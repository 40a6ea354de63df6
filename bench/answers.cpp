// KL divergence to the full cache on answers: every sample's context is read once for all presses and ratios,
// the full cache answers greedily, and each compressed cache predicts that answer token by token. Prints each
// sample's values as soon as it is done, and at the end the mean over answers per kind of sample, press and
// ratio as a Markdown table.
#include <getopt.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "curdkv/engine.h"
#include "eval/divergence.h"
#include "support/must.h"

using namespace curdkv;
using namespace curdkv::testing;

namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

// Logits before each token of the answer.
std::vector<std::vector<float>> predict(Executor& executor, Sequence& sequence,
                                        std::span<const Token> question, std::span<const Token> answer) {
  must(executor.extend(sequence, question));
  std::vector<std::vector<float>> out = {{sequence.logits().begin(), sequence.logits().end()}};
  must(executor.extend(
      sequence, answer.first(answer.size() - 1),
      [&](int64_t, std::span<const float> logits) { out.emplace_back(logits.begin(), logits.end()); }));
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  std::string model_path, file, presses = "curdkv,ridgekv,mixkv", ratios = "0.7,0.9";
  int n_threads = 2;
  int64_t n_answer = 32;
  for (int c; (c = getopt(argc, argv, "m:f:p:r:t:n:")) != -1;) {
    if (c == 'm') model_path = optarg;
    if (c == 'f') file = optarg;
    if (c == 'p') presses = optarg;
    if (c == 'r') ratios = optarg;
    if (c == 't') n_threads = std::atoi(optarg);
    if (c == 'n') n_answer = std::atoll(optarg);
  }
  if (model_path.empty() || file.empty()) {
    std::fprintf(
        stderr,
        "usage: answers -m MODEL -f SAMPLES.jsonl [-p PRESS,...] [-r RATIO,...] [-n TOKENS] [-t N]\n");
    return 2;
  }
  const Engine engine = must(Engine::open(model_path));
  const Tokenizer& tokenizer = engine.tokenizer();
  const Prompt& prompt = engine.prompt();
  Executor executor = must(engine.executor({.n_threads = n_threads}));
  Sequence full = executor.sequence();
  std::vector<std::pair<std::string, Sequence>> sides;
  std::vector<ReadTarget> targets = {{&full, Press()}};
  for (const std::string& name : split(presses)) {
    for (const std::string& ratio : split(ratios)) {
      sides.emplace_back(name + " " + ratio, executor.sequence());
    }
  }
  size_t i = 0;
  for (const std::string& name : split(presses)) {
    for (const std::string& ratio : split(ratios)) {
      targets.push_back({&sides[i++].second, make_press(name, std::stod(ratio))});
    }
  }
  std::map<std::string, std::map<std::string, std::pair<double, int>>> sums;  // [kind][press and ratio]
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto sample = nlohmann::json::parse(line);
    const auto text = [&](const char* key) { return sample.at(key).get<std::string>(); };
    const auto context = must(prompt.context(text("context")));
    auto question = must(prompt.question(text("question")));
    const auto prefix = must(tokenizer.tokenize(text("answer_prefix"), false, false));
    question.insert(question.end(), prefix.begin(), prefix.end());
    for (const ReadTarget& t : targets) t.sequence->clear();
    must(executor.read_together(targets, context));
    const Sequence::Mark mark = full.mark();
    must(executor.extend(full, question));
    const Generation answer = must(generate(executor, full, tokenizer, {.n_predict = n_answer}));
    if (answer.tokens.empty()) continue;
    must(full.rewind(mark));
    const auto expected = predict(executor, full, question, answer.tokens);
    std::printf("%s, %zu tokens:", text("task").c_str(), context.size());
    for (auto& [label, sequence] : sides) {
      const auto got = predict(executor, sequence, question, answer.tokens);
      double sum = 0;
      for (size_t t = 0; t < got.size(); ++t)
        sum += eval::divergence(eval::log_softmax(expected[t]), eval::log_softmax(got[t]));
      auto& [total, n] = sums[text("kind")][label];
      total += sum / static_cast<double>(got.size());
      ++n;
      std::printf(" %.3f", sum / static_cast<double>(got.size()));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  for (const auto& [kind, by_side] : sums) {
    std::printf("\n| %s (%d samples) | KL |\n|---|---|\n", kind.c_str(), by_side.begin()->second.second);
    for (const auto& side : sides) {
      const auto& [total, n] = by_side.at(side.first);
      std::printf("| %s | %.3f |\n", side.first.c_str(), total / n);
    }
  }
  return 0;
}
