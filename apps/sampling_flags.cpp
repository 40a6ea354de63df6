#include "sampling_flags.h"

#include <algorithm>
#include <limits>

#include "numbers.h"

namespace curdkv::app {

void add_generation(CLI::App& app, GenerateOptions& options) {
  options.draft = Draft::lookup;
  app.add_option_function<std::string>(
         "--draft",
         [&options](const std::string& name) {
           options.draft = name == "lookup" ? Draft::lookup : Draft::none;
         },
         "draft what may come next and check several tokens at a time, which changes no answer: "
         "lookup (what followed where the text went alike, while it pays) or none")
      ->check(CLI::IsMember({"none", "lookup"}))
      ->default_str("lookup");
  app.add_option("-n,--predict,--n-predict", options.n_predict,
                 "most tokens of an answer (-1 or -2: until the model ends its turn or the context is full)")
      ->type_name("N")
      ->transform(whole_number(-2, kMostTokens))
      ->capture_default_str();
  SamplingParams& sampling = options.sampling;
  app.add_option("--temp,--temperature", sampling.temperature, "temperature; 0 is greedy")
      ->type_name("T")
      ->transform(real_number())
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "sample among the k most likely tokens (0: all)")
      ->transform(whole_number(-1, std::numeric_limits<int32_t>::max()))
      ->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "sample among the likeliest tokens of this total probability")
      ->transform(real_number())
      ->capture_default_str();
  app.add_option("--min-p", sampling.min_p, "drop tokens below this share of the likeliest one's")
      ->transform(real_number())
      ->capture_default_str();
}

void settle_generation(GenerateOptions& options, uint64_t seed) {
  options.sampling.seed = static_cast<uint32_t>(seed);
  options.sampling.top_k = std::max(options.sampling.top_k, 0);  // llama.cpp: -1 is all, too
  if (options.n_predict < 0) options.n_predict = -1;             // and -2 until the context is full
}

}  // namespace curdkv::app
