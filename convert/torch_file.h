// pytorch_model.bin: a state dict as torch.save writes it since 1.6.
//
//   a zip archive of stored entries: NAME/data.pkl, the pickle of a dict of tensors; NAME/data/KEY, the bytes of a
//   storage; NAME/byteorder, "little" or "big", in newer files
//
// Source: torch/serialization.py.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/pickle.h"
#include "convert/weights.h"

namespace weft {

/// One mapped file. Nothing in it is executed: see read_pickled_tensors.
class TorchFile final : public WeightFile {
 public:
  /// Throws Error, the path in front: malformed, of the form before 1.6, big-endian, or a pickle that names anything
  /// but tensors.
  explicit TorchFile(std::string path);

  const std::string& path() const override { return file_->path(); }
  /// In the order of the dict.
  const std::vector<std::string>& names() const override { return names_; }
  bool has(std::string_view name) const override { return entries_.contains(name); }
  /// Also throws Error if the tensor is a view that is neither contiguous nor the transpose of one that is.
  MappedTensor tensor(std::string_view name) const override;

 private:
  struct Entry {
    PickledTensor tensor;
    std::span<const std::byte> storage;
  };
  void parse();
  static void check(const Entry& entry);

  std::shared_ptr<const MappedFile> file_;
  std::vector<std::string> names_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace weft
