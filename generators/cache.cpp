
#include <algorithm>
#include <chrono>
#include <thread>
#include <unordered_map>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/cache_directory.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/kernel.hpp"

namespace heddle {
namespace {

namespace fs = std::filesystem;

// An entry is one line of header and the kernel as MessagePack. The header repeats the key, so that a file under a
// wrong name is not taken for the kernel, and holds the checksum of what follows.
std::string header(const std::string& key, const std::string& body) {
  return fmt::format("heddle kernel 2 {} {} {}\n", key, sha256(body), body.size());
}

Json::binary_t binary(const std::string& bytes) { return Json::binary_t({bytes.begin(), bytes.end()}); }
std::string text(const Json& json) {
  const auto& bytes = json.get_binary();
  return {bytes.begin(), bytes.end()};
}

std::string pack(const CompiledKernel& kernel) {
  Json entries = Json::array();
  for (const auto& e : kernel.device.entries) {
    Json shared = Json::array();
    for (const auto& s : e.shared) shared.push_back(Json::array({s.constant, s.element_bytes, s.elements}));
    entries.push_back(
        Json::array({e.name, binary(e.code), e.uniform_block, e.access, e.block_constants, std::move(shared)}));
  }
  const auto bytes = Json::to_msgpack(Json::array(
      {std::string(to_string(kernel.device.api)), binary(kernel.device.source), entries, binary(kernel.object)}));
  return {bytes.begin(), bytes.end()};
}

CompiledKernel unpack(const std::string& body) {
  CompiledKernel kernel;
  const Json json = Json::from_msgpack(body);
  kernel.device.api = device_api_from_string(json.at(0).get<std::string>());
  kernel.device.source = text(json.at(1));
  for (const Json& e : json.at(2)) {
    targets::DeviceEntry entry{e.at(0), text(e.at(1)), e.at(2), e.at(3), e.at(4), {}};
    for (const Json& s : e.at(5)) entry.shared.push_back({s.at(0), s.at(1), s.at(2)});
    kernel.device.entries.push_back(std::move(entry));
  }
  kernel.object = text(json.at(3));
  return kernel;
}

/// The kernel of an intact entry, or nothing.
std::optional<CompiledKernel> read_entry(const fs::path& path, const std::string& key) {
  std::string bytes;
  try {
    bytes = read_file(path);
  } catch (const Error&) {
    return std::nullopt;  // not there, or evicted by another process just now
  }
  const std::size_t end = bytes.find('\n');
  if (end != std::string::npos) {
    const std::string body = bytes.substr(end + 1);
    try {
      if (bytes.compare(0, end + 1, header(key, body)) == 0) return unpack(body);
    } catch (const Json::exception&) {
      // Whoever wrote it had other ideas of what a kernel is, and its checksum covers them.
    } catch (const Error&) {
    }
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

fs::path KernelCache::default_directory() { return cache_directory(); }

KernelCache::KernelCache(fs::path directory, std::uint64_t most_bytes)
    : directory_(std::move(directory)), most_bytes_(most_bytes) {}

CompiledKernel KernelCache::get(const KernelRequest& request) {
  const std::string key = kernel_key(request);
  const fs::path path = directory_ / key.substr(0, 2) / (key + ".o");
  if (auto kernel = read_entry(path, key)) {
    ++hits_;
    std::error_code ignored;
    fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);  // evicted last
    return std::move(*kernel);
  }
  ++misses_;
  CompiledKernel kernel = compile_kernel(request);
  const std::string body = pack(kernel);
  const std::string entry = header(key, body) + body;
  try {
    write_file(path, entry);
    make_room(entry.size());
  } catch (const Error& error) {
    if (!warned_.exchange(true))
      spdlog::warn("kernels are not cached: {}; set HEDDLE_CACHE to a directory that can be written", error.what());
  }
  return kernel;
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

std::vector<CompiledKernel> compile_all(const std::vector<KernelRequest>& requests, KernelCache& cache, int jobs,
                                        const std::function<void(int, int)>& progress) {
  std::vector<std::string> keys(requests.size());
  std::unordered_map<std::string, CompiledKernel> kernels;
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
    if (kernels.try_emplace(keys[i]).second) distinct.push_back(&requests[i]);
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
        CompiledKernel kernel = cache.get(*request);
        const std::string key = kernel_key(*request);
        const std::lock_guard lock(mutex);
        kernels[key] = std::move(kernel);
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

  std::vector<CompiledKernel> results;
  for (const auto& key : keys) results.push_back(kernels.at(key));
  return results;
}

}  // namespace heddle
