#include "convert/imatrix_file.h"
#include "examples/cli/commands.h"
#include "examples/cli/windows.h"
#include "models/session/importance.h"

namespace weft::cli {
namespace {

struct ImatrixArguments {
  RunOptions run;
  std::string file, output;
  int64_t window = 512, chunks = -1;
};

/// Runs the text through the lowered model, window by window, and writes what each weight was multiplied with.
void measure_importance(ImatrixArguments options) {
  ImportanceMatrix matrix;
  ImportanceObserver observer(matrix);
  options.run.context = options.window;
  options.run.fallback = true;
  Engine engine(options.run, 1, &observer);
  Session& session = engine.session();
  const Windows windows = read_windows(options.file, engine.tokenizer(), options.window, options.chunks);
  const int sequence = session.open_sequence();
  for (int64_t i = 0; i < windows.n; ++i) {
    session.truncate(sequence, 0);
    const Feed feed{sequence, windows.window(i)};
    session.step({&feed, 1});
    if (shows_progress()) fmt::print(stderr, "\r{} of {} windows\033[K", i + 1, windows.n);
  }
  if (shows_progress()) fmt::print(stderr, "\r\033[K");
  write_imatrix(options.output, matrix,
                {options.file, static_cast<uint32_t>(windows.n), static_cast<uint32_t>(options.window)});
  if (!quiet()) {
    fmt::print("{} tokens through {} weights; wrote {}\n", windows.n * options.window, matrix.entries().size(),
               options.output);
  }
}

}  // namespace

void add_imatrix(CLI::App& app, Action& action) {
  auto options = std::make_shared<ImatrixArguments>();
  CLI::App* command =
      app.add_subcommand("imatrix", "Measures which columns of the weights matter, for convert --imatrix");
  add_run_options(*command, options->run, "exact");
  command->remove_option(command->get_option("--ctx"));
  command->remove_option(command->get_option("--fallback"));
  command->add_option("-f,--file", options->file, "A text like what the model will read")->required();
  command->add_option("-o,--output", options->output, "The file to write")->required();
  command->add_option("--ctx", options->window, "Tokens of a window")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--chunks", options->chunks, "Windows (default: all)")->check(CLI::PositiveNumber);
  command->callback([options, &action] { action = [options] { measure_importance(*options); }; });
}

}  // namespace weft::cli
