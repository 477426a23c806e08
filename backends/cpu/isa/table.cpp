#include "backends/cpu/isa/decode.h"
#include "backends/cpu/isa/kernels.h"

#define WEFT_TEXT_OF(x) #x
#define WEFT_TEXT(x) WEFT_TEXT_OF(x)

namespace weft::cpu::WEFT_ISA {
namespace {

#if defined(__F16C__)
void to_f16(const float* x, int64_t n, std::byte* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __builtin_memcpy(out + i * 2, &half, sizeof half);
  }
  for (; i < n; ++i) {
    const __m128i one = _mm_cvtps_ph(_mm_set_ss(x[i]), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const auto half = static_cast<uint16_t>(_mm_cvtsi128_si32(one));
    __builtin_memcpy(out + i * 2, &half, sizeof half);
  }
}
#endif

void decode_row(const RowBlock& row, float* out, int64_t n) { decode(row, out, n); }

constexpr IsaKernels kKernels = {.name = WEFT_TEXT(WEFT_ISA),
                                 .lanes = kLanes,
                                 .matmul = matmul,
#if defined(__AVX2__)
                                 .matmul_packed = matmul_packed,
                                 .quantize = quantize,
                                 .dot_bytes = dot_bytes,
#else
                                 .matmul_packed = nullptr,
                                 .quantize = nullptr,
                                 .dot_bytes = nullptr,
#endif
                                 .matmul_tiles = nullptr,  // those of bf16/
                                 .tiles_beat_int8 = false,
                                 .to_bf16 = nullptr,
                                 .multiply_tiles = nullptr,
                                 .layer_norm = layer_norm,
                                 .rms_norm = rms_norm,
                                 .add = add,
                                 .activate = activate,
                                 .gate = gate,
                                 .gate_clamped = gate_clamped,
                                 .soft_cap = soft_cap,
                                 .max = max,
                                 .first_above = first_above,
                                 .exp_sum = exp_sum,
                                 .online_softmax = online_softmax,
                                 .scale = scale,
                                 .pages = {.queries = 64,  // 64 x 64 scores and as many sums stay in L2
                                           .block = 64,
                                           .scratch_bytes = page_scratch,
                                           .enter = nullptr,
                                           .score = score_page,
                                           .weigh = weigh_page},
                                 .tile_pages = {},
#if defined(__F16C__)
                                 .to_f16 = to_f16,
#else
                                 .to_f16 = nullptr,
#endif
                                 .decode = decode_row,
                                 .read_all = read_all,
                                 .multiply_add = multiply_add};

}  // namespace

const IsaKernels& kernels() { return kKernels; }

}  // namespace weft::cpu::WEFT_ISA
