#include <sstream>

#include <Halide.h>
#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/static_library.hpp"
#include "ops/catalog.hpp"
#include "tests/generators/support.hpp"

using namespace heddle;
using namespace heddle::test;
using Catch::Contains;

namespace {

StaticLibraryRequest library(const std::string& name, const Workload& workload, const std::string& implementation,
                             const std::vector<std::string>& targets) {
  StaticLibraryRequest r{.name = name, .workload = &workload};
  for (const auto& target : targets) {
    r.targets.push_back(find_target(target));
    r.implementations.push_back(Implementation::parse(implementation));
  }
  return r;
}

/// Compiles a program against the libraries in `directory` and runs it. A failure of either is its output.
std::string compile_and_run_program(const std::string& compiler, const std::string& run, const std::string& source,
                                    const std::filesystem::path& directory, const std::string& libraries,
                                    const std::string& suffix) {
  const auto file = directory / ("main" + suffix), program = directory / "main";
  write_file(file, source);
  int status = -1;
  std::string output =
      shell(fmt::format("{} -O1 -Wall -Wextra -Wpedantic -Werror -I{} {} -o {} -L{} {} -lm -lpthread 2>&1", compiler,
                        directory.string(), file.string(), program.string(), directory.string(), libraries),
            &status);
  if (status != 0) return "the compiler said: " + output;
  output = shell(fmt::format("{} {} 2>&1", run, program.string()), &status);
  return status == 0 ? output : fmt::format("status {}: {}", status, output);
}

// Computes product for some shapes with the library and plainly, and prints "ok" for each that agrees.
const char* const check_products = R"(
static int check(int m, int k, int n) {
  float* a = malloc(sizeof(float) * m * k);
  float* b = malloc(sizeof(float) * k * n);
  float* packed = malloc(sizeof(float) * (size_t)PACKED_ELEMENTS(k, m, n));
  float* out = malloc(sizeof(float) * m * n);
  for (int i = 0; i < m * k; ++i) a[i] = (float)((i * 37) % 17) / 8 - 1;
  for (int i = 0; i < k * n; ++i) b[i] = (float)((i * 53) % 23) / 11 - 1;
  PACK(k, m, n, b, packed);
  const int status = CALL(k, m, n, a, packed, out);
  if (status != 0) { printf("status %d: %s\n", status, ERROR()); return 1; }
  for (int y = 0; y < m; ++y)
    for (int x = 0; x < n; ++x) {
      double sum = 0;
      for (int i = 0; i < k; ++i) sum += (double)a[y * k + i] * b[i * n + x];
      if (fabs(out[y * n + x] - (sum + sin(sum))) > 1e-4) { printf("wrong at %d, %d\n", y, x); return 1; }
    }
  free(a); free(b); free(packed); free(out);
  puts("ok");
  return 0;
}
)";

const char* const use_matrix = R"(
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "matrix.h"
#define PACKED_ELEMENTS matrix_b_elements
#define PACK matrix_pack_b
#define CALL matrix
#define ERROR matrix_error
)";

const char* const run_shapes = R"(
int main(void) { return check(1, 1, 1) || check(5, 7, 45) || check(64, 16, 128) || check(3, 300, 17); }
)";

Workload open_product() { return product_workload(Extent::symbol("M"), Extent::symbol("K"), Extent::symbol("N")); }

}  // namespace

TEST_CASE("A static library's function computes what the operator does, from C and from C++") {
  const Workload workload = open_product();
  const TemporaryDirectory directory;
  write_static_library(library("matrix", workload, tiled, {"x86-64-linux", "host", "x86-64-linux"}), directory.path());
  CHECK(std::filesystem::exists(directory.path() / "libmatrix.a"));
  const std::string program = std::string(use_matrix) + check_products + run_shapes;
  CHECK(compile_and_run_program("gcc -std=c11", "", program, directory.path(), "-lmatrix", ".c") == "ok\nok\nok\nok\n");
  CHECK(compile_and_run_program("gcc -std=c11", "HEDDLE_THREADS=4", program, directory.path(), "-lmatrix", ".c") ==
        "ok\nok\nok\nok\n");
  std::string cpp = program;
  for (std::size_t at = 0; (at = cpp.find("= malloc", at)) != std::string::npos; at += 8)
    cpp.replace(at, 8, "= (float*)malloc");
  CHECK(compile_and_run_program("g++ -std=c++11", "", cpp, directory.path(), "-lmatrix", ".cpp") == "ok\nok\nok\nok\n");
}

TEST_CASE("Two static libraries share a program, and calls come from several threads") {
  const Workload open = open_product(), fixed = product_workload(8, 4, 16);
  const TemporaryDirectory directory;
  write_static_library(library("matrix", open, tiled, {"host"}), directory.path());
  write_static_library(library("small", fixed, "out.split(y, yo, yi, 2).parallel(yo)", {"host"}), directory.path());
  const std::string program =
      std::string(use_matrix) + "#include \"small.h\"\n#include <pthread.h>\n" + check_products + R"(
static void* work(void* unused) {
  (void)unused;
  for (int i = 0; i < 50; ++i)
    if (check(40, 8, 64)) exit(1);
  return NULL;
}
int main(void) {
  float a[32], b[64], out[128];
  for (int i = 0; i < 32; ++i) a[i] = 1;
  for (int i = 0; i < 64; ++i) b[i] = 0.25f;
  if (small(a, b, out) != 0 || fabs(out[127] - (1 + sin(1.0))) > 1e-5) return 1;
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) pthread_create(&threads[i], NULL, work, NULL);
  for (int i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
  return 0;
}
)";
  const std::string output =
      compile_and_run_program("gcc -std=c11", "HEDDLE_THREADS=3", program, directory.path(), "-lmatrix -lsmall", ".c");
  std::string expected;
  for (int i = 0; i < 150; ++i) expected += "ok\n";
  CHECK(output == expected);
}

TEST_CASE("A static library's products of bytes run in a program of their own") {
  // On processors with tile registers the program needs the system's permission to use them.
  const Operators operators;
  const Workload workload = Workload::of(operators.get("matmul"), Json::object(),
                                         {TensorType::parse("u8[32,64]"), TensorType::parse("i8[64,32]")}, {}, 1);
  const char* const tiles = R"(variant fours
pack b k:4 n:32
out.reorder(n, m).vectorize(n, 16)
acc.compute_root().vectorize(n, 16)
acc.update(0).split(m, m_tile, m, 16).split(n, n_tile, n, 16).reorder(k, n, m, ko, n_tile, m_tile).unroll(n_tile).unroll(m_tile)
)";
  const TemporaryDirectory directory;
  write_static_library(library("bytes", workload, tiles, {"host", "x86-64-linux"}), directory.path());
  const std::string program = R"(
#include <stdio.h>
#include "bytes.h"
int main(void) {
  static uint8_t a[32 * 64];
  static int8_t b[64 * 32];
  static int32_t out[32 * 32];
  for (int i = 0; i < 32 * 64; ++i) a[i] = (uint8_t)(i / 64), b[i] = -2;
  printf("%d", bytes(a, b, out));
  for (int i = 0; i < 32 * 32; ++i)
    if (out[i] != -2 * 64 * (i / 32)) printf(" wrong at %d: %d", i, out[i]);
  return 0;
}
)";
  CHECK(compile_and_run_program("gcc -std=c11", "", program, directory.path(), "-lbytes", ".c") == "0");
}

TEST_CASE("A static library refuses what it cannot do, in words") {
  const Workload workload = open_product();
  const TemporaryDirectory directory;
  // ShiftInwards writes before a row that is shorter than the tile.
  write_static_library(library("matrix", workload, "out.split(x, xo, xi, 16, ShiftInwards).vectorize(xi)", {"host"}),
                       directory.path());
  const std::string program = R"(
#include <stdio.h>
#include "matrix.h"
int main(void) {
  static float a[64], b[64], out[64];
  printf("%d %s\n", matrix(4, 4, 0, a, b, out), matrix_error());
  printf("%d %s\n", matrix(4, 4, 16, a, NULL, out), matrix_error());
  printf("%d ", matrix(4, 4, 7, a, b, out));
  printf("%s\n", matrix_error());
  printf("%s\n", matrix_target());
  return 0;
}
)";
  std::istringstream lines(compile_and_run_program("gcc -std=c11", "", program, directory.path(), "-lmatrix", ".c"));
  std::string line;
  std::getline(lines, line);
  CHECK_THAT(line, Contains("-1003") && Contains("N is not within 1 and 4096"));
  std::getline(lines, line);
  CHECK_THAT(line, Contains("-1004") && Contains("b is NULL"));
  std::getline(lines, line);
  CHECK_THAT(line, Contains("out") && !Contains("-1003") && !(Catch::StartsWith("0 ")));
  std::getline(lines, line);
  CHECK(line == host_target().name);
}

TEST_CASE("A processor without the needed instructions is told so") {
  if (host_target().architecture != "x86_64") return;
  const Workload workload = product_workload(2, 2, 2);
  const TemporaryDirectory directory;
  write_static_library(library("foreign", workload, "", {"arm-64-linux"}), directory.path());
  write_static_library(library("foreign", workload, "", {"host"}), directory.path() / "x86");
  // The host's code with a feature that no processor has.
  std::string header = read_file(directory.path() / "x86" / "foreign.h");
  const std::size_t at = header.find("\"sse4_1 ");
  REQUIRE(at != std::string::npos);
  header.insert(at + 1, "avx9000 ");
  write_file(directory.path() / "x86" / "foreign.h", header);
  const std::string program = R"(
#include <stdio.h>
#include "foreign.h"
int main(void) {
  float a[4], b[4], out[4];
  printf("%d ", foreign(a, b, out));
  printf("%s %d\n", foreign_error(), foreign_target() == NULL);
  return 0;
}
)";
  CHECK_THAT(compile_and_run_program("gcc -std=c11", "", program, directory.path() / "x86", "-lforeign", ".c"),
             Contains("-1001 this processor runs none of the targets") && Contains(" 1\n"));
}

TEST_CASE("A static library for arm-64-linux runs under qemu") {
  const Workload workload = open_product();
  const TemporaryDirectory directory;
  write_static_library(library("matrix", workload, tiled, {"arm-64-linux"}), directory.path());
  const std::string program = std::string(use_matrix) + check_products + run_shapes;
  CHECK(compile_and_run_program(std::string(HEDDLE_AARCH64_CC) + " -static -std=c11", HEDDLE_QEMU_AARCH64, program,
                                directory.path(), "-lmatrix", ".c") == "ok\nok\nok\nok\n");
}

TEST_CASE("The archive shows the function's parts alone, and equal requests give equal bytes") {
  const Workload workload = open_product();
  const TemporaryDirectory directory;
  const auto make = [&](const char* where) {
    write_static_library(library("matrix", workload, tiled, {"x86-64-linux-avx2"}), directory.path() / where);
    return read_file(directory.path() / where / "libmatrix.a") + read_file(directory.path() / where / "matrix.h");
  };
  const bool equal = make("one") == make("two");
  CHECK(equal);
  std::istringstream lines(shell("nm --defined-only -g " + (directory.path() / "one" / "libmatrix.a").string()));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.rfind(' ');
    if (at == std::string::npos || line.back() == ':') continue;
    const std::string name = line.substr(at + 1);
    INFO(name);
    CHECK((name.starts_with("matrix_heddle_") || name.starts_with("heddle_standalone_1_")));
  }
}

TEST_CASE("What cannot be a static library is said before anything is written") {
  const Workload workload = product_workload(4, 4, 16);
  const TemporaryDirectory directory;
  const auto make = [&](const std::string& name, const std::string& implementation,
                        const std::vector<std::string>& targets) {
    write_static_library(library(name, workload, implementation, targets), directory.path());
  };
  CHECK_THROWS_WITH(make("2fast", "", {"host"}), Contains("C function"));
  CHECK_THROWS_WITH(make("a-b", "", {"host"}), Contains("C function"));
  CHECK_THROWS_WITH(make("mixed", "", {"x86-64-linux", "arm-64-linux"}), Contains("different architectures"));
  CHECK_THROWS_WITH(make("none", "", {}), Contains("at least one target"));
  CHECK_THROWS_WITH(make("wrong", "acc.compute_at(out, z)", {"host"}), Contains("'z'"));
  auto differing = library("packed", workload, tiled, {"x86-64-linux", "x86-64-linux-avx2"});
  differing.implementations[1].packings.clear();
  CHECK_THROWS_WITH(write_static_library(differing, directory.path()), Contains("pack operands differently"));
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("An operator without given extents gets symbolic ones that its type rule accepts") {
  const Workload workload = symbolic_workload(product());
  CHECK(workload.symbols() == std::vector<std::string>{"K", "X", "Y"});
  CHECK(workload.text().find("K=1:65536") != std::string::npos);
}

TEST_CASE("A static library for a device is refused with what to do instead") {
  const Workload workload = product_workload(4, 4, 16);
  for (const char* target : {"opencl", "vulkan"}) {
    const TemporaryDirectory directory;
    const auto request = library("device_product", workload, "", {"cpu", target});
    CHECK_THROWS_WITH(write_static_library(request, directory.path()),
                      Contains("device_product") && Contains("--target " + std::string(target)));
    CHECK(std::filesystem::is_empty(directory.path()));
  }
}
