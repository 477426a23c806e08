#include "convert/convert.h"

#include <chrono>
#include <cstdio>
#include <map>

#include "convert/open_model.h"
#include "examples/cli/commands.h"
#include "ops/quant/find.h"

namespace weft::cli {
namespace {

struct Options {
  std::string source, output, type;
  bool dry_run = false, no_fallback = false;
};

void print_forecast(const ConvertPlan& plan) {
  std::map<std::string_view, std::pair<size_t, size_t>> by_type;  // tensors, bytes
  for (const PlannedTensor& t : plan.tensors) {
    auto& [count, bytes] = by_type[t.to.dtype.name()];
    ++count;
    bytes += t.to.bytes();
    if (t.fell_back) {
      fmt::print("{}: rows of {} are not whole blocks, written as {}\n", t.name, t.from.shape.columns(),
                 t.to.dtype.name());
    }
  }
  for (const auto& [name, entry] : by_type) {
    fmt::print("{:<8} {:>5} tensors {:>12}\n", name, entry.first, size_text(static_cast<double>(entry.second)));
  }
  fmt::print("{} in all, {:.2f} bits per weight\n", size_text(static_cast<double>(plan.bytes)), plan.bits_per_weight());
}

void convert_model(const Options& options) {
  const DType type = quant::find(options.type);
  require(options.type.empty() || type, "--type {}: no such type", options.type);
  const auto source = open_checkpoint(options.source);
  const ConvertPlan plan = plan_conversion(*source, {.type = type, .fallback = !options.no_fallback});
  if (!quiet() || options.dry_run) print_forecast(plan);
  if (options.dry_run) return;
  const auto start = std::chrono::steady_clock::now();
  double last_drawn = 0;
  write_gguf(*source, plan, options.output, [&](size_t done) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!shows_progress() || (seconds - last_drawn < 0.1 && done < plan.bytes)) return;
    last_drawn = seconds;
    const double rate = static_cast<double>(done) / std::max(seconds, 1e-6);
    const double left = static_cast<double>(plan.bytes - done) / std::max(rate, 1.0);
    fmt::print(stderr, "\r{:3.0f}%  {}/s  {:.0f} s left \033[K",
               100.0 * static_cast<double>(done) / static_cast<double>(plan.bytes), size_text(rate), left);
    if (done == plan.bytes) fmt::print(stderr, "\r\033[K");
  });
  if (!quiet()) fmt::print("wrote {}\n", options.output);
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Writes a model as GGUF");
  command->add_option("source", options->source, "A Hugging Face folder or a GGUF")->required();
  command->add_option("-o,--output", options->output, "The file to write");
  command->add_option("--type", options->type,
                      "Type of the matrices: f32, f16, bf16, q8_0, q4_0, ... (default: as in the source)");
  command->add_flag("--dry-run", options->dry_run, "Prints the forecast and writes nothing");
  command->add_flag("--no-fallback", options->no_fallback, "A row that no block divides is an error, not f16");
  command->callback([options, &action] {
    if (options->output.empty() && !options->dry_run) throw CLI::RequiredError("--output or --dry-run");
    action = [options] { convert_model(*options); };
  });
}

}  // namespace weft::cli
