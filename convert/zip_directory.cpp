#include "convert/zip_directory.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "convert/printable.h"
#include "graph/error.h"

namespace weft {
namespace {

static_assert(std::endian::native == std::endian::little, "the headers are read as they lie in the file");

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // the number stands in the zip64 extra field instead
constexpr uint16_t kExtra64 = 1;
constexpr uint16_t kEncrypted = 1;  // flag bit

using Bytes = std::span<const std::byte>;

/// `n` bytes at `offset`. Throws Error naming `what` if the file is shorter.
Bytes part(Bytes file, uint64_t offset, uint64_t n, std::string_view what) {
  require(offset <= file.size() && n <= file.size() - offset,
          "truncated: {} of {} bytes at byte {}, the archive has {}", what, n, offset, file.size());
  return file.subspan(offset, n);
}

template <typename T>
T number(Bytes header, size_t at) {
  T value;
  std::memcpy(&value, header.data() + at, sizeof value);
  return value;
}

std::string text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

struct Directory {
  uint64_t entries, offset, bytes;
};

/// Of the end record, which a comment of up to 64 KiB may follow.
size_t find_end(Bytes file) {
  require(file.size() >= kEndBytes, "truncated: an archive has at least {} bytes, this one has {}", kEndBytes,
          file.size());
  const size_t last = file.size() - kEndBytes;
  for (size_t comment = 0; comment <= std::min<size_t>(last, 0xFFFF); ++comment) {
    const Bytes end = file.subspan(last - comment);
    if (number<uint32_t>(end, 0) == kEnd && number<uint16_t>(end, 20) == comment) return last - comment;
  }
  fail("truncated: the zip archive has no end record");
}

Directory find_directory(Bytes file) {
  const size_t at = find_end(file);
  const Bytes end = file.subspan(at);
  const bool is_64 = at >= kLocatorBytes && number<uint32_t>(file, at - kLocatorBytes) == kLocator64;
  if (!is_64) {
    require(number<uint16_t>(end, 4) == 0 && number<uint16_t>(end, 6) == 0, "the zip archive spans several disks");
    return {number<uint16_t>(end, 10), number<uint32_t>(end, 16), number<uint32_t>(end, 12)};
  }
  const Bytes locator = file.subspan(at - kLocatorBytes);
  const Bytes end64 = part(file, number<uint64_t>(locator, 8), kEnd64Bytes, "the zip64 end record");
  require(number<uint32_t>(end64, 0) == kEnd64, "the zip64 end record is not where its locator says");
  require(number<uint32_t>(end64, 16) == 0 && number<uint32_t>(end64, 20) == 0, "the zip archive spans several disks");
  return {number<uint64_t>(end64, 32), number<uint64_t>(end64, 48), number<uint64_t>(end64, 40)};
}

/// Sizes and offset of an entry; each may stand in the zip64 field of `extra`, in this order.
struct Place {
  uint64_t unpacked, packed, offset;

  void read_extra(Bytes extra) {
    while (extra.size() >= 4) {
      const auto id = number<uint16_t>(extra, 0), bytes = number<uint16_t>(extra, 2);
      require(bytes <= extra.size() - 4u, "an extra field runs past its entry");
      Bytes field = extra.subspan(4, bytes);
      if (id == kExtra64) {
        for (uint64_t* value : {&unpacked, &packed, &offset}) {
          if (*value != kIn64) continue;
          require(field.size() >= 8, "a zip64 field is too short");
          *value = number<uint64_t>(field, 0);
          field = field.subspan(8);
        }
        return;
      }
      extra = extra.subspan(4u + bytes);
    }
  }
};

}  // namespace

bool ZipDirectory::is_zip(std::span<const std::byte> file) {
  return file.size() >= 4 && number<uint32_t>(file, 0) == kLocalHeader;
}

ZipDirectory::ZipDirectory(std::span<const std::byte> file) {
  const Directory directory = find_directory(file);
  Bytes left = part(file, directory.offset, directory.bytes, "the central directory");
  require(directory.entries <= left.size() / kCentralBytes,
          "the central directory has {} bytes, too few for {} entries", left.size(), directory.entries);
  std::vector<std::pair<uint64_t, uint64_t>> extents;  // of local header and data
  for (uint64_t i = 0; i < directory.entries; ++i) {
    const Bytes header = part(left, 0, kCentralBytes, "the central directory's entry");
    require(number<uint32_t>(header, 0) == kCentralHeader, "entry {} of the central directory is malformed", i);
    const size_t name_bytes = number<uint16_t>(header, 28), extra_bytes = number<uint16_t>(header, 30),
                 comment_bytes = number<uint16_t>(header, 32);
    const Bytes whole =
        part(left, 0, kCentralBytes + name_bytes + extra_bytes + comment_bytes, "the central directory's entry");
    left = left.subspan(whole.size());
    const std::string name = text(whole.subspan(kCentralBytes, name_bytes));
    try {
      Place place{number<uint32_t>(header, 24), number<uint32_t>(header, 20), number<uint32_t>(header, 42)};
      place.read_extra(whole.subspan(kCentralBytes + name_bytes, extra_bytes));
      const Bytes local = part(file, place.offset, kLocalBytes, "the local header");
      require(number<uint32_t>(local, 0) == kLocalHeader, "its local header is not at byte {}", place.offset);
      const size_t local_name = number<uint16_t>(local, 26), local_extra = number<uint16_t>(local, 28);
      const Bytes named = part(file, place.offset, kLocalBytes + local_name + local_extra, "the local header");
      require(text(named.subspan(kLocalBytes, local_name)) == name, "its local header has another name");
      const uint64_t begin = place.offset + named.size();
      const bool stored = number<uint16_t>(header, 10) == 0 && (number<uint16_t>(header, 8) & kEncrypted) == 0;
      require(!stored || place.packed == place.unpacked, "is stored, but has {} bytes for {}", place.packed,
              place.unpacked);
      const Entry entry{part(file, begin, place.packed, "its data"), stored};
      require(entries_.emplace(name, entry).second, "occurs twice");
      extents.emplace_back(place.offset, begin + place.packed);
    } catch (const Error& error) {
      throw error.at(fmt::format("entry {}", printable(name)));
    }
  }
  std::ranges::sort(extents);
  uint64_t end = 0;
  for (const auto& [begin, next] : extents) {
    require(begin >= end, "the entry at byte {} overlaps the one before it", begin);
    end = next;
  }
  require(end <= directory.offset || extents.empty(), "an entry overlaps the central directory");
}

std::span<const std::byte> ZipDirectory::stored(std::string_view name) const {
  const auto it = entries_.find(name);
  require(it != entries_.end(), "the archive has no entry {}", printable(name));
  require(it->second.stored, "entry {} is compressed or encrypted, weft reads stored ones (as torch.save writes them)",
          printable(name));
  return it->second.bytes;
}

}  // namespace weft
