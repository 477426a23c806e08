#include "convert/convert.h"

#include <chrono>
#include <cstdio>
#include <map>

#include "convert/imatrix_file.h"
#include "convert/lora_file.h"
#include "convert/lora_merge.h"
#include "convert/open_model.h"
#include "convert/printable.h"
#include "convert/verify.h"
#include "examples/cli/commands.h"

namespace weft::cli {
namespace {

struct ConvertArguments {
  std::string source, output, type, imatrix, backend = "auto";
  std::vector<std::string> overrides, adapters;
  bool dry_run = false, no_fallback = false, sha256 = false, verify = false;
  double verify_kl = -1;
};

std::string size_of(size_t bytes) { return size_text(static_cast<double>(bytes)); }

void print_forecast(const ConvertPlan& plan) {
  std::map<std::string_view, std::pair<size_t, size_t>> by_type;  // tensors, bytes
  for (const PlannedTensor& t : plan.tensors) {
    auto& [count, bytes] = by_type[t.to.dtype.name()];
    ++count;
    bytes += t.to.bytes();
    if (t.fell_back()) {
      fmt::print("{}: rows of {} are not whole blocks of {}, written as {}\n", t.name, t.from.shape.columns(),
                 t.asked.name(), t.to.dtype.name());
    }
  }
  for (const auto& [name, entry] : by_type) {
    fmt::print("{:<8} {:>5} tensors {:>12}\n", name, entry.first, size_of(entry.second));
  }
  fmt::print("{} in all, {:.2f} bits per weight\n", size_of(plan.bytes), plan.bits_per_weight());
}

/// How far the writing is: a bar on a terminal, a line at every tenth elsewhere (at most one a second).
class Progress {
 public:
  explicit Progress(size_t total) : total_(total) {}

  void operator()(size_t done) {
    const double seconds = elapsed();
    const double share = static_cast<double>(done) / static_cast<double>(total_);
    if (quiet()) return;
    if (!shows_progress()) {
      if (share < next_line_ || seconds - last_ < 1 || done == total_) return;
      fmt::print(stderr, "{:3.0f}%  {}/s  {:.0f} s left\n", 100 * share, size_text(rate(done)), left(done));
      next_line_ = share + 0.1;
      last_ = seconds;
    } else if (seconds - last_ >= 0.1 || done == total_) {
      constexpr int kWidth = 30;
      const int filled = static_cast<int>(share * kWidth);
      fmt::print(stderr, "\r[{:#<{}}{:.<{}}] {:3.0f}%  {}/s  {:.0f} s left \033[K", "", filled, "", kWidth - filled,
                 100 * share, size_text(rate(done)), left(done));
      last_ = seconds;
    }
  }

  void finish(const std::string& output) const {
    if (shows_progress()) fmt::print(stderr, "\r\033[K");
    if (quiet()) return;
    fmt::print("wrote {}, {} in {:.1f} s, {}/s\n", output, size_of(total_), elapsed(), size_text(rate(total_)));
  }

 private:
  double elapsed() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  double rate(size_t done) const { return static_cast<double>(done) / std::max(elapsed(), 1e-3); }
  double left(size_t done) const { return static_cast<double>(total_ - done) / std::max(rate(done), 1.0); }

  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  size_t total_;
  double last_ = 0, next_line_ = 0.1;
};

/// Runs both and prints what differs; throws Error if that is more than the bounds.
void verify(const ConvertArguments& options, std::shared_ptr<const Checkpoint> source) {
  const auto runtime = make_runtime({.backend = options.backend});
  const Verification v = verify_conversion(std::move(source), open_checkpoint(options.output), *runtime,
                                           options.backend, options.verify_kl);
  const KlScore& kl = v.comparison.kl;
  fmt::print("\nlayer   error of its output, relative\n");
  for (size_t i = 0; i < v.comparison.layer_error.size(); ++i)
    fmt::print("{:>5}   {:.3e}\n", i, v.comparison.layer_error[i]);
  fmt::print("tokenizer: {} of {} strings alike\n", v.strings - static_cast<int>(v.disagreements.size()), v.strings);
  for (const std::string& text : v.disagreements) fmt::print("  differs: {}\n", printable(text));
  fmt::print(
      "logits after {} tokens: KL divergence mean {:.3g} (bound {:.3g}), 99th percentile {:.3g}, maximum {:.3g}\n",
      v.tokens, kl.mean(), v.kl_bound, kl.percentile(0.99), kl.maximum());
  fmt::print("same top token {:.2f} %\n", 100 * kl.same_top());
  require(v.disagreements.empty(), "{}: does not tokenize as {} does", options.output, options.source);
  require(v.passed(), "{}: the mean KL divergence from {} is {:.3g}, the bound is {:.3g}", options.output,
          options.source, kl.mean(), v.kl_bound);
}

void convert_model(const ConvertArguments& options) {
  ConvertOptions asked{.type = options.type, .fallback = !options.no_fallback};
  for (const std::string& rule : options.overrides) asked.overrides.push_back(parse_override(rule));
  std::shared_ptr<const Checkpoint> source = open_checkpoint(options.source);
  std::vector<LoraAdapter> adapters;
  for (const std::string& adapter : options.adapters) adapters.push_back(read_lora(parse_lora(adapter), *source));
  source = merged(std::move(source), std::move(adapters));
  std::optional<ImportanceMatrix> importance;
  if (!options.imatrix.empty()) {
    importance = read_imatrix(options.imatrix);
    asked.importance = &*importance;
  }
  const ConvertPlan plan = plan_conversion(*source, asked);
  if (!quiet() || options.dry_run) print_forecast(plan);
  if (options.dry_run) return;
  Progress progress(plan.bytes);
  ConvertEvents events{.progress = [&](size_t done) { progress(done); }};
  if (options.sha256) {
    events.hashed = [](std::string_view tensor, std::string_view hash) { fmt::print("{}  {}\n", hash, tensor); };
  }
  write_gguf(*source, plan, options.output, events);
  progress.finish(options.output);
  if (options.verify) verify(options, source);
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  auto options = std::make_shared<ConvertArguments>();
  CLI::App* command = app.add_subcommand("convert", "Writes a model as GGUF");
  command->add_option("source", options->source, "A Hugging Face folder or a GGUF")->required();
  command->add_option("-o,--output", options->output, "The file to write");
  command->add_option("--type", options->type,
                      "Type of the matrices (f32, f16, bf16, q8_0, q4_0, q4_K, ...) or a mix (q4_K_M, q3_K_L, ...); "
                      "default: as in the source");
  command
      ->add_option("--override", options->overrides,
                   "PATTERN=type: the type of the matrices whose name matches; repeatable, the last match wins")
      ->take_all();
  command
      ->add_option("--lora", options->adapters,
                   "FILE[=scale]: merges an adapter (a PEFT folder or a GGUF) into the weights, "
                   "which are then f32 unless --type says otherwise; repeatable")
      ->take_all();
  command->add_option("--imatrix", options->imatrix,
                      "An importance matrix (weft imatrix, or other programs') for the encoders");
  command->add_flag("--verify", options->verify,
                    "Then runs source and result side by side: tokenizer, layers, logits; an error past the bounds");
  command->add_option("--verify-kl", options->verify_kl, "The mean KL divergence that passes (default: by type)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--backend", options->backend, "The backend --verify runs on")->capture_default_str();
  command->add_flag("--dry-run", options->dry_run, "Prints the forecast and writes nothing");
  command->add_flag("--no-fallback", options->no_fallback, "A row that no block divides is an error");
  command->add_flag("--sha256", options->sha256, "Prints the SHA-256 of every tensor's data as written");
  command->callback([options, &action] {
    if (options->output.empty() && !options->dry_run) throw CLI::RequiredError("--output or --dry-run");
    action = [options] { convert_model(*options); };
  });
}

}  // namespace weft::cli
