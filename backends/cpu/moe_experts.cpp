// moe_experts. A pick is a (token, expert) pair; picks are grouped by expert, so that each chosen expert's weights are
// read once and no other's at all.
//   group     one task: where each expert's picks begin, and whose they are
//   gather    tasks are picks: x of their tokens, side by side (a step of one token reads x in place)
//   expand    tasks are units of F, for every chosen expert: interm = act(gate, up)
//   contract  tasks are units of D, for every chosen expert in ascending order: output += weight * (interm Wdown^T + b)
// Every thread has a share of every expert, so uneven routing does not unbalance them. Bound by the chosen experts'
// bytes at few tokens, by FMA at many.
#include "ops/moe_experts.h"

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/mlp.h"

namespace weft::cpu {
namespace {

/// Sizes of a match, and where things are in the workspace.
struct Plan {
  int64_t tokens, per_token, experts, d, f;

  explicit Plan(const Match& match)
      : tokens(match.type(MoeExperts::kX).shape[0]),
        per_token(match.type(MoeExperts::kExpertIds).shape[1]),
        experts(match.type(MoeExperts::kWeightUp).shape[0]),
        d(match.type(MoeExperts::kX).shape[1]),
        f(match.type(MoeExperts::kWeightUp).shape[1]) {}

  int64_t picks() const { return tokens * per_token; }
  size_t interm_bytes() const { return static_cast<size_t>(picks() * f) * sizeof(float); }
  size_t gathered_bytes() const { return tokens > 1 ? static_cast<size_t>(picks() * d) * sizeof(float) : 0; }
  size_t group_bytes() const { return static_cast<size_t>(experts + 1 + picks()) * sizeof(int32_t); }
  size_t workspace() const { return interm_bytes() + gathered_bytes() + group_bytes(); }
};

/// Picks in the order of their experts, then tokens.
struct Groups {
  int32_t* begins;  // [experts + 1]: where the picks of each expert begin
  int32_t* picks;   // [picks]: token * per_token + place

  /// Counts, then places. Picks of experts that do not exist belong to no group.
  void sort(const int32_t* ids, int64_t n_picks, int64_t experts) const {
    const auto exists = [&](int64_t pick) { return ids[pick] >= 0 && ids[pick] < experts; };
    std::fill_n(begins, experts + 1, 0);
    for (int64_t p = 0; p < n_picks; ++p) begins[experts] += exists(p);
    for (int64_t p = 0; p < n_picks; ++p) {
      if (exists(p)) ++begins[ids[p]];
    }
    for (int64_t e = 0, at = 0; e < experts; ++e) {
      const int32_t count = begins[e];
      begins[e] = static_cast<int32_t>(at);
      at += count;
    }
    for (int64_t p = 0; p < n_picks; ++p) {
      if (exists(p)) picks[begins[ids[p]]++] = static_cast<int32_t>(p);
    }
    for (int64_t e = experts - 1; e > 0; --e) begins[e] = begins[e - 1];
    begins[0] = 0;
  }
};

class Experts {
 public:
  Experts(const IsaKernels& isa, const Call& call)
      : isa_(&isa),
        op_(call.match.op<MoeExperts>()),
        plan_(call.match),
        up_(call.inputs(MoeExperts::kWeightUp)),
        gate_(call.inputs(MoeExperts::kWeightGate)),
        down_(call.inputs(MoeExperts::kWeightDown)),
        x_(call.input(MoeExperts::kX).as<float>()),
        ids_(call.input(MoeExperts::kExpertIds).as<int32_t>()),
        pick_weights_(call.input(MoeExperts::kExpertWeights).as<float>()),
        bias_up_(call.input(MoeExperts::kBiasUp).as<float>()),
        bias_gate_(call.input(MoeExperts::kBiasGate).as<float>()),
        bias_down_(call.input(MoeExperts::kBiasDown).as<float>()),
        out_(call.out[0].as<float>()),
        interm_(reinterpret_cast<float*>(call.workspace)) {
    std::byte* const after = call.workspace + plan_.interm_bytes();
    gathered_ = plan_.gathered_bytes() > 0 ? reinterpret_cast<float*>(after) : nullptr;
    groups_.begins = reinterpret_cast<int32_t*>(after + plan_.gathered_bytes());
    groups_.picks = groups_.begins + plan_.experts + 1;
  }

  const Plan& plan() const { return plan_; }
  bool gathers() const { return gathered_ != nullptr; }

  void group(int64_t n_tokens) const { groups_.sort(ids_, n_tokens * plan_.per_token, plan_.experts); }
  int64_t n_picks() const { return groups_.begins[plan_.experts]; }

  void gather(int64_t first, int64_t last) const {
    for (int64_t i = first; i < last; ++i) {
      const int64_t token = groups_.picks[i] / plan_.per_token;
      std::memcpy(gathered_ + i * plan_.d, x_ + token * plan_.d, static_cast<size_t>(plan_.d) * sizeof(float));
    }
  }

  /// Units [first, last) of F for every pick. `scratch`: Mlp::scratch_bytes(f).
  void expand(int64_t first, int64_t last, std::byte* scratch) const {
    float* const gate = reinterpret_cast<float*>(scratch + kMatmulScratch);
    for_experts([&](int64_t e, int64_t pick, int64_t n_picks) {
      for_tiles(first, last, plan_.f, n_picks, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
        const float* x = gathered_ ? gathered_ + (pick + t) * plan_.d : x_;
        float* up = interm_ + (pick + t) * plan_.f + begin;
        const int64_t rows = end - begin, row = e * plan_.f;
        up_.multiply(*isa_, row + begin, row + end, x, plan_.d, n, up, plan_.f, scratch);
        gate_.multiply(*isa_, row + begin, row + end, x, plan_.d, n, gate, rows, scratch);
        for (int64_t i = 0; i < n; ++i) {
          float *u = up + i * plan_.f, *g = gate + i * rows;
          if (bias_up_) isa_->add(u, bias_up_ + row + begin, rows);
          if (bias_gate_) isa_->add(g, bias_gate_ + row + begin, rows);
          if (op_.activation == Activation::gated_swiglu_clamped) {
            isa_->gate_clamped(op_.alpha, op_.limit, u, g, rows);
          } else {
            isa_->gate(plain(op_.activation), u, g, rows);
          }
        }
      });
    });
  }

  /// Units [first, last) of D for every token. `scratch`: Mlp::scratch_bytes(d).
  void contract(int64_t first, int64_t last, int64_t n_tokens, std::byte* scratch) const {
    const int64_t low = first * kRowUnit, high = std::min(last * kRowUnit, plan_.d);
    for (int64_t t = 0; t < n_tokens; ++t) std::fill(out_ + t * plan_.d + low, out_ + t * plan_.d + high, 0.0f);
    float* const y = reinterpret_cast<float*>(scratch + kMatmulScratch);
    for_experts([&](int64_t e, int64_t pick, int64_t n_picks) {
      for_tiles(first, last, plan_.d, n_picks, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
        const int64_t rows = end - begin, row = e * plan_.d;
        down_.multiply(*isa_, row + begin, row + end, interm_ + (pick + t) * plan_.f, plan_.f, n, y, rows, scratch);
        for (int64_t i = 0; i < n; ++i) {
          const int64_t p = groups_.picks[pick + t + i];
          float* const to = out_ + p / plan_.per_token * plan_.d + begin;
          if (bias_down_) isa_->add(y + i * rows, bias_down_ + row + begin, rows);
          isa_->scale(y + i * rows, pick_weights_[p], rows);
          isa_->add(to, y + i * rows, rows);
        }
      });
    });
  }

 private:
  /// f(expert, first pick, picks) for the chosen experts.
  template <typename F>
  void for_experts(F f) const {
    for (int64_t e = 0; e < plan_.experts; ++e) {
      const int64_t first = groups_.begins[e], last = groups_.begins[e + 1];
      if (first < last) f(e, first, last - first);
    }
  }

  const IsaKernels* isa_;
  MoeExperts op_;
  Plan plan_;
  Weights up_, gate_, down_;  // [E F, D], [E F, D], [E D, F]
  const float* x_;
  const int32_t* ids_;
  const float *pick_weights_, *bias_up_, *bias_gate_, *bias_down_;
  float *out_, *interm_, *gathered_;
  Groups groups_{};
};

size_t workspace(const Match& match) { return Plan(match).workspace(); }

void prepare(const IsaKernels& isa, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, workspace(call.match));
  const Experts experts(isa, call);
  const Plan& plan = experts.plan();
  cpu.scratch(Mlp::scratch_bytes(std::max(plan.f, plan.d)));
  const auto tokens = [type = call.out[0].type, live = call.live] { return live_count(type, live); };
  cpu.phase(1, [=](int64_t, int64_t, const Worker&) { experts.group(tokens()); });
  if (experts.gathers()) {
    cpu.phase([=] { return experts.n_picks(); },
              [=](int64_t first, int64_t last, const Worker&) { experts.gather(first, last); });
  }
  cpu.phase((plan.f + kRowUnit - 1) / kRowUnit,
            [=](int64_t first, int64_t last, const Worker& worker) { experts.expand(first, last, worker.scratch); });
  cpu.phase((plan.d + kRowUnit - 1) / kRowUnit, [=](int64_t first, int64_t last, const Worker& worker) {
    experts.contract(first, last, tokens(), worker.scratch);
  });
}

std::optional<std::string> refuses(const Match& match, const DeviceInfo&) {
  for (const size_t slot : {MoeExperts::kWeightUp, MoeExperts::kWeightGate, MoeExperts::kWeightDown}) {
    if (auto reason = refuses_weights(match, slot)) return reason;
  }
  return {};
}

}  // namespace

Kernel moe_experts(const IsaKernels& isa) {
  return {.name = fmt::format("moe_experts.{}", isa.name),
          .covers = {MoeExperts::name},
          .arithmetic = Arithmetic::f32,
          .refuses = refuses,
          .layout = nullptr,
          .workspace = workspace,
          .prepare = [&isa](const Call& call, Steps& steps) { prepare(isa, call, steps); }};
}

}  // namespace weft::cpu
