// residual_add: tasks are runs of kColumns columns of one token, one phase. Bound by memory, or by L2 after mlp_gemm.
#include "backends/cpu/kernels.h"
#include "backends/cpu/residual.h"
#include "backends/cpu/steps.h"

namespace weft::cpu {
namespace {

constexpr int64_t kColumns = 512;

void prepare(const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, 0);
  const Residual residual(call, 0);
  const Tensor hidden = call.input(ResidualAdd::kHidden), y = call.out[0];
  const int64_t d = y.dim(1), runs = (d + kColumns - 1) / kColumns;
  cpu.phase([type = y.type, live = call.live, runs] { return live_count(type, live) * runs; },
            [=](int64_t first, int64_t last, const Worker&) {
              for (int64_t i = first; i < last; ++i) {
                const int64_t t = i / runs, begin = i % runs * kColumns, at = t * d + begin;
                residual.add(hidden.as<float>() + at, t, begin, std::min(begin + kColumns, d), y.as<float>() + at);
              }
            });
}

}  // namespace

Residual::Residual(const Call& call, size_t node)
    : attention_bias_(call.input(ResidualAdd::kAttentionBias, node).as<float>()),
      final_bias_(call.input(ResidualAdd::kFinalBias, node).as<float>()),
      d_(call.out[0].dim(1)) {
  const auto& op = call.match.op<ResidualAdd>(node);
  residual_ = call.input(ResidualAdd::kResidual, node).as<float>();
  attention_ = call.input(ResidualAdd::kAttention, node).as<float>();
  parallel_ = !op.mlp_after_attn;
  inverse_mp_ = 1.0f / static_cast<float>(op.mp_size);
  if (op.mlp_after_attn && !op.pre_layer_norm) {  // post-norm: residual + hidden + final_bias
    attention_ = attention_bias_ = nullptr;
    inverse_mp_ = 1;
  }
}

void Residual::add(const float* hidden, int64_t t, int64_t first, int64_t last, float* y) const {
  const float* residual = residual_ + t * d_;
  const float* attention = attention_ ? attention_ + t * d_ : nullptr;
  for (int64_t c = first; c < last; ++c) {
    const float attended = attention ? attention[c] : 0;
    float shared = residual[c] + (parallel_ ? 0 : attended);  // by the tensor-parallel ranks
    if (attention_bias_) shared += attention_bias_[c];
    if (final_bias_) shared += final_bias_[c];
    y[c - first] = shared * inverse_mp_ + hidden[c - first] + (parallel_ ? attended : 0);
  }
}

Kernel residual_add(const IsaKernels& isa) {
  return {.name = fmt::format("residual_add.{}", isa.name),
          .covers = {ResidualAdd::name},
          .arithmetic = Arithmetic::f32,
          .refuses = nullptr,
          .layout = nullptr,
          .workspace = nullptr,
          .prepare = prepare};
}

}  // namespace weft::cpu
