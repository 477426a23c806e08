// AMX: the kernels of AVX-512, and products of many tokens on the tile unit (Intel SDM vol. 1, ch. 18).
#include "backends/cpu/isa/bf16/pages.h"

namespace weft::cpu::WEFT_ISA {
namespace {

/// Tiles 0..3 are the sums, 4 and 5 tokens, 6 and 7 rows. Configured while it lives; each thread has its own. Bound by
/// the tile unit, 64 cycles for 32 x 32 sums and 32 columns, or by the 64 lines that these load from L2.
class HardwareTiles {
 public:
  HardwareTiles() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("" ::: "memory");  // the intrinsics that read do not say so
    _tile_loadconfig(&config);
  }
  ~HardwareTiles() {
    _tile_release();
    asm volatile("" ::: "memory");
  }
  HardwareTiles(const HardwareTiles&) = delete;
  HardwareTiles& operator=(const HardwareTiles&) = delete;

  static constexpr int64_t kColumns = kPairColumns;

  template <typename Ask>
  WEFT_INLINE void product(Sums from, Sums to, const uint16_t* a, int64_t a_stride, const std::byte* b, int64_t steps,
                           Ask ask) {
    if (from.at) load(from);
    else zero();
    for (int64_t i = 0; i < steps; ++i) {
      ask(i);
      multiply(a + i * kTileColumns, a_stride * 2, b + i * kPairBytes);
    }
    store(to);
  }

  WEFT_INLINE void zero() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  WEFT_INLINE void store(Sums to) {
    _tile_stored(0, to.at, to.stride * 4);
    _tile_stored(1, to.at + kTileSide, to.stride * 4);
    float* const lower = to.at + kTileSide * to.stride;
    _tile_stored(2, lower, to.stride * 4);
    _tile_stored(3, lower + kTileSide, to.stride * 4);
  }
  /// Adds 32 tokens x 32 columns, lines a_stride bytes apart, times two tiles of the panel.
  WEFT_INLINE void multiply(const uint16_t* a, int64_t a_stride, const std::byte* b) {
    _tile_loadd(4, a, a_stride);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kTileBytes, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + kTileSide * (a_stride / 2), a_stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }

 private:
  WEFT_INLINE void load(Sums from) {
    _tile_loadd(0, from.at, from.stride * 4);
    _tile_loadd(1, from.at + kTileSide, from.stride * 4);
    const float* const lower = from.at + kTileSide * from.stride;
    _tile_loadd(2, lower, from.stride * 4);
    _tile_loadd(3, lower + kTileSide, from.stride * 4);
  }
};

/// 2 x 2 tiles with their loads, from L1: what a product could reach.
double multiply_tiles(int64_t repeats) {
  constexpr int64_t kSteps = 4;
  alignas(64) uint16_t a[kPairSide * (kSteps + 1) * kTileColumns] = {};
  alignas(64) std::byte b[kSteps * kPairBytes] = {};
  alignas(64) float c[kPairSide * kPairSide];
  HardwareTiles tiles;
  tiles.zero();
  for (int64_t i = 0; i < repeats; ++i) {
    const int64_t step = i % kSteps;
    tiles.multiply(a + step * kTileColumns, (kSteps + 1) * kTileColumns * 2, b + step * kPairBytes);
  }
  tiles.store({c, kPairSide});
  asm volatile("" ::"r"(c) : "memory");
  return 2.0 * kPairSide * kPairSide * kTileColumns * static_cast<double>(repeats);
}

}  // namespace

const IsaKernels& kernels() {
  static const IsaKernels table = kernels_with<HardwareTiles>("amx", true, multiply_tiles);
  return table;
}

}  // namespace weft::cpu::WEFT_ISA
