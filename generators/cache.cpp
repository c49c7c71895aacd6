#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <unordered_map>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/kernel.hpp"

namespace heddle {
namespace {

namespace fs = std::filesystem;

// An entry is one line of header and the object. The header repeats the key, so that a file under a wrong name is not
// taken for the kernel, and holds the object's checksum.
std::string header(const std::string& key, const std::string& object) {
  return fmt::format("heddle kernel {} {} {}\n", key, sha256(object), object.size());
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// The object of an intact entry, or nothing.
std::optional<std::string> read_entry(const fs::path& path, const std::string& key) {
  std::string bytes;
  try {
    bytes = read_file(path);
  } catch (const Error&) {
    return std::nullopt;  // not there, or evicted by another process just now
  }
  const std::size_t end = bytes.find('\n');
  if (end != std::string::npos) {
    std::string object = bytes.substr(end + 1);
    if (bytes.compare(0, end + 1, header(key, object)) == 0) return object;
  }
  spdlog::warn("the kernel cache's entry '{}' is damaged; compiling it anew", path.string());
  return std::nullopt;
}

/// Only what this cache could have written: a directory that was named by mistake loses nothing.
bool is_entry(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.size() >= 66 && name.compare(64, 2, ".o") == 0 &&
         name.find_first_not_of("0123456789abcdef") == std::size_t{64};
}

}  // namespace

fs::path KernelCache::default_directory() {
  if (const auto given = variable("HEDDLE_CACHE"); !given.empty()) return given;
  if (const auto caches = variable("XDG_CACHE_HOME"); !caches.empty()) return fs::path(caches) / "heddle";
  if (const auto home = variable("HOME"); !home.empty()) return fs::path(home) / ".cache" / "heddle";
  return fs::temp_directory_path() / fmt::format("heddle-{}", ::getuid());
}

KernelCache::KernelCache(fs::path directory, std::uint64_t most_bytes)
    : directory_(std::move(directory)), most_bytes_(most_bytes) {}

std::string KernelCache::get(const KernelRequest& request) {
  const std::string key = kernel_key(request);
  const fs::path path = directory_ / key.substr(0, 2) / (key + ".o");
  if (auto object = read_entry(path, key)) {
    ++hits_;
    std::error_code ignored;
    fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);  // evicted last
    return std::move(*object);
  }
  ++misses_;
  std::string object = compile_object(request);
  const std::string entry = header(key, object) + object;
  try {
    write_file(path, entry);
    make_room(entry.size());
  } catch (const Error& error) {
    if (!warned_.exchange(true))
      spdlog::warn("kernels are not cached: {}; set HEDDLE_CACHE to a directory that can be written", error.what());
  }
  return object;
}

void KernelCache::make_room(std::uint64_t written) {
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
    if (!is_entry(it->path()) || !it->is_regular_file(gone)) continue;
    const auto bytes = it->file_size(gone);
    const auto used = it->last_write_time(gone);
    if (gone) continue;
    // The end of a name: a file that a process began and never renamed.
    if (it->path().extension() != ".o") {
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
  for (const auto& entry : entries) {
    // A little below the limit, so that the next write need not clear up again.
    if (total <= most_bytes_ - most_bytes_ / 16) break;
    std::error_code gone;
    if (fs::remove(entry.path, gone)) total -= entry.bytes;
  }
}

std::vector<std::string> compile_all(const std::vector<KernelRequest>& requests, KernelCache& cache, int jobs,
                                     const std::function<void(int, int)>& progress) {
  std::vector<std::string> keys(requests.size());
  std::unordered_map<std::string, std::string> objects;
  std::vector<const KernelRequest*> distinct;
  const auto explain = [](const KernelRequest& request, const Error& error) {
    return error.within(fmt::format("kernel '{}' for {}", request.workload->name(), request.target.name));
  };
  for (std::size_t i = 0; i < requests.size(); ++i) {
    try {
      keys[i] = kernel_key(requests[i]);
    } catch (const Error& error) {
      throw explain(requests[i], error);
    }
    if (objects.try_emplace(keys[i]).second) distinct.push_back(&requests[i]);
  }

  std::mutex mutex;
  std::size_t next = 0;
  int done = 0;
  const int total = static_cast<int>(distinct.size());
  std::exception_ptr failure;
  const auto work = [&] {
    while (true) {
      const KernelRequest* request = nullptr;
      {
        const std::lock_guard lock(mutex);
        if (failure || next == distinct.size()) return;
        request = distinct[next++];
      }
      try {
        std::string object = cache.get(*request);
        const std::string key = kernel_key(*request);
        const std::lock_guard lock(mutex);
        objects[key] = std::move(object);
        ++done;
        if (progress && !failure) progress(done, total);
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::make_exception_ptr(explain(*request, error));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  if (progress) progress(0, total);
  {
    std::vector<std::jthread> workers;
    for (int i = 1; i < std::min(jobs, total); ++i) workers.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);

  std::vector<std::string> results;
  for (const auto& key : keys) results.push_back(objects.at(key));
  return results;
}

}  // namespace heddle
