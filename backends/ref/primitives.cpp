#include "backends/ref/primitives.h"

#include <algorithm>

namespace weft::ref {

const std::vector<Primitive>& primitives() {
  static const std::vector<Primitive> all = [] {
    std::vector<Primitive> list;
    for (const auto part : {elementwise_primitives(), reduce_primitives(), movement_primitives(), matmul_primitives(),
                            indexing_primitives(), state_primitives()}) {
      list.insert(list.end(), part.begin(), part.end());
    }
    return list;
  }();
  return all;
}

const Primitive* find_primitive(std::string_view op) {
  const auto it = std::ranges::find(primitives(), op, &Primitive::op);
  return it == primitives().end() ? nullptr : &*it;
}

}  // namespace weft::ref
