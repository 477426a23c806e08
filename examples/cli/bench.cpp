#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "examples/cli/commands.h"

namespace weft::cli {
namespace {

struct BenchArguments {
  RunOptions run;
  int64_t prompt = 512, generate = 128, depth = 0, batch = 1;
  int repetitions = 3;
  float temperature = 0;
  bool json = false;
};

struct Row {
  std::string test;
  std::string backend = {};  // of the devices that its plan uses, and their threads
  int threads = 0;
  double tokens_per_s = 0, stddev = 0, gb_per_s = 0, tflop_per_s = 0, share_of_limit = 0;
  Arithmetic arithmetic = Arithmetic::f64;           // of its plan's largest step: what its limit is made of
  double limit_gb_per_s = 0, limit_tflop_per_s = 0;  // its shares are shares of these
  double step_us = 0, predicted_us = 0;              // of decoding
  std::optional<double> deterministic_cost = {};     // of its time: what it takes more than without --deterministic
  std::vector<DeviceUse> memory = {};                // when it was measured, of devices with memory of their own
};

/// What the device runs in some steps of decoding.
struct Gaps {
  std::string device, not_measured;  // why; empty where it was
  SpanReport report = {};
};

struct Report {
  std::string model, type;
  double first_token_s = 0;
  std::vector<Row> rows;
  bool own_memory = false;  // a device has
};

/// What the devices of a plan could do together, each with its part of the plan after the other.
void add_limits(Row& row, const Plan& plan) {
  double bytes = 0, flops = 0, read_ns = 0, compute_ns = 0, most = 0;
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const DeviceInfo& info = plan.devices[d].info();
    double device_bytes = 0, device_flops = 0, largest = 0;
    Arithmetic arithmetic = Arithmetic::f64;  // of the device's largest step
    bool used = false;
    for (const Step& step : plan.steps) {
      if (static_cast<size_t>(step.device) != d) continue;
      used = true;
      device_bytes += step.cost.weight_bytes;
      device_flops += step.cost.flops;
      if (step.cost.flops > largest) arithmetic = step.kernel->arithmetic;
      largest = std::max(largest, step.cost.flops);
    }
    if (!used) continue;
    if (largest > most) row.arithmetic = arithmetic;
    most = std::max(most, largest);
    const std::string name(plan.devices[d].backend->name());
    if (row.backend.find(name) == std::string::npos) row.backend += (row.backend.empty() ? "" : "+") + name;
    row.threads = std::max(row.threads, info.threads);
    bytes += device_bytes;
    flops += device_flops;
    read_ns += device_bytes / info.bandwidth_gbps;
    compute_ns += device_flops / info.rate(arithmetic);
  }
  row.limit_gb_per_s = read_ns > 0 ? bytes / read_ns : 0;
  row.limit_tflop_per_s = compute_ns > 0 ? flops / compute_ns / 1e3 : 0;
}

std::string_view name_of(Arithmetic arithmetic) {
  constexpr std::string_view kNames[] = {"f64", "f32", "16-bit", "8-bit"};
  return kNames[static_cast<size_t>(arithmetic)];
}

class Bench {
 public:
  Bench(Engine& engine, const BenchArguments& options, std::chrono::steady_clock::time_point start)
      : session_(engine.session()), options_(options) {
    for (int64_t b = 0; b < options.batch; ++b) sequences_.push_back(session_.open_sequence());
    feed(1, std::span(sequences_).first(1));
    first_token_s_ = std::chrono::duration<double>(Clock::now() - start).count();
    engine.runtime().calibrate(session_.devices(), engine.model().weight_bytes(), /*anew=*/true);
  }
  /// For spans() alone: nothing is fed or measured.
  Bench(Engine& engine, const BenchArguments& options) : session_(engine.session()), options_(options) {
    for (int64_t b = 0; b < options.batch; ++b) sequences_.push_back(session_.open_sequence());
  }

  /// From opening the model to the token chosen after one.
  double first_token_s() const { return first_token_s_; }

  Row prompt() {
    const int64_t n = options_.prompt;
    Cost cost;
    const auto seconds = repeat([&] {
      rewind();
      const auto start = Clock::now();
      feed(n, std::span(sequences_).first(1));
      return std::chrono::duration<double>(Clock::now() - start).count();
    });
    for (int64_t at = 0; at < n; at += session_.largest_step()) {
      const int64_t tokens = std::min(session_.largest_step(), n - at);
      cost += session_.step_cost({.tokens = tokens, .kv_length = options_.depth + at + tokens / 2});
    }
    return row(fmt::format("pp{}", n), static_cast<double>(n), seconds, cost);
  }

  Row generate() {
    const int64_t n = options_.generate, batch = options_.batch;
    const auto seconds = repeat([&] {
      rewind();
      feed(1);  // plans for this batch exist before the clock starts
      const auto start = Clock::now();
      for (int64_t i = 0; i < n; ++i) feed_chosen();
      return std::chrono::duration<double>(Clock::now() - start).count();
    });
    Cost cost;
    for (int64_t i = 0; i < n; ++i) {
      cost += session_.step_cost(
          {.tokens = batch, .logits = batch, .sequences = batch, .kv_length = options_.depth + i + 2});
    }
    Row r = row(fmt::format("tg{}{}", n, batch > 1 ? fmt::format("x{}", batch) : ""), static_cast<double>(n * batch),
                seconds, cost);
    r.step_us = static_cast<double>(batch) / r.tokens_per_s * 1e6;
    r.predicted_us =
        predict_us(*session_.last_plan(),
                   {.tokens = batch, .logits = batch, .sequences = batch, .kv_length = options_.depth + n / 2 + 1});
    return r;
  }

  /// What the device runs in so many steps of what generate() times. Each call has started the step after it: the first
  /// finds its own done, the last leaves one to wait for.
  Spans spans(SpanRecorder& recorder, int64_t steps) {
    for (int round = 0; round < 2; ++round) {  // the first makes plans and their graphs
      rewind();
      feed(1);
      recorder.take();
      for (int64_t i = 0; i < steps; ++i) feed_chosen();
    }
    return recorder.take();
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// One warm-up, then the seconds of each repetition.
  template <typename F>
  std::vector<double> repeat(F&& once) {
    once();
    std::vector<double> seconds;
    for (int r = 0; r < options_.repetitions; ++r) seconds.push_back(once());
    return seconds;
  }

  void rewind() {
    for (const int sequence : sequences_) session_.truncate(sequence, options_.depth);
    while (session_.length(sequences_.front()) < options_.depth) {
      feed(std::min(session_.largest_step(), options_.depth - session_.length(sequences_.front())));
    }
  }

  /// Random tokens.
  void feed(int64_t n) { feed(n, sequences_); }
  void feed(int64_t n, std::span<const int> sequences) {
    std::vector<int32_t> tokens(static_cast<size_t>(n));
    for (int32_t& t : tokens)
      t = static_cast<int32_t>((state_ = state_ * 6364136223846793005U + 1442695040888963407U) >> 33) %
          static_cast<int32_t>(session_.n_vocab());
    std::vector<Feed> feeds;
    for (const int sequence : sequences) feeds.push_back({sequence, tokens});
    choose(feeds);
  }
  /// The tokens that were chosen, as decoding does.
  void feed_chosen() {
    const std::vector<int32_t> tokens = chosen_;
    std::vector<Feed> feeds;
    for (size_t s = 0; s < sequences_.size(); ++s) feeds.push_back({sequences_[s], std::span(tokens).subspan(s, 1)});
    choose(feeds);
  }
  void choose(std::span<const Feed> feeds) {
    if (options_.temperature > 0) return sample(feeds);
    const auto tokens = session_.step_ranked(feeds, 1).tokens;
    chosen_.assign(tokens.begin(), tokens.end());
  }
  /// As generate does, without penalties.
  void sample(std::span<const Feed> feeds) {
    const SamplerOptions sampling{.temperature = options_.temperature};
    std::vector<Draw> draws;
    for (const Feed& one : feeds) {
      draws.push_back({sampling, one.tokens, static_cast<uint64_t>(session_.length(one.sequence)) + one.tokens.size()});
    }
    if (const auto drawn = session_.step_drawn(feeds, draws)) return chosen_.assign(drawn->begin(), drawn->end());
    const Ranked ranked = session_.step_ranked(feeds, sampling.top_k);
    Sampler sampler(sampling);
    chosen_.clear();
    const auto each = static_cast<size_t>(ranked.each);
    for (size_t i = 0; i < feeds.size(); ++i) {
      chosen_.push_back(sampler.sample(ranked.logits.subspan(i * each, each), ranked.tokens.subspan(i * each, each),
                                       draws[i].history, draws[i].position));
    }
  }

  Row row(std::string test, double tokens, std::vector<double> seconds, const Cost& cost) const {
    std::ranges::sort(seconds);
    const double median = seconds[seconds.size() / 2];
    double mean = 0, variance = 0;
    for (const double s : seconds) mean += tokens / s / static_cast<double>(seconds.size());
    for (const double s : seconds)
      variance += (tokens / s - mean) * (tokens / s - mean) / static_cast<double>(seconds.size());
    Row r{.test = std::move(test), .tokens_per_s = tokens / median, .stddev = std::sqrt(variance)};
    r.gb_per_s = cost.weight_bytes / median / 1e9;
    r.tflop_per_s = cost.flops / median / 1e12;
    add_limits(r, *session_.last_plan());
    r.memory = session_.device_use();
    r.share_of_limit = std::max(r.gb_per_s / r.limit_gb_per_s, r.tflop_per_s / r.limit_tflop_per_s);
    return r;
  }

  Session& session_;
  const BenchArguments& options_;
  double first_token_s_ = 0;
  std::vector<int> sequences_;
  std::vector<int32_t> chosen_;  // for each sequence fed last
  uint64_t state_ = 1;
};

Report measure(const BenchArguments& options) {
  const auto start = std::chrono::steady_clock::now();
  Engine engine(options.run, options.batch);
  Session& session = engine.session();
  const int64_t longest = options.run.enough;
  require(longest <= session.context(), "bench: depth {} and {} more tokens do not fit the context of {}",
          options.depth, longest - options.depth, session.context());
  Bench run(engine, options, start);
  Report report{.model = std::filesystem::path(engine.model().path()).filename().string(),
                .type = std::string(engine.model().main_type().name()),
                .first_token_s = run.first_token_s(),
                .rows = {},
                .own_memory = std::ranges::any_of(session.devices(),
                                                  [](const Device& device) { return !device.info().host_memory; })};
  if (options.prompt > 0) report.rows.push_back(run.prompt());
  if (options.generate > 0) report.rows.push_back(run.generate());
  return report;
}

/// In an engine of its own: the rows are measured with no recorder on, and its graphs are made with one.
std::optional<Gaps> measure_gaps(const BenchArguments& options) {
  constexpr int64_t kMostSteps = 64;
  Engine engine(options.run, options.batch);
  const Env& env = engine.runtime().env();
  for (const Device& device : engine.session().devices()) {
    Gaps gaps{.device = device.info().name, .not_measured = {}};
    try {
      const std::unique_ptr<SpanRecorder> recorder = device.backend->record_spans(device.index);
      if (recorder == nullptr) continue;
      require(env.debug < 2 && !env.check_ref && !env.check_nan && env.trace_file.empty(),
              "WEFT_DEBUG, WEFT_CHECK or WEFT_TRACE has each kernel launched by itself");
      const int64_t steps = std::min(options.generate, kMostSteps);
      const Spans spans = Bench(engine, options).spans(*recorder, steps);
      require(!spans.list.empty(), "no kernel was recorded, {} records lost", spans.lost);
      gaps.report = report_spans(spans, steps);
    } catch (const Error& error) {
      gaps.not_measured = error.what();
    }
    return gaps;
  }
  return std::nullopt;
}

nlohmann::json json_of(const Gaps& gaps) {
  nlohmann::json json = {{"device", gaps.device}};
  if (!gaps.not_measured.empty()) {
    json["not_measured"] = gaps.not_measured;
    return json;
  }
  const SpanReport& r = gaps.report;
  json.update({{"steps", r.steps},
               {"step_us", r.step_us},
               {"busy_us", r.busy_us},
               {"gap_us", r.gap_us},
               {"between_launches_us", r.between_gap_us},
               {"gap_share", r.gap_share()},
               {"records_lost", r.lost},
               {"kernels", nlohmann::json::array()}});
  for (const SpanReport::Row& row : r.rows) {
    json["kernels"].push_back({{"name", row.name},
                               {"calls", static_cast<double>(row.count) / static_cast<double>(r.steps)},
                               {"added_us", row.added_us},
                               {"gap_us", row.gap_us},
                               {"mean_us", row.mean_us}});
  }
  return json;
}

double mib(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

nlohmann::json json_of(const DeviceUse& use) {
  return {{"device", use.device},
          {"weights_mib", mib(use.weights)},
          {"weight_copies_mib", mib(use.weight_copies)},
          {"kv_cache_mib", mib(use.kv_cache)},
          {"workspace_mib", mib(use.workspace)},
          {"all_mib", mib(use.all())},
          {"limit_mib", mib(use.limit)}};
}

std::string text_of(const DeviceUse& use) {
  return fmt::format(
      "memory of {}: {:.0f} MiB of {:.0f}: weights {:.0f}, 16-bit copies of them {:.0f}, KV cache {:.0f}, workspace "
      "{:.0f}\n",
      use.device, mib(use.all()), mib(use.limit), mib(use.weights), mib(use.weight_copies), mib(use.kv_cache),
      mib(use.workspace));
}

/// `untraced_us`: a step as the rows have it.
std::string text_of(const Gaps& gaps, double untraced_us) {
  if (!gaps.not_measured.empty()) return fmt::format("gaps on {}: not measured: {}\n", gaps.device, gaps.not_measured);
  const SpanReport& r = gaps.report;
  std::string text = fmt::format(
      "gaps on {}: {:.1f}% of a step runs nothing: {:.1f} us between the kernels of a launch, {:.1f} us between "
      "launches, of {:.1f} us (untraced {:.1f}; {} steps)\n",
      gaps.device, 100 * r.gap_share(), r.gap_us, r.between_gap_us, r.step_us, untraced_us, r.steps);
  if (r.lost > 0)
    text += fmt::format("gaps on {}: {} records were lost, so that the figures are too small\n", gaps.device, r.lost);
  return text + r.table();
}

void bench(const BenchArguments& options) {
  BenchArguments plain = options;  // the rows are the same with --ops
  plain.run.enough = options.depth + std::max(options.prompt, options.generate + 1);
  plain.run.per_op_table = false;
  std::vector<Row> free;  // of a run that may sum in any order, before the one that may not
  if (options.run.deterministic) {
    BenchArguments other = plain;
    other.run.deterministic = false;
    free = measure(other).rows;
  }
  Report report = measure(plain);
  plain.run.explain = false;
  std::optional<Gaps> gaps;
  if (options.run.per_op_table) {
    BenchArguments table = plain;
    table.run.per_op_table = true;
    table.repetitions = 1;
    measure(table);
    if (report.own_memory && options.generate > 0) gaps = measure_gaps(plain);
  }
  for (size_t i = 0; i < free.size(); ++i) {
    report.rows[i].deterministic_cost = free[i].tokens_per_s / report.rows[i].tokens_per_s - 1;
  }
  if (options.json) {
    auto list = nlohmann::json::array();
    for (const Row& r : report.rows) {
      list.push_back({{"model", report.model},
                      {"type", report.type},
                      {"backend", r.backend},
                      {"threads", r.threads},
                      {"test", r.test},
                      {"tokens_per_s", r.tokens_per_s},
                      {"stddev", r.stddev},
                      {"gb_per_s", r.gb_per_s},
                      {"tflop_per_s", r.tflop_per_s},
                      {"share_of_limit", r.share_of_limit},
                      {"limit_gb_per_s", r.limit_gb_per_s},
                      {"limit_tflop_per_s", r.limit_tflop_per_s},
                      {"step_us", r.step_us},
                      {"predicted_us", r.predicted_us},
                      {"first_token_s", report.first_token_s}});
      for (const DeviceUse& use : r.memory) list.back()["memory"].push_back(json_of(use));
      if (r.deterministic_cost) list.back()["deterministic_cost"] = *r.deterministic_cost;
      if (gaps && r.step_us > 0) list.back()["gaps"] = json_of(*gaps);
    }
    fmt::print("{}\n", list.dump(2));
  } else {
    fmt::print("{:<28} {:<7} {:<8} {:>7} {:>10} {:>12} {:>9} {:>8} {:>9} {:>9}{}\n", "model", "type", "backend",
               "threads", "test", "tokens/s", "+/-", "GB/s", "TFLOP/s", "of limit",
               free.empty() ? "" : "  deterministic costs");
    for (const Row& r : report.rows) {
      fmt::print("{:<28} {:<7} {:<8} {:>7} {:>10} {:>12.1f} {:>9.1f} {:>8.2f} {:>9.3f} {:>8.1f}%{}\n", report.model,
                 report.type, r.backend, r.threads, r.test, r.tokens_per_s, r.stddev, r.gb_per_s, r.tflop_per_s,
                 100 * r.share_of_limit,
                 r.deterministic_cost ? fmt::format("{:>+20.1f}%", 100 * *r.deterministic_cost) : "");
    }
    fmt::print("first token {:.2f} s after the start; limits measured in this run", report.first_token_s);
    for (const Row& r : report.rows) {
      fmt::print("; {}: reads {:.2f} GB/s, {} arithmetic {:.3f} TFLOP/s", r.test, r.limit_gb_per_s,
                 name_of(r.arithmetic), r.limit_tflop_per_s);
      if (r.step_us > 0) fmt::print(", a step {:.1f} us, predicted {:.1f}", r.step_us, r.predicted_us);
    }
    fmt::print("\n");
    if (!report.rows.empty()) {
      for (const DeviceUse& use : report.rows.back().memory) fmt::print("{}", text_of(use));
    }
    if (gaps) fmt::print("{}", text_of(*gaps, report.rows.back().step_us));
  }
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<BenchArguments>();
  CLI::App* command =
      app.add_subcommand("bench", "Measures prompt and generation speed; with --deterministic also what that costs");
  add_run_options(*command, options->run, "fast");
  command->add_option("-p,--prompt", options->prompt, "Prompt tokens; 0 skips")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("-n,--n-predict", options->generate, "Tokens to generate; 0 skips")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("-r,--repetitions", options->repetitions, "Repetitions; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--depth", options->depth, "Tokens cached beforehand")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--batch", options->batch, "Sequences at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--temp", options->temperature, "Tokens are sampled at this temperature; 0: the most probable")
      ->check(CLI::Range(0.0f, 100.0f))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Prints JSON");
  command->add_flag("--ops", options->run.per_op_table,
                    "Then runs once more kernel by kernel and prints a table of them; on a GPU also the share of a "
                    "decoding step in gaps between kernels, and what each kernel adds to it (needs NVIDIA's CUPTI)");
  command->callback([options, &action] { action = [options] { bench(*options); }; });
}

}  // namespace weft::cli
