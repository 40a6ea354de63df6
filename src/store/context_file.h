// A saved context's file, opened: what its metadata says, and where its rows lie. Nothing of it is believed
// before it was checked; see open().
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/pages.h"
#include "cache/kv_block.h"
#include "curdkv/context.h"
#include "model/gguf_file.h"
#include "store/fingerprint.h"

namespace curdkv {

// Rows of a layer in one block.
struct LayerRows {
  std::vector<int64_t> length;                // per KV head
  std::vector<KvLayer::PackedLength> packed;  // likewise, or empty
  // Null where no head holds a row; k and v also where rows are packed, `all` where they are not.
  const GgufTensor* k = nullptr;
  const GgufTensor* v = nullptr;
  const GgufTensor* all = nullptr;
  const GgufTensor* where = nullptr;
  std::vector<RowPositions> positions;  // per KV head, of `where`
};

struct ContextFile {
  std::shared_ptr<GgufFile> gguf;  // mapped, unless
  Pages copy;                      // the file was read
  ContextInfo info;
  Fingerprint print;
  std::vector<CacheShape> shapes;  // of each layer
  int64_t n_vocab = 0;
  std::vector<std::vector<LayerRows>> blocks;  // [block][layer]
  const GgufTensor* logits = nullptr;          // null if there are none

  // In this order: that it is a context of a version that is known; the header's hash; the metadata; that
  // there are just the tensors that it calls for, of the sizes that it calls for; each tensor's hash; that
  // positions ascend and lie below the next one, tokens are the vocabulary's, and numbers are finite.
  // Errors: as of open_context().
  static Result<ContextFile> open(const std::string& path, const OpenOptions& options);

  bool is_mapped() const { return gguf->bytes().data() != nullptr; }
  const char* data() const { return is_mapped() ? gguf->bytes().data() : copy.data(); }
  std::string_view bytes(const GgufTensor& t) const { return {data() + t.offset, t.n_bytes}; }
  template <typename T>
  std::span<const T> values(const GgufTensor& t) const {
    return {reinterpret_cast<const T*>(data() + t.offset), t.n_bytes / sizeof(T)};
  }
  Error corrupt(const std::string& what) const { return gguf->corrupt(what); }

 private:
  Result<void> load(const OpenOptions& options);
  Result<void> check_hashes() const;
  Result<void> check_numbers() const;
  Result<void> read_positions(LayerRows& rows) const;
  Result<void> check_positions() const;
  Result<void> read_metadata();
  Result<void> find_tensors();
};

// Whether a GGUF file says that it is one. Errors: corrupt.
Result<bool> is_context(const GgufFile& file);

// What is wrong with the rows of a layer, or nothing.
Result<void> check_rows(const ContextFile& file, size_t block, size_t il);

}  // namespace curdkv
