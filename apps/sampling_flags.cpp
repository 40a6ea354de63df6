#include "sampling_flags.h"

#include <limits>

#include "numbers.h"

namespace curdkv::app {

void add_sampling(CLI::App& app, SamplingParams& sampling) {
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

}  // namespace curdkv::app
