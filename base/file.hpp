#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace heddle {

/// The whole file; throws Error{not_found} or Error{io} naming the path and the system's reason.
std::string read_file(const std::filesystem::path& path);

/// Writes beside `path` and renames over it, so that a reader sees the old file or the new one and never a part.
/// Creates the parent directories. Throws Error{io} with the system's reason (permissions, disk full) and leaves
/// nothing behind.
void write_file(const std::filesystem::path& path, std::string_view bytes);

std::string sha256(std::string_view bytes);  ///< 64 hexadecimal digits

/// A directory that exists while the object lives.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::filesystem::path& beside = std::filesystem::temp_directory_path());
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }
  void keep() { kept_ = true; }  ///< the directory was moved elsewhere: do not remove it

 private:
  std::filesystem::path path_;
  bool kept_ = false;
};

}  // namespace heddle
