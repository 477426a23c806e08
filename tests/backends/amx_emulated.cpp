#include "tests/backends/amx_emulated.h"

#include "backends/cpu/isa/amx/pages.h"

namespace weft::cpu::amx {
namespace {

/// TDPBF16PS as Intel's SDM has it: pairs of columns, each product added in f32.
class EmulatedTiles {
 public:
  void zero() { __builtin_memset(sums_, 0, sizeof sums_); }
  void load(const float* c, int64_t stride) {
    for (int64_t i = 0; i < kPairSide; ++i) __builtin_memcpy(sums_[i], c + i * (stride / 4), sizeof sums_[i]);
  }
  void store(float* c, int64_t stride) {
    for (int64_t i = 0; i < kPairSide; ++i) __builtin_memcpy(c + i * (stride / 4), sums_[i], sizeof sums_[i]);
  }
  void multiply(const uint16_t* a, int64_t a_stride, const std::byte* b) {
    for (int64_t i = 0; i < kPairSide; ++i) {
      for (int64_t j = 0; j < kPairSide; ++j) {
        const std::byte* tile = b + j / kTileSide * kTileBytes + j % kTileSide * 4;
        for (int64_t column = 0; column < kTileColumns; ++column) {
          uint16_t w = 0;
          __builtin_memcpy(&w, tile + column / 2 * 64 + column % 2 * 2, sizeof w);
          sums_[i][j] += value(a[i * (a_stride / 2) + column]) * value(w);
        }
      }
    }
  }

 private:
  static float value(uint16_t bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }

  float sums_[kPairSide][kPairSide];
};

double no_probe(int64_t) { return 0; }

}  // namespace

const IsaKernels* emulated() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512vnni")) return nullptr;
  static const IsaKernels table = kernels_with<EmulatedTiles>(no_probe);
  return &table;
}

}  // namespace weft::cpu::amx
