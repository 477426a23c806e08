// Hugging Face's tokenizer.json.
#pragma once

#include <string_view>

#include "models/session/tokenizer_spec.h"

namespace weft {

/// Reads a BPE tokenizer, byte-level or SentencePiece-like. `config_text`, where there is one, is
/// tokenizer_config.json: it names bos, eos and the like and says whether they are added, unless a template in
/// tokenizer.json does; without it they are told by their usual names. "truncation" and "padding" are of no concern
/// here and passed over. Throws Error beginning with `where` if the text is malformed or asks for what weft does not
/// do.
TokenizerSpec read_tokenizer_json(std::string_view json_text, std::string_view where,
                                  std::string_view config_text = {});

}  // namespace weft
