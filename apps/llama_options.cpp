#include "llama_options.h"

#include <charconv>

namespace curdkv::app {
namespace {

using Takes = LlamaOption::Takes;
using Fate = LlamaOption::Fate;

constexpr auto kNothing = Takes::nothing, kValue = Takes::value;
constexpr auto kSwitch = Takes::maybe_a_switch;

constexpr std::string_view kDownload =
    "curdkv downloads nothing; download the GGUF file and give it with -m FILE";
constexpr std::string_view kRope =
    "RoPE is scaled as the model's file says; convert the model with other values";
constexpr std::string_view kSampler = "answers are sampled with --temp, --top-k, --top-p and --min-p alone";
constexpr std::string_view kGrammar = "answers cannot be held to a grammar; ask for the form in the question";
constexpr std::string_view kAdapter = "adapters are not applied; merge it into the model's file first";
constexpr std::string_view kTextOnly = "curdkv reads text only";
constexpr std::string_view kDraft = "there is no speculative decoding; leave it out";
constexpr std::string_view kServer = "it is a server's ('curdkv serve --help' lists its options)";
constexpr std::string_view kStop =
    "an answer ends with the model's turn or after -n tokens; cut it afterwards";
constexpr std::string_view kSaved = "'curdkv compress -o FILE' saves a context, and --context FILE opens it";
constexpr std::string_view kPlacing = "layers are placed with -ngl alone, over the GPUs by their free memory";
constexpr std::string_view kAffinity = "threads are not pinned by curdkv; start it with taskset";
constexpr std::string_view kNoChat =
    "the questions given with -q are answered; 'curdkv chat' has conversations";

constexpr LlamaOption kOptions[] = {
    {"-ngl", kValue, Fate::renamed, "--n-gpu-layers"},
    {"-ctk", kValue, Fate::renamed, "--cache-type-k"},
    {"-ctv", kValue, Fate::renamed, "--cache-type-v"},
    {"-sys", kValue, Fate::renamed, "--system-prompt"},
    {"-sysf", kValue, Fate::renamed, "--system-prompt-file"},
    {"-no-cnv -nocnv --no-conversation", kNothing, Fate::renamed, "--raw"},

    {"-fa --flash-attn", kSwitch, Fate::noted, "attention is always flash attention here",
     "on auto 1 true enabled"},
    {"-ub --ubatch-size", kValue, Fate::ignored},
    {"-tb --threads-batch", kValue, Fate::noted,
     "-t is the number of threads for reading and answering alike"},
    {"-v --verbose --log-verbose", kNothing, Fate::ignored},
    {"-lv --verbosity --log-verbosity", kValue, Fate::ignored},
    {"--log-disable --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps", kNothing,
     Fate::ignored},
    {"--log-colors -co --color", kSwitch, Fate::ignored},
    {"--log-file", kValue, Fate::noted, "no log is kept; 2>FILE writes what is said to a file"},
    {"--warmup --no-warmup --perf --no-perf --show-timings --no-show-timings", kNothing, Fate::ignored},
    {"--no-display-prompt --verbose-prompt --simple-io -st --single-turn --offline", kNothing, Fate::ignored},
    {"--display-prompt", kNothing, Fate::noted, "answers alone are printed"},
    {"--jinja --no-context-shift --swa-full --check-tensors --spm-infill", kNothing, Fate::ignored},
    {"-kvo --kv-offload --op-offload --no-op-offload --repack --no-host", kNothing, Fate::ignored},
    {"-kvu --kv-unified -no-kvu --no-kv-unified -cb --cont-batching -nocb --no-cont-batching", kNothing,
     Fate::ignored},
    {"--cache-prompt --no-cache-prompt --no-mmproj --no-mmproj-auto", kNothing, Fate::ignored},
    {"-a --alias -dt --defrag-thold -ptc --print-token-count -cram --cache-ram", kValue, Fate::ignored},
    {"-fit --fit", kSwitch, Fate::ignored},
    {"-nkvo --no-kv-offload", kNothing, Fate::noted, "a layer's cache lies where the layer does"},
    {"-nr --no-repack", kNothing, Fate::noted, "weights are repacked where that is faster"},
    {"--mlock", kNothing, Fate::noted, "weights are not locked in memory"},
    {"-lm --load-mode", kValue, Fate::noted, "weights are mapped from the file, or copied with --no-mmap",
     "auto mmap"},
    {"-lzm --lazy-mode", kSwitch, Fate::ignored},
    {"--context-shift", kNothing, Fate::noted,
     "answers end where the context does, unless --press streamingllm --decode-budget N bounds it"},
    {"--keep", kValue, Fate::noted, "what stays is the press's affair (--press)", "0 -1"},
    {"-cnv --conversation -i --interactive -if --interactive-first -mli --multiline-input", kNothing,
     Fate::noted, kNoChat},
    {"-np --parallel -ns --sequences", kValue, Fate::noted, "questions are answered one after another",
     "1 -1"},
    {"--prio --prio-batch --poll --poll-batch --numa", kValue, Fate::noted,
     "threads run as the system has them"},
    {"-C --cpu-mask -Cr --cpu-range --cpu-strict -Cb --cpu-mask-batch -Crb --cpu-range-batch "
     "--cpu-strict-batch",
     kValue, Fate::noted, kAffinity},
    {"-sp --special", kNothing, Fate::noted, "control tokens are never printed"},
    {"--repeat-last-n --xtc-threshold --dry-base --dry-allowed-length --dry-penalty-last-n --adaptive-decay "
     "--dynatemp-exp --mirostat-lr --mirostat-ent",
     kValue, Fate::ignored},
    {"--reasoning-format --reasoning-effort --reasoning-budget-message", kValue, Fate::noted,
     "a model's thoughts are part of its answer"},

    {"-hf -hfr --hf-repo -hff --hf-file -hft --hf-token -mu --model-url -dr --docker-repo", kValue,
     Fate::refused, kDownload},
    {"--samplers --sampler-seq --sampling-seq -l --logit-bias --dry-sequence-breaker", kValue, Fate::refused,
     kSampler},
    {"--repeat-penalty", kValue, Fate::refused, kSampler, "1"},
    {"--presence-penalty --frequency-penalty --xtc-probability --dry-multiplier --dynatemp-range --mirostat",
     kValue, Fate::refused, kSampler, "0"},
    {"--typical --typical-p", kValue, Fate::refused, kSampler, "1"},
    {"--top-nsigma --top-n-sigma --adaptive-target", kValue, Fate::refused, kSampler, "-1"},
    {"--ignore-eos", kNothing, Fate::refused, "an answer ends where the model ends its turn"},
    {"-bs --backend-sampling", kNothing, Fate::ignored},
    {"--grammar --grammar-file -j --json-schema -jf --json-schema-file", kValue, Fate::refused, kGrammar},
    {"-r --reverse-prompt", kValue, Fate::refused, kStop},
    {"--in-prefix --in-suffix", kValue, Fate::refused, "write it into the question"},
    {"--in-prefix-bos", kNothing, Fate::refused, "the model's chat template says where that token goes"},
    {"-bf --binary-file --in-file", kValue, Fate::refused, "give the document with -f FILE"},
    {"--no-jinja", kNothing, Fate::refused,
     "chat templates are always run as Jinja; --chat-template NAME takes a built-in one, --raw none"},
    {"--prompt-cache", kValue, Fate::refused, kSaved},
    {"--prompt-cache-all --prompt-cache-ro", kNothing, Fate::refused, kSaved},
    {"--rope-scaling --rope-scale --yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow "
     "--yarn-beta-fast --rope-freq-scale",
     kValue, Fate::refused, kRope},
    {"--rope-freq-base", kValue, Fate::refused, kRope, "0"},
    {"-gan --grp-attn-n", kValue, Fate::refused, kRope, "1"},
    {"-gaw --grp-attn-w", kValue, Fate::ignored},
    {"--lora --lora-scaled --control-vector --control-vector-scaled --control-vector-layer-range", kValue,
     Fate::refused, kAdapter},
    {"--override-kv", kValue, Fate::refused, "change the model's file instead (gguf-py's gguf_set_metadata)"},
    {"-sm --split-mode", kValue, Fate::refused, kPlacing, "layer none"},
    {"-mg --main-gpu", kValue, Fate::refused, kPlacing, "0"},
    {"-ts --tensor-split -ot --override-tensor -ncmoe --n-cpu-moe -ncffn --n-cpu-ffn", kValue,
     Fate::refused, kPlacing},
    {"-dev --device", kValue, Fate::refused, kPlacing, "none"},
    {"--list-devices -cmoe --cpu-moe", kNothing, Fate::refused, kPlacing},
    {"--attention", kValue, Fate::refused, "attention is the model's own, causal", "causal"},
    {"-mm --mmproj -mmu --mmproj-url --image --audio --video", kValue, Fate::refused, kTextOnly},
    {"-md --model-draft --spec-draft-model --spec-type --spec-draft-n-max --spec-draft-n-min -hfd -hfrd "
     "--hf-repo-draft --spec-draft-hf -ngld --spec-draft-ngl --draft --draft-n --draft-max -lcs "
     "--lookup-cache-static -lcd --lookup-cache-dynamic",
     kValue, Fate::refused, kDraft},
    {"--spec-default", kNothing, Fate::refused, kDraft},
    {"--host --port --path --api-prefix --api-key --api-key-file --ssl-key-file --ssl-cert-file -to "
     "--timeout "
     "--threads-http --slot-save-path --cache-reuse --pooling --models-dir",
     kValue, Fate::refused, kServer},
    {"--embedding --embeddings --rerank --reranking --metrics --props --slots --no-slots", kNothing,
     Fate::refused, kServer},
};

// Calls f with each of the words; stops when it returns true.
template <typename F>
bool any_word(std::string_view words, const F& f) {
  while (!words.empty()) {
    const size_t end = words.find(' ');
    if (f(words.substr(0, end))) return true;
    words.remove_prefix(end == std::string_view::npos ? words.size() : end + 1);
  }
  return false;
}

bool same_value(std::string_view a, std::string_view b) {
  double x = 0, y = 0;
  const auto number = [](std::string_view s, double& v) {
    const auto [end, wrong] = std::from_chars(s.data(), s.data() + s.size(), v);
    return wrong == std::errc() && end == s.data() + s.size();
  };
  return a == b || (number(a, x) && number(b, y) && x == y);
}

}  // namespace

std::string_view long_name(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {{"-np", "--parallel"},
                                                                      {"-to", "--timeout"}};
  for (const auto& [theirs, full] : kNames) {
    if (name == theirs) return full;
  }
  return {};
}

std::span<const LlamaOption> llama_options() {
  return kOptions;
}

const LlamaOption* find_llama_option(std::string_view name) {
  for (const LlamaOption& option : kOptions) {
    if (any_word(option.names, [&](std::string_view word) { return word == name; })) return &option;
  }
  return nullptr;
}

bool is_harmless(const LlamaOption& option, std::string_view value) {
  return any_word(option.harmless, [&](std::string_view word) { return same_value(word, value); });
}

bool is_switch_word(std::string_view word) {
  constexpr std::string_view kWords = "on off auto 0 1 true false enabled disabled";
  return any_word(kWords, [&](std::string_view w) { return w == word; });
}

}  // namespace curdkv::app
