// How the GPU reads the weight formats: a unit is what one thread takes at a time, 32 or 64 columns of a row. load()
// fetches it with 16-byte loads that pass L1 by; codes() gives signed bytes, four a register, in runs of 16 columns
// that column_of() places, and of each group of columns what a code is worth: scale * code + shift. `phase`: the unit's
// number in its block. Bits are laid out as ops/quant/ draws them.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "ops/quant/plane_bytes.h"

namespace weft::cuda {

__device__ inline uint4 load16(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
__device__ inline uint2 load8(const void* p) { return __ldg(static_cast<const uint2*>(p)); }
__device__ inline uint32_t load4(const void* p) { return __ldg(static_cast<const uint32_t*>(p)); }
__device__ inline uint16_t load2(const void* p) { return __ldg(static_cast<const uint16_t*>(p)); }

__device__ inline float half_bits(uint32_t bits) { return __half2float(__ushort_as_half(static_cast<uint16_t>(bits))); }
__device__ inline uint32_t word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
__device__ inline int low4(uint32_t v) { return static_cast<int>(v & 0x0F0F0F0Fu); }
__device__ inline int high4(uint32_t v) { return static_cast<int>((v >> 4) & 0x0F0F0F0Fu); }

/// Bits [4 i, 4 i + 4) of `bits` as bit 4 of four bytes.
__device__ inline int fifth4(uint32_t bits, int i) {
  const uint32_t b = bits >> (4 * i);
  return static_cast<int>((b & 1) << 4 | (b & 2) << 11 | (b & 4) << 18 | (b & 8) << 25);
}

/// Sixteen signed bytes as a table: the entries of the four low nibbles of `indices`'s bytes.
struct Levels {
  uint32_t w[4];
  __device__ int of(uint32_t nibbles) const {
    // A byte permutation has 3-bit indices of 8 bytes: both halves, then bit 3 chooses.
    const uint32_t n = nibbles & 0x07070707u, packed = n | n >> 4;  // indices of bytes 0, 1 and 2, 3
    const uint32_t selector = (packed & 0xFF) | (packed >> 8 & 0xFF00);
    const uint32_t low = __byte_perm(w[0], w[1], selector), high = __byte_perm(w[2], w[3], selector);
    const uint32_t third = (nibbles >> 3 & 0x01010101u) * 0xFFu;
    return static_cast<int>((low & ~third) | (high & third));
  }
};
__device__ inline Levels levels_iq4() { return {{0xBFAD9881u, 0xF6EADDCFu, 0x26190D01u, 0x71594535u}}; }
__device__ inline Levels levels_mxfp4() { return {{0x03020100u, 0x0C080604u, 0xFDFEFF00u, 0xF4F8FAFCu}}; }

/// Where the planes of a weight are, in the order of ops/quant/planes.h.
struct PlaneStarts {
  const uint8_t* at[4] = {};
};
template <int kFields>
__device__ PlaneStarts plane_starts(const void* weight, int64_t n_blocks, const int (&bytes)[kFields]) {
  PlaneStarts starts;
  const auto* p = static_cast<const uint8_t*>(weight);
  for (int i = 0; i < kFields; ++i) {
    starts.at[i] = p;
    p += quant::plane_bytes(static_cast<size_t>(n_blocks), static_cast<size_t>(bytes[i]));
  }
  return starts;
}

/// What the 32-column formats have in common: a block is a unit and a group.
struct Blocks32 {
  static constexpr int kUnit = 32, kGroup = 32, kUnitsPerBlock = 1;
};

__device__ inline void nibbles32(const uint4& qs, int (&q)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) q[i] = low4(word(qs, i)), q[4 + i] = high4(word(qs, i));
}

struct FormatQ4_0 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint16_t d;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {16, 2}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 16), load2(p.at[1] + u * 2)};
  }
  __device__ static void codes(const Unit& u, int, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
    scale[0] = half_bits(u.d);
    shift[0] = -8.0f * scale[0];
  }
};

struct FormatQ4_1 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint32_t dm;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {16, 4}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 16), load4(p.at[1] + u * 4)};
  }
  __device__ static void codes(const Unit& u, int, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
    scale[0] = half_bits(u.dm);
    shift[0] = half_bits(u.dm >> 16);
  }
};

struct FormatQ5_0 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint32_t qh;
    uint16_t d;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {16, 4, 2}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 16), load4(p.at[1] + u * 4), load2(p.at[2] + u * 2)};
  }
  __device__ static void codes(const Unit& u, int, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] |= fifth4(u.qh, i);
    scale[0] = half_bits(u.d);
    shift[0] = -16.0f * scale[0];
  }
};

struct FormatQ5_1 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint32_t qh, dm;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {16, 4, 4}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 16), load4(p.at[1] + u * 4), load4(p.at[2] + u * 4)};
  }
  __device__ static void codes(const Unit& u, int, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    nibbles32(u.qs, q);
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] |= fifth4(u.qh, i);
    scale[0] = half_bits(u.dm);
    shift[0] = half_bits(u.dm >> 16);
  }
};

struct FormatQ8_0 : Blocks32 {
  struct Unit {
    uint4 a, b;
    uint16_t d;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {32, 2}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 32), load16(p.at[0] + u * 32 + 16), load2(p.at[1] + u * 2)};
  }
  __device__ static void codes(const Unit& u, int, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = static_cast<int>(word(u.a, i)), q[4 + i] = static_cast<int>(word(u.b, i));
    scale[0] = half_bits(u.d);
    shift[0] = 0;
  }
};

struct FormatIQ4_NL : Blocks32 {
  struct Unit {
    uint4 qs;
    uint16_t d;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {16, 2}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 16), load2(p.at[1] + u * 2)};
  }
  __device__ static void codes(const Unit& u, int, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    const Levels levels = levels_iq4();
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = levels.of(word(u.qs, i)), q[4 + i] = levels.of(word(u.qs, i) >> 4);
    scale[0] = half_bits(u.d);
    shift[0] = 0;
  }
};

struct FormatMXFP4 : Blocks32 {
  struct Unit {
    uint4 qs;
    uint8_t e;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {16, 1}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 16), __ldg(p.at[1] + u)};
  }
  __device__ static void codes(const Unit& u, int, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    const Levels levels = levels_mxfp4();
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = levels.of(word(u.qs, i)), q[4 + i] = levels.of(word(u.qs, i) >> 4);
    const uint32_t e = u.e;  // half the scale is 2^(e - 128): subnormal for e < 2
    scale[0] = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    shift[0] = 0;
  }
};

/// A block of 256 is 8 units of 32, each with a scale of its own.
struct FormatIQ4_XS {
  static constexpr int kUnit = 32, kGroup = 32, kUnitsPerBlock = 8;
  struct Unit {
    uint4 qs;
    uint2 head;  // d, scales_h; scales_l
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {128, 8}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    return {load16(p.at[0] + u * 16), load8(p.at[1] + u / 8 * 8)};
  }
  __device__ static void codes(const Unit& u, int phase, int (&q)[8], float (&scale)[1], float (&shift)[1]) {
    const Levels levels = levels_iq4();
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] = levels.of(word(u.qs, i)), q[4 + i] = levels.of(word(u.qs, i) >> 4);
    const int g = phase;
    const int s = static_cast<int>((u.head.y >> (4 * g) & 15) | (u.head.x >> (16 + 2 * g) & 3) << 4) - 32;
    scale[0] = half_bits(u.head.x) * static_cast<float>(s);
    shift[0] = 0;
  }
};

/// Six-bit scales and mins of q4_K and q5_K: of groups 2 p and 2 p + 1, from words 1..3 of the block.
__device__ inline void scales_k(const uint4& head, int p, float (&scale)[2], float (&shift)[2]) {
  const float d = half_bits(head.x), dmin = half_bits(head.x >> 16);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int g = 2 * p + i, byte = 8 * (g & 3);
    uint32_t s, m;
    if (g < 4) {
      s = head.y >> byte & 63, m = head.z >> byte & 63;
    } else {
      s = (head.w >> byte & 15) | (head.y >> (byte + 6) & 3) << 4;
      m = (head.w >> (byte + 4) & 15) | (head.z >> (byte + 6) & 3) << 4;
    }
    scale[i] = d * static_cast<float>(s);
    shift[i] = -dmin * static_cast<float>(m);
  }
}

/// A unit is the 32 bytes p of quants: groups 2 p (low nibbles) and 2 p + 1 (high). Units of 16 bytes, whose loads are
/// neighbours, were a quarter slower: twice the scales to unpack.
struct FormatQ4_K {
  static constexpr int kUnit = 64, kGroup = 32, kUnitsPerBlock = 4;
  struct Unit {
    uint4 head, a, b;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t) { return {{static_cast<const uint8_t*>(w)}}; }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    const uint8_t* block = p.at[0] + u / 4 * 144;
    const uint8_t* qs = block + 16 + u % 4 * 32;
    return {__ldg(reinterpret_cast<const uint4*>(block)), load16(qs), load16(qs + 16)};
  }
  __device__ static void codes(const Unit& u, int phase, int (&q)[16], float (&scale)[2], float (&shift)[2]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      q[i] = low4(word(u.a, i)), q[4 + i] = low4(word(u.b, i));
      q[8 + i] = high4(word(u.a, i)), q[12 + i] = high4(word(u.b, i));
    }
    scales_k(u.head, phase, scale, shift);
  }
};

struct FormatQ5_K {
  static constexpr int kUnit = 64, kGroup = 32, kUnitsPerBlock = 4;
  struct Unit {
    uint4 head, h0, h1, a, b;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t) { return {{static_cast<const uint8_t*>(w)}}; }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    const uint8_t* block = p.at[0] + u / 4 * 176;
    const uint8_t* qs = block + 48 + u % 4 * 32;
    const auto* head = reinterpret_cast<const uint4*>(block);
    return {__ldg(head), __ldg(head + 1), __ldg(head + 2), load16(qs), load16(qs + 16)};
  }
  __device__ static void codes(const Unit& u, int phase, int (&q)[16], float (&scale)[2], float (&shift)[2]) {
    const auto fifth = [&](uint32_t bits, int g) { return static_cast<int>((bits >> g & 0x01010101u) << 4); };
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      q[i] = low4(word(u.a, i)) | fifth(word(u.h0, i), 2 * phase);
      q[4 + i] = low4(word(u.b, i)) | fifth(word(u.h1, i), 2 * phase);
      q[8 + i] = high4(word(u.a, i)) | fifth(word(u.h0, i), 2 * phase + 1);
      q[12 + i] = high4(word(u.b, i)) | fifth(word(u.h1, i), 2 * phase + 1);
    }
    scales_k(u.head, phase, scale, shift);
  }
};

/// A unit is half h of the block and 32 of its 64 low bytes, u: columns 128 h + 32 u .. + 31 (low nibbles) and the same
/// 64 further on (high). Codes are in two runs of 32 columns, 64 apart: see columns().
struct FormatQ6_K {
  static constexpr int kUnit = 64, kGroup = 16, kUnitsPerBlock = 4;
  struct Unit {
    uint4 a, b, h0, h1;
    uint16_t scales[2];  // of the groups of 16: low nibbles', high nibbles'
    uint16_t d;
  };
  __device__ static PlaneStarts starts(const void* w, int64_t n) { return plane_starts(w, n, {128, 64, 16, 2}); }
  __device__ static Unit load(const PlaneStarts& p, int64_t u) {
    const int64_t block = u / 4;
    const int h = static_cast<int>(u % 4) / 2, v = static_cast<int>(u % 2);
    const uint8_t *low = p.at[0] + block * 128 + h * 64 + v * 32, *high = p.at[1] + block * 64 + h * 32;
    const uint8_t* scales = p.at[2] + block * 16 + h * 8 + v * 2;
    return {load16(low),
            load16(low + 16),
            __ldg(reinterpret_cast<const uint4*>(high)),
            __ldg(reinterpret_cast<const uint4*>(high) + 1),
            {load2(scales), load2(scales + 4)},
            load2(p.at[3] + block * 2)};
  }
  __device__ static void codes(const Unit& u, int phase, int (&q)[16], float (&scale)[4], float (&shift)[4]) {
    const int v = phase % 2;  // low nibbles have bits 2 v, 2 v + 1 of the high bytes, high ones 4 more
    const auto top = [](uint32_t bits, int first) { return static_cast<int>((bits >> first & 0x03030303u) << 4); };
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      q[i] = low4(word(u.a, i)) | top(word(u.h0, i), 2 * v);
      q[4 + i] = low4(word(u.b, i)) | top(word(u.h1, i), 2 * v);
      q[8 + i] = high4(word(u.a, i)) | top(word(u.h0, i), 4 + 2 * v);
      q[12 + i] = high4(word(u.b, i)) | top(word(u.h1, i), 4 + 2 * v);
    }
    const float d = half_bits(u.d);
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      scale[g] = d * static_cast<float>(static_cast<int8_t>(u.scales[g / 2] >> g % 2 * 8));
      shift[g] = -32.0f * scale[g];
    }
  }
};

/// The first column, in its row, of run r of 16 codes of unit u.
template <typename F>
__device__ constexpr int column_of(int u, int r) {
  if constexpr (F::kGroup == 16) {  // q6_K
    return u / 4 * 256 + u % 4 / 2 * 128 + u % 2 * 32 + r / 2 * 64 + r % 2 * 16;
  } else {
    return u * F::kUnit + r * 16;
  }
}

}  // namespace weft::cuda
