#include "models/session/session.h"

#include <algorithm>

#include "models/rope_scaling.h"
#include "ops/candidates.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"
#include "ops/sample.h"

namespace weft {
namespace {

int64_t context_of(const Model& model, int64_t asked, int64_t enough) {
  const int64_t limit = model.shape().context_length;
  require(asked >= 0, "--ctx must be positive, given {}", asked);
  require(asked <= limit, "--ctx {}: the model was made for {} tokens", asked, limit);
  return asked > 0 ? asked : std::min(enough, limit);
}

/// How many of a row's largest logits a plan finds where k are wanted: there are to be few plans.
int64_t ranked_for(int64_t k, int64_t n_vocab) {
  constexpr int64_t kMost = Session::kMostRanked;
  return std::min(k == 1 ? 1 : k <= kMost / 2 ? kMost / 2 : kMost, n_vocab);
}
static_assert(kMostDrawn <= Session::kMostRanked);

}  // namespace

Precision parse_precision(std::string_view text) {
  if (text == "exact") return Precision::exact;
  require(text == "fast", "--precision {}: expected exact or fast", text);
  return Precision::fast;
}

Session::Session(const Model& model, Runtime& runtime, SessionOptions options)
    : model_(model),
      runtime_(runtime),
      options_(std::move(options)),
      devices_(runtime.devices(options_.backend)),
      cache_(context_of(model, options_.context, options_.enough), options_.max_sequences, kPageSize),
      short_context_(longrope_context(model.metadata(), model.find("rope_factors_long.weight") != nullptr)),
      logits_(&devices_.front().backend->host_memory()),
      tokens_(&devices_.front().backend->host_memory()) {
  if (!options_.kv_type) {
    options_.kv_type = options_.precision == Precision::exact ? DType(quant::f32) : DType(quant::f16);
  }
  // Where placement has a choice it is made by what the devices do, not by what they claim.
  if (std::ranges::count_if(devices_, [](const Device& device) { return device.info().memory_bytes > 0; }) > 1) {
    runtime.calibrate(devices_, model.weight_bytes());
  }
  if (options_.gpu_layers) place_layers();
  const Plan largest = largest_plan();
  why_on_host_ = find_why_on_host(largest);
  options_.pack = largest.packs;  // for every plan, or a weight would be in use mapped and packed
  for (size_t d = 0; d < devices_.size(); ++d) memory_.expect_arena(devices_[d], largest.bytes[d].arena);
}

std::unique_ptr<Graph> Session::write_graph(const PlanKey& key) const {
  auto graph = std::make_unique<Graph>();
  Forward forward(*graph, model_, key, {options_.kv_type, cache_.n_pages(), cache_.page_size()});
  const Value logits = model_.architecture().forward(forward);
  if (key.ranked == 0) graph->output("logits", logits);
  else write_tokens(*graph, logits, forward.ids, key);
  return model_.adapters().empty() ? std::move(graph) : with_adapters(*graph, model_);
}

/// The largest logits, or the tokens drawn of them.
void Session::write_tokens(Graph& graph, Value logits, Value fed, const PlanKey& key) const {
  const auto [values, tokens] = candidates(logits, key.ranked);
  if (!key.drawn) {
    if (key.ranked > 1) graph.output("values", values);
    return graph.output("tokens", tokens);
  }
  const auto input = [&](std::string name, DType dtype, int64_t columns) {
    return graph.input(std::move(name), {dtype, {key.logits, columns}, Rows::logits});
  };
  const Value recent = input("recent", quant::i32, kMostRecent),
              options = input("options", quant::f32, Sample::kOptionColumns),
              draws = input("draws", quant::i32, Sample::kDrawColumns);
  graph.output("tokens", graph.add(Sample{}, {values, tokens, fed, recent, options, draws})[0]);
}

/// Every page of the cache, and the most tokens at once.
std::pair<PlanKey, Workload> Session::largest_step_key() const {
  const int64_t tokens = std::min(largest_step(), context());
  const int64_t pages = (context() + kPageSize - 1) / kPageSize;
  return {{.tokens = tokens, .logits = 1, .sequences = options_.max_sequences, .kv_pages = pages},
          {.tokens = tokens, .kv_length = context()}};
}

Plan Session::largest_plan() const {
  const auto [key, workload] = largest_step_key();
  return make_plan(key, workload);
}

CompileOptions Session::compile_options(const Workload& workload) const {
  CompileOptions options = CompileOptions::from(runtime_.env());
  options.workload = workload;
  options.fallback |= options_.fallback;
  options.pack = options_.pack;
  options.place = options_.place;
  if (options_.precision == Precision::exact) options.coarsest = Arithmetic::f32;
  options.memory = &memory_;
  return options;
}

Plan Session::make_plan(const PlanKey& key, const Workload& workload) const {
  return compile(*write_graph(key), devices_, compile_options(workload));
}

Runner& Session::runner(const PlanKey& key, const Workload& workload) {
  const auto it = runners_.find(key);
  if (it != runners_.end()) return *it->second;
  auto made =
      std::make_unique<Runner>(make_plan(key, workload), runtime_, memory_, /*observable=*/true, options_.observer);
  return *runners_.emplace(key, std::move(made)).first->second;
}

int64_t Session::largest_step() const {
  const bool on_host = std::ranges::all_of(devices_, [](const Device& device) { return device.info().host_memory; });
  return on_host ? 512 : 2048;
}

std::span<const float> Session::step(std::span<const Feed> feeds) {
  ranked_ = 0, drawn_ = {};
  step_checked(feeds);
  return std::span(logits_).first(n_logits_);
}

Ranked Session::step_ranked(std::span<const Feed> feeds, int64_t k) {
  require(k >= 1 && k <= kMostRanked, "the {} largest logits were asked for, 1 to {} can be", k, kMostRanked);
  ranked_ = ranked_for(k, n_vocab()), drawn_ = {};
  step_checked(feeds);
  return {ranked_, std::span(tokens_).first(n_logits_), std::span(logits_).first(ranked_ > 1 ? n_logits_ : 0)};
}

std::optional<std::span<const int32_t>> Session::step_drawn(std::span<const Feed> feeds, std::span<const Draw> draws) {
  require(feeds.size() == draws.size(), "{} sequences are fed, {} tokens drawn", feeds.size(), draws.size());
  int64_t k = 1;
  for (size_t i = 0; i < feeds.size(); ++i) {
    draws[i].options.check();
    const int64_t wanted = drawn_from(draws[i].options);
    const auto fed = feeds[i].tokens, history = draws[i].history;
    if (wanted == 0 || fed.size() != 1 || history.empty() || history.back() != fed[0]) return std::nullopt;
    k = std::max(k, wanted);
  }
  const int64_t ranked = ranked_for(std::max<int64_t>(k, 2), n_vocab());
  if (!can_draw(ranked) || !draw_inputs(draws, false)) return std::nullopt;
  ranked_ = ranked, drawn_ = draws;
  step_checked(feeds);
  return std::span(tokens_).first(n_logits_);
}

/// Whether all of a step is on one device that works beside the host: then it can draw by itself.
bool Session::can_draw(int64_t ranked) {
  if (can_draw_) return *can_draw_;
  can_draw_ = false;
  if (short_context_ > 0) return false;  // steps may be fed anew there
  if (std::ranges::all_of(devices_, [](const Device& device) { return device.info().host_memory; })) return false;
  const auto [key, workload] = decode_key();
  PlanKey drawn = key;
  drawn.ranked = ranked, drawn.drawn = true;
  can_draw_ = runner(drawn, workload).can_follow();
  if (!*can_draw_) runners_.erase(drawn);
  return *can_draw_;
}

void Session::step_checked(std::span<const Feed> feeds) {
  check_feeds(feeds, cache_);
  std::vector<int64_t> before;
  for (const Feed& one : feeds) {
    for (const int32_t id : one.tokens) {
      require(id >= 0 && id < n_vocab(), "token id {} is outside the vocabulary of {}", id, n_vocab());
    }
    before.push_back(cache_.length(one.sequence));
  }
  n_logits_ = 0;
  try {
    if (short_context_ > 0) step_by_length(feeds);
    else feed(feeds, false);
  } catch (...) {
    for (size_t i = 0; i < feeds.size(); ++i)
      truncate(feeds[i].sequence, std::min(before[i], length(feeds[i].sequence)));
    throw;
  }
}

/// Feeds with the factors of the length that each sequence comes to: at once, or one by one where that differs or a
/// sequence's keys must be made anew. If that fails the sequence is empty.
void Session::step_by_length(std::span<const Feed> feeds) {
  const auto wants_long = [&](const Feed& one) {
    const int64_t length = cache_.length(one.sequence) + static_cast<int64_t>(one.tokens.size());
    return std::max(length, histories_[one.sequence].expected) > short_context_;
  };
  const bool first = wants_long(feeds.front());
  const bool together = std::ranges::all_of(feeds, [&](const Feed& one) {
    return wants_long(one) == first && (length(one.sequence) == 0 || histories_[one.sequence].stretched == first);
  });
  if (together) {
    for (const Feed& one : feeds) {
      History& history = histories_[one.sequence];
      history.ids.resize(static_cast<size_t>(length(one.sequence)));
      history.ids.insert(history.ids.end(), one.tokens.begin(), one.tokens.end());
      history.stretched = first;
    }
    return feed(feeds, first);
  }
  for (const Feed& one : feeds) {
    History& history = histories_[one.sequence];
    const int64_t before = cache_.length(one.sequence);
    history.ids.resize(static_cast<size_t>(before));
    const bool stretched = wants_long(one);
    if (before > 0 && stretched != history.stretched) {
      cache_.truncate(one.sequence, 0);
      const Feed again{one.sequence, history.ids};
      const size_t kept = n_logits_;
      feed({&again, 1}, stretched);
      n_logits_ = kept;
    }
    history.stretched = stretched;
    feed({&one, 1}, stretched);
    history.ids.insert(history.ids.end(), one.tokens.begin(), one.tokens.end());
  }
}

void Session::feed(std::span<const Feed> feeds, bool stretched) {
  size_t total = 0;
  for (const Feed& one : feeds) total += one.tokens.size();
  if (total <= static_cast<size_t>(largest_step())) run(feeds, stretched);
  else run_in_pieces(feeds, stretched);
}

int Session::open_sequence(int64_t expected) {
  const int sequence = cache_.open();
  if (short_context_ > 0) histories_[sequence].expected = expected;
  return sequence;
}

void Session::close_sequence(int sequence) {
  cache_.close(sequence);
  histories_.erase(sequence);
}

void Session::truncate(int sequence, int64_t length) { cache_.truncate(sequence, length); }

/// One sequence after the other.
void Session::run_in_pieces(std::span<const Feed> feeds, bool stretched) {
  const auto most = static_cast<size_t>(largest_step());
  for (const Feed& one : feeds) {
    for (size_t at = 0; at < one.tokens.size(); at += most) {
      const size_t n = std::min(most, one.tokens.size() - at), before = n_logits_;
      const Feed piece{one.sequence, one.tokens.subspan(at, n), one.all_logits};
      run({&piece, 1}, stretched);
      const bool last = at + n == one.tokens.size();
      if (!one.all_logits && !last) n_logits_ = before;
    }
  }
}

void Session::run(std::span<const Feed> feeds, bool stretched) {
  StepInputs step = make_step(feeds, cache_);
  PlanKey key = plan_key(step, cache_);
  key.stretched = stretched;
  key.ranked = ranked_;
  key.drawn = !drawn_.empty();
  if (key.drawn) step.draws = *draw_inputs(drawn_, false);
  const auto rows = step.logit_rows.size();
  const Workload workload{.tokens = static_cast<int64_t>(step.ids.size()),
                          .logits = static_cast<int64_t>(rows),
                          .sequences = static_cast<int64_t>(step.kv_lengths.size()),
                          .kv_length = step.longest()};
  Runner& runner = this->runner(key, workload);
  last_ = &runner;
  const bool under_way = ahead_ && ahead_->key == key && ahead_->inputs == step && runner.can_follow();
  ahead_.reset();
  if (!under_way) {
    write_inputs(runner, step, key);
    runner.run(workload);
  }
  const bool one = key.drawn || ranked_ == 1;  // token a row
  if (one && rows == step.ids.size() && n_logits_ == 0 && short_context_ == 0 && runner.can_follow()) {
    if (tokens_.size() < rows) tokens_.resize(rows);
    if (const auto mark = run_ahead(feeds, runner, key, workload)) {
      runner.wait("tokens", *mark);
      ahead_->inputs.ids.assign(tokens_.begin(), tokens_.begin() + static_cast<ptrdiff_t>(rows));
      n_logits_ = rows;
      return;
    }
  }
  const size_t before = n_logits_;
  n_logits_ += rows * static_cast<size_t>(one ? 1 : ranked_ > 0 ? ranked_ : n_vocab());
  const auto read = [&](std::string_view output, auto& data) {
    if (data.size() < n_logits_) data.resize(n_logits_);
    runner.read(output, data.data() + before, (n_logits_ - before) * sizeof(data[0]));
  };
  if (ranked_ > 0) read("tokens", tokens_);
  if (!one) read(ranked_ > 0 ? "values" : "logits", logits_);
}

void Session::write_inputs(Runner& runner, const StepInputs& step, const PlanKey& key) {
  const auto write = [&]<typename T>(std::string_view name, std::vector<T> data, size_t n, T filler) {
    if (!runner.reads_input(name)) return;
    data.resize(n, filler);
    runner.write<T>(name, data);
  };
  const auto tokens = static_cast<size_t>(key.tokens), sequences = static_cast<size_t>(key.sequences);
  write("ids", step.ids, tokens, 0);
  write("positions", step.positions, tokens, 0);
  write("slots", step.slots, tokens, -1);
  write("sequence_ids", step.sequence_ids, tokens, -1);
  write("sequence_starts", step.sequence_starts, sequences + 1, static_cast<int32_t>(step.ids.size()));
  write("kv_lengths", step.kv_lengths, sequences, 0);
  const auto table = page_table(step, key);
  write("page_table", table, table.size(), -1);
  const auto rows = static_cast<size_t>(key.logits);
  write("logit_rows", step.logit_rows, rows, 0);
  write("recent", step.draws.recent, rows * static_cast<size_t>(kMostRecent), -1);
  write("options", step.draws.options, rows * static_cast<size_t>(Sample::kOptionColumns), 1.0f);
  write("draws", step.draws.draws, rows * static_cast<size_t>(Sample::kDrawColumns), 0);
}

/// Starts the step that feeds each sequence the token chosen for it, if the same plan can: a caller that goes on finds
/// it done or under way. The sequences are as long as before; a step that nobody asks for wrote keys that nobody reads,
/// before whatever is written there later. The tokens are in tokens_ after a wait for the mark.
std::optional<uint64_t> Session::run_ahead(std::span<const Feed> feeds, Runner& runner, const PlanKey& key,
                                           const Workload& workload) {
  constexpr int32_t kUnknown = 0;
  std::vector<Feed> next;
  for (const Feed& one : feeds) {
    if (length(one.sequence) >= context()) return std::nullopt;
    next.push_back({one.sequence, {&kUnknown, 1}});
  }
  DrawInputs draws;
  if (key.drawn) {
    auto inputs = draw_inputs(drawn_, true);
    if (!inputs) return std::nullopt;
    draws = *std::move(inputs);
  }
  Ahead ahead{key, make_step(next, cache_)};
  ahead.inputs.draws = std::move(draws);
  const PlanKey needed = plan_key(ahead.inputs, cache_);
  // Backwards: pages go back to where they came from, and the step that is asked for next gets the same ones.
  for (auto one = feeds.rbegin(); one != feeds.rend(); ++one) truncate(one->sequence, length(one->sequence) - 1);
  if (needed.kv_pages != key.kv_pages) return std::nullopt;
  write_inputs(runner, ahead.inputs, key);
  Workload live = workload;
  ++live.kv_length;
  const uint64_t mark = runner.follow(live, "tokens", "ids", tokens_.data(), feeds.size() * sizeof(int32_t));
  ahead_ = std::move(ahead);
  return mark;
}

/// A decoding step of one sequence.
std::pair<PlanKey, Workload> Session::decode_key() const {
  const int64_t pages = std::min<int64_t>(4, (context() + kPageSize - 1) / kPageSize);
  return {{.tokens = 1, .logits = 1, .ranked = 1, .sequences = 1, .kv_pages = pages}, {.kv_length = context() / 2}};
}

const Plan& Session::decode_plan() {
  const auto [key, workload] = decode_key();
  return runner(key, workload).plan();
}

Cost Session::step_cost(const Workload& workload) const {
  const PlanKey key{
      .tokens = workload.tokens, .logits = workload.logits, .sequences = workload.sequences, .kv_pages = 1};
  const std::unique_ptr<Graph> graph = write_graph(key);
  Cost total;
  for (const Node& node : graph->nodes()) {
    const Types in = node.in.map([](const Value& v) { return v.type(); });
    total += node.op->cost(node.attrs.get(), in, node.out, workload);
  }
  return total;
}

MemoryUse Session::memory_use() const {
  return {model_.weight_bytes(), memory_.weights.owned_bytes(), memory_.states.bytes()};
}

std::vector<DeviceUse> Session::device_use() const {
  std::vector<DeviceUse> all;
  for (size_t d = 0; d < devices_.size(); ++d) {
    const Device& device = devices_[d];
    if (device.info().host_memory) continue;
    const OwnMemory own = device.backend->own_memory(device.index);
    DeviceUse use{.device = device.info().name,
                  .weights = memory_.weights.owned_bytes(device),
                  .weight_copies = own.weight_copies,
                  .kv_cache = memory_.states.bytes(device),
                  .workspace = memory_.arena_bytes(device) + own.scratch,
                  .limit = device.info().memory_bytes};
    for (const auto& [key, runner] : runners_) use.workspace += runner->plan().bytes[d].constant;
    all.push_back(std::move(use));
  }
  return all;
}

std::string Session::memory_forecast() const {
  std::vector<size_t> limits;
  for (const Device& device : devices_) limits.push_back(device.info().memory_bytes);
  return weft::memory_forecast(largest_plan(), limits);
}

}  // namespace weft
