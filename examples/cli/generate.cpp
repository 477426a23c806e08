#include "models/session/generate.h"

#include <cstdio>

#include "examples/cli/commands.h"

namespace weft::cli {
namespace {

struct GenerateArguments {
  RunOptions run;
  GenerateOptions generate;
  std::string prompt;
};

void generate_text(const GenerateArguments& options) {
  options.generate.sampler.check();
  Engine engine(options.run);
  const Tokenizer& tokenizer = engine.tokenizer();
  const auto prompt = tokenizer.encode(options.prompt);
  constexpr int64_t kManyTokens = 8192;  // of an answer whose length is not given
  engine.expect(static_cast<int64_t>(prompt.size()) +
                (options.generate.max_tokens < 0 ? kManyTokens : options.generate.max_tokens));
  const int sequence = engine.session().open_sequence();
  bool said_prompt = false;
  const auto say = [&](std::string_view text) {
    if (!said_prompt) std::fwrite(options.prompt.data(), 1, options.prompt.size(), stdout);
    said_prompt = true;
    std::fwrite(text.data(), 1, text.size(), stdout);
    return std::fflush(stdout) == 0;  // the reader has gone: stop
  };
  const GenerateResult result = generate(engine.session(), sequence, tokenizer, prompt, options.generate, say);
  say("\n");
  if (result.reason == StopReason::context_full) {
    fmt::print(stderr, "weft: the context of {} tokens is full\n", engine.session().context());
  }
  if (quiet()) return;
  const auto rate = [](size_t n, double seconds) { return seconds > 0 ? static_cast<double>(n) / seconds : 0.0; };
  const size_t decoded = result.tokens.empty() ? 0 : result.tokens.size() - 1;
  fmt::print(stderr, "weft: prompt {} tokens, {:.1f} tokens/s; generated {} tokens, {:.1f} tokens/s\n",
             result.prompt_tokens, rate(result.prompt_tokens, result.prompt_s), result.tokens.size(),
             rate(decoded, result.decode_s));
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("generate", "Continues a text");
  add_run_options(*command, options->run, "fast");
  command->add_option("-p,--prompt", options->prompt, "The text to continue")->required();
  command
      ->add_option("-n,--n-predict", options->generate.max_tokens,
                   "Tokens to generate (default: until the end or a full context, which then has room for 8192)")
      ->check(CLI::NonNegativeNumber);
  SamplerOptions& sampler = options->generate.sampler;
  command->add_option("--temp", sampler.temperature, "Temperature; 0 is greedy")->capture_default_str();
  command->add_option("--top-k", sampler.top_k, "Keep the k most probable tokens; 0 keeps all")->capture_default_str();
  command->add_option("--top-p", sampler.top_p, "Keep the most probable tokens up to this sum; 1 keeps all")
      ->capture_default_str();
  command->add_option("--min-p", sampler.min_p, "Keep tokens at least this probable, relative to the best; 0 keeps all")
      ->capture_default_str();
  command->add_option("--repeat-penalty", sampler.repeat_penalty, "Penalty on recent tokens; 1 is none")
      ->capture_default_str();
  command->add_option("--repeat-last-n", sampler.repeat_last_n, "How many tokens are recent; -1 all")
      ->capture_default_str();
  command->add_option("--seed", sampler.seed, "Seed of the sampler")->capture_default_str();
  command->add_option("--stop", options->generate.stop, "End before this text appears; may be repeated")->take_all();
  command->callback([options, &action] { action = [options] { generate_text(*options); }; });
}

}  // namespace weft::cli
