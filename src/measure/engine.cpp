#include "measure/engine.h"

#include "base/stopwatch.h"
#include "base/try.h"
#include "cache/cache_type.h"
#include "measure/cost.h"
#include "measure/llama_cpp.h"
#include "model/model_impl.h"

namespace curdkv::measure {
namespace {

class Curdkv : public Engine {
 public:
  Curdkv(Executor& executor, Press press)
      : executor_(executor), sequence_(executor.sequence()), press_(std::move(press)) {}

  std::string name() const override { return "curdkv"; }
  const Press& press() const override { return press_; }

  Result<ReadTimes> read(std::span<const Token> tokens) override {
    const Stopwatch watch;
    CURDKV_TRY(const ReadReport report, executor_.read(sequence_, tokens, press_));
    return ReadTimes{watch.ms(), report.compress_ms};
  }
  Result<void> append(std::span<const Token> tokens) override { return executor_.extend(sequence_, tokens); }
  void remember() override { mark_ = sequence_.mark(); }
  Result<void> rewind() override { return sequence_.rewind(mark_); }
  void clear() override { sequence_.clear(); }
  Sequence* sequence() override { return &sequence_; }

  int64_t n_rows() const override {
    int64_t n = 0;
    for (const auto& layer : sequence_.cache_lengths()) {
      for (int64_t length : layer) n += length;
    }
    return n;
  }
  size_t kv_bytes() const override { return sequence_.kv_bytes(); }

 private:
  Executor& executor_;
  Sequence sequence_;
  Press press_;
  Sequence::Mark mark_;
};

class Libllama : public Engine {
 public:
  Libllama(std::unique_ptr<LlamaCpp> llama, const Model& model, const ExecutorParams& params)
      : llama_(std::move(llama)), stop_(params.stop), n_heads_(Cost(model).n_heads_kv()) {
    const size_t row = ggml_row_size(to_ggml(params.type_k), model.info().d_head_k) +
                       ggml_row_size(to_ggml(params.type_v), model.info().d_head_v);
    kv_bytes_ = static_cast<size_t>(llama_->n_ctx() * n_heads_) * row;
  }

  std::string name() const override { return "llama.cpp"; }
  const Press& press() const override { return none_; }

  Result<ReadTimes> read(std::span<const Token> tokens) override {
    llama_->clear();
    const Stopwatch watch;
    CURDKV_CHECK(extend(tokens));
    return ReadTimes{watch.ms(), 0};
  }
  Result<void> append(std::span<const Token> tokens) override { return extend(tokens); }
  void remember() override { mark_ = llama_->n_past(); }
  Result<void> rewind() override {
    llama_->truncate(mark_);
    return {};
  }
  void clear() override { llama_->clear(); }
  void rest() override { llama_->rest(); }

  int64_t n_rows() const override { return llama_->n_past() * n_heads_; }
  size_t kv_bytes() const override { return kv_bytes_; }  // all of its context, from the start

 private:
  Result<void> extend(std::span<const Token> tokens) {
    if (!llama_->extend(tokens, false).empty()) return {};
    if (stop_ != nullptr && *stop_) return Error{ErrorCode::cancelled, "stopped"};
    return Error{ErrorCode::internal,
                 "libllama could not compute " + std::to_string(tokens.size()) + " tokens"};
  }

  std::unique_ptr<LlamaCpp> llama_;
  const std::atomic<bool>* stop_;
  Press none_;
  int64_t n_heads_, mark_ = 0;
  size_t kv_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Engine> make_curdkv(Executor& executor, const Press& press) {
  return std::make_unique<Curdkv>(executor, press);
}

Result<std::unique_ptr<Engine>> make_llama_cpp(const Model& model, const ExecutorParams& params) {
  if (params.type_k != params.type_v) {
    return Error{ErrorCode::bad_argument, "against llama.cpp, keys and values must have one cache type"};
  }
  auto llama = LlamaCpp::load(model.info().path, params.n_threads, params.n_ctx, to_ggml(params.type_k),
                              params.stop, model.impl().params.n_gpu_layers);
  if (llama == nullptr) return Error{ErrorCode::unsupported, model.info().path + ": libllama cannot load it"};
  return std::unique_ptr<Engine>(new Libllama(std::move(llama), model, params));
}

Result<void> read_untimed(Executor& executor, std::span<Engine* const> engines,
                          std::span<const Token> tokens) {
  std::vector<ReadTarget> ours;
  for (Engine* e : engines) {
    e->clear();
    if (e->sequence() != nullptr) {
      ours.push_back({e->sequence(), e->press()});
    } else {
      CURDKV_TRY([[maybe_unused]] const ReadTimes times, e->read(tokens));
    }
  }
  if (!ours.empty()) {
    CURDKV_TRY([[maybe_unused]] const auto reports, executor.read_together(ours, tokens));
  }
  return {};
}

}  // namespace curdkv::measure
