#include <cmath>
#include <cstdio>

#include "convert/mapped_file.h"
#include "examples/cli/commands.h"

namespace weft::cli {
namespace {

struct Options {
  RunOptions run;
  std::string file;
  int64_t window = 512, chunks = -1;
};

/// -log p(target) under softmax(logits), in double.
double negative_log_likelihood(std::span<const float> logits, int32_t target) {
  double largest = -INFINITY;
  for (const float l : logits) largest = std::max(largest, static_cast<double>(l));
  double sum = 0;
  for (const float l : logits) sum += std::exp(l - largest);
  return largest + std::log(sum) - logits[static_cast<size_t>(target)];
}

/// Windows of `window` tokens; the tokens of the second half are scored, each given all before it in its window.
void perplexity(Options options) {
  require(options.window >= 4, "perplexity: --ctx {} is too short to score anything", options.window);
  options.run.context = options.window;
  Engine engine(options.run);
  Session& session = engine.session();
  const MappedFile file(options.file);
  // Control tokens written out in the text stay text, as in llama.cpp's measurement, so that figures compare.
  std::vector<int32_t> ids = engine.tokenizer().encode(file.text(), {.add_special = true, .parse_special = false});
  const TokenizerSpec& spec = engine.tokenizer().spec();
  const int64_t available = static_cast<int64_t>(ids.size()) / options.window;
  require(available > 0, "{}: {} tokens do not fill one window of {}", options.file, ids.size(), options.window);
  const int64_t chunks = options.chunks > 0 ? std::min(options.chunks, available) : available;
  const auto n_vocab = static_cast<size_t>(session.n_vocab());
  const int sequence = session.open_sequence();
  double sum = 0, sum_of_squares = 0;
  int64_t scored = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::span<int32_t> window =
        std::span(ids).subspan(static_cast<size_t>(chunk * options.window), static_cast<size_t>(options.window));
    if (spec.add_bos && spec.bos) window[0] = *spec.bos;
    session.truncate(sequence, 0);
    const size_t first = window.size() / 2;  // the first position whose prediction counts
    if (first > 0) {
      const Feed context{sequence, window.first(first)};
      session.step({&context, 1});
    }
    const Feed rest{sequence, window.subspan(first, window.size() - first), true};
    const auto logits = session.step({&rest, 1});
    for (size_t i = first; i + 1 < window.size(); ++i) {
      const double nll = negative_log_likelihood(logits.subspan((i - first) * n_vocab, n_vocab), window[i + 1]);
      sum += nll;
      sum_of_squares += nll * nll;
      ++scored;
    }
    if (shows_progress()) {
      fmt::print(stderr, "\r{} of {} windows, perplexity so far {:.3f}\033[K", chunk + 1, chunks,
                 std::exp(sum / static_cast<double>(scored)));
    }
  }
  if (shows_progress()) fmt::print(stderr, "\r\033[K");
  const auto n = static_cast<double>(scored);
  const double mean = sum / n, variance = std::max(0.0, sum_of_squares / n - mean * mean);
  const double error = n > 1 ? std::sqrt(variance / (n - 1)) : 0;
  fmt::print("{} windows of {} tokens, {} tokens scored\n", chunks, options.window, scored);
  fmt::print("perplexity {:.4f} +/- {:.4f}\n", std::exp(mean), std::exp(mean) * error);
}

}  // namespace

void add_perplexity(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("perplexity", "Measures how well a model predicts a text");
  add_run_options(*command, options->run, "exact");
  command->remove_option(command->get_option("--ctx"));
  command->add_option("-f,--file", options->file, "The text")->required();
  command->add_option("--ctx", options->window, "Tokens of a window; the second half of each is scored")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--chunks", options->chunks, "Windows (default: all)")->check(CLI::PositiveNumber);
  command->callback([options, &action] { action = [options] { perplexity(*options); }; });
}

}  // namespace weft::cli
