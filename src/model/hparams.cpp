#include "model/hparams.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "base/try.h"

namespace curdkv {
namespace {

// Reads keys below "<architecture>."; remembers the first error, so that calls read like a list.
class Keys {
 public:
  Keys(const GgufFile& file, const std::string& architecture) : file_(file), prefix_(architecture + ".") {}

  int64_t count(const char* key, int64_t fallback, int64_t max = int64_t{1} << 24) {
    auto r = file_.integer(prefix_ + key);
    if (!r) return fail(r.error()), 1;
    return checked(key, *r ? static_cast<int64_t>(**r) : fallback, r->has_value(), max);
  }
  // Member `into` of every layer; the fallback is another member, or null.
  void counts(const char* key, std::vector<LayerShape>& layers, int64_t LayerShape::*into,
              const int64_t LayerShape::*fallback, int64_t max) {
    auto r = file_.integers(prefix_ + key, std::ssize(layers));
    if (!r) fail(r.error());
    const bool given = r && *r;
    for (size_t il = 0; il < layers.size(); ++il) {
      LayerShape& l = layers[il];
      const int64_t value = given ? static_cast<int64_t>((**r)[il]) : fallback != nullptr ? l.*fallback : 0;
      l.*into = checked(key, value, given, max);
    }
  }
  bool has(const char* key) const { return file_.has(prefix_ + key); }
  float real(const char* key, double fallback) {
    auto r = file_.real(prefix_ + key);
    if (!r) return fail(r.error()), 1.0f;
    return static_cast<float>(r->value_or(fallback));
  }
  std::string string(const char* key, const std::string& fallback) {
    auto r = file_.string(prefix_ + key);
    if (!r) return fail(r.error()), fallback;
    return r->value_or(fallback);
  }
  void require(bool ok, const std::string& what) {
    if (!ok) fail(file_.corrupt(what));
  }
  void require_supported(bool ok, const std::string& what) {
    if (!ok) fail(file_.unsupported(what));
  }
  // A key that must be absent or zero, as it marks something this engine does not do.
  void refuse(const char* key, const char* what) {
    auto r = file_.integer(prefix_ + key);
    if (!r) return fail(r.error());
    if (*r && **r != 0)
      fail(file_.unsupported(
          format("%s are not supported (%s%s = %llu)", what, prefix_.c_str(), key, (unsigned long long)**r)));
  }
  void refuse_encoder() {
    auto r = file_.boolean(prefix_ + "attention.causal");
    if (!r) return fail(r.error());
    if (*r && !**r) fail(file_.unsupported("encoder models are not supported (attention.causal is false)"));
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  int64_t checked(const char* key, int64_t value, bool given, int64_t max) {
    if (value >= 1 && value <= max) return value;
    fail(given || value >= 1
             ? file_.corrupt(format("%s%s = %lld is out of range", prefix_.c_str(), key, (long long)value))
             : file_.corrupt("lacks the metadata key " + prefix_ + key));
    return 1;
  }
  void fail(const Error& e) {
    if (!error_) error_ = e;
  }
  const GgufFile& file_;
  std::string prefix_;
  std::optional<Error> error_;
};

void read_rope(Keys& keys, const FamilyRope& family, HParams& hp, int64_t d_head_k) {
  RopeParams& rope = hp.rope;
  rope.pairing = family.pairing;
  rope.n_rot = static_cast<int>(keys.count("rope.dimension_count", d_head_k));
  keys.require(
      rope.n_rot <= d_head_k && rope.n_rot % 2 == 0,
      format("rope.dimension_count = %d does not fit heads of %lld dimensions: it must be even and no "
             "more than those",
             rope.n_rot, (long long)d_head_k));
  keys.require(rope.n_rot == d_head_k || !family.whole_heads,
               format("rope.dimension_count = %d is not the head size, %lld, as architecture %s has it",
                      rope.n_rot, (long long)d_head_k, hp.architecture.c_str()));
  rope.freq_base = keys.real("rope.freq_base", 10000.0);
  keys.require(rope.freq_base > 0, "rope.freq_base must be positive");
  rope.n_ctx_orig =
      static_cast<int>(keys.count("rope.scaling.original_context_length", hp.n_ctx_train, 1 << 30));

  const std::string type = keys.string("rope.scaling.type", "linear");
  float factor = keys.has("rope.scaling.factor") ? keys.real("rope.scaling.factor", 0.0)
                                                 : keys.real("rope.scale_linear", 0.0);
  if (factor == 0 || type == "none") factor = 1;
  keys.require(factor > 0, "rope.scaling.factor must be positive");
  keys.require_supported(
      type == "none" || type == "linear" || type == "yarn",
      "RoPE scaling of type '" + type + "' is not supported (supported: none, linear, yarn)");
  rope.freq_scale = 1.0f / factor;
  if (type == "yarn") {
    rope.ext_factor = 1;
    // The magnitude correction of YaRN, 1 + 0.1 ln(factor), is what ggml's RoPE multiplies by itself; below a
    // factor of 1 libllama takes it for none.
    if (factor < 1) rope.attn_factor = 1.0f / (1.0f + 0.1f * std::log(factor));
  }
  rope.attn_factor *= keys.real("rope.scaling.attn_factor", 1.0);
}

}  // namespace

LayerShape HParams::largest() const {
  LayerShape most;
  for (const LayerShape& l : layers) {
    for (const auto size : {&LayerShape::n_head, &LayerShape::n_head_kv, &LayerShape::d_head_k,
                            &LayerShape::d_head_v, &LayerShape::n_ff}) {
      most.*size = std::max(most.*size, l.*size);
    }
  }
  return most;
}

Result<HParams> read_hparams(const GgufFile& file, const FamilyRope& rope) {
  HParams hp;
  CURDKV_TRY(const auto architecture, file.string("general.architecture"));
  hp.architecture = architecture.value_or("");
  Keys keys(file, hp.architecture);
  keys.refuse("expert_count", "mixture-of-experts models");
  keys.refuse("nextn_predict_layers", "layers that predict several tokens");
  keys.refuse_encoder();
  hp.n_layer = keys.count("block_count", 0, 1 << 12);
  hp.n_embd = keys.count("embedding_length", 0);
  hp.layers.resize(static_cast<size_t>(hp.n_layer));
  keys.counts("feed_forward_length", hp.layers, &LayerShape::n_ff, nullptr, 1 << 24);
  keys.counts("attention.head_count", hp.layers, &LayerShape::n_head, nullptr, 1 << 14);
  keys.counts("attention.head_count_kv", hp.layers, &LayerShape::n_head_kv, &LayerShape::n_head, 1 << 14);
  hp.n_ctx_train = keys.count("context_length", 0, 1 << 30);
  const int64_t of_heads = hp.n_embd / hp.layers[0].n_head;
  const int64_t d_head_k = keys.count("attention.key_length", of_heads, 1 << 14);
  const int64_t d_head_v = keys.count("attention.value_length", of_heads, 1 << 14);
  for (LayerShape& l : hp.layers) {
    keys.require(l.n_head % l.n_head_kv == 0,
                 "attention.head_count is no multiple of attention.head_count_kv");
    l.d_head_k = d_head_k;
    l.d_head_v = d_head_v;
    l.kq_scale = 1.0f / std::sqrt(static_cast<float>(d_head_k));
  }
  hp.rms_eps = keys.real("attention.layer_norm_rms_epsilon", -1);
  keys.require(hp.rms_eps >= 0, "lacks attention.layer_norm_rms_epsilon, or it is negative");
  // ggml's RoPE writes the dimensions it does not rotate two at a time.
  keys.require_supported(d_head_k % 2 == 0 && d_head_v % 2 == 0,
                         format("heads of an odd size are not supported (attention.key_length = %lld, "
                                "attention.value_length = %lld)",
                                (long long)d_head_k, (long long)d_head_v));
  read_rope(keys, rope, hp, d_head_k);
  if (keys.error()) return *keys.error();

  const GgufTensor* embeddings = file.find("token_embd.weight");
  if (embeddings == nullptr) return file.corrupt("lacks the tensor token_embd.weight");
  hp.n_vocab = embeddings->ne[1];
  return hp;
}

}  // namespace curdkv
