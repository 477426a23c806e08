// How weights and activations stand in the shared memory of staged.cu: a ring of stages, each some panels of some rows
// and the activations of their columns.
#pragma once

#include "backends/cuda/device/formats.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/shared_planes.cuh"

namespace weft::cuda::staging {

constexpr unsigned kWarps = 8, kThreadsEach = kWarps * 32;  // of a block
constexpr unsigned kRuns = 2;                               // of 32 columns, a lane and panel: a warp has one
constexpr unsigned kTiles = 2;                              // of 16 rows, a warp; gated: up rows and their gate rows
constexpr unsigned kPanel = 256;                            // columns
constexpr unsigned kMostRows = 128;
constexpr int kResident = 2;                    // blocks of an SM
constexpr unsigned kSharedOfSm = 216 << 10;     // what their rings may take
constexpr unsigned kActBytes = kPanel * 8 * 2;  // a panel of 8 tokens

/// How a block's warps share out rows and panels: kRowWarps pairs of them have 32 rows each.
template <int kRowWarps>
struct Shape {
  static constexpr unsigned kRows = kRowWarps * kTiles * 16;
  static constexpr unsigned kPanels = kWarps / kRuns / kRowWarps;  // at a time
  /// Of a token's sums in shared memory: no two of a store are in one bank.
  static constexpr unsigned kSumStride = kRows + 4;
};
/// Where there are few activations they are read for few rows at a time, or else many blocks would have parts.
template <int kN, bool kGated>
constexpr int kRowWarps = kN == 1 && !kGated ? 1 : 4;

/// How kRows rows of kPanels panels stand in shared memory: planes one after the other, rows without gaps.
template <typename F, unsigned kRows, unsigned kPanels>
struct Staged {
  static constexpr int kPlanes = F::Fields::kPlanes;
  /// Of a row of a panel, in a plane.
  static constexpr unsigned bytes(int plane) {
    return F::Fields::of(plane) * static_cast<int>(kPanel) / (F::kUnit * F::kUnitsPerBlock);
  }
  static constexpr bool is_bulk(int plane) { return bytes(plane) % 16 == 0; }
  static constexpr unsigned stride(int plane) { return kPanels * bytes(plane); }
  static constexpr unsigned begin(int plane) {
    unsigned at = 0;
    for (int i = 0; i < plane; ++i) at += kRows * stride(i);
    return at;
  }
  static constexpr unsigned kBytes = begin(kPlanes);
  static_assert(kBytes % 128 == 0);
  /// That the copy engine brings at a time: kPanels panels, whatever the task has left.
  static constexpr unsigned bulk_bytes() {
    unsigned n = 0;
    for (int i = 0; i < kPlanes; ++i) n += is_bulk(i) ? kRows * stride(i) : 0;
    return n;
  }
  /// The plane that is too narrow for it, or -1.
  static constexpr int small_plane() {
    for (int i = 0; i < kPlanes; ++i) {
      if (!is_bulk(i)) return i;
    }
    return -1;
  }

  /// A row of a panel.
  __device__ static SharedPlanes<kPlanes> row(const unsigned char* stage, unsigned row, unsigned panel) {
    SharedPlanes<kPlanes> planes;
    for_each<kPlanes>([&](auto p) {
      constexpr unsigned kBegin = begin(p), kStride = stride(p), kBytes = bytes(p);
      planes.at[p] = stage + (kBegin + row * kStride + panel * kBytes);
    });
    return planes;
  }
};

template <typename F, int kN, bool kGated>
struct Ring {
  using Split = Shape<kRowWarps<kN, kGated>>;
  using Rows = Staged<F, Split::kRows, Split::kPanels>;
  static constexpr unsigned kActs = (Rows::kBytes + 127) / 128 * 128;  // where a stage's activations begin
  static constexpr unsigned kStage = kActs + Split::kPanels * kN * kActBytes;
  static constexpr unsigned kFit = kSharedOfSm / kResident / kStage, kStages = kFit < 2 ? 2 : kFit > 4 ? 4 : kFit;
  static_assert(kWarps / kRowWarps<kN, kGated> * kN * 8 * Split::kSumStride * sizeof(float) <= kStage);
};

}  // namespace weft::cuda::staging
