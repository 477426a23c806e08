// Attention against the paged KV cache.
#pragma once

#include "ops/attention.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/state.h"

namespace weft {

struct SoftmaxContext {
  static constexpr std::string_view name = "softmax_context", doc = R"(
    qkv row = [q heads | k heads | v heads]; q, k = RMSNorm(q, q_gamma), RMSNorm(k, k_gamma), then rotary (ops/rope.h);
    k, v appended to the cache at `slots`; then for query t of head h, key j of the same sequence, kv head
    h / (n_head / n_kv_head):
      s = scale q.k;  s = softcap tanh(s / softcap) if softcap > 0;  s += alibi_scale slope[h] (j - position) if alibi;
      visible iff j <= position, j < kv_length, and position - j < window if window > 0;
      p = exp(s - m) / (sum_visible exp(s - m) + exp(sinks[h] - m));  context = sum p v.  No visible key: context is 0.
    qkv [T, (n_head + 2 n_kv_head) d_head] f32   k_cache, v_cache [P, n_kv_head, page, d_head] f32, f16, bf16 or q8_0
    positions, slots (page id * page + offset; < 0: not stored), sequence_ids [T] i32   sequence_starts [S + 1] i32
    kv_lengths [S] i32: cached tokens, this step's included; 0 for an unused sequence   page_table [S, M] i32
    q_gamma?, k_gamma?: [d_head] each head, or the whole row of heads
    rope_factors? [rotary_dim / 2]: divide frequencies   sinks? [n_head]
    ->   context [T, n_head d_head], and the caches, updated in place.
    Tokens of a sequence stand together in position order; positions count cached tokens.
    ALiBi slopes: n = largest power of two <= n_head: 2^(-8k/n), k = 1..n, then 2^(-4k/n), k = 1, 3, 5, ...
    Source: DeepSpeed-Inference's SoftmaxContextOp; sinks: gpt-oss; paging: Kwon et al., SOSP 2023.)";
  enum Input {
    kQkv,
    kKCache,
    kVCache,
    kPositions,
    kSlots,
    kSequenceIds,
    kSequenceStarts,
    kKvLengths,
    kPageTable,
    kQGamma,
    kKGamma,
    kRopeFactors,
    kSinks
  };
  static constexpr std::array inputs = {
      one("qkv"),          one("k_cache"),           one("v_cache"),    one("positions"),  one("slots"),
      one("sequence_ids"), one("sequence_starts"),   one("kv_lengths"), one("page_table"), optional("q_gamma"),
      optional("k_gamma"), optional("rope_factors"), optional("sinks")};
  static constexpr std::array outputs = {OutputSpec{"context"}, OutputSpec{"k_cache", kKCache},
                                         OutputSpec{"v_cache", kVCache}};

  int n_head = 1, n_kv_head = 1, d_head = 1;
  Rotary rotary = Rotary::none;
  int rotary_dim = 0;
  float rope_theta = 10000, rope_attn_scale = 1;
  float scale = 1;
  int window = 0;  // 0: off
  bool alibi = false;
  float alibi_scale = 1;  // of the slopes: Falcon's are 1 / sqrt(d_head) of BLOOM's
  float softcap = 0;      // 0: off
  float qk_norm_eps = 0;
  static constexpr auto fields =
      field_list(field("n_head", &SoftmaxContext::n_head), field("n_kv_head", &SoftmaxContext::n_kv_head),
                 field("d_head", &SoftmaxContext::d_head), field("rotary", &SoftmaxContext::rotary),
                 field("rotary_dim", &SoftmaxContext::rotary_dim), field("rope_theta", &SoftmaxContext::rope_theta),
                 field("rope_attn_scale", &SoftmaxContext::rope_attn_scale), field("scale", &SoftmaxContext::scale),
                 field("window", &SoftmaxContext::window), field("alibi", &SoftmaxContext::alibi),
                 field("alibi_scale", &SoftmaxContext::alibi_scale), field("softcap", &SoftmaxContext::softcap),
                 field("qk_norm_eps", &SoftmaxContext::qk_norm_eps));

  std::vector<TensorType> infer(const Types& in) const {
    check_fields();
    const TensorType qkv = in[kQkv], cache = in[kKCache];
    check_activations(qkv, "qkv");
    const int64_t t = qkv.shape[0], q_width = int64_t{n_head} * d_head, k_width = int64_t{n_kv_head} * d_head;
    require(qkv.shape[1] == q_width + 2 * k_width, "qkv has {} columns, {} heads and 2 x {} kv heads of {} need {}",
            qkv.shape[1], n_head, n_kv_head, d_head, q_width + 2 * k_width);
    check_cache(cache, "k_cache");
    check_cache(in[kVCache], "v_cache");
    require(cache.shape == in[kVCache].shape, "k_cache is {}, v_cache is {}", to_string(cache), to_string(in[kVCache]));
    check_i32(in[kPositions], {t}, "positions");
    check_i32(in[kSlots], {t}, "slots");
    check_i32(in[kSequenceIds], {t}, "sequence_ids");
    check_rank(in[kPageTable], 2, "page_table");
    const int64_t sequences = in[kPageTable].shape[0];
    require(in[kPageTable].shape.elements() > 0, "page_table needs sequences and pages, given {}",
            to_string(in[kPageTable]));
    check_i32(in[kPageTable], in[kPageTable].shape, "page_table");
    check_i32(in[kSequenceStarts], {sequences + 1}, "sequence_starts");
    check_i32(in[kKvLengths], {sequences}, "kv_lengths");
    check_gamma(in[kQGamma], n_head, "q_gamma");
    check_gamma(in[kKGamma], n_kv_head, "k_gamma");
    check_f32(in[kRopeFactors], {rotary_dim / 2}, "rope_factors");
    check_f32(in[kSinks], {n_head}, "sinks");
    return {f32_type({t, q_width}, common_rows({qkv, in[kPositions], in[kSlots]})), cache, in[kVCache]};
  }

  /// Scores and context over the visible keys; the cache is read once for each sequence.
  Cost cost(const Types& in, const std::vector<TensorType>& out, const Workload& workload) const {
    const int64_t visible = window > 0 ? std::min<int64_t>(window, workload.kv_length) : workload.kv_length;
    const auto keys = static_cast<double>(visible);
    const auto queries = static_cast<double>(live_rows(out[0], workload));
    Cost cost;
    cost.flops = queries * keys * n_head * (4.0 * d_head + 8);
    for (const Input cache : {kKCache, kVCache}) {
      cost.weight_bytes +=
          static_cast<double>(workload.sequences) * keys * n_kv_head * static_cast<double>(in[cache].row_bytes());
    }
    cost.activation_bytes = live_bytes(in[kQkv], workload) + live_bytes(out[0], workload);
    return cost;
  }

  std::vector<Value> lower(const Values& in) const { return lower_within(in, kScoreTileBytes); }

  /// `lower` with another bound on the bytes of a tile of scores.
  std::vector<Value> lower_within(const Values& in, int64_t tile_bytes) const {
    const Value qkv = in[kQkv];
    const int64_t t = qkv.type().shape[0], q_width = int64_t{n_head} * d_head, k_width = int64_t{n_kv_head} * d_head;
    const Value q = turn(heads(normed(slice(qkv, 1, 0, q_width), in[kQGamma])), in);
    const Value k = turn(heads(normed(slice(qkv, 1, q_width, k_width), in[kKGamma])), in);
    const Value v = heads(slice(qkv, 1, q_width + k_width, k_width));
    const Value k_cache = append_pages(in[kKCache], k, in[kSlots]);
    const Value v_cache = append_pages(in[kVCache], v, in[kSlots]);
    const Attention attention{.queries = permute(mul(q, scale), {1, 0, 2}),
                              .keys = gather_pages(k_cache, in[kPageTable], in[kKvLengths]),
                              .values = gather_pages(v_cache, in[kPageTable], in[kKvLengths]),
                              .positions = cast(in[kPositions], quant::f32),
                              .sequence_ids = cast(in[kSequenceIds], quant::f32),
                              .kv_lengths = cast(in[kKvLengths], quant::f32),
                              .sinks = in[kSinks],
                              .window = window,
                              .alibi = alibi,
                              .alibi_scale = alibi_scale,
                              .softcap = softcap};
    const Value context = permute(attention.build(tile_bytes), {1, 0, 2});
    const Rows rows = common_rows({qkv.type(), in[kPositions].type(), in[kSlots].type()});
    return {reshape(context, {t, q_width}, rows), k_cache, v_cache};
  }

 private:
  /// [T, H d] -> [T, H, d]
  Value heads(Value row) const {
    const int64_t t = row.type().shape[0];
    return reshape(row, {t, row.type().shape[1] / d_head, d_head});
  }

  /// RMSNorm of the whole row or of each head, as long as gamma is; nothing without gamma.
  Value normed(Value row, Value gamma) const {
    if (!gamma) return row;
    const int64_t t = row.type().shape[0], width = row.type().shape[1];
    if (gamma.type().shape[0] == width) return rms_norm(row, gamma, qk_norm_eps);
    return reshape(rms_norm(heads(row), gamma, qk_norm_eps), {t, width});
  }

  Value turn(Value x, const Values& in) const {
    if (rotary == Rotary::none || rotary_dim == 0) return x;
    return rope({rotary, rotary_dim, rope_theta, rope_attn_scale}, x, in[kPositions], in[kRopeFactors]);
  }

  void check_fields() const {
    require(n_head > 0 && n_kv_head > 0 && d_head > 0, "needs heads, given n_head={} n_kv_head={} d_head={}", n_head,
            n_kv_head, d_head);
    require(n_head % n_kv_head == 0, "{} heads cannot share {} kv heads evenly", n_head, n_kv_head);
    const int widest = rotary == Rotary::none ? 0 : d_head;
    require(rotary_dim >= 0 && rotary_dim % 2 == 0 && (rotary == Rotary::none || rotary_dim <= widest),
            "rotary_dim must be even and at most {}, given {}", widest, rotary_dim);
    require(window >= 0, "window cannot be negative, given {}", window);
    require(softcap >= 0, "softcap cannot be negative, given {}", softcap);
  }

  void check_cache(const TensorType& cache, std::string_view what) const {
    check_rank(cache, 4, what);
    require(cache.shape[1] == n_kv_head && cache.shape[3] == d_head, "{} must be [pages, {}, page, {}], given {}", what,
            n_kv_head, d_head, to_string(cache));
  }

  void check_gamma(const TensorType& gamma, int heads, std::string_view what) const {
    if (!gamma) return;
    check_dtype(gamma, quant::f32, what);
    check_rank(gamma, 1, what);
    const int64_t n = gamma.shape[0], row = int64_t{heads} * d_head;
    require(n == d_head || n == row, "{} has {} elements, a head has {} and the row of heads {}", what, n, d_head, row);
  }
};

extern template const Schema& schema_of<SoftmaxContext>();  // made once, in ops/catalogue.cpp

}  // namespace weft
