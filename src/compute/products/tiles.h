// A graph's inputs in the form that a ProductKernel multiplies by.
#pragma once

#include "compute/compute.h"
#include "compute/products/kernel.h"

namespace curdkv {

// x: F32 [n_in, n]. Returns I8 [tile_bytes(n_in), tiles].
ggml_tensor* pack_tiles(Compute& compute, const ProductKernel& kernel, ggml_tensor* x);

}  // namespace curdkv
