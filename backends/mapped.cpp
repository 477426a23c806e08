#include "backends/mapped.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "backends/cpu/machine.h"

namespace weft {

std::pair<std::byte*, std::byte*> whole_pages(std::byte* data, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), at = reinterpret_cast<uintptr_t>(data);
  const uintptr_t before = (page - at % page) % page, after = (at + bytes) % page;
  return before + after < bytes ? std::pair{data + before, data + bytes - after} : std::pair{data, data};
}

void release_mapped(const std::byte* data, size_t bytes) noexcept {
  const auto [begin, end] = whole_pages(const_cast<std::byte*>(data), bytes);
  const auto size = static_cast<size_t>(end - begin);
  if (size > 0 && cpu::is_shared_mapping(begin, size)) madvise(begin, size, MADV_DONTNEED);
}

}  // namespace weft
