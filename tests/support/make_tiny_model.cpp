// make_tiny_model FILE [N_CTX [N_LAYER D_HEAD [N_EMBD N_HEAD N_HEAD_KV N_FF TYPE]]]: writes a random llama
// model, tiny unless told otherwise, for tests and measurements that are not C++. TYPE is of the matrices:
// f32, q8_0, q4_1, ...
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "support/tiny_model.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  curdkv::testing::TinyModel model;
  const auto number = [&](int i, int64_t& into) {
    if (argc > i) into = std::atoll(argv[i]);
  };
  number(2, model.n_ctx);
  number(3, model.n_layer);
  number(4, model.d_head);
  number(5, model.n_embd);
  number(6, model.n_head);
  number(7, model.n_head_kv);
  number(8, model.n_ff);
  if (argc > 9) {
    int type = 0;
    while (type < GGML_TYPE_COUNT && std::strcmp(ggml_type_name(static_cast<ggml_type>(type)), argv[9]) != 0)
      ++type;
    if (type == GGML_TYPE_COUNT) {
      std::fprintf(stderr, "there is no type %s\n", argv[9]);
      return 2;
    }
    model.type = static_cast<ggml_type>(type);
  }
  curdkv::testing::write_tiny_model(model, argv[1]);
  return 0;
}
