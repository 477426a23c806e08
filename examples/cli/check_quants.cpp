#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "convert/safetensors.h"
#include "examples/cli/commands.h"
#include "ops/quant/f32.h"
#include "ops/quant/find.h"

namespace weft::cli {
namespace {

std::vector<std::string> files_of(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    const size_t before = files.size();
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path().string());
    }
    require(files.size() > before, "{}: no .safetensors files in it", path);
  }
  std::ranges::sort(files);
  return files;
}

/// Relative root mean square error of encoding and decoding `sample`.
double encoder_error(DType type, const Tensor& sample) {
  const auto columns = static_cast<size_t>(sample.type.shape.columns());
  std::vector<std::byte> encoded(TensorType{type, {static_cast<int64_t>(columns)}}.row_bytes());
  std::vector<float> decoded(columns);
  double error = 0, power = 0;
  for (int64_t row = 0; row < sample.type.shape.rows(); ++row) {
    const float* x = sample.as<float>() + static_cast<size_t>(row) * columns;
    type->encode(x, encoded.data(), columns, nullptr);
    type->decode(encoded.data(), decoded.data(), columns);
    for (size_t i = 0; i < columns; ++i) {
      error += (decoded[i] - x[i]) * static_cast<double>(decoded[i] - x[i]);
      power += static_cast<double>(x[i]) * x[i];
    }
  }
  return std::sqrt(error / std::max(power, 1e-30));
}

bool check_file(const std::string& path) {
  const std::string name = std::filesystem::path(path).stem().string();
  const DType type = quant::find(name);
  if (!type) {
    fmt::print("FAIL {}: weft has no type of this name\n", name);
    return false;
  }
  const SafetensorsFile file(path);
  const SafetensorsEntry* bytes = file.find("bytes");
  require(bytes != nullptr, "{}: it has no tensor bytes", path);
  const LoadedTensor values = file.load("values");
  require(values->type.dtype == DType(quant::f32), "{}: values is not F32", path);
  const auto n = static_cast<size_t>(values->type.elements());
  require(n % type->block_elems == 0 && bytes->bytes.size() == n / type->block_elems * type->block_bytes,
          "{}: {} bytes do not hold {} values of {}", path, bytes->bytes.size(), n, name);
  std::vector<float> decoded(n);
  type->decode(bytes->bytes.data(), decoded.data(), n);
  size_t different = 0;
  for (size_t i = 0; i < n; ++i)
    different += std::memcmp(&decoded[i], values->as<float>() + i, sizeof(float)) != 0 ? 1 : 0;
  std::string text = fmt::format("decode {} of {} values bit for bit", n - different, n);
  bool passed = different == 0;
  if (type->encode != nullptr && file.find("sample") != nullptr) {
    const LoadedTensor sample = file.load("sample");
    const double rmse = encoder_error(type, *sample);
    text += fmt::format("; encoder's relative RMSE {:.6f}", rmse);
    if (file.find("reference_rmse") != nullptr) {
      const double reference = *file.load("reference_rmse")->as<float>();
      text += fmt::format(", reference {:.6f}", reference);
      passed = passed && rmse <= reference * 1.01 + 1e-7;
    }
  }
  fmt::print("{} {}: {}\n", passed ? "ok  " : "FAIL", name, text);
  return passed;
}

void check_quants(const std::vector<std::string>& paths) {
  int passed = 0, failed = 0;
  for (const std::string& path : files_of(paths)) (check_file(path) ? passed : failed) += 1;
  fmt::print("{} passed, {} failed\n", passed, failed);
  require(failed == 0, "check-quants: {} of {} files failed", failed, passed + failed);
}

}  // namespace

void add_check_quants(CLI::App& app, Action& action) {
  auto paths = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("check-quants", "Checks the weight formats against golden files");
  command->add_option("path", *paths, "Golden files (TYPE.safetensors) or folders of them")->required();
  command->callback([paths, &action] { action = [paths] { check_quants(*paths); }; });
}

}  // namespace weft::cli
