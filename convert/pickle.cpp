#include "convert/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "convert/printable.h"
#include "graph/error.h"
#include "ops/quant/bf16.h"
#include "ops/quant/f16.h"
#include "ops/quant/f32.h"

namespace weft {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are read as they lie in the file");

// Bounds the memory a hostile pickle can take: a tensor needs about ten values and memo entries.
constexpr size_t kMaxValues = size_t{1} << 21;
constexpr size_t kMaxTensorDims = 64;  // torch's own limit
constexpr size_t kMaxStorageKey = 64;  // torch counts them: "0", "1", ...

constexpr std::array kTypes = {TorchType{"FloatStorage", "float32", 4, &quant::f32},
                               TorchType{"HalfStorage", "float16", 2, &quant::f16},
                               TorchType{"BFloat16Storage", "bfloat16", 2, &quant::bf16},
                               TorchType{"IntStorage", "int32", 4, &quant::i32},
                               TorchType{"DoubleStorage", "float64", 8, nullptr},
                               TorchType{"LongStorage", "int64", 8, nullptr},
                               TorchType{"ShortStorage", "int16", 2, nullptr},
                               TorchType{"CharStorage", "int8", 1, nullptr},
                               TorchType{"ByteStorage", "uint8", 1, nullptr},
                               TorchType{"BoolStorage", "bool", 1, nullptr},
                               TorchType{"", "float8_e4m3fn", 1, nullptr},
                               TorchType{"", "float8_e5m2", 1, nullptr}};
constexpr TorchType kUntyped{"UntypedStorage", "bytes", 1, nullptr};

enum class Callable : uint8_t { ordered_dict, tensor, tensor_v2, tensor_v3, parameter };
struct KnownCallable {
  std::string_view module, name;
  Callable callable;
};
constexpr std::array kCallables = {KnownCallable{"collections", "OrderedDict", Callable::ordered_dict},
                                   KnownCallable{"torch._utils", "_rebuild_tensor", Callable::tensor},
                                   KnownCallable{"torch._utils", "_rebuild_tensor_v2", Callable::tensor_v2},
                                   KnownCallable{"torch._utils", "_rebuild_tensor_v3", Callable::tensor_v3},
                                   KnownCallable{"torch._utils", "_rebuild_parameter", Callable::parameter},
                                   KnownCallable{"torch._utils", "_rebuild_parameter_with_state", Callable::parameter}};

enum class Op : uint8_t {
  mark = '(',
  stop = '.',
  pop = '0',
  none = 'N',
  true_ = 0x88,
  false_ = 0x89,
  int4 = 'J',
  int1 = 'K',
  int2 = 'M',
  long1 = 0x8a,
  float8 = 'G',
  short_string = 'U',
  string = 'T',
  short_unicode = 0x8c,
  unicode = 'X',
  unicode8 = 0x8d,
  empty_tuple = ')',
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  tuple = 't',
  empty_list = ']',
  append = 'a',
  appends = 'e',
  empty_dict = '}',
  set_item = 's',
  set_items = 'u',
  global = 'c',
  stack_global = 0x93,
  reduce = 'R',
  build = 'b',
  persistent_id = 'Q',
  put1 = 'q',
  put4 = 'r',
  memoize = 0x94,
  get1 = 'h',
  get4 = 'j',
  protocol = 0x80,
  frame = 0x95,
};

enum class Kind : uint8_t { none, boolean, integer, real, text, tuple, list, dict, callable, type, storage, tensor };

std::string_view to_string(Kind kind) {
  constexpr std::array kNames = {"None",   "a bool", "an integer", "a float", "a string",  "a tuple",
                                 "a list", "a dict", "a function", "a type",  "a storage", "a tensor"};
  return kNames[static_cast<size_t>(kind)];
}

/// A value, or the index of one in the tables below.
struct PickleValue {
  Kind kind = Kind::none;
  int64_t number = 0;          // integer, or the index
  std::string_view text = {};  // into the pickle

  size_t index() const { return static_cast<size_t>(number); }
};

struct Storage {
  const TorchType* type;
  std::string_view key;
  uint64_t bytes;
};

class Machine {
 public:
  explicit Machine(std::span<const std::byte> pickle) : pickle_(pickle) {}

  std::vector<PickledTensor> run() {
    while (step()) {
    }
    return tensors_of(pop());
  }

 private:
  // -- input ----------------------------------------------------------------------------------------------------------

  std::string_view take(uint64_t n) {
    require(n <= pickle_.size() - at_, "truncated at byte {}: {} bytes are wanted, {} are left", at_, n,
            pickle_.size() - at_);
    const std::string_view taken(reinterpret_cast<const char*>(pickle_.data()) + at_, n);
    at_ += n;
    return taken;
  }

  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string_view line() {
    const auto left = pickle_.subspan(at_);
    const auto end = std::ranges::find(left, std::byte{'\n'});
    require(end != left.end(), "truncated at byte {}: a name has no end", at_);
    const std::string_view text = take(static_cast<uint64_t>(end - left.begin()));
    take(1);
    return text;
  }

  int64_t long_number() {  // little-endian, signed, of any length
    const auto bytes = number<uint8_t>();
    require(bytes <= 8, "an integer at byte {} has {} bytes, at most 8 are read", at_, bytes);
    const std::string_view raw = take(bytes);
    int64_t value = !raw.empty() && static_cast<int8_t>(raw.back()) < 0 ? -1 : 0;
    std::memcpy(&value, raw.data(), raw.size());
    return value;
  }

  // -- stack and memo -------------------------------------------------------------------------------------------------

  void count(size_t n) {
    made_ += n;
    require(made_ <= kMaxValues, "has more than {} values", kMaxValues);
  }

  void push(PickleValue value) {
    count(1);
    stack_.push_back(value);
  }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  PickleValue pop() {
    require(stack_.size() > floor(), "takes a value from an empty stack at byte {}", at_);
    const PickleValue value = stack_.back();
    stack_.pop_back();
    return value;
  }

  PickleValue pop(Kind kind) {
    const PickleValue value = pop();
    require(value.kind == kind, "has {} at byte {}, where {} is expected", to_string(value.kind), at_, to_string(kind));
    return value;
  }

  const PickleValue& top() const {
    require(stack_.size() > floor(), "looks at an empty stack at byte {}", at_);
    return stack_.back();
  }

  std::vector<PickleValue> pop_to_mark() {
    require(!marks_.empty(), "has no mark at byte {}", at_);
    const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
    std::vector<PickleValue> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }

  void push_items(Kind kind, std::vector<PickleValue> items) {
    items_.push_back(std::move(items));
    push({kind, static_cast<int64_t>(items_.size() - 1)});
  }

  void push_tuple(size_t n) {
    std::vector<PickleValue> items(n);
    for (size_t i = n; i-- > 0;) items[i] = pop();
    push_items(Kind::tuple, std::move(items));
  }

  /// Adds to the list or dict on top; a dict's items are keys and values in turn.
  void extend(Kind kind, std::vector<PickleValue> items) {
    require(top().kind == kind, "adds items to {} at byte {}", to_string(top().kind), at_);
    require(kind == Kind::list || items.size() % 2 == 0, "has a key without a value at byte {}", at_);
    count(items.size());
    auto& to = items_[top().index()];
    to.insert(to.end(), items.begin(), items.end());
  }

  void put(uint64_t slot) {
    require(slot < kMaxValues, "has a memo entry {}, at most {} are allowed", slot, kMaxValues);
    if (slot >= memo_.size()) memo_.resize(slot + 1, {Kind::none, -1});
    memo_[slot] = top();
    ++memoized_;
  }

  void get(uint64_t slot) {
    require(slot < memo_.size() && !(memo_[slot].kind == Kind::none && memo_[slot].number < 0),
            "asks for memo entry {}, which it has not made", slot);
    push(memo_[slot]);
  }

  // -- what tensors are made of ---------------------------------------------------------------------------------------

  void push_global(std::string_view module, std::string_view name) {
    for (size_t i = 0; i < kCallables.size(); ++i) {
      if (kCallables[i].module == module && kCallables[i].name == name) {
        return push({Kind::callable, static_cast<int64_t>(i)});
      }
    }
    if (module == "torch.storage" && name == kUntyped.storage) {
      return push({Kind::type, static_cast<int64_t>(kTypes.size())});
    }
    if (module == "torch" && !name.empty()) {
      for (size_t i = 0; i < kTypes.size(); ++i) {
        if (kTypes[i].storage == name || kTypes[i].dtype == name) return push({Kind::type, static_cast<int64_t>(i)});
      }
    }
    fail("names {}.{}: refused, weft reads nothing but tensors", printable(module), printable(name));
  }

  static const TorchType* type_of(const PickleValue& value) {
    return value.index() < kTypes.size() ? &kTypes[value.index()] : &kUntyped;
  }

  const PickleValue& item(const std::vector<PickleValue>& items, size_t i, Kind kind, std::string_view what) const {
    require(i < items.size(), "{} has {} arguments", what, items.size());
    require(items[i].kind == kind, "argument {} of {} is {}, expected {}", i, what, to_string(items[i].kind),
            to_string(kind));
    return items[i];
  }

  /// ("storage", type, key, location, elements)
  void push_storage() {
    const std::vector<PickleValue>& id = items_[pop(Kind::tuple).index()];
    constexpr std::string_view kWhat = "a persistent id";
    require(item(id, 0, Kind::text, kWhat).text == "storage", "{} is no storage but {}", kWhat, printable(id[0].text));
    const TorchType* type = type_of(item(id, 1, Kind::type, kWhat));
    const int64_t elements = item(id, 4, Kind::integer, kWhat).number;
    uint64_t bytes = 0;
    require(elements >= 0 && !__builtin_mul_overflow(static_cast<uint64_t>(elements), type->bytes, &bytes),
            "a storage has {} elements", elements);
    const std::string_view key = item(id, 2, Kind::text, kWhat).text;
    require(key.size() <= kMaxStorageKey, "a storage's key has {} bytes, at most {} are allowed", key.size(),
            kMaxStorageKey);
    storages_.push_back({type, key, bytes});
    push({Kind::storage, static_cast<int64_t>(storages_.size() - 1)});
  }

  std::vector<int64_t> sizes(const PickleValue& tuple, std::string_view what) const {
    const std::vector<PickleValue>& items = items_[tuple.index()];
    require(items.size() <= kMaxTensorDims, "a tensor has {} {}, at most {} are allowed", items.size(), what,
            kMaxTensorDims);
    std::vector<int64_t> out;
    for (const PickleValue& value : items) {
      require(value.kind == Kind::integer && value.number >= 0, "a tensor's {} are not whole numbers from 0", what);
      out.push_back(value.number);
    }
    return out;
  }

  /// (storage, offset, size, stride, ...); of v3 argument 6 is the dtype.
  void push_tensor(const std::vector<PickleValue>& args, bool typed) {
    constexpr std::string_view kWhat = "a tensor";
    const Storage& storage = storages_[item(args, 0, Kind::storage, kWhat).index()];
    PickledTensor tensor;
    tensor.type = typed ? type_of(item(args, 6, Kind::type, kWhat)) : storage.type;
    tensor.storage = storage.key;
    tensor.storage_bytes = storage.bytes;
    tensor.offset = item(args, 1, Kind::integer, kWhat).number;
    tensor.shape = sizes(item(args, 2, Kind::tuple, kWhat), "dimensions");
    tensor.strides = sizes(item(args, 3, Kind::tuple, kWhat), "strides");
    require(tensor.offset >= 0, "a tensor begins at element {}", tensor.offset);
    require(tensor.shape.size() == tensor.strides.size(), "a tensor has {} dimensions and {} strides",
            tensor.shape.size(), tensor.strides.size());
    count(2 * tensor.shape.size());
    tensors_.push_back(std::move(tensor));
    push({Kind::tensor, static_cast<int64_t>(tensors_.size() - 1)});
  }

  void reduce() {
    const std::vector<PickleValue>& args = items_[pop(Kind::tuple).index()];
    switch (kCallables[pop(Kind::callable).index()].callable) {
      case Callable::ordered_dict:
        require(args.empty(), "makes an OrderedDict of {} arguments, weft reads empty ones that are filled",
                args.size());
        return push_items(Kind::dict, {});
      case Callable::tensor:
      case Callable::tensor_v2:
        return push_tensor(args, false);
      case Callable::tensor_v3:
        return push_tensor(args, true);
      case Callable::parameter:
        return push(item(args, 0, Kind::tensor, "a parameter"));
    }
  }

  // -- the opcodes ----------------------------------------------------------------------------------------------------

  bool step() {
    const auto code = number<uint8_t>();
    switch (static_cast<Op>(code)) {
      case Op::stop:
        return false;
      case Op::protocol: {
        const auto protocol = number<uint8_t>();
        require(protocol >= 2 && protocol <= 5, "is of protocol {}, weft reads 2 to 5", protocol);
        break;
      }
      case Op::frame:
        number<uint64_t>();
        break;
      case Op::mark:
        count(1);
        marks_.push_back(stack_.size());
        break;
      case Op::pop:
        pop();
        break;
      case Op::none:
        push({});
        break;
      case Op::true_:
      case Op::false_:
        push({Kind::boolean, code == static_cast<uint8_t>(Op::true_) ? 1 : 0});
        break;
      case Op::int1:
        push({Kind::integer, number<uint8_t>()});
        break;
      case Op::int2:
        push({Kind::integer, number<uint16_t>()});
        break;
      case Op::int4:
        push({Kind::integer, number<int32_t>()});
        break;
      case Op::long1:
        push({Kind::integer, long_number()});
        break;
      case Op::float8:
        take(8);
        push({Kind::real});
        break;
      case Op::short_string:
      case Op::short_unicode:
        push({Kind::text, 0, take(number<uint8_t>())});
        break;
      case Op::string:
      case Op::unicode:
        push({Kind::text, 0, take(number<uint32_t>())});
        break;
      case Op::unicode8:
        push({Kind::text, 0, take(number<uint64_t>())});
        break;
      case Op::empty_tuple:
        push_tuple(0);
        break;
      case Op::tuple1:
        push_tuple(1);
        break;
      case Op::tuple2:
        push_tuple(2);
        break;
      case Op::tuple3:
        push_tuple(3);
        break;
      case Op::tuple:
        push_items(Kind::tuple, pop_to_mark());
        break;
      case Op::empty_list:
        push_items(Kind::list, {});
        break;
      case Op::append:
        extend(Kind::list, {pop()});
        break;
      case Op::appends:
        extend(Kind::list, pop_to_mark());
        break;
      case Op::empty_dict:
        push_items(Kind::dict, {});
        break;
      case Op::set_item: {
        const PickleValue value = pop(), key = pop();
        extend(Kind::dict, {key, value});
        break;
      }
      case Op::set_items:
        extend(Kind::dict, pop_to_mark());
        break;
      case Op::global: {
        const std::string_view module = line(), name = line();
        push_global(module, name);
        break;
      }
      case Op::stack_global: {
        const PickleValue name = pop(Kind::text), module = pop(Kind::text);
        push_global(module.text, name.text);
        break;
      }
      case Op::reduce:
        reduce();
        break;
      case Op::build:  // attributes of an OrderedDict (_metadata): of no interest
        pop();
        require(top().kind == Kind::dict, "sets attributes of {} at byte {}", to_string(top().kind), at_);
        break;
      case Op::persistent_id:
        push_storage();
        break;
      case Op::put1:
        put(number<uint8_t>());
        break;
      case Op::put4:
        put(number<uint32_t>());
        break;
      case Op::memoize:
        put(memoized_);
        break;
      case Op::get1:
        get(number<uint8_t>());
        break;
      case Op::get4:
        get(number<uint32_t>());
        break;
      default:
        fail("has opcode 0x{:02x} at byte {}, which no state dict needs", code, at_ - 1);
    }
    return true;
  }

  static std::string_view name_of(const PickleValue& key) { return key.kind == Kind::text ? key.text : "?"; }

  bool has_tensors(const PickleValue& value) const {
    if (value.kind != Kind::dict) return false;
    const std::vector<PickleValue>& items = items_[value.index()];
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i].kind == Kind::text && items[i + 1].kind == Kind::tensor) return true;
    }
    return false;
  }

  /// "epoch (an integer), optimizer (a dict)"
  std::string contents(const PickleValue& dict) const {
    constexpr size_t kShown = 8;
    const std::vector<PickleValue>& items = items_[dict.index()];
    std::string out = items.empty() ? "nothing" : "";
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (i / 2 == kShown) return fmt::format("{} and {} more", out, items.size() / 2 - kShown);
      out +=
          fmt::format("{}{} ({})", i > 0 ? ", " : "", printable(name_of(items[i]), 40), to_string(items[i + 1].kind));
    }
    return out;
  }

  /// The dict itself, or the one in it that has tensors: what training loops save beside their own state. Of several
  /// the one that is called as they call the model's.
  const PickleValue& state_dict(const PickleValue& root) const {
    require(root.kind == Kind::dict, "holds {}, expected a dict of tensors", to_string(root.kind));
    if (has_tensors(root)) return root;
    const std::vector<PickleValue>& items = items_[root.index()];
    std::vector<size_t> found;
    std::set<std::pair<Kind, int64_t>> seen;  // a memo entry may stand there a million times
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (seen.emplace(items[i + 1].kind, items[i + 1].number).second && has_tensors(items[i + 1])) found.push_back(i);
    }
    require(!found.empty(), "has no tensors, neither in its dict nor in one inside it, but {}", contents(root));
    if (found.size() == 1) return items[found[0] + 1];
    for (const std::string_view usual : {"state_dict", "model_state_dict", "model"}) {
      const auto it = std::ranges::find(found, usual, [&](size_t i) { return name_of(items[i]); });
      if (it != found.end()) return items[*it + 1];
    }
    fail("has several dicts of tensors, none of them called state_dict or model: {}", contents(root));
  }

  std::vector<PickledTensor> tensors_of(const PickleValue& root) {
    const std::vector<PickleValue>& items = items_[state_dict(root).index()];
    std::vector<PickledTensor> out;
    std::set<std::string_view> names;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const PickleValue &key = items[i], &value = items[i + 1];
      if (key.kind != Kind::text || value.kind != Kind::tensor) continue;
      require(names.insert(key.text).second, "tensor {} occurs twice", printable(key.text));
      out.push_back(tensors_[value.index()]);
      out.back().name = key.text;
    }
    return out;
  }

  std::span<const std::byte> pickle_;
  size_t at_ = 0, made_ = 0, memoized_ = 0;
  std::vector<PickleValue> stack_, memo_;
  std::vector<size_t> marks_;                    // heights of the stack
  std::vector<std::vector<PickleValue>> items_;  // of tuples, lists and dicts
  std::vector<Storage> storages_;
  std::vector<PickledTensor> tensors_;
};

}  // namespace

bool PickledTensor::contiguous() const {
  if (std::ranges::find(shape, 0) != shape.end()) return true;
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 1) continue;
    if (strides[i] != expected || __builtin_mul_overflow(expected, shape[i], &expected)) return false;
  }
  return true;
}

bool PickledTensor::transposed() const {
  return !contiguous() && shape.size() == 2 && strides[0] == 1 && strides[1] == shape[0];
}

std::vector<PickledTensor> read_pickled_tensors(std::span<const std::byte> pickle) {
  try {
    return Machine(pickle).run();
  } catch (const Error& error) {
    throw Error(fmt::format("pickle {}", error.what()));
  }
}

}  // namespace weft
