// Weight rows to f32, in the registers of this instruction set where it knows the format.
#pragma once

#include "backends/cpu/isa/vec.h"

namespace weft::cpu::WEFT_ISA {

template <Format F>
WEFT_INLINE void decode_as(const std::byte* row, float* out, int64_t n) {
  constexpr int kStep = Loader<F>::kStep, kVectors = kStep / kLanes;
  for (int64_t i = 0; i < n; i += kStep) {
    V values[kVectors];
    Loader<F>::at(row, i, values);
    for (int v = 0; v < kVectors; ++v) store(out + i + v * kLanes, values[v]);
  }
}

/// Decodes n elements of a row. The formats' own decode gives the same bits.
inline void decode(const RowBlock& row, float* out, int64_t n) {
  if (n % kLanes == 0) {
    switch (row.format) {
      case Format::f32:
        return decode_as<Format::f32>(row.data, out, n);
      case Format::f16:
        return decode_as<Format::f16>(row.data, out, n);
      case Format::bf16:
        return decode_as<Format::bf16>(row.data, out, n);
      case Format::q8_0:
        return decode_as<Format::q8_0>(row.data, out, n);
      case Format::q4_0:
        return decode_as<Format::q4_0>(row.data, out, n);
      default:
        break;
    }
  }
  row.decode(row.data, out, static_cast<size_t>(n));
}

}  // namespace weft::cpu::WEFT_ISA
