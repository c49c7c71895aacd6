#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace heddle::runtime::gpu::opencl {

/// The drivers' binaries in a directory, a file each, safe between processes. Nothing here fails: without an entry the
/// program is built from its source.
class BinaryCache {
 public:
  /// Empty: nothing is kept. With more than `most_bytes` of entries, those used least recently go.
  explicit BinaryCache(std::filesystem::path directory, std::uint64_t most_bytes = std::uint64_t{1} << 29);

  /// Empty if there is no entry, or it is damaged. `key` is what sha256() gives.
  std::string load(const std::string& key) const;
  /// An empty binary is not kept.
  void store(const std::string& key, std::string_view binary) const;

 private:
  std::filesystem::path path_of(const std::string& key) const;
  void make_room() const;

  std::filesystem::path directory_;
  std::uint64_t most_bytes_;
};

}  // namespace heddle::runtime::gpu::opencl
