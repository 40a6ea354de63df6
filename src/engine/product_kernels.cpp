#include "engine/product_kernels.h"

namespace curdkv {
namespace {

bool may_use_tiles(PrefillKernel choice) {
  return choice == PrefillKernel::automatic || choice == PrefillKernel::amx;
}

}  // namespace

const Bf16Tiles* tiles_for(PrefillKernel choice) {
  return may_use_tiles(choice) ? amx_tiles() : nullptr;
}

Result<ProductKernels> make_product_kernels(PrefillKernel choice, const Bf16Tiles* tiles) {
  ProductKernels kernels;
  if (choice == PrefillKernel::amx && tiles == nullptr)
    return Error{
        ErrorCode::bad_argument,
        "the amx prefill kernel needs a processor with AMX's BF16, and a system that lets it be used"};
  kernels.push_back(make_bf16_kernel(tiles));
  if (may_use_tiles(choice) || choice == PrefillKernel::int8) kernels.push_back(make_int8_kernel());
  if (choice == PrefillKernel::onednn) kernels.push_back(make_onednn_kernel());
  std::erase(kernels, nullptr);
  if (choice == PrefillKernel::int8 && kernels.empty())
    return Error{ErrorCode::bad_argument,
                 "the int8 prefill kernel needs a processor with AVX2 or NEON's dot products"};
  if (choice == PrefillKernel::onednn && kernels.empty())
    return Error{ErrorCode::bad_argument, "this build has no oneDNN for the prefill kernel onednn"};
  return kernels;
}

}  // namespace curdkv
