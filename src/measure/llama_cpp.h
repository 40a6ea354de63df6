// llama.cpp, for comparison: the same GGUF run by libllama's own graph and cache, in this process. What
// benchmarks measure against, and the oracle of the tests.
#pragma once

#include <ggml-cpu.h>
#include <llama.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace curdkv::measure {

class LlamaCpp {
 public:
  // kv_type: of its cache. stop: when it turns true, extend() returns nothing soon. n_gpu_layers: as
  // ModelParams'. Returns nullptr if libllama cannot load the model.
  static std::unique_ptr<LlamaCpp> load(const std::string& path, int n_threads, int64_t n_ctx,
                                        ggml_type kv_type = GGML_TYPE_F16,
                                        const std::atomic<bool>* stop = nullptr, int n_gpu_layers = 0) {
    std::unique_ptr<LlamaCpp> o(new LlamaCpp);
    llama_model_params mp = llama_model_default_params();
    mp.n_gpu_layers = n_gpu_layers;
    o->model_ = llama_model_load_from_file(path.c_str(), mp);
    if (o->model_ == nullptr) return nullptr;
    llama_context_params cp = llama_context_default_params();
    cp.n_ctx = static_cast<uint32_t>(n_ctx);
    cp.n_batch = 512;
    cp.n_ubatch = 512;
    cp.n_threads = n_threads;
    cp.n_threads_batch = n_threads;
    cp.type_k = kv_type;
    cp.type_v = kv_type;
    cp.offload_kqv = cp.op_offload = n_gpu_layers > 0;
    // libllama's flash attention would round a cache in F32 to F16.
    cp.flash_attn_type =
        kv_type == GGML_TYPE_F32 ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_ENABLED;
    if (stop != nullptr) {
      cp.abort_callback = [](void* flag) { return static_cast<const std::atomic<bool>*>(flag)->load(); };
      cp.abort_callback_data = const_cast<std::atomic<bool>*>(stop);
    }
    o->context_ = llama_init_from_model(o->model_, cp);
    if (o->context_ == nullptr) return nullptr;
    // As llama-cli and llama-bench do; without one, threads would be started anew for every graph.
    ggml_threadpool_params tp = ggml_threadpool_params_default(n_threads);
    o->pool_ = ggml_threadpool_new(&tp);
    llama_attach_threadpool(o->context_, o->pool_, o->pool_);
    o->n_vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(o->model_));
    return o;
  }
  ~LlamaCpp() {
    if (context_ != nullptr) llama_free(context_);
    if (model_ != nullptr) llama_model_free(model_);
    if (pool_ != nullptr) ggml_threadpool_free(pool_);
  }

  void clear() {
    llama_memory_clear(llama_get_memory(context_), false);
    n_past_ = 0;
  }
  // Forgets the tokens from position n on.
  void truncate(int64_t n) {
    llama_memory_seq_rm(llama_get_memory(context_), 0, static_cast<llama_pos>(n), -1);
    n_past_ = n;
  }

  // Appends tokens; returns the logits after each of them (all) or after the last, F32 [n_vocab] each.
  std::vector<std::vector<float>> extend(std::span<const int32_t> tokens, bool all) {
    std::vector<std::vector<float>> out;
    for (size_t at = 0; at < tokens.size(); at += 512) {
      const size_t n = std::min<size_t>(512, tokens.size() - at);
      llama_batch batch = llama_batch_init(static_cast<int32_t>(n), 0, 1);
      batch.n_tokens = static_cast<int32_t>(n);
      for (size_t i = 0; i < n; ++i) {
        batch.token[i] = tokens[at + i];
        batch.pos[i] = static_cast<llama_pos>(n_past_ + static_cast<int64_t>(i));
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = all || at + i + 1 == tokens.size();
      }
      const bool ok = llama_decode(context_, batch) == 0;
      for (size_t i = 0; ok && i < n; ++i) {
        if (!batch.logits[i]) continue;
        const float* logits = llama_get_logits_ith(context_, static_cast<int32_t>(i));
        out.emplace_back(logits, logits + n_vocab_);
      }
      llama_batch_free(batch);
      if (!ok) return {};
      n_past_ += static_cast<int64_t>(n);
    }
    return out;
  }

  // Sends its threads to sleep until the next call: after one they would wait for more at full speed for a
  // while, at the cost of whatever is measured then.
  void rest() { ggml_threadpool_pause(pool_); }

  int64_t n_vocab() const { return n_vocab_; }
  int64_t n_past() const { return n_past_; }
  int64_t n_ctx() const { return llama_n_ctx(context_); }  // as rounded by libllama

 private:
  LlamaCpp() = default;
  llama_model* model_ = nullptr;
  llama_context* context_ = nullptr;
  ggml_threadpool* pool_ = nullptr;
  int64_t n_past_ = 0;
  int64_t n_vocab_ = 0;
};

}  // namespace curdkv::measure
