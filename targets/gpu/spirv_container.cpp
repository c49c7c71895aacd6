#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "targets/gpu/spirv.hpp"

namespace heddle::targets {
namespace {

[[noreturn]] void fail(const std::string& why) {
  throw Error(ErrorCode::internal, fmt::format("Halide's SPIR-V container is not as expected: {}", why));
}

class Reader {
 public:
  explicit Reader(std::span<const std::uint32_t> words) : words_(words) {}

  std::uint32_t word() {
    if (at_ == words_.size()) fail("it ends too early");
    return words_[at_++];
  }
  int number() {
    const std::uint32_t value = word();
    if (value > 1u << 30) fail(fmt::format("{} is no count", value));
    return static_cast<int>(value);
  }
  /// Padded with zeros to whole words, of which there is one at least.
  std::string text() {
    const auto part = take(word());
    std::string bytes(part.size_bytes(), '\0');
    std::memcpy(bytes.data(), part.data(), bytes.size());
    const std::size_t end = bytes.find('\0');
    if (end == 0 || end == bytes.npos) fail("a name is empty or does not end");
    return bytes.substr(0, end);
  }
  std::span<const std::uint32_t> take(std::size_t count) {
    if (count > words_.size() - at_) fail("it ends too early");
    const auto part = words_.subspan(at_, count);
    at_ += count;
    return part;
  }
  std::size_t at() const { return at_; }
  bool done() const { return at_ == words_.size(); }

 private:
  std::span<const std::uint32_t> words_;
  std::size_t at_ = 0;
};

/// A header whose first word is its length in words, then the module.
HalideSpirv read_kernel(std::span<const std::uint32_t> words) {
  Reader reader(words);
  HalideSpirv kernel;
  const std::uint32_t header = reader.word();
  if (reader.word() != 1) fail("a module has not one descriptor set");
  kernel.name = reader.text();
  kernel.uniform_blocks = reader.number();
  kernel.storage_buffers = reader.number();
  const int constants = reader.number();
  for (int i = 0; i < constants; ++i) {
    reader.text();
    reader.word();  // its id, which those that use it repeat below
    if (reader.word() != sizeof(std::uint32_t)) fail("a specialisation constant is no word");
  }
  const int arrays = reader.number();
  for (int i = 0; i < arrays; ++i) {
    reader.text();
    DeviceEntry::Shared array;
    array.constant = reader.number();
    array.element_bytes = reader.number();
    array.elements = reader.number();
    kernel.shared.push_back(array);
  }
  for (int& constant : kernel.block_constants) constant = reader.number();
  if (reader.at() != header) fail("a header's length is not what it holds");
  if (kernel.uniform_blocks > 1) fail("a kernel has several uniform blocks");
  const auto module = words.subspan(header);
  kernel.module.assign(module.begin(), module.end());
  return kernel;
}

}  // namespace

// {count, {bytes, name}...}, then per kernel `bytes` of header and module.
std::vector<HalideSpirv> read_halide_container(std::span<const std::uint8_t> bytes) {
  if (bytes.size() % sizeof(std::uint32_t) != 0) fail("its size is no number of words");
  SpirvWords words(bytes.size() / sizeof(std::uint32_t));
  if (!words.empty()) std::memcpy(words.data(), bytes.data(), bytes.size());
  Reader reader(words);
  const int count = reader.number();
  std::vector<std::size_t> sizes;
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) {
    const std::uint32_t size = reader.word();
    if (size % sizeof(std::uint32_t) != 0) fail("a kernel's size is no number of words");
    sizes.push_back(size / sizeof(std::uint32_t));
    names.push_back(reader.text());
  }
  std::vector<HalideSpirv> kernels;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    kernels.push_back(read_kernel(reader.take(sizes[i])));
    if (kernels.back().name != names[i]) fail(fmt::format("'{}' is called '{}'", names[i], kernels.back().name));
  }
  if (!reader.done()) fail("there is more after the last kernel");
  if (kernels.empty()) fail("there is no kernel in it");
  return kernels;
}

SpirvWords spirv_words(const std::string& bytes) {
  if (bytes.size() % sizeof(std::uint32_t) != 0)
    throw Error(ErrorCode::invalid_argument, "SPIR-V consists of words of four bytes; this ends within one");
  SpirvWords words(bytes.size() / sizeof(std::uint32_t));
  if (!words.empty()) std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

std::string spirv_bytes(const SpirvWords& words) {
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(std::uint32_t)};
}

}  // namespace heddle::targets
