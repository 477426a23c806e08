#include "backends/cpu/cpu.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "backends/cpu/calibrate.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/machine.h"
#include "backends/cpu/steps.h"
#include "graph/rate_cache.h"

namespace weft {
namespace {

constexpr size_t kHugePage = size_t{2} << 20, kMostProbed = size_t{1} << 30;

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options)
      : isa_(cpu::choose_isa(options.isa)),
        team_(options.threads),
        kernels_(cpu::list_kernels(isa_, options.deterministic)) {
    device_.name = "cpu";
    device_.description =
        fmt::format("{}, {} thread{}, {}", cpu::cpu_name(), team_.size(), team_.size() == 1 ? "" : "s", isa_.name);
    device_.bandwidth_gbps = 10.0 * team_.size();
    device_.gflops = 8.0 * isa_.lanes * team_.size();
    device_.memory_bytes = cpu::usable_memory();
    device_.alignment = 64;
    device_.threads = team_.size();
    device_.host_memory = true;
  }

  std::string_view name() const override { return "cpu"; }
  std::span<const DeviceInfo> devices() const override { return {&device_, 1}; }
  std::span<const Kernel> kernels() const override { return kernels_; }

  Buffer allocate(int device, size_t bytes) override {
    auto* data = static_cast<std::byte*>(
        ::operator new (std::max<size_t>(bytes, 1), std::align_val_t{alignment_of(bytes)}, std::nothrow));
    require(data != nullptr, "cpu: no memory for {} bytes", bytes);
    if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // a hint: failing changes nothing
    return {*this, device, data, bytes};
  }
  void release(int, std::byte* data, size_t bytes) noexcept override {
    ::operator delete (data, std::align_val_t{alignment_of(bytes)});
  }
  void write(int, std::byte* to, const void* from_host, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from_host, bytes);
  }
  void read(int, void* to_host, const std::byte* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to_host, from, bytes);
  }
  /// Whole pages are given back and come as zeros when they are touched: a KV cache takes what is used of it.
  void clear(int, std::byte* to, size_t bytes) override {
    const auto [begin, end] = whole_pages(to, bytes);
    if (bytes >= kHugePage && madvise(begin, static_cast<size_t>(end - begin), MADV_DONTNEED) == 0) {
      std::memset(to, 0, static_cast<size_t>(begin - to));
      std::memset(end, 0, static_cast<size_t>(to + bytes - end));
    } else if (bytes > 0) {
      std::memset(to, 0, bytes);
    }
  }
  /// The pages leave this process, not the system's cache: who opens the file next finds them there. Memory of our own
  /// would come back as zeros, so it stays.
  void release_source(const std::byte* host, size_t bytes) noexcept override {
    const auto [begin, end] = whole_pages(const_cast<std::byte*>(host), bytes);
    const auto size = static_cast<size_t>(end - begin);
    if (size > 0 && cpu::is_shared_mapping(begin, size)) madvise(begin, size, MADV_DONTNEED);
  }

  std::unique_ptr<Steps> begin(int) override { return std::make_unique<cpu::CpuSteps>(team_); }
  std::unique_ptr<Segment> finish(std::unique_ptr<Steps> steps) override {
    return std::make_unique<cpu::CpuSegment>(std::move(static_cast<cpu::CpuSteps&>(*steps)));
  }

  void calibrate(int, size_t working_set) override {
    const Buffer buffer = probe_memory(working_set > 0 ? working_set : size_t{256} << 20);
    const std::span<float> data = floats(buffer);
    cpu::fill(team_, data);
    device_.bandwidth_gbps = cpu::measure_read_gbps(team_, isa_, data, team_.size());
    device_.gflops = cpu::measure_gflops(team_, isa_, team_.size());
    device_.int8_gops = cpu::measure_int8_gops(team_, isa_, team_.size());
    device_.half_gflops = cpu::measure_tile_gflops(team_, isa_, team_.size());
  }
  void set_rates(int, const DeviceInfo& measured) override { copy_rates(device_, measured); }
  std::string limits_table(int) override {
    const Buffer buffer = probe_memory(kMostProbed);
    return cpu::measure_table(team_, isa_, floats(buffer));
  }

 private:
  /// At most a quarter of what is free, and of what takes long to fill.
  Buffer probe_memory(size_t bytes) {
    return allocate(0, std::clamp(bytes, size_t{1} << 20,
                                  std::min(kMostProbed, std::max(device_.memory_bytes / 4, size_t{1} << 20))));
  }
  static std::span<float> floats(const Buffer& buffer) {
    return {reinterpret_cast<float*>(buffer.data()), buffer.bytes() / sizeof(float)};
  }

  /// The pages that lie within a range, as another range.
  static std::pair<std::byte*, std::byte*> whole_pages(std::byte* data, size_t bytes) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), at = reinterpret_cast<uintptr_t>(data);
    const uintptr_t before = (page - at % page) % page, after = (at + bytes) % page;
    return before + after < bytes ? std::pair{data + before, data + bytes - after} : std::pair{data, data};
  }
  static size_t alignment_of(size_t bytes) { return bytes >= kHugePage ? kHugePage : 64; }

  const cpu::IsaKernels& isa_;
  cpu::Team team_;
  DeviceInfo device_;
  std::vector<Kernel> kernels_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) { return std::make_unique<CpuBackend>(options); }

}  // namespace weft
