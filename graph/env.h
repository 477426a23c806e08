// Every environment switch of weft, in one table. `weft inspect --env` prints it; an unknown WEFT_* is an Error.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

struct Switch {
  std::string_view name, values, doc;
};

std::span<const Switch> switches();

/// The switches of one process, parsed and checked.
struct Env {
  int debug = 0;                                           // WEFT_DEBUG
  std::string dump_what, dump_file;                        // WEFT_DUMP=graph|plan|memory|dot[:file]
  std::string trace_file;                                  // WEFT_TRACE
  bool check_ref = false, check_nan = false;               // WEFT_CHECK
  std::map<std::string, std::string, std::less<>> kernel;  // WEFT_KERNEL: op -> part of a kernel's name
  bool fallback = false;                                   // WEFT_FALLBACK
  std::string cpu_isa;                                     // WEFT_CPU_ISA; empty = the best the machine has
  std::vector<std::string> backends;                       // WEFT_BACKENDS; empty = all
  std::string cache_folder;  // $XDG_CACHE_HOME/weft or $HOME/.cache/weft; empty = nothing is kept

  /// From "NAME=value" strings. Throws Error on an unknown WEFT_* name or a value outside its table.
  static Env parse(std::span<const std::string> environment);
  /// From this process's environment.
  static Env from_process();
};

}  // namespace weft
