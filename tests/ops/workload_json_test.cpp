#include "ops/workload_json.hpp"

#include <catch2/catch.hpp>

#include "tests/support/inputs.hpp"

namespace heddle {
namespace {

Workload read_back(const Workload& workload, const Operators& operators = {}) {
  // Through text, as records and workers keep it.
  return workload_from_json(Json::parse(workload_to_json(workload).dump()), operators);
}

const Operator& get(std::string_view name) {
  static const Operators all;
  return all.get(name);
}

Composition::Node node(std::string_view name, std::vector<int> operands, const Json& attributes = Json::object()) {
  return {&get(name), get(name).canonical(attributes), std::move(operands)};
}

/// A bottleneck's end, in place of what fusion makes: values in other orders, with borders, and two results.
Workload residual_group() {
  Composition c;
  c.inputs = {{TensorType::parse("f32[1,8,H,14]{0,2,3,1|2:1+1,3:1+1=-0.5}"), false},
              {TensorType::parse("f32[16,8,3,3]"), true},
              {TensorType::parse("f32[16]"), true},
              {TensorType::parse("f32[1,16,H,14]{0,2,3,1}"), false}};
  c.nodes = {node("conv", {0, 1, 2}, {{"pads", {1, 1, 1, 1}}}), node("add", {4, 3}), node("relu", {5})};
  c.outputs = {6, 5};
  c.output_layouts = {TensorType::parse("f32[1,16,H,14]{0,2,3,1|2:0+2}").layout, {}};
  c.symbols = {{"H", {7, 224}}};
  c.threads = 2;
  return Workload(std::move(c));
}

TEST_CASE("every workload of the catalog survives JSON", "[workload_json]") {
  std::size_t symbolic = 0;
  for (const Operator* op : catalog())
    for (const Case& test : op->cases()) {
      const auto workload = Workload::of(*op, test.attributes, test.inputs, testing::ranges_of(test), 3);
      symbolic += workload.symbols().empty() ? 0 : 1;
      const auto again = read_back(workload);
      REQUIRE(again.text() == workload.text());
      REQUIRE(again.inputs().size() == workload.inputs().size());
      for (std::size_t i = 0; i < again.inputs().size(); ++i)
        REQUIRE(again.composition().inputs[i].constant == workload.composition().inputs[i].constant);
    }
  CHECK(symbolic > 10);
}

TEST_CASE("a fused group with layouts, borders and two results survives JSON", "[workload_json]") {
  const auto workload = residual_group();
  const auto again = read_back(workload);
  CHECK(again.text() == workload.text());
  CHECK(again.name() == "conv+add+relu");
  CHECK(again.input_views()[0].elements == workload.input_views()[0].elements);
  CHECK(again.output_types()[0].layout == workload.output_types()[0].layout);
  CHECK(workload_to_json(again) == workload_to_json(workload));
}

TEST_CASE("symbols that no type needs do not make documents of equal workloads differ", "[workload_json]") {
  Composition c = residual_group().composition();
  c.symbols["unused"] = {1, 5};
  CHECK(workload_to_json(Workload(c)) == workload_to_json(residual_group()));
}

TEST_CASE("documents that describe no workload say what is wrong with them", "[workload_json]") {
  const Json good = workload_to_json(residual_group());
  struct Bad {
    std::string pointer;  ///< what to replace
    Json value;           ///< null: taken away
    std::string message;
  };
  const std::vector<Bad> all = {
      {"/format", 99, "it has format 99, this program reads up to 1"},
      {"/format", nullptr, "the document lacks the member 'format'"},
      {"/inputs", 3, "member 'inputs' of the document is a JSON number, not array"},
      {"/inputs/1", "f32[1]", "input 1 is a JSON string, not an object"},
      {"/inputs/0/type", "f33[1]", "f33"},
      {"/inputs/0/constant", 1, "member 'constant' of input 0 is a JSON number, not boolean"},
      {"/nodes/0/attributes/pads", "x", "pads"},
      {"/nodes/1/operands/0", 6, "an operand of node 1 is 6, not a whole number from 0 to 4"},
      {"/nodes/1/operands/0", -1, "an operand of node 1 is -1"},
      {"/nodes/1/operands/0", 18446744073709551615ULL, "an operand of node 1 is 18446744073709551615"},
      {"/nodes", Json::array(), "there is nothing to choose from"},
      {"/anchor", 3, "'anchor' of the document is 3, not a whole number from 0 to 2"},
      {"/anchor", 0.5, "'anchor' of the document is 0.5"},
      {"/outputs", Json::array(), "there is no output"},
      {"/outputs/0/value", 7, "'value' of output 0 is 7"},
      {"/outputs/0/type", "f32[1,16,H,15]", "output 0 is stated to be f32[1,16,H,15], but the operators make"},
      {"/symbols", Json::object(), "symbolic extent 'H' has no range"},
      {"/symbols/H", {9, 3}, "the range of symbol 'H' is 3, not a whole number from 9"},
      {"/threads", 0, "'threads' of the document is 0"},
  };
  for (const Bad& bad : all) {
    INFO(bad.pointer << " = " << bad.value.dump());
    Json json = good;
    const Json::json_pointer at(bad.pointer);
    if (bad.value.is_null()) json.erase(at.back());
    else json.at(at) = bad.value;
    try {
      workload_from_json(json, Operators{});
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::invalid_argument);
      CHECK_THAT(e.what(), Catch::Matchers::Contains(bad.message));
    }
  }
  for (const Json& json : {Json("text"), Json::array(), Json()}) CHECK_THROWS_AS(workload_from_json(json, {}), Error);
}

TEST_CASE("an operator that is not there is named, with the near ones", "[workload_json]") {
  Json json = workload_to_json(residual_group());
  json["nodes"][2]["operator"] = "rely";
  try {
    workload_from_json(json, Operators{});
    FAIL("accepted");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::not_found);
    CHECK_THAT(e.what(), Catch::Matchers::Contains("no operator 'rely' (did you mean 'relu'"));
  }
}

}  // namespace
}  // namespace heddle
