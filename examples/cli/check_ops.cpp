#include <filesystem>

#include "convert/golden_ops.h"
#include "examples/cli/commands.h"
#include "graph/passes/passes.h"
#include "graph/runner.h"

namespace weft::cli {
namespace {

constexpr double kTolerance = 1e-5;  // of the output's scale: the contract at exact precision

struct CheckOpsArguments {
  std::vector<std::string> paths;
  std::string backend = "auto";
  int threads = 0;
  bool fallback = false;
};

/// Worst error of the case over the tolerance.
double check_case(const GoldenCase& golden, Runtime& runtime, const CheckOpsArguments& options) {
  Graph graph;
  golden.build(graph);
  int64_t capacity = 1;
  for (const auto& step : golden.steps()) capacity = std::max<int64_t>(capacity, step.tokens);
  CompileOptions compile_options = CompileOptions::from(runtime.env());
  compile_options.fallback |= options.fallback;
  compile_options.coarsest = Arithmetic::f32;
  compile_options.workload = {.tokens = capacity, .logits = capacity, .kv_length = capacity};
  Memory memory;
  Runner runner(compile(graph, runtime.devices(options.backend), compile_options), runtime, memory);
  double worst = 0;
  for (const auto& step : golden.steps()) {
    for (const auto& feed : step.feeds) {
      if (runner.reads_input(feed.input)) runner.write(feed.input, feed.bytes.data(), feed.bytes.size());
    }
    runner.run({.tokens = step.tokens, .logits = step.tokens});
    for (const auto& expected : step.expected) {
      const TensorType& type = runner.output_type(expected.output);
      std::vector<std::byte> got(type.bytes());
      runner.read(expected.output, got.data(), got.size());
      worst = std::max(worst, golden_error(type, got.data(), expected) / kTolerance);
    }
  }
  return worst;
}

void check_ops(const CheckOpsArguments& options) {
  std::vector<std::string> files;
  for (const std::string& path : options.paths) {
    if (std::filesystem::is_directory(path)) {
      const auto in_folder = golden_files(path);
      require(!in_folder.empty(), "{}: no golden files in it", path);
      files.insert(files.end(), in_folder.begin(), in_folder.end());
    } else {
      files.push_back(path);
    }
  }
  const auto runtime = make_runtime({.backend = options.backend, .threads = options.threads});
  int passed = 0, failed = 0;
  for (const std::string& file : files) {
    std::string name = std::filesystem::path(file).filename().string();
    try {
      const GoldenCase golden(file);
      name = golden.name();
      const double worst = check_case(golden, *runtime, options);
      const bool ok = worst <= 1;
      (ok ? passed : failed) += 1;
      fmt::print("{} {:<40} {:.4f} of tolerance\n", ok ? "ok  " : "FAIL", name, worst);
    } catch (const Error& error) {
      ++failed;
      fmt::print("FAIL {:<40} {}\n", name, error.what());
    }
  }
  fmt::print("{} passed, {} failed\n", passed, failed);
  require(failed == 0, "check-ops: {} of {} cases failed", failed, passed + failed);
}

}  // namespace

void add_check_ops(CLI::App& app, Action& action) {
  auto options = std::make_shared<CheckOpsArguments>();
  CLI::App* command = app.add_subcommand("check-ops", "Checks the ops against golden files");
  command->add_option("path", options->paths, "Golden op files or folders of them")->required();
  command->add_option("--backend", options->backend, "auto, cuda, cpu or ref")->capture_default_str();
  command->add_option("--threads", options->threads, "Threads of the cpu backend")->check(CLI::Range(1, 1024));
  command->add_flag("--fallback", options->fallback, "Runs the lowered form");
  command->callback([options, &action] { action = [options] { check_ops(*options); }; });
}

}  // namespace weft::cli
