// How fast devices are, as measured by this process or an earlier one: measuring takes a second or two, a plan needs it
// each time. One file, a line a device; what cannot be read, is malformed or old counts as not there, and what cannot
// be written is not kept.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "graph/backend.h"

namespace weft {

/// The fields of DeviceInfo that calibrate() measures.
void copy_rates(DeviceInfo& to, const DeviceInfo& from);

class RateCache {
 public:
  /// In the file `rates` of that folder; empty: for this process alone.
  explicit RateCache(const std::string& folder);

  /// The rates kept under `key`, or null.
  const DeviceInfo* find(const std::string& key) const;
  void keep(const std::string& key, const DeviceInfo& info);

 private:
  struct Entry {
    int64_t time;  // seconds since 1970
    DeviceInfo info;
  };
  void read_file();
  void write_file() const;

  std::string path_;
  std::map<std::string, Entry> entries_;
};

}  // namespace weft
