// LoRA adapters as files: PEFT's folders and GGUF.
#pragma once

#include <string>
#include <string_view>

#include "models/lora.h"

namespace weft {

/// What `--lora FILE[=scale]` names.
struct LoraSource {
  std::string path;
  float scale = 1;
};
LoraSource parse_lora(std::string_view text);

/// Reads an adapter for a model with this checkpoint's metadata and tensors. FILE is a PEFT folder
/// (adapter_config.json, adapter_model.safetensors or .bin), the weights in one, or a GGUF with general.type = adapter.
/// The factors go through what the base weights go through from Hugging Face to GGUF. Throws Error, the path in front:
/// another architecture, a tensor the model lacks, shapes that do not fit, a field of adapter_config.json that changes
/// the maths. Source: PEFT 0.17's LoraConfig and save_pretrained; the GGUF format document on adapters.
LoraAdapter read_lora(const LoraSource& source, const Checkpoint& base);

}  // namespace weft
