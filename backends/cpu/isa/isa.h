// What the rest of the cpu backend sees of the kernels that are compiled once per instruction set. Plain structs and
// function pointers only: this header is compiled with every -march, so it must define nothing the linker could share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::cpu {

/// Formats that kernels know. In f32 those up to q4_0 are decoded in registers, the rest by the format's own decode;
/// with 8-bit activations those from q8_0 on are read packed (ops/quant/rows16.h). `other`: neither.
enum class Format : uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_K,
  q5_K,
  q6_K,
  iq4_nl,
  iq4_xs,
  mxfp4,
  other,
};

/// Rows of a weight, or of a page of the KV cache, as stored.
struct RowBlock {
  const std::byte* data;
  size_t row_bytes;
  Format format;
  uint32_t block_elems, block_bytes;
  void (*decode)(const std::byte* in, float* out, size_t n);
};

/// The first n rows, of d elements, of a page of the KV cache.
struct Page {
  RowBlock rows;
  int64_t n, size;
  const std::byte* next;  // as many bytes, wanted after these: asked for meanwhile; or null
};

/// Attention's work on a page. Rows of q and y are d long, rows of scores and p `size`, all rounded up to 16; scores
/// and y have memory for rows up to a multiple of 32. Scratch is 64-byte aligned.
struct PageKernels {
  int64_t queries, block;  // rows that should share a page; at most so many rows a call of score and weigh
  size_t (*scratch_bytes)(int64_t size, int64_t d);
  /// Comes first, where it is not null; what it makes of the page stays in scratch. n_rows: as score and weigh will
  /// have.
  void (*enter)(const Page& keys, const Page& values, int64_t n_rows, int64_t d, std::byte* scratch);
  /// scores[r, i] = dot(q[r, :], row i of the page) for its n rows; the rest of a row of scores is anything.
  void (*score)(float* scores, const float* q, int64_t n_rows, const Page& page, int64_t d, std::byte* scratch);
  /// y[r, :] = y[r, :] * keep[r] + sum of p[r, i] * row i of the page over its n rows, in ascending i.
  void (*weigh)(float* y, const float* keep, const float* p, int64_t n_rows, const Page& page, int64_t d,
                std::byte* scratch);
};

/// out[t, n] = dot(x[t, :], w[n, :]) for n < n_rows.
struct Matmul {
  const float* x;
  int64_t x_stride;  // elements
  int64_t n_tokens, k;
  RowBlock w;
  int64_t n_rows;
  float* out;
  int64_t out_stride;  // elements
  std::byte* scratch;  // kMatmulScratch bytes
};

/// 32 activations in 8 bits: x = d * q, q in -127..127. A row is its blocks, one after the other.
struct QuantizedBlock {
  int8_t q[32];
  float d;
  float sum;          // d * sum of q
  int32_t less32[2];  // -32 * sum of q of each half: what the offset of q6_K takes away (isa/int8.h: less32_of)
  int32_t less128;    // -128 * sum of q: and that of signed bytes with 128 added, or of q4_0 times 16
};
constexpr int64_t kQuantizedElems = 32;

/// out[t, n] = dot(x[t, :], row first_row + n of w) for n < n_rows; x is quantized, w packed by sixteen rows.
struct PackedMatmul {
  const QuantizedBlock* x;
  int64_t x_stride;  // blocks
  int64_t n_tokens, k;
  Format format;
  const std::byte* w;  // row 0
  int64_t first_row, n_rows;
  float* out;
  int64_t out_stride;  // elements
};

/// The same by products of bf16: x in bf16, and the weights, packed or as stored, rounded to bf16 on the way. Sums in
/// f32.
struct TileMatmul {
  const uint16_t* x;  // rows of k, zeros up to a multiple of 32; rows up to a multiple of 32 are read, not used
  int64_t x_stride;   // elements
  int64_t n_tokens;   // at most kPanelTokens
  int64_t k;
  RowBlock w;  // from row 0 on
  bool packed;
  int64_t first_row, n_rows;  // at most kPanelRows
  float* out;
  int64_t out_stride;  // elements
  std::byte* scratch;  // kPanelScratch bytes, 64-byte aligned
};

constexpr int64_t kRowUnit = 16;     // rows of a weight that are one task: a packed tile
constexpr int64_t kTileRows = 48;    // rows multiplied before their epilogue: a multiple of kDecodeRows and the lanes
constexpr int64_t kDecodeRows = 12;  // rows decoded at once: 12 x 512 floats stay in L1
constexpr int64_t kTokenTile = 64;   // tokens that share it: 64 x 512 floats, and the sums, stay in L2
constexpr int64_t kChunk = 512;      // columns of a decoded tile: a multiple of every format's block
constexpr int64_t kChunkStride = kChunk + 16;  // rows a power of two apart would share cache sets
constexpr size_t kMatmulScratch =
    sizeof(float) * (kDecodeRows * kChunkStride + kTokenTile * kChunkStride + kTokenTile * kTileRows * 16);

constexpr int64_t kPanelRows = 128, kPanelTokens = 512;  // of tile products at once: panel and sums stay in L2
constexpr size_t kPanelScratch = 1096 << 10;

/// Every binary16 as binary32, by its bits: a scale becomes one broadcast load.
struct F16Table {
  float values[65536];
};
extern const F16Table kF16;

extern const bool kAmd;  // made the processor: how far ahead to prefetch is its maker's

enum class Act : uint8_t { gelu_tanh, gelu_erf, relu, silu };

struct IsaKernels {
  const char* name;
  int lanes;
  void (*matmul)(const Matmul& m);
  /// Null where the instruction set has no 8-bit kernels; then `quantize` and `dot_bytes` are too.
  void (*matmul_packed)(const PackedMatmul& m);
  /// n elements, a multiple of kQuantizedElems. Not finite stays not finite.
  void (*quantize)(const float* x, int64_t n, QuantizedBlock* out);
  /// A probe of the machine: 8-bit dot products on registers. Returns the operations done, two a product.
  double (*dot_bytes)(int64_t repeats);
  /// Null where products of bf16 are not faster than those of f32; then `to_bf16` and `multiply_tiles` are too.
  void (*matmul_tiles)(const TileMatmul& m);
  bool tiles_beat_int8;
  /// n elements in bf16, rounded to nearest even, then zeros to a multiple of 32.
  void (*to_bf16)(const float* x, int64_t n, uint16_t* out);
  /// A probe of the machine: tile products with their operands' loads from L1, or dot products on registers. Returns
  /// the operations done.
  double (*multiply_tiles)(int64_t repeats);
  /// y = (x - mean) / sqrt(var + eps) * gamma + beta; beta may be null.
  void (*layer_norm)(const float* x, const float* gamma, const float* beta, float eps, int64_t n, float* y);
  /// y = x / sqrt(mean(x^2) + eps) * gamma.
  void (*rms_norm)(const float* x, const float* gamma, float eps, int64_t n, float* y);
  /// y += b.
  void (*add)(float* y, const float* b, int64_t n);
  /// y = act(y).
  void (*activate)(Act act, float* y, int64_t n);
  /// up = up * act(gate).
  void (*gate)(Act act, float* up, const float* gate, int64_t n);
  /// gpt-oss: gate = min(gate, limit), up = clamp(up, +-limit), up = (up + 1) * gate * sigmoid(alpha * gate).
  void (*gate_clamped)(float alpha, float limit, float* up, const float* gate, int64_t n);
  /// s = cap * tanh(s / cap).
  void (*soft_cap)(float cap, float* s, int64_t n);
  float (*max)(const float* s, int64_t n);
  /// The index of the first that is larger than limit, or n. NaN never is.
  int64_t (*first_above)(const float* s, int64_t n, float limit);
  /// s = exp(s - shift), and their sum. exp(-inf) = 0.
  float (*exp_sum)(float* s, float shift, int64_t n);
  /// The next n scores of each row of an online softmax (Milakov and Gimelshein 2018): peak[r] = the largest of factor
  /// * s so far, s = exp(factor * s - peak[r]), keep[r] = exp(old peak[r] - peak[r]), total[r] = total[r] * keep[r] +
  /// their sum. factor > 0. A row that has seen nothing but -inf becomes zeros.
  void (*online_softmax)(float* s, int64_t stride, int64_t n_rows, int64_t n, float factor, float* peak, float* total,
                         float* keep);
  /// y *= factor.
  void (*scale)(float* y, float factor, int64_t n);
  PageKernels pages;       // in f32
  PageKernels tile_pages;  // by products of bf16; null where matmul_tiles is
  /// n elements in f16, as the format encodes them; null where the instruction set has no such conversion.
  void (*to_f16)(const float* x, int64_t n, std::byte* out);
  /// Decodes n elements of a row.
  void (*decode)(const RowBlock& row, float* out, int64_t n);
  // Probes of the machine: all of `data` read once, but for the last few hundred bytes (returns the sum of it); and
  // fused multiply-adds on registers (returns the operations done). `ahead`: bytes prefetched.
  float (*read_all)(const float* data, int64_t n, int64_t ahead);
  double (*multiply_add)(int64_t repeats);
};

namespace sse2 {
const IsaKernels& kernels();
}
namespace avx2 {
const IsaKernels& kernels();
}
namespace avxvnni {
const IsaKernels& kernels();
}
namespace avx512 {
const IsaKernels& kernels();
}
namespace avx512bf16 {
const IsaKernels& kernels();
}
namespace amx {
const IsaKernels& kernels();
}

}  // namespace weft::cpu
