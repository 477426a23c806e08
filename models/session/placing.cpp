// What a session says of where its model runs, and --gpu-layers.
#include <algorithm>

#include "graph/size_text.h"
#include "models/session/session.h"

namespace weft {
namespace {

bool has_own_memory(const Device& device) { return !device.info().host_memory; }

/// Times of the steps of a plan, each launched by itself: the shortest of its runs.
class StepTimes final : public StepObserver {
 public:
  void after(const StepView& view) override {
    const auto [it, added] = times_us_.try_emplace(view.match.nodes.back(), view.time_us);
    if (!added) it->second = std::min(it->second, view.time_us);
  }
  double of(const Step& step) const {
    const auto it = times_us_.find(step.match.nodes.back());
    return it == times_us_.end() ? -1 : it->second;
  }

 private:
  std::map<NodeId, double> times_us_;
};

}  // namespace

/// The most layers that fit, found by halving: rules for as many are added to options_.place.
void Session::place_layers() {
  const int64_t n_layer = model_.shape().n_layer, asked = std::min(*options_.gpu_layers, n_layer);
  const std::string option = fmt::format("--gpu-layers {}", *options_.gpu_layers);
  const auto gpu = std::ranges::find_if(devices_, has_own_memory);
  const auto host = std::ranges::find_if_not(devices_, has_own_memory);
  require(asked == 0 || gpu != devices_.end(), "{}: --backend {} has no GPU", option, options_.backend);
  require(asked == n_layer || host != devices_.end(), "{}: --backend {} leaves the other {} layers of {} no device",
          option, options_.backend, n_layer - asked, n_layer);
  const std::vector<PlaceRule> given = options_.place;
  const auto place = [&](int64_t n) {
    options_.place = given;
    for (int64_t i = 0; i < n_layer; ++i) {
      const std::string_view device = i < n ? gpu->backend->name() : std::string_view(host->info().name);
      options_.place.push_back({fmt::format("blk.{}.*", i), std::string(device), option});
    }
  };
  const auto fits = [&](int64_t n) {
    try {
      place(n);
      largest_plan();
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  int64_t most = asked;
  if (host != devices_.end() && !fits(asked)) {
    most = 0;  // fits, or nothing does and the plan says why
    for (int64_t above = asked; above - most > 1;) {
      const int64_t middle = (most + above) / 2;
      (fits(middle) ? most : above) = middle;
    }
  }
  place(most);
  options_.gpu_layers = most;
}

std::vector<PlaceRule> Session::idle_rules() const {
  if (options_.place.empty()) return {};
  auto idle = passes::idle_rules(*write_graph(largest_step_key().first), options_.place);
  std::erase_if(idle, [](const PlaceRule& rule) { return !rule.option.empty(); });
  return idle;
}

std::string Session::find_why_on_host(const Plan& largest) const {
  const auto gpu = std::ranges::find_if(devices_, has_own_memory);
  if (gpu == devices_.end() || !options_.place.empty()) return {};
  for (size_t d = 0; d < devices_.size(); ++d) {
    if (has_own_memory(devices_[d]) && largest.bytes[d].copied > 0) return {};
  }
  const auto [key, workload] = largest_step_key();
  CompileOptions options = compile_options(workload);
  options.memory_limit = {SIZE_MAX};
  const DeviceInfo& info = gpu->info();
  try {
    const Plan alone = compile(*write_graph(key), {&*gpu, 1}, options);
    const size_t needed = alone.bytes[0].total();
    if (needed > info.memory_bytes) {
      return fmt::format("{} has {} free, the model needs {}", info.name, size_text(info.memory_bytes),
                         size_text(needed));
    }
    return fmt::format("{} tokens take {:.0f} us there by prediction, {:.0f} us on {}", workload.tokens,
                       largest.predicted_us, alone.predicted_us, info.name);
  } catch (const Error& error) {
    return error.what();
  }
}

/// The cache is as it was made, zeros: attention to it takes as long.
std::string Session::explain() {
  const int64_t length = std::max<int64_t>(context() / 2, 1);
  constexpr int32_t kToken = 0;
  const int sequence = cache_.open();
  cache_.extend(sequence, length - 1);
  const Feed feed{sequence, {&kToken, 1}};
  const StepInputs step = make_step({&feed, 1}, cache_);
  PlanKey key = plan_key(step, cache_);
  key.ranked = 1;
  const Workload workload{.kv_length = length};
  StepTimes times;
  Runner runner(make_plan(key, workload), runtime_, memory_, /*observable=*/false, &times);
  write_inputs(runner, step, key);
  for (int run = 0; run < 4; ++run) runner.run(workload);
  cache_.close(sequence);
  std::vector<double> measured_us;
  for (const Step& one : runner.plan().steps) measured_us.push_back(times.of(one));
  return explain_plan(runner.plan(), workload, measured_us);
}

}  // namespace weft
