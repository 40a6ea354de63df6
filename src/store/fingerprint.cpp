#include "store/fingerprint.h"

#include <algorithm>
#include <vector>

#include "base/try.h"
#include "store/checksum.h"

namespace curdkv {
namespace {

std::string of_sizes(const HParams& hp) {
  Checksum sum;
  sum.add_text(hp.architecture);
  for (const int64_t n : {hp.n_layer, hp.n_embd, hp.n_vocab}) sum.add_number(n);
  sum.add_number(hp.rms_eps);
  for (const LayerShape& l : hp.layers) {
    for (const int64_t n : {l.n_head, l.n_head_kv, l.d_head_k, l.d_head_v, l.n_ff}) sum.add_number(n);
    sum.add_number(l.kq_scale);
  }
  return sum.hex();
}

std::string of_rope(const RopeParams& rope) {
  Checksum sum;
  for (const int n : {static_cast<int>(rope.pairing), rope.n_rot}) sum.add_number(n);
  for (const float x : {rope.freq_base, rope.freq_scale, rope.ext_factor, rope.attn_factor})
    sum.add_number(x);
  if (rope.ext_factor != 0) {  // YaRN's alone
    sum.add_number(rope.n_ctx_orig);
    for (const float x : {rope.beta_fast, rope.beta_slow}) sum.add_number(x);
  }
  return sum.hex();
}

std::string of_tensors(const GgufFile& model) {
  Checksum sum;
  for (const GgufTensor& t : model.tensors()) {
    sum.add_text(t.name);
    sum.add_text(ggml_type_name(t.type));
    for (const int64_t n : t.ne) sum.add_number(n);
  }
  return sum.hex();
}

// All bytes of some gigabytes would take seconds; training changes every matrix everywhere.
Result<std::string> of_weights(const GgufFile& model) {
  constexpr size_t kPiece = 4096, kPieces = 8;
  Checksum sum;
  std::vector<char> bytes(2 * kPieces * kPiece);
  for (const GgufTensor& t : model.tensors()) {
    const bool whole = t.n_bytes <= bytes.size();
    const size_t n = whole ? t.n_bytes : kPiece;
    for (size_t i = 0; i < (whole ? 1 : kPieces); ++i) {
      const size_t first = whole ? 0 : i * ((t.n_bytes - kPiece) / (kPieces - 1));
      CURDKV_CHECK(model.bytes().read(bytes.data(), t.offset + first, n));
      sum.add({bytes.data(), n});
    }
  }
  return sum.hex();
}

size_t bytes_of(gguf_type type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
      return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
      return 2;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
      return 8;
    default:
      return 4;
  }
}

void add_value(Checksum& sum, const gguf_context* g, int64_t id) {
  const gguf_type type = gguf_get_kv_type(g, id);
  if (type == GGUF_TYPE_STRING) return sum.add_text(gguf_get_val_str(g, id));
  if (type != GGUF_TYPE_ARRAY) {
    return sum.add({static_cast<const char*>(gguf_get_val_data(g, id)), bytes_of(type)});
  }
  const size_t n = gguf_get_arr_n(g, id);
  const gguf_type of = gguf_get_arr_type(g, id);
  sum.add_number(n);
  if (of != GGUF_TYPE_STRING)
    return sum.add({static_cast<const char*>(gguf_get_arr_data(g, id)), n * bytes_of(of)});
  for (size_t i = 0; i < n; ++i) sum.add_text(gguf_get_arr_str(g, id, i));
}

std::string of_tokenizer(const GgufFile& model) {
  const gguf_context* g = model.metadata();
  Checksum sum;
  for (int64_t id = 0; id < gguf_get_n_kv(g); ++id) {
    const std::string_view key = gguf_get_key(g, id);
    if (!key.starts_with("tokenizer.") || key.starts_with("tokenizer.chat_template")) continue;
    sum.add_text(key);
    add_value(sum, g, id);
  }
  return sum.hex();
}

// What comes before the document was read, and is in the context: a date, a system turn.
std::string of_prompt(const Prompt& prompt) {
  Checksum sum;
  sum.add_number(prompt.is_chat());
  for (const std::string* text :
       {&prompt.chat_template(), &prompt.turn().after, &prompt.turn().trimmed_right})
    sum.add_text(*text);
  return sum.hex();
}

}  // namespace

Result<Fingerprint> fingerprint_of(const GgufFile& model, const HParams& hp, const Prompt& prompt) {
  CURDKV_TRY(std::string weights, of_weights(model));
  return Fingerprint{of_sizes(hp),       of_rope(hp.rope),    of_tensors(model),
                     std::move(weights), of_tokenizer(model), of_prompt(prompt)};
}

}  // namespace curdkv
