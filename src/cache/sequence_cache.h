// SequenceCache: what one sequence holds, shared blocks and a tail of its own behind them. A head's rows are
// those of its blocks, in order, and then the tail's; row i of a head means the i-th of these. Copying one is
// a fork: the rows stay shared. Not thread-safe.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "cache/kv_block.h"
#include "cache/tail.h"

namespace curdkv {

// Rows of one head that lie one behind the other, in the CPU's memory.
struct RowRun {
  const char* k;
  const char* v;
  int64_t n;
};

class SequenceCache {
 public:
  SequenceCache() = default;
  // Of each layer, what its rows are and where they are to lie. Allocates no rows yet.
  SequenceCache(std::vector<CacheShape> shapes, std::vector<ggml_backend_dev_t> layer_device);

  int64_t n_layer() const { return std::ssize(shapes_); }
  const CacheShape& shape(int64_t il) const { return shapes_[static_cast<size_t>(il)]; }
  ggml_backend_dev_t device(int64_t il) const { return layer_device_[static_cast<size_t>(il)]; }
  std::span<const std::shared_ptr<const KvBlock>> blocks() const { return blocks_; }
  const Tail& tail() const { return tail_; }

  int64_t length(int64_t il, int64_t head) const;   // rows held
  int64_t n_plain(int64_t il, int64_t head) const;  // of which not packed
  bool has_packed(int64_t il) const;
  int64_t longest(int64_t il) const;                               // most rows that a head holds
  std::vector<std::vector<int64_t>> lengths() const;               // [layer][KV head]
  std::vector<int32_t> positions(int64_t il, int64_t head) const;  // of a head's rows

  // Calls f(PackedHead) for the packed rows of head h.
  template <typename F>
  void for_each_packed(int64_t il, int64_t head, const F& f) const {
    for (const auto& block : blocks_) {
      const KvLayer& l = block->layers[static_cast<size_t>(il)];
      if (!l.packed.empty() && l.length[static_cast<size_t>(head)] > 0)
        f(l.packed[static_cast<size_t>(head)]);
    }
  }

  // Calls f(RowRun) for head h's rows that are not packed, in order, with n_new more behind the tail's, for
  // which reserve() made room.
  template <typename F>
  void for_each_run(int64_t il, int64_t head, int64_t n_new, const F& f) const {
    const auto i = static_cast<size_t>(il), h = static_cast<size_t>(head);
    const auto run = [&](const ggml_tensor* k, const ggml_tensor* v, int64_t first, int64_t n) {
      const auto at = static_cast<size_t>(first);
      f(RowRun{static_cast<const char*>(k->data) + at * k->nb[1],
               static_cast<const char*>(v->data) + at * v->nb[1], n});
    };
    for (const auto& block : blocks_) {
      const KvLayer& l = block->layers[i];
      if (l.k != nullptr && l.length[h] > 0) run(l.k, l.v, l.offset[h], l.length[h]);
    }
    const auto parts = tail_.parts();
    for (size_t p = 0; p < parts.size(); ++p) {
      const TailSegment& s = *parts[p].segment;
      const int64_t n = parts[p].n + (p + 1 == parts.size() ? n_new : 0);
      if (n > 0) run(s.layers[i].k, s.layers[i].v, head * s.capacity, n);
    }
  }

  // All rows of a layer in one piece, none packed: copied, unless there is one block of such rows and no
  // tail, which `own` then stays without.
  Result<const KvLayer*> in_one_piece(int64_t il, KvLayer& own) const;

  // A block behind everything held so far; the tail becomes a block before it. On error nothing has changed.
  Result<void> add(std::shared_ptr<const KvBlock> block);
  Result<void> seal();  // the tail, if it holds anything, becomes the last block; errors likewise
  // Whether files that blocks are mapped from still are what was opened. Errors: corrupt.
  Result<void> check() const;
  std::vector<std::vector<std::vector<int32_t>>> block_positions()
      const;  // of blocks' rows, [layer][KV head]

  // Room for n more rows in every head, in the tail's last segment. On error nothing has changed.
  Result<void> reserve(int64_t n) { return tail_.reserve(shapes_, layer_device_, n); }
  void append(int64_t n, int64_t first_position) { tail_.append(n, static_cast<int32_t>(first_position)); }
  void truncate(int64_t tail_length) noexcept { tail_.truncate(tail_length); }
  void clear() noexcept;  // lets go of everything

  size_t n_bytes() const;  // allocated now, what is shared included

 private:
  using Blocks = std::span<const std::shared_ptr<const KvBlock>>;
  std::vector<int32_t> positions(Blocks blocks, int64_t il, int64_t head) const;
  Result<KvLayer> copy_of(Blocks blocks, int64_t il) const;  // their rows and the tail's

  std::vector<CacheShape> shapes_;  // of each layer
  std::vector<ggml_backend_dev_t> layer_device_;
  std::vector<std::shared_ptr<const KvBlock>> blocks_;
  Tail tail_;
};

}  // namespace curdkv
