// Bad calls of elementwise and movement operators: what the message says, and that there is one.
#include <catch2/catch.hpp>

#include "base/file.hpp"
#include "ops/catalog.hpp"

namespace heddle {
namespace {

struct Bad {
  std::string op;
  Json attributes;
  std::vector<std::string> inputs;
  std::string message;
};

std::string message_of(const Bad& bad) {
  std::vector<TensorType> types;
  for (const auto& text : bad.inputs) types.push_back(TensorType::parse(text));
  try {
    Operators().get(bad.op).infer(bad.attributes, types);
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    return e.what();
  }
  return "no error";
}

TEST_CASE("type rules name what does not fit", "[rules]") {
  const std::vector<Bad> all = {
      {"add", Json::object(), {"f32[2,3]", "i64[3]"}, "a is f32 and b is i64; cast one of them"},
      {"add", Json::object(), {"f32[2,3]", "f32[4]"}, "do not broadcast"},
      {"add", Json::object(), {"f32[2]"}, "expected 2 operands (a and b), got 1"},
      {"prelu", Json::object(), {"f32[3]", "f32[2,3]"}, "b must broadcast to a"},
      {"and", Json::object(), {"f32[3]", "f32[3]"}, "a must be booleans, not f32"},
      {"exp", Json::object(), {"i64[3]"}, "x must be f32, f16 or bf16, not i64"},
      {"relu", Json::object(), {"u8[3]"}, "x must be signed integers or floats, not u8"},
      {"leaky_relu", {{"alfa", 0.1}}, {"f32[3]"}, "did you mean 'alpha'"},
      {"leaky_relu", {{"alpha", "steep"}}, {"f32[3]"}, "'alpha' must be a number"},
      {"gelu", {{"approximate", "tan"}}, {"f32[3]"}, "did you mean 'tanh'"},
      {"where", Json::object(), {"f32[3]", "f32[3]", "f32[3]"}, "the condition must be boolean"},
      {"concat", {{"axis", 0}}, {"f32[2,3]", "f32[2,4]"}, "extent 1 of operand 1 is 4, must be 3"},
      {"concat", {{"axis", 2}}, {"f32[2,3]"}, "axis 2 is outside a tensor of rank 2"},
      {"slice", {{"starts", {1}}, {"ends", {5}}}, {"f32[4]"}, "do not lie inside extent 4"},
      {"slice", {{"starts", {0}}, {"ends", {4}}, {"steps", {0}}}, {"f32[4]"}, "a step of 0"},
      {"pad", {{"pads", {1, 1}}}, {"f32[2,2]"}, "needs 4 pads, not 2"},
      {"pad", {{"pads", {4, 0}}, {"mode", "reflect"}}, {"f32[3]"}, "too short to pad with 4"},
      {"pad", {{"pads", {1, 0}}, {"mode", "reflekt"}}, {"f32[3]"}, "did you mean 'reflect'"},
      {"transpose", {{"perm", {0, 0}}}, {"f32[2,3]"}, "each of the 2 dimensions once"},
      {"reshape", {{"shape", {4}}}, {"f32[2,3]"}, "6 elements"},
      {"expand", {{"shape", {2}}}, {"f32[3]"}, "do not broadcast"},
      {"gather", {{"axis", 0}}, {"f32[3]", "f32[2]"}, "indices must be i64 or i32"},
      {"gather_nd", Json::object(), {"f32[3]", "i64[4,2]"}, "tuples of 2 do not index"},
      {"cast", {{"to", "f33"}}, {"f32[3]"}, "did you mean 'f32'"},
  };
  for (const auto& bad : all) {
    INFO(bad.op << " " << bad.attributes.dump());
    CHECK_THAT(message_of(bad), Catch::Contains(bad.message));
  }
}

TEST_CASE("what is no operator module is refused", "[rules]") {
  Operators operators;
  CHECK_THROWS_WITH(operators.load("/no/such/module.so"), Catch::Contains("does not exist"));
  const TemporaryDirectory directory;
  const auto text = directory.path() / "text.so";
  write_file(text, "not a library");
  CHECK_THROWS_WITH(operators.load(text), Catch::Contains("cannot be loaded as an operator module"));
  CHECK_THROWS_WITH(operators.load("/proc/self/exe"), Catch::Contains("operator module"));
}

TEST_CASE("an operator's name is taken once", "[rules]") {
  Operators operators;
  const std::size_t count = operators.all().size();
  operators.add(operators.get("relu"));
  CHECK(operators.all().size() == count);
}

}  // namespace
}  // namespace heddle
