// Evicting from what a sequence holds: what bounds a cache while tokens are generated.
#pragma once

#include "engine/compaction.h"
#include "engine/job.h"

namespace curdkv {

class ShrinkJob : public Job::Impl {
 public:
  // Every KV head is left with its `budget` best rows. The press can: Press::check_decode_budget().
  ShrinkJob(Executor::Impl& executor, SequenceState& sequence, const Press& press, int64_t budget);
  Result<bool> advance() override;  // a layer

 private:
  Result<KvLayer> shrink_layer();
  Result<void> commit();

  SequenceState& sequence_;
  Press press_;
  int64_t budget_;
  int64_t n_back_ = 0;  // positions that all but the sinks are turned back by
  std::shared_ptr<KvBlock> block_ = std::make_shared<KvBlock>();
};

}  // namespace curdkv
