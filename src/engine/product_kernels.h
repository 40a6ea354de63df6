// Which kernels an executor's products are by.
#pragma once

#include "compute/bf16_tiles.h"
#include "compute/products/kernel.h"
#include "curdkv/executor.h"

namespace curdkv {

// The tiles that a reading uses, products and attention alike; null: none, by choice or on this processor.
const Bf16Tiles* tiles_for(PrefillKernel choice);

// In the order in which they are asked; 8 bits, which serve questions, too, are the last. Empty: ggml's
// products for all. Errors: bad_argument, what was chosen cannot be used here.
Result<ProductKernels> make_product_kernels(PrefillKernel choice, const Bf16Tiles* tiles);

}  // namespace curdkv
