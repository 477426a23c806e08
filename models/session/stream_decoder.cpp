#include "models/session/stream_decoder.h"

#include "models/session/utf8.h"

namespace weft {

std::string StreamDecoder::next(int32_t id) {
  pending_ += tokenizer_.decode({&id, 1}, options_);
  if (!tokenizer_.is_special(id) && !tokenizer_.piece(id).empty()) options_.strip_space_prefix = false;
  return take_whole(false);
}

std::string StreamDecoder::finish() { return take_whole(true); }

std::string StreamDecoder::take_whole(bool at_end) {
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Char c = decode_utf8(pending_, at);
    if (c.state == Utf8State::incomplete && !at_end) break;
    if (c.state == Utf8State::valid) out.append(pending_, at, c.size);
    else append_utf8(out, 0xFFFD);
    at += c.size;
  }
  pending_.erase(0, at);
  return out;
}

}  // namespace weft
