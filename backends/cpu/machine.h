// What this machine lets this process use, and what it is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::cpu {

/// Physical cores (two hyper-threads of one core count once): all, and those that are as fast as the fastest.
struct Cores {
  int all, performance;
};
/// Those in the affinity mask; at most the cgroup's cpu quota rounded up, at least 1.
Cores usable_cores();

/// Bytes that can be allocated now: MemAvailable, at most what the cgroup's limit leaves. Pages of files give way.
size_t usable_memory();

/// "Intel(R) Xeon(R) Processor"
std::string cpu_name();

/// What Linux tells of a processor.
struct Cpu {
  std::string siblings;      // names its core
  int64_t capacity = -1;     // relative speed; -1 not told
  bool performance = false;  // listed as such
};
Cores count_cores(std::span<const Cpu> cpus, double quota);  // quota in cores; not above 0: none

// Parsers, apart from the files they read. -1: no limit.
double parse_cpu_max(std::string_view text);             // "200000 100000" -> 2 cores
std::vector<int> parse_cpu_list(std::string_view text);  // "0-3,8" -> 0, 1, 2, 3, 8
int64_t parse_bytes(std::string_view text);              // "max" or a number
/// Bytes of cached file pages that a cgroup's memory.stat tells of; `prefix` is "total_" in version 1.
int64_t file_pages(const std::string& stat, const std::string& prefix);
/// Bytes that a limit leaves where `used` are taken, `pages` of them by files. The two are read one after the other, so
/// pages may be the more; and a limit that is none is near the largest number (version 1).
int64_t left_of(int64_t limit, int64_t used, int64_t pages);

}  // namespace weft::cpu
