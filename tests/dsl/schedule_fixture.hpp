#pragma once
#include <functional>
#include <string>

#include <Halide.h>

#include "dsl/pipeline.hpp"
#include "dsl/schedule.hpp"

namespace heddle::test {

/// A row convolution with bias and clamp, as an operator would define it: out(co, x, y) over in(ci, x, y) and
/// w(co, ci, k), with the reduction r over ci and k. One symbolic extent, W.
struct Convolution {
  Pipeline pipeline;
  Halide::Var co{"co"}, x{"x"}, y{"y"};
  Halide::RDom r;
  Halide::Func pre, acc, out;
  Halide::ImageParam in, w, b;

  explicit Convolution(bool bounded_by_symbol = false);
};

/// The message of the Error that `f` throws; "no error" if it does not.
std::string message_of(const std::function<void()>& f);

}  // namespace heddle::test
