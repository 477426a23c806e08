#include "backends/cuda/kernels.h"

namespace weft::cuda {

std::vector<Kernel> list_kernels() { return list_primitives(); }

}  // namespace weft::cuda
