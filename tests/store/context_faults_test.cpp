// Files of contexts that were damaged, cut short or made up: an error that names the place, and never more.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>

#include "base/mapped_file.h"
#include "engine/sequence_state.h"
#include "model/gguf_file.h"
#include "store/reseal.h"
#include "store/store_support.h"
#include "support/expect_error.h"

namespace curdkv::testing {
namespace {

// A context with all there may be in one: two blocks, packed rows, tokens and logits.
const std::string& context_path() {
  static const std::string made = [] {
    const Engine& engine = engine_of();
    Executor executor = executor_of(engine);
    Sequence sequence = executor.sequence();
    must(executor.read(sequence, some_tokens(engine, 50), make_press("recommended", 0.5)));
    must(executor.read(sequence, some_tokens(engine, 40, 2), make_press("adacurdkv", 0.5)));
    const std::vector<Token> tokens = some_tokens(engine, 90);
    std::string path = temp_path("whole.kvc");
    must(save_context(path, engine, sequence, {.documents = {{"a.txt", 5, "00"}}, .tokens = tokens}));
    return path;
  }();
  return made;
}

const std::string& whole() {
  static const std::string bytes = read_bytes(context_path());
  return bytes;
}

Result<SavedContext> open_bytes(const std::string& bytes) {
  static const std::string path = temp_path("damaged.kvc");
  write_bytes(path, bytes);
  return open_context(path);
}

// What opening the bytes says is wrong.
std::string fault_of(const std::string& bytes) {
  const auto opened = open_bytes(bytes);
  return opened ? "nothing" : opened.error().message;
}

TEST(ContextFaults, EveryTruncationIsFound) {
  ASSERT_EQ(fault_of(whole()), "nothing");
  const size_t n = whole().size();
  for (size_t i = 0; i < 1000; ++i) {
    const auto opened = open_bytes(whole().substr(0, i * (n - 1) / 999));
    ASSERT_FALSE(opened) << i;
    ASSERT_EQ(opened.error().code, ErrorCode::corrupt) << opened.error().message;
  }
  EXPECT_NE(fault_of(whole() + '\0').find("bytes follow behind its end"), std::string::npos);
}

TEST(ContextFaults, EveryBitThatFlipsIsFoundAndNamed) {
  const GgufFile file = must(GgufFile::open(context_path()));
  std::mt19937 rng(1);
  const auto flipped = [&](size_t begin, size_t end) {
    std::string bytes = whole();
    bytes[begin + rng() % (end - begin)] ^= static_cast<char>(1 << rng() % 8);
    return fault_of(bytes);
  };
  for (const GgufTensor& t : file.tensors()) {
    const bool sums = &t == &file.tensors().back();
    for (int i = 0; i < 10; ++i) {
      EXPECT_NE(flipped(t.offset, t.offset + t.n_bytes)
                    .find(sums ? "in its checksums" : "in tensor '" + t.name + "'"),
                std::string::npos);
    }
  }
  const size_t header = gguf_get_data_offset(file.metadata());
  for (int i = 0; i < 1500; ++i) ASSERT_NE(flipped(0, header), "nothing") << i;
  for (int i = 0; i < 500; ++i) ASSERT_NE(flipped(header, whole().size()), "nothing") << i;
}

// Metadata with one number or text changed, and hashes to match.
TEST(ContextFaults, WhatHashesCannotTellIsChecked) {
  const GgufFile file = must(GgufFile::open(context_path()));
  const auto with = [&](const std::string& key, uint64_t value) {
    std::string bytes = whole();
    const size_t at = bytes.find(key) + key.size() + 4;  // behind the type
    std::memcpy(bytes.data() + at, &value, 8);
    return fault_of(must(with_right_hashes(bytes)));
  };
  const auto tensor_with = [&](const std::string& name, size_t index, const auto& value) {
    std::string bytes = whole();
    std::memcpy(bytes.data() + file.find(name)->offset + index * sizeof value, &value, sizeof value);
    return fault_of(must(with_right_hashes(bytes)));
  };
  const auto says = [](const std::string& fault, const std::string& words) {
    EXPECT_NE(fault.find(words), std::string::npos) << fault << "\nexpected: " << words;
  };
  says(with("context.n_tokens", 0), "context.n_tokens = 0 is out of range");
  says(with("context.n_tokens", uint64_t{1} << 40), "out of range");
  says(with("context.n_tokens", 91), "tensor 'tokens' is not as its metadata has it");
  says(with("context.next_position", 91), "context.next_position = 91 is out of range");
  says(with("context.next_position", 60), "do not ascend below 60");
  says(with("context.model.n_layer", uint64_t{1} << 60), "out of range");
  says(with("context.model.n_layer", 2), "holds 3 values");
  says(with("context.model.n_vocab", 7), "'logits' is not as its metadata has it");
  says(with("context.n_blocks", 1), "holds tensors that its metadata does not name");
  says(with("context.n_blocks", 3), "has no context.block.2.rows");
  const std::string positions = "block.1.layer.1.positions";
  const int32_t first = 0, far = 1 << 20, negative = -5;
  for (const size_t word : {1, 2})
    says(tensor_with(positions, word, first), "tensor 'block.1.layer.1.positions' does not say where");
  says(tensor_with(positions, 0, far), "do not ascend below 90");
  says(tensor_with(positions, 0, negative), "positions of layer 1, KV head 0 do not ascend");
  says(tensor_with("tokens", 3, negative), "no vocabulary");
  says(tensor_with("logits", 3, std::numeric_limits<float>::quiet_NaN()),
       "tensor 'logits' holds what is no number");
  const uint16_t infinite = 0x7C00;
  for (const char* name : {"block.1.layer.0.k", "block.1.layer.2.v"})
    says(tensor_with(name, 40, infinite), std::string("tensor '") + name + "' holds what is no number");
  says(tensor_with("block.0.layer.1.packed", 0, infinite),
       "tensor 'block.0.layer.1.packed' holds what is no number");
  std::string bytes = whole();
  bytes.replace(bytes.find("kv-context"), 10, "kv-consent");
  says(fault_of(must(with_right_hashes(bytes))), "is no saved context");
  bytes = whole();
  bytes[bytes.find("context.version") + 15 + 4] = 3;
  says(fault_of(must(with_right_hashes(bytes))),
       "is of format version 3, of which this program knows 1 to 2");
  EXPECT_EQ(fault_of(must(with_right_hashes(whole()))), "nothing");
}

TEST(ContextFaults, AFileThatChangesWhileInUseIsAnError) {
  struct sigaction action = {}, before = {};
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    if (!repair_mapped_file(info->si_addr)) _exit(1);
  };
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, &before);
  const Engine& engine = engine_of();
  Executor executor = executor_of(engine);
  const std::string path = temp_path("changed.kvc");
  const auto tokens = some_tokens(engine, 5);
  for (const bool shortened : {true, false}) {
    write_bytes(path, whole());
    Sequence opened = must(must(open_context(path)).sequence(engine, executor));
    Sequence other = must(must(open_context(context_path())).sequence(engine, executor));
    if (shortened) {
      ASSERT_EQ(truncate(path.c_str(), 100), 0);
    } else {
      usleep(20000);  // file systems tell times by ticks
      std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(9000).put('x');
    }
    expect_error(executor.extend(opened, tokens), ErrorCode::corrupt, path + ": was cut short or replaced");
    expect_error(executor.extend(opened, {tokens.data(), 1}), ErrorCode::corrupt, "was cut short");
    expect_error(executor.read(opened, tokens, Press()), ErrorCode::corrupt, "was cut short");
    expect_error(executor.compress(opened, make_press("knorm", 0.5), 20), ErrorCode::corrupt,
                 "was cut short");
    expect_error(save_context(temp_path("again.kvc"), engine, opened), ErrorCode::corrupt, "was cut short");
    EXPECT_FALSE(std::filesystem::exists(temp_path("again.kvc")));
    EXPECT_EQ(opened.n_tokens(), 90);
    must(executor.extend(other, tokens));  // the executor serves on
  }
  sigaction(SIGBUS, &before, nullptr);
}

}  // namespace
}  // namespace curdkv::testing
