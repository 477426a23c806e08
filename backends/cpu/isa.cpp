#include "backends/cpu/isa.h"

#include <cpuid.h>
#include <fmt/ranges.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "graph/error.h"

namespace weft::cpu {

const bool kAmd = [] {
  __builtin_cpu_init();
  return __builtin_cpu_is("amd") != 0;
}();

namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

bool has_f16c() {  // clang 14's __builtin_cpu_supports does not know it
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

bool has_avxvnni() {  // nor this one; the operating system's part is that of avx2
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1U << 4) != 0;
}

/// Its dot products of two at the rate of one FMA: AMD's, from Zen 4 on. An Intel guest without AMX gave them half of
/// that, a quarter of what would pay.
bool has_fast_avx512bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return kAmd && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1U << 5) != 0;
}

/// Linux gives tile registers to a process that asks (Documentation/arch/x86/xstate.rst), for all its threads.
bool has_amx() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  const bool tiles = (edx & 1U << 24) != 0, bf16_tiles = (edx & 1U << 22) != 0;
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) == 0) return false;
  const bool avx512_bf16 = (eax & 1U << 5) != 0;
  return tiles && bf16_tiles && avx512_bf16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

std::vector<const IsaKernels*> supported_isas() {
  __builtin_cpu_init();
  std::vector<const IsaKernels*> isas;
  if (has_avx512() && has_avx2() && has_amx()) isas.push_back(&amx::kernels());
  if (has_avx512() && has_avx2()) isas.push_back(&avx512::kernels());
  // Faster with many tokens, but two golden models leave their bound in bf16: for who asks.
  if (has_avx512() && has_avx2() && has_fast_avx512bf16()) isas.push_back(&avx512bf16::kernels());
  if (has_avxvnni() && has_avx2()) isas.push_back(&avxvnni::kernels());
  if (has_avx2()) isas.push_back(&avx2::kernels());
  isas.push_back(&sse2::kernels());
  return isas;
}

const IsaKernels& choose_isa(std::string_view name) {
  const auto isas = supported_isas();
  if (name.empty()) return *isas.front();
  std::vector<std::string_view> known;
  for (const IsaKernels* isa : isas) {
    if (name == isa->name) return *isa;
    known.emplace_back(isa->name);
  }
  fail("cpu: instruction set '{}' was asked for, this machine has {}", name, fmt::join(known, ", "));
}

}  // namespace weft::cpu
