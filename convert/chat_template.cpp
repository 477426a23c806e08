#include "convert/chat_template.h"

#include <filesystem>
#include <map>

#include "convert/json_parse.h"
#include "convert/mapped_file.h"
#include "convert/printable.h"

namespace weft {
namespace {

constexpr std::string_view kDefault = "default";
constexpr size_t kMostTemplates = 64;

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 100 && printable(name) == name && name.find(' ') == name.npos;
}

std::map<std::string, std::string> from_config(std::string_view text, const std::string& where) {
  std::map<std::string, std::string> templates;
  if (text.empty()) return templates;
  const nlohmann::json config = parse_json(text, where);
  const auto field = config.is_object() ? config.find("chat_template") : config.end();
  if (field == config.end() || field->is_null()) return templates;
  if (field->is_string()) {
    templates.emplace(kDefault, field->get<std::string>());
    return templates;
  }
  require(field->is_array() && field->size() <= kMostTemplates,
          "{}: chat_template is neither text nor a list of up to {}", where, kMostTemplates);
  for (const nlohmann::json& entry : *field) {
    const bool whole = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                       entry.contains("template") && entry["template"].is_string();
    require(whole, "{}: an entry of chat_template has no name and template", where);
    const auto name = entry["name"].get<std::string>();
    require(is_name(name), "{}: a chat template is called '{}'", where, printable(name));
    templates.insert_or_assign(name, entry["template"].get<std::string>());
  }
  return templates;
}

}  // namespace

void read_chat_templates(const std::string& folder, std::string_view tokenizer_config, Metadata& metadata) {
  namespace fs = std::filesystem;
  auto templates = from_config(tokenizer_config, folder + "/tokenizer_config.json");
  std::error_code ignored;
  if (const std::string path = folder + "/chat_template.jinja"; fs::is_regular_file(path, ignored)) {
    templates.insert_or_assign(std::string(kDefault), std::string(MappedFile(path).text()));
  }
  for (const auto& entry : fs::directory_iterator(folder + "/additional_chat_templates", ignored)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() != ".jinja" || !is_name(name) || templates.size() >= kMostTemplates) continue;
    templates.insert_or_assign(name, std::string(MappedFile(entry.path().string()).text()));
  }
  std::vector<std::string> names;
  for (auto& [name, text] : templates) {
    if (name == kDefault || templates.size() == 1) {
      metadata.set("tokenizer.chat_template", std::move(text));
    } else {
      metadata.set(fmt::format("tokenizer.chat_template.{}", name), std::move(text));
      names.push_back(name);
    }
  }
  if (!names.empty()) metadata.set("tokenizer.chat_templates", MetaArray(std::move(names)));
}

}  // namespace weft
