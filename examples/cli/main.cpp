// weft: one executable, one file per subcommand in this folder.
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>

#include "convert/atomic_file.h"
#include "examples/cli/commands.h"

namespace {

extern "C" void on_interrupt(int) {
  weft::remove_partial_files();
  _exit(130);  // as shells report Ctrl-C; not the signal itself
}

int report(const char* message) {
  std::fflush(stdout);
  std::fprintf(stderr, "weft: error: %s\n", message);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is a failed write, found below
  std::signal(SIGXFSZ, SIG_IGN);  // so is a file beyond the limit

  CLI::App app{"weft runs and converts GPT-family language models.", "weft"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "weft 0.1.0");
  weft::cli::Action action;
  weft::cli::add_generate(app, action);
  weft::cli::add_convert(app, action);
  weft::cli::add_eval(app, action);
  weft::cli::add_perplexity(app, action);
  weft::cli::add_bench(app, action);
  weft::cli::add_imatrix(app, action);
  weft::cli::add_inspect(app, action);
  weft::cli::add_tokenize(app, action);
  weft::cli::add_check_ops(app, action);
  weft::cli::add_check_quants(app, action);
  for (CLI::App* command : app.get_subcommands({})) {
    command->add_flag("--quiet", weft::cli::quiet(), "No progress and no figures, only results");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) != 0) return 2;
    return std::cout.flush() ? 0 : report("cannot write to standard output");  // --help, --version
  }
  try {
    action();
  } catch (const std::bad_alloc&) {
    return report("out of memory");
  } catch (const std::exception& error) {
    return report(error.what());
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return report("cannot write to standard output");
  if (weft::cli::quiet()) return 0;
  for (const std::string& line : weft::cli::remarks()) fmt::print(stderr, "weft: {}\n", line);
  return 0;
}
