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

std::vector<int32_t> SequenceCache::positions(int64_t il, int64_t head) const {
  std::vector<int32_t> all;
  for (const auto& block : blocks_) {
    const KvLayer& l = block->layers[static_cast<size_t>(il)];
    const auto first = l.position.begin() + l.offset[static_cast<size_t>(head)];
    all.insert(all.end(), first, first + l.length[static_cast<size_t>(head)]);
  }
  all.insert(all.end(), tail_.positions().begin(), tail_.positions().end());
  return all;
}

Result<const KvLayer*> SequenceCache::in_one_piece(int64_t il, KvLayer& own) const {
  const auto i = static_cast<size_t>(il);
  if (blocks_.size() == 1 && tail_.length() == 0) return &blocks_[0]->layers[i];
  std::vector<int64_t> all;
  for (int64_t h = 0; h < shape(il).n_head_kv; ++h) all.push_back(length(il, h));
  CURDKV_TRY(own, KvLayer::allocate(shape(il), device(il), il, all));
  GgmlContext views = make_ggml_context(4 * all.size() * (blocks_.size() + tail_.parts().size()));
  for (int64_t h = 0; h < shape(il).n_head_kv; ++h) {
    int64_t to = own.offset[static_cast<size_t>(h)];
    const std::vector<int32_t> where = positions(il, h);
    std::copy(where.begin(), where.end(), own.position.begin() + to);
    const auto copy = [&](ggml_tensor* k, ggml_tensor* v, int64_t first, int64_t n) {
      if (n == 0) return;
      ggml_backend_tensor_copy(view_rows(views.get(), k, first, n), view_rows(views.get(), own.k, to, n));
      ggml_backend_tensor_copy(view_rows(views.get(), v, first, n), view_rows(views.get(), own.v, to, n));
      to += n;
    };
    for (const auto& block : blocks_) {
      const KvLayer& l = block->layers[i];
      copy(l.k, l.v, l.offset[static_cast<size_t>(h)], l.length[static_cast<size_t>(h)]);
    }
    for (const Tail::Part& p : tail_.parts()) {
      copy(p.segment->layers[i].k, p.segment->layers[i].v, h * p.segment->capacity, p.n);
    }
  }
  return &own;
}

void SequenceCache::hold(std::shared_ptr<const KvBlock> block) {
  clear();
  blocks_.push_back(std::move(block));
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
