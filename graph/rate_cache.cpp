#include "graph/rate_cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

namespace weft {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHeader = "weft rates 1";  // another number wherever calibrate() measures otherwise
constexpr int64_t kLongestAge = 30 * 24 * 3600;       // seconds: drivers, clocks and neighbours change
constexpr size_t kMostBytes = size_t{64} << 10, kMostEntries = 100;

constexpr std::array kRates = {&DeviceInfo::bandwidth_gbps, &DeviceInfo::gflops,    &DeviceInfo::int8_gops,
                               &DeviceInfo::half_gflops,    &DeviceInfo::launch_us, &DeviceInfo::link_gbps,
                               &DeviceInfo::link_latency_us};

int64_t now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The number that a line starts with, which loses it and the space behind it.
template <typename T>
bool take(std::string_view& line, T& value) {
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc() || end == line.data() + line.size() || *end != ' ') return false;
  line.remove_prefix(static_cast<size_t>(end - line.data()) + 1);
  return true;
}

/// Whatever the file says, no prediction becomes infinite or none at all.
bool plausible(const DeviceInfo& info) {
  return std::ranges::all_of(kRates, [&](auto rate) { return info.*rate >= 0 && info.*rate < 1e9; }) &&
         info.bandwidth_gbps > 1e-3 && info.gflops > 1e-3;
}

}  // namespace

void copy_rates(DeviceInfo& to, const DeviceInfo& from) {
  for (const auto rate : kRates) to.*rate = from.*rate;
}

RateCache::RateCache(const std::string& folder) : path_(folder.empty() ? "" : folder + "/rates") { read_file(); }

const DeviceInfo* RateCache::find(const std::string& key) const {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : &it->second.info;
}

void RateCache::keep(const std::string& key, const DeviceInfo& info) {
  if (key.find('\n') != std::string::npos || !plausible(info)) return;
  read_file();  // others may have written since
  entries_[key] = {now(), info};
  while (entries_.size() > kMostEntries) {
    entries_.erase(std::ranges::min_element(entries_, {}, [](const auto& e) { return e.second.time; }));
  }
  write_file();
}

void RateCache::read_file() {
  std::error_code error;
  if (path_.empty() || !fs::is_regular_file(path_, error)) return;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path_.c_str(), "r"), std::fclose);
  if (file == nullptr) return;
  std::string bytes(kMostBytes, '\0');
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file.get()));
  std::string_view rest = bytes;
  for (bool first = true; rest.find('\n') != std::string_view::npos; first = false) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    if (first && line != kHeader) return;
    Entry entry{};
    bool good = !first && take(line, entry.time) && entry.time <= now() && entry.time > now() - kLongestAge;
    for (const auto rate : kRates) good = good && take(line, entry.info.*rate);
    if (!good || !plausible(entry.info)) continue;
    const auto [it, added] = entries_.try_emplace(std::string(line), entry);
    if (!added && it->second.time < entry.time) it->second = entry;
  }
}

/// Beside it first, then renamed: who reads meanwhile finds the old file or the new one.
void RateCache::write_file() const {
  if (path_.empty()) return;
  std::error_code error;
  fs::create_directories(fs::path(path_).parent_path(), error);
  std::string text = fmt::format("{}\n", kHeader);
  for (const auto& [key, entry] : entries_) {
    text += fmt::format("{} ", entry.time);
    for (const auto rate : kRates) text += fmt::format("{:.9g} ", entry.info.*rate);
    text += key + "\n";
  }
  const std::string beside = fmt::format("{}.{}", path_, getpid());
  FILE* file = std::fopen(beside.c_str(), "w");
  if (file == nullptr) return;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) == 0 && written) fs::rename(beside, path_, error);
  fs::remove(beside, error);
}

}  // namespace weft
