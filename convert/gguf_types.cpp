#include "convert/gguf_types.h"

#include <array>

#include "convert/printable.h"
#include "graph/error.h"
#include "ops/quant/f32.h"
#include "ops/quant/find.h"

namespace weft::gguf {
namespace {

struct IdName {
  uint32_t id;
  std::string_view name;
};

// Names for messages only; what weft reads is the table of ops/quant/all.h. Source: ggml.h, enum ggml_type.
constexpr std::array kNames = {
    IdName{3, "q4_1"},     IdName{6, "q5_0"},    IdName{7, "q5_1"},     IdName{9, "q8_1"},   IdName{10, "q2_K"},
    IdName{11, "q3_K"},    IdName{12, "q4_K"},   IdName{13, "q5_K"},    IdName{14, "q6_K"},  IdName{15, "q8_K"},
    IdName{16, "iq2_xxs"}, IdName{17, "iq2_xs"}, IdName{18, "iq3_xxs"}, IdName{19, "iq1_s"}, IdName{20, "iq4_nl"},
    IdName{21, "iq3_s"},   IdName{22, "iq2_s"},  IdName{23, "iq4_xs"},  IdName{24, "i8"},    IdName{25, "i16"},
    IdName{27, "i64"},     IdName{28, "f64"},    IdName{29, "iq1_m"},   IdName{34, "tq1_0"}, IdName{35, "tq2_0"},
    IdName{39, "mxfp4"},   IdName{40, "nvfp4"},  IdName{41, "q1_0"},    IdName{42, "q2_0"},
};
constexpr std::array kRemoved = {
    IdName{4, "q4_2"},      IdName{5, "q4_3"},        IdName{31, "q4_0_4_4"},   IdName{32, "q4_0_4_8"},
    IdName{33, "q4_0_8_8"}, IdName{36, "iq4_nl_4_4"}, IdName{37, "iq4_nl_4_8"}, IdName{38, "iq4_nl_8_8"},
};

constexpr bool is_ik_llama(uint32_t id) {
  return (id >= 97 && id <= 99) || (id >= 133 && id <= 158) || (id >= 200 && id <= 399);
}

}  // namespace

DType tensor_type(uint32_t id, std::string_view tensor) {
  if (id == quant::i32.id) return quant::i32;
  if (const DType type = quant::find(id)) return type;
  const std::string name = printable(tensor);
  for (const IdName& removed : kRemoved) {
    if (removed.id == id) fail("tensor {} has type id {} ({}), which the format has removed", name, id, removed.name);
  }
  for (const IdName& known : kNames) {
    if (known.id == id) fail("tensor {} has type id {} ({}), which weft does not read", name, id, known.name);
  }
  if (is_ik_llama(id)) fail("tensor {} has type id {}, private to ik_llama.cpp", name, id);
  fail("tensor {} has unknown type id {}", name, id);
}

}  // namespace weft::gguf
