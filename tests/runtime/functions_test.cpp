#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "runtime/session.hpp"
#include "tests/runtime/sample_package.hpp"

using namespace heddle;
using plan::StepKind;
using plan::Storage;
using test::dense_value;

namespace {

void add_value(plan::Function& f, const std::string& name, DType dtype, std::vector<Extent> shape, Storage storage) {
  f.values.push_back(dense_value(name, dtype, std::move(shape), storage));
  const int index = static_cast<int>(f.values.size()) - 1;
  if (storage == Storage::input) f.inputs.push_back(index);
  if (storage == Storage::output) f.outputs.push_back(index);
}

void add_step(plan::Function& f, StepKind kind, const std::string& name, std::vector<int> inputs,
              std::vector<int> outputs, std::vector<std::string> functions = {}) {
  plan::Step step;
  step.kind = kind;
  step.name = name;
  for (const int v : inputs) step.inputs.push_back(test::dense_argument(f, v));
  for (const int v : outputs) step.outputs.push_back(test::dense_argument(f, v));
  step.functions = std::move(functions);
  f.steps.push_back(step);
}

runtime::Session session_for(std::vector<plan::Function> functions) {
  plan::Package package = test::sample_package();
  package.symbols.clear();
  package.modules[0].functions = std::move(functions);
  package.modules[0].kernels = {{"k_add", "", "", "", {}}, {"k_less", "", "", "", {}}};
  const TemporaryDirectory directory;
  test::write_sample(package, directory.path());
  return runtime::Session(runtime::Model::load(directory.path()), {.poison = true});
}

float run(runtime::Session& session, std::vector<Array> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    session.set_input(i, {inputs[i].dtype(), inputs[i].shape(), inputs[i].mutable_data()});
  session.run();
  return *static_cast<const float*>(session.output(0).data);
}

Array scalar(float value) { return Array::of<float>({}, {value}); }

/// a + a, with an intermediate of its own.
plan::Function twice() {
  plan::Function f;
  f.name = "twice";
  add_value(f, "a", DType::f32, {}, Storage::input);
  add_value(f, "sum", DType::f32, {}, Storage::arena);
  add_value(f, "out", DType::f32, {}, Storage::output);
  add_step(f, StepKind::kernel, "k_add", {0, 0}, {1});
  add_step(f, StepKind::copy, "", {1}, {2});
  return f;
}

/// Its input.
plan::Function same() {
  plan::Function f;
  f.name = "same";
  add_value(f, "a", DType::f32, {}, Storage::input);
  f.outputs = {0};
  return f;
}

}  // namespace

TEST_CASE("a called function has intermediates of its own", "[functions]") {
  plan::Function main;
  main.name = "main";
  add_value(main, "x", DType::f32, {}, Storage::input);
  add_value(main, "kept", DType::f32, {}, Storage::arena);
  add_value(main, "four", DType::f32, {}, Storage::arena);
  add_value(main, "out", DType::f32, {}, Storage::output);
  add_step(main, StepKind::call, "twice", {0}, {1}, {"twice"});
  add_step(main, StepKind::call, "twice", {1}, {2}, {"twice"});
  add_step(main, StepKind::kernel, "k_add", {1, 2}, {3});
  auto session = session_for({main, twice()});
  CHECK(run(session, {scalar(5)}) == 30);
}

TEST_CASE("a branch takes one function or the other", "[functions]") {
  plan::Function main;
  main.name = "main";
  add_value(main, "x", DType::f32, {}, Storage::input);
  add_value(main, "limit", DType::f32, {}, Storage::input);
  add_value(main, "small", DType::boolean, {}, Storage::arena);
  add_value(main, "out", DType::f32, {}, Storage::output);
  add_step(main, StepKind::kernel, "k_less", {0, 1}, {2});
  add_step(main, StepKind::branch, "", {2, 0}, {3}, {"twice", "same"});
  auto session = session_for({main, twice(), same()});
  CHECK(run(session, {scalar(3), scalar(4)}) == 6);
  CHECK(run(session, {scalar(5), scalar(4)}) == 5);
}

namespace {

/// A loop that adds `step` to a carried value while it is less than `limit`, and stacks what it had.
std::vector<plan::Function> counting_loop(bool with_condition, int stacked) {
  plan::Function body;
  body.name = "body";
  add_value(body, "iteration", DType::i64, {}, Storage::input);
  add_value(body, "condition", DType::boolean, {}, Storage::input);
  add_value(body, "sum", DType::f32, {}, Storage::input);
  add_value(body, "step", DType::f32, {}, Storage::input);
  add_value(body, "limit", DType::f32, {}, Storage::input);
  add_value(body, "go_on", DType::boolean, {}, Storage::output);
  add_value(body, "new_sum", DType::f32, {}, Storage::output);
  add_value(body, "had", DType::f32, {}, Storage::output);
  add_step(body, StepKind::kernel, "k_add", {2, 3}, {6});
  add_step(body, StepKind::kernel, "k_less", {6, 4}, {5});
  add_step(body, StepKind::copy, "", {6}, {7});

  plan::Function main;
  main.name = "main";
  add_value(main, "trips", DType::i64, {}, Storage::input);
  add_value(main, "start", DType::f32, {}, Storage::input);
  add_value(main, "step", DType::f32, {}, Storage::input);
  add_value(main, "limit", DType::f32, {}, Storage::input);
  add_value(main, "sum", DType::f32, {}, Storage::output);
  add_value(main, "stack", DType::f32, {stacked}, Storage::output);
  add_value(main, "condition", DType::boolean, {}, Storage::arena);
  if (with_condition) add_step(main, StepKind::kernel, "k_less", {1, 3}, {6});
  add_step(main, StepKind::loop, "", {0, with_condition ? 6 : -1, 1, 2, 3}, {4, 5}, {"body"});
  main.steps.back().attributes = R"({"carried": 1})";
  return {main, body};
}

Array trips(std::int64_t n) { return Array::of<std::int64_t>({}, {n}); }

}  // namespace

TEST_CASE("a loop carries values and stacks others", "[functions]") {
  auto session = session_for(counting_loop(false, 4));
  CHECK(run(session, {trips(4), scalar(1), scalar(2), scalar(1000)}) == 9);
  const auto* stack = static_cast<const float*>(session.output(1).data);
  CHECK(std::vector<float>(stack, stack + 4) == std::vector<float>{3, 5, 7, 9});
}

TEST_CASE("a loop ends when its condition says so", "[functions]") {
  auto session = session_for(counting_loop(true, 3));
  CHECK(run(session, {trips(100), scalar(0), scalar(2), scalar(5)}) == 6);
}

TEST_CASE("a loop that runs another number of times than its output holds is refused", "[functions]") {
  auto session = session_for(counting_loop(true, 5));
  for (const float limit : {5.0F, 50.0F}) try {
      run(session, {trips(100), scalar(0), scalar(2), scalar(limit)});
      FAIL("a stack of another size was accepted");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::unsupported);
    }
}

TEST_CASE("a loop without trips returns what it was given", "[functions]") {
  auto session = session_for(counting_loop(false, 0));
  CHECK(run(session, {trips(0), scalar(42), scalar(2), scalar(5)}) == 42);
}

TEST_CASE("values of another type than a function's are refused", "[functions]") {
  plan::Function main;
  main.name = "main";
  add_value(main, "x", DType::i32, {}, Storage::input);
  add_value(main, "out", DType::f32, {}, Storage::output);
  add_step(main, StepKind::call, "twice", {0}, {1}, {"twice"});
  auto session = session_for({main, twice()});
  Array x(DType::i32, {});
  session.set_input(0, {x.dtype(), x.shape(), x.mutable_data()});
  CHECK_THROWS_AS(session.run(), Error);
}
