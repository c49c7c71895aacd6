#include "tests/dsl/schedule_fixture.hpp"

#include "base/error.hpp"

namespace heddle::test {

Convolution::Convolution(bool bounded_by_symbol)
    : r({{0, 8}, {0, 3}}, "r"),
      pre("pre"),
      acc("acc"),
      out("out"),
      in(Halide::Float(32), 3, "in"),
      w(Halide::Float(32), 3, "w"),
      b(Halide::Float(32), 1, "b") {
  Halide::Param<int> width("W");
  Halide::Var ci("ci");
  pre(ci, x, y) = in(ci, x, y) * 2.0f;
  acc(co, x, y) = b(co);
  acc(co, x, y) += w(co, r.x, r.y) * pre(r.x, x + r.y, y);
  out(co, x, y) = Halide::max(acc(co, x, y), 0.0f);
  const std::map<std::string, std::string> names{{r.x.name(), "ci"}, {r.y.name(), "k"}};
  pipeline.stages = {{"pre", pre, {}}, {"acc", acc, names}, {"out", out, {}}};
  pipeline.outputs = {out};
  pipeline.symbols = {width};
  pipeline.inputs = {in, w, b};
  pipeline.operands = {{"in", in}, {"w", w}, {"b", b}};
  pipeline.operand_dimensions = {{"in", {"ci", "x", "y"}}, {"w", {"co", "ci", "k"}}, {"b", {"co"}}};
  if (bounded_by_symbol) out.bound(x, 0, width);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code() == ErrorCode::invalid_argument ? e.what() : std::string("wrong code: ") + e.what();
  }
  return "no error";
}

}  // namespace heddle::test
