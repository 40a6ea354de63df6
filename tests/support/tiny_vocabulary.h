// Vocabularies without a model, written as GGUF files in the test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace curdkv::testing {

enum class TokenType : int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

struct TinyVocabulary {
  struct Entry {
    std::string text;
    TokenType type = TokenType::normal;
    float score = 0;
  };
  std::string model;  // "llama": SentencePiece; "gpt2": byte-level BPE
  std::string pre = "default";
  std::string name = "tiny";  // libllama knows some families by it
  std::vector<Entry> entries;
  std::vector<std::string> merges;
  int64_t bos = -1, eos = -1;  // ids
  bool add_bos = false;
};

// SentencePiece: <unk>, <s>, </s>, the bytes, letters and a few pieces, among them such as spell the control
// tokens' names.
TinyVocabulary sentence_pieces();
// The 256 bytes, a few merges and ChatML's control tokens.
TinyVocabulary byte_level();

std::string write_vocabulary(const TinyVocabulary& vocabulary, const std::string& path);  // returns the path

}  // namespace curdkv::testing
