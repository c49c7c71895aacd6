#pragma once
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace heddle {

/// Bytes by key in a directory, a file each: written beside and renamed, checked when read, bounded in size (those used
/// least recently go first), safe between threads and processes. Several kinds may share a directory.
class FileCache {
 public:
  struct Kind {
    std::string extension;  ///< of its files, with the dot
    std::string format;     ///< what the bytes are and in which version: entries of another are as if damaged
  };

  FileCache(std::filesystem::path directory, Kind kind, std::uint64_t most_bytes);

  /// Nothing if there is no entry. Throws Error{corrupt} naming the file if it is not what was stored under this key;
  /// storing repairs it. `key`: 64 hexadecimal digits, as sha256() gives.
  std::optional<std::string> load(const std::string& key) const;
  /// Throws Error{io} with the system's reason.
  void store(const std::string& key, std::string_view bytes);

  std::filesystem::path path_of(const std::string& key) const;

 private:
  std::string header(const std::string& key, std::string_view bytes) const;
  void make_room(std::uint64_t written);
  enum class File { foreign, entry, abandoned };
  File file_of(const std::filesystem::path& path) const;

  std::filesystem::path directory_;
  Kind kind_;
  std::uint64_t most_bytes_;
  std::mutex eviction_;
  std::uint64_t since_count_ = 0;  ///< bytes written since the directory was last counted
  bool counted_ = false;
};

}  // namespace heddle
