#include "convert/lora_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>

#include "convert/gguf_reader.h"
#include "convert/hf_layout.h"
#include "convert/json_parse.h"
#include "convert/printable.h"
#include "convert/safetensors.h"
#include "convert/torch_file.h"
#include "models/architecture.h"
#include "models/session/split_regex.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The values times `scale`, in f32, [rows, columns].
LoadedTensor as_f32(const LoadedTensor& from, float scale) {
  const Shape shape{from->type.shape.rows(), from->type.shape.columns()};
  auto [tensor, bytes] = allocate_tensor({quant::f32, shape});
  const std::span values(reinterpret_cast<float*>(bytes), static_cast<size_t>(shape.elements()));
  require(from->type.dtype->decode != nullptr, "a factor is {}", from->type.dtype.name());
  from->type.dtype->decode(from->data, values.data(), values.size());
  for (float& v : values) {
    v *= scale;
    require(std::isfinite(v), "a factor has values that are not finite");
  }
  return tensor;
}

// -- GGUF -----------------------------------------------------------------------------------------------------------

LoraAdapter read_gguf(const LoraSource& source, const Checkpoint& base) {
  const GgufFile file(source.path);
  const Metadata& metadata = file.metadata();
  require(metadata.text("general.type", "model") == "adapter", "general.type is {}, expected adapter",
          to_string(MetaValue(metadata.text("general.type", "model"))));
  require(metadata.text("adapter.type", "") == "lora", "adapter.type is {}, expected lora",
          to_string(MetaValue(metadata.text("adapter.type", ""))));
  const std::string &own = metadata.text("general.architecture"),
                    &wanted = base.metadata().text("general.architecture");
  require(own == wanted, "the adapter is for {}, the model is {}", to_string(MetaValue(own)), wanted);
  const double alpha = metadata.real("adapter.lora.alpha");
  LoraAdapter adapter{source.path, {}};
  for (const std::string& name : file.tensor_names()) {
    constexpr std::string_view kA = ".lora_a", kB = ".lora_b";
    const std::string tensor = name.substr(0, name.size() - std::min(name.size(), kA.size()));
    require(name.ends_with(kA) || name.ends_with(kB), "tensor {} is no factor of an adapter", printable(name));
    const std::string other = tensor + std::string(name.ends_with(kA) ? kB : kA);
    require(file.type(other) != nullptr, "tensor {} is missing", printable(other));
    if (name.ends_with(kB)) continue;
    const LoadedTensor a = file.load(name), b = file.load(other);
    const int64_t rank = b->type.shape.columns();
    const double scale =
        alpha == 0 ? source.scale : source.scale * alpha / static_cast<double>(std::max<int64_t>(rank, 1));
    adapter.pairs.push_back(
        {tensor, as_f32(a, 1).reshaped(a->type.shape), as_f32(b, static_cast<float>(scale)).reshaped(b->type.shape)});
  }
  return adapter;
}

// -- PEFT -----------------------------------------------------------------------------------------------------------

/// The fields of adapter_config.json that say how an adapter was made, or what the tensors themselves show.
constexpr std::string_view kNoMatter[] = {"auto_mapping",
                                          "base_model_name_or_path",
                                          "revision",
                                          "task_type",
                                          "inference_mode",
                                          "target_modules",
                                          "exclude_modules",
                                          "lora_dropout",
                                          "layers_to_transform",
                                          "layers_pattern",
                                          "peft_version",
                                          "peft_type",
                                          "r",
                                          "lora_alpha",
                                          "use_rslora",
                                          "rank_pattern",
                                          "alpha_pattern",
                                          "fan_in_fan_out",
                                          "bias",
                                          "init_lora_weights",
                                          "megatron_core",
                                          "qalora_group_size",
                                          "ensure_weight_tying",
                                          "arrow_config",
                                          "corda_config",
                                          "eva_config",
                                          "runtime_config",
                                          "loftq_config"};

bool is_off(const json& value) {
  return value.is_null() || value == false || value == "" || value == "none" ||
         ((value.is_array() || value.is_object()) && value.empty());
}

struct PeftConfig {
  json root;

  explicit PeftConfig(const std::string& path) {
    const MappedFile file(path);
    const auto bytes = file.bytes();
    root = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
    require(root.is_object(), "adapter_config.json is not an object");
    require(root.value("peft_type", json()) == "LORA", "peft_type is {}, expected LORA",
            printable(root.value("peft_type", json()).dump()));
    for (const auto& [key, value] : root.items()) {
      const bool known = std::ranges::find(kNoMatter, key) != std::end(kNoMatter);
      require(known || is_off(value), "{} is {}, which weft does not do", printable(key), printable(value.dump()));
    }
    require(is_off(root.value("bias", json())), "bias is {}, which weft does not do",
            printable(root.value("bias", json()).dump()));
    // These start from weights that are not the base model's.
    const json start = root.value("init_lora_weights", json(true));
    const bool plain =
        start.is_null() || start.is_boolean() || start == "gaussian" || start == "eva" || start == "orthogonal";
    require(plain, "init_lora_weights is {}, which changes the base weights", printable(start.dump()));
  }

  double number(std::string_view key, double otherwise) const {
    const auto it = root.find(key);
    if (it == root.end() || it->is_null()) return otherwise;
    require(it->is_number(), "{} is {}, expected a number", key, printable(it->dump()));
    return it->get<double>();
  }

  /// The entry of a pattern table whose key is the module's name, or ends it after a dot, as a regex. PEFT takes the
  /// first in the file's order; here all that match must agree.
  double of_module(std::string_view table, const std::string& module, double otherwise) const {
    const auto it = root.find(table);
    if (it == root.end() || is_off(*it)) return otherwise;
    require(it->is_object(), "{} is not an object", table);
    std::optional<double> found;
    for (const auto& [key, value] : it->items()) {
      require(value.is_number(), "{}: {} is {}, expected a number", table, printable(key), printable(value.dump()));
      const auto spans = SplitRegex(fmt::format(R"(\A(?:.*\.)?(?:{})\z)", key)).spans(module);
      if (!std::ranges::any_of(spans, &RegexSpan::match)) continue;
      require(!found || *found == value.get<double>(), "{}: {} has both {} and {}: leave one of the patterns", table,
              printable(module), *found, value.get<double>());
      found = value.get<double>();
    }
    return found.value_or(otherwise);
  }

  /// What B A is multiplied by for a module whose factors have this rank.
  double scale(const std::string& module, int64_t rank) const {
    const double r = of_module("rank_pattern", module, number("r", 8));
    const double alpha = of_module("alpha_pattern", module, number("lora_alpha", 8));
    require(r == static_cast<double>(rank), "{} has rank {}, adapter_config.json says {}", printable(module), rank, r);
    const auto rs = root.find("use_rslora");
    return alpha / (rs != root.end() && *rs == true ? std::sqrt(r) : r);
  }
};

/// The part of a GGUF tensor that a Hugging Face tensor is.
struct Place {
  const TensorSpec* spec;
  size_t part;
};

class PeftReader {
 public:
  PeftReader(const LoraSource& source, const Checkpoint& base) : source_(source) {
    const Architecture& architecture = find_architecture(base.metadata().text("general.architecture"));
    prefix_ = architecture.hf_prefix;
    specs_ = architecture.tensors(base.metadata());
    for (const TensorSpec& spec : specs_) {
      for (size_t i = 0; i < spec.hf.size(); ++i) places_.emplace(spec.hf[i], Place{&spec, i});
    }
  }

  LoraAdapter read() {
    const bool folder = fs::is_directory(source_.path);
    const fs::path where = folder ? fs::path(source_.path) : fs::path(source_.path).parent_path();
    const PeftConfig config((where / "adapter_config.json").string());
    std::unique_ptr<const WeightFile> file;
    const fs::path safetensors = folder ? where / "adapter_model.safetensors" : fs::path(source_.path);
    if (safetensors.extension() == ".safetensors" && (!folder || fs::exists(safetensors))) {
      file = std::make_unique<SafetensorsFile>(safetensors.string());
    } else {
      file = std::make_unique<TorchFile>(folder ? (where / "adapter_model.bin").string() : source_.path);
    }
    for (const std::string& name : file->names()) {
      constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight", kWrapper = "base_model.model.";
      require(name.ends_with(kA) || name.ends_with(kB), "tensor {} is no factor that weft knows", printable(name));
      const std::string module = name.substr(0, name.size() - kA.size());
      const std::string other = module + std::string(name.ends_with(kA) ? kB : kA);
      require(file->has(other), "tensor {} is missing", printable(other));
      if (name.ends_with(kB)) continue;
      const std::string inner = module.starts_with(kWrapper) ? module.substr(kWrapper.size()) : module;
      add(inner, file->tensor(name), file->tensor(other), config);
    }
    LoraAdapter adapter{source_.path, {}};
    for (auto& [spec, parts] : parts_) adapter.pairs.push_back(stack(*spec, parts));
    return adapter;
  }

 private:
  struct Factors {
    LoadedTensor a, b;
  };
  using Parts = std::map<size_t, Factors>;

  Place place_of(const std::string& module) const {
    const std::string name = module + ".weight";
    auto it = places_.find(name);
    if (it == places_.end() && name.starts_with(prefix_)) it = places_.find(name.substr(prefix_.size()));
    require(it != places_.end(), "the model has no matrix for {}", printable(module));
    return it->second;
  }

  void add(const std::string& module, const MappedTensor& a, const MappedTensor& b, const PeftConfig& config) {
    const auto [spec, part] = place_of(module);
    require(a.type.shape.rank() == 2 && b.type.shape.rank() == 2 && a.type.shape[0] == b.type.shape[1] &&
                a.type.shape[0] > 0,
            "{}: the factors are {} and {}", printable(module), to_string(a.type), to_string(b.type));
    const double scale = source_.scale * config.scale(module, a.type.shape[0]);
    // B's rows are the weight's, A's columns too; PEFT keeps both as of a Linear, also where the weight is a Conv1D.
    TensorSpec rows = *spec;
    rows.hf = {module};
    rows.shape = b.type.shape;
    if (rows.transform == Transform::transpose) rows.transform = Transform::none;
    const bool row_order = rows.transform == Transform::none || rows.transform == Transform::rotary_pairs ||
                           rows.transform == Transform::split_qkv;
    require(row_order && spec->shape.rank() >= 2 && spec->gguf != "token_embd.weight",
            "{}: adapters of {} are not supported", printable(module), spec->gguf);
    const int64_t out = spec->shape[spec->shape.rank() - 2];
    require(b.type.shape[0] == out, "{}: lora_B is {}, the weight has {} rows", printable(module), to_string(b.type),
            out);
    const LoadedTensor reordered = HfLayout(rows, {b}).rows(0, out);
    parts_[spec].insert_or_assign(part, Factors{as_f32(a.load(), 1), as_f32(reordered, static_cast<float>(scale))});
  }

  /// The factors of the parts of a tensor (experts) one behind the other; of those the adapter leaves alone, zero.
  static LoraPair stack(const TensorSpec& spec, const Parts& parts) {
    if (spec.shape.rank() == 2) return {spec.gguf, parts.begin()->second.a, parts.begin()->second.b};
    const auto n = static_cast<int64_t>(spec.hf.size());
    const auto whole = [&](auto member) {
      const Shape one = (parts.begin()->second.*member)->type.shape;
      auto [tensor, bytes] = allocate_tensor({quant::f32, {n, one[0], one[1]}});
      const size_t size = tensor->type.bytes() / static_cast<size_t>(n);
      std::memset(bytes, 0, tensor->type.bytes());
      for (const auto& [part, factors] : parts) {
        const LoadedTensor& from = factors.*member;
        require(from->type.shape == one, "{}: its experts have {} and {}", spec.gguf, to_string(from->type.shape),
                to_string(one));
        std::memcpy(bytes + part * size, from->data, size);
      }
      return tensor;
    };
    return {spec.gguf, whole(&Factors::a), whole(&Factors::b)};
  }

  const LoraSource& source_;
  std::string prefix_;
  std::vector<TensorSpec> specs_;
  std::map<std::string, Place, std::less<>> places_;
  std::map<const TensorSpec*, Parts> parts_;
};

}  // namespace

LoraSource parse_lora(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos) return {std::string(text)};
  const std::string_view number = text.substr(equals + 1);
  float scale = 1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), scale);
  const bool whole = error == std::errc() && end == number.data() + number.size() && std::isfinite(scale);
  return whole ? LoraSource{std::string(text.substr(0, equals)), scale} : LoraSource{std::string(text)};
}

LoraAdapter read_lora(const LoraSource& source, const Checkpoint& base) {
  try {
    std::error_code none;
    require(fs::exists(source.path, none), "no such file");
    const bool gguf = !fs::is_directory(source.path, none) && source.path.ends_with(".gguf");
    LoraAdapter adapter = gguf ? read_gguf(source, base) : PeftReader(source, base).read();
    require(!adapter.pairs.empty(), "the adapter is empty");
    for (const LoraPair& pair : adapter.pairs) {
      const TensorType* weight = base.type(pair.tensor);
      require(weight != nullptr, "{} has no tensor {}", base.path(), printable(pair.tensor));
      require(pair.tensor != "token_embd.weight", "adapters of token_embd.weight are not supported");
      check_lora(pair, *weight);
    }
    return adapter;
  } catch (const Error& error) {
    throw std::string_view(error.what()).starts_with(source.path) ? error : error.at(source.path);
  } catch (const json::exception& error) {
    fail("{}: {}", source.path, printable(error.what(), 300));
  }
}

}  // namespace weft
