#include "models/session/kv_cache.h"

#include <algorithm>

#include "graph/error.h"

namespace weft {

KvCache::KvCache(int64_t context, int64_t max_sequences, int64_t page_size) : context_(context), page_size_(page_size) {
  require(context > 0 && max_sequences > 0 && page_size > 0, "a KV cache needs room: context {}, sequences {}, page {}",
          context, max_sequences, page_size);
  n_pages_ = max_sequences * ((context + page_size - 1) / page_size);
  require(n_pages_ * page_size <= INT32_MAX, "a KV cache of {} sequences of {} tokens is too large", max_sequences,
          context);
  sequences_.resize(static_cast<size_t>(max_sequences));
  for (int64_t page = n_pages_ - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

int KvCache::open() {
  const auto it = std::ranges::find(sequences_, false, &Sequence::open);
  require(it != sequences_.end(), "all {} sequences of the session are in use", sequences_.size());
  *it = {.open = true, .length = 0, .pages = {}};
  return static_cast<int>(it - sequences_.begin());
}

void KvCache::close(int sequence) {
  truncate(sequence, 0);
  sequences_[static_cast<size_t>(sequence)].open = false;
}

void KvCache::check_room(int sequence, int64_t n_tokens) const {
  require(sequence >= 0 && static_cast<size_t>(sequence) < sequences_.size() &&
              sequences_[static_cast<size_t>(sequence)].open,
          "sequence {} is not open", sequence);
  require(length(sequence) + n_tokens <= context_,
          "the context is full: {} tokens cached, {} more asked for, room for {}", length(sequence), n_tokens,
          context_);
}

void KvCache::extend(int sequence, int64_t n_tokens) {
  check_room(sequence, n_tokens);
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  s.length += n_tokens;
  while (static_cast<int64_t>(s.pages.size()) * page_size_ <
         s.length) {  // never empty: pages for every full sequence exist
    s.pages.push_back(free_.back());
    free_.pop_back();
  }
}

void KvCache::truncate(int sequence, int64_t length) {
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  s.length = std::clamp<int64_t>(length, 0, s.length);
  while (!s.pages.empty() && static_cast<int64_t>(s.pages.size() - 1) * page_size_ >= s.length) {
    free_.push_back(s.pages.back());
    s.pages.pop_back();
  }
}

int32_t KvCache::slot(int sequence, int64_t position) const {
  const auto page = static_cast<size_t>(position / page_size_);
  return static_cast<int32_t>(sequences_[static_cast<size_t>(sequence)].pages[page] * page_size_ +
                              position % page_size_);
}

}  // namespace weft
