#include "models/session/batcher.h"

#include <algorithm>
#include <bit>

namespace weft {
namespace {

int64_t power_of_two(int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); }

/// 1, 8, 16, 32, ...: few plans. Kernels skip what is not live, but the matrix products of libraries.
int64_t capacity(int64_t n) { return n <= 1 ? 1 : std::max<int64_t>(8, power_of_two(n)); }

constexpr int64_t kFewestPages = 4;  // so that a short text does not change plans while it grows

}  // namespace

int64_t StepInputs::longest() const { return kv_lengths.empty() ? 0 : *std::ranges::max_element(kv_lengths); }

void check_feeds(std::span<const Feed> feeds, const KvCache& cache) {
  require(!feeds.empty(), "a step needs tokens");
  for (size_t i = 0; i < feeds.size(); ++i) {
    require(!feeds[i].tokens.empty(), "a step needs tokens; sequence {} has none", feeds[i].sequence);
    for (size_t j = 0; j < i; ++j) {
      require(feeds[j].sequence != feeds[i].sequence, "sequence {} is fed twice in one step", feeds[i].sequence);
    }
    cache.check_room(feeds[i].sequence, static_cast<int64_t>(feeds[i].tokens.size()));
  }
}

StepInputs make_step(std::span<const Feed> feeds, KvCache& cache) {
  check_feeds(feeds, cache);
  StepInputs step;
  for (size_t s = 0; s < feeds.size(); ++s) {
    const Feed& feed = feeds[s];
    const int64_t past = cache.length(feed.sequence);
    cache.extend(feed.sequence, static_cast<int64_t>(feed.tokens.size()));
    step.sequence_starts.push_back(static_cast<int32_t>(step.ids.size()));
    for (size_t i = 0; i < feed.tokens.size(); ++i) {
      const int64_t position = past + static_cast<int64_t>(i);
      if (feed.all_logits || i + 1 == feed.tokens.size())
        step.logit_rows.push_back(static_cast<int32_t>(step.ids.size()));
      step.ids.push_back(feed.tokens[i]);
      step.positions.push_back(static_cast<int32_t>(position));
      step.slots.push_back(cache.slot(feed.sequence, position));
      step.sequence_ids.push_back(static_cast<int32_t>(s));
    }
    step.kv_lengths.push_back(static_cast<int32_t>(cache.length(feed.sequence)));
    const auto pages = cache.pages(feed.sequence);
    step.pages.emplace_back(pages.begin(), pages.end());
  }
  step.sequence_starts.push_back(static_cast<int32_t>(step.ids.size()));
  return step;
}

PlanKey plan_key(const StepInputs& step, const KvCache& cache) {
  size_t pages = 1;
  for (const auto& p : step.pages) pages = std::max(pages, p.size());
  const int64_t all_pages = (cache.context() + cache.page_size() - 1) / cache.page_size();
  return {.tokens = capacity(static_cast<int64_t>(step.ids.size())),
          .logits = capacity(static_cast<int64_t>(step.logit_rows.size())),
          .sequences = power_of_two(static_cast<int64_t>(step.kv_lengths.size())),
          .kv_pages = std::min(all_pages, std::max(kFewestPages, power_of_two(static_cast<int64_t>(pages))))};
}

std::vector<int32_t> page_table(const StepInputs& step, const PlanKey& key) {
  std::vector<int32_t> table(static_cast<size_t>(key.sequences * key.kv_pages), -1);
  for (size_t s = 0; s < step.pages.size(); ++s) {
    std::ranges::copy(step.pages[s], table.begin() + static_cast<ptrdiff_t>(s) * key.kv_pages);
  }
  return table;
}

}  // namespace weft
