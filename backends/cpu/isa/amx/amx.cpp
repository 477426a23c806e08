// AMX: the kernels of AVX-512, and products of many tokens on the tile unit (Intel SDM vol. 1, ch. 18).
#include "backends/cpu/isa/amx/pages.h"

namespace weft::cpu::WEFT_ISA {
namespace {

/// Tiles 0..3 are the sums, 4 and 5 tokens, 6 and 7 rows. Configured while it lives; each thread has its own.
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

  WEFT_INLINE void zero() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  WEFT_INLINE void load(const float* c, int64_t stride) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + kTileSide, stride);
    const float* const lower = c + kTileSide * (stride / 4);
    _tile_loadd(2, lower, stride);
    _tile_loadd(3, lower + kTileSide, stride);
  }
  WEFT_INLINE void store(float* c, int64_t stride) {
    _tile_stored(0, c, stride);
    _tile_stored(1, c + kTileSide, stride);
    float* const lower = c + kTileSide * (stride / 4);
    _tile_stored(2, lower, stride);
    _tile_stored(3, lower + kTileSide, stride);
  }
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
  tiles.store(c, kPairSide * 4);
  asm volatile("" ::"r"(c) : "memory");
  return 2.0 * kPairSide * kPairSide * kTileColumns * static_cast<double>(repeats);
}

}  // namespace

const IsaKernels& kernels() {
  static const IsaKernels table = kernels_with<HardwareTiles>(multiply_tiles);
  return table;
}

}  // namespace weft::cpu::WEFT_ISA
