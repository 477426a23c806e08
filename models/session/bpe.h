// The merge loop of byte pair encoding.
// Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units".
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace weft {

/// What two neighbours become: lower ranks merge first. No merge: rank < 0.
struct Merge {
  int32_t rank = -1;
  int32_t id = -1;
};

/// Merges by the ids of left and right: a hash table with linear probing.
class MergeTable {
 public:
  MergeTable() = default;
  explicit MergeTable(size_t n_merges);

  /// Adds a merge; at most n_merges of them. Of two merges of one pair the last counts.
  void add(int32_t left, int32_t right, Merge merge);
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t key = kFree;
    Merge merge;
  };
  static constexpr uint64_t kFree = ~0ull;

  size_t slot_of(uint64_t key) const;
  std::vector<Slot> slots_;  // a power of two, at least half of them free
};

/// A part of a piece: `size` bytes from `begin`, a link of the list of parts. size 0: merged into the one before.
struct BpeSymbol {
  int32_t id = -1;
  uint32_t begin = 0;
  uint32_t size = 0;
  int32_t prev = -1;
  int32_t next = -1;
};

/// Merges a piece's symbols; keeps its buffers from piece to piece. Takes O(n log n) time for n symbols.
class BpeMerger {
 public:
  void clear() { symbols_.clear(); }
  void push(int32_t id, uint32_t begin, uint32_t size);

  /// Merges until no neighbours can be; of equal ranks the leftmost goes first.
  /// `find(left, right)` gives the Merge of two neighbouring symbols.
  template <typename Find>
  void run(const Find& find) {
    first_.clear();
    later_.clear();
    const auto consider = [&](int32_t left, std::vector<Candidate>& out) {
      const int32_t right = left < 0 ? -1 : symbols_[static_cast<size_t>(left)].next;
      if (right < 0) return false;
      const BpeSymbol &a = symbols_[static_cast<size_t>(left)], &b = symbols_[static_cast<size_t>(right)];
      const Merge merge = find(a, b);
      if (merge.rank < 0) return false;
      out.push_back({merge.rank, left, a.size + b.size, merge.id});
      return true;
    };
    for (size_t i = 0; i + 1 < symbols_.size(); ++i) consider(static_cast<int32_t>(i), first_);
    std::sort(first_.begin(), first_.end(), [](const Candidate& a, const Candidate& b) { return after(b, a); });
    for (size_t next = 0; next < first_.size() || !later_.empty();) {
      Candidate best;
      if (later_.empty() || (next < first_.size() && after(later_.front(), first_[next]))) {
        best = first_[next++];
      } else {
        std::pop_heap(later_.begin(), later_.end(), after);
        best = later_.back();
        later_.pop_back();
      }
      if (!apply(best)) continue;
      for (const int32_t left : {symbols_[static_cast<size_t>(best.left)].prev, best.left}) {
        if (consider(left, later_)) std::push_heap(later_.begin(), later_.end(), after);
      }
    }
  }

  /// Calls `use(symbol)` for what is left, in order.
  template <typename Use>
  void each(const Use& use) const {
    for (int32_t i = symbols_.empty() ? -1 : 0; i >= 0; i = symbols_[static_cast<size_t>(i)].next) {
      use(symbols_[static_cast<size_t>(i)]);
    }
  }

 private:
  struct Candidate {
    int32_t rank;
    int32_t left;
    uint32_t size;  // of both; differs from what is there once either has been merged with another
    int32_t id;
  };
  static bool after(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }
  bool apply(const Candidate& candidate);

  std::vector<BpeSymbol> symbols_;
  std::vector<Candidate> first_;  // what can be merged at the start, sorted: cheaper than a heap of all
  std::vector<Candidate> later_;  // what came to be since, a heap
};

}  // namespace weft
