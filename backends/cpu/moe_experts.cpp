// moe_experts. A pick is a (token, expert) pair; picks are grouped by expert, so that each chosen expert's weights are
// read once and no other's at all.
//   group     one task: where each expert's picks begin, and whose they are
//   gather    tasks are picks: x of their tokens, side by side, quantized for packed weights (one token: read in
//             place)
//   expand    tasks are units of F, for every chosen expert: interm = act(gate, up)
//   contract  tasks are units of D, for every chosen expert in ascending order: output += weight * (interm Wdown^T + b)
// Every thread has a share of every expert, so uneven routing does not unbalance them. Bound by the chosen experts'
// bytes at few tokens, by arithmetic at many.
#include "ops/moe_experts.h"

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/mlp.h"

namespace weft::cpu {
namespace {

/// Sizes of a match, and what they take in the workspace, in its order.
struct Plan {
  int64_t tokens, per_token, experts, d, f;
  Products products;

  Plan(const Match& match, Products how)
      : tokens(match.type(MoeExperts::kX).shape[0]),
        per_token(match.type(MoeExperts::kExpertIds).shape[1]),
        experts(match.type(MoeExperts::kWeightUp).shape[0]),
        d(match.type(MoeExperts::kX).shape[1]),
        f(match.type(MoeExperts::kWeightUp).shape[1]),
        products(how) {}

  int64_t picks() const { return tokens * per_token; }
  int64_t inputs() const { return tokens > 1 ? picks() : 1; }  // rows that gate and up see: one a pick, or x itself
  size_t interm() const { return static_cast<size_t>(picks() * f) * sizeof(float); }
  size_t gathered() const { return tokens > 1 ? static_cast<size_t>(picks() * d) * sizeof(float) : 0; }
  size_t quantized_x() const { return Quantizer::workspace_bytes(products, inputs(), d); }
  size_t quantized_interm() const { return Quantizer::workspace_bytes(products, picks(), f); }
  size_t groups() const { return static_cast<size_t>(experts + 1 + picks()) * sizeof(int32_t); }
  size_t workspace() const { return interm() + gathered() + quantized_x() + quantized_interm() + groups(); }
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
  Experts(const IsaKernels& isa, const Plan& plan, const Call& call)
      : isa_(&isa),
        op_(call.match.op<MoeExperts>()),
        plan_(plan),
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
        interm_(reinterpret_cast<float*>(call.workspace)),
        gathered_(plan.tokens > 1 ? reinterpret_cast<float*>(call.workspace + plan.interm()) : nullptr),
        quantize_x_(isa, up_.packed() ? up_ : gate_, plan.products, plan.inputs(),
                    call.workspace + plan.interm() + plan.gathered()),
        quantize_interm_(isa, down_, plan.products, plan.picks(),
                         call.workspace + plan.interm() + plan.gathered() + plan.quantized_x()) {
    groups_.begins = reinterpret_cast<int32_t*>(call.workspace + plan.workspace() - plan.groups());
    groups_.picks = groups_.begins + plan.experts + 1;
  }

  size_t scratch_bytes() const {
    return fixed_scratch() + std::max(quantize_x_.scratch_bytes(), quantize_interm_.scratch_bytes());
  }
  bool gathers() const { return gathered_ != nullptr; }

  void group(int64_t n_tokens) const { groups_.sort(ids_, n_tokens * plan_.per_token, plan_.experts); }
  int64_t n_picks() const { return groups_.begins[plan_.experts]; }

  void gather(int64_t first, int64_t last) const {
    for (int64_t i = first; i < last; ++i) {
      const int64_t token = groups_.picks[i] / plan_.per_token;
      std::memcpy(gathered_ + i * plan_.d, x_ + token * plan_.d, static_cast<size_t>(plan_.d) * sizeof(float));
    }
    if (quantize_x_.shared()) quantize_x_.rows(gathered_, plan_.d, first, last);
  }

  bool quantizes_interm() const { return quantize_interm_.shared(); }
  void quantize_interm(int64_t first, int64_t last) const { quantize_interm_.rows(interm_, plan_.f, first, last); }

  /// Units [first, last) of F for every pick. `worker`: of scratch_bytes().
  void expand(int64_t first, int64_t last, const Worker& worker) const {
    std::byte* const scratch = worker.scratch;
    float* const gate = reinterpret_cast<float*>(scratch + tiling(plan_.products).scratch);
    const Activations a = quantize_x_(gathered_ ? gathered_ : x_, plan_.d, gathered_ ? n_picks() : 1,
                                      scratch + fixed_scratch(), worker.fresh);
    for_experts([&](int64_t e, int64_t pick, int64_t n_picks) {
      for_tiles(plan_.products, first, last, plan_.f, n_picks, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
        const Activations x = a.from(gathered_ ? pick + t : 0, plan_.d);
        float* up = interm_ + (pick + t) * plan_.f + begin;
        const int64_t rows = end - begin, row = e * plan_.f;
        up_.multiply(*isa_, row + begin, row + end, x, n, up, plan_.f, scratch);
        gate_.multiply(*isa_, row + begin, row + end, x, n, gate, rows, scratch);
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

  /// Units [first, last) of D for every token. `worker`: of scratch_bytes().
  void contract(int64_t first, int64_t last, int64_t n_tokens, const Worker& worker) const {
    std::byte* const scratch = worker.scratch;
    const int64_t low = first * kRowUnit, high = std::min(last * kRowUnit, plan_.d);
    for (int64_t t = 0; t < n_tokens; ++t) std::fill(out_ + t * plan_.d + low, out_ + t * plan_.d + high, 0.0f);
    float* const y = reinterpret_cast<float*>(scratch + tiling(plan_.products).scratch);
    const Activations a = quantize_interm_(interm_, plan_.f, n_picks(), scratch + fixed_scratch(), worker.fresh);
    for_experts([&](int64_t e, int64_t pick, int64_t n_picks) {
      for_tiles(plan_.products, first, last, plan_.d, n_picks, [&](int64_t t, int64_t n, int64_t begin, int64_t end) {
        const int64_t rows = end - begin, row = e * plan_.d;
        down_.multiply(*isa_, row + begin, row + end, a.from(pick + t, plan_.f), n, y, rows, scratch);
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

  /// Of the matmul, and the rows of one tile.
  size_t fixed_scratch() const {
    const int64_t share = (std::max(plan_.f, plan_.d) + 15) / 16 * 16;
    const Tiling tile = tiling(plan_.products);
    return tile.scratch + sizeof(float) * static_cast<size_t>(std::max(tile.tokens * tile.rows, share));
  }

  const IsaKernels* isa_;
  MoeExperts op_;
  Plan plan_;
  Weights up_, gate_, down_;  // [E F, D], [E F, D], [E D, F]
  const float* x_;
  const int32_t* ids_;
  const float *pick_weights_, *bias_up_, *bias_gate_, *bias_down_;
  float *out_, *interm_, *gathered_;
  Quantizer quantize_x_, quantize_interm_;
  Groups groups_{};
};

void prepare(const IsaKernels& isa, Products products, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  const Plan plan(call.match, products);
  cpu.begin(call, plan.workspace());
  const Experts experts(isa, plan, call);
  cpu.scratch(experts.scratch_bytes());
  const auto tokens = [type = call.out[0].type, live = call.live] { return live_count(type, live); };
  const auto picks = [=] { return experts.n_picks(); };
  cpu.phase(1, [=](int64_t, int64_t, const Worker&) { experts.group(tokens()); });
  if (experts.gathers()) {
    cpu.phase(picks, [=](int64_t first, int64_t last, const Worker&) { experts.gather(first, last); });
  }
  const auto expand = [=](int64_t first, int64_t last, const Worker& worker) { experts.expand(first, last, worker); };
  cpu.phase((plan.f + kRowUnit - 1) / kRowUnit, expand, After::previous, unit_grain(plan.tokens, plan.products));
  if (experts.quantizes_interm()) {
    cpu.phase(picks, [=](int64_t first, int64_t last, const Worker&) { experts.quantize_interm(first, last); });
  }
  const auto contract = [=](int64_t first, int64_t last, const Worker& worker) {
    experts.contract(first, last, tokens(), worker);
  };
  cpu.phase((plan.d + kRowUnit - 1) / kRowUnit, contract, After::previous, unit_grain(plan.tokens, plan.products));
}

}  // namespace

Kernel moe_experts(const IsaKernels& isa, Products products) {
  return {.name = kernel_name(MoeExperts::name, isa, products),
          .covers = {MoeExperts::name},
          .arithmetic = arithmetic_of(products),
          .refuses =
              [&isa, products](const Match& match, const DeviceInfo&) {
                return refuses_weights(
                    isa, match, {MoeExperts::kWeightUp, MoeExperts::kWeightGate, MoeExperts::kWeightDown}, products);
              },
          .layout = layout_of(products),
          .workspace = [products](const Match& match) { return Plan(match, products).workspace(); },
          .prepare = [&isa, products](const Call& call, Steps& steps) { prepare(isa, products, call, steps); }};
}

}  // namespace weft::cpu
