#include "convert/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "graph/error.h"

namespace weft {
namespace {

// Paths of partial files, for the signal handler: fixed storage, nothing to free. Files beyond the table's size, or
// with a longer path, are only missed by the handler.
enum class SlotState : int { free, filling, live, removing, removed };
struct Slot {
  std::atomic<SlotState> state{SlotState::free};
  char path[4096];
};
std::array<Slot, 16> partial_files;
static_assert(std::atomic<SlotState>::is_always_lock_free);

bool move_state(Slot& slot, SlotState from, SlotState to) { return slot.state.compare_exchange_strong(from, to); }

int register_partial(const std::string& path) {
  if (path.size() >= sizeof(Slot::path)) return -1;
  for (size_t i = 0; i < partial_files.size(); ++i) {
    Slot& slot = partial_files[i];
    if (!move_state(slot, SlotState::free, SlotState::filling)) continue;
    std::memcpy(slot.path, path.c_str(), path.size() + 1);
    slot.state = SlotState::live;
    return static_cast<int>(i);
  }
  return -1;
}

// A slot whose path a handler is using right now is given up: the process is about to end.
void unregister_partial(int index) {
  if (index < 0) return;
  Slot& slot = partial_files[static_cast<size_t>(index)];
  if (!move_state(slot, SlotState::live, SlotState::free)) move_state(slot, SlotState::removed, SlotState::free);
}

std::string message(int error_number) { return std::generic_category().message(error_number); }

// Made, and locked as long as it is open: a file of this name that nobody has locked was left by a process that was
// killed (in containers process ids repeat), and is replaced.
int create_partial(const std::string& partial) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  int fd = ::open(partial.c_str(), kFlags, 0666);
  if (fd < 0 && errno == EEXIST) {
    const int other = ::open(partial.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const bool in_use = other >= 0 && ::flock(other, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (other >= 0) ::close(other);
    if (in_use) {
      errno = EBUSY;
      return -1;
    }
    ::unlink(partial.c_str());
    fd = ::open(partial.c_str(), kFlags, 0666);
  }
  if (fd >= 0) ::flock(fd, LOCK_EX | LOCK_NB);
  return fd;
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), target_(path_) {
  require(!path_.empty(), "cannot write a file without a name");
  std::error_code error;
  if (std::filesystem::is_symlink(path_, error)) {
    const std::filesystem::path resolved = std::filesystem::canonical(path_, error);
    require(!error, "cannot write {}: {}", path_, error.message());
    target_ = resolved.string();
  }
  struct stat info {};
  if (::stat(target_.c_str(), &info) == 0) {
    require(!S_ISDIR(info.st_mode), "cannot write {}: is a directory", path_);
    require(S_ISREG(info.st_mode), "cannot write {}: is not a regular file", path_);
  }
  const size_t slash = target_.rfind('/');
  const size_t name = slash == std::string::npos ? 0 : slash + 1;
  require(name < target_.size(), "cannot write {}: is a directory", path_);
  // File systems limit a name to 255 bytes: leave room for what is added.
  partial_ = fmt::format("{}.{}.partial-{}", target_.substr(0, name), target_.substr(name).substr(0, 200), ::getpid());
  slot_ = register_partial(partial_);
  fd_ = create_partial(partial_);
  if (fd_ >= 0) return;
  const int error_number = errno;
  unregister_partial(slot_);
  fail("cannot write {}: {}", path_, message(error_number));
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!partial_.empty()) ::unlink(partial_.c_str());
  unregister_partial(slot_);
}

void AtomicFile::fail_write(int error_number) {
  broken_ = true;
  fail("cannot write {}: {}", path_, message(error_number));
}

void AtomicFile::reserve(size_t bytes) {
  int result = 0;
  do {
    result = ::fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) fail_write(errno);
}

void AtomicFile::write(const void* data, size_t bytes) {
  require(fd_ >= 0 && !broken_, "cannot write {}: it is finished or an earlier write failed", path_);
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, next, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_write(errno);
    next += n;
    bytes -= static_cast<size_t>(n);
    written_ += static_cast<size_t>(n);
  }
  // To the disk while more is made, so that finish() has little left to wait for.
  constexpr size_t kFlushBytes = size_t{32} << 20;
  if (written_ - flushing_ < kFlushBytes) return;
  ::sync_file_range(fd_, static_cast<off_t>(flushing_), static_cast<off_t>(written_ - flushing_),
                    SYNC_FILE_RANGE_WRITE);
  flushing_ = written_;
}

void AtomicFile::finish() {
  require(fd_ >= 0 && !broken_, "cannot finish {}: it is finished or an earlier write failed", path_);
  if (::fsync(fd_) != 0) fail_write(errno);
  if (::rename(partial_.c_str(), target_.c_str()) != 0) fail_write(errno);
  partial_.clear();
  unregister_partial(std::exchange(slot_, -1));
  ::close(std::exchange(fd_, -1));
  // The name is durable once the folder is; a file system that cannot sync a folder has done what it can.
  const std::string folder = std::filesystem::path(target_).parent_path().string();
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
}

void remove_partial_files() noexcept {
  const int saved = errno;
  for (Slot& slot : partial_files) {
    if (!move_state(slot, SlotState::live, SlotState::removing)) continue;
    ::unlink(slot.path);
    slot.state = SlotState::removed;
  }
  errno = saved;
}

}  // namespace weft
