#include "backends/cpu/isa/decode.h"
#include "backends/cpu/isa/kernels.h"

#define WEFT_TEXT_OF(x) #x
#define WEFT_TEXT(x) WEFT_TEXT_OF(x)

namespace weft::cpu::WEFT_ISA {
namespace {

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
                                 .matmul_tiles = nullptr,  // those of amx/
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
                                 .decode = decode_row,
                                 .read_all = read_all,
                                 .multiply_add = multiply_add};

}  // namespace

const IsaKernels& kernels() { return kKernels; }

}  // namespace weft::cpu::WEFT_ISA
