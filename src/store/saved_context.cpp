#include "base/format.h"
#include "base/guard.h"
#include "base/log_capture.h"
#include "base/try.h"
#include "cache/cache_type.h"
#include "curdkv/context.h"
#include "engine/sequence_state.h"
#include "model/model_impl.h"
#include "store/context_file.h"

namespace curdkv {

struct SavedContext::Impl {
  ContextFile file;
};

namespace {

std::string named(const std::string& name, const std::string& architecture, const std::string& quantization) {
  return (name.empty() ? architecture : name) + " (" + architecture + ", " + quantization + ")";
}

// What differs, in the user's words, and the mend.
std::string complaint(const ContextInfo& context, const std::string& part, const ModelInfo& model,
                      const Prompt& prompt) {
  const std::string other = "; use " + named(context.model_name, context.architecture, context.quantization) +
                            ", or compress the document again with the model at hand";
  if (part == "tokenizer") return "another tokenizer: the model's vocabulary differs" + other;
  if (part == "rope") return "other RoPE settings than the model has" + other;
  if (part == "prompt") {
    if (!context.chat) return "no chat template: it was read as it is; add --raw";
    if (!prompt.is_chat()) return "a chat template, and is asked without one; leave out --raw";
    return "another chat template; give the one it was compressed with (--chat-template)";
  }
  if (context.architecture != model.architecture)
    return "another model: " + context.architecture + ", not " + model.architecture + other;
  if (part == "sizes") return "another model of the same family: sizes differ" + other;
  if (part == "tensors") {
    const bool same = context.quantization == model.quantization;
    return (same ? "another model: its tensors differ"
                 : "the model in another quantisation: " + context.quantization + ", not " +
                       model.quantization) +
           other;
  }
  return "a model with other weights of the same sizes" + other;
}

Result<void> check_fit(const ContextFile& file, const GgufFile& model, const HParams& hp,
                       const ModelInfo& info, const Prompt& prompt) {
  CURDKV_TRY(const Fingerprint theirs, fingerprint_of(model, hp, prompt));
  for (const FingerprintPart& part : kFingerprintParts) {
    if (file.print.*part.value == theirs.*part.value) continue;
    return Error{ErrorCode::bad_input,
                 file.info.path + ": was made with " + complaint(file.info, part.name, info, prompt)};
  }
  return {};
}

// A layer of a block: where it lies in the file, or copied.
Result<KvLayer> make_layer(const ContextFile& file, const SequenceCache& cache, const LayerRows& l,
                           int64_t il) {
  const CacheShape& shape = cache.shape(il);
  const bool on_cpu = cache.device(il) == ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  const auto at = [&](const GgufTensor* t) { return t != nullptr ? file.bytes(*t).data() : nullptr; };
  KvLayer layer;
  if (file.is_mapped() && on_cpu) {
    CURDKV_TRY(layer, l.all != nullptr ? KvLayer::over_packed(shape, il, l.packed, at(l.all))
                                       : KvLayer::over(shape, il, l.length, at(l.k), at(l.v)));
  } else if (l.all != nullptr) {
    CURDKV_TRY(layer, KvLayer::allocate_packed(shape, il, l.packed));
    ggml_backend_tensor_set(layer.packed_bytes(), at(l.all), 0, l.all->n_bytes);
  } else {
    CURDKV_TRY(layer, KvLayer::allocate(shape, cache.device(il), il, l.length));
    if (l.k != nullptr) ggml_backend_tensor_set(layer.k, at(l.k), 0, l.k->n_bytes);
    if (l.v != nullptr) ggml_backend_tensor_set(layer.v, at(l.v), 0, l.v->n_bytes);
  }
  if (!l.positions.empty()) layer.positions = l.positions;
  return layer;
}

}  // namespace

const ContextInfo& SavedContext::info() const {
  return impl_->file.info;
}

Result<void> SavedContext::check(const Engine& engine) const {
  const Model::Impl& model = engine.model().impl();
  return guarded([&] { return check_fit(impl_->file, model.file, model.hp, model.info, engine.prompt()); });
}

Result<void> SavedContext::check(const std::string& model_path, const Prompt& prompt) const {
  return guarded([&]() -> Result<void> {
    CURDKV_TRY(const Model::Impl model, read_model(model_path));
    return check_fit(impl_->file, model.file, model.hp, model.info, prompt);
  });
}

Result<Sequence> SavedContext::sequence(const Engine& engine, const Executor& executor) const {
  return guarded([&]() -> Result<Sequence> {
    const ContextFile& file = impl_->file;
    const ContextInfo& in = file.info;
    CURDKV_CHECK(check(engine));
    Sequence sequence = executor.sequence();
    SequenceState& state = SequenceState::of(sequence);
    if (&state.model.impl() != &engine.model().impl())
      return Error{ErrorCode::bad_argument, "the executor is of another model than the engine"};
    const CacheShape& shape = state.cache.shape(0);
    if (shape.type_k != to_ggml(in.type_k) || shape.type_v != to_ggml(in.type_v)) {
      return Error{ErrorCode::bad_argument,
                   in.path + ": holds rows of another cache type than the executor; " +
                       format("it wants -ctk %s -ctv %s", ggml_type_name(to_ggml(in.type_k)),
                              ggml_type_name(to_ggml(in.type_v)))};
    }
    if (in.next_position > executor.n_ctx()) {
      return Error{ErrorCode::bad_input,
                   format("%s: holds %lld tokens, more than the context of %lld (-c raises it)",
                          in.path.c_str(), (long long)in.next_position, (long long)executor.n_ctx())};
    }
    for (const auto& rows : file.blocks) {
      auto block = std::make_shared<KvBlock>();
      for (int64_t il = 0; il < state.cache.n_layer(); ++il) {
        CURDKV_TRY(block->layers.emplace_back(),
                   make_layer(file, state.cache, rows[static_cast<size_t>(il)], il));
      }
      if (file.is_mapped()) block->file = {file.gguf, &file.gguf->bytes()};
      CURDKV_CHECK(state.cache.add(std::move(block)));
    }
    CURDKV_CHECK(state.cache.check());
    state.n_tokens = in.n_tokens;
    state.next_position = in.next_position;
    if (file.logits != nullptr) {
      const auto logits = file.values<float>(*file.logits);
      state.logits.assign(logits.begin(), logits.end());
    }
    return sequence;
  });
}

Result<bool> is_context(const std::string& path) {
  return guarded([&]() -> Result<bool> {
    capture_logs();
    CURDKV_TRY(const GgufFile file, GgufFile::open(path));
    return is_context(file);
  });
}

Result<SavedContext> open_context(const std::string& path, const OpenOptions& options) {
  return guarded([&]() -> Result<SavedContext> {
    capture_logs();
    CURDKV_TRY(ContextFile file, ContextFile::open(path, options));
    return SavedContext(std::make_shared<const SavedContext::Impl>(SavedContext::Impl{std::move(file)}));
  });
}

}  // namespace curdkv
