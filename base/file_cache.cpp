#include "base/file_cache.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"

namespace heddle {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t key_digits = 64;

}  // namespace

FileCache::FileCache(fs::path directory, Kind kind, std::uint64_t most_bytes)
    : directory_(std::move(directory)), kind_(std::move(kind)), most_bytes_(most_bytes) {}

// Directories of ten thousand files are slow to list on some file systems.
fs::path FileCache::path_of(const std::string& key) const {
  return directory_ / key.substr(0, 2) / (key + kind_.extension);
}

// The header repeats the key, so that a file under a wrong name is not taken for the entry.
std::string FileCache::header(const std::string& key, std::string_view bytes) const {
  return fmt::format("heddle {} {} {} {}\n", kind_.format, key, sha256(bytes), bytes.size());
}

std::optional<std::string> FileCache::load(const std::string& key) const {
  const fs::path path = path_of(key);
  std::string file;
  try {
    file = read_file(path);
  } catch (const Error&) {
    return std::nullopt;  // not there, or evicted by another process just now
  }
  const std::size_t end = std::min(file.find('\n'), file.size());
  const std::string_view bytes = std::string_view(file).substr(std::min(end + 1, file.size()));
  if (std::string_view(file).substr(0, file.size() - bytes.size()) != header(key, bytes))
    throw Error(ErrorCode::corrupt, fmt::format("the cache's entry '{}' is damaged", path.string()));
  std::error_code ignored;
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);  // evicted last
  return std::string(bytes);
}

void FileCache::store(const std::string& key, std::string_view bytes) {
  std::string file = header(key, bytes);
  file += bytes;
  write_file(path_of(key), file);
  make_room(file.size());
}

/// Only what this cache could have written: a directory that was named by mistake loses nothing.
FileCache::File FileCache::file_of(const fs::path& path) const {
  const std::string name = path.filename().string();
  const std::size_t entry_length = key_digits + kind_.extension.size();
  if (name.size() < entry_length || name.compare(key_digits, kind_.extension.size(), kind_.extension) != 0 ||
      name.find_first_not_of("0123456789abcdef") != key_digits)
    return File::foreign;
  // A longer name is a file that a process began and has not renamed.
  return name.size() == entry_length ? File::entry : File::abandoned;
}

void FileCache::make_room(std::uint64_t written) {
  // Other processes write too: what is there is counted anew after some writing, and always before anything is removed.
  const std::lock_guard lock(eviction_);
  since_count_ += written;
  if (counted_ && since_count_ < most_bytes_ / 64) return;
  struct Entry {
    fs::path path;
    fs::file_time_type used;
    std::uint64_t bytes;
  };
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  const auto now = fs::file_time_type::clock::now();
  std::error_code code;
  for (auto it = fs::recursive_directory_iterator(directory_, code); !code && it != fs::recursive_directory_iterator();
       it.increment(code)) {
    std::error_code gone;
    const File file = file_of(it->path());
    if (file == File::foreign || !it->is_regular_file(gone)) continue;
    const auto bytes = it->file_size(gone);
    const auto used = it->last_write_time(gone);
    if (gone) continue;
    if (file == File::abandoned) {
      if (now - used > std::chrono::hours(1)) fs::remove(it->path(), gone);
      continue;
    }
    entries.push_back({it->path(), used, bytes});
    total += bytes;
  }
  counted_ = true;
  since_count_ = 0;
  if (total <= most_bytes_) return;
  std::ranges::sort(entries, {}, &Entry::used);
  for (const Entry& entry : entries) {
    // A little below the limit, so that the next write need not clear up again.
    if (total <= most_bytes_ - most_bytes_ / 16) break;
    std::error_code gone;
    if (fs::remove(entry.path, gone)) total -= entry.bytes;
  }
}

}  // namespace heddle
