#include "convert/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <system_error>
#include <utility>

#include "graph/error.h"

namespace weft {
namespace {

struct Descriptor {
  int fd = -1;
  explicit Descriptor(int descriptor) : fd(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

/// For the whole pages around `part`.
void advise(std::span<const std::byte> part, int advice) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(part.data()) & ~(page - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(part.data()) + part.size();
  ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

std::string system_message() { return std::generic_category().message(errno); }

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a FIFO would otherwise wait for a writer.
  const Descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  require(file.fd >= 0, "cannot open {}: {}", path_, system_message());
  struct stat info {};
  require(::fstat(file.fd, &info) == 0, "cannot open {}: {}", path_, system_message());
  require(!S_ISDIR(info.st_mode), "cannot open {}: is a directory", path_);
  require(S_ISREG(info.st_mode), "cannot open {}: is not a regular file", path_);
  const auto size = static_cast<uint64_t>(info.st_size);
  require(size <= std::numeric_limits<size_t>::max(), "cannot map {}: {} bytes are too many", path_, size);
  if (size == 0) return;
  void* data = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, file.fd, 0);
  require(data != MAP_FAILED, "cannot map {}: {}", path_, system_message());
  bytes_ = {static_cast<const std::byte*>(data), static_cast<size_t>(size)};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::drop_pages(std::span<const std::byte> part) const noexcept {
  if (!part.empty()) advise(part, MADV_DONTNEED);
}

void read_ahead(std::span<const std::byte> part) noexcept {
  constexpr size_t kChunk = size_t{128} << 10;  // the system cuts a larger request to about this
  for (size_t at = 0; at < part.size(); at += kChunk) {
    advise(part.subspan(at, std::min(kChunk, part.size() - at)), MADV_WILLNEED);
  }
}

}  // namespace weft
