#include "ops/softmax_context.h"

#include <cmath>

#include "backends/cuda/device/decode_attention.h"
#include "backends/cuda/device/flash_attention.h"
#include "backends/cuda/device/skinny.h"
#include "backends/cuda/glue.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/products.h"
#include "backends/cuda/steps.h"
#include "ops/quant/f16.h"
#include "ops/quant/q8_0.h"
#include "ops/vector_matmul.h"

namespace weft::cuda {
namespace {

using Op = SoftmaxContext;

/// How keys are attended to.
enum class Way : uint8_t {
  plain,   // f32 arithmetic: any number of tokens, any heads, any cache
  decode,  // few tokens, 16-bit arithmetic
  flash,   // many tokens, 16-bit arithmetic
};

int splits_of(Way way, const Op& op, const TensorType& qkv, const TensorType& cache, const TensorType& table) {
  const int64_t tokens = qkv.shape[0], most_keys = table.shape[1] * cache.shape[2];
  return way == Way::decode ? decode_splits(tokens, op.n_head, op.n_kv_head, most_keys)
                            : attention_splits(tokens, op.n_head, most_keys);
}

std::optional<std::string> refuses(const Match& match, const DeviceInfo&) {
  const TensorType k = match.type(Op::kKCache), v = match.type(Op::kVCache);
  if (k.dtype != v.dtype) return "keys and values are of different types";
  if (!attention_reads(k.dtype->id, match.op<Op>().d_head)) {
    return fmt::format("it cannot keep heads of {} in {}", match.op<Op>().d_head, k.dtype.name());
  }
  return std::nullopt;
}

size_t workspace(Way way, const Match& match) {
  const auto& op = match.op<Op>();
  const TensorType qkv = match.type(Op::kQkv);
  return attention_workspace(qkv.shape[0], op.n_head, op.d_head,
                             splits_of(way, op, qkv, match.type(Op::kKCache), match.type(Op::kPageTable)));
}

/// The context goes to `context`, or to `fragments` where those are given; to neither: keys and values are only kept.
void prepare(Way way, const Call& call, float* context, const FragmentRows& fragments, Steps& steps) {
  const auto& op = call.match.op<Op>();
  const Tensor qkv = call.input(Op::kQkv), cache = call.input(Op::kKCache), table = call.input(Op::kPageTable);
  const auto ints = [&](Op::Input slot) -> const int32_t* { return call.input(slot).as<int32_t>(); };
  const auto floats = [&](Op::Input slot) -> const float* { return call.input(slot).as<float>(); };
  const auto over_row = [&](Op::Input slot, int heads) {
    const Tensor gamma = call.input(slot);
    return gamma && heads > 1 && gamma.type.elements() == int64_t{heads} * op.d_head;
  };
  TensorType tokens = qkv.type;
  tokens.rows = call.out[0].type.rows;
  AttentionArgs args{.qkv = qkv.as<float>(),
                     .context = context,
                     .fragments = fragments,
                     .tokens = extent_of(tokens, call.live),
                     .n_head = op.n_head,
                     .n_kv_head = op.n_kv_head,
                     .d = op.d_head,
                     .k_cache = call.input(Op::kKCache).data,
                     .v_cache = call.input(Op::kVCache).data,
                     .cache_type = cache.type.dtype->id,
                     .pages = cache.dim(0),
                     .page = cache.dim(2),
                     .positions = ints(Op::kPositions),
                     .slots = ints(Op::kSlots),
                     .sequence_ids = ints(Op::kSequenceIds),
                     .kv_lengths = ints(Op::kKvLengths),
                     .page_table = table.as<int32_t>(),
                     .sequences = table.dim(0),
                     .pages_each = table.dim(1),
                     .q_gamma = floats(Op::kQGamma),
                     .k_gamma = floats(Op::kKGamma),
                     .q_gamma_row = over_row(Op::kQGamma, op.n_head),
                     .k_gamma_row = over_row(Op::kKGamma, op.n_kv_head),
                     .qk_norm_eps = op.qk_norm_eps,
                     .rotary = op.rotary_dim == 0 ? 0 : static_cast<int>(op.rotary),
                     .rotary_dim = op.rotary_dim,
                     .rope_attn_scale = op.rope_attn_scale,
                     .rope_factors = floats(Op::kRopeFactors),
                     .scale = op.scale,
                     .softcap = op.softcap,
                     .alibi_scale = op.alibi_scale,
                     .window = op.window,
                     .alibi = op.alibi,
                     .sinks = floats(Op::kSinks),
                     .queries = reinterpret_cast<float*>(call.workspace),
                     .splits = splits_of(way, op, qkv.type, cache.type, table.type)};
  args.partial = reinterpret_cast<float*>(
      call.workspace + aligned(static_cast<size_t>(qkv.dim(0)) * static_cast<size_t>(op.n_head * op.d_head) * 4));
  args.arrivals = static_cast<CudaSteps&>(steps).scratch().arrivals;
  for (int p = 0; p < op.rotary_dim / 2; ++p) {
    args.frequencies[p] = static_cast<float>(std::pow(static_cast<double>(op.rope_theta), -2.0 * p / op.rotary_dim));
  }
  emit(steps, [args, way](cudaStream_t stream) {
    if (args.context == nullptr && args.fragments.x == nullptr) return launch_append(args, stream);
    switch (way) {
      case Way::plain:
        return launch_attend(args, stream);
      case Way::decode:
        return launch_decode(args, stream);
      case Way::flash:
        return launch_flash(args, stream);
    }
  });
}

Kernel make(std::string name, Way way, decltype(Kernel::refuses) refuses) {
  return {.name = std::move(name),
          .covers = {Op::name},
          .arithmetic = way == Way::plain ? Arithmetic::f32 : Arithmetic::half,
          .launches = 2,  // the append, or, of one token, what its chain of norms, scores and sums takes
          .refuses = std::move(refuses),
          .layout = nullptr,
          .workspace = [way](const Match& match) { return workspace(way, match); },
          .prepare = [way](const Call& call, Steps& steps) { prepare(way, call, call.out[0].as<float>(), {}, steps); }};
}

std::optional<std::string> refuses_decode(const Match& match, const DeviceInfo& device) {
  const TensorType cache = match.type(Op::kKCache);
  const int64_t tokens = match.type(Op::kQkv).shape[0];
  if (tokens > kAttendTokens) return fmt::format("{} tokens are many", tokens);
  if (!decode_reads(cache.dtype->id, cache.shape[3], cache.shape[2])) {
    return fmt::format("it cannot read pages of {} keys of {} in {}", cache.shape[2], cache.shape[3],
                       cache.dtype.name());
  }
  return refuses(match, device);
}

}  // namespace

Kernel softmax_context() { return make("softmax_context.f32", Way::plain, refuses); }

Kernel decode_attention() { return make("softmax_context.decode", Way::decode, refuses_decode); }

/// The context in the form that the output projection takes.
Kernel decode_attention_matmul() {
  constexpr Products kSkinny = Products::skinny;
  constexpr size_t kWeight = VectorMatmul::kWeight;
  const auto columns = [](const Match& match) { return int64_t{match.op<Op>().n_head} * match.op<Op>().d_head; };
  const auto form_bytes = [columns](const Match& match) {
    return Activations::bytes(kSkinny, match.type(Op::kQkv).shape[0], columns(match));
  };
  return {
      .name = "softmax_context+vector_matmul.skinny",
      .covers = {Op::name, VectorMatmul::name},
      .arithmetic = Arithmetic::half,
      .launches = 3,
      .refuses = [columns](const Match& match, const DeviceInfo& device) -> std::optional<std::string> {
        if (match.type(Op::kQkv).shape[0] == 1) return "one token's products make their activations themselves";
        const DType cache = match.type(Op::kVCache).dtype;
        if (cache != quant::f16 && cache != quant::q8_0) return "values may be out of f16's range";
        if (columns(match) % 256 != 0) return "the context is not whole panels of 256 columns";
        const auto weights = match.types(kWeight, 1);
        if (weights.size() > kMaxBlocks) return fmt::format("{} row blocks are many", weights.size());
        for (const TensorType& type : weights) {
          if (!skinny_reads(type.dtype->id, type.shape[1])) {
            return fmt::format("it cannot read rows of {} elements of {}", type.shape[1], type.dtype.name());
          }
        }
        return refuses_decode(match, device);
      },
      .layout = layout_of(kSkinny, {kWeight}, 1),
      .workspace = [form_bytes](const Match& match) { return form_bytes(match) + workspace(Way::decode, match); },
      .prepare =
          [form_bytes, columns](const Call& call, Steps& steps) {
            const Tensor y = call.out[0];
            const Extent tokens = extent_of(y.type, call.live);
            const Activations form{.fragments = FragmentRows::at(call.workspace, tokens.capacity, columns(call.match))};
            Call attention = call;
            attention.workspace += form_bytes(call.match);
            prepare(Way::decode, attention, nullptr, form.fragments, steps);
            const Projection projection(kSkinny, call.inputs(kWeight, 1), {});
            projection.multiply(form, tokens, {}, y.as<float>(), nullptr, steps);
          }};
}

Kernel flash_attention() {
  return make("softmax_context.flash", Way::flash,
              [](const Match& match, const DeviceInfo& device) -> std::optional<std::string> {
                const int64_t tokens = match.type(Op::kQkv).shape[0];
                if (tokens <= kAttendTokens) return fmt::format("{} tokens are few", tokens);
                if (!flash_reads(match.type(Op::kKCache).dtype->id, match.op<Op>().d_head)) {
                  return fmt::format("it cannot read heads of {}", match.op<Op>().d_head);
                }
                return refuses(match, device);
              });
}

}  // namespace weft::cuda
