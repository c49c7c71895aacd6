// Every family on every case of the operators that it takes, against the double reference: symbolic extents for all
// bindings (1 and odd ones among them), and fixed ones channels last, as models lay them out.
//
// HEDDLE_SEED chooses the random inputs, HEDDLE_CASE one case: "conv" or "conv:3".
#include <fmt/format.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <set>
#include <thread>

#include "ops/catalog.hpp"
#include "tests/schedules/family_support.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

struct Job {
  const Operator* op;
  std::size_t index;
  Case test;
};

std::string run(const Case& test, const Workload& workload, const Machine& machine, std::vector<SymbolValues> bindings,
                std::mt19937_64& random) {
  const Choice choice = choose(workload, machine);
  try {
    const testing::Kernel kernel(workload, choice.implementation);
    if (bindings.empty()) bindings.emplace_back();
    for (const auto& symbols : bindings) {
      const auto inputs = testing::draw_inputs(test, symbols, testing::Extremes::none, random);
      const std::string difference =
          testing::compare(workload, inputs, kernel.run(inputs, symbols), symbols, choice.implementation.variant);
      if (!difference.empty())
        return fmt::format("{}\n  {}\n{}", difference, choice.source, choice.implementation.print());
    }
  } catch (const std::exception& e) {
    return fmt::format("{}\n  {}\n{}", e.what(), choice.source, choice.implementation.print());
  }
  return "";
}

std::string check(const Job& job) {
  auto random = testing::generator_for(testing::seed(), job.op->name(), job.index);
  std::string form = "as it is";
  std::string failure;
  try {
    const Workload plain = Workload::of(*job.op, job.test.attributes, job.test.inputs, testing::ranges_of(job.test), 2);
    failure = run(job.test, plain, wide(), job.test.bindings, random);
    const bool spatial = job.op->kind() == OperatorKind::window && job.test.inputs[0].rank() == 4;
    if (failure.empty() && (spatial || random() % 4 == 0)) {
      const Case fixed =
          job.test.bindings.empty() ? job.test : testing::bind(job.test, *job.op, job.test.bindings.back());
      const Workload workload = spatial ? testing::channels_last_form(*job.op, fixed)
                                        : Workload::of(*job.op, fixed.attributes, fixed.inputs, {}, 1);
      form = "fixed: " + workload.text();
      failure = run(fixed, workload, random() % 2 == 0 ? wide() : Machine{}, {}, random);
    }
  } catch (const std::exception& e) {
    failure = e.what();
  }
  if (failure.empty()) return "";
  return fmt::format("{} {}, {}: {}\n  again: HEDDLE_SEED={} HEDDLE_CASE={}:{} test_schedules", job.op->name(),
                     job.test.attributes.dump(), form, failure, testing::seed(), job.op->name(), job.index);
}

TEST_CASE("every operator agrees with its reference under the schedule that is chosen for it") {
  const char* only = std::getenv("HEDDLE_CASE");
  std::vector<Job> jobs;
  for (const Operator* op : catalog()) {
    const auto cases = op->cases();
    // Elementwise functions differ in an expression only: one case each exercises the schedule.
    const std::size_t count = op->kind() == OperatorKind::elementwise ? 1 : cases.size();
    for (std::size_t i = 0; i < std::min(count, cases.size()); ++i)
      if (only == nullptr || only == op->name() || only == fmt::format("{}:{}", op->name(), i))
        jobs.push_back({op, i, cases[i]});
  }
  REQUIRE_FALSE(jobs.empty());
  std::vector<std::string> failures(jobs.size());
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs.size(); i = next++) failures[i] = check(jobs[i]);
  };
  std::thread second(work);
  work();
  second.join();
  for (const auto& failure : failures)
    if (!failure.empty()) FAIL_CHECK(failure);
}

TEST_CASE("families have names of their own and knobs that survive JSON") {
  std::set<std::string> names;
  for (const Family& family : families()) CHECK(names.insert(family.name).second);
  const Operators operators;
  const Workload product = Workload::of(operators.get("matmul"), Json::object(),
                                        {TensorType::parse("f32[128,768]"), TensorType::parse("f32[768,768]")});
  for (const Family& family : families()) {
    if (!matches(family, product, wide())) continue;
    const Json knobs = family.rule(product, wide());
    CHECK(family.make(product, wide(), knobs) == family.make(product, wide(), Json::parse(knobs.dump())));
    CHECK_FALSE(family.candidates(product, wide()).empty());
  }
  CHECK(choose(product, wide()).source == "family matmul_packed (depth=0, rows=8, tasks=1, vectors=3)");
}

TEST_CASE("rows of no elements have a schedule, and so has an input of no rows") {
  for (const char* shape : {"f32[3,0]", "f32[0,8]", "f32[1,1]"}) {
    INFO(shape);
    const Workload w = Workload::of(Operators().get("softmax"), Json::object(), {TensorType::parse(shape)});
    CHECK(choose(w, wide()).source.starts_with("family rows"));
    CHECK(check_family("rows", w, wide()) == "");
  }
}

TEST_CASE("products whose panels would fill the second cache take k in pieces") {
  const Operators operators;
  const auto product = [&](const char* a, const char* b, const Json& attributes = Json::object()) {
    return Workload::of(operators.get("matmul"), attributes, {TensorType::parse(a), TensorType::parse(b)});
  };
  Machine machine = wide();
  machine.l1_bytes = 2048;
  machine.l2_bytes = 16384;
  const auto depth = [&](const Workload& w) { return family("matmul_packed").rule(w, machine)["depth"].get<int>(); };
  const Workload even = product("f32[24,200]", "f32[200,96]"), odd = product("f32[2,16,113]", "f32[113,50]");
  CHECK((depth(even) > 0 && depth(even) <= 2048 / 64 && depth(odd) > 0));
  CHECK(check_family("matmul_packed", even, machine) == "");
  CHECK(check_family("matmul_packed", odd, machine) == "");
  const Workload transposed = product("f32[200,24]", "f32[200,96]", {{"transpose_a", true}});
  CHECK(depth(transposed) == depth(even));
  CHECK(check_family("matmul_packed", transposed, machine) == "");
  const int alike = depth(product("f32[24,168]", "f32[168,96]"));
  CHECK((alike > 0 && alike % 2 == 0 && 168 % alike == 0));
  CHECK(depth(product("f32[24,40]", "f32[40,96]")) > 0);     // it would stay, but not beside the next one and the rows
  CHECK(depth(product("f32[24,20]", "f32[20,96]")) == 0);    // a panel that stays
  CHECK(depth(product("f32[23,200]", "f32[200,96]")) == 0);  // the last tile would read rows that there are not
}

TEST_CASE("columns that do not fill vectors, of operands that end with them") {
  const Operators operators;
  const auto with = [&](const char* op, const Json& attributes, std::vector<std::string> types, int threads) {
    std::vector<TensorType> inputs;
    for (const auto& type : types) inputs.push_back(TensorType::parse(type));
    return Workload::of(operators.get(op), attributes, inputs, {}, threads);
  };
  for (const Machine& machine : {wide(), Machine{}}) {
    for (const char* columns : {"1", "5", "24", "50"}) {
      const std::string a = "f32[2,9,12]", b = fmt::format("f32[2,12,{}]", columns);
      CHECK(check_family("matmul_plain", with("matmul", Json::object(), {a, b}, 2), machine) == "");
      CHECK(check_family("rows", with("reduce_mean", {{"axes", {0}}}, {fmt::format("f32[30,{}]", columns)}, 1),
                         machine) == "");
    }
    // c is no constant, so it ends with its last column although b is packed.
    const Workload w = with("matmul", Json::object(), {"f32[9,12]", "f32[12,50]", "f32[50]"}, 1);
    Composition composition = w.composition();
    composition.inputs[1].constant = true;
    CHECK(check_family("matmul_packed", Workload(composition), machine) == "");
  }
}

TEST_CASE("rows that do not fill their last vector, unrolled and in loops") {
  const Operators operators;
  for (const Machine& machine : {wide(), Machine{}}) {
    for (const int length : {33, 49, 100, 197, 300}) {
      const auto rows = [&](const char* op, const Json& attributes) {
        return Workload::of(operators.get(op), attributes, {TensorType::parse(fmt::format("f32[9,{}]", length))}, {},
                            2);
      };
      CHECK(check_family("rows", rows("softmax", Json::object()), machine) == "");
      CHECK(check_family("rows", rows("reduce_sum", {{"axes", {1}}}), machine) == "");
      CHECK(check_family("rows", rows("reduce_max", {{"axes", {1}}}), machine) == "");
    }
  }
}

TEST_CASE("reductions between bytes are in vectors as those of floats are") {
  const Operators operators;
  const auto mean_of_bytes = [&](const char* x, int axis) {
    Composition c;
    const auto add = [&](const char* op, const Json& attributes, std::vector<int> operands) {
      c.nodes.push_back({&operators.get(op), operators.get(op).canonical(attributes), std::move(operands)});
    };
    for (const char* type : {x, "f32[]", "f32[]"}) c.inputs.push_back({TensorType::parse(type)});
    add("dequantize", Json::object(), {0, 1});
    add("reduce_mean", {{"axes", {axis}}}, {3});
    add("quantize", Json::object(), {4, 2});
    c.anchor = 1;
    c.outputs = {5};
    c.output_layouts = {{}};
    return Workload(c);
  };
  for (const Machine& machine : {wide(), Machine{}})
    for (const char* x : {"u8[49,96]", "u8[7,50]", "u8[3,5]"})
      for (const int axis : {0, 1}) {
        const Workload w = mean_of_bytes(x, axis);
        CHECK_THAT(choose(w, machine).source, Catch::StartsWith("family rows"));
        CHECK(check_family("rows", w, machine) == "");
      }
}

TEST_CASE("register tiles leave a register free, or they would spill") {
  const Operators operators;
  for (const char* shape : {"f32[1,64]", "f32[7,64]", "f32[128,64]", "f32[1000,64]"}) {
    const Workload w = Workload::of(operators.get("matmul"), Json::object(),
                                    {TensorType::parse(shape), TensorType::parse("f32[64,768]")});
    for (const Machine& machine : {wide(), Machine{}}) {
      const Json knobs = family("matmul_packed").rule(w, machine);
      CHECK(knobs["vectors"].get<int>() * (knobs["rows"].get<int>() + 1) < machine.vector_registers);
    }
  }
}

}  // namespace
}  // namespace heddle
