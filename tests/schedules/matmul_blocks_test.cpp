// The families of products with weights of few bits, whatever their knobs and shapes.
#include <catch2/catch.hpp>

#include "generators/kernel.hpp"
#include "ops/catalog.hpp"
#include "targets/target.hpp"
#include "tests/schedules/family_support.hpp"

namespace heddle {
namespace {

Workload product(std::int64_t bits, std::int64_t block, const std::vector<std::string>& types, int threads = 1,
                 SymbolRanges symbols = {}) {
  const Operators operators;
  std::vector<TensorType> inputs;
  for (const auto& type : types) inputs.push_back(TensorType::parse(type));
  return Workload::of(operators.get("matmul_blocks"), {{"bits", bits}, {"block_size", block}}, inputs,
                      std::move(symbols), threads);
}

TEST_CASE("matmul_words agrees with the reference whatever its knobs and shape") {
  CHECK(check_family("matmul_words", product(4, 16, {"f32[1,96]", "u8[70,6,8]", "f32[70,6]", "u8[70,6]"}, 2), wide()) ==
        "");
  CHECK(check_family("matmul_words", product(8, 32, {"f32[7,75]", "u8[33,3,32]", "f32[33,3]", "f32[33]"}), Machine{}) ==
        "");
}

TEST_CASE("matmul_panels agrees with the reference whatever its knobs and shape") {
  CHECK(check_family("matmul_panels", product(4, 32, {"f32[2,24,96]", "u8[40,3,16]", "f32[40,3]"}, 2), wide()) == "");
  CHECK(check_family("matmul_panels", product(8, 16, {"f32[29,75]", "u8[33,5,16]", "f32[33,5]", "u8[33,5]", "f32[33]"}),
                     Machine{}) == "");
}

TEST_CASE("few rows unpack words, many rows panels") {
  const auto source = [](const char* a, const SymbolRanges& symbols = {}) {
    return choose(product(4, 32, {a, "u8[64,4,16]", "f32[64,4]"}, 1, symbols), wide()).source;
  };
  CHECK_THAT(source("f32[1,128]"), Catch::Contains("matmul_words"));
  CHECK_THAT(source("f32[128,128]"), Catch::Contains("matmul_panels"));
  CHECK_THAT(source("f32[M,128]", {{"M", {1, 512}}}), Catch::Contains("matmul_words"));
  CHECK_THAT(source("f32[M,128]", {{"M", {64, 512}}}), Catch::Contains("matmul_panels"));
}

TEST_CASE("words are unpacked without shuffles") {
  for (const std::int64_t bits : {4, 8}) {
    const Workload w = product(bits, 32, {"f32[1,128]", bits == 4 ? "u8[64,4,16]" : "u8[64,4,32]", "f32[64,4]"});
    for (const char* name : {"x86-64-linux-avx2", "x86-64-linux-avx512"}) {
      KernelRequest request;
      request.target = find_target(name);
      request.workload = &w;
      request.implementation = choose(w, request.target.machine).implementation;
      const std::string assembly = show_kernel(request, KernelStage::assembly);
      INFO(name << "\n" << request.implementation.print());
      CHECK_THAT(assembly, Catch::Contains("vcvtdq2ps") && !Catch::Contains("vpmovzx") && !Catch::Contains("vpshufb") &&
                               !Catch::Contains("vpermd"));
    }
  }
}

}  // namespace
}  // namespace heddle
