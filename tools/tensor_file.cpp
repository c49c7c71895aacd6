#include "tools/tensor_file.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <regex>

#include <fmt/format.h>
#include <zip.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "graph/onnx/tensors.hpp"

namespace heddle::tools {
namespace {

constexpr std::string_view magic = "\x93NUMPY";

struct Descriptor {
  DType type;
  std::string_view text;
};
constexpr std::array descriptors = {
    Descriptor{DType::f32, "<f4"},  Descriptor{DType::f64, "<f8"}, Descriptor{DType::f16, "<f2"},
    Descriptor{DType::i8, "|i1"},   Descriptor{DType::u8, "|u1"},  Descriptor{DType::i16, "<i2"},
    Descriptor{DType::u16, "<u2"},  Descriptor{DType::i32, "<i4"}, Descriptor{DType::u32, "<u4"},
    Descriptor{DType::i64, "<i8"},  Descriptor{DType::u64, "<u8"}, Descriptor{DType::boolean, "|b1"},
    Descriptor{DType::bf16, "<u2"},
};

[[noreturn]] void fail(ErrorCode code, const std::string& name, const std::string& why) {
  throw Error(code, fmt::format("cannot read the tensor '{}': {}", name, why));
}

Array parse_npy(std::string_view bytes, const std::string& name) {
  if (bytes.size() < 10 || bytes.substr(0, magic.size()) != magic) fail(ErrorCode::corrupt, name, "not a .npy file");
  const bool wide = bytes[6] > 1;
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, wide ? 4 : 2);
  const std::size_t start = (wide ? 12 : 10) + std::size_t{length};
  if (bytes.size() < start) fail(ErrorCode::corrupt, name, "the header is cut short");
  const std::string header(bytes.substr(wide ? 12 : 10, length));
  std::smatch match;
  if (!std::regex_search(header, match, std::regex("'descr': *'([^']*)'")))
    fail(ErrorCode::unsupported, name, "only plain element types can be read");
  const std::string text = match[1];
  const auto row = std::find_if(descriptors.begin(), descriptors.end(), [&](const Descriptor& d) {
    return d.text.substr(1) == text.substr(1) && text[0] != '>';
  });
  if (row == descriptors.end())
    fail(ErrorCode::unsupported, name,
         fmt::format("element type '{}'; save it little endian, as f32 or i64 for example", text));
  if (header.find("'fortran_order': True") != std::string::npos)
    fail(ErrorCode::unsupported, name, "Fortran order; save numpy.ascontiguousarray(x)");
  if (!std::regex_search(header, match, std::regex("'shape': *\\(([^)]*)\\)")))
    fail(ErrorCode::corrupt, name, "the header has no shape");
  Shape shape;
  const std::string extents = match[1];
  const std::regex digits("[0-9]+");
  for (auto it = std::sregex_iterator(extents.begin(), extents.end(), digits); it != std::sregex_iterator(); ++it)
    shape.push_back(std::stoll(it->str()));
  Array array(row->type, shape);
  if (bytes.size() - start != array.bytes())
    fail(
        ErrorCode::corrupt, name,
        fmt::format("{} bytes of data where shape {} needs {}", bytes.size() - start, to_string(shape), array.bytes()));
  if (array.bytes() > 0) std::memcpy(array.mutable_data(), bytes.data() + start, array.bytes());
  return array;
}

}  // namespace

Array read_tensor(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  if (std::string_view(bytes).substr(0, magic.size()) == magic) return parse_npy(bytes, path.string());
  if (path.extension() == ".pb") {
    onnx::TensorProto tensor;
    if (!tensor.ParseFromString(bytes)) fail(ErrorCode::corrupt, path.string(), "not an ONNX TensorProto");
    return graph::onnx_import::take_array(tensor, path.parent_path());
  }
  fail(ErrorCode::unsupported, path.string(), "neither .npy nor an ONNX .pb file");
}

std::map<std::string, Array> read_npz(const std::filesystem::path& path) {
  int code = 0;
  const std::unique_ptr<zip_t, void (*)(zip_t*)> archive(zip_open(path.c_str(), ZIP_RDONLY, &code), zip_discard);
  if (!archive) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string why = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw Error(code == ZIP_ER_NOENT ? ErrorCode::not_found : ErrorCode::corrupt,
                fmt::format("cannot read '{}': {}", path.string(), why));
  }
  std::map<std::string, Array> arrays;
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    if (zip_stat_index(archive.get(), static_cast<zip_uint64_t>(i), 0, &stat) != 0)
      throw Error(ErrorCode::corrupt, fmt::format("'{}' is damaged", path.string()));
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(
        zip_fopen_index(archive.get(), static_cast<zip_uint64_t>(i), 0), zip_fclose);
    std::string bytes(stat.size, '\0');
    if (!file || zip_fread(file.get(), bytes.data(), bytes.size()) != static_cast<zip_int64_t>(bytes.size()))
      throw Error(ErrorCode::corrupt, fmt::format("'{}' is damaged at '{}'", path.string(), stat.name));
    std::string name = stat.name;
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    arrays.emplace(name, parse_npy(bytes, fmt::format("{}:{}", path.string(), name)));
  }
  return arrays;
}

void write_npy(const std::filesystem::path& path, const Array& array) {
  const auto row = std::find_if(descriptors.begin(), descriptors.end(),
                                [&](const Descriptor& d) { return d.type == array.dtype(); });
  std::string extents;
  for (const std::int64_t extent : array.shape()) extents += std::to_string(extent) + ", ";
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", row->text, extents);
  header.append(63 - (10 + header.size()) % 64, ' ');  // the data starts at a multiple of 64
  header += '\n';
  std::string bytes(magic);
  bytes += {'\x01', '\x00', static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
  bytes += header;
  bytes.append(static_cast<const char*>(array.data()), array.bytes());
  write_file(path, bytes);
}

std::string file_name(const std::string& tensor) {
  std::string name = tensor;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

}  // namespace heddle::tools
