// The experts of gpt-oss as Hugging Face stores them, [in, out] with gate and up interleaved, and as GGUF does.
#pragma once

#include <span>

#include "graph/tensor.h"

namespace weft {

/// What of the file's output features a GGUF tensor takes: part, part + parts, ...
struct Interleaved {
  int64_t part = 0, parts = 1;
};

/// Rows [first, last) of [experts * out, in] from `from` [experts, in, parts * out], of an element type of whole bytes.
void expert_columns(const Tensor& from, Interleaved take, int64_t first, int64_t last, std::byte* to);

/// The same in mxfp4 blocks of GGUF, from `blocks` u8 [experts, parts * out, in / 32, 16], whose byte j holds elements
/// 2j (low nibble) and 2j + 1, and `scales` u8 [experts, parts * out, in / 32]. `groups` = in / 32.
void mxfp4_expert_rows(std::span<const std::byte> blocks, std::span<const std::byte> scales, int64_t groups,
                       Interleaved take, int64_t first, int64_t last, std::byte* to);

/// [rows, columns / parts] from `from` [rows, columns].
void every_nth(const Tensor& from, Interleaved take, std::byte* to);

}  // namespace weft
