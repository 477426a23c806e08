#include "graph/env.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "graph/error.h"

namespace weft {
namespace {

constexpr std::array kSwitches = {
    Switch{"WEFT_DEBUG", "0|1|2|3", "1: devices; 2: per-op table; 3: kernels chosen and refusals (stderr)"},
    Switch{"WEFT_DUMP", "graph|dot|plan|memory[:FILE]",
           "writes the graph or the plan as text or dot (default: stderr)"},
    Switch{"WEFT_TRACE", "FILE", "writes a Chrome trace of every step run"},
    Switch{"WEFT_CHECK", "ref|nan", "checks each step against its fallback on the ref backend, or for NaN"},
    Switch{"WEFT_FALLBACK", "0|1", "lowers every op that has a fallback"},
    Switch{"WEFT_KERNEL", "OP:NAME[,OP:NAME...]", "lets an op use only kernels whose name contains NAME"},
    Switch{"WEFT_CPU_ISA", "sse2|avx2|avxvnni|avx512|avx512bf16|amx",
           "the instruction set the cpu backend uses (default: the best there is)"},
    Switch{"WEFT_BACKENDS", "NAME[,NAME...]", "the backends that may be used (ref, cpu, cuda)"},
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    if (end != 0) parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

void parse_switch(Env& env, std::string_view name, const std::string& value) {
  const auto one_of = [&](std::initializer_list<std::string_view> allowed) {
    const auto* it = std::ranges::find(kSwitches, name, &Switch::name);
    require(std::ranges::find(allowed, value) != allowed.end(), "{}={}: expected {}", name, value, it->values);
  };
  if (name == "WEFT_DEBUG") {
    one_of({"0", "1", "2", "3"});
    env.debug = value[0] - '0';
  } else if (name == "WEFT_DUMP") {
    const size_t colon = value.find(':');
    env.dump_what = value.substr(0, colon);
    if (colon != std::string::npos) env.dump_file = value.substr(colon + 1);
    require(env.dump_what == "graph" || env.dump_what == "plan" || env.dump_what == "memory" || env.dump_what == "dot",
            "{}={}: expected graph, dot, plan or memory, with :FILE if wanted", name, value);
  } else if (name == "WEFT_TRACE") {
    env.trace_file = value;
  } else if (name == "WEFT_CHECK") {
    one_of({"ref", "nan"});
    env.check_ref = value == "ref";
    env.check_nan = value == "nan";
  } else if (name == "WEFT_FALLBACK") {
    one_of({"0", "1"});
    env.fallback = value == "1";
  } else if (name == "WEFT_KERNEL") {
    for (const std::string& part : split(value, ',')) {
      const size_t colon = part.find(':');
      require(colon != std::string::npos && colon > 0, "{}={}: expected OP:NAME", name, value);
      env.kernel[part.substr(0, colon)] = part.substr(colon + 1);
    }
  } else if (name == "WEFT_CPU_ISA") {
    one_of({"sse2", "avx2", "avxvnni", "avx512", "avx512bf16", "amx"});
    env.cpu_isa = value;
  } else if (name == "WEFT_BACKENDS") {
    env.backends = split(value, ',');
  }
}

/// As the XDG Base Directory Specification has it: a relative path is as none.
std::string find_cache_folder(std::span<const std::string> environment) {
  std::string folder;
  for (const std::string& entry : environment) {
    if (entry.starts_with("XDG_CACHE_HOME=/")) return entry.substr(entry.find('/')) + "/weft";
    if (entry.starts_with("HOME=/")) folder = entry.substr(entry.find('/')) + "/.cache/weft";
  }
  return folder;
}

}  // namespace

std::span<const Switch> switches() { return kSwitches; }

Env Env::parse(std::span<const std::string> environment) {
  Env env;
  env.cache_folder = find_cache_folder(environment);
  for (const std::string& entry : environment) {
    if (!entry.starts_with("WEFT_")) continue;
    const size_t equals = entry.find('=');
    const std::string name = entry.substr(0, equals);
    require(std::ranges::find(kSwitches, name, &Switch::name) != kSwitches.end(),
            "{} is not a switch of weft; `weft inspect --env` lists them", name);
    const std::string value = equals == std::string::npos ? "" : entry.substr(equals + 1);
    if (!value.empty()) parse_switch(env, name, value);
  }
  return env;
}

Env Env::from_process() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return parse(entries);
}

}  // namespace weft
