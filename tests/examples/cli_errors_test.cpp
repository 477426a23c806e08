// Wrong usage and wrong input: exit status, one line, and nothing left behind.
#include <string>
#include <vector>

#include "convert/convert.h"
#include "tests/examples/run_cli.h"

namespace weft {
namespace {

using namespace weft::testing;

TEST(Cli, WrongUsageIsStatus2) {
  const std::vector<Args> cases = {
      {},
      {"nonsense"},
      {"--nonsense"},
      {"generate"},
      {"generate", "-p"},
      {"generate", "-p", "x", "--nonsense"},
      {"generate", "-p", "x", "-n", "many"},
      {"generate", "-p", "x", "--threads", "0"},
      {"generate", "-p", "x", "--kv-type", "q9"},
      {"generate", "-p", "x", "--precision", "some"},
      {"generate", "-p", "x", "--ctx", "-1"},
      {"eval"},
      {"eval", "--ids", "1", "--ids-file", "f"},
      {"eval", "--ids", "1", "--chunk", "0"},
      {"convert"},
      {"convert", kBundled},
      {"convert", kBundled, "-o"},
      {"inspect", "a", "b"},
      {"tokenize"},
      {"tokenize", "--text", "a", "--cases", "b"},
      {"check-ops"},
      {"check-quants"},
      {"bench", "-r", "0"},
      {"bench", "--batch", "0"},
      {"bench", "--gpu-layers", "-1"},
  };
  for (const Args& args : cases) {
    const Outcome outcome = weft(args);
    std::string line;
    for (const std::string& arg : args) line += " " + arg;
    EXPECT_EQ(outcome.status, 2) << line;
    EXPECT_FALSE(outcome.err.empty()) << line;
    EXPECT_TRUE(outcome.out.empty()) << line;
  }
}

TEST(Cli, HelpAndVersionAreNoErrors) {
  EXPECT_NE(output_of({"--help"}).find("generate"), std::string::npos);
  EXPECT_NE(output_of({"--version"}).find("weft"), std::string::npos);
  for (const char* command :
       {"generate", "convert", "eval", "bench", "inspect", "tokenize", "check-ops", "check-quants"}) {
    EXPECT_NE(output_of({command, "--help"}).find("--quiet"), std::string::npos) << command;
  }
}

TEST(Cli, OptionsThatCannotBeMet) {
  const auto generate = [](const Args& more) {
    Args args = {"generate", "-p", "x", "-n", "1"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  expect_error(generate({"--backend", "tpu"}), "backend tpu is not available");
  expect_error(generate({"--place", "nonsense"}), "--place nonsense: expected PATTERN=device");
  expect_error(generate({"--place", "*=nonsense"}), "there is no such device");
  expect_error(generate({"--quantize", "q9_9"}), "there is no type q9_9");
  expect_error(generate({"--temp", "-1"}), "temperature is -1");
  expect_error(generate({"--top-p", "1.5"}), "top_p is 1.5");
  expect_error(generate({"--ctx", "513"}), "--ctx 513: the model was made for 512 tokens");
  expect_error(generate({}), "WEFT_NONSENSE", {"WEFT_NONSENSE=1"});
  expect_error(generate({}), "WEFT_DEBUG=9", {"WEFT_DEBUG=9"});
  expect_error(generate({}), "no_such", {"WEFT_BACKENDS=no_such"});
  expect_error(generate({}), "WEFT_CPU_ISA", {"WEFT_CPU_ISA=avx1024"});
}

TEST(Cli, ModelsThatAreNone) {
  const TempFolder folder;
  expect_error({"generate", folder.file("none.gguf"), "-p", "x"}, "No such file or directory");
  expect_error({"inspect", folder.path()}, "has neither model.safetensors nor");
  expect_error({"inspect", "/dev/null"}, "is not a regular file");
  expect_error({"inspect", folder.write("a", "")}, "truncated at byte 0");
  expect_error({"inspect", folder.write("b", "GGML and more")}, "is not a GGUF file");
  expect_error({"tokenize", folder.write("c.json", "{"), "--text", "x"}, "c.json: ");
  expect_error({"convert", folder.file("none"), "-o", folder.file("out.gguf")}, "No such file or directory");
  EXPECT_FALSE(std::filesystem::exists(folder.file("out.gguf")));
}

TEST(Cli, DamagedGgufFiles) {
  const TempFolder folder;
  const std::string whole = read_file(write_tiny(folder));
  const auto damaged = [&](const std::string& bytes) { return folder.write("bad.gguf", bytes); };
  for (const size_t length : {size_t{1}, size_t{5}, size_t{20}, size_t{60}, whole.size() / 8, whole.size() / 2}) {
    expect_error({"inspect", damaged(whole.substr(0, length))}, "truncated");
  }
  const std::string name = "blk.0.attn_q.weight";  // then: dimensions, sizes, type, offset
  const struct {
    std::string bytes, fragment;
  } cases[] = {
      {patched(whole, "GGUF", number(uint32_t{1})), "GGUF version 1"},
      {patched(whole, "GGUF", number(UINT64_MAX), 4), "tensors"},
      {patched(whole, "GGUF", number(UINT64_MAX), 12), "keys"},
      {patched(whole, name, number(uint64_t{1} << 62), 4), name},
      {patched(whole, name, number(UINT64_MAX), 12), name},
      {patched(whole, name, number(uint64_t{1} << 40), 4), name},
      {patched(whole, name, number(uint32_t{777}), 20), "unknown type id 777"},
      {patched(whole, name, number(UINT64_MAX), 24), "at offset 18446744073709551615"},
      {patched(whole, name, number(uint32_t{9})), "has 9 dimensions"},
      {patched(whole, "llama.block_count", number(uint32_t{1000000}), 4), "number of layers"},
      {patched(whole, "llama.attention.head_count", number(uint32_t{0}), 4), "number of heads"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.fragment);
    expect_error({"eval", damaged(c.bytes), "--ids", "1"}, c.fragment);
  }
  const auto tiny = tiny_model();
  tiny->edit().set("general.architecture", std::string("mamba"));
  write_gguf(*tiny, plan_conversion(*tiny, {}), folder.file("mamba.gguf"));
  expect_error({"eval", folder.file("mamba.gguf"), "--ids", "1"}, "unknown architecture mamba; known are: ");
}

TEST(Cli, IdsAndPromptsThatDoNotFit) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder, {.context = 10});
  expect_error({"eval", tiny, "--ids", "1,61"}, "token id 61 is outside the vocabulary of 61");
  expect_error({"eval", tiny, "--ids", "-1"}, "token id -1");
  expect_error({"eval", tiny, "--ids", "1,x"}, "'x' is not a token id");
  expect_error({"eval", tiny, "--ids", ""}, "is not a token id");
  expect_error({"eval", tiny, "--ids", "99999999999"}, "is not a token id");
  expect_error({"eval", tiny, "--ids", "1,2,3,4,5,6,7,8,9,10,11"}, "do not fit the context of 10");
  expect_error({"eval", tiny, "--ids", "1", "-n", "11"}, "do not fit the context of 10");
  expect_error({"eval", tiny, "--ids-file", folder.file("none")}, "No such file or directory");
  expect_error({"eval", tiny, "--ids-file", tiny}, "is not a safetensors file");
  expect_error({"generate", tiny, "-p", "x"}, "the file has no vocabulary");
  expect_error({"generate", "-p", ""}, "the prompt is empty");
  std::string words;
  for (int i = 0; i < 600; ++i) words += " Senate";
  expect_error({"generate", "-p", words}, "the context has room for 512");
  expect_error({"eval", tiny, "--ids", "1", "--kv-type", "q8_0"}, "q8_0");
  expect_error({"bench", tiny, "-p", "11"}, "do not fit the context of 10");
}

// Nothing half-written stays, whatever the reason.
TEST(Cli, OutputsThatCannotBeWritten) {
  const TempFolder folder, target;
  const std::string tiny = write_tiny(folder);
  const auto refused = [&](const std::string& output, std::string_view reason) {
    expect_error({"convert", tiny, "-o", output, "--quiet"}, reason);
    expect_error({"eval", tiny, "--ids", "1", "--logits", output}, reason);
  };
  refused(target.file("none/out"), "No such file or directory");
  refused(target.path(), "is a directory");
  refused("/dev/full", "is not a regular file");
  refused("/proc/out", "cannot write /proc/out");
  EXPECT_EQ(target.count(), 0u);
  expect_error({"convert", tiny, "-o", target.file("out"), "--type", "q9"},
               "there is no type q9; there are f32, f16, ");
  expect_error({"convert", tiny, "-o", target.file("out"), "--type", "q8_0", "--no-fallback"}, "needs whole blocks");
  EXPECT_EQ(target.count(), 0u);
}

TEST(Cli, AFullDiskBehindStandardOutput) {
  for (const Args& args : {Args{"inspect"}, Args{"inspect", "--ops"}, Args{"tokenize", "--text", "x"}, Args{"--help"},
                           Args{"eval", "--ids", "1", "-n", "1"}, Args{"generate", "-p", "x", "-n", "3", "--quiet"}}) {
    SCOPED_TRACE(args[0]);
    expect_error(weft(args, {}, "/dev/full"), "cannot write to");
  }
}

}  // namespace
}  // namespace weft
