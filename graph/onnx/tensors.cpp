#include "graph/onnx/tensors.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <system_error>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::graph::onnx_import {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian");

[[noreturn]] void corrupt(const ::onnx::TensorProto& tensor, const std::string& what) {
  throw Error(ErrorCode::corrupt, fmt::format("tensor '{}' {}", tensor.name(), what));
}

/// Values that ONNX keeps one a 32- or 64-bit field, narrowed to the element type.
template <class T, class Field>
void copy_field(const Field& field, Array& array) {
  auto* to = static_cast<T*>(array.mutable_data());
  for (int i = 0; i < field.size(); ++i) to[i] = static_cast<T>(field[i]);
}

void copy_typed(const ::onnx::TensorProto& tensor, Array& array) {
  switch (array.dtype()) {
    case DType::f32: return copy_field<float>(tensor.float_data(), array);
    case DType::f64: return copy_field<double>(tensor.double_data(), array);
    case DType::i64: return copy_field<std::int64_t>(tensor.int64_data(), array);
    case DType::u64: return copy_field<std::uint64_t>(tensor.uint64_data(), array);
    case DType::u32: return copy_field<std::uint32_t>(tensor.uint64_data(), array);
    case DType::i32: return copy_field<std::int32_t>(tensor.int32_data(), array);
    case DType::i16: return copy_field<std::int16_t>(tensor.int32_data(), array);
    case DType::u16:
    case DType::f16:
    case DType::bf16: return copy_field<std::uint16_t>(tensor.int32_data(), array);
    case DType::i8: return copy_field<std::int8_t>(tensor.int32_data(), array);
    case DType::u8:
    case DType::boolean: return copy_field<std::uint8_t>(tensor.int32_data(), array);
    case DType::string: break;
  }
  throw Error(ErrorCode::unsupported, fmt::format("tensor '{}' holds strings", tensor.name()));
}

int typed_count(const ::onnx::TensorProto& tensor, DType dtype) {
  switch (dtype) {
    case DType::f32: return tensor.float_data_size();
    case DType::f64: return tensor.double_data_size();
    case DType::i64: return tensor.int64_data_size();
    case DType::u64:
    case DType::u32: return tensor.uint64_data_size();
    default: return tensor.int32_data_size();
  }
}

Array read_external(const ::onnx::TensorProto& tensor, const std::filesystem::path& directory, DType dtype,
                    Shape shape) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(element_count(shape)) * size_of(dtype);
  std::string location;
  std::uint64_t offset = 0, length = bytes;
  for (const auto& entry : tensor.external_data()) {
    try {
      if (entry.key() == "location") location = entry.value();
      else if (entry.key() == "offset") offset = std::stoull(entry.value());
      else if (entry.key() == "length") length = std::stoull(entry.value());
    } catch (const std::exception&) {
      corrupt(tensor, fmt::format("has an external {} '{}' that is not a number", entry.key(), entry.value()));
    }
  }
  // A model from elsewhere must not make us read files outside of its folder.
  const std::filesystem::path relative = std::filesystem::path(location).lexically_normal();
  if (relative.empty() || relative.is_absolute() || *relative.begin() == "..")
    corrupt(tensor, fmt::format("keeps its data in '{}', which is not inside the model's folder", location));
  if (length != bytes)
    corrupt(tensor, fmt::format("has {} bytes of external data for {} {}", length, to_string(dtype), to_string(shape)));
  const std::filesystem::path path = directory / relative;
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Error(ErrorCode::not_found,
                fmt::format("external data '{}' of tensor '{}' cannot be opened: {}. Put it beside the model.",
                            path.string(), tensor.name(), std::strerror(errno)));
  std::error_code error;
  const std::uint64_t available = std::filesystem::file_size(path, error);
  if (error || offset > available || length > available - offset)
    corrupt(tensor, fmt::format("needs {} bytes at {} of '{}', which is shorter", length, offset, path.string()));
  Array array(dtype, std::move(shape));
  file.seekg(static_cast<std::streamoff>(offset));
  if (!file.read(static_cast<char*>(array.mutable_data()), static_cast<std::streamsize>(length)))
    throw Error(ErrorCode::io, fmt::format("'{}' cannot be read: {}", path.string(), std::strerror(errno)));
  return array;
}

/// Sizes are compared before anything is allocated.
Array take_plain(::onnx::TensorProto& tensor, const std::filesystem::path& directory, DType dtype, Shape shape) {
  const std::int64_t count = element_count(shape);
  if (tensor.data_location() == ::onnx::TensorProto::EXTERNAL)
    return read_external(tensor, directory, dtype, std::move(shape));
  if (tensor.has_raw_data()) {
    if (tensor.raw_data().size() != static_cast<std::size_t>(count) * size_of(dtype))
      corrupt(tensor,
              fmt::format("has {} bytes for {} {}", tensor.raw_data().size(), to_string(dtype), to_string(shape)));
    Array array(dtype, std::move(shape));
    const std::unique_ptr<std::string> bytes(tensor.release_raw_data());
    if (!bytes->empty()) std::memcpy(array.mutable_data(), bytes->data(), bytes->size());
    return array;
  }
  if (typed_count(tensor, dtype) != count)
    corrupt(tensor, fmt::format("has {} elements for shape {}", typed_count(tensor, dtype), to_string(shape)));
  Array array(dtype, std::move(shape));
  copy_typed(tensor, array);
  return array;
}

/// Two numbers of 4 bits a byte, the low ones first, as one each.
Array unpacked(const Array& packed, DType dtype, Shape shape) {
  Array array(dtype, std::move(shape));
  const auto from = packed.as<std::uint8_t>();
  auto* to = static_cast<std::uint8_t*>(array.mutable_data());
  const int sign = dtype == DType::i8 ? 8 : 0;
  for (std::int64_t i = 0; i < array.size(); ++i) {
    const int bits = from[static_cast<std::size_t>(i / 2)] >> i % 2 * 4 & 15;
    to[i] = static_cast<std::uint8_t>((bits ^ sign) - sign);
  }
  return array;
}

}  // namespace

DType dtype_of(int onnx_type) {
  using Type = ::onnx::TensorProto;
  switch (onnx_type) {
    case Type::FLOAT: return DType::f32;
    case Type::DOUBLE: return DType::f64;
    case Type::FLOAT16: return DType::f16;
    case Type::BFLOAT16: return DType::bf16;
    case Type::INT8: return DType::i8;
    case Type::UINT8: return DType::u8;
    case Type::INT16: return DType::i16;
    case Type::UINT16: return DType::u16;
    case Type::INT32: return DType::i32;
    case Type::UINT32: return DType::u32;
    case Type::INT64: return DType::i64;
    case Type::UINT64: return DType::u64;
    case Type::BOOL: return DType::boolean;
    case Type::STRING: return DType::string;
    default:
      throw Error(
          ErrorCode::unsupported,
          fmt::format("element type {} is not supported",
                      ::onnx::TensorProto_DataType_IsValid(onnx_type)
                          ? ::onnx::TensorProto_DataType_Name(static_cast<::onnx::TensorProto_DataType>(onnx_type))
                          : std::to_string(onnx_type)));
  }
}

bool has_four_bits(int onnx_type) {
  return onnx_type == ::onnx::TensorProto::INT4 || onnx_type == ::onnx::TensorProto::UINT4;
}

Array take_array(::onnx::TensorProto& tensor, const std::filesystem::path& directory) {
  Shape shape;
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.dims()) {
    // Before anything is allocated: a damaged shape must not ask for terabytes.
    if (extent < 0 || (extent > 0 && count > (std::int64_t(1) << 40) / extent))
      corrupt(tensor,
              fmt::format("has an impossible shape {}", to_string(Shape(tensor.dims().begin(), tensor.dims().end()))));
    count *= extent;
    shape.push_back(extent);
  }
  if (has_four_bits(tensor.data_type())) {
    const Array packed = take_plain(tensor, directory, DType::u8, {(count + 1) / 2});
    const bool is_signed = tensor.data_type() == ::onnx::TensorProto::INT4;
    return unpacked(packed, is_signed ? DType::i8 : DType::u8, std::move(shape));
  }
  const DType dtype = dtype_of(tensor.data_type());
  if (dtype == DType::string)
    throw Error(ErrorCode::unsupported, fmt::format("tensor '{}' holds strings", tensor.name()));
  return take_plain(tensor, directory, dtype, std::move(shape));
}

}  // namespace heddle::graph::onnx_import
