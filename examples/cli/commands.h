// The subcommands of `weft`, one file each, and what they share.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/all.h"
#include "graph/runtime.h"
#include "graph/size_text.h"
#include "models/model.h"
#include "models/session/session.h"
#include "models/session/tokenizer.h"

namespace weft::cli {

/// Set by the subcommand that was chosen; run after parsing, so that only its errors are exit status 1.
using Action = std::function<void()>;

void add_generate(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_check_ops(CLI::App& app, Action& action);
void add_check_quants(CLI::App& app, Action& action);
void add_perplexity(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_imatrix(CLI::App& app, Action& action);

/// Options of every command that runs a model.
struct RunOptions {
  std::string model;  // empty: the bundled one
  std::string backend = "auto";
  int threads = 0;
  std::string precision = "fast";
  std::string kv_type;
  int64_t context = 0;
  int64_t enough = 0;  // tokens of context that the command needs; 0 = not known: see SessionOptions
  std::vector<std::string> place, adapters;
  std::string quantize;
  std::string gpu_memory = "auto";
  std::optional<int64_t> gpu_layers;
  bool deterministic = false, no_pack = false, fallback = false, explain = false;
  bool per_op_table = false;
};

void add_model(CLI::App& command, std::string& model);
void add_run_options(CLI::App& command, RunOptions& options, const char* default_precision);

/// A model, ready to run: what nearly every command starts with.
class Engine {
 public:
  explicit Engine(RunOptions options, int64_t max_sequences = 1, StepObserver* observer = nullptr);

  Runtime& runtime() { return *runtime_; }
  const Model& model() const { return *model_; }
  /// Made when it is first asked for, with the context that was expected until then.
  Session& session();
  /// The longest sequence will have so many tokens.
  void expect(int64_t tokens) { options_.enough = tokens; }
  /// Throws Error if the file has no vocabulary.
  const Tokenizer& tokenizer();

 private:
  void require_gpu() const;
  void remark_placement() const;

  RunOptions options_;
  int64_t max_sequences_;
  StepObserver* observer_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Session> session_;
  std::optional<Tokenizer> tokenizer_;
};

/// A line for standard error when the command is done, once however often it is said; not with --quiet, and not where
/// there is an error, which is then the only line.
void remark(std::string line);
std::vector<std::string>& remarks();

/// `per_op_table`: times each step and prints the table at the end, as WEFT_DEBUG=2 does.
std::unique_ptr<Runtime> make_runtime(const BackendOptions& options = {}, bool per_op_table = false);
/// The path given, or that of the bundled model. Throws Error if that is not to be found.
std::string model_path(const std::string& given);
/// The tokenizer of a checkpoint, or of a tokenizer.json given as the model.
Tokenizer open_tokenizer(const std::string& path);

/// True where standard error is a terminal and --quiet was not given: progress is drawn there.
bool shows_progress();
/// Whether --quiet was given.
bool& quiet();

}  // namespace weft::cli
