#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "convert/safetensors.h"
#include "convert/safetensors_writer.h"
#include "examples/cli/commands.h"
#include "ops/quant/f32.h"

namespace weft::cli {
namespace {

struct EvalArguments {
  RunOptions run;
  std::string ids, ids_file, logits;
  int64_t chunk = 0, n_predict = 0;
};

std::vector<int32_t> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  while (true) {
    const size_t comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    int32_t id = 0;
    const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), id);
    require(error == std::errc() && end == item.data() + item.size(), "--ids: '{}' is not a token id", item);
    ids.push_back(id);
    if (comma == std::string_view::npos) return ids;
    text.remove_prefix(comma + 1);
  }
}

std::vector<int32_t> read_ids(const std::string& path) {
  const SafetensorsFile file(path);
  const LoadedTensor tensor = file.load("input_ids");
  require(tensor->type.dtype == DType(quant::i32), "{}: input_ids is {}, expected I32", path,
          tensor->type.dtype.name());
  std::vector<int32_t> ids(static_cast<size_t>(tensor->type.elements()));
  std::memcpy(ids.data(), tensor->data, ids.size() * sizeof(int32_t));
  return ids;
}

void evaluate(const EvalArguments& options) {
  const std::vector<int32_t> ids = options.ids_file.empty() ? parse_ids(options.ids) : read_ids(options.ids_file);
  require(!ids.empty(), "eval: there are no ids");
  RunOptions run = options.run;
  run.enough = static_cast<int64_t>(ids.size()) + std::max<int64_t>(0, options.n_predict - 1);
  Engine engine(run);
  Session& session = engine.session();
  const int sequence = session.open_sequence(static_cast<int64_t>(ids.size()));
  const auto n_vocab = static_cast<size_t>(session.n_vocab());
  require(run.enough <= session.context(), "eval: {} ids and {} to predict do not fit the context of {}", ids.size(),
          options.n_predict, session.context());

  const size_t chunk = options.chunk > 0 ? static_cast<size_t>(options.chunk) : ids.size();
  std::vector<float> logits;
  logits.reserve(options.logits.empty() ? n_vocab : ids.size() * n_vocab);
  for (size_t at = 0; at < ids.size(); at += chunk) {
    const Feed feed{sequence, std::span(ids).subspan(at, std::min(chunk, ids.size() - at)), !options.logits.empty()};
    const auto rows = session.step({&feed, 1});
    if (options.logits.empty()) logits.clear();
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  if (!options.logits.empty()) {
    const Tensor tensor{{quant::f32, {static_cast<int64_t>(ids.size()), session.n_vocab()}},
                        reinterpret_cast<std::byte*>(logits.data())};
    write_safetensors(options.logits, {{"logits", tensor}});
  }
  if (options.n_predict <= 0) return;
  std::vector<int32_t> greedy;
  std::span<const float> row = std::span(logits).last(n_vocab);
  while (true) {
    greedy.push_back(static_cast<int32_t>(std::ranges::max_element(row) - row.begin()));
    if (static_cast<int64_t>(greedy.size()) == options.n_predict) break;
    const Feed feed{sequence, std::span(greedy).last(1)};
    row = session.step({&feed, 1});
  }
  fmt::print("greedy {}\n", fmt::join(greedy, ","));
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalArguments>();
  CLI::App* command = app.add_subcommand("eval", "Runs a forward pass over token ids and writes the logits");
  add_run_options(*command, options->run, "exact");
  auto* ids = command->add_option("--ids", options->ids, "Token ids, separated by commas");
  auto* file = command->add_option("--ids-file", options->ids_file, "A safetensors file with the tensor input_ids");
  ids->excludes(file);
  command->add_option("--logits", options->logits, "Where to write the tensor logits, f32 [ids, vocab]");
  command->add_option("--chunk", options->chunk, "Ids fed a step, through the KV cache (default: all at once)")
      ->check(CLI::PositiveNumber);
  command->add_option("-n,--n-predict", options->n_predict, "Greedy tokens to predict and print")
      ->check(CLI::NonNegativeNumber);
  command->callback([options, ids, file, &action] {
    if (ids->count() + file->count() != 1) throw CLI::RequiredError("--ids or --ids-file");
    action = [options] { evaluate(*options); };
  });
}

}  // namespace weft::cli
