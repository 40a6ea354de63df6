// Products by oneDNN: in BF16 where the processor multiplies that faster than F32, else, and for F32 weights,
// in F32. oneDNN is called with one thread on each of our own.
#include "compute/products/kernel.h"

#ifdef CURDKV_ONEDNN

#include <omp.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>

#include "base/scratch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace curdkv {
namespace {

using dnnl::memory;

constexpr int64_t kRows = 64;         // of a panel
constexpr int64_t kManyTokens = 512;  // weights are laid out as suits products with so many

// AMX, or AMD's AVX512-BF16; Intel's without AMX takes twice as long as F32.
bool has_fast_bf16() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0) return true;
  return __builtin_cpu_is("amd") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1) != 0;
#else
  return false;
#endif
}

// oneDNN starts no threads of its own while one lives; whoever called us gets its setting back.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// Calls oneDNN, with one thread, and says of memory that runs out what everything else does.
template <typename Call>
auto calling(const Call& call) {
  const OneThread one;
  try {
    return call();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
    throw;
  }
}

// oneDNN 2.6 makes its objects without looking whether there is memory for them. They are small: where a
// larger block is to be had they are as well, else this throws std::bad_alloc.
void need_memory() {
  constexpr size_t kBytes = 4 << 20;
  ::operator delete(::operator new(kBytes));
}

class OneDnnKernel : public ProductKernel {
 public:
  OneDnnKernel() : engine_(dnnl::engine::kind::cpu, 0), fast_bf16_(has_fast_bf16()) {}

  bool takes(const WeightMatrix& w) const override {
    const bool readable = w.type == GGML_TYPE_F32 || ggml_get_type_traits(w.type)->to_float != nullptr;
    return readable && w.n_out % kRows == 0;
  }

  int64_t panel_rows() const override { return kRows; }

  size_t panel_bytes(const WeightMatrix& w) const override { return (layout(w).get_size() + 63) / 64 * 64; }

  size_t unpack_scratch_bytes(const WeightMatrix& w) const override {
    return static_cast<size_t>(kRows * w.n_in) * sizeof(float);
  }

  void unpack(const WeightMatrix& w, int64_t panel, char* to, char* scratch) const override {
    return calling([&] {
      auto* rows = reinterpret_cast<float*>(scratch);
      const char* from = w.row(panel * kRows);
      if (w.type == GGML_TYPE_F32) {
        std::copy_n(reinterpret_cast<const float*>(from), kRows * w.n_in, rows);
      } else {
        ggml_get_type_traits(w.type)->to_float(from, rows, kRows * w.n_in);
      }
      const memory::desc plain({w.n_in, kRows}, memory::data_type::f32, memory::format_tag::ba);
      memory source(plain, engine_, rows), target(layout(w), engine_, to);
      dnnl::stream stream(engine_);
      dnnl::reorder(source, target).execute(stream, source, target);
      stream.wait();
    });
  }

  int64_t tile_tokens() const override { return 1; }

  // Inputs do for weights of any type: F32, and behind them BF16 if some products are in that.
  size_t tile_bytes(int64_t n_in) const override { return static_cast<size_t>(n_in) * (fast_bf16_ ? 6 : 4); }

  void pack(const float* x, size_t, int64_t n_in, int64_t, char* to) const override {
    std::copy_n(reinterpret_cast<const char*>(x), static_cast<size_t>(n_in) * 4, to);
    if (fast_bf16_) ggml_fp32_to_bf16_row(x, reinterpret_cast<ggml_bf16_t*>(to + n_in * 4), n_in);
  }

  // Makes the product, too, before a graph runs that needs it.
  size_t multiply_scratch_bytes(const WeightMatrix& w, int64_t n_tokens) const override {
    return calling([&] {
      Scratch scratch;
      lay_out(scratch, product_of(w, n_tokens), n_tokens);
      return scratch.n_bytes();
    });
  }

  void multiply(const WeightMatrix& w, const char* panels, int64_t n_panels, const char* tiles,
                int64_t n_tokens, float* out, size_t out_stride, char* scratch_memory) const override {
    return calling([&] {
      const memory::desc weights_desc = layout(w), outputs_desc = dense_outputs(n_tokens);
      const Product& product = product_of(w, n_tokens);
      Scratch laid_out(scratch_memory);
      const auto [dense, its_own] = lay_out(laid_out, product, n_tokens);
      memory scratch(product.scratch, engine_, its_own);
      dnnl::stream stream(engine_);
      memory inputs(inputs_desc(w, n_tokens), engine_,
                    const_cast<char*>(tiles) + (type_of(w) == memory::data_type::bf16 ? w.n_in * 4 : 0));
      // Rows that lie apart would keep oneDNN 2.6 from its fast path.
      memory outputs(outputs_desc, engine_, dense);
      for (int64_t p = 0; p < n_panels; ++p, panels += panel_bytes(w), out += kRows) {
        memory weights(weights_desc, engine_, const_cast<char*>(panels));
        product.primitive.execute(stream, {{DNNL_ARG_SRC, inputs},
                                           {DNNL_ARG_WEIGHTS, weights},
                                           {DNNL_ARG_DST, outputs},
                                           {DNNL_ARG_SCRATCHPAD, scratch}});
        stream.wait();
        for (int64_t t = 0; t < n_tokens; ++t)
          std::copy_n(dense + t * kRows, kRows, out + static_cast<size_t>(t) * out_stride);
      }
    });
  }

 private:
  // F16 says more of a weight than BF16 can.
  memory::data_type type_of(const WeightMatrix& w) const {
    const bool fits = w.type != GGML_TYPE_F32 && w.type != GGML_TYPE_F16;
    return fast_bf16_ && fits ? memory::data_type::bf16 : memory::data_type::f32;
  }

  memory::desc inputs_desc(const WeightMatrix& w, int64_t n_tokens) const {
    const auto bytes = static_cast<int64_t>(tile_bytes(w.n_in));
    const int64_t element = type_of(w) == memory::data_type::bf16 ? 2 : 4;
    return {{n_tokens, w.n_in}, type_of(w), memory::dims{bytes / element, 1}};
  }

  static memory::desc dense_outputs(int64_t n_tokens) {
    return {{n_tokens, kRows}, memory::data_type::f32, memory::format_tag::ab};
  }

  // How a panel's weights are laid out.
  memory::desc layout(const WeightMatrix& w) const {
    const std::lock_guard lock(mutex_);
    const std::tuple key(w.n_in, type_of(w));
    if (const auto at = layouts_.find(key); at != layouts_.end()) return at->second;
    need_memory();
    const memory::desc any({w.n_in, kRows}, type_of(w), memory::format_tag::any);
    const dnnl::matmul::desc desc(inputs_desc(w, kManyTokens), any, dense_outputs(kManyTokens));
    const memory::desc found = dnnl::matmul::primitive_desc(desc, engine_).weights_desc();
    layouts_.emplace(key, found);
    return found;
  }

  // Threads share a primitive, so each brings its own scratchpad: oneDNN's belongs to the thread that made
  // it.
  struct Product {
    dnnl::matmul primitive;
    memory::desc scratch;
  };

  const Product& product_of(const WeightMatrix& w, int64_t n_tokens) const {
    const memory::desc weights = layout(w);
    const std::lock_guard lock(mutex_);
    const std::tuple key(n_tokens, w.n_in, type_of(w));
    if (const auto at = products_.find(key); at != products_.end()) return at->second;
    need_memory();
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc desc({inputs_desc(w, n_tokens), weights, dense_outputs(n_tokens)},
                                            attr, engine_);
    return products_.emplace(key, Product{dnnl::matmul(desc), desc.scratchpad_desc()}).first->second;
  }

  struct Arrays {
    float* dense;  // [n_tokens][kRows]
    char* its_own;
  };
  static Arrays lay_out(Scratch& scratch, const Product& product, int64_t n_tokens) {
    auto* dense = scratch.take<float>(n_tokens * kRows);
    return {dense, scratch.take<char>(static_cast<int64_t>(product.scratch.get_size()))};
  }

  dnnl::engine engine_;
  bool fast_bf16_;
  mutable std::mutex mutex_;  // of both maps
  mutable std::map<std::tuple<int64_t, memory::data_type>, memory::desc> layouts_;
  mutable std::map<std::tuple<int64_t, int64_t, memory::data_type>, Product> products_;
};

}  // namespace

std::unique_ptr<ProductKernel> make_onednn_kernel() {
  return std::make_unique<OneDnnKernel>();
}

}  // namespace curdkv

#else

namespace curdkv {

std::unique_ptr<ProductKernel> make_onednn_kernel() {
  return nullptr;
}

}  // namespace curdkv

#endif
