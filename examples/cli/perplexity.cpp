#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "convert/safetensors.h"
#include "convert/safetensors_writer.h"
#include "examples/cli/commands.h"
#include "examples/cli/windows.h"
#include "models/session/scoring.h"
#include "ops/quant/f32.h"

namespace weft::cli {
namespace {

struct PerplexityArguments {
  RunOptions run;
  std::string file, kl_save, kl_base;
  int64_t window = 512, chunks = -1;
};

// The tokens of the second half of each window are scored, given all before them in it.

/// Position of a window whose prediction is scored first.
int64_t first_scored(const Windows& windows) { return windows.size / 2; }
int64_t scored(const Windows& windows) { return windows.size - first_scored(windows) - 1; }

// The file of --kl-save and --kl-base: input_ids [windows, size] i32 and log_probs [windows * scored, vocab] f32.

class KlBase {
 public:
  explicit KlBase(const std::string& path) : file_(path) {
    ids_ = file_.load("input_ids");
    log_probs_ = file_.load("log_probs");
    require(ids_->type.dtype == DType(quant::i32) && ids_->type.shape.rank() == 2 && ids_->dim(1) >= 4 &&
                log_probs_->type.dtype == DType(quant::f32) && log_probs_->type.shape.rank() == 2,
            "{}: not a file of weft perplexity --kl-save", path);
    const Windows w = windows();
    require(log_probs_->dim(0) == w.n * scored(w), "{}: {} rows for {} windows of {} tokens", path, log_probs_->dim(0),
            w.n, w.size);
  }

  Windows windows() const {
    Windows w{.ids = {}, .n = ids_->dim(0), .size = ids_->dim(1)};
    w.ids.resize(static_cast<size_t>(ids_->type.elements()));
    std::memcpy(w.ids.data(), ids_->data, w.ids.size() * sizeof(int32_t));
    return w;
  }
  int64_t n_vocab() const { return log_probs_->dim(1); }
  std::span<const float> row(int64_t i) const {
    return {reinterpret_cast<const float*>(log_probs_->data) + i * n_vocab(), static_cast<size_t>(n_vocab())};
  }

 private:
  SafetensorsFile file_;
  LoadedTensor ids_, log_probs_;
};

/// The windows to score: of the text, of the base, or of both if they agree.
Windows choose_windows(Engine& engine, const PerplexityArguments& options, const KlBase* base) {
  if (options.file.empty()) {
    Windows windows = base->windows();
    if (options.chunks > 0) windows.n = std::min(windows.n, options.chunks);
    return windows;
  }
  Windows windows = read_windows(options.file, engine.tokenizer(), options.window, options.chunks);
  if (base != nullptr) {
    const Windows other = base->windows();
    const int64_t n = std::min(windows.n, other.n);
    require(windows.size == other.size &&
                std::equal(windows.ids.begin(), windows.ids.begin() + n * windows.size, other.ids.begin()),
            "{}: is about other tokens than {}: another text, --ctx or vocabulary", options.kl_base, options.file);
    windows.n = n;
  }
  return windows;
}

void print_kl(const KlScore& kl) {
  fmt::print("KL divergence mean {:.6g} +/- {:.2g}, 99th percentile {:.6g}, maximum {:.6g}\n", kl.mean(),
             kl.standard_error(), kl.percentile(0.99), kl.maximum());
  fmt::print("same top token {:.3f} %\n", 100 * kl.same_top());
}

void perplexity(PerplexityArguments options) {
  std::optional<KlBase> base;
  if (!options.kl_base.empty()) base.emplace(options.kl_base);
  if (options.file.empty()) options.window = base->windows().size;
  require(options.window >= 4, "perplexity: --ctx {} is too short to score anything", options.window);
  options.run.context = options.window;
  Engine engine(options.run);
  Session& session = engine.session();
  const Windows windows = choose_windows(engine, options, base ? &*base : nullptr);
  const auto n_vocab = static_cast<size_t>(session.n_vocab());
  require(!base || base->n_vocab() == session.n_vocab(), "{}: a vocabulary of {}, the model has {}", options.kl_base,
          base->n_vocab(), n_vocab);
  std::optional<SafetensorsWriter> save;
  if (!options.kl_save.empty()) {
    save.emplace(options.kl_save,
                 std::vector<NamedType>{{"input_ids", {quant::i32, {windows.n, windows.size}}},
                                        {"log_probs", {quant::f32, {windows.n * scored(windows), session.n_vocab()}}}});
    save->write(windows.ids.data(), static_cast<size_t>(windows.n * windows.size) * sizeof(int32_t));
  }

  const int sequence = session.open_sequence();
  const auto first = static_cast<size_t>(first_scored(windows));
  PerplexityScore score;
  KlScore kl;
  std::vector<float> log_probs(n_vocab);
  for (int64_t i = 0; i < windows.n; ++i) {
    const auto window = windows.window(i);
    session.truncate(sequence, 0);
    const Feed context{sequence, window.first(first)}, rest{sequence, window.subspan(first), true};
    session.step({&context, 1});
    const auto logits = session.step({&rest, 1});
    for (size_t t = 0; t < static_cast<size_t>(scored(windows)); ++t) {
      log_softmax(logits.subspan(t * n_vocab, n_vocab), log_probs);
      score.add(log_probs[static_cast<size_t>(window[first + t + 1])]);
      if (base) kl.add(base->row(score.tokens() - 1), log_probs);
      if (save) save->write(log_probs.data(), log_probs.size() * sizeof(float));
    }
    if (shows_progress()) {
      fmt::print(stderr, "\r{} of {} windows, perplexity so far {:.3f}\033[K", i + 1, windows.n, score.perplexity());
    }
  }
  if (shows_progress()) fmt::print(stderr, "\r\033[K");
  if (save) save->finish();
  fmt::print("{} windows of {} tokens, {} tokens scored\n", windows.n, windows.size, score.tokens());
  if (base) print_kl(kl);
  fmt::print("perplexity {:.4f} +/- {:.4f}\n", score.perplexity(), score.standard_error());
}

}  // namespace

void add_perplexity(CLI::App& app, Action& action) {
  auto options = std::make_shared<PerplexityArguments>();
  CLI::App* command = app.add_subcommand("perplexity", "Measures how well a model predicts a text");
  add_run_options(*command, options->run, "exact");
  command->remove_option(command->get_option("--ctx"));
  command->add_option("-f,--file", options->file, "The text (may be left out with --kl-base)");
  command->add_option("--ctx", options->window, "Tokens of a window; the second half of each is scored")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--chunks", options->chunks, "Windows (default: all)")->check(CLI::PositiveNumber);
  command->add_option("--kl-save", options->kl_save, "Writes the tokens and their log probabilities, for --kl-base");
  command->add_option("--kl-base", options->kl_base, "Compares with the predictions of a --kl-save file");
  command->callback([options, &action] {
    if (options->file.empty() && options->kl_base.empty()) throw CLI::RequiredError("--file or --kl-base");
    action = [options] { perplexity(*options); };
  });
}

}  // namespace weft::cli
