// The weight formats as device code reads them: the block structs of ops/quant/, whose decode is constexpr, and the
// plain types as blocks of one. A new format is one line in with_block().
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ops/quant/all.h"

namespace weft::cuda {

struct BlockF32 {
  static constexpr size_t kElems = 1;
  float v;
  __device__ void decode(float* y) const { *y = v; }
  __device__ void encode(const float* x) { v = *x; }
};
struct BlockF16 {
  static constexpr size_t kElems = 1;
  __half v;
  __device__ void decode(float* y) const { *y = __half2float(v); }
  __device__ void encode(const float* x) { v = __float2half_rn(*x); }
};
struct BlockBF16 {
  static constexpr size_t kElems = 1;
  __nv_bfloat16 v;
  __device__ void decode(float* y) const { *y = __bfloat162float(v); }
  __device__ void encode(const float* x) { v = __float2bfloat16_rn(*x); }
};
/// Encodes as quant::BlockQ8_0 does, without importance.
struct EncodedQ8_0 : quant::BlockQ8_0 {
  __device__ void encode(const float* x) {
    float largest = 0;
    for (size_t i = 0; i < 32; ++i) largest = fmaxf(largest, fabsf(x[i]));  // passes NaN by
    const __half scale = __float2half_rn(fminf(largest / 127.0f, 65504.0f));
    d = __half_as_ushort(scale);
    const float f = __half2float(scale), inverse = f != 0.0f ? 1.0f / f : 0.0f;
    for (size_t i = 0; i < 32; ++i) {
      const float v = x[i] == x[i] ? x[i] * inverse : 0.0f;
      qs[i] = static_cast<int8_t>(__float2int_rn(fminf(fmaxf(v, -127.0f), 127.0f)));
    }
  }
};

/// f(Block{}) with the block struct of a type; false if there is none.
template <typename F>
bool with_block(uint32_t type, F&& f) {
  const auto is = [&](const TypeTraits& traits, auto block) {
    if (traits.id != type) return false;
    f(block);
    return true;
  };
  using namespace quant;
  return is(f32, BlockF32{}) || is(f16, BlockF16{}) || is(bf16, BlockBF16{}) || is(q4_0, BlockQ4_0{}) ||
         is(q4_1, BlockQ4_1{}) || is(q5_0, BlockQ5_0{}) || is(q5_1, BlockQ5_1{}) || is(q8_0, BlockQ8_0{}) ||
         is(q2_K, BlockQ2_K{}) || is(q3_K, BlockQ3_K{}) || is(q4_K, BlockQ4_K{}) || is(q5_K, BlockQ5_K{}) ||
         is(q6_K, BlockQ6_K{}) || is(iq1_s, BlockIQ1_S{}) || is(iq1_m, BlockIQ1_M{}) || is(iq2_xxs, BlockIQ2_XXS{}) ||
         is(iq2_xs, BlockIQ2_XS{}) || is(iq2_s, BlockIQ2_S{}) || is(iq3_xxs, BlockIQ3_XXS{}) ||
         is(iq3_s, BlockIQ3_S{}) || is(iq4_nl, BlockIQ4_NL{}) || is(iq4_xs, BlockIQ4_XS{}) || is(mxfp4, BlockMXFP4{}) ||
         is(tq1_0, BlockTQ1_0{}) || is(tq2_0, BlockTQ2_0{});
}

/// The same for types that can be written here.
template <typename F>
bool with_written_block(uint32_t type, F&& f) {
  const auto is = [&](const TypeTraits& traits, auto block) {
    if (traits.id != type) return false;
    f(block);
    return true;
  };
  using namespace quant;
  return is(f32, BlockF32{}) || is(f16, BlockF16{}) || is(bf16, BlockBF16{}) || is(q8_0, EncodedQ8_0{});
}

}  // namespace weft::cuda
