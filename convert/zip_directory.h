// What a zip archive holds and where, for archives whose entries are stored as they are (torch.save writes no others).
//
//   { local header, name, extra, data }*   central directory { header, name, extra, comment }*
//   [zip64 end record, zip64 locator]   end record, comment
//
// Source: PKWARE's APPNOTE 6.3. Read here and not by libzip, which does not say where in the file an entry's bytes lie:
// weights are to be mapped, not copied.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace weft {

class ZipDirectory {
 public:
  /// Throws Error: malformed, truncated, over several disks, entries that overlap or have one name.
  explicit ZipDirectory(std::span<const std::byte> file);

  static bool is_zip(std::span<const std::byte> file);

  struct Entry {
    std::span<const std::byte> bytes;  // as they lie in the file
    bool stored = false;               // neither compressed nor encrypted
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  /// The bytes of an entry; checksums are not compared. Throws Error if there is none, or it is not stored.
  std::span<const std::byte> stored(std::string_view name) const;

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace weft
