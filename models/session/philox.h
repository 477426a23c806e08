// Philox4x32-10, a counter-based random number generator: the same (counter, key) always gives the same numbers, so
// that host and device agree and draws can be repeated in any order.
// Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
#pragma once

#include <array>
#include <cstdint>

namespace weft {

/// Ten rounds of Philox on a 128-bit counter under a 64-bit key, words in little-endian order.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

/// 53 random bits for this seed and position.
constexpr uint64_t philox_bits(uint64_t seed, uint64_t position) {
  const auto words = philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return (uint64_t{words[1]} << 32 | words[0]) >> 11;
}

/// The same as a number in [0, 1).
constexpr double philox_uniform(uint64_t seed, uint64_t position) {
  return static_cast<double>(philox_bits(seed, position)) * 0x1p-53;
}

}  // namespace weft
