// A file that appears whole or not at all: written beside its target, renamed at the end.
#pragma once

#include <cstddef>
#include <string>

namespace weft {

/// Writes to `.NAME.partial-PID` in the target's folder; finish() renames it over the target, and destruction without
/// finish() removes it. A target that is a symbolic link keeps the link and replaces what it points to. Every failure
/// of the system is an Error naming the target.
class AtomicFile {
 public:
  /// Throws Error if the target is a directory or anything else but a regular file, or the partial file cannot be made.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& path() const { return path_; }
  /// Takes room on the disk for so many bytes in all, where the file system can: a disk too small is then an Error at
  /// once and not at the end.
  void reserve(size_t bytes);
  /// Appends. Throws Error (disk full, ...); after that the file can no longer be finished.
  void write(const void* data, size_t bytes);
  /// Flushes to the disk and renames to the target. Throws Error; the target is then as it was.
  void finish();

 private:
  [[noreturn]] void fail_write(int error_number);

  std::string path_;     // as the user gave it
  std::string target_;   // with a symbolic link resolved
  std::string partial_;  // exists until finish() or destruction
  int fd_ = -1;
  int slot_ = -1;  // in the table that remove_partial_files() reads
  bool broken_ = false;
  size_t written_ = 0, flushing_ = 0;  // bytes; up to `flushing_` the system has been told to write them back
};

/// Removes the partial files of every AtomicFile alive. Async-signal-safe, for the handler of Ctrl-C: the process is
/// expected to end afterwards; an AtomicFile that goes on fails in finish().
void remove_partial_files() noexcept;

}  // namespace weft
