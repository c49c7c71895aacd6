#include "runtime/memory.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "base/error.hpp"
#include "base/file.hpp"

using namespace heddle;
using runtime::MappedFile;
using runtime::Pages;
using runtime::Scratch;

TEST_CASE("large pages are aligned to huge pages and zeroed", "[memory]") {
  const Pages small(100), large((std::size_t{3} << 20) + 5);
  CHECK(small.size() == 4096);
  CHECK(large.size() == std::size_t{4} << 20);
  CHECK(reinterpret_cast<std::uintptr_t>(large.data()) % (std::size_t{2} << 20) == 0);
  CHECK(large.data()[large.size() - 1] == std::byte{0});
  CHECK_THROWS_AS(Pages(std::size_t{1} << 62), Error);
}

TEST_CASE("scratch blocks are aligned, disjoint, and keep their memory between uses", "[memory]") {
  Scratch scratch;
  std::mt19937 random(3);
  struct Block {
    unsigned char* memory;
    std::size_t bytes;
    unsigned char mark;
  };
  std::vector<Block> blocks;
  std::size_t settled = 0;
  for (int round = 0; round < 40; ++round) {
    random.seed(3);  // every round asks for the same, so the memory of the first ones must be enough
    for (int i = 0; i < 60; ++i) {
      const std::size_t bytes = random() % 200000;
      auto* memory = static_cast<unsigned char*>(scratch.allocate(bytes));
      REQUIRE(memory != nullptr);
      REQUIRE(reinterpret_cast<std::uintptr_t>(memory) % Scratch::alignment == 0);
      const auto mark = static_cast<unsigned char>(random());
      std::memset(memory, mark, bytes);
      blocks.push_back({memory, bytes, mark});
      if (random() % 3 != 0) continue;
      // Not in the order of allocation.
      const std::size_t victim = random() % blocks.size();
      Scratch::release(blocks[victim].memory, &scratch);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(victim));
    }
    for (const Block& block : blocks)
      for (std::size_t i = 0; i < block.bytes; i += 997) REQUIRE(block.memory[i] == block.mark);
    for (const Block& block : blocks) Scratch::release(block.memory, &scratch);
    blocks.clear();
    if (round == 2) settled = scratch.reserved();
    if (round > 2) REQUIRE(scratch.reserved() == settled);
  }
}

TEST_CASE("a block released by another thread is collected by its owner", "[memory]") {
  Scratch scratch, other;
  void* first = scratch.allocate(1000);
  std::thread([&] { Scratch::release(first, &other); }).join();
  CHECK(scratch.allocate(1000) == first);
}

TEST_CASE("poisoned scratch memory is NaN", "[memory]") {
  Scratch scratch;
  const auto* values = static_cast<float*>(scratch.allocate(400, true));
  for (int i = 0; i < 100; ++i) CHECK(values[i] != values[i]);
}

TEST_CASE("more scratch than there is gives null, not an exception", "[memory]") {
  Scratch scratch;
  CHECK(scratch.allocate(std::size_t{1} << 60) == nullptr);
  CHECK(scratch.allocate(SIZE_MAX) == nullptr);
  CHECK(scratch.allocate(10) != nullptr);
}

TEST_CASE("mapped files show their bytes; what cannot be mapped says why", "[memory]") {
  const TemporaryDirectory directory;
  write_file(directory.path() / "a", "hello");
  write_file(directory.path() / "empty", "");
  CHECK(MappedFile(directory.path() / "a").text() == "hello");
  CHECK(MappedFile(directory.path() / "empty").size() == 0);
  try {
    MappedFile(directory.path() / "none");
    FAIL("a missing file was mapped");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::not_found);
    CHECK_THAT(error.what(), Catch::Matchers::Contains("none"));
  }
  CHECK_THROWS_AS(MappedFile(directory.path()), Error);
}
