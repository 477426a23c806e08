#include "backends/mapped.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace weft {

std::pair<std::byte*, std::byte*> whole_pages(std::byte* data, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), at = reinterpret_cast<uintptr_t>(data);
  const uintptr_t before = (page - at % page) % page, after = (at + bytes) % page;
  return before + after < bytes ? std::pair{data + before, data + bytes - after} : std::pair{data, data};
}

bool shared_in(std::string_view maps, uintptr_t data, size_t bytes) {
  while (!maps.empty()) {  // "7f0c1000-7f0c9000 r--s ..."
    const std::string_view line = maps.substr(0, maps.find('\n'));
    maps.remove_prefix(std::min(maps.size(), line.size() + 1));
    uintptr_t begin = 0, end = 0;
    const auto [dash, no_begin] = std::from_chars(line.data(), line.data() + line.size(), begin, 16);
    if (no_begin != std::errc{} || dash == line.data() + line.size()) continue;
    const auto [blank, no_end] = std::from_chars(dash + 1, line.data() + line.size(), end, 16);
    if (no_end != std::errc{} || line.data() + line.size() - blank < 5) continue;
    if (begin <= data && data < end) return bytes <= end - data && blank[4] == 's';
  }
  return false;
}

bool is_shared_mapping(const void* data, size_t bytes) {
  std::ifstream in("/proc/self/maps");
  const std::string maps{std::istreambuf_iterator<char>(in), {}};
  return shared_in(maps, reinterpret_cast<uintptr_t>(data), bytes);
}

void release_mapped(const std::byte* data, size_t bytes) noexcept {
  const auto [begin, end] = whole_pages(const_cast<std::byte*>(data), bytes);
  const auto size = static_cast<size_t>(end - begin);
  if (size > 0 && is_shared_mapping(begin, size)) madvise(begin, size, MADV_DONTNEED);
}

}  // namespace weft
