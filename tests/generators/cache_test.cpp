#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include <Halide.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "tests/generators/support.hpp"

using namespace heddle;
using namespace heddle::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

std::vector<fs::path> files_in(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

}  // namespace

TEST_CASE("The cache gives back what it was given, also to another process's cache") {
  const TemporaryDirectory directory;
  const Workload workload = product_workload(4, 4, 16);
  const KernelRequest r = request(workload, tiled);
  KernelCache cache(directory.path() / "new" / "cache");
  const std::string object = cache.get(r).object;
  CHECK(cache.get(r).object == object);
  CHECK(cache.misses() == 1);
  CHECK(cache.hits() == 1);
  KernelCache second(directory.path() / "new" / "cache");
  CHECK(second.get(r).object == object);
  CHECK(second.hits() == 1);
  CHECK(files_in(directory.path()).size() == 1);
}

TEST_CASE("Damaged cache entries are compiled anew and repaired") {
  const TemporaryDirectory directory;
  const Workload workload = product_workload(4, 4, 16), other = product_workload(4, 4, 32);
  const KernelRequest r = request(workload, tiled);
  const std::string object = KernelCache(directory.path()).get(r).object;
  const fs::path entry = files_in(directory.path()).at(0);
  const std::string intact = read_file(entry);

  const auto damage = [&](const std::string& bytes) {
    write_file(entry, bytes);
    KernelCache cache(directory.path());
    CHECK(cache.get(r).object == object);
    CHECK(cache.misses() == 1);
    CHECK(read_file(entry) == intact);
  };
  damage("");
  damage(intact.substr(0, 20));
  damage(intact.substr(0, intact.size() - 1));
  damage(intact + "x");
  std::string flipped = intact;
  flipped[intact.size() / 2] ^= 1;
  damage(flipped);

  // An intact entry of another kernel under this one's name.
  KernelCache(directory.path()).get(request(other, tiled));
  for (const auto& file : files_in(directory.path()))
    if (file != entry) damage(read_file(file));
}

TEST_CASE("The cache stays within its bound and forgets what was used least recently") {
  const TemporaryDirectory directory;
  std::vector<Workload> workloads;
  for (int i = 1; i <= 6; ++i) workloads.push_back(product_workload(i, 4, 16));
  std::uint64_t one = 0;
  {
    KernelCache cache(directory.path());
    cache.get(request(workloads[0], tiled));
    one = fs::file_size(files_in(directory.path()).at(0));
  }
  const std::uint64_t most = one * 7 / 2;
  write_file(directory.path() / "notes.txt",
             std::string(one * 10, 'x'));  // not the cache's: neither counted nor removed
  KernelCache cache(directory.path(), most);
  for (int i = 1; i < 6; ++i) {
    cache.get(request(workloads[static_cast<std::size_t>(i)], tiled));
    cache.get(request(workloads[0], tiled));  // keeps the first one fresh
    std::uint64_t total = 0;
    for (const auto& file : files_in(directory.path()))
      if (file.extension() == ".o") total += fs::file_size(file);
    CHECK(total <= most);
  }
  CHECK(fs::exists(directory.path() / "notes.txt"));
  const int misses = cache.misses();
  cache.get(request(workloads[0], tiled));
  cache.get(request(workloads[5], tiled));
  CHECK(cache.misses() == misses);
  cache.get(request(workloads[1], tiled));
  CHECK(cache.misses() == misses + 1);
}

TEST_CASE("A cache that cannot be written still compiles") {
  const TemporaryDirectory directory;
  write_file(directory.path() / "file", "");
  const Workload workload = product_workload(4, 4, 16);
  KernelCache cache(directory.path() / "file" / "cache");  // a directory cannot be made inside a file, even by root
  CHECK(cache.get(request(workload, tiled)).object == compile_kernel(request(workload, tiled)).object);
  CHECK(cache.get(request(workload, tiled)).object == compile_kernel(request(workload, tiled)).object);
  CHECK(cache.misses() == 2);
}

TEST_CASE("Two processes share a cache", "[slow]") {
  const TemporaryDirectory directory;
  std::vector<Workload> workloads;
  std::vector<std::string> objects;
  for (int i = 1; i <= 4; ++i) {
    workloads.push_back(product_workload(i, 4, 16));
    objects.push_back(compile_kernel(request(workloads.back(), tiled)).object);
  }
  const auto work = [&](bool backwards) {
    bool good = true;
    for (int round = 0; round < 3; ++round) {
      KernelCache cache(directory.path(), objects[0].size() * 5 / 2);  // small: they evict each other's entries
      for (std::size_t i = 0; i < objects.size(); ++i) {
        const std::size_t which = backwards ? objects.size() - 1 - i : i;
        good = good && cache.get(request(workloads[which], tiled)).object == objects[which];
      }
    }
    return good;
  };
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work(true) ? 0 : 1);
  CHECK(work(false));
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("The cache's directory follows the environment") {
  const auto saved = [](const char* name) {
    return std::string(std::getenv(name) != nullptr ? std::getenv(name) : "");
  };
  const std::string home = saved("HOME"), xdg = saved("XDG_CACHE_HOME"), own = saved("HEDDLE_CACHE");
  ::unsetenv("HEDDLE_CACHE");
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", "/home/someone", 1);
  CHECK(KernelCache::default_directory() == "/home/someone/.cache/heddle");
  ::setenv("XDG_CACHE_HOME", "/caches", 1);
  CHECK(KernelCache::default_directory() == "/caches/heddle");
  ::setenv("HEDDLE_CACHE", "/mine", 1);
  CHECK(KernelCache::default_directory() == "/mine");
  for (const auto& [name, value] : {std::pair{"HOME", home}, {"XDG_CACHE_HOME", xdg}, {"HEDDLE_CACHE", own}}) {
    if (value.empty()) ::unsetenv(name);
    else ::setenv(name, value.c_str(), 1);
  }
}

TEST_CASE("compile_all compiles each distinct kernel once and keeps the order") {
  const TemporaryDirectory directory;
  KernelCache cache(directory.path());
  const Workload a = product_workload(4, 4, 16), b = product_workload(4, 4, 32);
  const std::vector<KernelRequest> requests = {request(a, tiled), request(b, tiled), request(a, tiled), request(a, "")};
  std::vector<std::pair<int, int>> seen;
  const auto objects = compile_all(requests, cache, 2, [&](int done, int total) { seen.emplace_back(done, total); });
  CHECK(cache.misses() == 3);
  REQUIRE(objects.size() == 4);
  CHECK(objects[0] == objects[2]);
  for (std::size_t i = 0; i < 4; ++i) CHECK(objects[i].object.find(kernel_symbol(requests[i])) != std::string::npos);
  CHECK(seen == std::vector<std::pair<int, int>>{{0, 3}, {1, 3}, {2, 3}, {3, 3}});
  CHECK(compile_all({}, cache, 2).empty());
}

TEST_CASE("compile_all stops at the first error and names the kernel") {
  const TemporaryDirectory directory;
  KernelCache cache(directory.path());
  const Workload good = product_workload(4, 4, 16);
  // Refused when its key is made, and when it is compiled.
  CHECK_THROWS_WITH(compile_all({request(good, tiled), request(good, "acc.compute_at(out, z)")}, cache, 2),
                    Contains("kernel 'product'") && Contains("'z'"));
  CHECK_THROWS_WITH(
      compile_all({request(good, "acc.compute_at(out, y).store_at(out, x)"), request(good, tiled)}, cache, 1),
      Contains("kernel 'product'") && Contains("acc"));
  CHECK(cache.misses() == 1);  // nothing was begun after the error
}
