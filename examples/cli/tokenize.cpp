#include <nlohmann/json.hpp>

#include "convert/mapped_file.h"
#include "examples/cli/commands.h"

namespace weft::cli {
namespace {

struct TokenizeArguments {
  std::string model, text, cases;
  bool no_special = false;
};

nlohmann::json read_json(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  auto json = nlohmann::json::parse(text, text + bytes.size(), nullptr, false);
  require(json.is_array(), "{}: expected a JSON list of cases", path);
  return json;
}

void check_cases(const Tokenizer& tokenizer, const std::string& path) {
  int passed = 0, failed = 0;
  for (const auto& item : read_json(path)) {
    require(item.is_object() && item.contains("text") && item.contains("ids"), "{}: a case needs text and ids", path);
    const auto text = item["text"].get<std::string>();
    const auto expected = item["ids"].get<std::vector<int32_t>>();
    const auto got = tokenizer.encode(text, {.add_special = false});
    const bool same_ids = got == expected;
    const bool same_text =
        !item.contains("decoded") || tokenizer.decode(expected) == item["decoded"].get<std::string>();
    if (same_ids && same_text) {
      ++passed;
      continue;
    }
    ++failed;
    fmt::print(
        "FAIL {}: {} {}, expected {}\n", item["text"].dump(), same_ids ? "decoded" : "ids",
        same_ids
            ? nlohmann::json(tokenizer.decode(expected)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
            : nlohmann::json(got).dump(),
        same_ids ? item["decoded"].dump() : item["ids"].dump());
  }
  fmt::print("{} passed, {} failed\n", passed, failed);
  require(failed == 0, "tokenize: {} of {} cases failed", failed, passed + failed);
}

void tokenize(const TokenizeArguments& options) {
  const Tokenizer tokenizer = open_tokenizer(model_path(options.model));
  if (!options.cases.empty()) {
    try {
      check_cases(tokenizer, options.cases);
    } catch (const nlohmann::json::exception& error) {
      fail("{}: {}", options.cases, error.what());
    }
    return;
  }
  fmt::print("{}\n", nlohmann::json(tokenizer.encode(options.text, {.add_special = !options.no_special})).dump());
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto options = std::make_shared<TokenizeArguments>();
  CLI::App* command = app.add_subcommand("tokenize", "Prints the token ids of a text");
  command->add_option("model", options->model, "A model or a tokenizer.json (default: the bundled model)");
  auto* text = command->add_option("--text", options->text, "The text");
  auto* cases = command->add_option("--cases", options->cases, "A JSON list of {text, ids, decoded} to check");
  text->excludes(cases);
  command->add_flag("--no-special", options->no_special, "Without the BOS and EOS that the model adds");
  command->callback([options, text, cases, &action] {
    if (text->count() + cases->count() != 1) throw CLI::RequiredError("--text or --cases");
    action = [options] { tokenize(*options); };
  });
}

}  // namespace weft::cli
