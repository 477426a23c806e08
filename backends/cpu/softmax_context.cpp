// softmax_context. Phase 1, tasks are tokens: queries to the workspace, keys and values to the cache (heads.h). Phase
// 2, tasks are (kv head, tile of queries), kv head outermost: the tile's queries of one sequence, all query heads of
// the group as rows, against one page of keys and values after another (PageKernels) with an online softmax in f32. A
// plan of one token needs no barrier between them: a kv head is appended and read by the same thread.
//
// Bound by the cache's bytes at one token (each key and value read once for the whole group), by FMA or the softmax in
// prefill. Work follows positions and lengths, which are data; workspace and scratch follow the capacity alone.
#include "ops/softmax_context.h"

#include <cmath>
#include <cstring>

#include "backends/cpu/heads.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/steps.h"
#include "ops/alibi.h"

namespace weft::cpu {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

class Attend {
 public:
  Attend(const IsaKernels& isa, Products products, const Call& call)
      : isa_(&isa),
        pages_(products == Products::bf16 ? &isa.tile_pages : &isa.pages),
        op_(call.match.op<SoftmaxContext>()),
        heads_(isa, call),
        positions_(call.input(SoftmaxContext::kPositions).as<int32_t>()),
        sequence_ids_(call.input(SoftmaxContext::kSequenceIds).as<int32_t>()),
        kv_lengths_(call.input(SoftmaxContext::kKvLengths).as<int32_t>()),
        page_table_(call.input(SoftmaxContext::kPageTable)),
        k_cache_(call.input(SoftmaxContext::kKCache)),
        v_cache_(call.input(SoftmaxContext::kVCache)),
        sinks_(call.input(SoftmaxContext::kSinks).as<float>()),
        context_(call.out[0].as<float>()),
        changes_scores_(op_.softcap > 0 || op_.alibi || op_.scale <= 0),
        page_(k_cache_.dim(2)),
        page_stride_((page_ + 15) / 16 * 16),
        tile_tokens_(std::max<int64_t>(1, pages_->queries / heads_.group())),
        pages_scratch_((pages_->scratch_bytes(page_, op_.d_head) + 63) / 64 * 64) {
    if (op_.alibi) slopes_ = alibi_slopes(op_.n_head, static_cast<double>(op_.alibi_scale));
  }

  const Heads& heads() const { return heads_; }
  int64_t tiles(int64_t tokens) const { return (tokens + tile_tokens_ - 1) / tile_tokens_; }
  size_t scratch_bytes() const {
    const int64_t rows = tile_tokens_ * heads_.group();
    const int64_t floats = score_floats() + (rows + 31) / 32 * 32 * heads_.q_stride() + 3 * rows;
    return pages_scratch_ + sizeof(float) * static_cast<size_t>(floats);
  }

  /// Tile `tile` of the live tokens for kv head h.
  void run(int64_t h, int64_t tile, int64_t tokens, std::byte* scratch) const {
    const int64_t end = std::min((tile + 1) * tile_tokens_, tokens);
    for (int64_t t = tile * tile_tokens_; t < end;) {
      int64_t last = t + 1;
      while (last < end && sequence_ids_[last] == sequence_ids_[t]) ++last;
      run_sequence(h, t, last, scratch);
      t = last;
    }
  }

 private:
  /// Rows of a tile: query r belongs to token first + r / group, head h * group + r % group.
  struct Rows {
    int64_t h, first, n;
    std::byte* pages;            // scratch of the pages' kernels
    float* scores;               // [block, page_stride]
    float* sums;                 // [n, q_stride]: of weighted values
    float *peak, *total, *keep;  // [n]: largest score so far, sum of exponentials below it, factor for what came before
  };

  int64_t score_floats() const { return (pages_->block + 31) / 32 * 32 * page_stride_; }

  void run_sequence(int64_t h, int64_t first, int64_t last, std::byte* scratch) const {
    const int64_t group = heads_.group(), stride = heads_.q_stride(), n = (last - first) * group;
    auto* const floats = reinterpret_cast<float*>(scratch + pages_scratch_);
    Rows rows{.h = h,
              .first = first,
              .n = n,
              .pages = scratch,
              .scores = floats,
              .sums = floats + score_floats(),
              .peak = nullptr,
              .total = nullptr,
              .keep = nullptr};
    rows.peak = rows.sums + (n + 31) / 32 * 32 * stride;
    rows.total = rows.peak + n;
    rows.keep = rows.total + n;
    std::memset(rows.sums, 0, static_cast<size_t>(n * stride) * sizeof(float));
    for (int64_t r = 0; r < n; ++r) {
      rows.peak[r] = kNone;
      rows.total[r] = 0;
    }

    const int64_t sequence = sequence_ids_[first], table_pages = page_table_.dim(1);
    if (sequence >= 0 && sequence < page_table_.dim(0)) {
      int64_t low = positions_[first], high = positions_[first];
      for (int64_t t = first; t < last; ++t) {
        low = std::min<int64_t>(low, positions_[t]);
        high = std::max<int64_t>(high, positions_[t]);
      }
      const int64_t end = std::min({high + 1, int64_t{kv_lengths_[sequence]}, table_pages * page_});
      const int64_t begin = op_.window > 0 ? std::max<int64_t>(0, low - op_.window + 1) : 0;
      for (int64_t p = begin / page_; p * page_ < end; ++p) {
        const int64_t id = page_table_.as<int32_t>()[sequence * table_pages + p];
        const int64_t next = (p + 1) * page_ < end ? page_table_.as<int32_t>()[sequence * table_pages + p + 1] : -1;
        see_page(rows, id, p * page_, std::min(page_, end - p * page_), next);
      }
    }
    for (int64_t r = 0; r < n; ++r) finish(rows, r);
  }

  RowBlock page_rows(const Tensor& cache, int64_t id, int64_t h) const {
    RowBlock rows = row_block(cache);
    rows.data += static_cast<size_t>((id * op_.n_kv_head + h) * page_) * rows.row_bytes;
    return rows;
  }

  bool exists(int64_t id) const { return id >= 0 && id < k_cache_.dim(0); }

  /// Keys [key, key + n) of the sequence, on page `id`, while those of page `next` arrive, or, if it is the last, its
  /// values. A page out of range is zeros.
  void see_page(const Rows& rows, int64_t id, int64_t key, int64_t n, int64_t next) const {
    const bool exists = this->exists(id);
    Page keys{}, values{};
    if (exists) {
      values = {page_rows(v_cache_, id, rows.h), n, page_, nullptr};
      keys = {page_rows(k_cache_, id, rows.h), n, page_, values.rows.data};
      if (this->exists(next)) {
        keys.next = page_rows(k_cache_, next, rows.h).data;
        values.next = page_rows(v_cache_, next, rows.h).data;
      }
    }
    if (exists && pages_->enter) pages_->enter(keys, values, rows.n, op_.d_head, rows.pages);
    for (int64_t r = 0; r < rows.n; r += pages_->block) {
      see_block(rows, r, std::min(pages_->block, rows.n - r), key, n, keys, values);
    }
  }

  /// The same for `n_rows` rows from `first` on. Pages that do not exist have no data.
  void see_block(const Rows& rows, int64_t first, int64_t n_rows, int64_t key, int64_t n, const Page& keys,
                 const Page& values) const {
    const bool exists = keys.rows.data != nullptr;
    const int64_t stride = heads_.q_stride();
    const float* queries = heads_.queries(rows.h) + (rows.first * heads_.group() + first) * stride;
    if (exists) {
      pages_->score(rows.scores, queries, n_rows, keys, op_.d_head, rows.pages);
    } else {
      std::memset(rows.scores, 0, static_cast<size_t>(n_rows * page_stride_) * sizeof(float));
    }
    bool any = false;
    for (int64_t r = 0; r < n_rows; ++r) any |= mask(rows, first + r, rows.scores + r * page_stride_, key, n);
    isa_->online_softmax(rows.scores, page_stride_, n_rows, n, changes_scores_ ? 1 : op_.scale, rows.peak + first,
                         rows.total + first, rows.keep + first);
    float* sums = rows.sums + first * stride;
    if (any && exists) {
      pages_->weigh(sums, rows.keep + first, rows.scores, n_rows, values, op_.d_head, rows.pages);
    } else {
      for (int64_t r = 0; r < n_rows; ++r) isa_->scale(sums + r * stride, rows.keep[first + r], stride);
    }
  }

  /// What is done to the scores s of row r before their softmax; whether it sees any of the keys.
  bool mask(const Rows& rows, int64_t r, float* s, int64_t key, int64_t n) const {
    const int64_t position = positions_[rows.first + r / heads_.group()];
    if (changes_scores_) {
      isa_->scale(s, op_.scale, n);
      if (op_.softcap > 0) isa_->soft_cap(op_.softcap, s, n);
      if (op_.alibi) {
        const float slope = slopes_[static_cast<size_t>(rows.h * heads_.group() + r % heads_.group())];
        for (int64_t j = 0; j < n; ++j) s[j] += slope * static_cast<float>(key + j - position);
      }
    }
    const int64_t begin = op_.window > 0 ? std::clamp<int64_t>(position - op_.window + 1 - key, 0, n) : 0;
    const int64_t end = std::clamp<int64_t>(position + 1 - key, begin, n);
    std::fill(s, s + begin, kNone);
    std::fill(s + end, s + n, kNone);
    return begin < end;
  }

  void finish(const Rows& rows, int64_t r) const {
    const int64_t d = op_.d_head, head = rows.h * heads_.group() + r % heads_.group();
    float* out = context_ + (rows.first + r / heads_.group()) * op_.n_head * d + head * d;
    float scale = rows.peak[r] == kNone ? 0 : 1 / rows.total[r];
    if (sinks_ && rows.peak[r] != kNone) {
      const float peak = std::max(rows.peak[r], sinks_[head]), keep = std::exp(rows.peak[r] - peak);
      scale = keep / (rows.total[r] * keep + std::exp(sinks_[head] - peak));
    }
    float* sums = rows.sums + r * heads_.q_stride();
    isa_->scale(sums, scale, heads_.q_stride());
    std::memcpy(out, sums, static_cast<size_t>(d) * sizeof(float));
  }

  const IsaKernels* isa_;
  const PageKernels* pages_;
  SoftmaxContext op_;
  Heads heads_;
  const int32_t *positions_, *sequence_ids_, *kv_lengths_;
  Tensor page_table_, k_cache_, v_cache_;
  const float* sinks_;
  float* context_;
  bool changes_scores_;  // beyond scaling by a positive factor, which the softmax does
  int64_t page_, page_stride_, tile_tokens_;
  size_t pages_scratch_;
  std::vector<float> slopes_;
};

void prepare(const IsaKernels& isa, Products products, const Call& call, Steps& steps) {
  auto& cpu = static_cast<CpuSteps&>(steps);
  cpu.begin(call, Heads::workspace_bytes(call.match));
  const Attend attend(isa, products, call);
  cpu.scratch(std::max(attend.scratch_bytes(), attend.heads().scratch_bytes()));
  const auto tokens = [type = call.out[0].type, live = call.live] { return live_count(type, live); };
  const int64_t kv_heads = call.match.op<SoftmaxContext>().n_kv_head;
  const bool one_token = call.input(SoftmaxContext::kQkv).dim(0) == 1;
  const bool wanted = call.out[0].data != nullptr;

  if (one_token) {
    cpu.phase([=] { return tokens() * kv_heads; },
              [=](int64_t first, int64_t last, const Worker& worker) {
                attend.heads().append(0, first, last, worker.scratch);
                for (int64_t h = first; wanted && h < last; ++h) attend.run(h, 0, 1, worker.scratch);
              });
    return;
  }
  cpu.phase(tokens, [=](int64_t first, int64_t last, const Worker& worker) {
    for (int64_t t = first; t < last; ++t) attend.heads().append(t, 0, kv_heads, worker.scratch);
  });
  if (!wanted) return;
  cpu.phase([=] { return attend.tiles(tokens()) * kv_heads; },
            [=](int64_t first, int64_t last, const Worker& worker) {
              const int64_t live = tokens(), tiles = attend.tiles(live);
              for (int64_t i = first; i < last; ++i) attend.run(i / tiles, i % tiles, live, worker.scratch);
            });
}

std::optional<std::string> refuses(const IsaKernels& isa, const Match& match, Products products) {
  if (const auto reason = refuses_weights(isa, match, {}, products)) return reason;
  for (const size_t slot : {SoftmaxContext::kKCache, SoftmaxContext::kVCache}) {
    const DType dtype = match.type(slot).dtype;
    if (!dtype->encode) return fmt::format("a cache of {} cannot be written", dtype.name());
  }
  return {};
}

}  // namespace

Kernel softmax_context(const IsaKernels& isa, Products products) {
  return {.name = kernel_name("softmax_context", isa, products),
          .covers = {SoftmaxContext::name},
          .arithmetic = arithmetic_of(products),
          .refuses = [&isa, products](const Match& match, const DeviceInfo&) { return refuses(isa, match, products); },
          .layout = nullptr,
          .workspace = Heads::workspace_bytes,
          .prepare = [&isa, products](const Call& call, Steps& steps) { prepare(isa, products, call, steps); }};
}

}  // namespace weft::cpu
