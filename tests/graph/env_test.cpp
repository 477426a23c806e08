// Env: a mistyped switch must not pass in silence.
#include "graph/env.h"

#include "tests/support/op_fixture.h"

namespace weft {
namespace {

Env parse(std::vector<std::string> entries) { return Env::parse(entries); }

TEST(Env, EmptyIsTheDefault) {
  const Env env = parse({"HOME=/root", "WEFT_DEBUG=", "PATH=x"});
  EXPECT_EQ(env.debug, 0);
  EXPECT_FALSE(env.fallback || env.check_nan || env.check_ref);
  EXPECT_TRUE(env.backends.empty());
}

TEST(Env, EverySwitchArrives) {
  const Env env =
      parse({"WEFT_DEBUG=3", "WEFT_DUMP=plan:/tmp/a:b", "WEFT_TRACE=t.json", "WEFT_CHECK=ref", "WEFT_FALLBACK=1",
             "WEFT_KERNEL=linear:avx2,qkv_gemm:plain", "WEFT_CPU_ISA=avx2", "WEFT_BACKENDS=cpu,ref"});
  EXPECT_EQ(env.debug, 3);
  EXPECT_EQ(env.dump_what, "plan");
  EXPECT_EQ(env.dump_file, "/tmp/a:b");
  EXPECT_EQ(env.trace_file, "t.json");
  EXPECT_TRUE(env.check_ref);
  EXPECT_FALSE(env.check_nan);
  EXPECT_TRUE(env.fallback);
  EXPECT_EQ(env.kernel.at("linear"), "avx2");
  EXPECT_EQ(env.kernel.at("qkv_gemm"), "plain");
  EXPECT_EQ(env.cpu_isa, "avx2");
  EXPECT_EQ(env.backends, (std::vector<std::string>{"cpu", "ref"}));
}

TEST(Env, TheCacheIsWhereOthersHaveTheirs) {
  EXPECT_EQ(parse({"HOME=/root"}).cache_folder, "/root/.cache/weft");
  EXPECT_EQ(parse({"HOME=/root", "XDG_CACHE_HOME=/var/c"}).cache_folder, "/var/c/weft");
  EXPECT_EQ(parse({"XDG_CACHE_HOME=", "HOME=/root"}).cache_folder, "/root/.cache/weft");
  EXPECT_EQ(parse({"XDG_CACHE_HOME=here", "HOME="}).cache_folder, "") << "relative ones are as none";
}

TEST(Env, UnknownNamesAreErrors) {
  EXPECT_ERROR(parse({"WEFT_DEBGU=1"}), "WEFT_DEBGU is not a switch of weft");
  EXPECT_ERROR(parse({"WEFT_"}), "WEFT_ is not a switch");
}

TEST(Env, BadValuesAreErrorsThatSayWhatIsExpected) {
  EXPECT_ERROR(parse({"WEFT_DEBUG=4"}), "WEFT_DEBUG=4: expected 0|1|2|3");
  EXPECT_ERROR(parse({"WEFT_DUMP=everything"}), "WEFT_DUMP=everything: expected graph, dot, plan or memory");
  EXPECT_ERROR(parse({"WEFT_CHECK=1"}), "WEFT_CHECK=1: expected ref|nan");
  EXPECT_ERROR(parse({"WEFT_FALLBACK=yes"}), "expected 0|1");
  EXPECT_ERROR(parse({"WEFT_KERNEL=linear"}), "expected OP:NAME");
  EXPECT_ERROR(parse({"WEFT_CPU_ISA=neon"}), "expected sse2|avx2|avxvnni|avx512|avx512bf16|amx");
}

TEST(Env, EverySwitchOfTheTableIsUnderstood) {
  for (const Switch& one : switches()) {
    EXPECT_FALSE(one.doc.empty()) << one.name;
    EXPECT_NO_THROW(parse({std::string(one.name) + "="})) << one.name;
  }
}

}  // namespace
}  // namespace weft
