#include "models/session/generate.h"

#include <chrono>

#include "models/session/stop_strings.h"
#include "models/session/stream_decoder.h"

namespace weft {
namespace {

/// Feeds and chooses: on the device, or from no more logits than decide.
int32_t next_token(Session& session, const Feed& feed, Sampler& sampler, std::span<const int32_t> history) {
  const size_t k = sampler.decisive(history);
  const auto found = [&](int32_t token) {
    require(token >= 0, "sampler: none of the {} logits is above -infinity", session.n_vocab());
    return token;
  };
  if (k != 1) {
    const Draw draw{sampler.options(), history, history.size()};
    if (const auto drawn = session.step_drawn({&feed, 1}, {&draw, 1})) return found((*drawn)[0]);
  }
  if (k == 0 || k > static_cast<size_t>(Session::kMostRanked)) {
    return sampler.sample(session.step({&feed, 1}), history, history.size());
  }
  const Ranked ranked = session.step_ranked({&feed, 1}, static_cast<int64_t>(k));
  if (ranked.each > 1) return sampler.sample(ranked.logits, ranked.tokens, history, history.size());
  return found(ranked.tokens[0]);
}

}  // namespace

GenerateResult generate(Session& session, int sequence, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                        const GenerateOptions& options, const std::function<bool(std::string_view)>& on_text) {
  require(!prompt.empty(), "the prompt is empty: there is nothing to continue");
  const int64_t room = session.context() - session.length(sequence);
  require(static_cast<int64_t>(prompt.size()) <= room, "the prompt has {} tokens, the context has room for {}",
          prompt.size(), room);
  using Clock = std::chrono::steady_clock;
  Sampler sampler(options.sampler);
  StreamDecoder decoder(tokenizer);
  StopStrings stops(options.stop);
  GenerateResult result;
  result.prompt_tokens = prompt.size();
  std::vector<int32_t> history(prompt.begin(), prompt.end());
  const auto say = [&](const std::string& text) {
    if (text.empty()) return true;
    result.text += text;
    return on_text(text);
  };

  std::span<const int32_t> next = prompt;
  result.reason = StopReason::limit;
  while (options.max_tokens < 0 || static_cast<int64_t>(result.tokens.size()) < options.max_tokens) {
    if (session.length(sequence) + static_cast<int64_t>(next.size()) > session.context()) {
      result.reason = StopReason::context_full;
      break;
    }
    const auto start = Clock::now();
    const Feed feed{sequence, next};
    const int32_t id = next_token(session, feed, sampler, history);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    (result.tokens.empty() ? result.prompt_s : result.decode_s) += seconds;
    if (tokenizer.is_end(id)) {
      result.reason = StopReason::end_token;
      break;
    }
    result.tokens.push_back(id);
    history.push_back(id);
    next = std::span(history).last(1);
    if (!say(stops.push(decoder.next(id)))) {
      result.reason = StopReason::caller;
      return result;
    }
    if (stops.stopped()) {
      result.reason = StopReason::stop_string;
      break;
    }
  }
  if (!stops.stopped() && say(stops.push(decoder.finish()))) say(stops.flush());
  return result;
}

}  // namespace weft
