#include "compute/products/row_products.h"

#include <algorithm>

#include "base/scratch.h"
#include "base/tickets.h"
#include "compute/products/row_kernel.h"
#include "model/layer_blocks.h"

namespace curdkv {
namespace {

constexpr int64_t kRowsAtOnce = 64;  // a multiple of what the kernel does at a time
constexpr Norm kNoNorm = {nullptr, 0};

// Rows [first, first + n).
struct Run {
  int64_t first, n;
};

// How rows are dealt out: to each thread a long run, which memory delivers at its full speed, and what is
// left in short ones, to those that get done first.
class Runs {
 public:
  Runs(int64_t n_rows, int n_threads)
      : n_rows_(n_rows), n_threads_(n_threads), long_(n_rows / (2 * n_threads) / kRowsAtOnce * kRowsAtOnce) {}

  // Calls f(Run) for each that this thread is dealt.
  template <typename F>
  void deal(Tickets& tickets, const F& f) const {
    const int64_t n_long = long_ > 0 ? n_threads_ : 0, behind = n_long * long_;
    const int64_t n_short = (n_rows_ - behind + kRowsAtOnce - 1) / kRowsAtOnce;
    for (int64_t i; (i = tickets.draw(n_long + n_short, n_threads_)) >= 0;) {
      if (i < n_long) {
        f(Run{i * long_, long_});
      } else {
        const int64_t first = behind + (i - n_long) * kRowsAtOnce;
        f(Run{first, std::min(kRowsAtOnce, n_rows_ - first)});
      }
    }
  }

 private:
  int64_t n_rows_;
  int n_threads_;
  int64_t long_;
};

const float* column(const ggml_tensor* x, int64_t c) {
  return reinterpret_cast<const float*>(static_cast<const char*>(x->data) +
                                        static_cast<size_t>(c) * x->nb[1]);
}

// Blocks [begin, end) of a column x of n_in inputs in 8 bits, normed before where there is a norm.
void quantise_blocks(const float* x, int64_t n_in, const Norm& norm, int64_t begin, int64_t end, char* to) {
  const int64_t first = begin * kRowBlock, n = (end - begin) * kRowBlock;
  if (norm.weight == nullptr) return quantise_input(x + first, n, to);
  quantise_normed(x + first, norm_scale(x, n_in, norm.eps),
                  static_cast<const float*>(norm.weight->data) + first, n, to);
}

// src[0]: F32 [n_in, n]; dst: I8, its quantised form, column by column.
struct Quantise {
  const int64_t* n_columns;
  Norm norm;

  void operator()(ggml_tensor* dst, const OpThread& thread) const {
    const ggml_tensor* x = dst->src[0];
    const int64_t n = x->ne[0] / kRowBlock, begin = n * *n_columns * thread.ith / thread.nth,
                  end = n * *n_columns * (thread.ith + 1) / thread.nth;
    for (int64_t b = begin; b < end;) {
      const int64_t c = b / n, at = b % n, count = std::min(end - b, n - at);
      quantise_blocks(column(x, c), x->ne[0], norm, at, at + count,
                      static_cast<char*>(dst->data) + row_input_bytes(b * kRowBlock));
      b += count;
    }
  }
};

// The inputs of a product: quantised ones (I8), or one column that each thread quantises for itself, which
// takes less time than waiting for another to do it.
struct Inputs {
  int64_t n_in;
  Norm norm;

  size_t scratch_bytes() const { return row_input_bytes(n_in); }
  const char* get(const ggml_tensor* x, char* scratch) const {
    if (x->type == GGML_TYPE_I8) return static_cast<const char*>(x->data);
    quantise_blocks(column(x, 0), n_in, norm, 0, n_in / kRowBlock, scratch);
    return scratch;
  }
};

// Rows of a matrix times all columns, behind its bias: out[c out_stride + r].
void multiply_run(const Linear& matrix, Run run, const char* inputs, int64_t n_columns, float* out,
                  int64_t out_stride) {
  const ggml_tensor* w = matrix.w;
  multiply_rows(w->type, static_cast<const char*>(w->data) + static_cast<size_t>(run.first) * w->nb[1], run.n,
                w->ne[0], inputs, n_columns, out, out_stride);
  if (matrix.b == nullptr) return;
  const float* b = static_cast<const float*>(matrix.b->data) + run.first;
  for (int64_t c = 0; c < n_columns; ++c) {
    for (int64_t r = 0; r < run.n; ++r) out[c * out_stride + r] += b[r];
  }
}

// src: inputs and, or not, what products are added to, F32 [n_out, n]. dst: F32 [n_out of all, n], one
// matrix's products below the other's.
struct MultiplyAllRows {
  std::vector<Linear> matrices;
  Inputs inputs;
  const int64_t* n_columns;
  Tickets tickets = {};

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    const char* in = inputs.get(dst->src[0], thread.scratch);
    Runs(dst->ne[0], thread.nth).deal(tickets, [&](Run run) {
      int64_t at = 0;  // the matrix' first row in dst
      for (const Linear& m : matrices) {
        const int64_t first = std::max(run.first, at), end = std::min(run.first + run.n, at + m.w->ne[1]);
        float* out = static_cast<float*>(dst->data) + first;
        if (first < end) multiply_run(m, {first - at, end - first}, in, *n_columns, out, dst->ne[0]);
        at += m.w->ne[1];
      }
      if (dst->src[1] == nullptr) return;
      for (int64_t c = 0; c < *n_columns; ++c) {
        const float* to = column(dst->src[1], c);
        float* out = static_cast<float*>(dst->data) + c * dst->ne[0];
        for (int64_t r = run.first; r < run.first + run.n; ++r) out[r] += to[r];
      }
    });
  }
};

// src: inputs. dst: I8, silu(gate) up in 8 bits, column by column.
struct MultiplyGated {
  Linear gate, up;
  Inputs inputs;
  const int64_t* n_columns;
  Tickets tickets = {};

  struct Memory {
    char* inputs;
    float *gate, *up;  // [kRowsAtOnce, n]
  };
  static Memory lay_out(Scratch& scratch, const Inputs& inputs, int64_t n) {
    return {scratch.take<char>(static_cast<int64_t>(inputs.scratch_bytes())),
            scratch.take<float>(kRowsAtOnce * n), scratch.take<float>(kRowsAtOnce * n)};
  }

  void operator()(ggml_tensor* dst, const OpThread& thread) {
    Scratch scratch(thread.scratch);
    const Memory m = lay_out(scratch, inputs, *n_columns);
    const char* in = inputs.get(dst->src[0], m.inputs);
    const int64_t n_out = gate.w->ne[1];
    Runs(n_out, thread.nth).deal(tickets, [&](Run run) {
      for (int64_t first = run.first; first < run.first + run.n; first += kRowsAtOnce) {
        const Run some = {first, std::min(kRowsAtOnce, run.first + run.n - first)};
        multiply_run(gate, some, in, *n_columns, m.gate, kRowsAtOnce);
        multiply_run(up, some, in, *n_columns, m.up, kRowsAtOnce);
        for (int64_t c = 0; c < *n_columns; ++c) {
          float* x = m.gate + c * kRowsAtOnce;
          multiply_by_silu(x, m.up + c * kRowsAtOnce, some.n);
          quantise_input(x, some.n, static_cast<char*>(dst->data) + row_input_bytes(c * n_out + first));
        }
      }
    });
  }
};

bool takes_all(std::span<const Linear> matrices) {
  return std::all_of(matrices.begin(), matrices.end(),
                     [](const Linear& m) { return RowProducts::takes(m.w); });
}

}  // namespace

bool RowProducts::takes(const ggml_tensor* w) {
  const bool here = w->buffer != nullptr && ggml_backend_buffer_is_host(w->buffer);
  return here && row_kernel_takes(w->type, w->ne[0]);
}

// What products take of x: itself, where it is one column.
ggml_tensor* RowProducts::inputs_of(ggml_tensor* x, const Norm& norm) {
  if (x->ne[1] == 1) return x;
  ggml_tensor*& quantised = quantised_[{x, norm.weight}];
  if (quantised == nullptr) {
    quantised = compute_.custom<Quantise>(
        GGML_TYPE_I8, {static_cast<int64_t>(row_input_bytes(x->ne[0])) * x->ne[1], 1, 1, 1}, {&x, 1}, 0,
        n_columns_, norm);
  }
  return quantised;
}

// Of n columns `in`, which inputs_of() gave or which are quantised.
ggml_tensor* RowProducts::multiply_all(std::span<const Linear> matrices, ggml_tensor* in, int64_t n,
                                       const Norm& norm, ggml_tensor* to) {
  const Inputs inputs = {matrices[0].w->ne[0], norm};
  ggml_tensor* args[] = {in, to};
  int64_t n_out = 0;
  for (const Linear& m : matrices) n_out += m.w->ne[1];
  return compute_.custom<MultiplyAllRows>(
      GGML_TYPE_F32, {n_out, n, 1, 1}, {args, to == nullptr ? 1u : 2u}, inputs.scratch_bytes(),
      std::vector<Linear>(matrices.begin(), matrices.end()), inputs, n_columns_);
}

ggml_tensor* RowProducts::multiply(ggml_context* ctx, ggml_tensor* w, ggml_tensor* x) {
  if (!takes(w)) return ggml_mul_mat(ctx, w, x);
  const Linear matrix = {w, nullptr};
  return multiply_all({&matrix, 1}, inputs_of(x, kNoNorm), x->ne[1], kNoNorm, nullptr);
}

Products::Projected RowProducts::project(ggml_context* ctx, const Norm& norm,
                                         std::span<const Linear> matrices, ggml_tensor* x) {
  if (!takes_all(matrices)) return Products::project(ctx, norm, matrices, x);
  ggml_tensor* all = multiply_all(matrices, inputs_of(x, norm), x->ne[1], norm, nullptr);
  Projected p = {rms_norm(ctx, x, norm.weight, norm.eps), {}};  // which nothing computes unless it is used
  size_t at = 0;
  for (const Linear& m : matrices) {
    p.results.push_back(ggml_view_2d(ctx, all, m.w->ne[1], all->ne[1], all->nb[1], at * all->nb[0]));
    at += static_cast<size_t>(m.w->ne[1]);
  }
  return p;
}

ggml_tensor* RowProducts::add_product(ggml_context* ctx, const Linear& matrix, ggml_tensor* x,
                                      ggml_tensor* to) {
  if (!takes(matrix.w)) return Products::add_product(ctx, matrix, x, to);
  return multiply_all({&matrix, 1}, inputs_of(x, kNoNorm), x->ne[1], kNoNorm, to);
}

ggml_tensor* RowProducts::feed_forward(ggml_context* ctx, const FeedForward& w, ggml_tensor* x) {
  const Linear all[] = {w.gate, w.up, w.down};
  if (!takes_all(all)) return Products::feed_forward(ctx, w, x);
  const int64_t n = x->ne[1], n_ff = w.gate.w->ne[1];
  const Inputs inputs = {w.gate.w->ne[0], w.norm};
  ggml_tensor* in = inputs_of(x, w.norm);
  ggml_tensor* hidden = compute_.custom<MultiplyGated>(
      GGML_TYPE_I8, {static_cast<int64_t>(row_input_bytes(n_ff)) * n, 1, 1, 1}, {&in, 1},
      Scratch::measure([&](Scratch& s) { MultiplyGated::lay_out(s, inputs, n); }), w.gate, w.up, inputs,
      n_columns_);
  return multiply_all({&w.down, 1}, hidden, n, kNoNorm, x);
}

}  // namespace curdkv
