// Every binary16 as binary32, made by the compiler.
#include <bit>

#include "backends/cpu/isa/isa.h"

namespace weft::cpu {
namespace {

constexpr F16Table make_table() {
  F16Table table{};
  for (uint32_t h = 0; h < 65536; ++h) {
    const uint32_t sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 0x1Fu, mantissa = h & 0x3FFu;
    uint32_t bits = (exponent + 112) << 23 | mantissa << 13;
    if (exponent == 0) bits = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
    if (exponent == 0x1F) bits = 0x7F800000u | mantissa << 13;
    table.values[h] = std::bit_cast<float>(sign | bits);
  }
  return table;
}

}  // namespace

constinit const F16Table kF16 = make_table();

}  // namespace weft::cpu
