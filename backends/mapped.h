// Pages of mapped files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace weft {

/// The whole pages that lie within a range, as another range: [begin, end).
std::pair<std::byte*, std::byte*> whole_pages(std::byte* data, size_t bytes);

/// Whether these bytes lie in one shared mapping, as files are mapped: its pages may be dropped and come back as they
/// were. False where it cannot be told.
bool is_shared_mapping(const void* data, size_t bytes);
/// The same of the text of /proc/self/maps.
bool shared_in(std::string_view maps, uintptr_t data, size_t bytes);

/// Lets the whole pages of a mapped file go that lie in a range. They leave this process, not the system's cache: who
/// opens the file next finds them there, and who reads them here again has them back. Memory of our own would come back
/// as zeros, so it stays.
void release_mapped(const std::byte* data, size_t bytes) noexcept;

}  // namespace weft
