#include "models/session/hard_strings.h"

#include <array>

namespace weft {

std::span<const std::string_view> hard_strings() {
  static constexpr std::array<std::string_view, 44> kStrings = {{
      "",
      " ",
      "  two  spaces  ",
      "\n",
      "\n\n\n",
      "\t tab\t\ttabs",
      "line one\r\nline two\r\n\r\n",
      " leading and trailing ",
      "Hello, world!",
      "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
      "and dedicated to the proposition that all men are created equal.",
      "I'm you're we've they'll he'd it's don't DON'T I'M",
      "'s 't 're 've 'm 'll 'd",
      "1 12 123 1234 12345 1234567890 3.14159 1,000,000 0x1F 1e-10",
      "\xC2\xBD \xC2\xB2 \xE2\x85\xA7 \xD9\xA1\xD9\xA2\xD9\xA3",  // half, superscript, roman, arabic digits
      "!!! ??? ... --- *** ### $$$ %%% &&& ((( )))",
      "a_b-c/d\\e|f~g`h^i@j#k",
      "https://example.org/path?query=1&other=%20#fragment user@example.org",
      "#include <vector>\nint main() {\n    return x->y[0] != 3 && !z;\n}\n",
      "def f(x):\n\treturn {'a': [1, 2], \"b\": None}\n",
      "{\"key\": \"value\", \"list\": [true, false, null]}",
      "CamelCase snake_case SCREAMING_CASE kebab-case",
      "na\xC3\xAFve caf\xC3\xA9 r\xC3\xA9sum\xC3\xA9 \xC3\x85ngstr\xC3\xB6m",  // composed
      "nai\xCC\x88ve cafe\xCC\x81 re\xCC\x81sume\xCC\x81",                     // combining marks
      "stra\xC3\x9F"
      "e STRASSE \xC4\xB0stanbul \xC4\xB1",
      "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82, \xD0\xBC\xD0\xB8\xD1\x80!",  // Russian
      "\xCE\x9A\xCE\xB1\xCE\xBB\xCE\xB7\xCE\xBC\xCE\xAD\xCF\x81\xCE\xB1 \xCE\xBA\xCF\x8C\xCF\x83\xCE\xBC\xCE\xB5",
      "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C\xE3\x80\x82",  // Chinese, full-width marks
      "\xE3\x81\x93\xE3\x82\x93\xE3\x81\xAB\xE3\x81\xA1\xE3\x81\xAF\xE4\xB8\x96\xE7\x95\x8C",
      "\xEC\x95\x88\xEB\x85\x95\xED\x95\x98\xEC\x84\xB8\xEC\x9A\x94 \xE1\x84\x80\xE1\x85\xA1",  // Hangul, and jamo
      "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D \xD7\xA2\xD7\x95\xD7\x9C\xD7\x9D",                      // Hebrew
      "\xD9\x85\xD8\xB1\xD8\xAD\xD8\xA8\xD8\xA7 \xD8\xA8\xD8\xA7\xD9\x84\xD8\xB9\xD8\xA7\xD9\x84\xD9\x85",
      "\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D\xE0\xA4\xA4\xE0\xA5\x87",  // Hindi
      "\xE0\xB8\xAA\xE0\xB8\xA7\xE0\xB8\xB1\xE0\xB8\xAA\xE0\xB8\x94\xE0\xB8\xB5",  // Thai
      "\xF0\x9F\x98\x80\xF0\x9F\x98\x82 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB \xF0\x9F\x87\xA9\xF0\x9F\x87\xAA "
      "\xE2\x9D\xA4\xEF\xB8\x8F",
      "\xE2\x80\x9Cquotes\xE2\x80\x9D \xE2\x80\x98single\xE2\x80\x99 \xE2\x80\x94 dash \xE2\x80\xA6",
      "no\xC2\xA0"
      "break\xE2\x80\x83"
      "em\xE2\x80\x8Bzero\xE3\x80\x80wide",  // spaces of all kinds
      "\xEF\xBB\xBF"
      "byte order mark",
      "\xE2\x88\x80x \xE2\x88\x88 \xE2\x84\x9D: x\xC2\xB2 \xE2\x89\xA5 0 \xE2\x86\x92 \xE2\x88\x9A",
      "\xF0\x9D\x95\xB3\xF0\x9D\x96\x8A \xF0\x90\x8D\x88 \xF0\x9F\x80\x84",  // beyond the basic plane
      "\x01\x02\x7F control",
      "<s> </s> <unk> <|endoftext|> <|im_start|>user [INST] <pad>",
      "\xE2\x96\x81 the mark of a space",
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "word                    word",
  }};
  return kStrings;
}

}  // namespace weft
