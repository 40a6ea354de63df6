// What a context's metadata says.
#include <algorithm>
#include <numeric>

#include "base/try.h"
#include "cache/cache_type.h"
#include "store/context_file.h"
#include "store/layout.h"

namespace curdkv {
namespace {

constexpr uint64_t kMost = uint64_t{1} << 30;          // tokens, positions
constexpr uint64_t kMostLayers = 4096;                 // and heads, and blocks
constexpr uint64_t kMostElements = uint64_t{1} << 16;  // of a row

// Metadata that has to be there.
class Fields {
 public:
  explicit Fields(const GgufFile& file) : file_(file) {}

  Result<std::string> text(const std::string& key) const { return there(key, file_.string(key)); }
  Result<std::vector<std::string>> texts(const std::string& key) const {
    return there(key, file_.strings(key));
  }
  Result<uint64_t> number(const std::string& key, uint64_t least, uint64_t most) const {
    CURDKV_TRY(const uint64_t n, there(key, file_.integer(key)));
    if (n < least || n > most) return out_of_range(key, n);
    return n;
  }
  Result<std::vector<int64_t>> numbers(const std::string& key, size_t n, uint64_t least,
                                       uint64_t most) const {
    CURDKV_TRY(const auto all, there(key, file_.integers(key, static_cast<int64_t>(n))));
    for (const uint64_t x : all) {
      if (x < least || x > most) return out_of_range(key, x);
    }
    return std::vector<int64_t>(all.begin(), all.end());
  }
  Result<std::vector<std::string>> texts(const std::string& key, size_t n) const {
    CURDKV_TRY(auto all, texts(key));
    if (all.size() != n)
      return file_.corrupt(format("%s holds %zu texts, not the %zu expected", key.c_str(), all.size(), n));
    return all;
  }
  template <typename T>
  Result<T> there(const std::string& key, Result<std::optional<T>> value) const {
    if (!value) return value.error();
    if (!*value) return file_.corrupt("has no " + key);
    return std::move(**value);
  }

 private:
  Error out_of_range(const std::string& key, uint64_t n) const {
    return file_.corrupt(
        format("%s = %llu is out of range", key.c_str(), static_cast<unsigned long long>(n)));
  }
  const GgufFile& file_;
};

Result<CacheType> cache_type(const GgufFile& file, const std::string& key) {
  CURDKV_TRY(const std::string name, Fields(file).text(key));
  for (const CacheTypeName& t : cache_types()) {
    if (name == t.name) return t.type;
  }
  return file.corrupt(key + " is no cache type: '" + name + "'");
}

Result<std::vector<CacheShape>> shapes_of(const GgufFile& file, const ContextInfo& info) {
  const Fields f(file);
  CURDKV_TRY(const uint64_t n_layer, f.number("context.model.n_layer", 1, kMostLayers));
  CURDKV_TRY(const auto heads, f.numbers("context.model.n_head_kv", n_layer, 1, kMostLayers));
  CURDKV_TRY(const auto d_k, f.numbers("context.model.d_head_k", n_layer, 1, kMostElements));
  CURDKV_TRY(const auto d_v, f.numbers("context.model.d_head_v", n_layer, 1, kMostElements));
  std::vector<CacheShape> shapes;
  for (size_t il = 0; il < n_layer; ++il) {
    const CacheShape s = {heads[il], d_k[il], d_v[il], to_ggml(info.type_k), to_ggml(info.type_v)};
    if (s.d_head_k % ggml_blck_size(s.type_k) != 0 || s.d_head_v % ggml_blck_size(s.type_v) != 0)
      return file.corrupt(format("rows of layer %zu do not fit their cache type", il));
    shapes.push_back(s);
  }
  return shapes;
}

Result<void> read_press(const GgufFile& file, ContextInfo& info) {
  const Fields f(file);
  CURDKV_TRY(info.press, f.text("context.press"));
  CURDKV_TRY(const auto settings, f.texts("context.press.settings"));
  for (const std::string& s : settings) {
    const size_t at = s.find('=');
    if (at == std::string::npos) return file.corrupt("context.press.settings holds '" + s + "'");
    info.press_settings[s.substr(0, at)] = s.substr(at + 1);
  }
  CURDKV_TRY(info.compression_ratio,
             f.there("context.press.compression_ratio", file.real("context.press.compression_ratio")));
  CURDKV_TRY(info.seed, f.number("context.press.seed", 0, UINT64_MAX));
  CURDKV_TRY(info.budget, file.integer("context.press.budget"));
  CURDKV_TRY(info.budget_bytes, file.integer("context.press.budget_bytes"));
  return {};
}

Result<void> read_documents(const GgufFile& file, ContextInfo& info) {
  const Fields f(file);
  CURDKV_TRY(const auto names, f.texts("context.document.names"));
  CURDKV_TRY(const auto sums, f.texts("context.document.sha256", names.size()));
  CURDKV_TRY(const auto sizes, f.numbers("context.document.bytes", names.size(), 0, INT64_MAX));
  for (size_t i = 0; i < names.size(); ++i) info.documents.push_back({names[i], sizes[i], sums[i]});
  return {};
}

Result<RowType> row_type(const GgufFile& file, const std::string& name) {
  for (const layout::RowTypeName& t : layout::kRowTypes) {
    if (name == t.name) return t.type;
  }
  return file.corrupt("holds rows of an unknown type: '" + name + "'");
}

// Lengths and types of a block's rows.
Result<std::vector<LayerRows>> read_block(const GgufFile& file, size_t index,
                                          std::span<const CacheShape> shapes, int64_t n_tokens) {
  const Fields f(file);
  size_t n_heads = 0, at = 0;
  for (const CacheShape& s : shapes) n_heads += static_cast<size_t>(s.n_head_kv);
  CURDKV_TRY(const auto rows,
             f.numbers(layout::block_key(index, "rows"), n_heads, 0, static_cast<uint64_t>(n_tokens)));
  CURDKV_TRY(const auto types_k, f.texts(layout::block_key(index, "types_k"), n_heads));
  CURDKV_TRY(const auto types_v, f.texts(layout::block_key(index, "types_v"), n_heads));
  std::vector<LayerRows> layers;
  for (const CacheShape& s : shapes) {
    LayerRows& l = layers.emplace_back();
    for (int64_t h = 0; h < s.n_head_kv; ++h, ++at) {
      CURDKV_TRY(const RowType k, row_type(file, types_k[at]));
      CURDKV_TRY(const RowType v, row_type(file, types_v[at]));
      l.length.push_back(rows[at]);
      if (k != RowType::cache && v != RowType::cache) l.packed.push_back({k, v, rows[at]});
      if ((k == RowType::cache) != (v == RowType::cache) ||
          (!l.packed.empty() && l.packed.size() != l.length.size()))
        return file.corrupt(format("layer %zu is packed in part", layers.size() - 1));
    }
    if (!l.packed.empty() && std::max(s.d_head_k, s.d_head_v) > kMostRowSize)
      return file.corrupt("packed rows are too long");
  }
  return layers;
}

void count_types(const LayerRows& layer, ContextInfo& info) {
  for (const KvLayer::PackedLength& head : layer.packed) {
    if (head.n == 0) continue;
    info.rows_k[layout::name_of(head.k)] += head.n;
    info.rows_v[layout::name_of(head.v)] += head.n;
  }
  if (!layer.packed.empty()) return;
  const int64_t n = std::accumulate(layer.length.begin(), layer.length.end(), int64_t{0});
  info.rows_k[name_of(info.type_k)] += n;
  info.rows_v[name_of(info.type_v)] += n;
}

}  // namespace

Result<void> ContextFile::read_metadata() {
  const Fields f(*gguf);
  CURDKV_TRY(info.program, f.text("context.program"));
  CURDKV_TRY(info.architecture, f.text("context.model.architecture"));
  CURDKV_TRY(info.model_name, f.text("context.model.name"));
  CURDKV_TRY(info.quantization, f.text("context.model.quantization"));
  CURDKV_TRY(n_vocab, f.number("context.model.n_vocab", 1, kMost));
  CURDKV_TRY(info.chat, f.there("context.chat", gguf->boolean("context.chat")));
  CURDKV_TRY(info.type_k, cache_type(*gguf, "context.type_k"));
  CURDKV_TRY(info.type_v, cache_type(*gguf, "context.type_v"));
  for (const FingerprintPart& part : kFingerprintParts) {
    CURDKV_TRY(print.*part.value, f.text(layout::fingerprint_key(part.name)));
  }
  CURDKV_CHECK(read_press(*gguf, info));
  CURDKV_CHECK(read_documents(*gguf, info));
  CURDKV_TRY(info.n_tokens, f.number("context.n_tokens", 1, kMost));
  CURDKV_TRY(info.next_position, f.number("context.next_position", 1, static_cast<uint64_t>(info.n_tokens)));
  CURDKV_TRY(shapes, shapes_of(*gguf, info));
  CURDKV_TRY(const uint64_t n_blocks, f.number("context.n_blocks", 1, kMostLayers));
  for (size_t b = 0; b < n_blocks; ++b) {
    CURDKV_TRY(blocks.emplace_back(), read_block(*gguf, b, shapes, info.n_tokens));
  }
  for (size_t il = 0; il < shapes.size(); ++il) {
    std::vector<int64_t>& held = info.rows.emplace_back(blocks[0][il].length.size(), 0);
    for (const auto& block : blocks) {
      std::transform(held.begin(), held.end(), block[il].length.begin(), held.begin(), std::plus<>());
      count_types(block[il], info);
    }
    info.kv_bytes_full += static_cast<int64_t>(shapes[il].bytes_uncompressed(info.n_tokens));
  }
  return {};
}

}  // namespace curdkv
