// Decoding's attention by itself: the kernels that were tried, the op as the engine runs it, and ggml's flash
// attention, in turn over the caches of all layers of a model's shape; beside the machine's limits measured
// in the same run. Prints Markdown.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "attention/ragged_attention.h"
#include "attention_rungs.h"
#include "base/stopwatch.h"
#include "measure/bench.h"
#include "measure/machine.h"
#include "shapes.h"
#include "support/score.h"

using namespace curdkv;
using namespace curdkv::measure;
using namespace curdkv::testing;

namespace {

// Caches of all layers, filled at random: head h holds lengths[h] rows and one row more, the new one's.
// `rows` has them in one piece; in `cache` the new one's place is in the tail.
struct Caches {
  Shape shape;
  std::vector<int64_t> lengths;
  std::vector<KvLayer> rows;
  SequenceCache cache;
  std::vector<float> q;  // [n_head][d]
  ggml_type type;

  Caches(const Shape& s, const std::vector<int64_t>& n, ggml_type t) : shape(s), lengths(n), type(t) {
    ggml_cpu_init();
    const auto cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    const CacheShape whole = {s.n_head_kv, s.d, s.d, t, t};
    const auto n_layer = static_cast<size_t>(s.n_layer);
    cache = SequenceCache(std::vector(n_layer, whole), std::vector(n_layer, cpu));
    std::vector<int64_t> with_new = n;
    for (int64_t& r : with_new) r += 1;
    std::mt19937 rng(1);
    std::normal_distribution<float> normal;
    std::vector<float> data(static_cast<size_t>(s.d) * 1024);
    auto block = std::make_shared<KvBlock>();
    for (int64_t il = 0; il < s.n_layer; ++il) {
      rows.push_back(must(KvLayer::allocate(whole, cpu, il, with_new)));
      for (ggml_tensor* x : {rows.back().k, rows.back().v}) {
        for (int64_t r = 0; r < x->ne[1]; r += 1024) {
          const int64_t m = std::min<int64_t>(1024, x->ne[1] - r);
          if (r == 0 || m < 1024) {
            for (float& value : data) value = normal(rng);
          }
          ggml_quantize_chunk(x->type, data.data(), static_cast<char*>(x->data) + r * x->nb[1], 0, m,
                              x->ne[0], nullptr);
        }
      }
      KvLayer held = must(KvLayer::allocate(whole, cpu, il, n));
      for (size_t h = 0; h < n.size(); ++h) {
        const auto copy = [&](const ggml_tensor* from, ggml_tensor* to) {
          std::memcpy(static_cast<char*>(to->data) + held.offset[h] * to->nb[1],
                      static_cast<const char*>(from->data) + rows.back().offset[h] * from->nb[1],
                      n[h] * to->nb[1]);
        };
        copy(rows.back().k, held.k);
        copy(rows.back().v, held.v);
      }
      block->layers.push_back(std::move(held));
    }
    must(cache.add(std::move(block)));
    must(cache.reserve(1));
    q.resize(static_cast<size_t>(s.n_head_kv * s.n_group * s.d));
    for (float& x : q) x = normal(rng);
  }

  int64_t n_rows() const {  // of all heads and layers
    int64_t n = 0;
    for (int64_t l : lengths) n += l + 1;
    return n * shape.n_layer;
  }
  double bytes() const {
    return static_cast<double>(n_rows()) * 2 * static_cast<double>(ggml_row_size(type, shape.d));
  }
  double operations() const { return static_cast<double>(n_rows() * shape.n_group * shape.d) * 4; }
  float scale() const { return 1 / std::sqrt(static_cast<float>(shape.d)); }
};

// A kernel without the engine around it: threads take even shares of all blocks of a layer. The outputs of
// the last layer's blocks are left in `out`.
class BareKernel {
 public:
  BareKernel(const Caches& c, AttendBlock attend) : c_(c), attend_(attend), q_(c.q) {
    for (float& x : q_) x *= c.scale();
    for (int64_t h = 0; h < c.shape.n_head_kv; ++h) {
      for (int64_t r = 0; r < c.lengths[static_cast<size_t>(h)] + 1; r += kBlockRows)
        blocks_.push_back({h, r});
    }
    out_.resize(blocks_.size() * static_cast<size_t>(c.shape.n_group * (c.shape.d + 2)));
  }

  void share(int64_t il, int ith, int nth) {
    const Shape& s = c_.shape;
    const KvLayer& l = c_.rows[static_cast<size_t>(il)];
    std::vector<float> scratch(rung_scratch_floats(s.n_group, s.d, s.d));
    std::vector<int64_t> visible(static_cast<size_t>(s.n_group));
    const size_t n = blocks_.size(), stride = static_cast<size_t>(s.d + 2);
    for (size_t b = n * static_cast<size_t>(ith) / static_cast<size_t>(nth);
         b < n * static_cast<size_t>(ith + 1) / static_cast<size_t>(nth); ++b) {
      const auto [h, first] = blocks_[b];
      const int64_t rows = std::min(kBlockRows, c_.lengths[static_cast<size_t>(h)] + 1 - first);
      visible.assign(visible.size(), rows);
      const int64_t at = l.offset[static_cast<size_t>(h)] + first;
      attend_({q_.data() + h * s.n_group * s.d, visible.data(), s.n_group,
               static_cast<const char*>(l.k->data) + at * l.k->nb[1],
               static_cast<const char*>(l.v->data) + at * l.v->nb[1], l.k->nb[1], l.v->nb[1], l.k->type,
               l.v->type, rows, s.d, s.d},
              out_.data() + b * visible.size() * stride, stride, scratch.data());
    }
  }

  std::vector<float> result(int64_t il) {  // [n_head][d], blocks folded
    share(il, 0, 1);
    const Shape& s = c_.shape;
    const auto stride = static_cast<size_t>(s.d + 2);
    std::vector<float> out(static_cast<size_t>(s.n_head_kv * s.n_group * s.d));
    for (int64_t head = 0; head < s.n_head_kv * s.n_group; ++head) {
      std::vector<float> acc(stride, 0.0f);
      acc[0] = -INFINITY;
      for (size_t b = 0; b < blocks_.size(); ++b) {
        if (blocks_[b].head != head / s.n_group) continue;
        fold_block(acc.data(),
                   out_.data() +
                       (b * static_cast<size_t>(s.n_group) + static_cast<size_t>(head % s.n_group)) * stride,
                   s.d);
      }
      finish_blocks(acc.data(), out.data() + head * s.d, s.d);
    }
    return out;
  }

 private:
  struct Block {
    int64_t head, first;
  };
  const Caches& c_;
  AttendBlock attend_;
  std::vector<float> q_, out_;
  std::vector<Block> blocks_;
};

// A graph with the attention of every layer.
class Graph {
 public:
  enum class Kind { ours, ggml };
  Graph(const Caches& c, Kind kind, int n_threads)
      : compute_(make_compute(n_threads)), step_{true, {{&c.cache, 1, 0}}} {
    const Shape& s = c.shape;
    ggml_context* ctx = must(compute_->begin());
    q_ = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.d, s.n_head_kv * s.n_group, 1);
    ggml_set_input(q_);
    for (int64_t il = 0; il < s.n_layer; ++il) {
      const KvLayer& l = c.rows[static_cast<size_t>(il)];
      if (kind == Kind::ours) {
        // The last rows, which the op stores.
        const auto fresh = [&](ggml_tensor* rows) {
          std::vector<ggml_tensor*> heads;
          for (size_t h = 0; h < c.lengths.size(); ++h) {
            ggml_tensor* row = view_rows(ctx, rows, l.offset[h] + c.lengths[h], 1);
            heads.push_back(ggml_cont(ctx, ggml_cast(ctx, row, GGML_TYPE_F32)));
          }
          ggml_tensor* all = heads[0];
          for (size_t h = 1; h < heads.size(); ++h) all = ggml_concat(ctx, all, heads[h], 1);
          return ggml_reshape_3d(ctx, all, s.d, s.n_head_kv, 1);
        };
        out_ = ragged_attention_cpu(*compute_, &step_, {il, s.n_group, c.scale()},
                                    n_attention_blocks(step_, il), q_, fresh(l.k), fresh(l.v));
      } else {  // heads of equal length side by side
        const int64_t n = c.lengths[0] + 1;
        const auto view = [&](ggml_tensor* t) {
          return ggml_view_3d(ctx, t, s.d, n, s.n_head_kv, t->nb[1], t->nb[1] * static_cast<size_t>(n), 0);
        };
        ggml_tensor* q = ggml_view_3d(ctx, q_, s.d, 1, s.n_head_kv * s.n_group, q_->nb[2], q_->nb[1], 0);
        out_ = ggml_flash_attn_ext(ctx, q, view(l.k), view(l.v), nullptr, c.scale(), 0.0f, 0.0f);
      }
      ggml_set_output(out_);
      ggml_build_forward_expand(compute_->graph(), out_);
    }
    must(compute_->allocate());
    Compute::set(q_, c.q);
  }
  void run() { must(compute_->run()); }
  std::vector<float> result() {
    std::vector<float> out(static_cast<size_t>(ggml_nelements(out_)));
    ggml_backend_tensor_get(out_, out.data(), 0, out.size() * sizeof(float));
    return out;
  }
  // The op that walks the last layer's blocks, as one of n threads would run it.
  void run_share(int ith, int nth) {
    ggml_tensor* blocks = out_->src[2];
    ggml_custom_op_t op;
    void* userdata;
    std::memcpy(&op, blocks->op_params, sizeof op);
    std::memcpy(&userdata, reinterpret_cast<char*>(blocks->op_params) + 16, sizeof userdata);
    op(blocks, ith, nth, userdata);
  }

 private:
  std::unique_ptr<Compute> compute_;
  StepAttention step_;
  ggml_tensor *q_ = nullptr, *out_ = nullptr;
};

double relative_error(const std::vector<float>& got, const std::vector<float>& expected) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - expected[i]));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return worst / largest;
}

// Runs work(layer, thread, threads) over all layers, all threads waiting for each other between layers.
void over_layers(int64_t n_layer, int n_threads, const std::function<void(int64_t, int, int)>& work) {
  std::atomic<int64_t> arrived = 0;
  const auto body = [&](int i) {
    for (int64_t il = 0; il < n_layer; ++il) {
      work(il, i, n_threads);
      ++arrived;
      while (arrived < (il + 1) * n_threads) {
      }
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < n_threads; ++i) others.emplace_back(body, i);
  body(0);
  for (std::thread& t : others) t.join();
}

void print_row(const Shape& shape, ggml_type type, int64_t depth, int n_threads, int n_repeat) {
  const Caches c(shape, std::vector<int64_t>(static_cast<size_t>(shape.n_head_kv), depth), type);
  const Machine machine(n_threads, static_cast<size_t>(c.bytes()));
  const auto expected = BareKernel(c, attend_reference).result(shape.n_layer - 1);
  struct Candidate {
    std::string name;
    std::function<void()> run;
    double error;
    std::vector<double> ms, share;
  };
  std::vector<Candidate> all;
  Graph ggml(c, Graph::Kind::ggml, n_threads), ours(c, Graph::Kind::ours, n_threads);
  ggml.run();
  ours.run();
  all.push_back(
      {"ggml's flash attention", [&] { ggml.run(); }, relative_error(ggml.result(), expected), {}, {}});
  std::vector<std::unique_ptr<BareKernel>> kernels;
  for (const Rung& rung : kRungs) {
    kernels.push_back(std::make_unique<BareKernel>(c, rung.attend));
    BareKernel* k = kernels.back().get();
    const auto run = [&, k] {
      over_layers(shape.n_layer, n_threads, [&](int64_t il, int i, int n) { k->share(il, i, n); });
    };
    all.push_back({rung.name, run, relative_error(k->result(shape.n_layer - 1), expected), {}, {}});
  }
  all.push_back({"the product in its op, results folded",
                 [&] { ours.run(); },
                 relative_error(ours.result(), expected),
                 {},
                 {}});
  std::vector<double> gb, gflops;
  for (int r = -1; r < n_repeat; ++r) {
    const double read = machine.read_gb_s(), peak = machine.f32_gflops();
    const double least_ms = std::max(c.bytes() / read, c.operations() / peak) / 1e6;
    for (Candidate& k : all) {
      const Stopwatch watch;
      k.run();
      const double ms = watch.ms();
      if (r < 0) continue;
      k.ms.push_back(ms);
      k.share.push_back(100 * least_ms / ms);
    }
    if (r < 0) continue;
    gb.push_back(read);
    gflops.push_back(peak);
  }
  std::printf(
      "\n%s, groups of %lld, %s, %lld tokens, %d thread%s: %.1f MB, %.0f Mflop; the machine reads %.1f GB/s "
      "and does %.0f GFLOP/s (F32)\n\n",
      shape.name, (long long)shape.n_group, ggml_type_name(type), (long long)depth, n_threads,
      n_threads == 1 ? "" : "s", c.bytes() / 1e6, c.operations() / 1e6, median(gb), median(gflops));
  std::printf(
      "| kernel | ms a token | GB/s | GFLOP/s | of the limit, %% | range | relative error "
      "|\n|---|---|---|---|---|---|---|\n");
  for (Candidate& k : all) {
    const double ms = median(k.ms);
    std::printf("| %s | %.2f | %.1f | %.0f | %.0f | %.0f to %.0f | %.1e |\n", k.name.c_str(), ms,
                c.bytes() / ms / 1e6, c.operations() / ms / 1e6, median(k.share),
                *std::min_element(k.share.begin(), k.share.end()),
                *std::max_element(k.share.begin(), k.share.end()), k.error);
  }
  std::fflush(stdout);
}

// Heads whose lengths differ 10 : 1; what each thread takes for its share of the same layer.
void imbalance(const Shape& shape, int n_threads, int n_repeat) {
  std::vector<int64_t> lengths;
  for (int64_t h = 0; h < shape.n_head_kv; ++h) lengths.push_back(h == 0 ? 7000 : 700);
  const Caches c(shape, lengths, GGML_TYPE_F16);
  Graph graph(c, Graph::Kind::ours, n_threads);
  graph.run();
  std::vector<double> excess;
  for (int r = 0; r < 20 * n_repeat; ++r) {
    std::vector<double> ms(static_cast<size_t>(n_threads));
    std::atomic<int> ready = 0;
    const auto body = [&](int i) {
      ++ready;
      while (ready < n_threads) {
      }
      const Stopwatch watch;
      graph.run_share(i, n_threads);
      ms[static_cast<size_t>(i)] = watch.ms();
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < n_threads; ++i) threads.emplace_back(body, i);
    for (std::thread& t : threads) t.join();
    double sum = 0;
    for (double x : ms) sum += x;
    excess.push_back(100 * (*std::max_element(ms.begin(), ms.end()) * n_threads / sum - 1));
  }
  std::printf(
      "\n%s, heads of 7,000 and 700 rows, %d threads: the slowest thread takes %.1f %% longer than the mean "
      "(median of %zu)\n",
      shape.name, n_threads, median(excess), excess.size());
}

}  // namespace

int main(int argc, char** argv) {
  const int n_repeat = argc > 1 ? std::atoi(argv[1]) : 20;
  const int64_t depth = argc > 2 ? std::atoll(argv[2]) : 7168;
  for (const Shape& shape : kShapes) {
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_F32}) {
      for (const int n_threads : {1, 2}) print_row(shape, type, depth, n_threads, n_repeat);
    }
    imbalance(shape, 2, n_repeat);
  }
  return 0;
}
