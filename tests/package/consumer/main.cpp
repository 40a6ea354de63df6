// The README's example of the library in use.
#include <curdkv/generate.h>

#include <cstdio>

int main(int, char** argv) {
  using namespace curdkv;
  auto model = Model::load(argv[1]);
  auto tokenizer = Tokenizer::load(argv[1]);
  if (!model || !tokenizer) return 1;
  auto session = Session::create(*model, {});
  auto prompt = Prompt::create(*tokenizer, true);
  PressRequest request;
  request.name = "adacurdkv";
  request.compression_ratio = 0.7;
  auto press = Press::make(request);
  auto sampler = Sampler::create({});
  if (!session || !prompt || !press || !sampler) return 1;

  const auto context = prompt->context("A long document would stand here, and this is only a short one.");
  const auto question = prompt->question("What is this?");
  if (!context || !question) return 1;
  if (auto read = session->prefill(*context, *press); !read) return 1;
  std::printf("the context takes %zu of %zu bytes\n", session->kv_bytes(),
              session->kv_bytes_full(session->n_tokens()));
  if (auto asked = session->extend(*question); !asked) return 1;
  GenerateOptions options;
  options.n_predict = 8;
  const auto answer = generate(*session, *tokenizer, *sampler, options);
  if (!answer) return 1;
  std::printf("%s\n", answer->text.c_str());
  return 0;
}
