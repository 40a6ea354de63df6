#include "attention/attention_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

// Arrays of vectors below need vectors of a fixed size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/attention_kernel.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention/plain_rows-inl.h"
#include "attention/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace curdkv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Calls f with the reader of rows of this type.
template <typename F>
HWY_INLINE void with_rows(ggml_type type, const F& f) {
  if (type == GGML_TYPE_F16) {
    f(F16Rows());
  } else if (type == GGML_TYPE_Q8_0) {
    f(Q8Rows());
  } else {
    f(F32Rows());
  }
}

// attend_block() for rows that fill whole vectors.
void attend_whole_vectors(const AttentionBlock& b, float* out, size_t out_stride, float* scores) {
  const KeysAhead ahead(b.k, b.k_stride, b.v_stride);
  for (int64_t first = 0; first < b.n_q; first += kMostQueries) {
    const int64_t n = std::min<int64_t>(kMostQueries, b.n_q - first);
    float* to = out + static_cast<size_t>(first) * out_stride;
    with_rows(b.type_k, [&](auto rows) {
      with_count<kMostQueries>(n, [&](auto count) {
        dot_rows<decltype(rows), count>(b.q + first * b.d_k, b.k, b.k_stride, b.n_rows, b.d_k, scores, b.v,
                                        b.v_stride, ahead);
      });
    });
    // All maxima first: each ends in a chain of steps that wait for each other, which the others' work fills.
    for (int64_t i = 0; i < n; ++i) {
      to[static_cast<size_t>(i) * out_stride] =
          max_of_visible(scores + i * kBlockRows, b.n_visible[first + i]);
    }
    for (int64_t i = 0; i < n; ++i) {
      float* o = to + static_cast<size_t>(i) * out_stride;
      o[1] = exp_of_visible(scores + i * kBlockRows, b.n_visible[first + i], o[0]);
    }
    with_rows(b.type_v, [&](auto rows) {
      with_count<kMostQueries>(n, [&](auto count) {
        mix_rows<decltype(rows), count>(scores, b.v, b.v_stride, b.n_rows, b.d_v, to + 2, out_stride, ahead);
      });
    });
  }
}

int64_t padded(int64_t d) {
  return (d + kLanes - 1) / kLanes * kLanes;
}

// Rows as F32, `width` floats apart, the last of them zero.
void pad_rows(const char* in, size_t stride, ggml_type type, int64_t n_rows, int64_t d, float* out,
              int64_t width) {
  for (int64_t r = 0; r < n_rows; ++r, in += stride, out += width) {
    if (type == GGML_TYPE_F32) {
      std::memcpy(out, in, static_cast<size_t>(d) * sizeof(float));
    } else {
      ggml_get_type_traits(type)->to_float(in, out, d);
    }
    std::fill(out + d, out + width, 0.0f);
  }
}

size_t ScratchFloats(int64_t n_q, int64_t d_k, int64_t d_v) {
  const int64_t scores = kMostQueries * kBlockRows, wk = padded(d_k), wv = padded(d_v);
  return static_cast<size_t>(scores + kBlockRows * (wk + wv) + n_q * (wk + wv + 2));
}

// Types that are read as they lie; rows of others are widened first.
bool has_reader(ggml_type type) {
  return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_Q8_0;
}

void AttendBlock(const AttentionBlock& b, float* out, size_t out_stride, float* scratch) {
  const int64_t wk = padded(b.d_k), wv = padded(b.d_v);
  const bool as_they_lie = wk == b.d_k && wv == b.d_v && has_reader(b.type_k) && has_reader(b.type_v);
  if (as_they_lie) return attend_whole_vectors(b, out, out_stride, scratch);
  float* k = scratch + kMostQueries * kBlockRows;
  float* v = k + kBlockRows * wk;
  float* q = v + kBlockRows * wv;
  float* wide = q + b.n_q * wk;  // [wv + 2, n_q]
  pad_rows(b.k, b.k_stride, b.type_k, b.n_rows, b.d_k, k, wk);
  pad_rows(b.v, b.v_stride, b.type_v, b.n_rows, b.d_v, v, wv);
  const size_t d_k = static_cast<size_t>(b.d_k) * sizeof(float);
  pad_rows(reinterpret_cast<const char*>(b.q), d_k, GGML_TYPE_F32, b.n_q, b.d_k, q, wk);
  AttentionBlock whole = b;
  whole.q = q;
  whole.k = reinterpret_cast<const char*>(k);
  whole.v = reinterpret_cast<const char*>(v);
  whole.type_k = whole.type_v = GGML_TYPE_F32;
  whole.d_k = wk;
  whole.d_v = wv;
  whole.k_stride = static_cast<size_t>(wk) * sizeof(float);
  whole.v_stride = static_cast<size_t>(wv) * sizeof(float);
  attend_whole_vectors(whole, wide, static_cast<size_t>(wv + 2), scratch);
  for (int64_t i = 0; i < b.n_q; ++i) {
    std::copy_n(wide + i * (wv + 2), b.d_v + 2, out + static_cast<size_t>(i) * out_stride);
  }
}

int64_t AttentionTarget() {
  return HWY_TARGET;
}

}  // namespace HWY_NAMESPACE
}  // namespace curdkv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace curdkv {

HWY_EXPORT(ScratchFloats);
HWY_EXPORT(AttendBlock);
HWY_EXPORT(AttentionTarget);

size_t attention_scratch_floats(int64_t n_q, int64_t d_k, int64_t d_v) {
  return HWY_DYNAMIC_DISPATCH(ScratchFloats)(n_q, d_k, d_v);
}

void attend_block(const AttentionBlock& block, float* out, size_t out_stride, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendBlock)(block, out, out_stride, scratch);
}

std::string attention_kernel_name() {
  return std::string("F32, ") + hwy::TargetName(HWY_DYNAMIC_DISPATCH(AttentionTarget)());
}

void fold_block(float* acc, const float* part, int64_t d_v) {
  if (part[1] == 0) return;
  const float max = std::max(acc[0], part[0]);
  const float scale_acc = acc[1] == 0 ? 0 : std::exp(acc[0] - max);
  const float scale_part = std::exp(part[0] - max);
  acc[0] = max;
  acc[1] = acc[1] * scale_acc + part[1] * scale_part;
  for (int64_t d = 2; d < d_v + 2; ++d) acc[d] = acc[d] * scale_acc + part[d] * scale_part;
}

void finish_blocks(const float* acc, float* out, int64_t d_v) {
  const float inverse = acc[1] == 0 ? 0 : 1 / acc[1];
  for (int64_t d = 0; d < d_v; ++d) out[d] = acc[d + 2] * inverse;
}

}  // namespace curdkv
#endif  // HWY_ONCE
