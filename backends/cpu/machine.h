// What this machine lets this process use, and what it is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weft::cpu {

/// Physical cores in the affinity mask (two hyper-threads of one core count once), at most the cgroup's cpu quota
/// rounded up, at least 1.
int usable_cores();

/// Bytes that can be allocated now: MemAvailable, at most what the cgroup's limit leaves. Pages of files give way.
size_t usable_memory();

/// "Intel(R) Xeon(R) Processor"
std::string cpu_name();

// Parsers, apart from the files they read. -1: no limit.
double parse_cpu_max(std::string_view text);  // "200000 100000" -> 2 cores
int64_t parse_bytes(std::string_view text);   // "max" or a number
/// Bytes of cached file pages that a cgroup's memory.stat tells of; `prefix` is "total_" in version 1.
int64_t file_pages(const std::string& stat, const std::string& prefix);

}  // namespace weft::cpu
