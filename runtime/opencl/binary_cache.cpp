#include "runtime/opencl/binary_cache.hpp"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"

namespace heddle::runtime::gpu::opencl {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view first_line = "heddle opencl binary 1\n";
constexpr std::string_view extension = ".clbin";

/// A damaged binary can crash a driver, so it is preceded by a checksum of ours.
std::string seal(std::string_view binary) { return fmt::format("{}{}\n", first_line, sha256(binary)); }

/// Only what this cache could have written: a directory that was named by mistake loses nothing.
bool is_entry(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.size() == 64 + extension.size() && name.ends_with(extension) &&
         name.find_first_not_of("0123456789abcdef") == std::size_t{64};
}

}  // namespace

BinaryCache::BinaryCache(fs::path directory, std::uint64_t most_bytes)
    : directory_(std::move(directory)), most_bytes_(most_bytes) {}

fs::path BinaryCache::path_of(const std::string& key) const { return directory_ / (key + std::string(extension)); }

std::string BinaryCache::load(const std::string& key) const {
  if (directory_.empty()) return {};
  try {
    const std::string text = read_file(path_of(key));
    std::string binary = text.substr(std::min(text.size(), seal({}).size()));
    if (!text.starts_with(seal(binary))) return {};
    std::error_code ignored;
    fs::last_write_time(path_of(key), fs::file_time_type::clock::now(), ignored);
    return binary;
  } catch (const Error&) {
    return {};
  }
}

void BinaryCache::store(const std::string& key, std::string_view binary) const {
  if (directory_.empty() || binary.empty()) return;
  try {
    write_file(path_of(key), seal(binary) + std::string(binary));
    make_room();
  } catch (const Error&) {
    // A directory that cannot be written costs time at the next start and nothing else.
  }
}

void BinaryCache::make_room() const {
  struct Entry {
    fs::path path;
    fs::file_time_type used;
    std::uint64_t bytes;
  };
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  std::error_code code;
  for (auto it = fs::directory_iterator(directory_, code); !code && it != fs::directory_iterator();
       it.increment(code)) {
    if (!is_entry(it->path())) continue;
    std::error_code gone;
    const Entry entry = {it->path(), it->last_write_time(gone), it->file_size(gone)};
    if (gone) continue;
    entries.push_back(entry);
    total += entry.bytes;
  }
  std::ranges::sort(entries, {}, &Entry::used);
  for (const Entry& entry : entries) {
    if (total <= most_bytes_) break;
    std::error_code gone;
    if (fs::remove(entry.path, gone)) total -= entry.bytes;
  }
}

}  // namespace heddle::runtime::gpu::opencl
