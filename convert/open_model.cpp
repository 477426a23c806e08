#include "convert/open_model.h"

#include <filesystem>

#include "convert/gguf_reader.h"
#include "convert/hf_checkpoint.h"

namespace weft {

std::shared_ptr<const Checkpoint> open_checkpoint(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return std::make_shared<HfCheckpoint>(path);
  return std::make_shared<GgufFile>(path);
}

}  // namespace weft
