#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "backends/all.h"
#include "convert/lora_file.h"
#include "convert/mapped_file.h"
#include "convert/open_model.h"
#include "convert/quantized.h"
#include "convert/tokenizer_json.h"
#include "examples/cli/commands.h"
#include "ops/quant/find.h"

namespace weft::cli {

bool& quiet() {
  static bool value = false;
  return value;
}

bool shows_progress() { return !quiet() && isatty(STDERR_FILENO) != 0; }

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

/// "blk.N" and what comes after stay with the cpu.
std::vector<std::pair<std::string, std::string>> layers_on_cpu(int64_t first, int64_t n_layers) {
  std::vector<std::pair<std::string, std::string>> rules;
  for (int64_t i = first; i < n_layers; ++i) rules.emplace_back(fmt::format("blk.{}.*", i), "cpu");
  return rules;
}

}  // namespace

void say_without_gpu(const Runtime& runtime, const RunOptions& options) {
  if (options.backend != "auto" || quiet()) return;
  try {
    runtime.devices("cuda");
  } catch (const Error& error) {
    fmt::print(stderr, "weft: on the cpu: {}\n", error.what());
  }
}

std::unique_ptr<Runtime> make_runtime(int threads, bool per_op_table, size_t gpu_memory, bool deterministic) {
  Env env = Env::from_process();
  if (per_op_table) env.debug = std::max(env.debug, 2);
  auto backends = make_backends(env, {.threads = threads, .gpu_memory = gpu_memory, .deterministic = deterministic});
  return std::make_unique<Runtime>(std::move(env), std::move(backends));
}

std::string model_path(const std::string& given) {
  if (!given.empty()) return given;
  constexpr std::string_view kName = "union-q8_0.gguf";
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  for (const std::filesystem::path& folder :
       {self.parent_path().parent_path() / "share" / "weft", std::filesystem::path(WEFT_SOURCE_DATA)}) {
    if (std::filesystem::exists(folder / kName, error)) return (folder / kName).string();
  }
  fail("no model given, and the bundled one ({}) is not where weft was built or installed", kName);
}

void add_model(CLI::App& command, std::string& model) {
  command.add_option("model", model,
                     "A .gguf file, its first shard, or a Hugging Face folder (default: the bundled model)");
}

void add_run_options(CLI::App& command, RunOptions& options, const char* default_precision) {
  options.precision = default_precision;
  add_model(command, options.model);
  command.add_option("--backend", options.backend, "auto, cuda, cpu or ref")->capture_default_str();
  command
      .add_option("--threads", options.threads,
                  "Threads of the cpu backend (default: physical performance cores allowed)")
      ->check(CLI::Range(1, 1024));
  command
      .add_option("--precision", options.precision,
                  "exact: f32 throughout; fast: 16-bit KV cache and activations allowed")
      ->check(CLI::IsMember({"exact", "fast"}))
      ->capture_default_str();
  command.add_option("--kv-type", options.kv_type, "f32, f16, bf16 or q8_0 (default: f32 for exact, f16 for fast)")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "q8_0"}));
  command.add_option("--ctx", options.context, "Tokens of context (default: what the model was made for)")
      ->check(CLI::PositiveNumber);
  command.add_option("--gpu-memory", options.gpu_memory, "GPU memory that may be used, or auto")->capture_default_str();
  command.add_option("--gpu-layers", options.gpu_layers, "Layers kept on the GPU");
  command.add_option("--place", options.place, "PATTERN=device: places the nodes whose name matches")->take_all();
  command
      .add_option("--lora", options.adapters,
                  "FILE[=scale]: applies an adapter (a PEFT folder or a GGUF) while running; repeatable")
      ->take_all();
  command.add_option("--quantize", options.quantize,
                     "Quantizes while loading: a type or a mix, as convert --type takes them");
  command.add_flag("--deterministic", options.deterministic,
                   "Bit-identical logits whatever the threads, and on the cpu the chunks and batches");
  command.add_flag("--no-pack", options.no_pack,
                   "Runs from the mapped file, without packed copies: slower, and in f32");
  command.add_flag("--fallback", options.fallback, "Runs every op in its lowered form");
  command.add_flag("--explain", options.explain,
                   "Prints the plan of a decoding step: node, kernel, device, bytes, time");
}

Engine::Engine(const RunOptions& options, int64_t max_sequences, StepObserver* observer)
    : runtime_(make_runtime(options.threads, options.per_op_table, parse_gpu_memory(options.gpu_memory),
                            options.deterministic)) {
  if (options.gpu_memory != "auto" || options.gpu_layers > 0) runtime_->devices("cuda");  // or says why there is none
  std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(model_path(options.model));
  if (!options.quantize.empty()) {
    checkpoint = quantized(std::move(checkpoint), {.type = options.quantize});
  }
  model_ = std::make_unique<Model>(checkpoint);
  for (const std::string& adapter : options.adapters) model_->adapt(read_lora(parse_lora(adapter), *checkpoint));
  SessionOptions session{.backend = options.backend,
                         .precision = parse_precision(options.precision),
                         .kv_type = options.kv_type.empty() ? DType{} : quant::find(options.kv_type),
                         .context = options.context,
                         .enough = options.enough,
                         .max_sequences = max_sequences,
                         .fallback = options.fallback,
                         .pack = !options.no_pack,
                         .place = {},
                         .observer = observer};
  for (const std::string& rule : options.place) {
    const size_t equals = rule.rfind('=');
    require(equals != std::string::npos && equals > 0, "--place {}: expected PATTERN=device", rule);
    session.place.emplace_back(rule.substr(0, equals), rule.substr(equals + 1));
  }
  if (options.gpu_layers >= 0) {
    const auto rules = layers_on_cpu(options.gpu_layers, model_->shape().n_layer);
    session.place.insert(session.place.end(), rules.begin(), rules.end());
  }
  session_ = std::make_unique<Session>(*model_, *runtime_, std::move(session));
  if (!options.no_pack && !session_->packs() && !quiet()) {
    fmt::print(stderr, "weft: packed copies of the weights do not fit in memory: running from the mapped file\n");
  }
  if (!options.explain) return;
  runtime_->calibrate(session_->devices(), model_->weight_bytes());
  fmt::print(stderr, "{}", dump_plan(session_->decode_plan()));
}

const Tokenizer& Engine::tokenizer() {
  if (!tokenizer_) {
    auto spec = TokenizerSpec::from_metadata(model_->metadata());
    require(spec.has_value(), "{}: the file has no vocabulary", model_->path());
    tokenizer_.emplace(std::move(*spec));
  }
  return *tokenizer_;
}

Tokenizer open_tokenizer(const std::string& path) {
  if (path.ends_with(".json")) {
    const MappedFile file(path);
    const auto bytes = file.bytes();
    const std::string folder = std::filesystem::path(path).parent_path().string();
    const std::string config_path = (folder.empty() ? "." : folder) + "/tokenizer_config.json";
    std::optional<MappedFile> config;
    if (std::filesystem::exists(config_path)) config.emplace(config_path);
    const auto text = [](std::span<const std::byte> b) {
      return std::string_view(reinterpret_cast<const char*>(b.data()), b.size());
    };
    return Tokenizer(read_tokenizer_json(text(bytes), path, config ? text(config->bytes()) : ""));
  }
  const auto checkpoint = open_checkpoint(path);
  auto spec = TokenizerSpec::from_metadata(checkpoint->metadata());
  require(spec.has_value(), "{}: the file has no vocabulary", path);
  return Tokenizer(std::move(*spec));
}

}  // namespace weft::cli
