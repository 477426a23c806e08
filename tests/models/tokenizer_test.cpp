#include "models/session/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "graph/error.h"
#include "models/session/bpe.h"
#include "models/session/byte_level.h"
#include "models/session/normal_form.h"
#include "models/session/pre_tokenizers.h"
#include "models/session/split_regex.h"
#include "models/session/stream_decoder.h"
#include "models/session/utf8.h"

namespace weft {
namespace {

using Ids = std::vector<int32_t>;

/// All bytes (id = byte), then merged tokens, then special ones.
TokenizerSpec byte_level_spec(std::vector<std::string> merges = {}) {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    spec.tokens.push_back(to_printable_bytes({&c, 1}));
  }
  for (const std::string& merge : merges) {
    std::string whole = merge;
    spec.tokens.push_back(whole.erase(whole.find(' '), 1));
  }
  spec.types.assign(spec.tokens.size(), TokenType::normal);
  spec.merges = std::move(merges);
  spec.pre_tokenizer = "gpt-2";
  spec.split_patterns = {std::string(kGpt2Pattern)};
  return spec;
}

int32_t add(TokenizerSpec& spec, const std::string& text, TokenType type) {
  spec.tokens.push_back(text);
  spec.types.push_back(type);
  return static_cast<int32_t>(spec.tokens.size()) - 1;
}

/// Llama-2 in small: <unk> <s> </s>, 256 byte tokens, then pieces with falling scores.
TokenizerSpec sentencepiece_spec(const std::vector<std::string>& pieces) {
  TokenizerSpec spec;
  spec.kind = TokenizerKind::sentencepiece_bpe;
  add(spec, "<unk>", TokenType::unknown);
  spec.bos = add(spec, "<s>", TokenType::control);
  spec.eos = add(spec, "</s>", TokenType::control);
  spec.unknown = 0;
  for (int byte = 0; byte < 256; ++byte) add(spec, fmt::format("<0x{:02X}>", byte), TokenType::byte);
  spec.scores.assign(spec.tokens.size(), 0.0f);
  for (const std::string& piece : pieces) {
    add(spec, piece, TokenType::normal);
    spec.scores.push_back(-static_cast<float>(spec.scores.size()));
  }
  spec.add_space_prefix = spec.add_bos = true;
  return spec;
}

std::vector<std::string> pieces_of(const std::string& pattern, std::string_view text) {
  std::vector<std::string_view> views;
  SplitRegex(pattern).split(text, views);
  return {views.begin(), views.end()};
}

double seconds(const auto& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(Tokenizer, MergesByRankAndLeftmost) {
  const Tokenizer tokenizer(byte_level_spec({"b c", "a b", "a a"}));
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{'a', 256}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{258, 'a'}));
  EXPECT_EQ(tokenizer.encode("aab"), (Ids{'a', 257}));
}

TEST(Tokenizer, IgnoreMergesTakesWholePieces) {
  TokenizerSpec spec = byte_level_spec({"b c"});
  const int32_t abc = add(spec, "abc", TokenType::normal);
  EXPECT_EQ(Tokenizer(spec).encode("abc"), (Ids{'a', 256}));
  spec.ignore_merges = true;
  EXPECT_EQ(Tokenizer(spec).encode("abc"), (Ids{abc}));
}

// The merge loop against the plain definition: again and again the best-ranked leftmost pair.
TEST(Tokenizer, MergeLoopMatchesItsDefinition) {
  const TokenizerSpec spec = byte_level_spec({"a b", "b a", "ab a", "a a", "ab ab", "aa b", "b b", "ba ba"});
  const Tokenizer tokenizer(spec);
  uint32_t state = 7;
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 1 + round % 23; ++i) text += (state = state * 1664525 + 1013904223) >> 31 ? 'a' : 'b';
    std::vector<std::string> parts;
    for (const char c : text) parts.emplace_back(1, c);
    for (bool merged = true; merged;) {
      merged = false;
      for (const std::string& merge : spec.merges) {
        for (size_t i = 0; i + 1 < parts.size() && !merged; ++i) {
          if (parts[i] + " " + parts[i + 1] != merge) continue;
          parts[i] += parts[i + 1];
          parts.erase(parts.begin() + static_cast<ptrdiff_t>(i) + 1);
          merged = true;
        }
        if (merged) break;
      }
    }
    std::vector<std::string> got;
    for (const int32_t id : tokenizer.encode(text)) got.push_back(tokenizer.piece(id));
    EXPECT_EQ(got, parts) << text;
  }
}

TEST(Tokenizer, SpecialTokensInText) {
  TokenizerSpec spec = byte_level_spec();
  const int32_t a = add(spec, "<|a|>", TokenType::control);
  const int32_t ab = add(spec, "<|a|><|b|>", TokenType::control);
  const int32_t user = add(spec, "<u>", TokenType::user_defined);
  spec.bos = spec.eos = a;
  spec.add_bos = true;
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("x<|a|><|b|><|a|>"), (Ids{a, 'x', ab, a}));  // the longest of the leftmost
  EXPECT_EQ(tokenizer.encode("<|a|>", {.add_special = false}), Ids{a});
  EXPECT_EQ(tokenizer.encode("<u><|a|>", {.add_special = false, .parse_special = false}),
            (Ids{user, '<', '|', 'a', '|', '>'}));
  EXPECT_EQ(tokenizer.decode(Ids{a, 'x', user}), "<|a|>x<u>");
  EXPECT_EQ(tokenizer.decode(Ids{a, 'x', user}, {.skip_special = true}), "x<u>");
  EXPECT_TRUE(tokenizer.is_end(a));
  EXPECT_FALSE(tokenizer.is_end(ab));
}

TEST(Tokenizer, AddedTokenRules) {
  TokenizerSpec spec = byte_level_spec();
  const int32_t strip = add(spec, "<s>", TokenType::control);
  const int32_t word = add(spec, "word", TokenType::user_defined);
  const int32_t accent = add(spec, "e\u0301", TokenType::user_defined);
  spec.added_rules = {{.id = strip, .lstrip = true, .rstrip = true},
                      {.id = word, .single_word = true},
                      {.id = accent, .normalized = true}};
  spec.normalize_nfc = true;
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("a \u00A0<s>\n b"), (Ids{'a', strip, 'b'}));
  EXPECT_EQ(tokenizer.encode("<s> <s> "), (Ids{strip, strip}));
  EXPECT_EQ(tokenizer.encode("word"), Ids{word});
  EXPECT_EQ(tokenizer.encode("(word)"), (Ids{'(', word, ')'}));
  EXPECT_EQ(tokenizer.encode("words").size(), 5u);
  EXPECT_EQ(tokenizer.encode("e\u0301\u00E9"), (Ids{accent, accent}));  // both spellings are one in form C
}

TEST(Tokenizer, SentencePieceByScores) {
  const Tokenizer tokenizer(sentencepiece_spec({"\u2581a", "ab", "\u2581", "a", "b"}));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{1, 259, 263}));  // "▁a" scores above "ab"
  EXPECT_EQ(tokenizer.encode("é"), (Ids{1, 261, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer.encode("<0x41>", {.add_special = false}).size(), 7u);  // text, not the byte token
  EXPECT_EQ(tokenizer.encode("a</s>b"), (Ids{1, 259, 2, 261, 263}));         // a prefix for each segment
  EXPECT_EQ(tokenizer.encode(""), Ids{1});
  const std::string odd = " a\xFF\xC3 b";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(odd), {.skip_special = true}), odd);
  EXPECT_EQ(tokenizer.decode(Ids{259}, {.strip_space_prefix = false}), " a");
}

TEST(Tokenizer, UnknownPartsAreFusedOrErrors) {
  TokenizerSpec spec = byte_level_spec();
  for (const char c : {'x', 'y'}) spec.tokens[static_cast<size_t>(c)] = fmt::format("was {}", c);
  EXPECT_THROW(Tokenizer(spec).encode("axb"), Error);
  spec.unknown = add(spec, "<unk>", TokenType::control);
  EXPECT_EQ(Tokenizer(spec).encode("axyb"), (Ids{'a', *spec.unknown, 'b'}));
}

TEST(Tokenizer, IdsOutOfRangeAreErrors) {
  const Tokenizer tokenizer(byte_level_spec());
  for (const int32_t id : {-1, 256, 1 << 30}) {
    EXPECT_THROW(tokenizer.decode(Ids{id}), Error);
    EXPECT_THROW(tokenizer.piece(id), Error);
    EXPECT_FALSE(tokenizer.is_end(id));
  }
}

// A quadratic merge loop, regex loop or mark ordering takes minutes here.
TEST(Tokenizer, LongTextsTakeLinearTime) {
  constexpr size_t kBytes = 1 << 20;
  TokenizerSpec spec = byte_level_spec({"a a", "aa aa", "aaaa aaaa"});
  spec.normalize_nfc = true;
  const Tokenizer tokenizer(spec);
  Ids ids;
  EXPECT_LT(seconds([&] { ids = tokenizer.encode(std::string(kBytes, 'a')); }), 5.0);
  EXPECT_EQ(ids.size(), kBytes / 8);
  EXPECT_LT(seconds([&] { tokenizer.encode(std::string(kBytes, ' ') + "x"); }), 5.0);
  EXPECT_LT(seconds([&] { tokenizer.encode(std::string(kBytes, '\xFF')); }), 5.0);
  std::string marks;
  while (marks.size() < kBytes) marks += "\u0301\u0316";
  EXPECT_LT(seconds([&] { tokenizer.encode(marks); }), 5.0);
  const Tokenizer scored(sentencepiece_spec({"a", "aa", "aaaa"}));
  EXPECT_LT(seconds([&] { scored.encode(std::string(kBytes, 'a')); }), 5.0);
}

TEST(Tokenizer, PieceOfEveryKnownPreTokenizerKeepsTheText) {
  const std::string text = "I'm 12345 naïve\t\r\n\n  x=3.14; 你好,世界。 word's\xFF\xC3 <tag>   ";
  for (const PreTokenizer& known : pre_tokenizers()) {
    TokenizerSpec spec = byte_level_spec();
    spec.split_patterns.assign(known.patterns.begin(), known.patterns.end());
    const Tokenizer tokenizer(spec);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << known.name;
  }
}

TEST(SplitRegex, MatchesAndGapsArePieces) {
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces_of("[0-9]", "a12bc"), (Pieces{"a", "1", "2", "bc"}));
  EXPECT_EQ(pieces_of("(?=b)", "abab"), (Pieces{"a", "ba", "b"}));  // empty matches cut
  EXPECT_EQ(pieces_of("x*", "ab"), (Pieces{"a", "b"}));
  EXPECT_EQ(pieces_of("é+", "\xC3\xA9\xA9\xC3\xA9"), (Pieces{"é", "\xA9", "é"}));
  EXPECT_EQ(pieces_of(".", "\xFF\xFE"), Pieces{"\xFF\xFE"});
  const std::string far = std::string(5000, '-') + "\u20AC1";  // beyond one call's starting places
  EXPECT_EQ(pieces_of("[0-9]", far), (Pieces{far.substr(0, far.size() - 1), "1"}));
}

TEST(SplitRegex, HostilePatternsAreErrors) {
  for (const char* pattern : {"(", "[", "\\C", "(?<=a*)b", "\xFF", "a{99999}"}) {
    EXPECT_THROW(SplitRegex{std::string(pattern)}, Error) << pattern;
  }
  EXPECT_THROW(SplitRegex(std::string(100000, 'a')), Error);
  const std::string letters(1 << 20, 'a');
  for (const char* pattern : {"(a+)+$x", "(?:a|a)+[bc]", "(?:a|aa)+[bc]"}) {  // exponential at one place
    EXPECT_THROW(pieces_of(pattern, letters), Error) << pattern;
  }
  // Quadratic over all places: done before the deadline on a fast machine, an Error on another; never left to run.
  const double took = seconds([&] {
    try {
      pieces_of("a+(?=[cd])", letters);
    } catch (const Error&) {
    }
  });
  EXPECT_LT(took, 30.0);
}

TEST(StreamDecoder, YieldsWholeCharacters) {
  TokenizerSpec spec = byte_level_spec();
  const int32_t end = add(spec, "<|end|>", TokenType::control);
  const Tokenizer tokenizer(spec);
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.next('a'), "a");
  EXPECT_EQ(stream.next(0xF0), "");
  EXPECT_EQ(stream.next(0x9F), "");
  EXPECT_EQ(stream.next(end), "");
  EXPECT_EQ(stream.next(0x99), "");
  EXPECT_EQ(stream.next(0x82), "\U0001F642");
  EXPECT_EQ(stream.next(0xFF), "\uFFFD");
  EXPECT_EQ(stream.next(0xC3), "");
  EXPECT_EQ(stream.next('b'), "\uFFFDb");
  EXPECT_EQ(stream.next(0xC3), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(StreamDecoder, StripsThePrefixOnce) {
  const Tokenizer tokenizer(sentencepiece_spec({"\u2581a", "\u2581", "a"}));
  StreamDecoder stream(tokenizer, {.skip_special = true, .strip_space_prefix = true});
  EXPECT_EQ(stream.next(1), "");
  EXPECT_EQ(stream.next(259), "a");
  EXPECT_EQ(stream.next(259), " a");
  EXPECT_EQ(StreamDecoder(tokenizer).next(259), " a");
}

TEST(Utf8, ClassifiesSequences) {
  const auto state = [](std::string_view text) { return decode_utf8(text, 0).state; };
  for (const char* valid : {"a", "é", "€", "\U0010FFFF", "\uFFFF"}) EXPECT_EQ(state(valid), Utf8State::valid) << valid;
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5"}) {
    EXPECT_EQ(state(bad), Utf8State::invalid);
  }
  for (const char* cut : {"\xC3", "\xE2\x82", "\xF0\x9F\x99"}) EXPECT_EQ(state(cut), Utf8State::incomplete);
  for (const char32_t code : {0x24u, 0xE9u, 0x20ACu, 0x1F642u}) {
    std::string text;
    append_utf8(text, code);
    EXPECT_EQ(decode_utf8(text, 0).code, code);
  }
}

TEST(Nfc, ComposesAndOrders) {
  EXPECT_EQ(to_normal_form("e\u0301", NormalForm::nfc), "\u00E9");
  EXPECT_EQ(to_normal_form("a\u0301\u0316", NormalForm::nfc), "\u00E1\u0316");  // marks in canonical order
  EXPECT_EQ(to_normal_form("\u1112\u1161\u11AB", NormalForm::nfc), "\uD55C");   // Hangul
  EXPECT_EQ(to_normal_form("\u212B\uFB01", NormalForm::nfc), "\u00C5\uFB01");   // canonical, not compatibility
  EXPECT_EQ(to_normal_form("e\xFF\u0301", NormalForm::nfc), "e\xFF\u0301");
  EXPECT_EQ(to_normal_form(std::string("a\0b", 3), NormalForm::nfc), std::string("a\0b", 3));
}

TEST(ByteLevel, MapsEveryByte) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(from_printable_bytes(to_printable_bytes(all)), all);
  EXPECT_EQ(to_printable_bytes(" \n\xAD"), "\u0120\u010A\u0143");
  EXPECT_FALSE(from_printable_bytes("a b").has_value());
  EXPECT_FALSE(from_printable_bytes("\u4F60").has_value());
}

}  // namespace
}  // namespace weft
