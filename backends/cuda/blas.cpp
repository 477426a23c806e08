#include "backends/cuda/blas.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

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

/// Those in use, by device; they live as long as the process: graphs hold their addresses.
struct Contexts {
  std::mutex mutex;
  std::map<int, Context> all;
};
Contexts& contexts() {
  static Contexts instance;
  return instance;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  return device;
}

Context& context() {
  const int device = current_device();
  const std::lock_guard lock(contexts().mutex);
  return contexts().all[device];
}

/// The most that a pointer is aligned to, up to what cuBLASLt expects of one that nothing is said of.
uint32_t alignment_of(const void* pointer) {
  constexpr uintptr_t kExpected = 256;
  const auto address = reinterpret_cast<uintptr_t>(pointer) | kExpected;
  return static_cast<uint32_t>(address & (~address + 1));
}

/// What an algorithm is chosen for.
struct ProductKey {
  int device;
  int64_t m, n, k, ldc;
  bool adds, biased;
  uint32_t a, b, c, bias;  // alignments, bytes

  friend auto operator<=>(const ProductKey&, const ProductKey&) = default;
};

/// The operation, with the address of its bias.
struct Description {
  cublasLtMatmulDesc_t desc = nullptr;

  explicit Description(const float* bias) {
    const auto set = [&](cublasLtMatmulDescAttributes_t which, const auto& value) {
      check_blas(library().desc_set(desc, which, &value, sizeof value), "describing a product");
    };
    check_blas(library().desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (bias == nullptr) return;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  ~Description() { library().desc_destroy(desc); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
};

/// The matrices of a shape, and the algorithm, if there is one.
struct Choice {
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  std::optional<cublasLtMatmulAlgo_t> algo;

  // Seen by columns, as cuBLAS does, c^T [n, m] = b [n, k] a^T [k, m].
  Choice(const ProductKey& s, const Description& description) {
    const Library& lt = library();
    const auto un = static_cast<uint64_t>(s.n), um = static_cast<uint64_t>(s.m), uk = static_cast<uint64_t>(s.k);
    check_blas(lt.layout_create(&a, CUDA_R_16F, uk, un, s.k), "describing a matrix");
    check_blas(lt.layout_create(&b, CUDA_R_16F, uk, um, s.k), "describing a matrix");
    check_blas(lt.layout_create(&c, CUDA_R_32F, un, um, s.ldc), "describing a matrix");
    cublasLtMatmulPreference_t preference = nullptr;
    check_blas(lt.preference_create(&preference), "choosing a product");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
      check_blas(lt.preference_set(preference, which, &value, sizeof value), "choosing a product");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.b);  // cuBLAS's a is our b
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.a);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.c);
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status =
        lt.heuristic(context().handle, description.desc, a, b, c, c, preference, 1, &result, &found);
    lt.preference_destroy(preference);
    if (status == CUBLAS_STATUS_SUCCESS && found == 1) algo = result.algo;
  }
  ~Choice() {
    library().layout_destroy(a);
    library().layout_destroy(b);
    library().layout_destroy(c);
  }
  Choice(const Choice&) = delete;
  Choice& operator=(const Choice&) = delete;
};

/// cuBLASLt reads a bias 16 bytes at a time, whatever its algorithm says, and of few rows it may leave it out.
bool takes_bias(const HalfProduct& product) {
  constexpr int64_t kFewest = 16;
  return alignment_of(product.bias) >= 16 && product.n >= kFewest;
}

}  // namespace

std::string why_no_blas() { return library().missing; }

size_t blas_scratch() {
  const int device = current_device();
  const std::lock_guard lock(contexts().mutex);
  return contexts().all.contains(device) ? kWorkspace : 0;
}

std::function<void(cudaStream_t)> half_product(const HalfProduct& product) {
  if (product.bias != nullptr && !takes_bias(product)) return nullptr;
  static std::mutex mutex;
  static std::map<ProductKey, std::shared_ptr<Choice>> choices;
  const Context& at = context();
  const ProductKey shape{.device = current_device(),
                         .m = product.m,
                         .n = product.n,
                         .k = product.k,
                         .ldc = product.ldc,
                         .adds = product.adds,
                         .biased = product.bias != nullptr,
                         .a = alignment_of(product.a),
                         .b = alignment_of(product.b),
                         .c = alignment_of(product.c),
                         .bias = alignment_of(product.bias)};
  const auto description = std::make_shared<Description>(product.bias);
  const std::lock_guard lock(mutex);
  std::shared_ptr<Choice>& choice = choices[shape];
  if (choice == nullptr) choice = std::make_shared<Choice>(shape, *description);
  if (!choice->algo) {
    require(product.bias != nullptr, "cuda: cuBLASLt has no product [{}, {}] x [{}, {}]", shape.m, shape.k, shape.n,
            shape.k);
    return nullptr;
  }
  return [description, choice, product, &at](cudaStream_t stream) {
    const float one = 1, beta = product.adds ? 1 : 0;
    const Choice& by = *choice;
    check_blas(library().matmul(at.handle, description->desc, &one, product.b, by.a, product.a, by.b, &beta, product.c,
                                by.c, product.c, by.c, &*by.algo, at.workspace, kWorkspace, stream),
               "a product");
  };
}

}  // namespace weft::cuda
