#include "tests/backends/amx_emulated.h"

#include "backends/cpu/isa/bf16/pages.h"

namespace weft::cpu::amx {
namespace {

/// TDPBF16PS as Intel's SDM has it: pairs of columns, each product added in f32.
class EmulatedTiles {
 public:
  static constexpr int64_t kColumns = kPairColumns;

  template <typename Ask>
  void product(Sums from, Sums to, const uint16_t* a, int64_t a_stride, const std::byte* b, int64_t steps, Ask ask) {
    __builtin_memset(sums_, 0, sizeof sums_);
    for (int64_t i = 0; from.at && i < kPairSide; ++i) {
      __builtin_memcpy(sums_[i], from.at + i * from.stride, sizeof sums_[i]);
    }
    for (int64_t step = 0; step < steps; ++step) {
      ask(step);
      multiply(a + step * kTileColumns, a_stride, b + step * kPairBytes);
    }
    for (int64_t i = 0; i < kPairSide; ++i) __builtin_memcpy(to.at + i * to.stride, sums_[i], sizeof sums_[i]);
  }

 private:
  void multiply(const uint16_t* a, int64_t a_stride, const std::byte* b) {
    for (int64_t i = 0; i < kPairSide; ++i) {
      for (int64_t j = 0; j < kPairSide; ++j) {
        const std::byte* tile = b + j / kTileSide * kTileBytes + j % kTileSide * 4;
        for (int64_t column = 0; column < kTileColumns; ++column) {
          uint16_t w = 0;
          __builtin_memcpy(&w, tile + column / 2 * 64 + column % 2 * 2, sizeof w);
          sums_[i][j] += value(a[i * a_stride + column]) * value(w);
        }
      }
    }
  }

  static float value(uint16_t bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }

  float sums_[kPairSide][kPairSide];
};

double no_probe(int64_t) { return 0; }

}  // namespace

const IsaKernels* emulated() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512vnni")) return nullptr;
  static const IsaKernels table = kernels_with<EmulatedTiles>("amx", true, no_probe);
  return &table;
}

}  // namespace weft::cpu::amx
