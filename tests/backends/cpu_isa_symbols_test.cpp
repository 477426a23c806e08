// What an object compiled for AVX-512 defines weakly, the linker may use for everybody. So the per-ISA objects may
// define nothing weak that another object could define too: only names of their own namespace.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> part;
  for (size_t n = 0; pipe && (n = fread(part.data(), 1, part.size(), pipe.get())) > 0;) text.append(part.data(), n);
  return text;
}

TEST(CpuIsaSymbols, NothingWeakIsShared) {
#if !defined(WEFT_CPU_ISA_OBJECTS)
  GTEST_SKIP() << "the build did not say where the objects are";
#else
  if (output_of("nm --version 2>/dev/null").empty()) GTEST_SKIP() << "no nm";
  std::istringstream objects(WEFT_CPU_ISA_OBJECTS);
  std::string object;
  int n = 0;
  while (std::getline(objects, object, ':')) {
    ++n;
    const std::string symbols = output_of("nm -C --defined-only '" + object + "'");
    const bool ours =
        symbols.find("weft::cpu::") != std::string::npos || symbols.find("weft::quant_avx2::") != std::string::npos;
    EXPECT_TRUE(ours) << object << " defines nothing of ours";
    std::istringstream lines(symbols);
    for (std::string line; std::getline(lines, line);) {
      if (line.size() < 20) continue;
      const char kind = line[17];
      const std::string name = line.substr(19);
      const bool code = !name.starts_with("typeinfo ");  // clang's UBSan has them for calls through pointers
      const bool weak = code && (kind == 'W' || kind == 'V' || kind == 'u');
      const bool own =
          name.find("weft::cpu::sse2::") != std::string::npos || name.find("weft::cpu::avx2::") != std::string::npos ||
          name.find("weft::cpu::avxvnni::") != std::string::npos ||
          name.find("weft::cpu::avx512::") != std::string::npos ||
          name.find("weft::cpu::avx512bf16::") != std::string::npos ||
          name.find("weft::cpu::amx::") != std::string::npos || name.find("weft::quant_avx2::") != std::string::npos ||
          name.find("xsimd_") != std::string::npos || name.starts_with("DW.ref.");
      EXPECT_TRUE(!weak || own) << object << ": " << name << " is weak and anybody's";
      EXPECT_EQ(name.find(" xsimd::"), std::string::npos) << object << ": " << name;
    }
  }
  EXPECT_GE(n, 4);
#endif
}

}  // namespace
