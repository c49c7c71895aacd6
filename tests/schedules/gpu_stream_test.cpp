// Families for devices but those of contractions: what they choose, and that every choice computes the right thing. Run
// by Halide's own OpenCL runtime; tests/gpu runs the catalog by ours.
//
// HEDDLE_SEED chooses the random inputs and layouts, HEDDLE_CASE one case: "softmax" or "softmax:3".
#include <cstdlib>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "ops/catalog.hpp"
#include "schedules/gpu_access.hpp"
#include "targets/gpu/passes.hpp"
#include "targets/target.hpp"
#include "tests/schedules/family_support.hpp"
#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {
namespace {

const Json none = Json::object();  // attributes

Machine device() { return find_target("opencl").machine; }

Workload workload(std::string_view op, const Json& attributes, const std::vector<std::string>& types,
                  const SymbolRanges& symbols = {}, const std::string& out = "") {
  const Operators operators;
  std::vector<TensorType> inputs;
  for (const auto& type : types) inputs.push_back(TensorType::parse(type));
  Composition c = Workload::of(operators.get(op), attributes, inputs, symbols).composition();
  if (!out.empty()) c.output_layouts = {TensorType::parse(out).layout};
  return Workload(std::move(c));
}

/// Runs an implementation on random inputs; returns what differs.
std::string run(const Workload& w, const Implementation& implementation, const std::vector<SymbolValues>& bindings,
                std::mt19937_64& random, const Case& test) {
  try {
    const testing::Kernel kernel(w, implementation, device().gpu);
    for (const auto& symbols : bindings) {
      const auto inputs = testing::draw_inputs(test, symbols, testing::Extremes::none, random);
      const std::string difference = testing::compare(w, inputs, kernel.run(inputs, symbols), symbols);
      if (!difference.empty()) return fmt::format("{}\n{}\n{}", w.text(), difference, implementation.print());
    }
  } catch (const std::exception& e) {
    return fmt::format("{}\n{}\n{}", w.text(), e.what(), implementation.print());
  }
  return "";
}

std::string run(const Workload& w, const Implementation& implementation,
                const std::vector<SymbolValues>& bindings = {{}}) {
  auto random = testing::generator_for(testing::seed(), w.text());
  Case test;
  for (const auto& input : w.composition().inputs) test.inputs.push_back(input.type);
  return run(w, implementation, bindings, random, test);
}

std::string chosen(const Workload& w) { return choose(w, device()).source; }

TEST_CASE("devices: elementwise kernels take vectors where they are dense and divide") {
  CHECK(chosen(workload("relu", none, {"f32[1,64,56,56]"})) == "family gpu_elementwise (lanes=4, threads=256)");
  CHECK(chosen(workload("relu", none, {"f64[64,56]"})) == "family gpu_elementwise (lanes=2, threads=256)");
  // An operand that is read against its grain is read element by element.
  const std::string strided =
      chosen(workload("slice", {{"starts", {0}}, {"ends", {64}}, {"axes", {0}}, {"steps", {2}}}, {"f32[64]"}));
  CHECK(strided == "family gpu_elementwise (lanes=1, threads=256)");

  // Few elements: many small blocks rather than one large.
  CHECK(
      choose(workload("relu", none, {"f32[4096]"}), device()).implementation.print().find("thread, 32, GuardWithIf") !=
      std::string::npos);
  // An extent that may divide gets both forms.
  const Workload symbolic = workload("relu", none, {"f32[W]"}, {{"W", {1, 64}}});
  const Implementation both = choose(symbolic, device()).implementation;
  CHECK(both.print().find("specialize(W%4 == 0)") != std::string::npos);
  CHECK(run(symbolic, both, {{{"W", 1}}, {{"W", 8}}, {{"W", 37}}}) == "");
  const Workload always = workload("relu", none, {"f32[12*W]"}, {{"W", {1, 64}}});
  CHECK(choose(always, device()).implementation.print().find("specialize") == std::string::npos);
  CHECK(run(always, choose(always, device()).implementation, {{{"W", 1}}, {{"W", 7}}}) == "");
}

TEST_CASE("devices: layouts that lie across each other are tiled through shared memory") {
  const std::string tiled = "family gpu_transpose (rows=8, tile=32)";
  const Workload back = workload("copy", none, {"f32[2,33,5,7]"}, {}, "f32[2,33,5,7]{0,2,3,1}");
  CHECK(chosen(back) == "family gpu_elementwise (lanes=1, threads=256)");  // rows of 7: tiles would be mostly empty
  for (const char* shape : {"f32[2,33,3,65]", "f32[1,64,1,64]", "f32[1,17,2,100]"}) {
    const Workload to_last = workload("copy", none, {shape}, {}, std::string(shape) + "{0,2,3,1}");
    CHECK(chosen(to_last) == tiled);
    CHECK(run(to_last, choose(to_last, device()).implementation) == "");
    const Workload to_first = workload("copy", none, {std::string(shape) + "{0,2,3,1}"}, {}, shape);
    CHECK(chosen(to_first) == tiled);
    CHECK(run(to_first, choose(to_first, device()).implementation) == "");
  }
  const Workload symbolic = workload("transpose", {{"perm", {1, 0}}}, {"f32[N,W]"}, {{"N", {1, 80}}, {"W", {1, 80}}});
  CHECK(chosen(symbolic) == tiled);
  CHECK(run(symbolic, choose(symbolic, device()).implementation,
            {{{"N", 1}, {"W", 1}}, {{"N", 33}, {"W", 64}}, {{"N", 70}, {"W", 3}}}) == "");
  for (const Json& knobs : family("gpu_transpose").candidates(symbolic, device()))
    CHECK(run(symbolic, family("gpu_transpose").make(symbolic, device(), knobs), {{{"N", 33}, {"W", 65}}}) == "");
}

TEST_CASE("devices: threads share rows as their length asks") {
  const auto rows = [](const char* type) {
    return family("gpu_rows").rule(workload("softmax", none, {type}), device());
  };
  CHECK(rows("f32[1536,128]") == Json({{"lanes", 32}, {"rows", 4}, {"chunk", 0}}));
  CHECK(rows("f32[128,768]") == Json({{"lanes", 128}, {"rows", 1}, {"chunk", 0}}));
  CHECK(rows("f32[100000,4]") == Json({{"lanes", 4}, {"rows", 32}, {"chunk", 0}}));
  // Rows side by side: 2048 columns of 49 get 8 lanes each.
  const Json pooled =
      family("gpu_rows").rule(workload("reduce_mean", {{"axes", {2, 3}}}, {"f32[1,2048,7,7]{0,2,3,1}"}), device());
  CHECK(pooled == Json({{"lanes", 8}, {"rows", 32}, {"chunk", 0}}));
  CHECK(family("gpu_rows").rule(workload("reduce_sum", none, {"f32[1000000]"}), device())["chunk"] > 0);
}

TEST_CASE("devices: reductions with every choice of knobs") {
  const std::vector<Workload> all = {
      workload("softmax", none, {"f32[5,70]"}),
      workload("softmax", {{"axis", 1}}, {"f32[2,19,6]"}),
      workload("layer_norm", {{"axis", 1}}, {"f32[3,5,40]", "f32[5,40]", "f32[40]"}),
      workload("reduce_mean", {{"axes", {2, 3}}, {"keepdims", false}}, {"f32[2,36,5,3]{0,2,3,1}"}),
      workload("reduce_max", {{"axes", {1}}}, {"f32[37,300]"}),
      workload("reduce_log_sum_exp", {{"axes", {0, 2}}}, {"f32[3,4,90]"}),
  };
  for (const Workload& w : all) {
    const auto candidates = family("gpu_rows").candidates(w, device());
    // A seeded part: every compilation costs.
    auto random = testing::generator_for(testing::seed(), "knobs of " + w.text());
    for (int i = 0; i < 3; ++i) {
      const Json& knobs = candidates[random() % candidates.size()];
      INFO(knobs.dump() << " HEDDLE_SEED=" << testing::seed());
      CHECK(run(w, family("gpu_rows").make(w, device(), knobs)) == "");
    }
  }
}

TEST_CASE("devices: few long rows are cut into chunks") {
  for (const auto& w : {workload("reduce_sum", {{"keepdims", false}}, {"f32[3,21111]"}),
                        workload("reduce_max", {{"axes", {1}}}, {"f32[3,40000]"}),
                        workload("softmax", none, {"f32[20011]"}), workload("softmax", none, {"f32[2,20000]"})}) {
    const Json knobs = family("gpu_rows").rule(w, device());
    CHECK(knobs["chunk"] > 0);
    CHECK(run(w, family("gpu_rows").make(w, device(), knobs)) == "");
  }
}

TEST_CASE("devices: windows take vectors of channels") {
  const Workload pool = workload("max_pool", {{"kernel_shape", {3, 3}}, {"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}},
                                 {"f32[1,8,7,9]{0,2,3,1}"}, {}, "f32[1,8,4,5]{0,2,3,1}");
  CHECK(chosen(pool) == "family gpu_window (lanes=4, threads=256)");
  CHECK(run(pool, choose(pool, device()).implementation) == "");
  const Workload rows = workload("max_pool", {{"kernel_shape", {2, 2}}, {"strides", {2, 2}}}, {"f32[1,8,8,8]"});
  CHECK(chosen(rows) == "family gpu_window (lanes=1, threads=256)");
  const Workload up = workload("conv_transpose", {{"strides", {2, 2}}},
                               {"f32[1,6,3,5]{0,2,3,1}", "f32[6,8,2,2]", "f32[8]"}, {}, "f32[1,8,6,10]{0,2,3,1}");
  CHECK(choose(up, device()).implementation.print().find("pack w co:8") != std::string::npos);
  CHECK(run(up, choose(up, device()).implementation) == "");
}

TEST_CASE("devices: the plainest family takes everything") {
  const std::vector<Workload> all = {
      workload("softmax", {{"axis", 0}}, {"f32[9,6]"}),
      workload("reduce_sum", {{"keepdims", false}}, {"f32[9,6]"}),
      workload("conv", {{"pads", {1, 1, 1, 1}}}, {"f32[1,3,5,6]", "f32[4,3,3,3]", "f32[4]"}),
      workload("relu", none, {"f32[]"}),
  };
  for (const Workload& w : all)
    CHECK(run(w, family("gpu_any").make(w, device(), family("gpu_any").rule(w, device()))) == "");
}

TEST_CASE("devices: values that lie in memory in any order") {
  const char* only = std::getenv("HEDDLE_CASE");
  const Operators operators;
  for (const Operator* op : operators.all()) {
    const auto cases = op->cases();
    auto random = testing::generator_for(testing::seed(), op->name());
    const std::size_t i = random() % cases.size();
    // Elementwise functions differ in an expression only: a few of them exercise the schedule.
    if (only == nullptr ? op->kind() == OperatorKind::elementwise && random() % 16 != 0 : only != op->name()) continue;
    const auto& bindings = cases[i].bindings;
    const Case test = bindings.empty() ? cases[i] : testing::bind(cases[i], *op, bindings[random() % bindings.size()]);
    Composition c = Workload::of(*op, test.attributes, test.inputs).composition();
    for (auto& input : c.inputs) input.type.layout = testing::random_layout(input.type.rank(), random);
    const Workload plain(c);
    c.output_layouts.clear();
    for (const auto& type : plain.output_types())
      c.output_layouts.push_back(testing::random_layout(type.rank(), random));
    const Workload w(std::move(c));
    const std::string failure = run(w, choose(w, device()).implementation, {{}}, random, test);
    INFO("again: HEDDLE_SEED=" << testing::seed() << " HEDDLE_CASE=" << op->name()
                               << " test_schedules \"devices: values that lie in memory in any order\"");
    CHECK(failure == "");
  }
}

}  // namespace
}  // namespace heddle
