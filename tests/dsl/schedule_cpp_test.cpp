// Schedules as C++: compiled as a user would, and held against apply() on the same algorithm.
#include "dsl/schedule_cpp.hpp"

#include <dlfcn.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/fingerprint.hpp"

namespace heddle {
namespace {

using Halide::Func;
using Halide::ImageParam;
using Halide::RDom;
using Halide::Var;

/// acc(x, y) = sum of a row of products, out above it; two of them have Funcs and reductions of other names.
struct Product {
  ImageParam a{Halide::Float(32), 2, "a"}, b{Halide::Float(32), 2, "b"};
  Func acc{"acc"}, out{"out"};
  Var x{"x"}, y{"y"};
  RDom k{0, 32};

  Product() {
    acc(x, y) = 0.0f;
    acc(x, y) += a(k, y) * b(x, k);
    out(x, y) = acc(x, y) + 1.0f;
    out.bound(x, 0, 64).bound(y, 0, 32);
  }

  Pipeline pipeline() const {
    Pipeline p;
    p.stages = {{"acc", acc, {{k.x.name(), "r"}}}, {"out", out, {}}};
    p.outputs = {out};
    p.inputs = {a, b};
    p.operands = {{"a", a}, {"b", b}};
    p.operand_dimensions = {{"a", {"k", "y"}}, {"b", {"x", "k"}}};
    return p;
  }

  Halide::Buffer<float> result() {
    Halide::Buffer<float> in_a(32, 32), in_b(64, 32), got(64, 32);
    in_a.for_each_element([&](int i, int j) { in_a(i, j) = static_cast<float>((i * 7 + j * 3) % 11); });
    in_b.for_each_element([&](int i, int j) { in_b(i, j) = static_cast<float>((i * 5 + j) % 13); });
    a.set(in_a);
    b.set(in_b);
    out.realize(got);
    return got;
  }
};

TEST_CASE("a schedule's C++ does to Funcs what apply does") {
  const Schedule schedule = Schedule::parse(R"(
out.split(x, xo, xi, 16).split(y, yo, yi, 4, GuardWithIf).reorder(xi, yi, xo, yo).vectorize(xi, 8).unroll(yi).parallel(yo)
acc.compute_at(out, xo).store_in(Stack).split(x, xw, xl, 8).vectorize(xl).unroll(y)
acc.update(0).split(r, ro, ri, 4).reorder(x, y, ri, ro).vectorize(x, 8).unroll(y).unroll(ri)
b.in(b_panel, acc)
b_panel.compute_at(out, yo).reorder_storage(x, k).align_storage(x, 8).vectorize(x, 8)
)");
  Product applied;
  Pipeline pipeline = applied.pipeline();
  const ScheduleCpp code = schedule_to_cpp(schedule, Product().pipeline());
  apply(schedule, pipeline);
  CHECK(code.funcs == std::vector<std::string>{"acc", "out", "a", "b"});

  const TemporaryDirectory directory;
  write_file(directory.path() / "found.h", schedule_header(code, "schedule_product", schedule.print()));
  write_file(
      directory.path() / "use.cpp",
      "#include \"found.h\"\nextern \"C\" void use(Halide::Func* f) { schedule_product(f[0], f[1], f[2], f[3]); }\n");
  const auto library = directory.path() / "libuse.so";
  const std::string command =
      fmt::format("{} -std=c++17 -O0 -w -shared -fPIC -I{}/halide/include {} -o {}", HEDDLE_CXX, HEDDLE_SITE_PACKAGES,
                  (directory.path() / "use.cpp").string(), library.string());
  REQUIRE(std::system(command.c_str()) == 0);
  void* loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  REQUIRE(loaded != nullptr);
  Product called;
  std::vector<Func> funcs = {called.acc, called.out, called.a, called.b};
  reinterpret_cast<void (*)(Func*)>(dlsym(loaded, "use"))(funcs.data());

  // Equal exactly where Halide lowers to the same statement, but for names.
  CHECK(canonical_form(called.pipeline()) == canonical_form(applied.pipeline()));
  CHECK(canonical_form(called.pipeline()) != canonical_form(Product().pipeline()));
  const auto got = called.result(), want = Product().result();
  for (int j = 0; j < 32; ++j)
    for (int i = 0; i < 64; ++i) REQUIRE(got(i, j) == want(i, j));
}

TEST_CASE("rfactor's stages and loops are the C++'s too") {
  const Schedule schedule = Schedule::parse(R"(
acc.update(0).split(r, ro, ri, 8).rfactor(ri, u, part)
part.compute_root()
part.update(0).reorder(u, x, y, ro)
acc.compute_root()
out.vectorize(x, 8)
)");
  const std::string body = schedule_to_cpp(schedule, Product().pipeline()).body;
  CHECK_THAT(body, Catch::Contains("Func part = acc.update(0)"));
  CHECK_THAT(body, Catch::Contains("{RVar(\"ri\"), Var(\"u\")}"));
  CHECK_THAT(body, Catch::Contains("{Var(\"u\"), Var(\"x\"), Var(\"y\"), RVar(\"ro\")}"));
}

TEST_CASE("symbolic extents have no name in C++") {
  CHECK_THROWS_WITH(schedule_to_cpp(Schedule::parse("out.split(x, xo, xi, W/2)"), Product().pipeline()),
                    Catch::Contains("symbolic extent 'W'"));
}

}  // namespace
}  // namespace heddle
