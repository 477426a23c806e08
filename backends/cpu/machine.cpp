#include "backends/cpu/machine.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace weft::cpu {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The text after `key` up to the end of the line, without the leading blanks and colon; empty if absent.
std::string field_of(const std::string& text, std::string_view key) {
  size_t at = text.find(key);
  if (at == std::string::npos) return {};
  at = text.find_first_not_of(" \t:", at + key.size());
  return at == std::string::npos ? std::string{} : text.substr(at, text.find('\n', at) - at);
}

/// The directories of this process's cgroup, innermost first: a limit may sit at any level. `controller` is empty for
/// version 2.
std::vector<std::string> cgroup_directories(std::string_view controller = "") {
  std::vector<std::string> directories;
  std::string path =
      field_of(read_file("/proc/self/cgroup"), controller.empty() ? "0::" : fmt::format(":{}:", controller));
  const std::string root = controller.empty() ? "/sys/fs/cgroup" : fmt::format("/sys/fs/cgroup/{}", controller);
  for (;;) {
    directories.push_back(root + path + (path.ends_with('/') ? "" : "/"));
    if (path.empty() || path == "/") return directories;
    path.erase(path.rfind('/'));
  }
}

double cpu_quota() {
  double quota = -1;
  const auto limit = [&](double cores) {
    if (cores > 0) quota = quota < 0 ? cores : std::min(quota, cores);
  };
  for (const std::string& directory : cgroup_directories()) limit(parse_cpu_max(read_file(directory + "cpu.max")));
  for (const char* controller : {"cpu", "cpu,cpuacct"}) {
    for (const std::string& directory : cgroup_directories(controller)) {
      limit(
          parse_cpu_max(read_file(directory + "cpu.cfs_quota_us") + " " + read_file(directory + "cpu.cfs_period_us")));
    }
  }
  return quota;
}

/// Cpus of the affinity mask; machines beyond CPU_SETSIZE cpus need a larger mask than the fixed one.
std::vector<int> allowed_cpus() {
  for (int capacity = CPU_SETSIZE; capacity <= (1 << 17); capacity *= 2) {
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(capacity));
    std::vector<unsigned long> storage(bytes / sizeof(unsigned long) + 1);
    auto* mask = reinterpret_cast<cpu_set_t*>(storage.data());
    if (sched_getaffinity(0, bytes, mask) != 0) continue;
    std::vector<int> cpus;
    for (int cpu = 0; cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, mask)) cpus.push_back(cpu);
    }
    return cpus;
  }
  return {};
}

}  // namespace

double parse_cpu_max(std::string_view text) {
  double quota = 0, period = 0;
  const auto number = [&](double& value) {
    text.remove_prefix(std::min(text.size(), text.find_first_not_of(" \t\n")));
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{}) return false;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return true;
  };
  return number(quota) && number(period) && quota > 0 && period > 0 ? quota / period : -1;
}

std::vector<int> parse_cpu_list(std::string_view text) {
  std::vector<int> cpus;
  const char *at = text.data(), *const end = text.data() + text.size();
  while (at < end) {
    int first = 0, last = 0;
    auto [next, error] = std::from_chars(at, end, first);
    if (error != std::errc{}) break;
    last = first;
    if (next < end && *next == '-') next = std::from_chars(next + 1, end, last).ptr;
    for (int cpu = first; cpu <= last && last < (1 << 17); ++cpu) cpus.push_back(cpu);
    if (next == end || *next != ',') break;
    at = next + 1;
  }
  return cpus;
}

int64_t parse_bytes(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && value > 0 ? value : -1;
}

int64_t file_pages(const std::string& stat, const std::string& prefix) {
  int64_t bytes = 0;
  for (const char* list : {"inactive_file", "active_file"}) {
    bytes += std::max<int64_t>(parse_bytes(field_of("\n" + stat, fmt::format("\n{}{} ", prefix, list))), 0);
  }
  return bytes;
}

int64_t left_of(int64_t limit, int64_t used, int64_t pages) {
  return std::max<int64_t>(limit - std::max<int64_t>(used - pages, 0), 0);
}

Cores count_cores(std::span<const Cpu> cpus, double quota) {
  std::map<std::string, bool> cores;  // by the cpus that share a core: whether it is a fast one
  int64_t most = 0;
  for (const Cpu& cpu : cpus) most = std::max(most, cpu.capacity);
  const bool any_listed = std::ranges::any_of(cpus, &Cpu::performance);
  for (const Cpu& cpu : cpus) {  // cores of one kind differ by a few percent
    cores[cpu.siblings] |= any_listed ? cpu.performance : most == 0 || 5 * cpu.capacity >= 4 * most;
  }
  const auto at_most_quota = [&](int n) {
    return std::max(quota > 0 ? std::min(n, static_cast<int>(std::ceil(quota))) : n, 1);
  };
  const auto fast = std::ranges::count_if(cores, [](const auto& core) { return core.second; });
  return {at_most_quota(static_cast<int>(cores.size())), at_most_quota(static_cast<int>(fast))};
}

Cores usable_cores() {
  const std::vector<int> listed = parse_cpu_list(read_file("/sys/devices/cpu_core/cpus"));  // of an Intel hybrid
  std::vector<Cpu> cpus;
  for (const int cpu : allowed_cpus()) {
    const std::string folder = fmt::format("/sys/devices/system/cpu/cpu{}/", cpu);
    const std::string siblings = read_file(folder + "topology/thread_siblings_list");
    cpus.push_back({.siblings = siblings.empty() ? folder : siblings,
                    .capacity = parse_bytes(read_file(folder + "cpu_capacity")),
                    .performance = std::ranges::find(listed, cpu) != listed.end()});
  }
  if (cpus.empty()) {
    const auto n = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1U));
    return {n, n};
  }
  return count_cores(cpus, cpu_quota());
}

size_t usable_memory() {
  const int64_t kib = parse_bytes(field_of(read_file("/proc/meminfo"), "MemAvailable"));
  int64_t bytes = kib > 0 ? kib * 1024 : int64_t{1} << 30;
  const auto limited = [&](const std::string& directory, const char* limit_file, const char* used_file,
                           const char* prefix) {
    const int64_t limit = parse_bytes(read_file(directory + limit_file));
    if (limit <= 0) return;
    const int64_t used = parse_bytes(read_file(directory + used_file));
    bytes = std::min(bytes, left_of(limit, used, file_pages(read_file(directory + "memory.stat"), prefix)));
  };
  for (const std::string& directory : cgroup_directories()) limited(directory, "memory.max", "memory.current", "");
  for (const std::string& directory : cgroup_directories("memory")) {
    limited(directory, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
  }
  return static_cast<size_t>(bytes);
}

std::string cpu_name() {
  const std::string name = field_of(read_file("/proc/cpuinfo"), "model name");
  return name.empty() ? "x86-64" : name;
}

}  // namespace weft::cpu
