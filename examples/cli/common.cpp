#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "convert/mapped_file.h"
#include "convert/open_model.h"
#include "convert/tokenizer_json.h"
#include "examples/cli/commands.h"

namespace weft::cli {

bool& quiet() {
  static bool value = false;
  return value;
}

bool shows_progress() { return !quiet() && isatty(STDERR_FILENO) != 0; }

std::vector<std::string>& remarks() {
  static std::vector<std::string> lines;
  return lines;
}

void remark(std::string line) {
  if (std::ranges::find(remarks(), line) == remarks().end()) remarks().push_back(std::move(line));
}

std::unique_ptr<Runtime> make_runtime(const BackendOptions& options, bool per_op_table) {
  Env env = Env::from_process();
  if (per_op_table) env.debug = std::max(env.debug, 2);
  auto backends = make_backends(env, options);
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
  command
      .add_option("--ctx", options.context,
                  "Tokens of context (default: what the command needs, 8192 where that is not known; at most what the "
                  "model was made for)")
      ->check(CLI::PositiveNumber);
  command.add_option("--gpu-memory", options.gpu_memory, "GPU memory that may be used, or auto")->capture_default_str();
  command
      .add_option("--gpu-layers", options.gpu_layers,
                  "Layers kept on the GPU, the first ones, as far as they fit; the others run on the cpu")
      ->check(CLI::NonNegativeNumber);
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
                   "Prints a decoding step: node, device, kernel, bytes, time predicted and measured, and why there");
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
