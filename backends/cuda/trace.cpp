#include "backends/cuda/trace.h"

#include "backends/cuda/check.h"

#if __has_include(<cupti.h>)  // a part of the toolkit that may be absent
#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace weft::cuda {
namespace {

// Records grow at their end only: a library of another version than the header has the same fields in front.
#if CUPTI_API_VERSION >= 130000
using KernelRecord = CUpti_ActivityKernel10;
#else
using KernelRecord = CUpti_ActivityKernel9;  // since 12.2
#endif
#if CUPTI_API_VERSION >= 26
using CopyRecord = CUpti_ActivityMemcpy6;
#else
using CopyRecord = CUpti_ActivityMemcpy5;    // since 11.6
#endif
using ClearRecord = CUpti_ActivityMemset4;

constexpr size_t kBufferBytes = size_t{1} << 20;  // some 5000 records
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET};

/// By the library's own name, then where toolkits put it.
void* open_library() {
  constexpr const char* kNames[] = {"libcupti.so.13", "libcupti.so.12", "libcupti.so"};
  std::vector<std::string> folders = {""};
  const char* home = std::getenv("CUDA_HOME");
  const std::string toolkit = home != nullptr && *home != '\0' ? home : "/usr/local/cuda";
  for (const char* folder : {"lib64", "extras/CUPTI/lib64", "lib"}) {
    folders.push_back(fmt::format("{}/{}/", toolkit, folder));
  }
  for (const std::string& folder : folders) {
    for (const char* name : kNames) {
      if (void* handle = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    }
  }
  fail("cuda: CUPTI is not installed (no libcupti.so.13, .12 or .so on the library path or under {})", toolkit);
}

/// The functions of the library, by the types its header gives them.
struct Library {
  decltype(&cuptiGetResultString) result_string;
  decltype(&cuptiSubscribe) subscribe;
  decltype(&cuptiUnsubscribe) unsubscribe;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks;
  decltype(&cuptiActivityEnable) enable;
  decltype(&cuptiActivityDisable) disable;
  decltype(&cuptiActivityFlushAll) flush_all;
  decltype(&cuptiActivityGetNextRecord) next_record;
  decltype(&cuptiActivityGetNumDroppedRecords) dropped_records;

  Library() {
    void* handle = open_library();  // stays: it may call back until the process ends
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
      require(function != nullptr, "cuda: libcupti has no {}", name);
    };
    find(result_string, "cuptiGetResultString");
    find(subscribe, "cuptiSubscribe");
    find(unsubscribe, "cuptiUnsubscribe");
    find(register_callbacks, "cuptiActivityRegisterCallbacks");
    find(enable, "cuptiActivityEnable");
    find(disable, "cuptiActivityDisable");
    find(flush_all, "cuptiActivityFlushAll");
    find(next_record, "cuptiActivityGetNextRecord");
    find(dropped_records, "cuptiActivityGetNumDroppedRecords");
  }

  void check(CUptiResult status, std::string_view what) const {
    if (status == CUPTI_SUCCESS) return;
    const char* text = nullptr;
    if (result_string(status, &text) != CUPTI_SUCCESS || text == nullptr) text = "unknown";
    fail("cuda: CUPTI: {}: {} ({})", what, text, static_cast<int>(status));
  }
};

const Library& library() {
  static const Library instance;
  return instance;
}

/// Full buffers. CUPTI's callbacks are given nothing that could say where to put them.
struct Buffers {
  std::mutex mutex;
  std::vector<std::pair<std::unique_ptr<uint8_t[]>, size_t>> full;  // and how many bytes are valid
};

Buffers& buffers() {
  static Buffers& instance = *new Buffers;  // never destroyed: CUPTI may hand back a buffer when the process ends
  return instance;
}

void CUPTIAPI request_buffer(uint8_t** buffer, size_t* size, size_t* most_records) {
  *buffer = new (std::nothrow) uint8_t[kBufferBytes];
  *size = *buffer != nullptr ? kBufferBytes : 0;  // without a buffer records are dropped, and counted
  *most_records = 0;
}

void CUPTIAPI complete_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  std::unique_ptr<uint8_t[]> owned(buffer);
  const std::lock_guard lock(buffers().mutex);
  if (valid > 0) buffers().full.emplace_back(std::move(owned), valid);
}

void CUPTIAPI ignore_callback(void*, CUpti_CallbackDomain, CUpti_CallbackId, const void*) {}

std::string demangled(const char* symbol) {
  if (symbol == nullptr) return "?";
  if (!std::string_view(symbol).starts_with("_Z")) return symbol;  // which would be taken for a type
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(symbol, nullptr, nullptr, &status), std::free);
  return text != nullptr ? text.get() : symbol;
}

std::string_view name_of_copy(int kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "(copy to the device)";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "(copy to the host)";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "(copy on the device)";
    default:
      return "(another copy)";
  }
}

class CuptiRecorder : public SpanRecorder {
 public:
  explicit CuptiRecorder(int device) : device_(device) {
    // Nothing is called back: a subscriber keeps other profilers out, and is refused where one is at work.
    cupti_.check(cupti_.subscribe(&subscriber_, ignore_callback, nullptr), "subscribing");
    try {
      cupti_.check(cupti_.register_callbacks(request_buffer, complete_buffer), "registering buffers");
      for (const CUpti_ActivityKind kind : kKinds) cupti_.check(cupti_.enable(kind), "enabling activity records");
    } catch (...) {
      stop();
      throw;
    }
  }
  ~CuptiRecorder() override { stop(); }
  CuptiRecorder(const CuptiRecorder&) = delete;
  CuptiRecorder& operator=(const CuptiRecorder&) = delete;

  Spans take() override {
    cuda::check(cudaSetDevice(device_), "choosing a device");
    cuda::check(cudaDeviceSynchronize(), "waiting for a device");
    cupti_.check(cupti_.flush_all(0), "flushing activity records");
    const std::lock_guard lock(buffers().mutex);
    Spans spans;
    for (const auto& buffer : std::exchange(buffers().full, {})) read(buffer.first.get(), buffer.second, spans);
    size_t dropped = 0;
    cupti_.check(cupti_.dropped_records(nullptr, 0, &dropped), "counting dropped records");
    spans.lost += dropped;
    return spans;
  }

 private:
  void read(uint8_t* buffer, size_t valid, Spans& spans) {
    CUpti_Activity* record = nullptr;
    CUptiResult status = CUPTI_SUCCESS;
    while ((status = cupti_.next_record(buffer, valid, &record)) == CUPTI_SUCCESS) {
      if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
        const auto& kernel = *reinterpret_cast<const KernelRecord*>(record);
        add(kernel, short_name(kernel.name), spans);
      } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
        const auto& copy = *reinterpret_cast<const CopyRecord*>(record);
        add(copy, name_of_copy(copy.copyKind), spans);
      } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
        add(*reinterpret_cast<const ClearRecord*>(record), "(memory set)", spans);
      }
    }
    if (status != CUPTI_ERROR_MAX_LIMIT_REACHED) cupti_.check(status, "reading activity records");
  }

  template <typename Record>
  void add(const Record& record, std::string_view name, Spans& spans) const {
    if (record.deviceId != static_cast<uint32_t>(device_)) return;
    if (record.end == 0 || record.end < record.start) {
      ++spans.lost;
      return;
    }
    spans.list.push_back({.name = std::string(name),
                          .start_ns = static_cast<int64_t>(record.start),
                          .end_ns = static_cast<int64_t>(record.end),
                          .launch = record.graphId != 0 ? record.correlationId : 0});
  }

  /// CUPTI keeps one name for all records of a kernel.
  const std::string& short_name(const char* symbol) {
    const auto [at, added] = names_.try_emplace(symbol);
    if (added) at->second = short_kernel_name(demangled(symbol));
    return at->second;
  }

  /// CUPTI stays loaded: to finalize it while CUDA graphs are alive crashes before 12.6.
  void stop() noexcept {
    for (const CUpti_ActivityKind kind : kKinds) cupti_.disable(kind);
    cupti_.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    cupti_.unsubscribe(subscriber_);
    const std::lock_guard lock(buffers().mutex);
    buffers().full.clear();
  }

  const Library& cupti_ = library();
  int device_;
  CUpti_SubscriberHandle subscriber_ = nullptr;
  std::map<const char*, std::string> names_;
};

}  // namespace

std::unique_ptr<SpanRecorder> record_spans(int device) { return std::make_unique<CuptiRecorder>(device); }

}  // namespace weft::cuda

#else

namespace weft::cuda {

std::unique_ptr<SpanRecorder> record_spans(int) { fail("cuda: built without CUPTI's header (cupti.h)"); }

}  // namespace weft::cuda

#endif
