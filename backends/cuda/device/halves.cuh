// Quantized weights as f16, for the tensor cores: scale * code + shift, rounded once each. An integer under the
// exponent of 1024 is 1024 more than itself, and taking that away is exact.
#pragma once

#include <cuda_fp16.h>

#include "backends/cuda/device/formats.cuh"

namespace weft::cuda {

__device__ inline __half2 as_half2(uint32_t bits) { return reinterpret_cast<const __half2&>(bits); }
__device__ inline uint32_t as_bits(__half2 h) { return reinterpret_cast<const uint32_t&>(h); }

/// (v & mask) | bits, one instruction: of two constants the compiler would make two.
__device__ inline uint32_t masked_under(uint32_t v, uint32_t mask, uint32_t bits) {
  uint32_t r;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(r) : "r"(v), "r"(mask), "r"(bits));
  return r;
}

/// 32 columns of a row, `run` of its unit: four of them at a time.
template <typename F>
struct Columns {
  static constexpr int kGroups = 32 / F::kGroup;
  uint32_t q[8];
  __half2 by[kGroups], plus[kGroups];

  /// `phase`: the unit's number in its block.
  __device__ Columns(const typename F::Unit& unit, unsigned phase, unsigned run) {
    int codes[8];
    float scale[kGroups], shift[kGroups];
    F::codes(unit, phase, run, codes, scale, shift);
#pragma unroll
    for (int s = 0; s < 8; ++s) q[s] = static_cast<uint32_t>(codes[s]) ^ (F::kSigned ? 0x80808080u : 0u);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) by[g] = __float2half2_rn(scale[g]), plus[g] = __float2half2_rn(shift[g]);
  }
  /// Columns 4 s and 4 s + 2, then the two between and after.
  __device__ void four(int s, uint32_t& even, uint32_t& odd) const {
    const __half2 bias = __float2half2_rn(F::kSigned ? 1152.0f : 1024.0f);
    const auto pair = [&](uint32_t selector) {
      const uint32_t bits = __byte_perm(q[s], 0x64646464u, selector);
      return as_bits(__hfma2(__hsub2(as_half2(bits), bias), by[s * 4 / F::kGroup], plus[s * 4 / F::kGroup]));
    };
    even = pair(0x4240);
    odd = pair(0x4341);
  }
};

/// Nibbles go under the exponent where they stand: a high one is 16 times itself there.
template <>
struct Columns<FormatQ4_K> {
  uint32_t q[8];
  unsigned run;
  __half2 by, plus;

  __device__ Columns(const FormatQ4_K::Unit& unit, unsigned phase, unsigned which) : run(which) {
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = word(unit.a, i), q[4 + i] = word(unit.b, i);
    // What scale_k() has, scale and min in the halves of a register.
    const uint4& head = unit.head;
    const unsigned group = 2 * phase + run, byte = 0x4400u + group % 4 * 0x1111u;
    const uint32_t whole = __byte_perm(head.y, head.z, byte), low = __byte_perm(head.w, head.w >> 4, byte);
    const uint32_t codes = group < 4 ? whole & 0x003F003Fu : (low & 0x000F000Fu) | (whole >> 2 & 0x00300030u);
    const __half2 both =
        __hmul2(__hsub2(as_half2(codes | 0x64006400u), __float2half2_rn(1024)), as_half2(head.x ^ 0x80000000u));
    by = __low2half2(both), plus = __high2half2(both);
  }
  __device__ void four(int s, uint32_t& even, uint32_t& odd) const {
    const uint32_t mask = run == 0 ? 0x000F000Fu : 0x00F000F0u;
    const auto pair = [&](uint32_t bits) {
      const __half2 raw = as_half2(masked_under(bits, mask, 0x64006400u));
      const __half2 code = run == 0 ? __hsub2(raw, __float2half2_rn(1024))
                                    : __hfma2(raw, __float2half2_rn(1.0f / 16), __float2half2_rn(-64));
      return as_bits(__hfma2(code, by, plus));
    };
    even = pair(q[s]);
    odd = pair(q[s] >> 8);
  }
};

}  // namespace weft::cuda
