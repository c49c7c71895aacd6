#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "graph/compile.hpp"
#include "graph/weights.hpp"
#include "runtime/model.hpp"
#include "tests/graph/model_builder.hpp"

namespace heddle::graph {
namespace {

namespace fs = std::filesystem;

/// A package without kernels: what it holds is of no consequence here.
Compiled compiled(const std::string& weights = "weights") {
  Compiled c;
  c.package.model = "model";
  plan::Module module;
  module.target = "t";
  module.file = "cpu/t.so";
  module.weights = "cpu/t.weights";
  c.package.modules.push_back(module);
  c.files = {{module.file, "shared object"}, {module.weights, weights}};
  for (const auto& [path, bytes] : c.files) c.package.files.push_back({path, plan::checksum(bytes), bytes.size()});
  return c;
}

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST_CASE("a package is written whole and replaced whole") {
  const TemporaryDirectory directory;
  const fs::path target = directory.path() / "deep" / "package";
  write_package(compiled("old"), target);
  CHECK(read_file(target / "cpu/t.weights") == "old");
  write_package(compiled("new"), target.string() + "/");
  CHECK(read_file(target / "cpu/t.weights") == "new");
  CHECK(plan::from_json(read_file(target / "manifest.json")).modules[0].target == "t");
  CHECK(entries(directory.path() / "deep") == 1);
  // Readable by others as far as the umask lets it.
  struct stat status{};
  REQUIRE(::stat(target.c_str(), &status) == 0);
  CHECK((status.st_mode & 0500) == 0500);
  const auto mask = ::umask(0);
  ::umask(mask);
  CHECK((status.st_mode & 0777) == (0777 & ~mask));
}

TEST_CASE("an empty directory may become a package") {
  const TemporaryDirectory directory;
  fs::create_directory(directory.path() / "package");
  write_package(compiled(), directory.path() / "package");
  CHECK(fs::exists(directory.path() / "package/manifest.json"));
}

TEST_CASE("what is not a package is not replaced") {
  const TemporaryDirectory directory;
  const fs::path target = directory.path() / "home";
  write_file(target / "letter.txt", "dear");
  CHECK_THROWS_WITH(write_package(compiled(), target), Catch::Contains("other things"));
  CHECK(read_file(target / "letter.txt") == "dear");
  CHECK_THROWS_WITH(write_package(compiled(), target / "letter.txt"), Catch::Contains("is a file"));
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("a place that cannot be written is named") {
  const TemporaryDirectory directory;
  write_file(directory.path() / "file", "");
  // Not even root can make a directory inside a file, or in /proc.
  for (const fs::path& target : {directory.path() / "file" / "package", fs::path("/proc/heddle/package")}) {
    try {
      write_package(compiled(), target);
      FAIL("was written");
    } catch (const Error& e) {
      CHECK((e.code() == ErrorCode::io || e.code() == ErrorCode::not_found));
      CHECK(std::string(e.what()).find(target.parent_path().string()) != std::string::npos);
    }
  }
}

TEST_CASE("equal constants are stored once, each at a multiple of 64") {
  Weights weights;
  CHECK(weights.add("abc") == 0);
  CHECK(weights.add("abcd") == 64);
  CHECK(weights.add("abc") == 0);
  CHECK(weights.add(std::string(100, 'x')) == 128);
  CHECK(weights.add("y") == 256);
  const std::string blob = weights.take();
  CHECK(blob.size() == 257);
  CHECK(blob.substr(64, 4) == "abcd");
}

TEST_CASE("constants lie in memory as their layout says") {
  const Array a = Array::of<std::int32_t>({1, 2, 2, 2}, {0, 1, 2, 3, 10, 11, 12, 13});
  const auto laid_out = [&](const char* type) {
    const std::string bytes = lay_out(a, TensorType::parse(type));
    const auto* numbers = reinterpret_cast<const std::int32_t*>(bytes.data());
    return std::vector<std::int32_t>(numbers, numbers + bytes.size() / 4);
  };
  CHECK(laid_out("i32[1,2,2,2]") == std::vector<std::int32_t>{0, 1, 2, 3, 10, 11, 12, 13});
  CHECK(laid_out("i32[1,2,2,2]{0,2,3,1}") == std::vector<std::int32_t>{0, 10, 1, 11, 2, 12, 3, 13});
  CHECK(laid_out("i32[1,2,2,2]{|3:1+0=7}") == std::vector<std::int32_t>{7, 0, 1, 7, 2, 3, 7, 10, 11, 7, 12, 13});
}

}  // namespace
}  // namespace heddle::graph
