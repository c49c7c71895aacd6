#include <catch2/catch.hpp>
#include <chrono>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/file_cache.hpp"

using namespace heddle;
namespace fs = std::filesystem;

namespace {

const FileCache::Kind kind = {.extension = ".x", .format = "example 1"};

std::string key(int i) { return sha256(std::to_string(i)); }

void age(const fs::path& file, int seconds) {
  fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
}

ErrorCode error_of_load(const FileCache& cache, const std::string& k) {
  try {
    cache.load(k);
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Catch::Contains(cache.path_of(k).string()));
    return error.code();
  }
  FAIL("no error was thrown");
  return {};
}

}  // namespace

TEST_CASE("a file cache gives back what was stored, also to another of the same directory") {
  const TemporaryDirectory directory;
  FileCache cache(directory.path() / "new", kind, 1 << 20);
  CHECK_FALSE(cache.load(key(0)));
  for (const std::string& bytes : {std::string("bytes\n\0more", 11), std::string(), std::string(5000, '\n')}) {
    cache.store(key(0), bytes);
    CHECK(cache.load(key(0)) == bytes);
    CHECK(FileCache(directory.path() / "new", kind, 1 << 20).load(key(0)) == bytes);
  }
  CHECK_FALSE(cache.load(key(1)));
}

TEST_CASE("damaged files are errors until they are stored again") {
  const TemporaryDirectory directory;
  FileCache cache(directory.path(), kind, 1 << 20);
  cache.store(key(0), "some bytes");
  const std::string intact = read_file(cache.path_of(key(0)));
  std::string flipped = intact;
  flipped.back() ^= 1;
  for (const std::string& damaged : {std::string(), std::string("\n"), intact.substr(0, 10), intact + "x", flipped}) {
    write_file(cache.path_of(key(0)), damaged);
    CHECK(error_of_load(cache, key(0)) == ErrorCode::corrupt);
    cache.store(key(0), "some bytes");
    CHECK(cache.load(key(0)) == "some bytes");
  }
  // An intact entry under another's name, and one of another version.
  write_file(cache.path_of(key(1)), intact);
  CHECK(error_of_load(cache, key(1)) == ErrorCode::corrupt);
  const FileCache newer(directory.path(), {.extension = ".x", .format = "example 2"}, 1 << 20);
  CHECK(error_of_load(newer, key(0)) == ErrorCode::corrupt);
}

TEST_CASE("a file cache stays within its bound and forgets what was used least recently") {
  const TemporaryDirectory directory;
  const std::string bytes(1000, 'b');
  FileCache cache(directory.path(), kind, 3000);
  const auto foreign = directory.path() / "notes.x", other_kind = directory.path() / (key(9) + ".y"),
             abandoned = directory.path() / (key(8) + ".x.abcdef"), begun = directory.path() / (key(7) + ".x.abcdef");
  for (const auto& file : {foreign, other_kind, abandoned, begun}) write_file(file, std::string(5000, 'n'));
  age(abandoned, 7200);
  age(foreign, 7200);
  age(other_kind, 7200);
  for (int i = 0; i < 2; ++i) cache.store(key(i), bytes);
  age(cache.path_of(key(0)), 20);
  age(cache.path_of(key(1)), 10);
  CHECK(cache.load(key(0)) == bytes);  // which makes it the one used last
  cache.store(key(2), bytes);
  CHECK(cache.load(key(0)) == bytes);
  CHECK_FALSE(cache.load(key(1)));
  CHECK(cache.load(key(2)) == bytes);
  CHECK(fs::exists(foreign));
  CHECK(fs::exists(other_kind));
  CHECK(fs::exists(begun));
  CHECK_FALSE(fs::exists(abandoned));
}

TEST_CASE("a file cache that cannot be written says why") {
  const TemporaryDirectory directory;
  write_file(directory.path() / "file", "");
  FileCache cache(directory.path() / "file" / "below", kind, 1000);
  CHECK_FALSE(cache.load(key(0)));
  CHECK_THROWS_AS(cache.store(key(0), "bytes"), Error);
}
