// A file's bytes, mapped read-only.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace weft {

/// Owns a shared, read-only mapping of a whole regular file. Pages are read when touched; moving keeps addresses. The
/// file must not shrink while it is mapped: the system answers reads past its new end with SIGBUS.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error if the file cannot be opened or mapped, or is not a regular file. An empty file gives an empty span.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  const std::string& path() const { return path_; }
  /// Lets go of the memory behind `part` of bytes(), whole pages around it: read again, from the file, when touched.
  void drop_pages(std::span<const std::byte> part) const noexcept;

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

/// Has the system begin to read mapped bytes that are wanted soon: faults one by one keep no disk busy.
void read_ahead(std::span<const std::byte> part) noexcept;

}  // namespace weft
