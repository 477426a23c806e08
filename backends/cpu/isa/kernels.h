// The kernels of one instruction set, as table.cpp lists them; isa.h says what each does.
#pragma once

#include "backends/cpu/isa/isa.h"

namespace weft::cpu::WEFT_ISA {

template <int N>
struct Count {
  static constexpr int value = N;
};

void matmul(const Matmul& m);
void matmul_packed(const PackedMatmul& m);
void quantize(const float* x, int64_t n, QuantizedBlock* out);
void layer_norm(const float* x, const float* gamma, const float* beta, float eps, int64_t n, float* y);
void rms_norm(const float* x, const float* gamma, float eps, int64_t n, float* y);
void add(float* y, const float* b, int64_t n);
void activate(Act act, float* y, int64_t n);
void gate(Act act, float* up, const float* gate, int64_t n);
void gate_clamped(float alpha, float limit, float* up, const float* gate, int64_t n);
void soft_cap(float cap, float* s, int64_t n);
float max(const float* s, int64_t n);
int64_t first_above(const float* s, int64_t n, float limit);
float exp_sum(float* s, float shift, int64_t n);
void online_softmax(float* s, int64_t stride, int64_t n_rows, int64_t n, float factor, float* peak, float* total,
                    float* keep);
void scale(float* y, float factor, int64_t n);
void weigh_rows(float* y, const float* keep, const float* p, int64_t p_stride, int64_t n_rows, const float* v,
                int64_t v_stride, int64_t n_keys, int64_t d);
float read_all(const float* data, int64_t n, int64_t ahead);
double multiply_add(int64_t repeats);
double dot_bytes(int64_t repeats);
size_t page_scratch(int64_t size, int64_t d);
void score_page(float* scores, const float* q, int64_t n_rows, const Page& page, int64_t d, std::byte* scratch);
void weigh_page(float* y, const float* keep, const float* p, int64_t n_rows, const Page& page, int64_t d,
                std::byte* scratch);

}  // namespace weft::cpu::WEFT_ISA
