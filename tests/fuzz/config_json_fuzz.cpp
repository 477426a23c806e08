// config.json: what is accepted must give metadata that its architecture can read.
#include "convert/json.h"
#include "models/architecture.h"
#include "models/rope_scaling.h"
#include "tests/fuzz/entries.h"

namespace weft::fuzz {

bool config_json(std::string_view bytes) {
  try {
    const HfConfig config(flatten_json(bytes, "config.json"));
    const Architecture& architecture = find_hf_architecture(config.text("model_type"));
    const Metadata keys = architecture.from_hf(config);
    const ModelShape shape = architecture.shape(keys);
    if (shape.n_layer > 100) return false;  // the readers ask for as many tensors first
    architecture.tensors(keys);
    if (architecture.derived_from_hf != nullptr) architecture.derived_from_hf(config);
    rope_scaling(keys, architecture.name, 16, 10000);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace weft::fuzz

WEFT_FUZZ_TARGET(weft::fuzz::config_json)
