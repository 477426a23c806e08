// The chat templates of a Hugging Face folder, carried over as text; nothing here runs one.
#pragma once

#include <string>
#include <string_view>

#include "models/metadata.h"

namespace weft {

/// From chat_template.jinja, or the field chat_template of tokenizer_config.json: one template, or a list of {name,
/// template}; and additional_chat_templates/NAME.jinja. Sets tokenizer.chat_template (the one named "default", or the
/// only one), tokenizer.chat_template.NAME and tokenizer.chat_templates (the names). Throws Error, the file in front,
/// if a template is no text.
void read_chat_templates(const std::string& folder, std::string_view tokenizer_config, Metadata& metadata);

}  // namespace weft
