#include "models/session/session.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "backends/null/null.h"
#include "backends/ref/ref.h"
#include "convert/open_model.h"
#include "convert/safetensors.h"
#include "graph/size_text.h"
#include "ops/quant/find.h"
#include "tests/convert/temp_folder.h"
#include "tests/models/rig.h"
#include "tests/support/null_devices.h"
#include "tests/support/sanitized.h"
#include "tests/support/test_backend.h"
#include "tests/support/tiny_model.h"

namespace weft {
namespace {

using namespace weft::testing;
using Ids = std::vector<int32_t>;

// Of the logits' deviation.
constexpr double kSame = 1e-6;   // the same kernels on more or fewer rows
constexpr double kClose = 1e-5;  // other kernels: another order of the sums

TinyOptions gpt2() { return {.architecture = "gpt2"}; }

/// Every architecture and backend a fresh clone can test.
class SessionOn : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  static std::shared_ptr<TinyModel> model(TinyOptions options = {}) {
    options.architecture = std::get<0>(GetParam());
    return tiny_model(options);
  }
  static SessionOptions exact(int64_t max_sequences = 1) { return Rig::exact(std::get<1>(GetParam()), max_sequences); }
  static bool on_ref() { return std::get<1>(GetParam()) == "ref"; }
};

INSTANTIATE_TEST_SUITE_P(All, SessionOn,
                         ::testing::Combine(::testing::Values("gpt2", "llama"), ::testing::Values("ref", "cpu")),
                         [](const auto& p) { return std::get<0>(p.param) + "_" + std::get<1>(p.param); });

TEST_P(SessionOn, ChunksDoNotMatter) {
  Rig rig(model(), exact());
  const Ids ids = random_ids(45, 61, 3);
  const auto whole = rig.logits(ids);
  ASSERT_EQ(whole.size(), 45u * 61);
  EXPECT_LE(difference(rig.logits(ids, 1), whole), on_ref() ? 0 : kSame);
  EXPECT_LE(difference(rig.logits(ids, 7), whole), on_ref() ? 0 : kSame);
}

TEST_P(SessionOn, TheFallbackAgrees) {
  const Ids ids = random_ids(20, 61, 4);
  SessionOptions options = exact();
  Rig fused(model(), options);
  options.fallback = true;
  Rig lowered(model(), options);
  EXPECT_LE(difference(lowered.logits(ids), fused.logits(ids)), kClose);
}

TEST_P(SessionOn, OnlyTheLastLogitsUnlessAllAreAsked) {
  Rig rig(model(), exact());
  const Ids ids = random_ids(9, 61, 5);
  const auto all = rig.logits(ids);
  const auto last = rig.last(rig->open_sequence(), ids);
  ASSERT_EQ(last.size(), 61u);
  EXPECT_LE(difference(last, std::span(all).last(61)), kSame);
}

// Sequences of different length, old and new ones mixed, must not see each other.
TEST_P(SessionOn, ABatchIsAsEachAlone) {
  const Ids past[] = {random_ids(70, 61, 6), {}, random_ids(3, 61, 7)};
  const Ids now[] = {random_ids(1, 61, 8), random_ids(11, 61, 9), random_ids(5, 61, 10)};
  std::vector<std::vector<float>> alone;
  Rig single(model(), exact());
  for (int i = 0; i < 3; ++i) {
    Ids ids = past[i];
    ids.insert(ids.end(), now[i].begin(), now[i].end());
    auto logits = single.logits(ids);
    alone.emplace_back(logits.end() - static_cast<ptrdiff_t>(now[i].size() * 61), logits.end());
  }
  for (const int n : {2, 3}) {
    Rig rig(model(), exact(3));
    std::vector<Feed> feeds;
    for (int i = 0; i < n; ++i) {
      const int sequence = rig->open_sequence();
      if (!past[i].empty()) rig.last(sequence, past[i]);
      feeds.push_back({sequence, now[i], true});
    }
    const auto together = rig->step(feeds);
    size_t at = 0;
    for (size_t i = 0; i < feeds.size(); ++i) {
      ASSERT_LE(at + alone[i].size(), together.size());
      EXPECT_LE(difference(together.subspan(at, alone[i].size()), alone[i]), on_ref() ? 0 : kSame)
          << "sequence " << i << " of " << n;
      at += alone[i].size();
    }
    EXPECT_EQ(at, together.size());
  }
}

TEST_P(SessionOn, DecodingReplaysOnePlan) {
  Rig rig(model(), exact());
  const int sequence = rig->open_sequence();
  rig.last(sequence, random_ids(10, 61, 11));
  rig.last(sequence, Ids{1});
  const size_t plans = rig->n_plans();
  EXPECT_EQ(plans, 2u) << "the prompt's and the decoding one";
  while (rig->length(sequence) < 4 * Session::kPageSize) {
    rig.last(sequence, Ids{2});
    ASSERT_EQ(rig->n_plans(), plans) << "at length " << rig->length(sequence);
  }
  rig.last(sequence, Ids{2});
  EXPECT_EQ(rig->n_plans(), plans + 1) << "a fifth page needs the next class";
  rig.last(sequence, Ids{2});
  EXPECT_EQ(rig->n_plans(), plans + 1);
}

TEST_P(SessionOn, TruncatingGoesBack) {
  Rig rig(model(), exact());
  const int sequence = rig->open_sequence();
  const Ids ids = random_ids(80, 61, 12);
  const auto first = rig.last(sequence, ids);
  rig.last(sequence, random_ids(100, 61, 13));
  rig->truncate(sequence, 60);
  EXPECT_LE(difference(rig.last(sequence, std::span(ids).subspan(60)), first), kSame);
}

TEST_P(SessionOn, AFullContextLeavesTheSessionUsable) {
  Rig rig(model({.context = 20}), exact(2));
  const int sequence = rig->open_sequence();
  const Ids ids = random_ids(20, 61, 14);
  rig.last(sequence, std::span(ids).first(15));
  expect_message(error_of([&] { rig.last(sequence, random_ids(6, 61, 15)); }),
                 "the context is full: 15 tokens cached, 6 more asked for, room for 20");
  EXPECT_EQ(rig->length(sequence), 15);
  const auto after = rig.last(sequence, std::span(ids).subspan(15));
  EXPECT_LE(difference(after, rig.last(rig->open_sequence(), ids)), kSame);
  expect_message(error_of([&] { rig.last(sequence, Ids{0}); }), "the context is full");
  expect_message(error_of([&] { rig->open_sequence(); }), "all 2 sequences of the session are in use");
}

TEST_P(SessionOn, WrongFeedsAreErrorsThatChangeNothing) {
  Rig rig(model({.context = 600}), exact(2));
  const int a = rig->open_sequence(), b = rig->open_sequence();
  const Ids fine = {1, 2}, none;
  for (const Ids& wrong : {Ids{61}, Ids{3, -1}, Ids{INT32_MAX}, Ids{INT32_MIN}}) {
    const Feed feeds[] = {{a, fine}, {b, wrong}};
    expect_message(error_of([&] { rig->step(feeds); }), "is outside the vocabulary of 61");
  }
  const auto refused = [&](std::vector<Feed> feeds, const char* message) {
    expect_message(error_of([&] { rig->step(feeds); }), message);
    EXPECT_EQ(rig->length(a) + rig->length(b), 0);
  };
  const Ids many(static_cast<size_t>(rig->largest_step()), 1);  // with one more these are fed in pieces
  for (const Ids& ids : {fine, many}) {
    refused({{a, ids}, {b, none}}, "sequence 1 has none");
    refused({{a, ids}, {b, fine}, {a, ids}}, "sequence 0 is fed twice");
    refused({{a, fine}, {7, ids}}, "sequence 7 is not open");
  }
  refused({}, "a step needs tokens");
}

// What is too long for one plan goes through the cache in pieces.
TEST_P(SessionOn, ALongPromptIsCut) {
  constexpr size_t kLong = 550;
  const TinyOptions options{.n_layer = 1, .d_model = 24, .n_head = 2, .d_ff = 10, .context = 600, .n_vocab = 13};
  Rig rig(model(options), exact(2));
  const Ids ids = random_ids(kLong, 13, 16), other = random_ids(4, 13, 17);
  ASSERT_LT(rig->largest_step(), static_cast<int64_t>(kLong));
  const auto pieces = rig.logits(ids, 100);
  const int a = rig->open_sequence(), b = rig->open_sequence();
  const Feed feeds[] = {{a, other}, {b, ids, true}};
  const auto got = rig->step(feeds);
  ASSERT_EQ(got.size(), 13 * (1 + kLong));
  EXPECT_LE(difference(got.subspan(13), pieces), kSame);
  rig->truncate(b, 0);
  const Feed last[] = {{b, ids}};
  const auto row = rig->step(last);
  EXPECT_LE(difference(row, std::span(pieces).last(13)), kSame);
  EXPECT_EQ(rig->length(b), static_cast<int64_t>(kLong));
}

// Heads are 32 wide, the block of q8_0. The bounds are twice what was measured, in deviations of the logits.
TEST_P(SessionOn, KvTypesStayClose) {
  const TinyOptions options{.d_model = 128, .n_head = 4, .n_kv_head = 2, .d_ff = 96};
  const Ids ids = random_ids(50, 61, 18);
  Rig reference(model(options), exact());
  const auto expected = reference.logits(ids, 10);
  const struct {
    const char* type;
    double bound;
  } cases[] = {{"f16", 5e-3}, {"bf16", 4e-2}, {"q8_0", 1e-1}};
  for (const auto& c : cases) {
    SessionOptions session = exact();
    session.kv_type = quant::find(c.type);
    Rig rig(model(options), session);
    const double error = difference(rig.logits(ids, 10), expected);
    EXPECT_LE(error, c.bound) << c.type;
    EXPECT_GT(error, 1e-6) << c.type << " is not what was used";
    EXPECT_LT(rig->memory_use().kv_cache, reference->memory_use().kv_cache);
  }
}

TEST_P(SessionOn, AKvTypeThatHeadsAreNoBlocksOfIsAnError) {
  SessionOptions options = exact();
  options.kv_type = quant::find("q8_0");
  const std::string message = error_of([&] { Rig(model(), options).logits(Ids{1}); });
  expect_message(message, "q8_0");
}

TEST_P(SessionOn, ContextsAndBackendsOutOfRangeAreErrors) {
  SessionOptions options = exact();
  options.context = 301;
  expect_message(error_of([&] { Rig(model(), options); }), "--ctx 301: the model was made for 300 tokens");
  options.context = -1;
  expect_message(error_of([&] { Rig(model(), options); }), "--ctx must be positive");
  options = Rig::exact("tpu");
  expect_message(error_of([&] { Rig(model(), options); }), "backend tpu is not available");
  options = exact();
  options.context = 40;
  EXPECT_EQ(Rig(model(), options)->context(), 40);
}

TEST_P(SessionOn, FastIsCloseToExact) {
  const Ids ids = random_ids(30, 61, 19);
  Rig rig(model(), exact());
  SessionOptions fast = exact();
  fast.precision = Precision::fast;
  EXPECT_LE(difference(Rig(model(), fast).logits(ids, 10), rig.logits(ids, 10)), 5e-2);
}

TEST(Session, BitEqualAtAnyNumberOfThreads) {
  const Ids ids = random_ids(33, 61, 20);
  for (const TinyOptions& options : {gpt2(), TinyOptions{}, TinyOptions{.n_expert = 4}}) {
    std::vector<std::vector<float>> all;
    for (const int threads : {1, 2, 3}) {
      Rig rig(tiny_model(options), Rig::exact("cpu"), threads);
      const int sequence = rig->open_sequence();
      all.push_back(rig.logits(sequence, std::span(ids).first(31), 31));
      for (const auto id : {ids[31], ids[32]}) {
        const auto row = rig.last(sequence, Ids{id});
        all.back().insert(all.back().end(), row.begin(), row.end());
      }
    }
    EXPECT_EQ(all[0], all[1]) << options.architecture << ", two threads";
    EXPECT_EQ(all[0], all[2]) << options.architecture << ", three threads";
  }
}

TEST(Session, ASlidingWindowForgets) {
  TinyOptions options{.n_layer = 1, .window = 8};
  Rig rig(tiny_model(options));
  Ids ids = random_ids(30, 61, 21);
  const auto before = rig.logits(ids);
  ids[21] = (ids[21] + 1) % 61;  // 8 back from the last: just out of sight
  const auto after = rig.logits(ids);
  EXPECT_EQ(greedy(std::span(before).last(61)), greedy(std::span(after).last(61)));
  EXPECT_EQ(difference(std::span(after).last(61), std::span(before).last(61)), 0);
  EXPECT_GT(difference(std::span(after).last(122).first(61), std::span(before).last(122).first(61)), 1e-3);
}

TEST(Session, MixturesOfExpertsAgreeAcrossBackends) {
  const Ids ids = random_ids(25, 61, 22);
  const TinyOptions options{.n_expert = 5};
  Rig ref(tiny_model(options)), cpu(tiny_model(options), Rig::exact("cpu"));
  const auto expected = ref.logits(ids);
  EXPECT_LE(difference(cpu.logits(ids), expected), kClose);
  EXPECT_LE(difference(cpu.logits(ids, 4), expected), kClose);
}

// A bias of one of several matrices that belong together, without the others'.
TEST(Session, SomeOfSeveralBiasesIsAnError) {
  for (const char* name : {"attn_q", "attn_k", "ffn_up", "ffn_gate"}) {
    const auto tiny = tiny_model();
    const int64_t rows = tiny->at(fmt::format("blk.1.{}.weight", name)).dim(0);
    tiny->set(fmt::format("blk.1.{}.bias", name), {quant::f32, {rows}}, 1);
    expect_message(error_of([&] { Rig(tiny).logits(Ids{1}); }), "tiny: blk.1 has biases for 1 of ");
  }
}

TEST(Session, AStepOfOneTokenGathersNoRow) {
  Rig rig(tiny_model({}), Rig::exact("cpu"));
  const auto gathers = [](const Plan& plan) {
    return std::ranges::count_if(plan.steps,
                                 [](const Step& step) { return step.match.node().op->name == "gather_rows"; });
  };
  EXPECT_EQ(gathers(rig->decode_plan()), 0);
  rig.logits(random_ids(5, 61, 3));
  EXPECT_EQ(gathers(*rig->last_plan()), 1) << "several tokens, of which one may be wanted";
}

TEST(Session, CountsItsMemory) {
  Rig rig(tiny_model(gpt2()));
  EXPECT_EQ(rig->memory_use().kv_cache, 0u) << "made with the first plan";
  rig.logits(Ids{1});
  EXPECT_EQ(rig->memory_use().kv_cache, 2u * 2 * 5 * 64 * 36 * 4) << "k and v, layers, pages, tokens, width, bytes";
  EXPECT_EQ(rig->memory_use().weights, rig->model().weight_bytes());
  EXPECT_GT(rig->step_cost({.tokens = 3}).flops, 3 * 2.0 * 2 * 36 * (3 + 1) * 36);
}

TEST(Session, CountsWhatItTakesOfADevice) {
  Runtime runtime(Env{}, backends(make_ref_backend(), test_backend(1)));
  const Model model(tiny_model(gpt2()));
  Session on_host(model, runtime, Rig::exact("ref")), session(model, runtime, Rig::exact("test"));
  EXPECT_TRUE(on_host.device_use().empty());
  const int32_t id = 1;
  const Feed feed{session.open_sequence(), {&id, 1}};
  session.step({&feed, 1});
  const std::vector<DeviceUse> all = session.device_use();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].device, "test:0");
  EXPECT_EQ(all[0].weights, session.memory_use().weight_copies);
  EXPECT_GE(all[0].weights, model.weight_bytes() / 2);
  EXPECT_EQ(all[0].kv_cache, session.memory_use().kv_cache);
  EXPECT_GT(all[0].workspace, 0u);
  const auto& backend = static_cast<const TestBackend&>(*session.devices()[0].backend);
  EXPECT_EQ(all[0].all(), backend.used[0]) << "there is nothing else";
  EXPECT_EQ(all[0].limit, size_t{1} << 30);
}

TEST(Session, MemoryThatCannotSufficeIsAnErrorOfOneLine) {
  const DeviceInfo host{.name = "null", .description = "", .memory_bytes = 10'000};
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(make_null_backend({.devices = {host}, .without = {}, .measured = {}}));
  Runtime runtime(Env{}, std::move(backends));
  const Model model(tiny_model(gpt2()));
  const std::string error = error_of([&] { Session(model, runtime, Rig::exact("null")); });
  expect_message(error, "KV cache 180.00 KiB, workspace ");
  expect_message(error, "free are 9.77 KiB of null");
}

TEST(Session, PlacesByWhatDevicesDoNotByWhatTheyClaim) {
  const auto steps_on_second = [](std::vector<DeviceInfo> measured) {
    std::vector<std::unique_ptr<Backend>> backends;
    backends.push_back(
        make_null_backend({.devices = {null_device("first", 1 << 24, 100), null_device("second", 1 << 24)},
                           .without = {},
                           .measured = std::move(measured)}));
    Runtime runtime(Env{}, std::move(backends));
    const Model model(tiny_model(gpt2()));
    Session session(model, runtime, Rig::exact("null"));
    return std::ranges::count(session.decode_plan().steps, 1, &Step::device);
  };
  EXPECT_EQ(steps_on_second({}), 0);
  EXPECT_GT(steps_on_second({null_device("", 0, 0.1, 0.1), null_device("", 0, 50)}), 0);
}

// Prompts want the device that computes faster, decoding the one that reads faster: what one plan has put there, the
// next must leave room for. The null backend counts every byte.
TEST(Session, ItsPlansTogetherKeepWithinMemory) {
  const Model model(tiny_model({.n_layer = 6, .context = 300}));
  const auto copies = [&](size_t memory) -> std::optional<size_t> {
    DeviceInfo computes = null_device("computes", memory, 1, 10'000), reads = null_device("reads", memory, 100, 1);
    computes.launch_us = reads.launch_us = 0.01;
    Runtime runtime(Env{}, [&] {
      std::vector<std::unique_ptr<Backend>> backends;
      backends.push_back(null_backend({computes, reads}));
      return backends;
    }());
    std::optional<Session> session;
    try {
      session.emplace(model, runtime, Rig::exact("null"));
    } catch (const Error&) {
      return std::nullopt;
    }
    const int sequence = session->open_sequence();
    for (const int64_t n : {3, 1, 40, 1, 200}) {
      const Ids ids(static_cast<size_t>(n), 1);
      const Feed feed{sequence, ids};
      session->step({&feed, 1});
    }
    return session->memory_use().weight_copies;
  };
  EXPECT_GT(copies(size_t{1} << 30), model.weight_bytes() * 5 / 4) << "the test needs plans that place apart";
  int refused = 0, run = 0;
  for (size_t memory = 100'000; memory < 2'000'000; memory += 50'000) {
    SCOPED_TRACE(memory);
    std::optional<size_t> made;
    EXPECT_NO_THROW(made = copies(memory)) << "a session that was made has room for all its steps";
    (made ? run : refused) += 1;
  }
  EXPECT_GT(refused, 2);
  EXPECT_GT(run, 10);
}

TEST(Session, ForecastsItsMemory) {
  Rig rig(tiny_model(gpt2()));
  const std::string table = rig->memory_forecast();
  for (const size_t bytes : {size_t{2 * 2 * 5 * 64 * 36 * 4}, rig->devices()[0].info().memory_bytes}) {
    EXPECT_NE(table.find(size_text(bytes)), std::string::npos) << "KV cache and free, " << bytes << " in:\n" << table;
  }
}

}  // namespace
}  // namespace weft
