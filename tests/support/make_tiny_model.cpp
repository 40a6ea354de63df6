// make_tiny_model FILE [N_CTX [N_LAYER D_HEAD]]: writes a tiny random llama model, for tests and measurements
// that are not C++.
#include <cstdlib>

#include "support/tiny_model.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  curdkv::testing::TinyModel model;
  if (argc > 2) model.n_ctx = std::atoll(argv[2]);
  if (argc > 3) model.n_layer = std::atoll(argv[3]);
  if (argc > 4) model.d_head = std::atoll(argv[4]);
  curdkv::testing::write_tiny_model(model, argv[1]);
  return 0;
}
