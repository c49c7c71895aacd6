#include <cerrno>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.hpp"
#include "graph/onnx/importer.hpp"
#include "graph/onnx/tensors.hpp"

namespace heddle::graph::onnx_import {

namespace {

/// A file's bytes, mapped: a model's weights are then copied once out of the page cache, not twice.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (descriptor < 0 || ::fstat(descriptor, &status) != 0) fail(path, descriptor);
    if (S_ISDIR(status.st_mode)) {
      ::close(descriptor);
      throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is a directory, not an ONNX model", path.string()));
    }
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ > 0) bytes_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes_ == MAP_FAILED) fail(path, descriptor);
    ::close(descriptor);
    if (size_ > 0) ::madvise(bytes_, size_, MADV_WILLNEED);
  }
  ~MappedFile() {
    if (size_ > 0) ::munmap(bytes_, size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const void* bytes() const { return bytes_; }
  std::size_t size() const { return size_; }

 private:
  [[noreturn]] static void fail(const std::filesystem::path& path, int descriptor) {
    const int reason = errno;
    if (descriptor >= 0) ::close(descriptor);
    throw Error(reason == ENOENT ? ErrorCode::not_found : ErrorCode::io,
                fmt::format("'{}' cannot be opened: {}", path.string(), std::strerror(reason)));
  }

  void* bytes_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace

Model::Model(const std::filesystem::path& path) : path_(path) {
  const MappedFile file(path);
  const auto corrupt = [&](const std::string& why) {
    throw Error(ErrorCode::corrupt, fmt::format("'{}' is not a whole ONNX model: {}", path.string(), why));
  };
  // Protobuf's own limit; larger models keep their weights in files beside them.
  if (file.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) corrupt("it is larger than 2 GiB");
  google::protobuf::io::ArrayInputStream stream(file.bytes(), static_cast<int>(file.size()));
  if (!proto_.ParseFromZeroCopyStream(&stream))
    corrupt("its bytes do not decode; it was cut short or is another format");
  if (!proto_.has_graph()) corrupt("it holds no graph");
  if (proto_.opset_import().empty()) corrupt("it names no operator set; it was cut short or is another format");
  if (proto_.graph().output().empty()) corrupt("its graph has no outputs");
}

std::string Model::name() const {
  return proto_.graph().name().empty() ? path_.stem().string() : proto_.graph().name();
}

const ::onnx::FunctionProto* Model::function(std::string_view domain, std::string_view name) const {
  for (const auto& function : proto_.functions())
    if (function.domain() == domain && function.name() == name) return &function;
  return nullptr;
}

const Array& Model::array(const ::onnx::TensorProto& tensor) const {
  auto found = arrays_.find(&tensor);
  if (found == arrays_.end()) {
    // The tensor is a part of proto_, which only this class hands out, and only as const.
    auto& own = const_cast<::onnx::TensorProto&>(tensor);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    found = arrays_.emplace(&tensor, take_array(own, path_.parent_path())).first;
  }
  return found->second;
}

}  // namespace heddle::graph::onnx_import
