// Products whose accumulators are computed at the block and stored in registers: what each thread keeps, that the
// result is right on both devices, and that what cannot be proved is refused by name.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "targets/gpu/register_tiles.hpp"
#include "targets/pass.hpp"
#include "tests/targets/gpu_jit.hpp"

namespace heddle {
namespace {

using Catch::Contains;
using Halide::Expr;
using Halide::Func;
using Halide::MemoryType;
using Halide::RVar;
using Halide::TailStrategy;
using Halide::Var;
namespace hi = Halide::Internal;

/// The registers of each allocation after the pass, by Func.
class Sizes : public hi::IRMutator {
 public:
  explicit Sizes(std::map<std::string, int>& sizes) : sizes_(sizes) {}
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;
  hi::Stmt visit(const hi::Allocate* op) override {
    sizes_[op->name.substr(0, op->name.find_first_of(".$"))] = op->constant_allocation_size();
    return IRMutator::visit(op);
  }

 private:
  std::map<std::string, int>& sizes_;
};

std::map<std::string, int> sizes_of(Func f, DeviceApi api = DeviceApi::opencl) {
  std::map<std::string, int> sizes;
  Halide::Pipeline pipeline(f);
  targets::add_pass(pipeline, targets::register_tiles);
  pipeline.add_custom_lowering_pass(new Sizes(sizes));
  pipeline.compile_to_module({}, "f", testing::device_target(api));
  return sizes;
}

/// out = max(a b, 0) with an accumulator; a is M x K, b is K x N, with rows and columns up to whole tiles of 16.
struct Product {
  int m, n, k;
  Var x{"x"}, y{"y"}, xo{"xo"}, yo{"yo"}, xi{"xi"}, yi{"yi"}, tx{"tx"}, ty{"ty"}, vx{"vx"}, vy{"vy"}, gx{"gx"},
      gy{"gy"}, qx{"qx"}, qy{"qy"};
  Halide::RDom r;
  Halide::Buffer<float> a, b;
  Func acc{"acc"}, out{"out"};

  Product(int m, int n, int k) : m(m), n(n), k(k), r(0, k, "r"), a(k, (m + 15) / 16 * 16), b((n + 15) / 16 * 16, k) {
    a.for_each_element([&](int i, int j) { a(i, j) = static_cast<float>((i * 7 + j * 3) % 11 - 5); });
    b.for_each_element([&](int i, int j) { b(i, j) = static_cast<float>((i * 5 + j * 2) % 13 - 6); });
    acc(x, y) += a(r, y) * b(x, r);
    out(x, y) = max(acc(x, y), 0.0F);
  }

  void check() {
    for (const DeviceApi api : {DeviceApi::opencl, DeviceApi::vulkan}) {
      INFO(to_string(api));
      for (auto* input : {&a, &b}) {
        input->device_deallocate();
        input->set_host_dirty();
      }
      const Halide::Buffer<float> got = testing::run_on_device(out, {n, m}, api);
      int wrong = 0;
      for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
          float sum = 0;
          for (int l = 0; l < k; ++l) sum += a(l, i) * b(j, l);
          wrong += got(j, i) != std::max(sum, 0.0F);
        }
      CHECK(wrong == 0);
    }
  }
};

TEST_CASE("each thread keeps its own tile of an accumulator", "[gpu]") {
  Product p(45, 50, 17);
  const int tile = 16;
  p.out.tile(p.x, p.y, p.xo, p.yo, p.xi, p.yi, tile, tile, TailStrategy::GuardWithIf)
      .split(p.xi, p.tx, p.vx, 4)
      .split(p.yi, p.ty, p.vy, 2)
      .reorder(p.vx, p.vy, p.tx, p.ty, p.xo, p.yo)
      .unroll(p.vx)
      .unroll(p.vy)
      .gpu_blocks(p.xo, p.yo)
      .gpu_threads(p.tx, p.ty);
  p.acc.compute_at(p.out, p.xo).store_in(MemoryType::Register).bound_extent(p.x, tile).bound_extent(p.y, tile);
  p.acc.split(p.x, p.tx, p.vx, 4).split(p.y, p.ty, p.vy, 2).reorder(p.vx, p.vy, p.tx, p.ty);
  p.acc.unroll(p.vx).unroll(p.vy).gpu_threads(p.tx, p.ty);
  p.acc.update().split(p.x, p.tx, p.vx, 4).split(p.y, p.ty, p.vy, 2).reorder(p.vx, p.vy, p.r, p.tx, p.ty);
  p.acc.update().unroll(p.vx).unroll(p.vy).gpu_threads(p.tx, p.ty);
  CHECK(sizes_of(p.out)["acc"] == 8);
  p.check();
}

TEST_CASE("tiles of vectors in groups with gaps between them are packed", "[gpu]") {
  Product p(32, 32, 12);
  RVar ko("ko"), ki("ki");
  const int nx = 2, ny = 4;
  p.out.bound(p.x, 0, 32).bound(p.y, 0, 32);
  p.out.tile(p.x, p.y, p.xo, p.yo, p.xi, p.yi, 16, 16).split(p.xi, p.gx, p.qx, nx * 4).split(p.qx, p.tx, p.vx, 4);
  p.out.split(p.yi, p.gy, p.qy, ny * 2).split(p.qy, p.ty, p.vy, 2);
  p.out.reorder(p.vx, p.gx, p.vy, p.gy, p.tx, p.ty, p.xo, p.yo).vectorize(p.vx).unroll(p.gx).unroll(p.vy).unroll(p.gy);
  p.out.gpu_blocks(p.xo, p.yo).gpu_threads(p.tx, p.ty);
  const auto thread_tile = [&](Halide::Stage s) {
    s.split(p.x, p.gx, p.qx, nx * 4)
        .split(p.qx, p.tx, p.vx, 4)
        .split(p.y, p.gy, p.qy, ny * 2)
        .split(p.qy, p.ty, p.vy, 2);
    s.vectorize(p.vx).unroll(p.gx).unroll(p.vy).unroll(p.gy).gpu_threads(p.tx, p.ty);
  };
  p.acc.compute_at(p.out, p.xo).store_in(MemoryType::Register).bound_extent(p.x, 16).bound_extent(p.y, 16);
  thread_tile(p.acc);
  p.acc.reorder(p.vx, p.gx, p.vy, p.gy, p.tx, p.ty);
  thread_tile(p.acc.update());
  p.acc.update().split(p.r, ko, ki, 4).unroll(ki).reorder(p.vx, p.gx, p.vy, p.gy, ki, p.tx, p.ty, ko);
  CHECK(sizes_of(p.out)["acc"] == 32);
  p.check();
}

TEST_CASE("loops that stay loops index a thread's tile", "[gpu]") {
  Product p(24, 24, 5);
  p.out.tile(p.x, p.y, p.xo, p.yo, p.xi, p.yi, 8, 8).split(p.xi, p.tx, p.vx, 2).split(p.yi, p.ty, p.vy, 4);
  p.out.reorder(p.vx, p.vy, p.tx, p.ty, p.xo, p.yo).gpu_blocks(p.xo, p.yo).gpu_threads(p.tx, p.ty);
  p.acc.compute_at(p.out, p.xo).store_in(MemoryType::Register).bound_extent(p.x, 8).bound_extent(p.y, 8);
  p.acc.split(p.x, p.tx, p.vx, 2).split(p.y, p.ty, p.vy, 4).reorder(p.vx, p.vy, p.tx, p.ty).gpu_threads(p.tx, p.ty);
  p.acc.update().split(p.x, p.tx, p.vx, 2).split(p.y, p.ty, p.vy, 4).reorder(p.vx, p.vy, p.r, p.tx, p.ty);
  p.acc.update().gpu_threads(p.tx, p.ty);
  // Rows of a tile are 8 apart in the block, so a thread's 2 x 4 span 3 * 8 + 2.
  CHECK(sizes_of(p.out)["acc"] == 26);
  p.check();
}

TEST_CASE("threads that are one fused dimension keep their own tile", "[gpu]") {
  Product p(16, 32, 6);
  Var t("t");
  p.out.tile(p.x, p.y, p.xo, p.yo, p.xi, p.yi, 16, 8).split(p.xi, p.tx, p.vx, 4).split(p.yi, p.ty, p.vy, 2);
  p.out.reorder(p.vx, p.vy, p.tx, p.ty, p.xo, p.yo).fuse(p.tx, p.ty, t).unroll(p.vx).unroll(p.vy);
  p.out.gpu_blocks(p.xo, p.yo).gpu_threads(t);
  p.acc.compute_at(p.out, p.xo).store_in(MemoryType::Register).bound_extent(p.x, 16).bound_extent(p.y, 8);
  p.acc.split(p.x, p.tx, p.vx, 4).split(p.y, p.ty, p.vy, 2).reorder(p.vx, p.vy, p.tx, p.ty).fuse(p.tx, p.ty, t);
  p.acc.unroll(p.vx).unroll(p.vy).gpu_threads(t);
  p.acc.update().split(p.x, p.tx, p.vx, 4).split(p.y, p.ty, p.vy, 2).reorder(p.vx, p.vy, p.r, p.tx, p.ty);
  p.acc.update().fuse(p.tx, p.ty, t).unroll(p.vx).unroll(p.vy).gpu_threads(t);
  CHECK(sizes_of(p.out)["acc"] == 8);
  p.check();
}

TEST_CASE("tiles whose values would cross threads are refused", "[gpu]") {
  Product p(16, 16, 4);
  p.out.tile(p.x, p.y, p.xo, p.yo, p.xi, p.yi, 8, 8).gpu_blocks(p.xo, p.yo);
  p.acc.compute_at(p.out, p.xo).store_in(MemoryType::Register).bound_extent(p.x, 8).bound_extent(p.y, 8);

  SECTION("the consumer splits differently") {
    p.out.split(p.xi, p.vx, p.tx, 4).reorder(p.vx, p.tx, p.yi).unroll(p.vx).gpu_threads(p.tx, p.yi);
    p.acc.split(p.x, p.tx, p.vx, 2).reorder(p.vx, p.tx, p.y).unroll(p.vx).gpu_threads(p.tx, p.y);
    p.acc.update().split(p.x, p.tx, p.vx, 2).reorder(p.vx, p.r, p.tx, p.y).unroll(p.vx).gpu_threads(p.tx, p.y);
    CHECK_THROWS_WITH(sizes_of(p.out), Contains("stage 'acc") && Contains("differ between accesses"));
  }
  SECTION("one thread computes for all") {
    p.out.gpu_threads(p.xi, p.yi);
    CHECK_THROWS_WITH(sizes_of(p.out), Contains("stage 'acc"));
  }
  SECTION("the error is one of ours, through all of the lowering") {
    p.out.gpu_threads(p.xi, p.yi);
    try {
      sizes_of(p.out);
      FAIL("it was taken");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::unsupported);
    }
  }
}

TEST_CASE("a neighbour's value crosses threads", "[gpu]") {
  Var x("x"), xo("xo"), xi("xi");
  Func near("near"), out("out");
  near(x) = Halide::cast<float>(x) * 0.5F;
  out(x) = near(x) + near(x + 1);
  out.bound(x, 0, 64).split(x, xo, xi, 16).gpu_blocks(xo).gpu_threads(xi);
  near.compute_at(out, xo).store_in(MemoryType::Register).gpu_threads(x);
  CHECK_THROWS_WITH(sizes_of(out), Contains("near") && Contains("cross threads"));
}

TEST_CASE("registers of a thread and shared memory stay as they are", "[gpu]") {
  Var x("x"), xo("xo"), xi("xi"), v("v");
  Func own("own"), shared("shared"), out("out");
  own(x) = Halide::cast<float>(x) * 0.5F;
  shared(x) = Halide::cast<float>(x) + 1.0F;
  out(x) = own(x) * shared(x) + shared(x + 1);
  out.bound(x, 0, 64).split(x, xo, xi, 16).split(xi, xi, v, 2).unroll(v).gpu_blocks(xo).gpu_threads(xi);
  own.compute_at(out, xi).store_in(MemoryType::Register).unroll(x);
  shared.compute_at(out, xo).store_in(MemoryType::GPUShared).gpu_threads(x);
  CHECK(sizes_of(out)["own"] == 2);
  for (const DeviceApi api : {DeviceApi::opencl, DeviceApi::vulkan}) {
    const Halide::Buffer<float> got = testing::run_on_device(out, {64}, api);
    int wrong = 0;
    for (int i = 0; i < 64; ++i) {
      const auto at = static_cast<float>(i);
      wrong += got(i) != at * 0.5F * (at + 1) + at + 2;
    }
    CHECK(wrong == 0);
  }
}

}  // namespace
}  // namespace heddle
