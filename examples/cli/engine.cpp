// Engine: from the options of a command to a session.
#include "convert/lora_file.h"
#include "convert/open_model.h"
#include "convert/quantized.h"
#include "examples/cli/commands.h"
#include "ops/quant/find.h"

namespace weft::cli {
namespace {

/// Bytes of "auto" (all there is), "8G", "512M", "64K" or a number.
size_t parse_gpu_memory(const std::string& text) {
  if (text == "auto") return SIZE_MAX;
  size_t used = 0;
  double size = -1;
  try {
    size = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  double factor = 0;
  if (unit.empty()) factor = 1;
  else if (unit == "K") factor = 1 << 10;
  else if (unit == "M") factor = 1 << 20;
  else if (unit == "G") factor = 1 << 30;
  require(used > 0 && size >= 0 && factor > 0 && size * factor < 1e18,
          "--gpu-memory {}: expected auto or a size such as 8G, 512M or 64K", text);
  return static_cast<size_t>(size * factor);
}

PlaceRule parse_place(const std::string& rule) {
  const size_t equals = rule.rfind('=');
  require(equals != std::string::npos && equals > 0, "--place {}: expected PATTERN=device", rule);
  return {rule.substr(0, equals), rule.substr(equals + 1)};
}

}  // namespace

Engine::Engine(RunOptions options, int64_t max_sequences, StepObserver* observer)
    : options_(std::move(options)),
      max_sequences_(max_sequences),
      observer_(observer),
      runtime_(make_runtime({.backend = options_.backend,
                             .threads = options_.threads,
                             .gpu_memory = parse_gpu_memory(options_.gpu_memory),
                             .deterministic = options_.deterministic},
                            options_.per_op_table)) {
  if (options_.gpu_memory != "auto") require_gpu();
  std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(model_path(options_.model));
  if (!options_.quantize.empty()) {
    checkpoint = quantized(std::move(checkpoint), {.type = options_.quantize});
  }
  model_ = std::make_unique<Model>(checkpoint);
  for (const std::string& adapter : options_.adapters) model_->adapt(read_lora(parse_lora(adapter), *checkpoint));
}

/// Or says why there is none, if it was not left out.
void Engine::require_gpu() const {
  if (options_.backend == "auto" || options_.backend == "cuda") runtime_->devices("cuda");
}

Session& Engine::session() {
  if (session_) return *session_;
  SessionOptions session{.backend = options_.backend,
                         .precision = parse_precision(options_.precision),
                         .kv_type = options_.kv_type.empty() ? DType{} : quant::find(options_.kv_type),
                         .context = options_.context,
                         .max_sequences = max_sequences_,
                         .fallback = options_.fallback,
                         .pack = !options_.no_pack,
                         .place = {},
                         .gpu_layers = options_.gpu_layers,
                         .observer = observer_};
  if (options_.enough > 0) session.enough = options_.enough;
  for (const std::string& rule : options_.place) session.place.push_back(parse_place(rule));
  if (options_.gpu_layers.value_or(0) > 0) require_gpu();
  session_ = std::make_unique<Session>(*model_, *runtime_, std::move(session));
  remark_placement();
  if (options_.explain) {
    runtime_->calibrate(session_->devices(), model_->weight_bytes());
    fmt::print(stderr, "{}", session_->explain());
  }
  return *session_;
}

/// What the user may not expect of where the model runs.
void Engine::remark_placement() const {
  if (!options_.no_pack && !session_->packs()) {
    remark("packed copies of the weights do not fit in memory: running from the mapped file");
  }
  for (const PlaceRule& rule : session_->idle_rules()) remark(fmt::format("{}: no node matches it", rule.text()));
  const int64_t asked = std::min(options_.gpu_layers.value_or(0), model_->shape().n_layer);
  if (session_->gpu_layers().value_or(asked) < asked) {
    remark(fmt::format("--gpu-layers {}: {} of them fit in the GPU's memory", *options_.gpu_layers,
                       *session_->gpu_layers()));
  }
  if (options_.backend != "auto") return;
  if (!session_->why_on_host().empty()) remark("on the cpu: " + session_->why_on_host());
  try {
    runtime_->devices("cuda");
  } catch (const Error& error) {
    remark(fmt::format("on the cpu: {}", error.what()));
  }
}

const Tokenizer& Engine::tokenizer() {
  if (!tokenizer_) {
    auto spec = TokenizerSpec::from_metadata(model_->metadata());
    require(spec.has_value(), "{}: the file has no vocabulary", model_->path());
    tokenizer_.emplace(std::move(*spec));
  }
  return *tokenizer_;
}

}  // namespace weft::cli
