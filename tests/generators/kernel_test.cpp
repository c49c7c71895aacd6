#include <sstream>
#include <thread>

#include <Halide.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "tests/generators/support.hpp"

using namespace heddle;
using namespace heddle::test;
using Catch::Contains;

namespace {

void check_against_reference(const KernelRequest& request, const std::vector<Array>& inputs) {
  const auto got = compile_and_run(request, inputs);
  const auto want = request.workload->reference(inputs);
  CHECK(mismatch(got[0], want[0], request.workload->tolerance()) == "");
}

Error error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  FAIL("nothing was thrown");
  throw 0;
}

}  // namespace

TEST_CASE("A compiled kernel computes what its reference does") {
  const Workload fixed = product_workload(5, 7, 13);
  const std::vector<Array> inputs = {noise({5, 7}, 1), noise({7, 13}, 2)};
  check_against_reference(request(fixed, ""), inputs);
  check_against_reference(request(fixed, tiled), inputs);
}

TEST_CASE("One kernel with symbolic extents runs over many shapes") {
  const Extent m = Extent::symbol("M"), k = Extent::symbol("K"), n = Extent::symbol("N");
  const Workload workload = product_workload(m, k, n);
  const KernelRequest r = request(workload, tiled);
  const LoadedModule module(link_module({compile_kernel(r).object}, r.target));
  for (const Shape& s : {Shape{1, 1, 1}, Shape{3, 5, 16}, Shape{17, 9, 33}, Shape{64, 3, 100}}) {
    const std::vector<Array> inputs = {noise({s[0], s[1]}, 1), noise({s[1], s[2]}, 2)};
    CHECK(mismatch(module.run(r, inputs)[0], workload.reference(inputs)[0], workload.tolerance()) == "");
  }
}

TEST_CASE("With asserts, a kernel reports buffers that do not fit") {
  const Workload workload = product_workload(4, 4, 16);
  KernelRequest r = request(workload, tiled);
  r.asserts = true;
  CHECK(kernel_key(r) != kernel_key(request(workload, tiled)));
  const LoadedModule module(link_module({compile_kernel(r).object}, r.target));
  const std::vector<Array> fits = {noise({4, 4}, 1), noise({4, 16}, 2)};
  CHECK(mismatch(module.run(r, fits)[0], workload.reference(fits)[0], workload.tolerance()) == "");

  // Asked for with the views of another workload, whose rows are longer.
  const Workload longer = product_workload(4, 4, 32);
  KernelRequest other = r;
  other.workload = &longer;
  CHECK_THROWS(module.run(other, {noise({4, 4}, 1), noise({4, 32}, 2)}));
}

TEST_CASE("Equal requests give equal bytes, whatever was compiled before") {
  const Workload workload = product_workload(12, 8, 64), other = product_workload(3, 4, 16);
  KernelRequest r = request(workload, tiled);
  r.asserts = GENERATE(false, true);  // the checks' messages hold names
  const std::string first = compile_kernel(r).object;
  for (int i = 0; i < 3; ++i) {
    compile_kernel(request(other, tiled));
    // Names of our stages, made by someone else in this process.
    Halide::Func a("product_acc"), b("product_out");
    CHECK(compile_kernel(r).object == first);
  }
}

TEST_CASE("The key holds everything that decides the bytes") {
  const Workload workload = product_workload(4, 4, 16);
  const KernelRequest base = request(workload, tiled);
  const std::string key = kernel_key(base);
  CHECK(key.size() == 64);
  CHECK(kernel_key(request(product_workload(4, 4, 16), tiled)) == key);
  CHECK(kernel_symbol(base) == "k_" + key.substr(0, 16));

  CHECK(kernel_key(request(product_workload(4, 4, 32), tiled)) != key);
  CHECK(kernel_key(request(workload, "")) != key);
  CHECK(kernel_key(request(workload, tiled, find_target("arm-64-linux"))) != key);
  CHECK(kernel_key(request(workload, tiled, find_target("x86-64-linux-avx2"))) !=
        kernel_key(request(workload, tiled, find_target("x86-64-linux-avx512"))));
}

TEST_CASE("Editing an operator's algorithm changes the key although its name and types stay") {
  const Workload before = product_workload(4, 4, 16, product()), after = product_workload(4, 4, 16, edited_product());
  REQUIRE(before.text() == after.text());
  CHECK(kernel_key(request(before, tiled)) != kernel_key(request(after, tiled)));
  const std::vector<Array> inputs = {noise({4, 4}, 1), noise({4, 16}, 2)};
  check_against_reference(request(after, tiled), inputs);
}

TEST_CASE("Pipelines are compiled side by side") {
  constexpr int threads = 4, each = 6;
  std::vector<std::string> alone;
  for (int i = 0; i < each; ++i)
    alone.push_back(compile_kernel(request(product_workload(6, 8, 16 * (i + 1)), tiled)).object);
  std::vector<int> equal(threads, 0);
  {
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t)
      workers.emplace_back([&, t] {
        for (int i = 0; i < each; ++i) {
          const int which = (i + t) % each;
          const Workload workload = product_workload(6, 8, 16 * (which + 1));
          equal[static_cast<std::size_t>(t)] +=
              compile_kernel(request(workload, tiled)).object == alone[static_cast<std::size_t>(which)];
        }
      });
  }
  CHECK(equal == std::vector<int>(threads, each));
}

TEST_CASE("A schedule that does not fit is an error with its place and the workload") {
  const Workload workload = product_workload(4, 4, 16);
  KernelRequest r = {
      .workload = &workload,
      .implementation = Implementation::parse("out.vectorize(x, 8)\nacc.compute_at(out, z)", "mine.sched"),
      .target = host_target(),
      .schedule_file = "mine.sched"};
  const Error unknown = error_of([&] { compile_kernel(r); });
  CHECK(unknown.code() == ErrorCode::invalid_argument);
  CHECK_THAT(unknown.what(), Contains("mine.sched:2"));

  // Fits the operator, but Halide refuses when it lowers: stored inside of where it is computed.
  r.implementation = Implementation::parse("acc.compute_at(out, y).store_at(out, x)");
  const Error illegal = error_of([&] { compile_kernel(r); });
  CHECK(illegal.code() == ErrorCode::invalid_argument);
  CHECK_THAT(illegal.what(), Contains("product with mine.sched") && Contains("acc"));

  // The process and Halide are in order afterwards.
  check_against_reference(request(workload, tiled), {noise({4, 4}, 1), noise({4, 16}, 2)});
}

TEST_CASE("Halide's warnings stay out of stderr while Heddle compiles, and only then") {
  const Workload workload = product_workload(4, 4, 16);
  std::ostringstream captured;
  std::streambuf* before = std::cerr.rdbuf(captured.rdbuf());
  // A vector of one element: Halide warns.
  const std::string object = compile_kernel(request(workload, "out.split(x, xo, xi, 1).vectorize(xi)")).object;
  std::cerr.rdbuf(before);
  CHECK(captured.str() == "");
  CHECK_FALSE(object.empty());
}

TEST_CASE("A kernel can be looked at in four forms") {
  const Workload workload = product_workload(6, 8, 64);
  const KernelRequest r = request(workload, tiled, find_target("x86-64-linux-avx512"));
  CHECK_THAT(show_kernel(r, KernelStage::loops), Contains("parallel") && Contains("vectorized") && Contains("acc"));
  CHECK_THAT(show_kernel(r, KernelStage::stmt), Contains(kernel_symbol(r)) && Contains("let "));
  CHECK_THAT(show_kernel(r, KernelStage::llvm), Contains("define") && Contains("<16 x float>"));
  const std::string assembly = show_kernel(r, KernelStage::assembly);
  CHECK_THAT(assembly, Contains("vfmadd") && Contains("zmm") && Contains(kernel_symbol(r) + "_argv:"));
  CHECK_THAT(assembly, !Contains(".cfi_") && !Contains(".section") && !Contains(".LCPI0_0:"));
}

TEST_CASE("Objects export the entry and its argv form, and hold no metadata") {
  const Workload workload = product_workload(6, 8, 64);
  const KernelRequest r = request(workload, tiled);
  const std::string object = compile_kernel(r).object;
  CHECK(object.find(kernel_symbol(r) + "_argv") != std::string::npos);
  CHECK(object.find("_metadata") == std::string::npos);
  CHECK(object.find("product_") == std::string::npos);  // no name that a counter could have touched
}
