// What the commands print, and what they leave behind.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "convert/open_model.h"
#include "convert/safetensors.h"
#include "convert/safetensors_writer.h"
#include "models/session/tokenizer.h"
#include "tests/examples/run_cli.h"
#include "tests/support/sanitized.h"

namespace weft {
namespace {

using namespace weft::testing;

constexpr const char* kTokens = kSanitized ? "4" : "64";  // to generate

/// Expects all of the text, or the beginning that so few tokens make.
void expect_continuation(const std::string& got, const std::string& expected) {
  if (!kSanitized) {
    EXPECT_EQ(got, expected);
    return;
  }
  ASSERT_GT(got.size(), kPrompt.size() + 4);
  EXPECT_TRUE(expected.starts_with(got.substr(0, got.size() - 1))) << got;
}

class CliOn : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Backends, CliOn, ::testing::Values("ref", "cpu"), [](const auto& p) { return p.param; });

TEST_P(CliOn, TheBundledModelContinues) {
  const std::string expected = read_file(kData + "/union-q8_0.continuation.txt");
  ASSERT_FALSE(expected.empty());
  // Unpacked, so that the cpu does not multiply in 8 bits, where close calls may fall otherwise from some token on.
  const Args args = {"generate", "-p", std::string(kPrompt), "-n",       kTokens,
                     "--temp",   "0",  "--backend",          GetParam(), "--no-pack"};
  const Outcome outcome = weft(args);
  EXPECT_EQ(outcome.status, 0);
  expect_continuation(outcome.out, expected);
  EXPECT_NE(outcome.err.find(fmt::format("generated {} tokens", kTokens)), std::string::npos) << outcome.err;
  Args exact = args;
  exact.insert(exact.end(), {"--precision", "exact", "--quiet", "--fallback"});
  const Outcome lowered = weft(exact);
  expect_continuation(lowered.out, expected);
  EXPECT_EQ(lowered.err, "");
  const Outcome packed = weft({"generate", "-p", std::string(kPrompt), "-n", kTokens, "--temp", "0", "--backend",
                               GetParam(), "--precision", "exact"});
  expect_continuation(packed.out, expected);
}

// The folder as transformers wrote it, and an f16 GGUF of it, against what transformers said.
TEST_P(CliOn, TheModelItCameFromContinues) {
  const std::string folder = shared_folder() + "/models/union";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  const SafetensorsFile file(folder + "/expected.safetensors");
  const LoadedTensor ids = file.load("greedy_ids");
  const Tokenizer tokenizer(TokenizerSpec::from_metadata(open_checkpoint(folder)->metadata()).value());
  const std::string expected =
      tokenizer.decode(std::span(ids->as<int32_t>(), static_cast<size_t>(ids->type.elements()))) + "\n";
  ASSERT_EQ(expected.find(kPrompt), 0u);
  const TempFolder temp;
  const std::string gguf = temp.file("f16.gguf");
  EXPECT_NE(output_of({"convert", folder, "-o", gguf, "--type", "f16"}).find("bits per weight"), std::string::npos);
  for (const std::string& model : {folder, gguf}) {
    SCOPED_TRACE(model);
    expect_continuation(output_of({"generate", model, "-p", std::string(kPrompt), "-n", kTokens, "--temp", "0",
                                   "--backend", GetParam(), "--quiet"}),
                        expected);
  }
}

TEST_P(CliOn, EvalWritesLogitsAndPredicts) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder), whole = folder.file("whole"), chunked = folder.file("chunked");
  const Args args = {"eval", tiny, "--ids", "3,1,4,1,5,9,2,6", "--backend", GetParam(), "-n", "5"};
  const auto with = [&](Args more) {
    more.insert(more.begin(), args.begin(), args.end());
    return output_of(more);
  };
  const std::string greedy = with({"--logits", whole});
  EXPECT_EQ(greedy.find("greedy "), 0u);
  EXPECT_EQ(std::ranges::count(greedy, ','), 4);
  EXPECT_EQ(with({"--logits", chunked, "--chunk", "3"}), greedy);
  EXPECT_EQ(with({}), greedy);
  const SafetensorsFile a(whole), b(chunked);
  ASSERT_EQ(a.tensor("logits").type.shape, (Shape{8, 61}));
  for (int64_t i = 0; i < 8 * 61; ++i) {
    EXPECT_NEAR(a.load("logits")->as<float>()[i], b.load("logits")->as<float>()[i], 1e-5);
  }
  std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6};
  write_safetensors(folder.file("ids"), {{"input_ids", {{quant::i32, {8}}, reinterpret_cast<std::byte*>(ids.data())}}});
  EXPECT_EQ(output_of({"eval", tiny, "--ids-file", folder.file("ids"), "--backend", GetParam(), "-n", "5"}), greedy);
}

TEST_P(CliOn, ChecksGoldenOps) {
  const std::string cases = kData + "/golden_ops";
  for (const bool fallback : {false, true}) {
    Args args = {"check-ops", cases, "--backend", GetParam()};
    if (fallback) args.emplace_back("--fallback");
    EXPECT_EQ(last_line(output_of(args)), "6 passed, 0 failed");
  }
}

TEST(Cli, ACaseThatFailsIsAnError) {
  const TempFolder folder;
  const std::string path = kData + "/golden_ops/residual_add.after.pre.mp2.1.safetensors";
  const SafetensorsFile file(path);
  const auto output = file.find("out.output")->bytes;
  std::string bytes = read_file(path);
  const size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(output.data()), output.size()));
  ASSERT_NE(at, std::string::npos);
  bytes[at + 3] = static_cast<char>(bytes[at + 3] ^ 0x40);  // an exponent
  const Outcome outcome = weft({"check-ops", folder.write("residual_add.wrong.safetensors", bytes)});
  expect_error(outcome, "check-ops: 1 of 1 cases failed");
  EXPECT_EQ(last_line(outcome.out), "0 passed, 1 failed");
  const Outcome missing = weft({"check-ops", folder.file("none"), kData + "/golden_ops"});
  expect_error(missing, "1 of 7 cases failed");
  EXPECT_EQ(last_line(missing.out), "6 passed, 1 failed");
}

TEST(Cli, ChecksGoldenQuants) {
  EXPECT_EQ(last_line(output_of({"check-quants", kData + "/golden_quants"})), "1 passed, 0 failed");
  const TempFolder folder;
  std::string bytes = read_file(kData + "/golden_quants/q4_K.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  const Outcome outcome = weft({"check-quants", folder.write("q4_K.safetensors", bytes)});
  expect_error(outcome, "1 of 1 files failed");
  EXPECT_EQ(last_line(outcome.out), "0 passed, 1 failed");
  expect_error({"check-quants", folder.file("none")}, "check-quants");
}

TEST(Cli, Tokenizes) {
  const std::string ids = output_of({"tokenize", "--text", std::string(kPrompt)});
  EXPECT_EQ(nlohmann::json::parse(ids).size(), 14u);
  const TempFolder folder;
  const auto list = nlohmann::json::parse(ids);
  const auto cases = [&](const nlohmann::json& items) { return folder.write("cases.json", items.dump()); };
  const nlohmann::json right = {{"text", kPrompt}, {"ids", list}, {"decoded", kPrompt}};
  nlohmann::json wrong_ids = right, wrong_text = right, out_of_range = right;
  wrong_ids["ids"] = {1, 2};
  wrong_text["decoded"] = "something else";
  out_of_range["ids"] = {1 << 30};
  EXPECT_EQ(output_of({"tokenize", "--cases", cases({right, right})}), "2 passed, 0 failed\n");
  const Outcome outcome = weft({"tokenize", "--cases", cases({right, wrong_ids, wrong_text})});
  expect_error(outcome, "tokenize: 2 of 3 cases failed");
  EXPECT_EQ(last_line(outcome.out), "1 passed, 2 failed");
  expect_error({"tokenize", "--cases", cases({out_of_range})}, "");
  expect_error({"tokenize", "--cases", cases({{{"text", 1}, {"ids", list}}})}, "cases.json");
  expect_error({"tokenize", "--cases", cases({{{"ids", list}}})}, "a case needs text and ids");
  expect_error({"tokenize", "--cases", folder.write("cases.json", "{}")}, "expected a JSON list");
}

TEST(Cli, BenchSpeaksJson) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder);
  const auto rows = nlohmann::json::parse(output_of({"bench", tiny, "-p", "8", "-n", "4", "-r", "1", "--depth", "3",
                                                     "--backend", "cpu", "--threads", "2", "--json"}));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("test"), "pp8");
  EXPECT_EQ(rows[1].at("test"), "tg4");
  for (const auto& row : rows) {
    EXPECT_TRUE(row.at("model").is_string());
    EXPECT_EQ(row.at("type"), "f32");
    EXPECT_EQ(row.at("backend"), "cpu");
    EXPECT_EQ(row.at("threads"), 2);
    for (const char* key : {"tokens_per_s", "stddev", "gb_per_s", "tflop_per_s", "share_of_limit"}) {
      EXPECT_GE(row.at(key).get<double>(), 0) << key;
    }
    EXPECT_GT(row.at("tokens_per_s").get<double>(), 0);
  }
  EXPECT_FALSE(rows[0].contains("deterministic_cost"));
  EXPECT_NE(output_of({"bench", tiny, "-p", "8", "-n", "0", "-r", "1"}).find("pp8"), std::string::npos);
  EXPECT_NE(output_of({"bench", tiny, "-p", "0", "-n", "4", "-r", "1", "--temp", "0.8", "--batch", "2"}).find("tg4x2"),
            std::string::npos);
}

// The KV cache of what the bundled model could hold would be 32 times as large as what is asked for here.
TEST(Cli, BenchTakesTheContextItNeeds) {
  const auto refused = weft({"bench", "-p", "16", "-n", "497", "--depth", "16", "-r", "1"});
  expect_error(refused, "depth 16 and 498 more tokens do not fit the context of 512");
  const auto rows = nlohmann::json::parse(
      output_of({"bench", "-p", "16", "-n", "2", "--batch", "32", "-r", "1", "--backend", "cpu", "--json"}));
  EXPECT_EQ(rows[1].at("test"), "tg2x32");
  EXPECT_NE(output_of({"inspect", "--ctx", "17"}).find("a context of 17 tokens"), std::string::npos);
}

TEST(Cli, ExplainsAndRemarks) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder);
  const Args args = {"eval", tiny, "--ids", "1,2,3", "--backend", "cpu", "--place", "blk.9.*=cpu"};
  const auto with = [&](const char* flag) {
    Args more = args;
    more.emplace_back(flag);
    return weft(more).err;
  };
  EXPECT_EQ(weft(args).err, "weft: --place 'blk.9.*=cpu': no node matches it\n");
  EXPECT_EQ(with("--quiet"), "");
  const std::string table = with("--explain");
  for (const char* part : {"blk.1.mlp_gemm", "the only device", "predicted", "measured", "cpu reads "}) {
    EXPECT_NE(table.find(part), std::string::npos) << part << " in:\n" << table;
  }
  Args automatic = {"eval", tiny, "--ids", "1,2,3", "-n", "1"};
  const Outcome on_cpu = weft(automatic, {"WEFT_BACKENDS=cpu"});
  EXPECT_EQ(on_cpu.err, "weft: on the cpu: backend cuda is not available; this machine offers: cpu\n");
  automatic.emplace_back("--quiet");
  EXPECT_EQ(weft(automatic, {"WEFT_BACKENDS=cpu"}).err, "");
  expect_error({"eval", tiny, "--ids", "1", "--backend", "cpu", "--gpu-layers", "1"},
               "--gpu-layers 1: --backend cpu has no GPU");
}

TEST(Cli, BenchsTableOfOpsStandsBesideItsRows) {
  const TempFolder folder;
  const Outcome outcome = weft({"bench", write_tiny(folder), "-p", "8", "-n", "4", "-r", "1", "--backend", "cpu",
                                "--threads", "1", "--json", "--ops"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto rows = nlohmann::json::parse(outcome.out);
  ASSERT_EQ(rows.size(), 2u);
  for (const auto& row : rows) EXPECT_FALSE(row.contains("gaps")) << "a cpu has no recorder";
  const size_t table = outcome.err.find("of limit");
  ASSERT_NE(table, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("of limit", table + 1), std::string::npos) << "once";
  EXPECT_NE(outcome.err.find("runs of 1 token:"), std::string::npos) << outcome.err;
}

TEST(Cli, BenchSaysWhatDeterminismCosts) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder);
  const std::vector<std::string> arguments = {"bench", tiny, "-p", "8", "-n", "4", "-r", "1", "--deterministic"};
  EXPECT_NE(output_of(arguments).find("deterministic costs"), std::string::npos);
  std::vector<std::string> json = arguments;
  json.emplace_back("--json");
  const auto rows = nlohmann::json::parse(output_of(json));
  ASSERT_EQ(rows.size(), 2u);
  for (const auto& row : rows) EXPECT_GT(row.at("deterministic_cost").get<double>(), -1);
}

TEST(Cli, Inspects) {
  const std::string model = output_of({"inspect"});
  for (const char* text : {"general.architecture", "gpt2.block_count = 8", "token_embd.weight", "q8_0", "KV cache"}) {
    EXPECT_NE(model.find(text), std::string::npos) << text;
  }
  const std::string ops = output_of({"inspect", "--ops"});
  for (const char* op : {"qkv_gemm", "softmax_context", "vector_matmul", "mlp_gemm", "gelu_gemm", "residual_add"}) {
    EXPECT_NE(ops.find(op), std::string::npos) << op;
  }
  const std::string env = output_of({"inspect", "--env"});
  for (const char* name : {"WEFT_DEBUG", "WEFT_DUMP", "WEFT_TRACE", "WEFT_CHECK", "WEFT_KERNEL", "WEFT_FALLBACK",
                           "WEFT_CPU_ISA", "WEFT_BACKENDS"}) {
    EXPECT_NE(env.find(name), std::string::npos) << name;
  }
  const std::string devices = output_of({"inspect", "--devices"});
  EXPECT_NE(devices.find("cpu"), std::string::npos);
  EXPECT_NE(devices.find("GB/s"), std::string::npos);
  const std::string plan = output_of({"inspect", "--plan", "--backend", "cpu"});
  for (const char* op : {"qkv_gemm", "softmax_context", "mlp_gemm"}) EXPECT_NE(plan.find(op), std::string::npos) << op;
}

TEST(Cli, ConvertForecastsAndWrites) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder, {.d_model = 64, .n_head = 4, .d_ff = 50}), out = folder.file("out.gguf");
  const std::string forecast = output_of({"convert", tiny, "--type", "q8_0", "--dry-run", "-o", out});
  EXPECT_NE(forecast.find("blk.1.ffn_down.weight: rows of 50 are not whole blocks of q8_0, written as f16"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(out));
  EXPECT_EQ(output_of({"convert", tiny, "--type", "q8_0", "-o", out, "--quiet"}), "");
  EXPECT_EQ(folder.count(), 2u);
  const std::string greedy = output_of({"eval", out, "--ids", "1,2,3", "-n", "3"});
  EXPECT_EQ(output_of({"eval", tiny, "--quantize", "q8_0", "--ids", "1,2,3", "-n", "3"}), greedy)
      << "quantized while loading is as quantized before";
}

TEST(Cli, ConvertTakesMixesOverridesAndHashes) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder, {.d_model = 256, .n_head = 4, .d_ff = 96}), out = folder.file("out.gguf");
  const std::string said = output_of({"convert", tiny, "--type", "q4_K_M", "--override", "blk.*.attn_k.weight=bf16",
                                      "--override", "blk.1.attn_k.weight=f16", "-o", out, "--sha256"});
  EXPECT_NE(said.find("blk.1.ffn_down.weight: rows of 96 are not whole blocks of q6_K, written as q8_0"),
            std::string::npos);
  const auto file = open_checkpoint(out);
  EXPECT_EQ(file->type("output.weight")->dtype.name(), "q6_K");
  EXPECT_EQ(file->type("blk.0.attn_k.weight")->dtype.name(), "bf16");
  EXPECT_EQ(file->type("blk.1.attn_k.weight")->dtype.name(), "f16");
  EXPECT_EQ(file->metadata().integer("general.file_type"), 15);
  for (const std::string& name : file->tensor_names()) {
    const size_t at = said.find("  " + name + "\n");
    ASSERT_NE(at, std::string::npos) << name;
    EXPECT_EQ(said.substr(at - 64, 64).find_first_not_of("0123456789abcdef"), std::string::npos) << name;
  }
  expect_error({"convert", tiny, "-o", out, "--type", "q4_K_M", "--no-fallback"},
               "tensor blk.0.ffn_down.weight has rows of 96 elements, q4_K needs whole blocks of 256");
  expect_error({"convert", tiny, "-o", out, "--override", "nothing*=f16"}, "no matrix is called nothing*");
  expect_error({"convert", tiny, "-o", out, "--override", "x"}, "--override x: expected PATTERN=type");
  expect_error({"eval", tiny, "--ids", "1", "--quantize", "q9"}, "there is no type q9");
}

/// A conversion that takes a while, and what became of it: `act` gets its process id once it is writing.
Outcome interrupted(const std::string& source, const TempFolder& target, const std::function<void(pid_t)>& act) {
  const std::string out = target.file("out.gguf");
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl(WEFT_CLI, WEFT_CLI, "convert", source.c_str(), "-o", out.c_str(), "--type", "q3_K", "--quiet", nullptr);
    ::_exit(127);
  }
  for (int i = 0; i < 2000 && target.count() == 0; ++i) ::usleep(5000);
  act(child);
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status), "", ""};
}

TEST(Cli, AnInterruptedConversionLeavesNoFile) {
  const TempFolder folder;
  const std::string large =
      write_tiny(folder, {.n_layer = 1, .d_model = 1024, .n_head = 8, .d_ff = 4096, .n_vocab = 4096});
  for (const int signal : {SIGINT, SIGTERM}) {
    const TempFolder target;
    EXPECT_EQ(interrupted(large, target, [&](pid_t child) { ::kill(child, signal); }).status, 130);
    EXPECT_EQ(target.count(), 0u) << "something half-written stays after signal " << signal;
  }
  const TempFolder target;
  target.write("out.gguf", "before");
  const auto kill_hard = [&](pid_t child) {
    for (int i = 0; i < 2000 && target.count() == 1; ++i) ::usleep(5000);
    ::kill(child, SIGKILL);
  };
  EXPECT_EQ(interrupted(large, target, kill_hard).status, -SIGKILL);
  EXPECT_EQ(read_file(target.file("out.gguf")), "before") << "a killed conversion left its file under the name";
}

// A limit on the file's size fails writes as a full disk does, in the middle.
TEST(Cli, ADiskThatFillsUpLeavesNoFile) {
  const TempFolder folder, target;
  const std::string tiny = write_tiny(folder, {.d_model = 128, .n_head = 4, .d_ff = 256});
  const std::string command =
      fmt::format("ulimit -f 100; exec '{}' convert '{}' -o '{}' --quiet", WEFT_CLI, tiny, target.file("out.gguf"));
  const Outcome outcome = run_program("/bin/sh", {"-c", command});
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_EQ(outcome.err, fmt::format("weft: error: cannot write {}: File too large\n", target.file("out.gguf")));
  EXPECT_EQ(target.count(), 0u);
}

TEST(Cli, StopsAndSeeds) {
  const Args args = {"generate", "-p", std::string(kPrompt), "-n", "64", "--temp", "0", "--quiet"};
  Args stopped = args;
  stopped.insert(stopped.end(), {"--stop", " of the importance", "--stop", "never said"});
  EXPECT_EQ(output_of(stopped), std::string(kPrompt) + " I am not unmindful\n");
  const auto sampled = [&](const char* seed) {
    return output_of({"generate", "-p", "We", "-n", "12", "--seed", seed, "--quiet"});
  };
  EXPECT_EQ(sampled("1"), sampled("1"));
  EXPECT_NE(sampled("1"), sampled("2"));
}

TEST(Cli, SwitchesOfTheEnvironment) {
  const TempFolder folder;
  const std::string tiny = write_tiny(folder);
  const Args args = {"eval", tiny, "--ids", "1,2,3", "-n", "2"};
  const std::string greedy = output_of(args);
  for (const char* variable : {"WEFT_FALLBACK=1", "WEFT_BACKENDS=ref", "WEFT_CPU_ISA=sse2", "WEFT_CHECK=nan",
                               "WEFT_CHECK=ref", "WEFT_DEBUG=3"}) {
    EXPECT_EQ(output_of(args, {variable}), greedy) << variable;
  }
  const std::string trace = folder.file("trace.json"), dump = folder.file("plan.txt");
  output_of(args, {"WEFT_TRACE=" + trace, "WEFT_DUMP=plan:" + dump});
  EXPECT_FALSE(nlohmann::json::parse(read_file(trace)).at("traceEvents").empty());
  EXPECT_NE(read_file(dump).find("qkv_gemm"), std::string::npos);
}

TEST(Hello, RunsOnTwoBackends) {
  const Outcome outcome = run_program(WEFT_HELLO, {});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const size_t second = outcome.out.find("\ncpu: ");
  ASSERT_EQ(outcome.out.find("ref: "), 0u);
  ASSERT_NE(second, std::string::npos);
  EXPECT_EQ(outcome.out.substr(5, second - 4), outcome.out.substr(second + 6)) << "the same to four places";
}

}  // namespace
}  // namespace weft
