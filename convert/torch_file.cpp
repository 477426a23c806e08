#include "convert/torch_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "convert/printable.h"
#include "convert/zip_directory.h"

namespace weft {
namespace {

constexpr size_t kMaxPickleBytes = size_t{64} << 20;  // a hundred bytes a tensor are usual

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Elements of the shape. Throws Error if they are too many to count.
int64_t elements_of(const PickledTensor& tensor) {
  int64_t elements = 1;
  for (const int64_t n : tensor.shape) {
    require(!__builtin_mul_overflow(elements, n, &elements), "the shape has too many elements");
  }
  return elements;
}

/// The folder in the archive that everything lies in, with its slash.
std::string root_of(const ZipDirectory& zip) {
  constexpr std::string_view kPickle = "/data.pkl";
  std::string root;
  for (const auto& [name, entry] : zip.entries()) {
    if (!name.ends_with(kPickle) || name.find('/') != name.size() - kPickle.size()) continue;
    require(root.empty(), "is ambiguous: it has {} and {}data.pkl", printable(name), printable(root));
    root = name.substr(0, name.size() - kPickle.size() + 1);
  }
  require(!root.empty(), "is a zip archive, but none of torch.save: it has no NAME/data.pkl");
  return root;
}

}  // namespace

TorchFile::TorchFile(std::string path) : file_(std::make_shared<MappedFile>(std::move(path))) {
  try {
    parse();
  } catch (const Error& error) {
    throw error.at(file_->path());
  }
}

void TorchFile::parse() {
  const auto bytes = file_->bytes();
  constexpr std::string_view kTar = "ustar";
  const bool is_pickle = bytes.size() >= 2 && bytes[0] == std::byte{0x80};
  const bool is_tar = file_->text().size() > 262 && file_->text().substr(257, kTar.size()) == kTar;
  require(!is_pickle && !is_tar,
          "is of the form that torch wrote before 1.6: load it and torch.save it again, or save it as safetensors");
  require(ZipDirectory::is_zip(bytes), "is not a torch file: it is no zip archive");
  const ZipDirectory zip(bytes);
  const std::string root = root_of(zip);
  if (zip.entries().contains(root + "byteorder")) {
    const std::string_view order = text_of(zip.stored(root + "byteorder"));
    require(order == "little", "is in byte order '{}', weft reads little-endian files", printable(order, 20));
  }
  const auto pickle = zip.stored(root + "data.pkl");
  require(pickle.size() <= kMaxPickleBytes, "data.pkl has {} bytes, at most {} are allowed", pickle.size(),
          kMaxPickleBytes);
  for (PickledTensor& tensor : read_pickled_tensors(pickle)) {
    const std::string name = tensor.name;
    try {
      const auto storage = zip.stored(fmt::format("{}data/{}", root, tensor.storage));
      Entry entry{std::move(tensor), storage};
      check(entry);
      entries_.emplace(name, std::move(entry));
    } catch (const Error& error) {
      throw error.at(fmt::format("tensor {}", printable(name)));
    }
    names_.push_back(name);
  }
}

/// Throws Error unless the tensor lies inside its storage, and that inside its entry.
void TorchFile::check(const Entry& entry) {
  const PickledTensor& tensor = entry.tensor;
  require(tensor.storage_bytes <= entry.storage.size(), "its storage has {} bytes, the archive's entry {}",
          tensor.storage_bytes, entry.storage.size());
  const auto elements = static_cast<uint64_t>(elements_of(tensor));
  const uint64_t held = tensor.storage_bytes / tensor.type->bytes, offset = static_cast<uint64_t>(tensor.offset);
  if (!tensor.contiguous() && !tensor.transposed()) return;  // refused when asked for
  require(offset <= held && elements <= held - offset, "elements {} to {} run past its storage of {}", offset,
          offset + elements, held);
}

MappedTensor TorchFile::tensor(std::string_view name) const {
  const auto it = entries_.find(name);
  require(it != entries_.end(), "{}: tensor {} is missing", path(), printable(name));
  const PickledTensor& tensor = it->second.tensor;
  try {
    require(tensor.type->type != nullptr,
            "has dtype {}, weft reads float32, float16, bfloat16 and int32: save the model again in one of these",
            tensor.type->dtype);
    require(tensor.contiguous() || tensor.transposed(),
            "is a view of shape [{}] and strides [{}], weft reads contiguous and transposed ones",
            fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "));
    return {.type = {.dtype = *tensor.type->type, .shape = Shape(std::span<const int64_t>(tensor.shape))},
            .data = it->second.storage.data() + static_cast<size_t>(tensor.offset) * tensor.type->bytes,
            .file = file_,
            .transposed = tensor.transposed()};
  } catch (const Error& error) {
    throw error.at(fmt::format("tensor {}", printable(name))).at(path());
  }
}

}  // namespace weft
