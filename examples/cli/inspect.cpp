#include "convert/open_model.h"
#include "examples/cli/commands.h"
#include "graph/passes/passes.h"
#include "ops/catalogue.h"

namespace weft::cli {
namespace {

struct InspectArguments {
  RunOptions run;
  bool ops = false, env = false, devices = false, plan = false;
};

std::string slot_text(const SlotSpec& slot) {
  switch (slot.kind) {
    case SlotKind::one:
      return std::string(slot.name);
    case SlotKind::optional:
      return fmt::format("{}?", slot.name);
    case SlotKind::list:
      return fmt::format("{}*", slot.name);
    case SlotKind::optional_list:
      return fmt::format("{}*?", slot.name);
  }
  return {};
}

void print_ops() {
  for (const Schema* op : all_schemas()) {
    std::string in, out;
    for (const SlotSpec& slot : op->inputs) in += (in.empty() ? "" : ", ") + slot_text(slot);
    for (const OutputSpec& output : op->outputs) out += (out.empty() ? "" : ", ") + std::string(output.name);
    fmt::print("{}({}) -> {}{}\n{}\n\n", op->name, in, out, op->primitive() ? "   [primitive]" : "", op->doc);
  }
}

void print_env() {
  for (const Switch& s : switches()) fmt::print("{}={}\n    {}\n", s.name, s.values, s.doc);
}

void print_devices(int threads) {
  const auto runtime = make_runtime({.threads = threads});
  for (const Device& device : runtime->devices()) {
    const DeviceInfo& info = device.info();
    runtime->calibrate({&device, 1}, 0, /*anew=*/true);
    fmt::print("{}: {}, {} free\n    reads {:.1f} GB/s, f32 arithmetic {:.1f} GFLOP/s", info.name, info.description,
               size_text(info.memory_bytes), info.bandwidth_gbps, info.gflops);
    if (info.half_gflops > 0) fmt::print(", 16-bit {:.1f}", info.half_gflops);
    if (info.int8_gops > 0) fmt::print(", 8-bit {:.1f}", info.int8_gops);
    fmt::print("\n{}", device.backend->limits_table(device.index));
  }
}

void print_model(const RunOptions& options) {
  const auto checkpoint = open_checkpoint(model_path(options.model));
  fmt::print("{}\n\nmetadata\n", checkpoint->path());
  for (const auto& [key, value] : checkpoint->metadata().entries()) {
    fmt::print("  {} = {}\n", key, to_string(value, 6));
  }
  size_t bytes = 0, elements = 0;
  fmt::print("\ntensors\n");
  for (const std::string& name : checkpoint->tensor_names()) {
    const TensorType& type = *checkpoint->type(name);
    fmt::print("  {:<32} {:<24} {:>12}\n", name, to_string(type), size_text(type.bytes()));
    bytes += type.bytes();
    elements += static_cast<size_t>(type.elements());
  }
  fmt::print("  {} tensors, {} weights, {}, {:.2f} bits per weight\n", checkpoint->tensor_names().size(), elements,
             size_text(bytes), elements == 0 ? 0.0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(elements));

  Engine engine(options);
  fmt::print("\npredicted memory for a context of {} tokens\n{}", engine.session().context(),
             engine.session().memory_forecast());
}

void inspect(const InspectArguments& options) {
  if (options.ops) print_ops();
  if (options.env) print_env();
  if (options.devices) print_devices(options.run.threads);
  if (options.plan) {
    Engine engine(options.run);
    engine.runtime().calibrate(engine.session().devices(), engine.model().weight_bytes());
    fmt::print("{}", engine.session().explain());
  }
  if (!options.ops && !options.env && !options.devices && !options.plan) print_model(options.run);
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto options = std::make_shared<InspectArguments>();
  CLI::App* command = app.add_subcommand("inspect", "Shows a model, or what weft itself offers");
  add_run_options(*command, options->run, "fast");
  command->add_flag("--ops", options->ops, "Prints the op catalogue");
  command->add_flag("--env", options->env, "Prints the environment switches");
  command->add_flag("--devices", options->devices, "Prints the devices, and measures how fast they read and compute");
  command->add_flag("--plan", options->plan, "Prints the plan of a decoding step");
  command->callback([options, &action] { action = [options] { inspect(*options); }; });
}

}  // namespace weft::cli
