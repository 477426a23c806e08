// Element types. A type is a record (TypeTraits) that lives in its own header under ops/quant/; the graph only carries
// a handle to it, so a new quantized format touches nothing here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft {

/// What a weight or activation format is: its block geometry and its conversions from and to f32.
/// `n` counts elements and is always a multiple of `block_elems`.
struct TypeTraits {
  std::string_view name;                                      // "q4_0", as on the command line
  uint32_t id;                                                // GGUF tensor type id: the identity of the type
  uint32_t block_elems;                                       // elements per block along a row; 1 for plain types
  uint32_t block_bytes;                                       // bytes per block
  bool is_float;                                              // f32, f16, bf16: one IEEE-like value per element
  bool is_quantized;                                          // blocks of several elements sharing scales
  void (*decode)(const std::byte* in, float* out, size_t n);  // bit-exact, left to right in f32
  /// `importance` is null or n weights >= 0 of each element's squared error. Null if the type is decode-only.
  void (*encode)(const float* in, std::byte* out, size_t n, const float* importance);
};

/// Handle to a TypeTraits record. Default-constructed: no type.
class DType {
 public:
  constexpr DType() = default;
  constexpr DType(const TypeTraits& traits)
      : traits_(&traits) {}  // NOLINT(google-explicit-constructor): types read as values

  constexpr explicit operator bool() const { return traits_ != nullptr; }
  constexpr const TypeTraits* operator->() const { return traits_; }
  constexpr const TypeTraits& operator*() const { return *traits_; }
  constexpr std::string_view name() const { return traits_ ? traits_->name : "none"; }

  /// By id, not by address: a record may exist once per shared object.
  friend constexpr bool operator==(DType a, DType b) {
    return a.traits_ == b.traits_ || (a.traits_ && b.traits_ && a.traits_->id == b.traits_->id);
  }

 private:
  const TypeTraits* traits_ = nullptr;
};

}  // namespace weft
