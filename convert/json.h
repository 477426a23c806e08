// JSON configuration files as metadata.
#pragma once

#include <string_view>

#include "models/metadata.h"

namespace weft {

/// A JSON object as metadata with dotted keys: {"rope": {"theta": 1}} gives "rope.theta". Integers become i64 (u64
/// beyond its range), other numbers f64; arrays of one kind become arrays of i64, f64 (integers among reals too),
/// string or bool, empty ones of i64; arrays of objects, arrays or several kinds give keys with an index, "a.0.b". Null
/// is left out. Keys come sorted. Throws Error beginning with `where` if the text is not a JSON object, two keys come
/// out the same or one is longer than 1024 bytes.
Metadata flatten_json(std::string_view text, std::string_view where);

}  // namespace weft
