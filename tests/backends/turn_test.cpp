// Backend::turn: by its definition on a backend of tests, and by the kernel of cuda.
#include "tests/backends/cuda_fixture.h"
#include "tests/support/test_backend.h"

namespace weft::testing {
namespace {

struct TurnSizes {
  size_t head;   // bytes
  size_t bytes;  // that go on
  int64_t at;    // in the head, in bytes; -1: to the host alone
  bool pinned;
};
constexpr TurnSizes kTurns[] = {{2312, 4, 256, true},      {2312, 4, 256, false}, {8, 4, 4, true},
                                {2309, 128, 512, true},    {40000, 256, 0, true}, {32768, 4096, 28672, true},
                                {16 * 1024, 12, -1, true}, {1, 4, -1, true},      {300, 6, 16, true},
                                {300, 8, 30, true}};

std::vector<std::byte> turn_bytes(size_t n, unsigned seed) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>((i * 7 + seed * 31 + i / 256) & 0xFF);
  return bytes;
}

void check_turn(Backend& backend) {
  for (const TurnSizes& s : kTurns) {
    constexpr size_t kAround = 64;
    const Buffer arena = backend.allocate(0, s.head + kAround), result = backend.allocate(0, s.bytes);
    std::pmr::vector<std::byte> host(s.bytes + kAround, std::byte{0xA5},
                                     s.pinned ? &backend.host_memory() : std::pmr::new_delete_resource());
    std::vector<std::byte> expected(s.head + kAround, std::byte{0x5A});
    backend.write(0, arena.data(), expected.data(), expected.size());
    for (const unsigned round : {1u, 2u}) {  // the second may not see what the first had staged
      const std::vector<std::byte> from = turn_bytes(s.bytes, round);
      std::vector<std::byte> head = turn_bytes(s.head, round + 5);
      backend.write(0, result.data(), from.data(), from.size());
      backend.turn(0, {.head = arena.data(),
                       .host_head = head.data(),
                       .head_bytes = s.head,
                       .from = result.data(),
                       .to = s.at >= 0 ? arena.data() + s.at : nullptr,
                       .to_host = host.data(),
                       .bytes = s.bytes});
      std::ranges::copy(head, expected.begin());
      std::ranges::fill(head, std::byte{0});
      if (s.at >= 0) std::ranges::copy(from, expected.begin() + s.at);
      backend.wait(0, backend.mark(0));
      EXPECT_TRUE(std::equal(from.begin(), from.end(), host.begin())) << s.head << " bytes, round " << round;
      EXPECT_TRUE(std::all_of(host.begin() + static_cast<ptrdiff_t>(s.bytes), host.end(),
                              [](std::byte b) { return b == std::byte{0xA5}; }));
      std::vector<std::byte> got(expected.size());
      backend.read(0, got.data(), arena.data(), got.size());
      EXPECT_EQ(got, expected) << s.head << " bytes, round " << round;
    }
  }
}

TEST(Turn, IsThreeCopies) { check_turn(*test_backend(1)); }

TEST(CudaTurn, IsThreeCopies) {
  const auto backend = load_cuda_backend();
  if (backend->devices().empty()) GTEST_SKIP() << backend->absent();
  check_turn(*backend);
}

}  // namespace
}  // namespace weft::testing
