#include "store/context_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/try.h"
#include "store/checksum.h"
#include "store/layout.h"

namespace curdkv {
namespace {

size_t padded(size_t n) {
  return (n + layout::kAlignment - 1) / layout::kAlignment * layout::kAlignment;
}

// That the file is of a kind that this program knows, and of which version.
Result<uint64_t> check_version(const GgufFile& file) {
  CURDKV_TRY(const bool known, is_context(file));
  if (!known) {
    return file.unsupported(std::string("is no saved context") +
                            (file.has("general.architecture") ? " but a model; give it with -m" : ""));
  }
  CURDKV_TRY(const auto version, file.integer("context.version"));
  if (version >= layout::kFirstVersion && version <= layout::kVersion) return *version;
  return file.unsupported(
      format("is of format version %llu, of which this program knows %u to %u: read it with the curdkv that "
             "wrote it, or compress the document again",
             static_cast<unsigned long long>(version.value_or(0)), layout::kFirstVersion, layout::kVersion));
}

}  // namespace

Result<bool> is_context(const GgufFile& file) {
  CURDKV_TRY(const auto type, file.string("general.type"));
  return type == layout::kType;
}

Result<ContextFile> ContextFile::open(const std::string& path, const OpenOptions& options) {
  ContextFile file;
  CURDKV_TRY(GgufFile gguf, GgufFile::open(path));
  file.gguf = std::make_shared<GgufFile>(std::move(gguf));
  file.info.path = path;
  file.info.file_bytes = static_cast<int64_t>(file.gguf->bytes().size());
  CURDKV_TRY(const uint64_t version, check_version(*file.gguf));
  file.info.format_version = static_cast<int64_t>(version);
  CURDKV_CHECK(file.load(options));
  CURDKV_CHECK(file.check_hashes());
  CURDKV_CHECK(file.read_metadata());
  CURDKV_CHECK(file.find_tensors());
  CURDKV_CHECK(file.check_numbers());
  if (const GgufTensor* tokens = file.gguf->find("tokens")) {
    const auto all = file.values<int32_t>(*tokens);
    file.info.tokens.assign(all.begin(), all.end());
  }
  CURDKV_CHECK(file.gguf->bytes().check());  // whole all the while
  return file;
}

// Maps the file, or reads it where it cannot be mapped.
Result<void> ContextFile::load(const OpenOptions& options) {
  const MappedFile& bytes = gguf->bytes();
  if (options.use_mmap && gguf->map()) return {};
  CURDKV_TRY(copy, Pages::allocate(bytes.size(), "the context " + bytes.path()));
  return bytes.read(copy.data(), 0, bytes.size());
}

// Every byte of the file has its place: the header, the tensors one behind the other, the hashes at the end.
Result<void> ContextFile::check_hashes() const {
  const std::vector<GgufTensor>& tensors = gguf->tensors();
  const size_t header = gguf_get_data_offset(gguf->metadata()), size = gguf->bytes().size();
  if (gguf_get_alignment(gguf->metadata()) != layout::kAlignment || tensors.empty() ||
      tensors.back().name != layout::kChecksums || tensors.back().type != GGML_TYPE_I64 ||
      tensors.back().n_bytes != (tensors.size() + 1) * sizeof(uint64_t)) {
    return corrupt("is damaged: its list of tensors does not end with their checksums");
  }
  size_t end = header;
  for (const GgufTensor& t : tensors) {
    if (t.offset != end) return corrupt("is damaged: tensor '" + t.name + "' does not lie behind the last");
    end += padded(t.n_bytes);
  }
  if (end > size) return corrupt(format("is truncated: %zu bytes of %zu are there", size, end));
  if (end < size) return corrupt(format("is damaged: %zu bytes follow behind its end", size - end));
  const std::string_view all(data(), size), sums = bytes(tensors.back());
  const auto sum = [&](size_t i) {
    uint64_t x;
    std::memcpy(&x, sums.data() + i * sizeof x, sizeof x);
    return x;
  };
  const std::string_view rest = all.substr(tensors.back().offset + sums.size());
  if (checksum(sums.substr(0, sums.size() - sizeof(uint64_t))) != sum(tensors.size()) ||
      rest.find_first_not_of('\0') != std::string_view::npos) {
    return corrupt("is damaged: in its checksums");
  }
  if (checksum(all.substr(0, header)) != sum(0)) return corrupt("is damaged: in its metadata");
  for (size_t i = 0; i + 1 < tensors.size(); ++i) {
    const GgufTensor& t = tensors[i];
    if (checksum(all.substr(t.offset, padded(t.n_bytes))) != sum(i + 1))
      return corrupt("is damaged: in tensor '" + t.name + "'");
  }
  return {};
}

Result<void> ContextFile::find_tensors() {
  size_t n_found = 1;  // the checksums
  const auto find = [&](const std::string& name, ggml_type type, int64_t ne0,
                        int64_t ne1) -> Result<const GgufTensor*> {
    const GgufTensor* t = gguf->find(name);
    if (t == nullptr) return corrupt("has no tensor '" + name + "'");
    if (t->type != type || t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != 1 || t->ne[3] != 1)
      return corrupt("tensor '" + name + "' is not as its metadata has it");
    ++n_found;
    return t;
  };
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (size_t il = 0; il < shapes.size(); ++il) {
      const CacheShape& s = shapes[il];
      LayerRows& l = blocks[b][il];
      int64_t n_rows = 0;
      for (const int64_t n : l.length) n_rows += n;
      if (!l.packed.empty()) {
        auto n = static_cast<int64_t>(kPackedSlack);
        for (const KvLayer::PackedLength& head : l.packed) n += static_cast<int64_t>(packed_bytes(s, head));
        CURDKV_TRY(l.all, find(layout::tensor(b, il, "packed"), GGML_TYPE_I8, n, 1));
        info.kv_bytes += n;
      } else if (n_rows > 0) {
        CURDKV_TRY(l.k, find(layout::tensor(b, il, "k"), s.type_k, s.d_head_k, n_rows));
        CURDKV_TRY(l.v, find(layout::tensor(b, il, "v"), s.type_v, s.d_head_v, n_rows));
        info.kv_bytes += static_cast<int64_t>(l.k->n_bytes + l.v->n_bytes);
      }
      if (n_rows > 0) {
        const std::string name = layout::tensor(b, il, "positions");
        const GgufTensor* t = gguf->find(name);
        const bool any_size = info.format_version > layout::kFirstVersion && t != nullptr;
        CURDKV_TRY(l.where, find(name, GGML_TYPE_I32, any_size ? t->ne[0] : n_rows, 1));
        CURDKV_CHECK(read_positions(l));
      }
    }
  }
  if (gguf->find("tokens") != nullptr) CURDKV_CHECK(find("tokens", GGML_TYPE_I32, info.n_tokens, 1));
  if (gguf->find("logits") != nullptr) {
    CURDKV_TRY(logits, find("logits", GGML_TYPE_F32, n_vocab, 1));
  }
  if (n_found != gguf->tensors().size()) return corrupt("holds tensors that its metadata does not name");
  return {};
}

Result<void> ContextFile::read_positions(LayerRows& rows) const {
  auto words = values<int32_t>(*rows.where);
  for (const int64_t n : rows.length) {
    if (info.format_version == layout::kFirstVersion) {
      const auto all = words.first(static_cast<size_t>(n));
      rows.positions.emplace_back(all);
      words = words.subspan(all.size());
      continue;
    }
    auto head = RowPositions::take(words, n);
    if (!head) return corrupt("tensor '" + rows.where->name + "' does not say where rows are from");
    rows.positions.push_back(std::move(*head));
  }
  if (!words.empty()) return corrupt("tensor '" + rows.where->name + "' says more than where rows are from");
  return {};
}

// Of a head over all blocks. Where gaps were closed while tokens were generated, sinks have come to lie among
// others, and what is far back before the beginning.
Result<void> ContextFile::check_positions() const {
  const bool closed = info.next_position < info.n_tokens;
  for (size_t il = 0; il < shapes.size(); ++il) {
    for (size_t h = 0; h < info.rows[il].size(); ++h) {
      int64_t last = -1;
      for (size_t b = 0; b < blocks.size(); ++b) {
        if (blocks[b][il].length[h] == 0) continue;
        for (const int32_t position : blocks[b][il].positions[h].unpacked()) {
          if (position >= info.next_position || position < -info.n_tokens || (!closed && position <= last))
            return corrupt(format("positions of layer %zu, KV head %zu do not ascend below %lld", il, h,
                                  (long long)info.next_position));
          last = position;
        }
      }
    }
  }
  return {};
}

Result<void> ContextFile::check_numbers() const {
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (size_t il = 0; il < shapes.size(); ++il) CURDKV_CHECK(check_rows(*this, b, il));
  }
  CURDKV_CHECK(check_positions());
  if (const GgufTensor* tokens = gguf->find("tokens")) {
    for (const int32_t t : values<int32_t>(*tokens)) {
      if (t < 0 || t >= n_vocab) return corrupt("tensor 'tokens' holds what is in no vocabulary");
    }
  }
  if (logits != nullptr) {
    for (const float x : values<float>(*logits)) {
      if (!std::isfinite(x)) return corrupt("tensor 'logits' holds what is no number");
    }
  }
  return {};
}

}  // namespace curdkv
