#include "cache/sequence_cache.h"

#include "base/try.h"

namespace curdkv {

SequenceCache::SequenceCache(std::vector<CacheShape> shapes, std::vector<ggml_backend_dev_t> layer_device)
    : shapes_(std::move(shapes)), layer_device_(std::move(layer_device)) {}

int64_t SequenceCache::length(int64_t il, int64_t head) const {
  int64_t n = tail_.length();
  for (const auto& block : blocks_)
    n += block->layers[static_cast<size_t>(il)].length[static_cast<size_t>(head)];
  return n;
}

int64_t SequenceCache::n_plain(int64_t il, int64_t head) const {
  int64_t n = length(il, head);
  for_each_packed(il, head, [&](const PackedHead& packed) { n -= packed.k.n; });
  return n;
}

bool SequenceCache::has_packed(int64_t il) const {
  return std::any_of(blocks_.begin(), blocks_.end(), [&](const auto& block) {
    return !block->layers[static_cast<size_t>(il)].packed.empty();
  });
}

int64_t SequenceCache::longest(int64_t il) const {
  int64_t longest = 0;
  for (int64_t h = 0; h < shape(il).n_head_kv; ++h) longest = std::max(longest, length(il, h));
  return longest;
}

std::vector<std::vector<int64_t>> SequenceCache::lengths() const {
  std::vector<std::vector<int64_t>> all(shapes_.size());
  for (int64_t il = 0; il < n_layer(); ++il) {
    for (int64_t h = 0; h < shape(il).n_head_kv; ++h) all[static_cast<size_t>(il)].push_back(length(il, h));
  }
  return all;
}

std::vector<int32_t> SequenceCache::positions(Blocks blocks, int64_t il, int64_t head) const {
  std::vector<int32_t> all;
  for (const auto& block : blocks) {
    const KvLayer& l = block->layers[static_cast<size_t>(il)];
    const std::vector<int32_t> some = l.positions[static_cast<size_t>(head)].unpacked();
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

std::vector<int32_t> SequenceCache::positions(int64_t il, int64_t head) const {
  std::vector<int32_t> all = positions(blocks_, il, head);
  all.insert(all.end(), tail_.positions().begin(), tail_.positions().end());
  return all;
}

std::vector<std::vector<std::vector<int32_t>>> SequenceCache::block_positions() const {
  std::vector<std::vector<std::vector<int32_t>>> all(shapes_.size());
  for (int64_t il = 0; il < std::ssize(shapes_); ++il) {
    for (int64_t h = 0; h < shape(il).n_head_kv; ++h)
      all[static_cast<size_t>(il)].push_back(positions(blocks_, il, h));
  }
  return all;
}

// Packed rows into the layer's tensors, from row `to` on.
static void unpack(const PackedHead& from, const KvLayer& layer, int64_t to) {
  std::vector<float> x(static_cast<size_t>(std::max(from.k.d, from.v.d)));
  const auto store = [&](ggml_tensor* rows, int64_t i) {
    char* row = static_cast<char*>(rows->data) + static_cast<size_t>(to + i) * rows->nb[1];
    ggml_quantize_chunk(rows->type, x.data(), row, 0, 1, rows->ne[0], nullptr);
  };
  for (int64_t i = 0; i < from.k.n; ++i) {
    unpack_key(from.k, i, x.data());
    store(layer.k, i);
    unpack_value(from.v, i, x.data());
    store(layer.v, i);
  }
}

Result<KvLayer> SequenceCache::copy_of(Blocks blocks, int64_t il) const {
  const auto i = static_cast<size_t>(il);
  std::vector<std::vector<int32_t>> where;
  std::vector<int64_t> lengths;
  for (int64_t h = 0; h < shape(il).n_head_kv; ++h) {
    std::vector<int32_t>& head = where.emplace_back(positions(blocks, il, h));
    head.insert(head.end(), tail_.positions().begin(), tail_.positions().end());
    lengths.push_back(std::ssize(head));
  }
  CURDKV_TRY(KvLayer all, KvLayer::allocate(shape(il), device(il), il, lengths));
  GgmlContext views = make_ggml_context(4 * lengths.size() * (blocks.size() + tail_.parts().size()));
  for (int64_t h = 0; h < shape(il).n_head_kv; ++h) {
    const auto head = static_cast<size_t>(h);
    int64_t to = all.offset[head];
    all.positions[head] = RowPositions(where[head]);
    const auto copy = [&](ggml_tensor* k, ggml_tensor* v, int64_t first, int64_t n) {
      if (n == 0) return;
      ggml_backend_tensor_copy(view_rows(views.get(), k, first, n), view_rows(views.get(), all.k, to, n));
      ggml_backend_tensor_copy(view_rows(views.get(), v, first, n), view_rows(views.get(), all.v, to, n));
      to += n;
    };
    for (const auto& block : blocks) {
      const KvLayer& l = block->layers[i];
      if (l.packed.empty()) {
        copy(l.k, l.v, l.offset[head], l.length[head]);
      } else {
        unpack(l.packed[head], all, to);
        to += l.length[head];
      }
    }
    for (const Tail::Part& p : tail_.parts()) {
      copy(p.segment->layers[i].k, p.segment->layers[i].v, h * p.segment->capacity, p.n);
    }
  }
  return all;
}

Result<const KvLayer*> SequenceCache::in_one_piece(int64_t il, KvLayer& own) const {
  if (blocks_.size() == 1 && tail_.length() == 0 && !has_packed(il))
    return &blocks_[0]->layers[static_cast<size_t>(il)];
  CURDKV_TRY(own, copy_of(blocks_, il));
  return &own;
}

Result<void> SequenceCache::add(std::shared_ptr<const KvBlock> block) {
  std::vector<std::shared_ptr<const KvBlock>> blocks = blocks_;
  if (tail_.length() > 0) {
    auto sealed = std::make_shared<KvBlock>();
    for (int64_t il = 0; il < std::ssize(shapes_); ++il) {
      CURDKV_TRY(sealed->layers.emplace_back(), copy_of({}, il));
    }
    blocks.push_back(std::move(sealed));
  }
  if (block) blocks.push_back(std::move(block));
  blocks_.swap(blocks);
  tail_.clear();
  return {};
}

Result<void> SequenceCache::seal() {
  return add(nullptr);
}

Result<void> SequenceCache::check() const {
  for (const auto& block : blocks_) {
    if (block->file) CURDKV_CHECK(block->file->check());
  }
  return {};
}

void SequenceCache::clear() noexcept {
  blocks_.clear();
  tail_.clear();
}

size_t SequenceCache::n_bytes() const {
  size_t n = tail_.n_bytes();
  for (const auto& block : blocks_) n += block->n_bytes();
  return n;
}

}  // namespace curdkv
