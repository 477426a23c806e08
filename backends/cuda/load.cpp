// Finds the driver and the module. The only part of the backend that every build has.
#include <dlfcn.h>

#include <filesystem>

#include "backends/cuda/cuda.h"

namespace weft {
namespace {

/// The folder of the library this code is in.
std::filesystem::path own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&load_cuda_backend), &info) == 0 || info.dli_fname == nullptr) return {};
  return std::filesystem::path(info.dli_fname).parent_path();
}

/// Stands for the backend on a machine that cannot run it.
class AbsentCuda : public Backend {
 public:
  explicit AbsentCuda(std::string reason) : reason_(std::move(reason)) {}

  std::string_view name() const override { return "cuda"; }
  std::span<const DeviceInfo> devices() const override { return {}; }
  std::string absent() const override { return reason_; }
  std::span<const Kernel> kernels() const override { return {}; }
  Buffer allocate(int, size_t) override { fail("{}", reason_); }
  void release(int, std::byte*, size_t) noexcept override {}
  void write(int, std::byte*, const void*, size_t) override {}
  void read(int, void*, const std::byte*, size_t) override {}
  void clear(int, std::byte*, size_t) override {}
  std::unique_ptr<Steps> begin(int) override { fail("{}", reason_); }
  std::unique_ptr<Segment> finish(std::unique_ptr<Steps>) override { fail("{}", reason_); }

 private:
  std::string reason_;
};

std::unique_ptr<Backend> load(const CudaOptions& options, std::string& why_not) {
  if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_GLOBAL) == nullptr) {
    why_not = "cuda: this machine has no NVIDIA driver (libcuda.so.1)";
    return nullptr;
  }
  const std::filesystem::path path = own_folder() / "libweft_cuda.so";
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays loaded: kernels live in it
  if (module == nullptr) {
    const char* reason = dlerror();
    why_not = fmt::format("cuda: {} cannot be loaded: {}", path.string(), reason != nullptr ? reason : "?");
    return nullptr;
  }
  const auto entry = reinterpret_cast<CudaModuleEntry>(dlsym(module, kCudaModuleEntry));
  if (entry == nullptr) {
    why_not = fmt::format("cuda: {} is of another version of weft", path.string());
    return nullptr;
  }
  return std::unique_ptr<Backend>(entry(options, why_not));
}

}  // namespace

std::unique_ptr<Backend> load_cuda_backend(const CudaOptions& options) {
  std::string why_not;
  std::unique_ptr<Backend> backend = load(options, why_not);
  if (backend == nullptr) backend = std::make_unique<AbsentCuda>(std::move(why_not));
  return backend;
}

}  // namespace weft
