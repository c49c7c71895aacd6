#pragma once
#include <filesystem>
#include <map>
#include <string>

#include "base/array.hpp"

namespace heddle::tools {

/// Reads a tensor from .npy or ONNX .pb (by content). Throws Error{corrupt} or {unsupported} naming the file.
Array read_tensor(const std::filesystem::path& path);

/// Every array of an .npz file by name.
std::map<std::string, Array> read_npz(const std::filesystem::path& path);

/// Writes .npy (version 1.0, little endian, C order), atomically. bf16 is written as its 16 raw bits (`<u2`).
void write_npy(const std::filesystem::path& path, const Array& array);

/// "a/b:0" -> "a_b:0": a tensor's name as a file's name.
std::string file_name(const std::string& tensor);

}  // namespace heddle::tools
