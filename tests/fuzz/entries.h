// What the fuzzers feed and the ordinary tests replay: one function a foreign format. Each takes any bytes, returns
// whether they were accepted to the end, and lets nothing out but a crash: weft::Error is the only exception it
// catches.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace weft::fuzz {

bool gguf(std::string_view bytes);
bool safetensors(std::string_view bytes);
bool torch_file(std::string_view bytes);
bool tokenizer_json(std::string_view bytes);
bool config_json(std::string_view bytes);

/// A regular file in memory, for readers that map what they read.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(::memfd_create("weft-fuzz", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      throw std::runtime_error("no memory for the test's file");
    }
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace weft::fuzz

#ifdef WEFT_LIBFUZZER
#define WEFT_FUZZ_TARGET(f)                                                 \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { \
    f({reinterpret_cast<const char*>(data), size});                         \
    return 0;                                                               \
  }
#else
#define WEFT_FUZZ_TARGET(f)
#endif
