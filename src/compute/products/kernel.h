// A way to multiply by a layer's weights while prefilling. Prefill walks the layers one by one and every
// chunk of the context through each, so a layer's matrices are unpacked once into the form that is multiplied
// fastest and serve all chunks; then the next layer's take their place.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace curdkv {

struct Bf16Tiles;

// A weight matrix as the model file holds it: n_out rows of n_in elements.
struct WeightMatrix {
  ggml_type type;
  const char* data;
  int64_t n_in;
  int64_t n_out;

  const char* row(int64_t i) const { return data + static_cast<size_t>(i) * ggml_row_size(type, n_in); }
};

// Panels are runs of rows of the weights, tiles are runs of tokens; work is shared between threads by panel.
// unpack, pack and multiply may be called by several threads at once, on different panels and tiles; they run
// inside graphs and allocate nothing themselves (what a library they call allocates, it may fail at, by an
// exception).
class ProductKernel {
 public:
  virtual ~ProductKernel() = default;
  virtual bool takes(const WeightMatrix& w) const = 0;

  virtual int64_t panel_rows() const = 0;  // n_out of what it takes is a multiple of this
  virtual size_t panel_bytes(const WeightMatrix& w) const = 0;  // a multiple of 64
  // to, scratch: aligned to 64 bytes; scratch: unpack_scratch_bytes(w) that nobody else uses.
  virtual size_t unpack_scratch_bytes(const WeightMatrix& w) const = 0;
  virtual void unpack(const WeightMatrix& w, int64_t panel, char* to, char* scratch) const = 0;

  virtual int64_t tile_tokens() const = 0;
  virtual size_t tile_bytes(int64_t n_in) const = 0;
  // x: F32 [n_in, n_tokens], rows x_stride floats apart, n_tokens <= tile_tokens().
  virtual void pack(const float* x, size_t x_stride, int64_t n_in, int64_t n_tokens, char* to) const = 0;

  // out: F32 [n_out, n_tokens], rows out_stride floats apart; writes columns [0, n_panels * panel_rows()) of
  // it. scratch: as above.
  virtual size_t multiply_scratch_bytes(const WeightMatrix& w, int64_t n_tokens) const = 0;
  virtual void multiply(const WeightMatrix& w, const char* panels, int64_t n_panels, const char* tiles,
                        int64_t n_tokens, float* out, size_t out_stride, char* scratch) const = 0;
};

// Products in 8 bits: weights with a scale for each 32 as GGUF has them, inputs quantised likewise. By
// AVX-512's VNNI, AVX-VNNI, AVX2, NEON's i8mm or its dot products; nullptr on other processors.
std::unique_ptr<ProductKernel> make_int8_kernel();
const char* int8_kernel_name();  // of those instructions; "" where there is no kernel

// Dot products of 8 bits by these instructions, of values in registers: n times as many as hide each other's
// latencies. Returns the number of multiplications and additions; 0: there is no kernel.
double dot_int8(int64_t n);

// Products in BF16, with weights of quantised types and BF16, by these tiles; nullptr if there are none.
std::unique_ptr<ProductKernel> make_bf16_kernel(const Bf16Tiles* tiles);

// Products by oneDNN, in BF16 or F32, with weights of any type; nullptr if built without it.
std::unique_ptr<ProductKernel> make_onednn_kernel();

using ProductKernels = std::vector<std::unique_ptr<ProductKernel>>;  // the first that takes a matrix gets it

}  // namespace curdkv
