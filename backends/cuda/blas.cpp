#include "backends/cuda/blas.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "backends/cuda/check.h"

namespace weft::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;

/// The functions of the library, by the types its header gives them.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmul) matmul;

  std::string missing;  // why there is none

  Library() {
    void* handle = nullptr;
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
      if (handle == nullptr) handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (handle == nullptr) {
      missing = "libcublasLt is not installed";
      return;
    }
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
      if (function == nullptr) missing = fmt::format("libcublasLt has no {}", name);
    };
    find(create, "cublasLtCreate");
    find(desc_create, "cublasLtMatmulDescCreate");
    find(desc_destroy, "cublasLtMatmulDescDestroy");
    find(desc_set, "cublasLtMatmulDescSetAttribute");
    find(layout_create, "cublasLtMatrixLayoutCreate");
    find(layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(preference_create, "cublasLtMatmulPreferenceCreate");
    find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(matmul, "cublasLtMatmul");
  }
};

const Library& library() {
  static const Library instance;
  return instance;
}

void check_blas(cublasStatus_t status, std::string_view what) {
  require(status == CUBLAS_STATUS_SUCCESS, "cuda: cuBLASLt: {}: status {}", what, static_cast<int>(status));
}

/// A handle and scratch memory of the current device.
struct Context {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;

  Context() {
    check_blas(library().create(&handle), "starting");
    check(cudaMalloc(&workspace, kWorkspace), "allocating memory for cuBLASLt");
  }
};

Context& context() {
  static std::mutex mutex;
  static std::map<int, Context> contexts;  // live as long as the process: graphs hold their addresses
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  const std::lock_guard lock(mutex);
  return contexts[device];
}

/// A product of one shape, ready to launch.
struct Product {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algo{};

  // Seen by columns, as cuBLAS does, c^T [n, m] = b [n, k] a^T [k, m].
  Product(int64_t m, int64_t n, int64_t k, int64_t ldc) {
    const Library& lt = library();
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check_blas(lt.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
    check_blas(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "describing a product");
    const auto un = static_cast<uint64_t>(n), um = static_cast<uint64_t>(m), uk = static_cast<uint64_t>(k);
    check_blas(lt.layout_create(&a, CUDA_R_16F, uk, un, k), "describing a matrix");
    check_blas(lt.layout_create(&b, CUDA_R_16F, uk, um, k), "describing a matrix");
    check_blas(lt.layout_create(&c, CUDA_R_32F, un, um, ldc), "describing a matrix");
    cublasLtMatmulPreference_t preference = nullptr;
    check_blas(lt.preference_create(&preference), "choosing a product");
    const size_t workspace = kWorkspace;
    check_blas(lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace),
               "choosing a product");
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status = lt.heuristic(context().handle, desc, a, b, c, c, preference, 1, &result, &found);
    lt.preference_destroy(preference);
    require(status == CUBLAS_STATUS_SUCCESS && found == 1, "cuda: cuBLASLt has no product [{}, {}] x [{}, {}]", m, k, n,
            k);
    algo = result.algo;
  }
  ~Product() {
    library().layout_destroy(a);
    library().layout_destroy(b);
    library().layout_destroy(c);
    library().desc_destroy(desc);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
};

}  // namespace

std::string why_no_blas() { return library().missing; }

std::function<void(const void* a, const void* b, float* c, cudaStream_t stream)> half_product(int64_t m, int64_t n,
                                                                                              int64_t k, int64_t ldc) {
  using Key = std::tuple<int, int64_t, int64_t, int64_t, int64_t>;
  static std::mutex mutex;
  static std::map<Key, std::shared_ptr<Product>> products;
  const Context& at = context();
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  const std::lock_guard lock(mutex);
  std::shared_ptr<Product>& product = products[{device, m, n, k, ldc}];
  if (product == nullptr) product = std::make_shared<Product>(m, n, k, ldc);
  return [product, &at](const void* a, const void* b, float* c, cudaStream_t stream) {
    const float one = 1, zero = 0;
    check_blas(library().matmul(at.handle, product->desc, &one, b, product->a, a, product->b, &zero, c, product->c, c,
                                product->c, &product->algo, at.workspace, kWorkspace, stream),
               "a product");
  };
}

}  // namespace weft::cuda
