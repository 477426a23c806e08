// Texts whose tokens are drawn on the GPU are those that the host draws of the GPU's logits.
#include "backends/all.h"
#include "models/session/session.h"
#include "tests/backends/cuda_fixture.h"
#include "tests/support/tiny_model.h"

namespace weft::testing {
namespace {

TEST(CudaGenerate, WhatTheDeviceDrawsIsWhatTheHostDrawsOfItsLogits) {
  if (const auto backend = load_cuda_backend(); backend->devices().empty()) GTEST_SKIP() << backend->absent();
  Runtime runtime(Env{}, make_backends(Env{}, {.threads = 2}));
  constexpr int64_t kVocab = 1500, kContext = 300;
  for (const std::string architecture : {"llama", "gpt2"}) {
    const Model model(tiny_model({.architecture = architecture, .context = kContext, .n_vocab = kVocab}));
    for (const Precision precision : {Precision::exact, Precision::fast}) {
      SessionOptions on_gpu;
      on_gpu.backend = "cuda";
      on_gpu.precision = precision;
      Session drawing(model, runtime, on_gpu), plain(model, runtime, on_gpu);
      for (uint64_t seed = 0; seed < 6; ++seed) {
        SamplerOptions options{.temperature = 1, .seed = seed};
        if (seed % 3 == 1) options = {.temperature = 0.7f, .top_k = 64, .repeat_penalty = 1.2f, .seed = seed};
        if (seed % 3 == 2) options = {.temperature = 0, .repeat_penalty = 1.3f, .repeat_last_n = 20, .seed = seed};
        Sampler sampler(options);
        const int sequence = drawing.open_sequence();
        ASSERT_EQ(plain.open_sequence(), sequence);
        std::vector<int32_t> history = {static_cast<int32_t>(seed) + 3};
        while (drawing.length(sequence) < kContext) {
          const Feed feed{sequence, std::span(history).last(1)};
          const Draw draw{options, history, history.size()};
          const auto drawn = drawing.step_drawn({&feed, 1}, {&draw, 1});
          ASSERT_TRUE(drawn.has_value());
          const int32_t expected = sampler.sample(plain.step({&feed, 1}), history, history.size());
          ASSERT_EQ((*drawn)[0], expected) << architecture << ", seed " << seed << ", token " << history.size();
          history.push_back(expected);
        }
        drawing.close_sequence(sequence);
        plain.close_sequence(sequence);
      }
    }
  }
}

/// A batch, whose rows have options of their own.
TEST(CudaGenerate, SequencesThatAreFedTogetherDrawTheirOwn) {
  if (const auto backend = load_cuda_backend(); backend->devices().empty()) GTEST_SKIP() << backend->absent();
  Runtime runtime(Env{}, make_backends(Env{}, {.threads = 2}));
  const Model model(tiny_model({.context = 200, .n_vocab = 700}));
  SessionOptions on_gpu;
  on_gpu.backend = "cuda";
  on_gpu.precision = Precision::exact;
  on_gpu.max_sequences = 5;
  Session drawing(model, runtime, on_gpu), plain(model, runtime, on_gpu);
  std::vector<int> sequences;
  std::vector<std::vector<int32_t>> histories;
  for (int32_t s = 0; s < 5; ++s) {
    sequences.push_back(drawing.open_sequence());
    ASSERT_EQ(plain.open_sequence(), sequences.back());
    histories.push_back({s});
  }
  for (int i = 0; i < 150; ++i) {
    std::vector<Feed> feeds;
    std::vector<Draw> draws;
    for (size_t s = 0; s < sequences.size(); ++s) {
      feeds.push_back({sequences[s], std::span(histories[s]).last(1)});
      draws.push_back({{.temperature = 0.5f * static_cast<float>(s),
                        .top_k = 10 * static_cast<int>(s + 1),
                        .repeat_penalty = s % 2 == 0 ? 1.0f : 1.1f,
                        .seed = s},
                       histories[s],
                       histories[s].size()});
    }
    const auto drawn = drawing.step_drawn(feeds, draws);
    ASSERT_TRUE(drawn.has_value());
    const auto logits = plain.step(feeds);
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int32_t expected =
          Sampler(draws[s].options).sample(logits.subspan(s * 700, 700), histories[s], histories[s].size());
      ASSERT_EQ((*drawn)[s], expected) << "sequence " << s << ", token " << i;
      histories[s].push_back(expected);
    }
  }
}

}  // namespace
}  // namespace weft::testing
