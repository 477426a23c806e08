// SHA-256 of bytes that come in pieces, by OpenSSL.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;

namespace weft {

class Sha256 {
 public:
  /// Throws Error if OpenSSL has no SHA-256 (or, in all functions, fails).
  Sha256();

  void add(std::span<const std::byte> bytes);
  /// 64 hexadecimal digits of all bytes since the last finish(); then begins anew.
  std::string finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  void begin();

  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace weft
