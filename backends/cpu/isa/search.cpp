// Looking for the few logits that are larger than the best so far. Bound by reading them.
#include "backends/cpu/isa/kernels.h"
#include "backends/cpu/isa/vec.h"

namespace weft::cpu::WEFT_ISA {
namespace {

WEFT_INLINE bool any_above(V a, V b, V limit) {
#if defined(__AVX512F__)
  return (_mm512_cmp_ps_mask(a, limit, _CMP_GT_OQ) | _mm512_cmp_ps_mask(b, limit, _CMP_GT_OQ)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(a, limit, _CMP_GT_OQ), _mm256_cmp_ps(b, limit, _CMP_GT_OQ))) !=
         0;
#else
  return _mm_movemask_ps(_mm_or_ps(_mm_cmpgt_ps(a, limit), _mm_cmpgt_ps(b, limit))) != 0;
#endif
}

}  // namespace

int64_t first_above(const float* s, int64_t n, float limit) {
  int64_t i = 0;
  while (i + 2 * kLanes <= n && !any_above(load(s + i), load(s + i + kLanes), set(limit))) i += 2 * kLanes;
  while (i < n && !(s[i] > limit)) ++i;
  return i;
}

}  // namespace weft::cpu::WEFT_ISA
