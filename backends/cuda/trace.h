// What a device runs, noted by CUPTI's activity records. The library is looked for when a recorder is asked for: weft
// runs without it, and loads nothing where nobody asks.
#pragma once

#include <memory>

#include "graph/spans.h"

namespace weft::cuda {

/// Kernels, those of graphs too, copies and clearings of memory of a device. One recorder at a time. Throws Error with
/// the reason in one line: weft built without cupti.h, no libcupti here, or CUPTI refused, as under another profiler.
std::unique_ptr<SpanRecorder> record_spans(int device);

}  // namespace weft::cuda
