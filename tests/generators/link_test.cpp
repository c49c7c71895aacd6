#include <cstdlib>
#include <set>
#include <sstream>

#include <Halide.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/tool.hpp"
#include "tests/generators/support.hpp"

using namespace heddle;
using namespace heddle::test;
using Catch::Contains;

namespace {

/// Names of `nm`'s dynamic symbols with the given flag, versions cut off.
std::set<std::string> dynamic_symbols(const std::filesystem::path& module, const std::string& flag) {
  std::istringstream lines(shell("nm -D --format=posix " + flag + " " + module.string()));
  std::set<std::string> names;
  for (std::string line; std::getline(lines, line);) names.insert(line.substr(0, line.find_first_of(" @")));
  return names;
}

}  // namespace

TEST_CASE("A module exports its kernels and nothing else, and needs the C library alone") {
  const Workload a = product_workload(6, 8, 64), b = product_workload(2, 3, 16);
  for (const char* target : {"x86-64-linux-avx2", "arm-64-linux"}) {
    INFO(target);
    const KernelRequest ra = request(a, tiled, find_target(target)), rb = request(b, "", find_target(target));
    const std::vector<std::string> objects = {compile_kernel(ra).object, compile_kernel(rb).object,
                                              compile_kernel(ra).object};
    const std::string bytes = link_module(objects, find_target(target));
    CHECK(link_module(objects, find_target(target)) == bytes);

    const TemporaryDirectory directory;
    const auto path = directory.path() / "module.so";
    write_file(path, bytes);
    CHECK(dynamic_symbols(path, "--defined-only") ==
          std::set<std::string>{kernel_symbol(ra) + "_argv", kernel_symbol(rb) + "_argv", "heddle_module_init"});
    for (const auto& name : dynamic_symbols(path, "--undefined-only")) {
      INFO(name);
      CHECK_FALSE(name.starts_with("halide_"));
      CHECK_FALSE(name.starts_with("heddle_"));
    }
    const std::string needed = shell("readelf -dW " + path.string());
    CHECK_THAT(needed, Contains("libm.so.6"));  // sinf
    CHECK_THAT(needed, !Contains("libstdc++") && !Contains("Halide"));
    CHECK_THAT(shell("readelf -lW " + path.string()), Contains("GNU_STACK") && !Contains("RWE"));
  }
}

TEST_CASE("What a kernel needs and nobody has is named when it is linked") {
  try {
    link_module({"not an object"}, host_target());
    FAIL("linked nonsense");
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Contains("linking the kernels"));
  }
}

TEST_CASE("A missing linker or shim is an error that says what to install") {
  const Workload workload = product_workload(2, 2, 2);
  const std::string object = compile_kernel(request(workload, "")).object;
  ::setenv("HEDDLE_LLD", "/nowhere/ld.lld", 1);
  CHECK_THROWS_WITH(link_module({object}, host_target()), Contains("HEDDLE_LLD") && Contains("/nowhere/ld.lld"));
  ::unsetenv("HEDDLE_LLD");
  ::setenv("HEDDLE_SHIMS", "/nowhere", 1);
  CHECK_THROWS_WITH(link_module({object}, host_target()), Contains("/nowhere/shims-") && Contains("HEDDLE_SHIMS"));
  ::unsetenv("HEDDLE_SHIMS");
  Tool missing = linker();
  missing.built_with = "/nowhere/ld.lld";
  missing.name = "ld.heddle-has-none";
  CHECK_THROWS_WITH(find_tool(missing), Contains("install the package lld-19"));
}

TEST_CASE("A program that fails is an error with what it said") {
  CHECK_THROWS_WITH(run_tool("/bin/sh", {"-c", "echo because >&2; exit 3"}),
                    Contains("status 3") && Contains("because"));
  CHECK_THROWS_WITH(run_tool("/bin/sh", {"-c", "kill -9 $$"}), Contains("signal 9"));
  CHECK_THROWS_WITH(run_tool("/nowhere/tool", {}), Contains("/nowhere/tool"));
  CHECK_NOTHROW(run_tool("/bin/true", {}));
}
