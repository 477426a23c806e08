// What the rest of the cpu backend sees of the kernels that are compiled once per instruction set. Plain structs and
// function pointers only: this header is compiled with every -march, so it must define nothing the linker could share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::cpu {

/// Formats that kernels decode in registers. `other` goes through the format's own decode function.
enum class Format : uint8_t { f32, f16, bf16, q8_0, q4_0, other };

/// Rows of a weight, or of a page of the KV cache, as stored.
struct RowBlock {
  const std::byte* data;
  size_t row_bytes;
  Format format;
  uint32_t block_elems, block_bytes;
  void (*decode)(const std::byte* in, float* out, size_t n);
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

constexpr int64_t kRowUnit = 8;      // rows of a weight that are one task
constexpr int64_t kTileRows = 48;    // rows multiplied before their epilogue: a multiple of kDecodeRows and the lanes
constexpr int64_t kDecodeRows = 12;  // rows decoded at once: 12 x 768 floats stay in L1/L2
constexpr int64_t kTokenTile = 64;   // tokens that share a decoded tile: 64 x 4096 floats stay in L2
constexpr int64_t kChunk = 768;      // columns of a decoded tile: a multiple of every format's block
constexpr int64_t kChunkStride = kChunk + 16;  // rows a power of two apart would share cache sets
constexpr size_t kMatmulScratch =
    sizeof(float) * (kDecodeRows * kChunkStride + kTokenTile * kChunkStride + kTokenTile * kDecodeRows * 16);

/// Every binary16 as binary32, by its bits: a scale becomes one broadcast load.
struct F16Table {
  float values[65536];
};
extern const F16Table kF16;

enum class Act : uint8_t { gelu_tanh, gelu_erf, relu, silu };

struct IsaKernels {
  const char* name;
  int lanes;
  void (*matmul)(const Matmul& m);
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
  /// s = exp(s - shift), and their sum. exp(-inf) = 0.
  float (*exp_sum)(float* s, float shift, int64_t n);
  /// y *= factor.
  void (*scale)(float* y, float factor, int64_t n);
  /// y[r, :] = y[r, :] * keep[r] + sum over j < n_keys of p[r, j] * v[j, :], in ascending j.
  void (*weigh_rows)(float* y, const float* keep, const float* p, int64_t p_stride, int64_t n_rows, const float* v,
                     int64_t v_stride, int64_t n_keys, int64_t d);
  /// Decodes n elements of a row.
  void (*decode)(const RowBlock& row, float* out, int64_t n);
};

namespace sse2 {
const IsaKernels& kernels();
}
namespace avx2 {
const IsaKernels& kernels();
}
namespace avx512 {
const IsaKernels& kernels();
}

}  // namespace weft::cpu
