// Writes a context: metadata first, then every tensor as it lies in memory, hashed on the way.
#include <gguf.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "base/guard.h"
#include "base/try.h"
#include "curdkv/context.h"
#include "engine/sequence_state.h"
#include "io/output_file.h"
#include "model/model_impl.h"
#include "store/checksum.h"
#include "store/fingerprint.h"
#include "store/layout.h"

namespace curdkv {
namespace {

// Metadata of the file, by GGUF's names.
class Metadata {
 public:
  // Of an empty file that says how tensors are aligned: ggml takes that from files alone.
  static Result<Metadata> create() {
    gguf_context_ptr empty(gguf_init_empty());
    gguf_set_val_u32(empty.get(), "general.alignment", layout::kAlignment);
    std::vector<char> bytes(gguf_get_meta_size(empty.get()));
    gguf_get_meta_data(empty.get(), bytes.data());
    Metadata m;
    m.gguf_.reset(gguf_init_from_buffer(bytes.data(), bytes.size(), {true, nullptr}));
    if (!m.gguf_) return Error{ErrorCode::out_of_memory, "not enough memory to describe a context"};
    return m;
  }

  gguf_context* gguf() const { return gguf_.get(); }
  void set(const std::string& key, const std::string& text) {
    gguf_set_val_str(gguf(), key.c_str(), text.c_str());
  }
  void set(const std::string& key, uint64_t n) { gguf_set_val_u64(gguf(), key.c_str(), n); }
  void set(const std::string& key, int64_t n) { set(key, static_cast<uint64_t>(n)); }
  void set(const std::string& key, const std::vector<std::string>& list) {
    std::vector<const char*> raw;
    for (const std::string& s : list) raw.push_back(s.c_str());
    gguf_set_arr_str(gguf(), key.c_str(), raw.data(), raw.size());
  }
  void set(const std::string& key, const std::vector<uint64_t>& list) {
    gguf_set_arr_data(gguf(), key.c_str(), GGUF_TYPE_UINT64, list.data(), list.size());
  }

 private:
  gguf_context_ptr gguf_;
};

// Bytes of something.
struct Range {
  size_t first, n;
};

// A tensor of the file: bytes of the host's, one run behind the other, or ranges of a tensor that is
// anywhere.
struct Part {
  std::string name;
  ggml_type type;
  int64_t ne0, ne1;
  std::vector<std::string_view> bytes = {};
  const ggml_tensor* tensor = nullptr;
  std::vector<Range> ranges = {};
};

template <typename T>
std::string_view bytes_of(std::span<const T> numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes()};
}

// Numbers of the caller's.
template <typename T>
Part part_of(const std::string& name, ggml_type type, std::span<const T> numbers) {
  return {name, type, std::ssize(numbers), 1, {bytes_of(numbers)}};
}

void describe_model(Metadata& m, const Model::Impl& model) {
  m.set("context.model.architecture", model.info.architecture);
  m.set("context.model.name", model.info.name);
  m.set("context.model.quantization", model.info.quantization);
  m.set("context.model.n_layer", model.hp.n_layer);
  m.set("context.model.n_vocab", model.hp.n_vocab);
  std::vector<uint64_t> heads, d_k, d_v;
  for (const LayerShape& l : model.hp.layers) {
    heads.push_back(static_cast<uint64_t>(l.n_head_kv));
    d_k.push_back(static_cast<uint64_t>(l.d_head_k));
    d_v.push_back(static_cast<uint64_t>(l.d_head_v));
  }
  m.set("context.model.n_head_kv", heads);
  m.set("context.model.d_head_k", d_k);
  m.set("context.model.d_head_v", d_v);
}

void describe_press(Metadata& m, const Press& press) {
  m.set("context.press", press.spec());
  std::vector<std::string> settings;
  for (const auto& [name, value] : press.settings()) settings.push_back(name + "=" + value);
  m.set("context.press.settings", settings);
  gguf_set_val_f64(m.gguf(), "context.press.compression_ratio", press.compression_ratio());
  if (press.budget()) m.set("context.press.budget", *press.budget());
  if (press.budget_bytes()) m.set("context.press.budget_bytes", *press.budget_bytes());
  m.set("context.press.seed", press.seed());
}

void describe_documents(Metadata& m, const std::vector<ContextDocument>& documents) {
  std::vector<std::string> names, sums;
  std::vector<uint64_t> sizes;
  for (const ContextDocument& d : documents) {
    names.push_back(d.name);
    sums.push_back(d.sha256);
    sizes.push_back(static_cast<uint64_t>(d.n_bytes));
  }
  m.set("context.document.names", names);
  m.set("context.document.bytes", sizes);
  m.set("context.document.sha256", sums);
}

// What the rows of a block are, in the metadata, and their tensors.
void describe_block(Metadata& m, const KvBlock& block, size_t index, std::vector<Part>& parts) {
  std::vector<uint64_t> rows;
  std::vector<std::string> types_k, types_v;
  for (size_t il = 0; il < block.layers.size(); ++il) {
    const KvLayer& l = block.layers[il];
    for (size_t h = 0; h < l.length.size(); ++h) {
      rows.push_back(static_cast<uint64_t>(l.length[h]));
      types_k.emplace_back(layout::name_of(l.packed.empty() ? RowType::cache : l.packed[h].k.type));
      types_v.emplace_back(layout::name_of(l.packed.empty() ? RowType::cache : l.packed[h].v.type));
    }
    const int64_t n_rows = std::accumulate(l.length.begin(), l.length.end(), int64_t{0});
    // Heads need not lie one right behind the other in memory.
    const auto add_rows = [&](const char* what, const ggml_tensor* t) {
      Part& p = parts.emplace_back(Part{layout::tensor(index, il, what), t->type, t->ne[0], n_rows, {}, t});
      for (size_t h = 0; h < l.length.size(); ++h) {
        p.ranges.push_back(
            {static_cast<size_t>(l.offset[h]) * t->nb[1], static_cast<size_t>(l.length[h]) * t->nb[1]});
      }
    };
    if (const ggml_tensor* all = l.packed_bytes()) {
      parts.push_back(
          {layout::tensor(index, il, "packed"), all->type, all->ne[0], 1, {}, all, {{0, ggml_nbytes(all)}}});
    } else if (n_rows > 0) {
      add_rows("k", l.k);
      add_rows("v", l.v);
    }
    if (n_rows > 0) {
      Part& p = parts.emplace_back(Part{layout::tensor(index, il, "positions"), GGML_TYPE_I32, 0, 1});
      for (const RowPositions& head : l.positions) {
        p.bytes.push_back(bytes_of(head.words()));
        p.ne0 += std::ssize(head.words());
      }
    }
  }
  m.set(layout::block_key(index, "rows"), rows);
  m.set(layout::block_key(index, "types_k"), types_k);
  m.set(layout::block_key(index, "types_v"), types_v);
}

// Writes parts one behind the other, as GGUF has them, and their hashes.
class Writer {
 public:
  explicit Writer(OutputFile& file) : file_(file) {}

  Result<void> write(const Metadata& m, std::vector<Part> parts) {
    parts.push_back({layout::kChecksums, GGML_TYPE_I64, std::ssize(parts) + 2, 1, {}});
    const GgmlContext ctx = make_ggml_context(parts.size());
    for (const Part& p : parts) {
      ggml_tensor* t = ggml_new_tensor_2d(ctx.get(), p.type, p.ne0, p.ne1);
      ggml_set_name(t, p.name.c_str());
      gguf_add_tensor(m.gguf(), t);
    }
    std::string header(gguf_get_meta_size(m.gguf()), '\0');
    gguf_get_meta_data(m.gguf(), header.data());
    CURDKV_CHECK(append(header));
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      sum_ = Checksum();
      CURDKV_CHECK(write(parts[i]));
    }
    const auto as_bytes = [&] {
      return std::string_view(reinterpret_cast<const char*>(sums_.data()), sums_.size() * sizeof(uint64_t));
    };
    sums_.push_back(checksum(as_bytes()));
    CURDKV_CHECK(file_.append(as_bytes()));
    return file_.append(padding(sums_.size() * sizeof(uint64_t)));
  }

 private:
  static std::string padding(size_t n) {
    return std::string((layout::kAlignment - n % layout::kAlignment) % layout::kAlignment, '\0');
  }

  Result<void> append(std::string_view whole) {
    sums_.push_back(checksum(whole));
    return file_.append(whole);
  }

  Result<void> write(const Part& p) {
    size_t n = 0;
    for (const std::string_view some : p.bytes) {
      CURDKV_CHECK(add(some));
      n += some.size();
    }
    for (const Range& r : p.ranges) {
      CURDKV_CHECK(write(*p.tensor, r));
      n += r.n;
    }
    CURDKV_CHECK(add(padding(n)));
    sums_.push_back(sum_.value());
    return {};
  }

  Result<void> write(const ggml_tensor& t, const Range& r) {
    if (ggml_backend_buffer_is_host(t.buffer)) return add({static_cast<const char*>(t.data) + r.first, r.n});
    std::vector<char> some(std::min(r.n, size_t{1} << 22));
    for (size_t at = 0; at < r.n; at += some.size()) {
      const size_t m = std::min(some.size(), r.n - at);
      ggml_backend_tensor_get(&t, some.data(), r.first + at, m);
      CURDKV_CHECK(add({some.data(), m}));
    }
    return {};
  }
  Result<void> add(std::string_view bytes) {
    sum_.add(bytes);
    return file_.append(bytes);
  }

  OutputFile& file_;
  Checksum sum_;                // of the tensor at hand, with its padding
  std::vector<uint64_t> sums_;  // of the header and of all tensors so far
};

Result<void> save(const std::string& path, const Engine& engine, const SequenceState& sequence,
                  const ContextOrigin& origin) {
  const Model::Impl& model = engine.model().impl();
  if (&sequence.model.impl() != &model)
    return Error{ErrorCode::bad_argument, "the sequence is of another model than the engine"};
  if (sequence.n_tokens == 0) return Error{ErrorCode::bad_argument, "there is nothing to save: no tokens"};
  if (!origin.tokens.empty() && std::ssize(origin.tokens) != sequence.n_tokens) {
    return Error{ErrorCode::bad_argument, format("%zu tokens were given of a sequence that holds %lld",
                                                 origin.tokens.size(), (long long)sequence.n_tokens)};
  }
  CURDKV_TRY(OutputFile file, OutputFile::create(path, 0600));
  SequenceCache cache = sequence.cache;
  CURDKV_CHECK(cache.seal());

  CURDKV_TRY(Metadata m, Metadata::create());
  m.set("general.type", layout::kType);
  gguf_set_val_u32(m.gguf(), "context.version", layout::kVersion);
  m.set("context.program", std::string(CURDKV_VERSION));
  describe_model(m, model);
  CURDKV_TRY(const Fingerprint print, fingerprint_of(model.file, model.hp, engine.prompt()));
  for (const FingerprintPart& part : kFingerprintParts)
    m.set(layout::fingerprint_key(part.name), print.*part.value);
  gguf_set_val_bool(m.gguf(), "context.chat", engine.prompt().is_chat());
  m.set("context.type_k", ggml_type_name(cache.shape(0).type_k));
  m.set("context.type_v", ggml_type_name(cache.shape(0).type_v));
  describe_press(m, origin.press);
  describe_documents(m, origin.documents);
  m.set("context.n_tokens", sequence.n_tokens);
  m.set("context.next_position", sequence.next_position);
  m.set("context.n_blocks", static_cast<uint64_t>(cache.blocks().size()));

  std::vector<Part> parts;
  for (size_t b = 0; b < cache.blocks().size(); ++b) describe_block(m, *cache.blocks()[b], b, parts);
  if (!origin.tokens.empty()) parts.push_back(part_of("tokens", GGML_TYPE_I32, origin.tokens));
  if (origin.logits && !sequence.logits.empty())
    parts.push_back(part_of("logits", GGML_TYPE_F32, std::span(sequence.logits)));
  CURDKV_CHECK(Writer(file).write(m, std::move(parts)));
  CURDKV_CHECK(cache.check());  // what was copied from another context's file was whole
  return file.commit();
}

}  // namespace

Result<void> save_context(const std::string& path, const Engine& engine, const Sequence& sequence,
                          const ContextOrigin& origin) {
  return guarded([&] { return save(path, engine, SequenceState::of(sequence), origin); });
}

}  // namespace curdkv
