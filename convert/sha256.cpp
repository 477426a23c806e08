#include "convert/sha256.h"

#include <fmt/ranges.h>
#include <openssl/evp.h>

#include <array>

#include "graph/error.h"

namespace weft {

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) { begin(); }

void Sha256::begin() {
  require(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1,
          "OpenSSL cannot compute SHA-256 here");
}

void Sha256::add(std::span<const std::byte> bytes) {
  require(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "OpenSSL failed to compute SHA-256");
}

std::string Sha256::finish() {
  std::array<unsigned char, 32> digest{};
  require(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1, "OpenSSL failed to compute SHA-256");
  begin();
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

}  // namespace weft
