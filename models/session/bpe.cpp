#include "models/session/bpe.h"

#include <bit>

namespace weft {
namespace {

uint64_t key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

MergeTable::MergeTable(size_t n_merges) : slots_(std::bit_ceil(2 * n_merges + 1)) {}

size_t MergeTable::slot_of(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  uint64_t hash = key * 0x9E3779B97F4A7C15ull;  // Fibonacci hashing: the golden ratio's bits
  hash ^= hash >> 32;
  size_t slot = hash & mask;
  while (slots_[slot].key != key && slots_[slot].key != kFree) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = key_of(left, right);
  slots_[slot_of(key)] = {key, merge};
}

Merge MergeTable::find(int32_t left, int32_t right) const {
  if (slots_.empty() || left < 0 || right < 0) return {};
  const Slot& slot = slots_[slot_of(key_of(left, right))];
  return slot.key == kFree ? Merge{} : slot.merge;
}

void BpeMerger::push(int32_t id, uint32_t begin, uint32_t size) {
  const auto index = static_cast<int32_t>(symbols_.size());
  if (index > 0) symbols_.back().next = index;
  symbols_.push_back({id, begin, size, index - 1, -1});
}

bool BpeMerger::apply(const Candidate& candidate) {
  BpeSymbol& left = symbols_[static_cast<size_t>(candidate.left)];
  if (left.size == 0 || left.next < 0) return false;
  BpeSymbol& right = symbols_[static_cast<size_t>(left.next)];
  if (left.size + right.size != candidate.size) return false;
  left.id = candidate.id;
  left.size += right.size;
  left.next = right.next;
  right.size = 0;
  if (left.next >= 0) symbols_[static_cast<size_t>(left.next)].prev = candidate.left;
  return true;
}

}  // namespace weft
