// Which vectors of accumulators that are updated in part are stored whole, and which stay predicated.
#include <sstream>
#include <string>

#include <Halide.h>

#include <catch2/catch.hpp>

#include "dsl/halide_error.hpp"
#include "targets/cpu/whole_accumulators.hpp"
#include "targets/pass.hpp"

namespace heddle {
namespace {

namespace hi = Halide::Internal;
using Halide::Func;
using Halide::RVar;
using Halide::Var;

/// Row sums of x[length, rows] in 32 lanes, of which the last step fills some.
struct RowSums {
  Var y{"y"}, lane{"lane"};
  RVar outer{"outer"}, inner{"inner"};
  Halide::ImageParam x{Halide::Float(32), 2, "x"};
  Func acc{"acc"}, out{"out"}, partial;
  int length, rows;

  RowSums(int length, int rows) : length(length), rows(rows) {
    const Halide::RDom r(0, length);
    acc(y) = 0.0F;
    acc(y) += x(r, y);
    out(y) = acc(y);
    acc.update().split(r, outer, inner, 32, Halide::TailStrategy::GuardWithIf);
    partial = acc.update().rfactor(inner, lane);
    partial.vectorize(lane, 16).unroll(lane);
    partial.update().reorder(lane, outer).vectorize(lane, 16).unroll(lane);
    x.dim(0).set_bounds(0, length).dim(1).set_bounds(0, rows).set_stride(length);
    out.bound(y, 0, rows);
  }

  /// Vectors of the partial sums that are stored whole where some lanes are updated, and predicated ones.
  struct Found {
    int whole = 0, predicated = 0;
  };
  Found found() {
    struct Stores : hi::IRVisitor {
      Found found;
      using IRVisitor::visit;
      void visit(const hi::Store* op) override {
        if (!hi::is_const_one(op->predicate)) ++found.predicated;
        else if (op->value.as<hi::Select>() != nullptr) ++found.whole;
        IRVisitor::visit(op);
      }
    } stores;
    Halide::Pipeline pipeline(out);
    targets::add_pass(pipeline, [&](const hi::Stmt& s) {
      const hi::Stmt result = targets::whole_accumulators(s);
      result.accept(&stores);
      return result;
    });
    const Halide::Target target("x86-64-linux-avx512_skylake-no_asserts-no_bounds_query-no_runtime");
    translate_halide_errors("the sums", [&] { pipeline.compile_to_module({x}, "sums", target); });
    return stores.found;
  }
};

}  // namespace

TEST_CASE("sums of a row's last elements are stored with the lanes that they leave", "[cpu]") {
  RowSums sums(49, 6);
  sums.partial.compute_at(sums.out, sums.y);
  const auto found = sums.found();
  CHECK(found.whole == 1);
  CHECK(found.predicated == 0);
}

TEST_CASE("sums that tasks share stay predicated", "[cpu]") {
  // All rows' sums are one allocation, and each is a task's: a vector may not be stored back whole over a neighbour's.
  RowSums sums(49, 6);
  sums.partial.compute_root().update().parallel(sums.y);
  const auto found = sums.found();
  CHECK(found.whole == 0);
  CHECK(found.predicated == 1);
}

TEST_CASE("whole rows have nothing to predicate", "[cpu]") {
  RowSums sums(64, 6);
  sums.partial.compute_at(sums.out, sums.y);
  const auto found = sums.found();
  CHECK(found.whole == 0);
  CHECK(found.predicated == 0);
}

}  // namespace heddle
