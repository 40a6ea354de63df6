#include "support/tiny_model.h"

#include <gguf.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <vector>

namespace curdkv::testing {
namespace {

std::string utf8(uint32_t c) {
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

// GPT-2's printable stand-ins for bytes.
std::vector<std::string> byte_tokens() {
  std::vector<std::string> out;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    out.push_back(utf8(printable ? b : next++));
  }
  return out;
}

void add_vocabulary(gguf_context* g, const std::string& pre) {
  std::vector<std::string> tokens = byte_tokens();
  std::vector<std::string> merges = {"t h", "th e", "i n", "a n", "Ġ t"};
  for (const char* merged : {"th", "the", "in", "an", "Ġt"}) tokens.emplace_back(merged);
  const size_t n_text = tokens.size();
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) tokens.emplace_back(special);
  std::vector<int32_t> types(tokens.size(), 1);
  for (size_t i = n_text; i < tokens.size(); ++i) types[i] = 3;  // control
  const auto strings = [&](const char* key, const std::vector<std::string>& list) {
    std::vector<const char*> raw;
    for (const auto& s : list) raw.push_back(s.c_str());
    gguf_set_arr_str(g, key, raw.data(), raw.size());
  };
  gguf_set_val_str(g, "tokenizer.ggml.model", "gpt2");
  gguf_set_val_str(g, "tokenizer.ggml.pre", pre.c_str());
  strings("tokenizer.ggml.tokens", tokens);
  strings("tokenizer.ggml.merges", merges);
  gguf_set_arr_data(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
  gguf_set_val_u32(g, "tokenizer.ggml.bos_token_id", static_cast<uint32_t>(n_text));
  gguf_set_val_u32(g, "tokenizer.ggml.eos_token_id", static_cast<uint32_t>(n_text + 2));
  gguf_set_val_bool(g, "tokenizer.ggml.add_bos_token", false);
  gguf_set_val_str(
      g, "tokenizer.chat_template",
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
      "'<|im_end|>' + '\\n'}}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
}

constexpr int64_t kVocab = 256 + 5 + 3;

struct Writer {
  const TinyModel& m;
  gguf_context* g;
  ggml_context* ctx;
  std::mt19937 rng;

  void add(const std::string& name, int64_t ne0, int64_t ne1, float mean, float spread, ggml_type type) {
    if (name == m.omit) return;
    std::normal_distribution<float> normal(mean, spread);
    std::vector<float> data(static_cast<size_t>(ne0 * ne1));
    for (float& x : data) x = normal(rng);
    ggml_tensor* t = ggml_new_tensor_2d(ctx, type, ne0, ne1);
    ggml_set_name(t, name.c_str());
    ggml_quantize_chunk(type, data.data(), t->data, 0, ne1, ne0, nullptr);
    if (name == m.spoiled) spoil(t);
    gguf_add_tensor(g, t);
  }
  void spoil(ggml_tensor* t) const {
    const ggml_fp16_t half = ggml_fp32_to_fp16(m.spoiled_with);
    if (t->type == GGML_TYPE_F32) {
      std::memcpy(t->data, &m.spoiled_with, sizeof m.spoiled_with);
    } else {
      std::memcpy(t->data, &half, sizeof half);
    }
  }
  void matrix(const std::string& name, int64_t in, int64_t out) {
    add(name, in, out, 0, 1.5f / std::sqrt(static_cast<float>(in)), m.type);
  }
  void vector(const std::string& name, int64_t n, float mean, float spread) {
    add(name, n, 1, mean, spread, GGML_TYPE_F32);
  }
};

void add_metadata(gguf_context* g, const TinyModel& m) {
  const auto u32 = [&](const char* key, int64_t v) {
    gguf_set_val_u32(g, (m.architecture + "." + key).c_str(), static_cast<uint32_t>(v));
  };
  gguf_set_val_str(g, "general.architecture", m.architecture.c_str());
  gguf_set_val_str(g, "general.name", "tiny");
  u32("block_count", m.n_layer);
  u32("context_length", m.n_ctx);
  u32("embedding_length", m.n_embd);
  const auto of_layers = [&](const char* key, const std::vector<int64_t>& each, int64_t all) {
    if (each.empty()) return u32(key, all);
    const std::vector<int32_t> values(each.begin(), each.end());
    gguf_set_arr_data(g, (m.architecture + "." + key).c_str(), GGUF_TYPE_INT32, values.data(), values.size());
  };
  of_layers("feed_forward_length", m.n_ff_of, m.n_ff);
  of_layers("attention.head_count", m.n_head_of, m.n_head);
  of_layers("attention.head_count_kv", m.n_head_kv_of, m.n_head_kv);
  u32("attention.key_length", m.d_head);
  u32("attention.value_length", m.d_head);
  u32("rope.dimension_count", m.d_head);
  u32("vocab_size", kVocab);
  gguf_set_val_f32(g, (m.architecture + ".attention.layer_norm_rms_epsilon").c_str(), 1e-5f);
  gguf_set_val_f32(g, (m.architecture + ".rope.freq_base").c_str(), 10000.0f);
  if (!m.rope_scaling.empty()) {
    gguf_set_val_str(g, (m.architecture + ".rope.scaling.type").c_str(), m.rope_scaling.c_str());
    gguf_set_val_f32(g, (m.architecture + ".rope.scaling.factor").c_str(), 4.0f);
    u32("rope.scaling.original_context_length", m.n_ctx / 4);
  }
  if (!m.extra_key.empty()) gguf_set_val_u32(g, m.extra_key.c_str(), m.extra_value);
}

}  // namespace

std::string write_tiny_model(const TinyModel& m, const std::string& path) {
  gguf_context* g = gguf_init_empty();
  ggml_context* ctx = ggml_init({size_t{64} << 20, nullptr, false});
  add_metadata(g, m);
  add_vocabulary(g, m.pre);
  Writer w{m, g, ctx, std::mt19937(m.seed)};
  w.add("token_embd.weight", m.n_embd, kVocab, 0, 1, m.type);
  w.vector("output_norm.weight", m.n_embd, 1, 0.1f);
  if (!m.tied) w.matrix("output.weight", m.n_embd, kVocab);
  if (m.rope_freqs) w.vector("rope_freqs.weight", m.d_head / 2, 2, 0.3f);
  for (int64_t il = 0; il < m.n_layer; ++il) {
    const std::string p = "blk." + std::to_string(il) + ".";
    const auto own = [&](const std::vector<int64_t>& each, int64_t all) {
      return each.empty() ? all : std::max<int64_t>(1, each[static_cast<size_t>(il)]);
    };
    const int64_t n_head = own(m.n_head_of, m.n_head), n_head_kv = own(m.n_head_kv_of, m.n_head_kv),
                  n_ff = own(m.n_ff_of, m.n_ff);
    w.vector(p + "attn_norm.weight", m.n_embd, 1, 0.1f);
    w.matrix(p + "attn_q.weight", m.n_embd, m.d_head * n_head);
    w.matrix(p + "attn_k.weight", m.n_embd, m.d_head * n_head_kv);
    w.matrix(p + "attn_v.weight", m.n_embd, m.d_head * n_head_kv);
    w.matrix(p + "attn_output.weight", m.d_head * n_head, m.n_embd);
    if (m.architecture == "qwen2") {
      w.vector(p + "attn_q.bias", m.d_head * n_head, 0, 0.5f);
      w.vector(p + "attn_k.bias", m.d_head * n_head_kv, 0, 0.5f);
      w.vector(p + "attn_v.bias", m.d_head * n_head_kv, 0, 0.5f);
    }
    if (m.architecture == "qwen3") {
      w.vector(p + "attn_q_norm.weight", m.d_head, 1, 0.1f);
      w.vector(p + "attn_k_norm.weight", m.d_head, 1, 0.1f);
    }
    w.vector(p + "ffn_norm.weight", m.n_embd, 1, 0.1f);
    w.matrix(p + "ffn_gate.weight", m.n_embd, n_ff);
    w.matrix(p + "ffn_up.weight", m.n_embd, n_ff);
    w.matrix(p + "ffn_down.weight", n_ff, m.n_embd);
  }
  const bool ok = gguf_write_to_file(g, path.c_str(), false);
  ggml_free(ctx);
  gguf_free(g);
  if (!ok) std::fprintf(stderr, "cannot write %s\n", path.c_str());
  return path;
}

TinyModel unequal_layers(const std::string& architecture) {
  TinyModel m;
  m.architecture = architecture;
  m.n_layer = 3;
  m.n_head_of = {6, 4, 8};
  m.n_head_kv_of = {3, 4, 2};
  m.n_ff_of = {96, 64, 160};
  return m;
}

std::string temp_path(const std::string& name) {
  struct Folder {
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("curdkv-test-" + std::to_string(getpid()));
    Folder() { std::filesystem::create_directories(path); }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  static const Folder folder;
  return (folder.path / name).string();
}

}  // namespace curdkv::testing
