// Presets: pairs of a scorer and an allocation under the names that the field uses, with their settings.
#pragma once

namespace curdkv {

struct PresetEntry {
  const char* name;
  const char* scorer;
  const char* allocation;
  const char* params;  // "name=value:name=value", over the defaults
  const char* summary;
};

inline constexpr PresetEntry kPresets[] = {
    {"curdkv", "cur", "uniform", "", "value-guided eviction, every KV head alike"},
    {"adacurdkv", "cur", "adaptive", "", "value-guided eviction, room shared among the KV heads of a layer"},
    {"chunkcurdkv", "cur", "chunk", "", "value-guided eviction of whole chunks"},
    {"leverage", "leverage", "uniform", "", "exact leverage scores of keys and values"},
    {"adaleverage", "leverage", "adaptive", "", "exact leverage scores, room shared among heads"},
    {"ridgekv", "leverage", "uniform", "ridge=10:smooth=3", "leverage scores with a ridge, smoothed"},
    {"adaridgekv", "leverage", "adaptive", "ridge=10:smooth=3", "the same, room shared among heads"},
    {"mixkv", "mix", "uniform", "first.ridge=3:first.smooth=3",
     "ridge leverage for 0.7, non-causal attention for 0.3"},
    {"recommended", "mix", "bytes",
     "first=reference_attention:first.queries=768:second=leverage:second.ridge=3:second.smooth=3:"
     "budget_queries=768:keys=auto:key_error=0.4:values=auto:ratio_of=bytes",
     "reference attention and ridge leverage, rows in few bits, one budget of bytes over all heads"},
    {"snapkv", "snapkv", "uniform", "", "what the last tokens attend to"},
    {"adasnapkv", "snapkv", "adaptive", "", "the same, room shared among heads"},
    {"chunkkv", "snapkv", "chunk", "", "the same, whole chunks"},
    {"pyramidkv", "snapkv", "pyramid", "", "the same, more in lower layers"},
    {"streamingllm", "streaming_llm", "uniform", "", "the first tokens and the latest"},
    {"knorm", "knorm", "uniform", "", "keys of small norm"},
    {"h2o", "observed_attention", "uniform", "", "what got most attention over the whole context"},
    {"scissorshands", "scissorshands", "uniform", "", "what keeps getting attention"},
    {"tova", "tova", "uniform", "", "what the last token attends to"},
    {"dropkv", "dropkv", "uniform", "", "what the last tokens' attention would miss most"},
    {"keydiff", "keydiff", "uniform", "", "keys unlike the others"},
    {"lagkv", "lagkv", "uniform", "", "what the tokens after it do not hold"},
    {"expectedattention", "expected_attention", "uniform", "", "what queries to come are expected to want"},
    {"compactor", "compactor", "uniform", "", "non-causal attention and key leverage"},
    {"capkv", "capkv", "uniform", "", "values alone in what they say, by what queries want"},
    {"kvzip", "kvzip", "adaptive", "alpha=0", "what is needed to repeat the context; slow, reads it twice"},
    {"kvzipplus", "kvzip_plus", "adaptive", "alpha=0", "the same, by what it writes to the hidden states"},
    {"random", "random", "uniform", "", "the baseline"},
};

}  // namespace curdkv
