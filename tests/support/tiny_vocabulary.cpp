#include "support/tiny_vocabulary.h"

#include <gguf.h>

#include <cstdio>

namespace curdkv::testing {
namespace {

std::string utf8(uint32_t c) {
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

}  // namespace

TinyVocabulary sentence_pieces() {
  TinyVocabulary v;
  v.model = "llama";
  v.entries = {{"<unk>", TokenType::unknown}, {"<s>", TokenType::control}, {"</s>", TokenType::control}};
  for (int b = 0; b < 256; ++b) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", b);
    v.entries.push_back({text, TokenType::byte});
  }
  // Pieces by falling score; a control token's is 0, so that merging prefers it to all of them.
  float score = -1;
  for (const char* piece : {"\xE2\x96\x81\xE2\x96\x81", "\xE2\x96\x81t", "he", "\xE2\x96\x81the", "in", "<s",
                            "s>", "</", "<0", "<0x", "41>", "x41>", "tool"}) {
    v.entries.push_back({piece, TokenType::normal, score--});
  }
  v.entries.push_back({"\xE2\x96\x81", TokenType::normal, score--});
  for (char c = 33; c < 127; ++c) v.entries.push_back({std::string(1, c), TokenType::normal, score--});
  v.bos = 1;
  v.eos = 2;
  v.add_bos = true;
  return v;
}

TinyVocabulary byte_level() {
  TinyVocabulary v;
  v.model = "gpt2";
  v.pre = "gpt-2";
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {  // GPT-2's printable stand-ins
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    v.entries.push_back({utf8(printable ? b : next++)});
  }
  for (const char* merged : {"th", "the", "in", "\xC4\xA0t", "\xC4\x8A\xC4\x8A"})
    v.entries.push_back({merged});
  v.merges = {"t h", "th e", "i n", "\xC4\xA0 t", "\xC4\x8A \xC4\x8A"};
  v.eos = std::ssize(v.entries) + 2;
  for (const char* c : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"})
    v.entries.push_back({c, TokenType::control});
  return v;
}

std::string write_vocabulary(const TinyVocabulary& v, const std::string& path) {
  gguf_context* g = gguf_init_empty();
  const auto strings = [&](const char* key, const auto& list, const auto& text_of) {
    std::vector<const char*> raw;
    for (const auto& item : list) raw.push_back(text_of(item));
    gguf_set_arr_str(g, key, raw.data(), raw.size());
  };
  gguf_set_val_str(g, "general.architecture", "llama");
  gguf_set_val_str(g, "general.name", v.name.c_str());
  for (const char* key : {"block_count", "context_length", "embedding_length", "feed_forward_length",
                          "attention.head_count", "rope.dimension_count"}) {
    gguf_set_val_u32(g, ("llama." + std::string(key)).c_str(), 16);
  }
  gguf_set_val_u32(g, "llama.attention.head_count", 1);
  gguf_set_val_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf_set_val_str(g, "tokenizer.ggml.model", v.model.c_str());
  gguf_set_val_str(g, "tokenizer.ggml.pre", v.pre.c_str());
  strings("tokenizer.ggml.tokens", v.entries, [](const auto& e) { return e.text.c_str(); });
  std::vector<int32_t> types;
  std::vector<float> scores;
  for (const auto& e : v.entries) {
    types.push_back(static_cast<int32_t>(e.type));
    scores.push_back(e.score);
  }
  gguf_set_arr_data(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
  gguf_set_arr_data(g, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(), scores.size());
  if (v.model == "gpt2") strings("tokenizer.ggml.merges", v.merges, [](const auto& m) { return m.c_str(); });
  if (v.bos >= 0) gguf_set_val_u32(g, "tokenizer.ggml.bos_token_id", static_cast<uint32_t>(v.bos));
  if (v.eos >= 0) gguf_set_val_u32(g, "tokenizer.ggml.eos_token_id", static_cast<uint32_t>(v.eos));
  gguf_set_val_bool(g, "tokenizer.ggml.add_bos_token", v.add_bos);
  const bool ok = gguf_write_to_file(g, path.c_str(), false);
  gguf_free(g);
  if (!ok) std::fprintf(stderr, "cannot write %s\n", path.c_str());
  return path;
}

}  // namespace curdkv::testing
