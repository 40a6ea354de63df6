// Contexts saved and opened again: the same bits, a file of its own, and refusals by name.
#include "curdkv/context.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/mapped_file.h"
#include "cache/cache_type.h"
#include "engine/sequence_state.h"
#include "store/store_support.h"
#include "support/expect_error.h"

namespace curdkv::testing {
namespace {

const std::string& path() {
  static const std::string p = temp_path("saved.kvc");
  return p;
}

// That a sequence opened again holds and answers what it did.
void expect_same(const Engine& engine, Executor& executor, const Sequence& saved,
                 const OpenOptions& options = {}) {
  must(save_context(path(), engine, saved));
  const SavedContext context = must(open_context(path(), options));
  const Sequence opened = must(context.sequence(engine, executor));
  EXPECT_EQ(opened.kept_tokens(), [&] {
    Sequence sealed = saved.fork();
    must(SequenceState::of(sealed).cache.seal());
    return sealed.kept_tokens();
  }());
  EXPECT_EQ(opened.cache_lengths(), saved.cache_lengths());
  EXPECT_EQ(context.info().rows, saved.cache_lengths());
  EXPECT_EQ(opened.n_tokens(), saved.n_tokens());
  EXPECT_EQ(opened.next_position(), saved.next_position());
  EXPECT_EQ(std::vector<float>(opened.logits().begin(), opened.logits().end()),
            std::vector<float>(saved.logits().begin(), saved.logits().end()));
  EXPECT_EQ(answer(executor, opened.fork()), answer(executor, saved.fork()));
}

std::vector<std::string> presets() {
  std::vector<std::string> names;
  for (const PressInfo& p : list_presses()) {
    if (!p.scorer.empty() && !p.allocation.empty()) names.push_back(p.name);
  }
  return names;
}

TEST(Context, AnswersWithTheSameBitsWhateverItHolds) {
  std::vector<std::string> presses = presets();
  ASSERT_GE(presses.size(), 22u);
  presses.emplace_back("none");
  for (const char* architecture : {"llama", "qwen2", "qwen3", "deci"}) {
    const Engine& engine = engine_of(architecture);
    for (const CacheTypeName& type : cache_types()) {
      Executor executor = executor_of(engine, type.type);
      std::vector<Sequence> sequences;
      std::vector<ReadTarget> targets;
      for (const std::string& name : presses) {
        const Press press = make_press(name, name == "none" ? 0 : 0.6);
        if (press.packs() && type.type != CacheType::f16) continue;
        sequences.push_back(executor.sequence());
        targets.push_back({nullptr, press});
      }
      for (size_t i = 0; i < targets.size(); ++i) targets[i].sequence = &sequences[i];
      must(executor.read_together(targets, some_tokens(engine, 100)));
      for (const ReadTarget& t : targets) {
        SCOPED_TRACE(std::string(architecture) + " " + type.name + " " + t.press.spec());
        expect_same(engine, executor, *t.sequence);
      }
    }
  }
}

TEST(Context, PackedRowsOfAllTypes) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine);
  for (const char* press :
       {"none:keys=f16:values=f16", "none:keys=q8:values=q5", "adacurdkv:keys=q4:values=q3", "recommended",
        "mixkv:keys=auto:values=auto", "none:keys=q3:values=f16"}) {
    SCOPED_TRACE(press);
    Sequence sequence = executor.sequence();
    must(executor.read(sequence, some_tokens(engine, 333), make_press(press, press[0] == 'n' ? 0 : 0.7)));
    expect_same(engine, executor, sequence);
    expect_same(engine, executor, sequence, {.use_mmap = false});
  }
}

TEST(Context, SeveralDocumentsAnAnswerAndHeadsWithoutRows) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine);
  Sequence sequence = executor.sequence();
  must(executor.read(sequence, some_tokens(engine, 90), make_press("adacurdkv", 0.5)));
  must(executor.read(sequence, some_tokens(engine, 130, 2), make_press("recommended", 0.5)));
  must(executor.extend(sequence, some_tokens(engine, 30, 3)));
  expect_same(engine, executor, sequence);
  must(save_context(path(), engine, sequence));
  // What was opened can be saved again, read on into, and opened again.
  Sequence opened = must(must(open_context(path())).sequence(engine, executor));
  must(executor.read(opened, some_tokens(engine, 40, 4), make_press("snapkv", 0.5)));
  must(executor.read(sequence, some_tokens(engine, 40, 4), make_press("snapkv", 0.5)));
  EXPECT_EQ(answer(executor, opened.fork()), answer(executor, sequence.fork()));
  expect_same(engine, executor, opened);
}

TEST(Context, CanBeBoundedWhileItIsContinued) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine);
  for (const char* held : {"adacurdkv", "recommended"}) {
    Sequence sequence = executor.sequence();
    must(executor.read(sequence, some_tokens(engine, 300), make_press(held, 0.5)));
    must(save_context(path(), engine, sequence));
    Sequence opened = must(must(open_context(path())).sequence(engine, executor));
    for (const char* press : {"ridgekv", "streamingllm", "knorm"}) {
      for (Sequence* s : {&sequence, &opened}) must(executor.compress(*s, make_press(press, 0.5), 60));
      EXPECT_EQ(opened.cache_lengths(), sequence.cache_lengths());
      EXPECT_LE(opened.longest_head(), 60);
      EXPECT_EQ(answer(executor, opened.fork()), answer(executor, sequence.fork())) << press;
    }
    expect_same(engine, executor, opened);  // with positions that were renumbered
  }
  Sequence opened = must(must(open_context(path())).sequence(engine, executor));
  expect_error(executor.compress(opened, make_press("snapkv", 0.5), 20), ErrorCode::bad_argument, "queries");
}

TEST(Context, TellsOfItselfWithoutAModel) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine, CacheType::q8_0);
  const auto tokens = some_tokens(engine, 100);
  Sequence sequence = executor.sequence();
  const Press press = make_press("adacurdkv:sinks=3", 0.75);
  must(executor.read(sequence, tokens, press));
  must(save_context(path(), engine, sequence,
                    {.documents = {{"a.txt", 12, "abc"}, {"b.txt", 7, ""}},
                     .tokens = tokens,
                     .press = press,
                     .logits = false}));
  const ContextInfo info = must(open_context(path())).info();
  EXPECT_EQ(info.path, path());
  EXPECT_EQ(info.architecture, "llama");
  EXPECT_EQ(info.quantization, "q8_0");
  EXPECT_TRUE(info.chat);
  EXPECT_EQ(info.type_k, CacheType::q8_0);
  EXPECT_EQ(info.press, "adacurdkv:sinks=3");
  EXPECT_EQ(info.press_settings, press.settings());
  EXPECT_EQ(info.compression_ratio, 0.75);
  EXPECT_FALSE(info.budget);
  EXPECT_EQ(info.seed, press.seed());
  EXPECT_EQ(info.n_tokens, 100);
  EXPECT_EQ(info.tokens, tokens);
  ASSERT_EQ(info.documents.size(), 2u);
  EXPECT_EQ(info.documents[0].name + info.documents[1].name, "a.txtb.txt");
  EXPECT_EQ(info.documents[0].n_bytes, 12);
  EXPECT_EQ(info.documents[0].sha256, "abc");
  EXPECT_EQ(info.rows, sequence.cache_lengths());
  EXPECT_EQ(info.kv_bytes_full, static_cast<int64_t>(executor.kv_bytes_full(100)));
  EXPECT_NEAR(static_cast<double>(info.kv_bytes), static_cast<double>(info.kv_bytes_full) / 4, 2000);
  EXPECT_EQ(info.file_bytes, static_cast<int64_t>(std::filesystem::file_size(path())));
  const Sequence opened = must(must(open_context(path())).sequence(engine, executor));
  EXPECT_TRUE(opened.logits().empty());
  expect_error(Model::load(path()), ErrorCode::unsupported, "is a saved context, not a model");
  expect_error(open_context(engine.info().path), ErrorCode::unsupported, "is no saved context but a model");
}

TEST(Context, IsItsOwnersAloneAndReplacesWhatWasThere) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine);
  Sequence sequence = executor.sequence();
  const std::string file = temp_path("mode.kvc");
  expect_refused(save_context(file, engine, sequence), "nothing to save");
  must(executor.read(sequence, some_tokens(engine, 60), Press()));
  expect_refused(save_context(file, engine, sequence, {.tokens = some_tokens(engine, 59)}),
                 "59 tokens were given of a sequence that holds 60");
  EXPECT_FALSE(std::filesystem::exists(file));
  must(save_context(file, engine, sequence));
  struct stat status = {};
  ASSERT_EQ(stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  // Who has the old one open keeps it.
  Sequence opened = must(must(open_context(file)).sequence(engine, executor));
  const std::vector<float> expected = answer(executor, opened.fork());
  must(executor.extend(sequence, some_tokens(engine, 9)));
  must(save_context(file, engine, sequence));
  EXPECT_EQ(answer(executor, opened.fork()), expected);
  EXPECT_EQ(must(open_context(file)).info().n_tokens, 69);
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(file).parent_path()))
    EXPECT_EQ(entry.path().filename().string().rfind(".curdkv-", 0), std::string::npos) << entry;
  expect_error(save_context("/nowhere/at/all.kvc", engine, sequence), ErrorCode::io, "/nowhere/at");
}

TEST(Context, SharesThePagesOfTheFile) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine);
  Sequence sequence = executor.sequence();
  must(executor.read(sequence, some_tokens(engine, 200), make_press("adacurdkv", 0.5)));
  must(save_context(path(), engine, sequence));
  const auto block_of = [&](const OpenOptions& options) {
    const Sequence opened = must(must(open_context(path(), options)).sequence(engine, executor));
    return SequenceState::of(opened).cache.blocks()[0];
  };
  const auto mapped = block_of({}), copied = block_of({.use_mmap = false});
  const auto* data = static_cast<const char*>(mapped->layers[1].k->data);
  ASSERT_NE(mapped->file, nullptr);
  EXPECT_GE(data, mapped->file->data());
  EXPECT_LT(data, mapped->file->data() + mapped->file->size());
  EXPECT_EQ(copied->file, nullptr);
  EXPECT_EQ(std::memcmp(data, copied->layers[1].k->data, ggml_nbytes(copied->layers[1].k)), 0);
}

// A model like another but for one thing, and a context of the other.
TEST(Context, OfAnotherModelIsRefusedByName) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine);
  Sequence sequence = executor.sequence();
  must(executor.read(sequence, some_tokens(engine, 60), Press()));
  must(save_context(path(), engine, sequence));
  const SavedContext context = must(open_context(path()));
  const auto refused = [&](const TinyModel& shape, const std::string& words,
                           const PromptOptions& prompt = {}) {
    const std::string file = write_tiny_model(shape, temp_path("other.gguf"));
    const Engine other = must(Engine::open(file, {.prompt = prompt}));
    Executor its = executor_of(other);
    expect_error(context.check(other), ErrorCode::bad_input, words);
    expect_error(context.check(file, other.prompt()), ErrorCode::bad_input, words);
    expect_error(context.sequence(other, its), ErrorCode::bad_input, words);
    EXPECT_NE(context.check(other).error().message.find(path()), std::string::npos);
  };
  const TinyModel same = three_layers(GGML_TYPE_Q8_0);
  TinyModel m = same;
  m.architecture = "qwen2";
  refused(m, "another model: llama, not qwen2; use ");
  m = same, m.n_layer = 2;
  refused(m, "sizes differ");
  m = same, m.type = GGML_TYPE_F16;
  refused(m, "the model in another quantisation: q8_0, not f16");
  m = same, m.seed = 2;
  refused(m, "other weights");
  m = same, m.rope_scaling = "linear";
  refused(m, "RoPE");
  m = same, m.pre = "llama-bpe";
  refused(m, "another tokenizer");
  refused(same, "another chat template", {.chat_template = {.source = "llama3"}});
  refused(same, "without one; leave out --raw", {.chat = false});

  // What may differ: how many tokens it was trained for, and what was said before the document.
  m = same, m.n_ctx = 2048;
  const std::string file = write_tiny_model(m, temp_path("other.gguf"));
  must(context.check(must(Engine::open(file, {.prompt = {.system = "Be brief."}}))));
  EXPECT_TRUE(must(context.sequence(engine, executor)).n_tokens() == 60);

  const Engine raw = must(Engine::open(engine.info().path, {.prompt = {.chat = false}}));
  Executor of_raw = executor_of(raw);
  Sequence read_raw = of_raw.sequence();
  must(of_raw.read(read_raw, some_tokens(raw, 60), Press()));
  must(save_context(path(), raw, read_raw));
  expect_error(must(open_context(path())).check(engine), ErrorCode::bad_input, "add --raw");
}

TEST(Context, OfAnotherCacheTypeOrTooLongIsRefused) {
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine), other = executor_of(engine, CacheType::q8_0);
  Sequence sequence = executor.sequence();
  must(executor.read(sequence, some_tokens(engine, 60), make_press("recommended", 0.5)));
  must(save_context(path(), engine, sequence));
  const SavedContext context = must(open_context(path()));
  expect_refused(context.sequence(engine, other), "-ctk f16");
  expect_refused(save_context(path(), engine_of("qwen2"), sequence), "another model");
  ExecutorParams params;
  params.n_ctx = 59;
  expect_error(context.sequence(engine, must(engine.executor(params))), ErrorCode::bad_input,
               "holds 60 tokens");
  params = {};
  params.portable_attention = true;
  Executor portable = must(engine.executor(params));
  Sequence packed = must(context.sequence(engine, portable));
  expect_refused(portable.extend(packed, some_tokens(engine, 3)), "packed rows");
}

// A file that an earlier program wrote, of two documents, the first with packed rows; both presses go by places alone.
Sequence read_golden(const Engine& engine, Executor& executor) {
  Sequence sequence = executor.sequence();
  must(executor.read(sequence, some_tokens(engine, 40), make_press("none:keys=q4:values=q5", 0)));
  must(executor.read(sequence, some_tokens(engine, 60, 2), make_press("streamingllm", 0.5)));
  return sequence;
}
Engine engine_of_golden() {
  return must(Engine::open(CURDKV_TEST_DATA "/kvzip_model.gguf"));
}

void expect_read(const std::string& path, int64_t version) {
  const SavedContext golden = must(open_context(path));
  EXPECT_EQ(golden.info().format_version, version);
  EXPECT_EQ(golden.info().program, "0.1.0");
  EXPECT_EQ(golden.info().press, "streamingllm");
  ASSERT_EQ(golden.info().documents.size(), 1u);
  EXPECT_EQ(golden.info().documents[0].name, "golden.txt");
  const Engine engine = engine_of_golden();
  Executor executor = executor_of(engine);
  const Sequence expected = read_golden(engine, executor), opened = must(golden.sequence(engine, executor));
  EXPECT_EQ(opened.kept_tokens(), expected.kept_tokens());
  EXPECT_EQ(opened.n_tokens(), 100);
  EXPECT_LT(largest_difference(opened.logits(), expected.logits()), 1e-2);
  EXPECT_LT(largest_difference(answer(executor, opened.fork()), answer(executor, expected.fork())), 2e-2);
}

TEST(Context, OfEveryVersionIsReadForGood) {
  expect_read(CURDKV_TEST_DATA "/context_v1.kvc", 1);
  expect_read(CURDKV_TEST_DATA "/context_v2.kvc", 2);
}

// For a version to come: writes a golden file of its own, context_new.kvc.
TEST(Context, DISABLED_WritesAGoldenFile) {
  const Engine engine = engine_of_golden();
  Executor executor = executor_of(engine);
  const auto tokens = some_tokens(engine, 100);
  must(save_context(CURDKV_TEST_DATA "/context_new.kvc", engine, read_golden(engine, executor),
                    {.documents = {{"golden.txt", 100, std::string(64, '0')}},
                     .tokens = tokens,
                     .press = make_press("streamingllm", 0.5)}));
}

}  // namespace
}  // namespace curdkv::testing
