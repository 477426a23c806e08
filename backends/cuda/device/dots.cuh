// Dot products of rows of weights with activations, as a warp of gemv.cu takes them: both lie in shared memory, a lane
// has unit after unit of 8, 32 or 64 columns of a row.
#pragma once

#include <cuda_bf16.h>

#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/fragments.cuh"
#include "backends/cuda/device/gemv.h"
#include "backends/cuda/device/shared_planes.cuh"

namespace weft::cuda {

__device__ inline int dp4a_unsigned(uint32_t codes, int x, int sum) {
  int r;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(codes), "r"(x), "r"(sum));
  return r;
}

/// 32 columns of 8-bit activations: what one q is worth, and that times the sums of q, over kGroup columns each.
template <int kGroup>
struct Q8Group;
template <>
struct alignas(8) Q8Group<32> {
  float scale, sums[1];
};
template <>
struct alignas(16) Q8Group<16> {
  float scale, sums[2];
};

/// A row of 8-bit activations in shared memory. Of every kUnit columns, the runs of 16 lie in as many planes, so that
/// lanes which take neighbouring units read neighbouring bytes.
template <int kUnit, int kGroup>
struct Q8Row {
  static constexpr unsigned kRuns = kUnit / 16;
  int8_t* q;
  Q8Group<kGroup>* groups;
  unsigned plane;  // bytes

  __device__ Q8Row(void* memory, unsigned k) : q(static_cast<int8_t*>(memory)), plane((k + kUnit - 1) / kUnit * 16) {
    groups = reinterpret_cast<Q8Group<kGroup>*>(q + plane * kRuns);
  }
  static size_t bytes(int64_t k) {
    return static_cast<size_t>((k + kUnit - 1) / kUnit) * (kUnit + kUnit / 32 * sizeof(Q8Group<kGroup>));
  }
  /// 16 columns of unit u.
  __device__ int4 run(unsigned u, unsigned i) const { return *reinterpret_cast<const int4*>(q + i * plane + u * 16); }

  /// 8 columns from a multiple of 8 on; the four threads of a group of 32 come here together. scale = largest / 127, q
  /// to nearest.
  __device__ void put(unsigned column, const float (&y)[8]) const {
    float largest = 0;
#pragma unroll
    for (const float v : y) largest = fmaxf(largest, fabsf(v));
    const unsigned four = 15u << (threadIdx.x % 32 / 4 * 4);
    largest = fmaxf(largest, __shfl_xor_sync(four, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(four, largest, 2));
    const float scale = largest * (1.0f / 127.0f), inverse = largest != 0.0f ? __fdividef(127.0f, largest) : 0.0f;
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded, and is its lowest byte
    int codes[2], total = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t bits[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        bits[c] = __float_as_uint(fminf(fmaxf(y[i * 4 + c] * inverse, -127.0f), 127.0f) + kRound);
      }
      codes[i] = static_cast<int>(
          __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410));
      total = __dp4a(codes[i], 0x01010101, total);
    }
    total += __shfl_xor_sync(four, total, 1);
    const int other = __shfl_xor_sync(four, total, 2);
    *reinterpret_cast<int2*>(q + column / 16 % kRuns * plane + column / kUnit * 16 + column % 16) = {codes[0],
                                                                                                     codes[1]};
    if (threadIdx.x % 4 != 0) return;
    Q8Group<kGroup>& group = groups[column / 32];
    group.scale = scale;
    if constexpr (kGroup == 32) {
      group.sums[0] = scale * static_cast<float>(total + other);
    } else {
      group.sums[0] = scale * static_cast<float>(total), group.sums[1] = scale * static_cast<float>(other);
    }
  }
};

/// The dot product of a unit: 32 columns at a time, as codes and what they are worth.
template <typename F>
__device__ float dot_unit(const typename F::Unit& unit, const int4 (&x)[F::kUnit / 16],
                          const Q8Group<F::kGroup> (&groups)[F::kUnit / 32]) {
  constexpr int kGroups = 32 / F::kGroup;
  float sum = 0;
#pragma unroll
  for (unsigned half = 0; half < F::kUnit / 32; ++half) {
    int q[8];
    float scale[kGroups], shift[kGroups];
    // A warp's units step by 32, a multiple of a block's: the phase is the lane's, always.
    F::codes(unit, threadIdx.x % F::kUnitsPerBlock, half, q, scale, shift);
    int dots[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int* w = q + i * 4;
      const int4& v = x[half * 2 + i];
      const int before = kGroups == 1 && i == 1 ? dots[0] : 0;
      dots[i] = __dp4a(w[0], v.x, __dp4a(w[1], v.y, __dp4a(w[2], v.z, __dp4a(w[3], v.w, before))));
    }
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const float dot = static_cast<float>(dots[kGroups == 1 ? 1 : g]);
      sum += groups[half].scale * dot * scale[g] + groups[half].sums[g] * shift[g];
    }
  }
  return sum;
}

/// Nibbles are multiplied where they stand: a high one is 16 times itself. Scales and mins are six bits under the
/// exponent of 128.
template <>
__device__ inline float dot_unit<FormatQ4_K>(const FormatQ4_K::Unit& unit, const int4 (&x)[4],
                                             const Q8Group<32> (&groups)[2]) {
  int low = 0, high = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t a = word(unit.a, i), b = word(unit.b, i);
    const auto lane = [i](const int4& v) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; };
    low = dp4a_unsigned(a & 0x0F0F0F0Fu, lane(x[0]), low);
    low = dp4a_unsigned(b & 0x0F0F0F0Fu, lane(x[1]), low);
    high = dp4a_unsigned(a & 0xF0F0F0F0u, lane(x[2]), high);
    high = dp4a_unsigned(b & 0xF0F0F0F0u, lane(x[3]), high);
  }
  // Groups 2 p and 2 p + 1 of the block, in the two low bytes: as scale_k() takes them apart.
  const unsigned phase = threadIdx.x % 4, shift = phase % 2 * 16;
  const bool upper = phase >= 2;
  const uint4& head = unit.head;
  const uint32_t mask = upper ? 0x0F0Fu : 0x3F3Fu, top = upper ? 0x3030u : 0;
  const uint32_t s = ((upper ? head.w : head.y) >> shift & mask) | (head.y >> (shift + 2) & top);
  const uint32_t m = ((upper ? head.w >> 4 : head.z) >> shift & mask) | (head.z >> (shift + 2) & top);
  const auto six = [](uint32_t codes, uint32_t selector) {
    return __uint_as_float(__byte_perm(codes, 0x43000000u, selector)) - 128.0f;
  };
  const float scales = groups[0].scale * static_cast<float>(low) * six(s, 0x7044) +
                       groups[1].scale * static_cast<float>(high) * (six(s, 0x7144) * 0.0625f);
  const float mins = groups[0].sums[0] * six(m, 0x7044) + groups[1].sums[0] * six(m, 0x7144);
  return half_bits(head.x) * scales - half_bits(head.x >> 16) * mins;
}

/// Quantized rows by 8-bit activations.
template <typename F>
struct QuantizedRow {
  using Unit = typename F::Unit;
  using Activations = Q8Row<F::kUnit, F::kGroup>;
  using Fields = typename F::Fields;  // of a block
  static constexpr int kPlanes = Fields::kPlanes;
  static constexpr unsigned kUnit = F::kUnit, kBlock = F::kUnit * F::kUnitsPerBlock;
  static constexpr bool kRounds = true;

  __device__ static Unit load(const SharedPlanes<kPlanes>& row, unsigned u) { return F::load(row, u); }

  /// sums[0] += dot(unit u of the activations, unit).
  template <int M>
  __device__ static void add(const Unit& unit, unsigned u, const GemvArgs& a, void* memory, float (&sums)[M]) {
    const Activations row(memory, static_cast<unsigned>(a.weights.k));
    int4 x[kUnit / 16];
    Q8Group<F::kGroup> groups[kUnit / 32];
#pragma unroll
    for (unsigned i = 0; i < kUnit / 16; ++i) x[i] = row.run(u, i);
#pragma unroll
    for (unsigned i = 0; i < kUnit / 32; ++i) groups[i] = row.groups[u * (kUnit / 32) + i];
    sums[0] += dot_unit<F>(unit, x, groups);
  }
};

/// Plain rows by f32 activations: a unit is 8 elements. A single vector lies in shared memory, every other four columns
/// in a plane of their own.
template <typename T>
struct PlainRow {
  struct Unit {
    uint4 v[sizeof(T) / 2];
  };
  using Fields = FieldBytes<8 * sizeof(T)>;
  static constexpr int kPlanes = 1;
  static constexpr unsigned kUnit = 8, kBlock = 8;
  static constexpr bool kRounds = false;

  __device__ static Unit load(const SharedPlanes<1>& row, unsigned u) {
    Unit unit;
#pragma unroll
    for (unsigned i = 0; i < sizeof(T) / 2; ++i) unit.v[i] = row.load16(0, u * (8 * sizeof(T)) + i * 16);
    return unit;
  }
  __device__ static float element(const Unit& unit, int i) {
    if constexpr (sizeof(T) == 4) {
      return __uint_as_float(word(unit.v[i / 4], i % 4));
    } else {
      const uint32_t bits = word(unit.v[0], i / 2) >> (i % 2 * 16);
      if constexpr (std::is_same_v<T, __half>) return half_bits(bits);
      else return __uint_as_float(bits << 16);
    }
  }

  template <int M>
  __device__ static void add(const Unit& unit, unsigned u, const GemvArgs& a, void* memory, float (&sums)[M]) {
    const auto k = static_cast<unsigned>(a.weights.k);
#pragma unroll
    for (int t = 0; t < M; ++t) {
      float4 x[2];
      if constexpr (M == 1) {
        const auto* from = static_cast<const float4*>(memory);
        x[0] = from[u], x[1] = from[u + k / 8];
      } else {  // vectors past the last are the last again, and nobody keeps their sums
        const int last = static_cast<int>(a.tokens.capacity) - 1;
        const auto* from = reinterpret_cast<const float4*>(a.x + (t < last ? t : last) * a.weights.k) + u * 2;
        x[0] = from[0], x[1] = from[1];
      }
      const float xs[8] = {x[0].x, x[0].y, x[0].z, x[0].w, x[1].x, x[1].y, x[1].z, x[1].w};
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[t] += element(unit, i) * xs[i];
    }
  }
};

}  // namespace weft::cuda
