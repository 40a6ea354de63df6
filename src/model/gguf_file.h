// A GGUF file opened for reading: typed metadata, a checked tensor directory, and the bytes, to be read or
// mapped.
// Nothing in the file is trusted: every offset is checked against the file's size before use.
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "curdkv/result.h"

namespace curdkv {

struct GgufTensor {
  std::string name;
  ggml_type type;
  int64_t ne[4];
  size_t offset;  // from the start of the file
  size_t n_bytes;
};

class GgufFile {
 public:
  // Errors: io for a file that cannot be read, corrupt for one that is no GGUF file, malformed or truncated.
  static Result<GgufFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  const MappedFile& bytes() const { return bytes_; }
  Result<void> map() { return bytes_.map(); }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(const std::string& name) const;  // nullptr if the file has none of that name

  bool has(const std::string& key) const { return gguf_find_key(gguf_.get(), key.c_str()) >= 0; }

  // Metadata by key. Missing: nullopt. Errors: corrupt if it is of another type, or outside the type asked
  // for; unsupported for a list where one value for all layers is expected.
  Result<std::optional<uint64_t>> integer(const std::string& key) const;  // any integer type, >= 0
  // n integers: an array of them, or one that is all of theirs.
  Result<std::optional<std::vector<uint64_t>>> integers(const std::string& key, int64_t n) const;
  Result<std::optional<double>> real(const std::string& key) const;  // f32, f64 or integer, finite
  Result<std::optional<bool>> boolean(const std::string& key) const;
  Result<std::optional<std::string>> string(const std::string& key) const;
  Result<std::optional<std::vector<std::string>>> strings(const std::string& key) const;

  const gguf_context* metadata() const { return gguf_.get(); }

  Error corrupt(const std::string& what) const;  // "PATH: what"
  Error unsupported(const std::string& what) const;

 private:
  Result<void> read_tensors();

  std::string path_;
  MappedFile bytes_;
  gguf_context_ptr gguf_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace curdkv
