#include <fstream>
#include <set>

#include <Halide.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "targets/host.hpp"
#include "targets/target.hpp"

using namespace heddle;
using Catch::Contains;

TEST_CASE("Targets have distinct names and agree with their machine and with Halide") {
  std::set<std::string> names;
  for (const Target& target : all_targets()) {
    INFO(target.name);
    CHECK(names.insert(target.name).second);
    CHECK(target.machine.target == target.name);
    if (!target.is_gpu()) CHECK(target.halide.natural_vector_size<float>() * 4 == target.machine.vector_bytes);
    CHECK(target.halide.has_feature(Halide::Target::NoRuntime));
    CHECK(target.halide.has_feature(Halide::Target::UserContext));
    CHECK_FALSE(target.halide.has_feature(Halide::Target::CPlusPlusMangling));
    CHECK(target.machine.l1_bytes < target.machine.l2_bytes);
    CHECK(target.machine.l2_bytes < target.machine.l3_bytes);
    CHECK_FALSE(target.features.empty());
  }
  for (const char* name : {"x86-64-linux", "x86-64-linux-avx2", "x86-64-linux-avx512", "x86-64-linux-avx512_vnni",
                           "x86-64-linux-avx512_zen4", "arm-64-linux"})
    CHECK(names.contains(name));
}

TEST_CASE("Where one processor runs several targets, the one that asks for more is preferred") {
  for (const Target& a : all_targets())
    for (const Target& b : all_targets()) {
      if (a.architecture != b.architecture || a.name == b.name || a.is_gpu() || b.is_gpu()) continue;
      INFO(a.name << " and " << b.name);
      const std::set<std::string> fewer(a.features.begin(), a.features.end());
      const std::set<std::string> more(b.features.begin(), b.features.end());
      CHECK((std::ranges::includes(more, fewer) || std::ranges::includes(fewer, more)));
      CHECK((a.features.size() < b.features.size()) == (a.rank < b.rank));
    }
}

TEST_CASE("What a processor lacks is found in an assembly text") {
  const BorrowedInstructions borrowed = find_target("x86-64-linux-avx512_vnni").bytes.value();
  CHECK(lacking_instruction(borrowed, "k:\n\tvpdpbusd\t(%rax), %zmm0, %zmm1\n\tvpermd %zmm1, %zmm2, %zmm3\n") == "");
  CHECK(lacking_instruction(borrowed, "vpermb:\n  vpaddd %zmm1, %zmm2, %zmm3\n\tvpermb\t%zmm1, %zmm2, %zmm3") ==
        "vpermb");
  CHECK(lacking_instruction(borrowed, "") == "");
}

TEST_CASE("find_target knows names and the host") {
  CHECK(find_target("arm-64-linux").halide.arch == Halide::Target::ARM);
  CHECK(find_target("x86-64-linux-avx2").machine.vector_registers == 16);
  const Target host = find_target("cpu");
  CHECK(find_target("host").name == host.name);
  CHECK(host.architecture == targets::host_processor().architecture);
  CHECK_THROWS_WITH(find_target("x86-64-linux-avx521"), Contains("no target 'x86-64-linux-avx521'") &&
                                                            Contains("or 'x86-64-linux-avx512'") &&
                                                            Contains("arm-64-linux"));
  try {
    find_target("riscv");
    FAIL("found a target that does not exist");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::not_found);
  }
}

TEST_CASE("The host is the best target that its features allow") {
  if (targets::host_processor().architecture != "x86_64") return;
  const auto with = [](const char* features) {
    ::setenv("HEDDLE_CPU_FEATURES", features, 1);
    const std::string name = host_target().name;
    ::unsetenv("HEDDLE_CPU_FEATURES");
    return name;
  };
  CHECK(with("sse4_1") == "x86-64-linux");
  CHECK(with("sse4_1,sse4_2,avx") == "x86-64-linux");
  const std::set<std::string> real = targets::host_processor().features;
  if (real.contains("avx2")) CHECK(with("sse4_1,avx,avx2,fma,f16c,bmi1,bmi2") == "x86-64-linux-avx2");
  ::setenv("HEDDLE_CPU_FEATURES", "", 1);
  CHECK_THROWS_WITH(host_target(), Contains("none of Heddle's targets"));
  ::unsetenv("HEDDLE_CPU_FEATURES");
}

TEST_CASE("A processor's features are read from cpuinfo") {
  CHECK(targets::features_of_cpuinfo("processor\t: 0\nflags\t\t: fpu avx2 fma\nflags: other\n") ==
        std::set<std::string>{"fpu", "avx2", "fma"});
  CHECK(targets::features_of_cpuinfo("Features\t: fp asimd\n") == std::set<std::string>{"fp", "asimd"});
  CHECK(targets::features_of_cpuinfo("").empty());
}

TEST_CASE("Measured caches replace the typical ones where the system tells them") {
  const TemporaryDirectory dir;
  const auto index = [&](int number, const char* level, const char* type, const char* size) {
    const auto path = dir.path() / ("index" + std::to_string(number));
    write_file(path / "level", level);
    write_file(path / "type", type);
    write_file(path / "size", size);
  };
  index(0, "1\n", "Data\n", "48K\n");
  index(1, "1\n", "Instruction\n", "64K\n");
  index(2, "2\n", "Unified\n", "2M\n");
  Machine machine{.l1_bytes = 1, .l2_bytes = 2, .l3_bytes = 3};
  targets::measure_caches(machine, dir.path());
  CHECK(machine.l1_bytes == 48 << 10);
  CHECK(machine.l2_bytes == 2 << 20);
  CHECK(machine.l3_bytes == 3);
  targets::measure_caches(machine, dir.path() / "missing");
  CHECK(machine.l1_bytes == 48 << 10);
}
