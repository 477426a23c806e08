// A model being run: its KV cache, its plans by key, and the step that feeds tokens and returns logits.
#pragma once

#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/passes/passes.h"
#include "graph/runner.h"
#include "models/model.h"
#include "models/session/batcher.h"

namespace weft {

enum class Precision : uint8_t {
  exact,  // f32 activations, accumulation and KV cache
  fast,   // 16- or 8-bit activations and 16-bit KV allowed
};
Precision parse_precision(std::string_view text);

struct SessionOptions {
  std::string backend = "auto";
  Precision precision = Precision::fast;
  DType kv_type;          // none: f32 for exact, f16 for fast
  int64_t context = 0;    // tokens a sequence may have; 0 = enough, and no more than the model was made for
  int64_t enough = 8192;  // tokens that the longest sequence will have, as far as is known
  int64_t max_sequences = 1;
  bool fallback = false;
  bool pack = true;  // weights in host memory may be packed: faster, and copies of the mapped file
  std::vector<PlaceRule> place;
  /// Layers to have on devices with memory of their own, from the first on, as far as they fit; the others go to the
  /// host. None: by predicted time.
  std::optional<int64_t> gpu_layers = {};
  StepObserver* observer = nullptr;  // sees every step; must outlive the session
};

/// The largest logits of each row, best first, as ops/candidates.h gives them.
struct Ranked {
  int64_t each = 0;                 // a row
  std::span<const int32_t> tokens;  // [rows, each]
  std::span<const float> logits;    // the same; none where each is 1
};

/// What a session takes, in bytes.
struct MemoryUse {
  size_t weights = 0;        // of the model, mapped or uploaded
  size_t weight_copies = 0;  // packed or uploaded copies this session owns
  size_t kv_cache = 0;
};

/// What a session takes of one device, in bytes.
struct DeviceUse {
  std::string device;
  size_t weights = 0;        // copies this session owns, uploaded or packed
  size_t weight_copies = 0;  // in 16 bits, of those, which the backend made; of all its sessions
  size_t kv_cache = 0;
  size_t workspace = 0;  // values of a step and scratch
  size_t limit = 0;      // that may be used

  size_t all() const { return weights + weight_copies + kv_cache + workspace; }
};

class Session {
 public:
  static constexpr int64_t kPageSize = 64;     // tokens
  static constexpr int64_t kMostRanked = 128;  // that step_ranked gives

  /// `model` and `runtime` must outlive the session. Throws Error, with the forecast, if the context or the memory does
  /// not fit.
  Session(const Model& model, Runtime& runtime, SessionOptions options);

  /// `expected`: tokens it will come to, if known. A longrope model then has the factors of that length from the first
  /// step on, so that feeding by chunks gives what feeding at once gives.
  int open_sequence(int64_t expected = 0);
  void close_sequence(int sequence);
  /// Tokens cached of a sequence, and how many it may have.
  int64_t length(int sequence) const { return cache_.length(sequence); }
  int64_t context() const { return cache_.context(); }
  void truncate(int sequence, int64_t length);

  /// Feeds tokens and returns the wanted logits, [rows, vocab] in the order of the feeds. The span is valid until the
  /// next step. A sequence that passes the context which longrope's short factors are for has its keys, which are
  /// cached after rotation, made anew with the long ones, as transformers does: that step feeds all of it. Throws
  /// Error, changing nothing, if a sequence has no room or an id is out of range, or the plan cannot be made.
  std::span<const float> step(std::span<const Feed> feeds);
  /// As step(), but of each row only the `k` largest logits, or a few more, found where the logits are: k is from 1 to
  /// kMostRanked. With k = 1, fed one token each, a device with memory of its own starts the next step on what it chose
  /// before that is asked for.
  Ranked step_ranked(std::span<const Feed> feeds, int64_t k);
  /// As step(), with a token drawn of each row where the logits are, a Draw a feed: what Sampler::sample draws from
  /// these logits, but that the device's exp of double precision may differ in its last bit, so that a draw within
  /// 1e-14 of the border between two tokens may fall to the other. As with the largest one, the next step is started on
  /// what was drawn. -1: no logit is above -infinity. Nothing, and nothing is fed, where the host has to draw: more
  /// than one token of a sequence is fed, or draws.h has no form for it, or the model is not whole on one device with
  /// memory of its own, or the session is watched.
  std::optional<std::span<const int32_t>> step_drawn(std::span<const Feed> feeds, std::span<const Draw> draws);

  /// Tokens fed at once; longer feeds are cut. More where a device of its own has the matrices.
  int64_t largest_step() const;
  int64_t n_vocab() const { return model_.shape().n_vocab; }
  const Model& model() const { return model_; }
  /// The plan that a decoding step of one sequence replays.
  const Plan& decode_plan();
  /// The plan that the last step replayed; null before the first.
  const Plan* last_plan() const { return last_ ? &last_->plan() : nullptr; }
  /// Operations and bytes of a step, as the ops themselves count them.
  Cost step_cost(const Workload& workload) const;
  MemoryUse memory_use() const;
  /// The same by device, of those that have memory of their own: now, so that copies are seen once they are made.
  std::vector<DeviceUse> device_use() const;
  /// Of options.gpu_layers, those that fit.
  std::optional<int64_t> gpu_layers() const { return options_.gpu_layers; }
  /// In a few words, why the weights are on the host though there is a device with memory of its own; empty where that
  /// is not so.
  const std::string& why_on_host() const { return why_on_host_; }
  /// The rules of options.place that match nothing.
  std::vector<PlaceRule> idle_rules() const;
  /// A decoding step at half the context as a table, a row a node: where, why, and how long, as predicted and as
  /// measured, which runs it a few times.
  std::string explain();
  /// A table of what the largest step takes of each device, against what is free.
  std::string memory_forecast() const;
  /// Whether weights are packed where that is faster: false if that was not asked for, or the copies do not fit.
  bool packs() const { return options_.pack; }
  size_t n_plans() const { return runners_.size(); }
  const std::vector<Device>& devices() const { return devices_; }

 private:
  std::unique_ptr<Graph> write_graph(const PlanKey& key) const;
  CompileOptions compile_options(const Workload& workload) const;
  Plan make_plan(const PlanKey& key, const Workload& workload) const;
  std::pair<PlanKey, Workload> largest_step_key() const;
  std::pair<PlanKey, Workload> decode_key() const;
  Plan largest_plan() const;
  void place_layers();
  std::string find_why_on_host(const Plan& largest) const;
  Runner& runner(const PlanKey& key, const Workload& workload);
  void step_checked(std::span<const Feed> feeds);
  void feed(std::span<const Feed> feeds, bool stretched);
  void run_in_pieces(std::span<const Feed> feeds, bool stretched);
  void run(std::span<const Feed> feeds, bool stretched);
  void write_inputs(Runner& runner, const StepInputs& step, const PlanKey& key);
  void step_by_length(std::span<const Feed> feeds);
  void write_tokens(Graph& graph, Value logits, Value fed, const PlanKey& key) const;
  bool can_draw(int64_t ranked);
  std::optional<uint64_t> run_ahead(std::span<const Feed> feeds, Runner& runner, const PlanKey& key,
                                    const Workload& workload);

  const Model& model_;
  Runtime& runtime_;
  SessionOptions options_;
  std::vector<Device> devices_;
  KvCache cache_;
  /// Of longrope models with two sets of factors, what was fed to a sequence and which set its keys were made with.
  struct History {
    std::vector<int32_t> ids;
    int64_t expected = 0;  // tokens
    bool stretched = false;
  };
  int64_t short_context_;  // tokens up to which a sequence has the short factors; 0: the model has but one set
  std::map<int, History> histories_;
  Memory memory_;
  std::string why_on_host_;
  std::map<PlanKey, std::unique_ptr<Runner>> runners_;
  const Runner* last_ = nullptr;
  int64_t ranked_ = 0;              // PlanKey::ranked of this step
  std::span<const Draw> drawn_;     // of this step; none where no token is drawn
  std::optional<bool> can_draw_;    // once that is known
  std::pmr::vector<float> logits_;  // never shrinks; n_logits_ of them are of this step
  size_t n_logits_ = 0;
  std::pmr::vector<int32_t> tokens_;  // of this step, as many as logits or drawn, where ranked_ is not 0
  /// A step that was started on the tokens that the last one chose.
  struct Ahead {
    PlanKey key;
    StepInputs inputs;  // ids once they are known
  };
  std::optional<Ahead> ahead_;
};

}  // namespace weft
