
#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/cache_directory.hpp"
#include "base/error.hpp"
#include "generators/kernel_bytes.hpp"

namespace heddle {
namespace {

namespace fs = std::filesystem;

Json::binary_t binary(const std::string& bytes) { return Json::binary_t({bytes.begin(), bytes.end()}); }
std::string text(const Json& json) {
  const auto& bytes = json.get_binary();
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::string to_bytes(const CompiledKernel& kernel) {
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

CompiledKernel kernel_from_bytes(const std::string& bytes) {
  CompiledKernel kernel;
  const Json json = Json::from_msgpack(bytes);
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

fs::path KernelCache::default_directory() { return cache_directory(); }

KernelCache::KernelCache(fs::path directory, std::uint64_t most_bytes)
    : files_(std::move(directory), {.extension = ".o", .format = "kernel 2"}, most_bytes) {}

std::optional<CompiledKernel> KernelCache::find(const std::string& key) const {
  try {
    if (const auto bytes = files_.load(key)) return kernel_from_bytes(*bytes);
    return std::nullopt;
  } catch (const Error& error) {
    spdlog::warn("{}; compiling it anew", error.what());
  } catch (const Json::exception&) {
    // Whoever wrote it had other ideas of what a kernel is, and its checksum covers them.
    spdlog::warn("the cache's entry '{}' holds no kernel; compiling it anew", files_.path_of(key).string());
  }
  return std::nullopt;
}

CompiledKernel KernelCache::get(const KernelRequest& request) {
  const std::string key = kernel_key(request);
  if (auto kernel = find(key)) {
    ++hits_;
    return std::move(*kernel);
  }
  ++misses_;
  CompiledKernel kernel = compile_kernel(request);
  try {
    files_.store(key, to_bytes(kernel));
  } catch (const Error& error) {
    if (!warned_.exchange(true))
      spdlog::warn("kernels are not cached: {}; set HEDDLE_CACHE to a directory that can be written", error.what());
  }
  return kernel;
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
