// The README's example of the library in use.
#include <curdkv/generate.h>

#include <cstdio>

int main(int, char** argv) {
  using namespace curdkv;
  auto model = Model::load(argv[1]);
  auto tokenizer = Tokenizer::load(argv[1]);
  if (!model || !tokenizer) return 1;
  auto executor = Executor::create(*model, {});
  auto prompt = Prompt::create(*tokenizer, true);
  PressRequest request;
  request.name = "adacurdkv";
  request.compression_ratio = 0.7;
  auto press = Press::make(request);
  auto sampler = Sampler::create({});
  if (!executor || !prompt || !press || !sampler) return 1;

  const auto context = prompt->context("A long document would stand here, and this is only a short one.");
  const auto question = prompt->question("What is this?");
  if (!context || !question) return 1;
  Sequence sequence = executor->sequence();
  if (auto read = executor->read(sequence, *context, *press); !read) return 1;
  std::printf("the context takes %zu of %zu bytes\n", sequence.kv_bytes(),
              executor->kv_bytes_full(sequence.n_tokens()));
  if (auto asked = executor->extend(sequence, *question); !asked) return 1;
  GenerateOptions options;
  options.n_predict = 8;
  const auto answer = generate(*executor, sequence, *tokenizer, *sampler, options);
  if (!answer) return 1;
  std::printf("%s\n", answer->text.c_str());
  return 0;
}
