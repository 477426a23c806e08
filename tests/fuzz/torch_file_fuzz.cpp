// pytorch_model.bin: the zip directory, the pickle, and every tensor it lists. What is no archive is tried as a pickle.
#include "convert/torch_file.h"
#include "convert/zip_directory.h"
#include "graph/error.h"
#include "tests/fuzz/entries.h"

namespace weft::fuzz {

bool torch_file(std::string_view bytes) {
  const auto raw = std::as_bytes(std::span(bytes.data(), bytes.size()));
  try {
    if (!ZipDirectory::is_zip(raw)) {
      for (const PickledTensor& tensor : read_pickled_tensors(raw)) {
        volatile bool contiguous = tensor.contiguous();
        static_cast<void>(contiguous);
      }
      return true;
    }
    const MemoryFile memory(bytes);
    const TorchFile file(memory.path());
    unsigned sum = 0;
    bool accepted = true;
    for (const std::string& name : file.names()) {
      try {
        const LoadedTensor tensor = file.tensor(name).load();
        const size_t n = tensor->type.bytes();
        if (n > 0) sum += std::to_integer<unsigned>(tensor->data[0]) + std::to_integer<unsigned>(tensor->data[n - 1]);
      } catch (const Error&) {
        accepted = false;  // of a type or layout that weft does not have
      }
    }
    volatile unsigned seen = sum;
    static_cast<void>(seen);
    return accepted;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace weft::fuzz

WEFT_FUZZ_TARGET(weft::fuzz::torch_file)
