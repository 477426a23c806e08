// Pages of mapped files.
#pragma once

#include <cstddef>
#include <utility>

namespace weft {

/// The whole pages that lie within a range, as another range: [begin, end).
std::pair<std::byte*, std::byte*> whole_pages(std::byte* data, size_t bytes);

/// Lets the whole pages of a mapped file go that lie in a range. They leave this process, not the system's cache: who
/// opens the file next finds them there, and who reads them here again has them back. Memory of our own would come back
/// as zeros, so it stays.
void release_mapped(const std::byte* data, size_t bytes) noexcept;

}  // namespace weft
