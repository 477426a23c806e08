// Experts of few tokens, two kernels. `expand`: blocks of one pick each, a warp takes an up row and its gate row after
// the other. `contract`: blocks of one token, a warp takes a row of all its experts, side by side as one row of
// picks * f columns by activations that have their pick's weight in them already. So lanes are busy where f is small,
// and sums have a fixed order. A lane loads its units of the next rows to registers while it multiplies. A block rounds
// the activations of its token itself. Bound by memory, or by some 200 instructions a unit of 64 columns.
//
// `contract` asks for weights, by ids, before it waits for `expand`: that one lets it start only when the router is
// done. `expand` rounds x before it waits for the router, where x is older than that (ExpertsArgs::x_is_old).
#include <algorithm>

#include "backends/cuda/device/act.cuh"
#include "backends/cuda/device/dots.cuh"
#include "backends/cuda/device/launch.cuh"
#include "backends/cuda/device/moe.h"
#include "backends/cuda/device/pdl.cuh"

namespace weft::cuda {
namespace {

/// Rows of quantized weights, and a vector of 8-bit activations.
template <typename F>
struct QuantizedUnits {
  using Format = F;
  using Unit = typename F::Unit;
  static constexpr unsigned kUnit = F::kUnit, kBlock = F::kUnit * F::kUnitsPerBlock;
  using Vector = Q8Row<F::kUnit, F::kGroup>;

  static __device__ Unit load(const PlaneStarts& row, unsigned u) { return F::load(row, u); }
  static size_t vector_bytes(int64_t columns) { return Vector::bytes(columns); }
  /// u: in the vector. It counts from a multiple of a block in every row, as dot_unit() wants it.
  static __device__ float dot(const Unit& unit, const Vector& x, unsigned u) {
    int4 runs[kUnit / 16];
    Q8Group<F::kGroup> groups[kUnit / 32];
#pragma unroll
    for (unsigned i = 0; i < kUnit / 16; ++i) runs[i] = x.run(u, i);
#pragma unroll
    for (unsigned i = 0; i < kUnit / 32; ++i) groups[i] = x.groups[u * (kUnit / 32) + i];
    return dot_unit<F>(unit, runs, groups);
  }
};

/// Rows of T, in units of 8, and a vector of f32 in shared memory, every other four columns in a plane of their own.
template <typename T>
struct PlainUnits {
  struct Format {
    using Fields = FieldBytes<8 * sizeof(T)>;
  };
  using Unit = typename PlainRow<T>::Unit;
  static constexpr unsigned kUnit = 8, kBlock = 8;
  struct Vector {
    float4* x;
    unsigned units;
    __device__ Vector(void* memory, unsigned columns) : x(static_cast<float4*>(memory)), units(columns / 8) {}
    __device__ void put(unsigned column, const float (&y)[8]) const {
      x[column / 8] = {y[0], y[1], y[2], y[3]};
      x[column / 8 + units] = {y[4], y[5], y[6], y[7]};
    }
  };

  static __device__ Unit load(const PlaneStarts& row, unsigned u) {
    Unit unit;
#pragma unroll
    for (unsigned i = 0; i < sizeof(T) / 2; ++i) unit.v[i] = row.load16(0, u * (8 * sizeof(T)) + i * 16);
    return unit;
  }
  static size_t vector_bytes(int64_t columns) { return static_cast<size_t>(columns) * sizeof(float); }
  static __device__ float dot(const Unit& unit, const Vector& x, unsigned u) {
    const float4 low = x.x[u], high = x.x[u + x.units];
    const float xs[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += PlainRow<T>::element(unit, i) * xs[i];
    return sum;
  }
};

/// Warps of a block, as registers let two blocks stand on an SM: the next kernel's blocks come while this one's run.
template <typename Units>
constexpr unsigned kWarps = sizeof(typename Units::Unit) <= 32   ? 16
                            : sizeof(typename Units::Unit) <= 48 ? 12
                                                                 : 8;
template <typename Units>
constexpr int kAhead = sizeof(typename Units::Unit) <= 24 ? 3 : 2;

/// A warp's dot products, the next units of a lane under way. locate(dot) goes to one; load(to) takes the lane's next
/// unit of it, if there is one.
template <typename Units, typename Rows>
struct Stream {
  Rows& rows;
  unsigned n_dots, steps;  // steps: units of a lane in a dot product, at most
  typename Units::Unit ahead[kAhead<Units>] = {};
  unsigned dot = 0, step = 0;  // to be loaded next

  __device__ void fetch(typename Units::Unit& to) {
    if (dot >= n_dots) return;
    if (step == 0) rows.enter(dot);
    rows.load(to);
    if (++step == steps) step = 0, ++dot;
  }
  __device__ void fill() {
#pragma unroll
    for (int i = 0; i < kAhead<Units>; ++i) fetch(ahead[i]);
  }
  /// n_units: of a dot product. begin(dot) gives what is added to a lane's sum, end(dot, sum) gets the warp's.
  template <typename Begin, typename End>
  __device__ void run(const typename Units::Vector& x, unsigned n_units, Begin begin, End end) {
    unsigned done = 0, at = 0;
    float term = n_dots > 0 ? begin(0u) : 0.0f, sum = 0;
    while (done < n_dots) {
      for_each<kAhead<Units>>([&](auto i) {
        if (done == n_dots) return;
        const unsigned u = at * 32 + threadIdx.x % 32;
        if (u < n_units) sum += Units::dot(ahead[i], x, u);
        fetch(ahead[i]);
        if (++at < steps) return;
        end(done, warp_sum(sum + term));
        if (++done < n_dots) term = begin(done);
        at = 0, sum = 0;
      });
    }
  }
};

__device__ __noinline__ float activated(const ExpertsArgs& a, float up, float gate) {
  return apply_gated(a.act, up, gate, a.alpha, a.limit);
}

/// Up rows and their gate rows in turn, of one expert.
template <typename Units>
struct GatedRows {
  PlaneStarts base, row;  // up's
  ptrdiff_t to_gate;
  unsigned first, stride, row_blocks, n_units, unit;

  __device__ void enter(unsigned dot) {
    row = moved<typename Units::Format>(base, int64_t{first + dot / 2 * stride} * row_blocks);
    if (dot % 2 == 1) {
#pragma unroll
      for (int i = 0; i < Units::Format::Fields::kPlanes; ++i) row.at[i] += to_gate;
    }
    unit = threadIdx.x % 32;
  }
  __device__ void load(typename Units::Unit& to) {
    if (unit < n_units) to = Units::load(row, unit);
    unit += 32;
  }
};

/// Blocks: x, rows; y, picks.
template <typename Units>
__global__ void __launch_bounds__(kWarps<Units> * 32, 2)
    expand(const __grid_constant__ ExpertsArgs a, const __grid_constant__ PlaneStarts up) {
  extern __shared__ float4 memory[];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const unsigned p = blockIdx.y, token = p / static_cast<unsigned>(a.picks);
  const auto d = static_cast<unsigned>(a.d), f = static_cast<unsigned>(a.f);
  const typename Units::Vector x(memory, d);
  if (!a.x_is_old) begin_after_previous();
  const NormArgs row{.x = a.x, .d = a.d};
  norm_row<8, 2, false>(row, token, false, [&](unsigned i, const float(&y)[8]) { x.put(i, y); });
  if (a.x_is_old) begin_after_previous();
  __syncthreads();
  if (token >= rows_of(a.tokens)) return;
  const int64_t expert = a.ids[p];
  const bool exists = expert >= 0 && expert < a.experts;
  // Neighbouring rows go to different blocks: every block has as many, give or take one.
  const unsigned first = warp * gridDim.x + blockIdx.x, stride = gridDim.x * warps;
  const unsigned n_rows = first < f ? (f - first + stride - 1) / stride : 0;
  float* interm = a.interm + int64_t{p} * f;
  if (!exists) {
    for (unsigned i = lane; i < n_rows; i += 32) interm[first + i * stride] = 0;
    return;
  }
  const unsigned row_blocks = d / Units::kBlock, n_units = d / Units::kUnit;
  GatedRows<Units> rows{.base = moved<typename Units::Format>(up, expert * f * row_blocks),
                        .row = {},
                        .to_gate = static_cast<const uint8_t*>(a.gate) - static_cast<const uint8_t*>(a.up),
                        .first = first,
                        .stride = stride,
                        .row_blocks = row_blocks,
                        .n_units = n_units,
                        .unit = 0};
  Stream<Units, GatedRows<Units>> stream{.rows = rows, .n_dots = 2 * n_rows, .steps = (n_units + 31) / 32};
  stream.fill();
  const float* biases[2] = {a.bias_up, a.bias_gate};
  float up_sum = 0;
  stream.run(
      x, n_units,
      [&](unsigned dot) {
        const float* bias = dot % 2 == 0 ? biases[0] : biases[1];
        return bias != nullptr && lane == 0 ? __ldg(bias + expert * f + first + dot / 2 * stride) : 0.0f;
      },
      [&](unsigned dot, float sum) {
        if (dot % 2 == 0) up_sum = sum;
        else if (lane == 0) interm[first + dot / 2 * stride] = activated(a, up_sum, sum);
      });
}

/// A row of every expert of a token, side by side.
template <typename Units>
struct PickedRows {
  const PlaneStarts& weight;
  const unsigned* experts;  // [picks], in shared memory
  unsigned first, stride, d, row_blocks, n_units, picks;
  unsigned first_pick, first_unit;  // this lane's, in every dot product
  unsigned row, pick, unit;

  __device__ void enter(unsigned dot) {
    row = first + dot * stride;
    pick = first_pick, unit = first_unit;
  }
  __device__ void load(typename Units::Unit& to) {
    if (pick >= picks) return;
    const uint64_t r = uint64_t{experts[pick]} * d + row;
    to = Units::load(moved<typename Units::Format>(weight, static_cast<int64_t>(r * row_blocks)), unit);
    for (unit += 32; unit >= n_units; unit -= n_units) ++pick;
  }
};

/// Blocks: x, rows; y, tokens.
template <typename Units>
__global__ void __launch_bounds__(kWarps<Units> * 32, 2)
    contract(const __grid_constant__ ExpertsArgs a, const __grid_constant__ PlaneStarts down) {
  extern __shared__ float4 memory[];
  __shared__ unsigned experts[kMoeTokenPicks];
  __shared__ float weights[kMoeTokenPicks];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const unsigned token = blockIdx.y, picks = static_cast<unsigned>(a.picks);
  const auto d = static_cast<unsigned>(a.d), f = static_cast<unsigned>(a.f);
  if (token >= rows_of(a.tokens)) return;
  if (threadIdx.x < picks) {
    const int32_t id = __ldcg(a.ids + token * picks + threadIdx.x);
    const bool exists = id >= 0 && id < a.experts;
    experts[threadIdx.x] = exists ? static_cast<unsigned>(id) : 0;  // by what expand made of it, which is zeros
    weights[threadIdx.x] = exists ? __ldcg(a.weights + token * picks + threadIdx.x) : 0.0f;
  }
  __syncthreads();
  const unsigned first = warp * gridDim.x + blockIdx.x, stride = gridDim.x * warps;
  const unsigned n_rows = first < d ? (d - first + stride - 1) / stride : 0;
  const unsigned n_units = f / Units::kUnit;  // of a pick
  PickedRows<Units> rows{.weight = down,
                         .experts = experts,
                         .first = first,
                         .stride = stride,
                         .d = d,
                         .row_blocks = f / Units::kBlock,
                         .n_units = n_units,
                         .picks = picks,
                         .first_pick = lane / n_units,
                         .first_unit = lane % n_units,
                         .row = 0,
                         .pick = 0,
                         .unit = 0};
  Stream<Units, PickedRows<Units>> stream{.rows = rows, .n_dots = n_rows, .steps = (picks * n_units + 31) / 32};
  stream.fill();
  begin_after_previous();
  const typename Units::Vector x(memory, picks * f);
  const NormArgs row{.x = a.interm, .d = int64_t{picks} * f};
  norm_row<8, 2, false>(row, token, false, [&](unsigned i, const float(&y)[8]) {
    const float by = weights[i / f];
    float weighted[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) weighted[c] = y[c] * by;
    x.put(i, weighted);
  });
  __syncthreads();
  stream.run(
      x, picks * n_units,
      [&](unsigned dot) {
        if (a.bias_down == nullptr || lane >= picks) return 0.0f;
        return weights[lane] * __ldg(a.bias_down + uint64_t{experts[lane]} * d + first + dot * stride);
      },
      [&](unsigned dot, float sum) {
        if (lane == 0) a.y[int64_t{token} * d + first + dot * stride] = sum;
      });
}

/// f(Units{}) of a type; false if there are none.
template <typename Call>
bool with_units(uint32_t type, Call&& call) {
  switch (type) {
    case 0:
      call(PlainUnits<float>{});
      return true;
    case 1:
      call(PlainUnits<__half>{});
      return true;
    case 30:
      call(PlainUnits<__nv_bfloat16>{});
      return true;
    default:
      return with_format(type, [&]<typename F>(F) { call(QuantizedUnits<F>{}); });
  }
}

struct Shape {
  dim3 grid, block;
};
/// `parts` of the work, each of n_rows by blocks of its own: one an SM, together, and as few warps as the rows ask for.
Shape shape_for(int64_t parts, int64_t n_rows, unsigned most_warps) {
  const int64_t each_part = std::clamp<int64_t>(sm_count() / parts, 1, n_rows);
  const int64_t each = (n_rows + each_part - 1) / each_part, rounds = (each + most_warps - 1) / most_warps;
  const auto warps = static_cast<unsigned>(std::max<int64_t>((each + rounds - 1) / rounds, 4));
  return {dim3(static_cast<unsigned>(each_part), static_cast<unsigned>(parts)), dim3(warps * 32)};
}

}  // namespace

bool moe_decode_reads(uint32_t type, int64_t columns, int64_t rows) {
  constexpr size_t kOwn = 1024;  // of a block, besides
  bool fits = false;
  with_units(type, [&]<typename Units>(Units) {
    fits = columns > 0 && columns % Units::kBlock == 0 &&
           Units::vector_bytes(columns * rows) + kOwn <= shared_memory_limit();
  });
  return fits;
}

void launch_moe_decode(const ExpertsArgs& a, cudaStream_t stream) {
  if (a.tokens.capacity == 0) return;
  const auto launch = [&](auto kernel, int64_t parts, int64_t rows, unsigned warps, size_t shared,
                          const PlaneStarts& starts) {
    const Shape shape = shape_for(parts, rows, warps);
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    launch_dependent(kernel, shape.grid, shape.block, LaunchShared{shared, cudaSharedmemCarveoutMaxShared}, stream, a,
                     starts);
  };
  with_units(a.up_type, [&]<typename Units>(Units) {
    launch(expand<Units>, a.tokens.capacity * a.picks, a.f, kWarps<Units>, Units::vector_bytes(a.d),
           plane_starts<typename Units::Format>(a.up, a.experts * a.f * (a.d / Units::kBlock)));
  });
  with_units(a.down_type, [&]<typename Units>(Units) {
    launch(contract<Units>, a.tokens.capacity, a.d, kWarps<Units>, Units::vector_bytes(a.f * a.picks),
           plane_starts<typename Units::Format>(a.down, a.experts * a.d * (a.f / Units::kBlock)));
  });
}

}  // namespace weft::cuda
