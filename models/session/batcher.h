// Turns what callers want fed (tokens of several sequences) into the inputs of one step, and into the key of the plan
// that runs it.
#pragma once

#include <span>
#include <vector>

#include "models/forward.h"
#include "models/session/draws.h"
#include "models/session/kv_cache.h"

namespace weft {

/// Tokens to append to a sequence.
struct Feed {
  int sequence = 0;
  std::span<const int32_t> tokens;
  bool all_logits = false;  // logits of every token, not only of the last
};

/// The inputs of a step. Sequences of the batch are numbered 0.. in the order of the feeds.
struct StepInputs {
  std::vector<int32_t> ids, positions, slots, sequence_ids;
  std::vector<int32_t> sequence_starts, kv_lengths;
  std::vector<std::vector<int32_t>> pages;  // of each sequence of the batch
  std::vector<int32_t> logit_rows;
  DrawInputs draws;  // where the device draws the tokens

  int64_t longest() const;  // cached tokens of the longest sequence
  bool operator==(const StepInputs&) const = default;
};

/// Throws Error if nothing is fed, a sequence is fed nothing or twice, is not open or has no room.
void check_feeds(std::span<const Feed> feeds, const KvCache& cache);

/// Extends the cache and fills the inputs. Throws Error before changing anything, as check_feeds does.
StepInputs make_step(std::span<const Feed> feeds, KvCache& cache);

/// The smallest plan that holds the step: capacities are rounded up so that few plans serve all steps, and decoding
/// replays one.
PlanKey plan_key(const StepInputs& step, const KvCache& cache);

/// The page table [S, M] of a step for a plan; unused entries are -1.
std::vector<int32_t> page_table(const StepInputs& step, const PlanKey& key);

}  // namespace weft
