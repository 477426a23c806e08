#include "backends/cpu/heads.h"

#include <cmath>
#include <cstring>

#include "ops/quant/f16.h"

namespace weft::cpu {
namespace {

int64_t padded(int64_t d) { return (d + 15) / 16 * 16; }

}  // namespace

Heads::Heads(const IsaKernels& isa, const Call& call)
    : isa_(&isa),
      op_(call.match.op<SoftmaxContext>()),
      qkv_(call.input(SoftmaxContext::kQkv)),
      k_cache_(call.input(SoftmaxContext::kKCache)),
      v_cache_(call.input(SoftmaxContext::kVCache)),
      positions_(call.input(SoftmaxContext::kPositions)),
      slots_(call.input(SoftmaxContext::kSlots)),
      q_gamma_(call.input(SoftmaxContext::kQGamma)),
      k_gamma_(call.input(SoftmaxContext::kKGamma)),
      factors_(call.input(SoftmaxContext::kRopeFactors)),
      queries_(reinterpret_cast<float*>(call.workspace)),
      capacity_(qkv_.dim(0)),
      q_stride_(padded(op_.d_head)) {
  const Rope rope{.rotary = op_.rotary, .rotary_dim = op_.rotary_dim, .theta = op_.rope_theta};
  if (op_.rotary == Rotary::none) op_.rotary_dim = 0;
  for (int i = 0; i < op_.rotary_dim / 2; ++i) frequencies_.push_back(rope.frequency(i));
}

size_t Heads::workspace_bytes(const Match& match) {
  const auto& op = match.op<SoftmaxContext>();
  return sizeof(float) * static_cast<size_t>(match.type(SoftmaxContext::kQkv).shape[0] * op.n_head * padded(op.d_head));
}

float Heads::row_scale(const float* row, const Tensor& gamma, int64_t heads) const {
  const int64_t n = heads * op_.d_head;
  if (!gamma || gamma.type.elements() != n || heads == 1) return 0;
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(row[i]) * static_cast<double>(row[i]);
  return static_cast<float>(1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(op_.qk_norm_eps)));
}

void Heads::rotate(const float* turn, float* head) const {
  const int64_t half = op_.rotary_dim / 2;
  const bool halves = op_.rotary == Rotary::half;
  for (int64_t i = 0; i < half; ++i) {
    float &a = head[halves ? i : 2 * i], &b = head[halves ? i + half : 2 * i + 1];
    const float c = turn[i], s = turn[half + i], x = a;
    a = x * c - b * s;
    b = b * c + x * s;
  }
}

void Heads::finish_head(const float* from, int64_t head, const Tensor& gamma, float row_scale, const float* turn,
                        float* to) const {
  const int64_t d = op_.d_head;
  if (!gamma) {
    std::memcpy(to, from, static_cast<size_t>(d) * sizeof(float));
  } else if (row_scale == 0) {
    isa_->rms_norm(from, gamma.as<float>(), op_.qk_norm_eps, d, to);
  } else {
    const float* scale = gamma.as<float>() + head * d;
    for (int64_t i = 0; i < d; ++i) to[i] = from[i] * row_scale * scale[i];
  }
  rotate(turn, to);
}

void Heads::store(const Tensor& cache, int64_t slot, int64_t h, const float* row) const {
  const int64_t page = cache.dim(2), at = (slot / page * cache.dim(1) + h) * page + slot % page;
  std::byte* const to = cache.data + static_cast<size_t>(at) * cache.type.row_bytes();
  if (isa_->to_f16 && cache.type.dtype == quant::f16) isa_->to_f16(row, op_.d_head, to);
  else cache.type.dtype->encode(row, to, static_cast<size_t>(op_.d_head), nullptr);
}

void Heads::append(int64_t t, int64_t first, int64_t last, std::byte* scratch) const {
  const int64_t d = op_.d_head, half = op_.rotary_dim / 2;
  float* const turn = reinterpret_cast<float*>(scratch);  // cos of each pair, then sin
  float* const key = turn + op_.rotary_dim;
  for (int64_t i = 0; i < half; ++i) {
    const float frequency = frequencies_[static_cast<size_t>(i)];
    const float angle =
        static_cast<float>(positions_.as<int32_t>()[t]) * (factors_ ? frequency / factors_.as<float>()[i] : frequency);
    turn[i] = static_cast<float>(std::cos(static_cast<double>(angle))) * op_.rope_attn_scale;
    turn[half + i] = static_cast<float>(std::sin(static_cast<double>(angle))) * op_.rope_attn_scale;
  }

  const float* q = qkv_.as<float>() + t * qkv_.dim(1);
  const float *k = q + op_.n_head * d, *v = k + op_.n_kv_head * d;
  const float q_scale = row_scale(q, q_gamma_, op_.n_head), k_scale = row_scale(k, k_gamma_, op_.n_kv_head);
  const int64_t slot = slots_.as<int32_t>()[t];
  const bool stored = slot >= 0 && slot < k_cache_.dim(0) * k_cache_.dim(2);
  for (int64_t h = first; h < last; ++h) {
    for (int64_t g = 0; g < group(); ++g) {
      const int64_t head = h * group() + g;
      finish_head(q + head * d, head, q_gamma_, q_scale, turn, queries(h) + (t * group() + g) * q_stride_);
    }
    if (!stored) continue;
    finish_head(k + h * d, h, k_gamma_, k_scale, turn, key);
    store(k_cache_, slot, h, key);
    store(v_cache_, slot, h, v + h * d);
  }
}

}  // namespace weft::cpu
