// Budgets of a press: how many tokens a layer may keep of a context.
#include "curdkv/press.h"

#include <algorithm>

#include "base/format.h"
#include "press/allocation.h"
#include "press/scorer.h"

namespace curdkv {

double Press::wanted(int64_t n_tokens) const {
  if (is_none()) return static_cast<double>(n_tokens);
  return budget_ ? static_cast<double>(*budget_) : static_cast<double>(n_tokens) * (1.0 - compression_ratio_);
}

int64_t Press::n_kept(int64_t n_tokens) const {
  if (is_none()) return n_tokens;
  return at_least_sinks(static_cast<int64_t>(wanted(n_tokens)), n_tokens);
}

int64_t Press::n_kept_in_layer(int64_t n_tokens, double wanted, int64_t il, int64_t n_layer) const {
  if (is_none()) return n_tokens;
  wanted = std::min(wanted, static_cast<double>(n_tokens));
  if (layer_budget_ == nullptr) return at_least_sinks(static_cast<int64_t>(wanted), n_tokens);
  return at_least_sinks(layer_budget_->n_kept(wanted, n_tokens, il, n_layer), n_tokens);
}

double Press::wanted_bytes(double f16_bytes) const {
  if (budget_bytes_) return std::min(static_cast<double>(*budget_bytes_), f16_bytes);
  return is_none() ? f16_bytes : f16_bytes * (1.0 - compression_ratio_);
}

bool Press::packs() const {
  return rows_k_ != RowType::cache || rows_v_ != RowType::cache || share_of_bytes() != nullptr;
}

bool Press::measures_keys() const {
  return rows_k_ == RowType::automatic || share_of_bytes() != nullptr;
}

const ByteShare* Press::share_of_bytes() const {
  return layer_budget_ == nullptr ? nullptr : layer_budget_->share_of_bytes();
}

bool Press::needs_repeats() const {
  return !is_none() && scorer_->needs().reconstruction;
}

Result<void> Press::check_decode_budget(int64_t budget) const {
  if (is_none())
    return Error{ErrorCode::bad_argument, "press 'none' cannot bound the cache while generating"};
  if (!scorer_->needs().held_rows_will_do()) {
    return Error{ErrorCode::bad_argument,
                 "press '" + name_ + "' cannot bound the cache while generating: it scores by " +
                     "what is gone by then; ridgekv, snapkv, streamingllm and others can"};
  }
  if (budget <= scorer_->n_sinks()) {
    return Error{ErrorCode::bad_argument,
                 format("a cache of %lld tokens per KV head is filled by the %lld sinks of '%s'",
                        (long long)budget, (long long)scorer_->n_sinks(), name_.c_str())};
  }
  return {};
}

int64_t Press::n_recent_queries() const {
  constexpr int64_t kMost = 128;
  return is_none() ? 0 : std::min(kMost, scorer_->needs().n_queries);
}

bool Press::bounds_positions() const {
  return !is_none() && scorer_->keeps_sinks_and_latest();
}

int64_t Press::at_least_sinks(int64_t n_kept, int64_t n_tokens) const {
  return std::min(n_tokens, std::max(n_kept, std::min(protect_last_, n_tokens) + scorer_->n_sinks() + 1));
}

}  // namespace curdkv
