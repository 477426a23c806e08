// Pages of the KV cache: which sequence owns which. The bytes are a graph state (one pair of tensors a layer, shared
// page numbers); this is the book-keeping. Source: Kwon et al., "Efficient Memory Management for LLM Serving with
// PagedAttention", SOSP 2023.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft {

class KvCache {
 public:
  /// Room for `max_sequences` sequences of `context` tokens, in pages of `page_size` tokens.
  KvCache(int64_t context, int64_t max_sequences, int64_t page_size);

  int64_t page_size() const { return page_size_; }
  int64_t n_pages() const { return n_pages_; }
  int64_t context() const { return context_; }

  /// A new, empty sequence. Throws Error if all are in use.
  int open();
  /// Gives the pages of a sequence back.
  void close(int sequence);
  /// Tokens cached.
  int64_t length(int sequence) const { return sequences_[static_cast<size_t>(sequence)].length; }
  std::span<const int32_t> pages(int sequence) const { return sequences_[static_cast<size_t>(sequence)].pages; }

  /// Throws Error, changing nothing, if the sequence is not open or `n_tokens` more do not fit the context.
  void check_room(int sequence, int64_t n_tokens) const;
  /// Takes pages for `n_tokens` more and counts them as cached.
  void extend(int sequence, int64_t n_tokens);
  /// Forgets tokens past `length`.
  void truncate(int sequence, int64_t length);
  /// Where token `position` of a sequence is kept: page * page_size + offset.
  int32_t slot(int sequence, int64_t position) const;

 private:
  struct Sequence {
    bool open = false;
    int64_t length = 0;
    std::vector<int32_t> pages;
  };
  int64_t context_, page_size_, n_pages_ = 0;
  std::vector<Sequence> sequences_;
  std::vector<int32_t> free_;
};

}  // namespace weft
