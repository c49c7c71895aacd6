#include <catch2/catch.hpp>

#include "dsl/knobs.hpp"
#include "dsl/reflect.hpp"
#include "tests/dsl/schedule_fixture.hpp"

using namespace heddle;
using heddle::test::message_of;

namespace {

enum class Mode { nearest, linear };
std::string_view to_string(Mode m) { return m == Mode::nearest ? "nearest" : "linear"; }
std::array<Mode, 2> enum_values(Mode) { return {Mode::nearest, Mode::linear}; }

struct ConvKnobs {
  BOOST_HANA_DEFINE_STRUCT(ConvKnobs, (OneOf<1, 2, 4>, vectors), (InRange<1, 14>, pixels));
};
struct NoKnobs {
  BOOST_HANA_DEFINE_STRUCT(NoKnobs);
};

struct Attributes {
  std::int64_t stride = 1;
  int groups = 2;
  std::vector<std::int64_t> pads{0, 0};
  double scale = -std::numeric_limits<double>::infinity();
  std::vector<double> scales{};
  bool ceil = false;
  std::string label = "a";
  Mode mode = Mode::linear;
  DType to = DType::i8;
};

}  // namespace

BOOST_HANA_ADAPT_STRUCT(Attributes, stride, groups, pads, scale, scales, ceil, label, mode, to);

TEST_CASE("knobs through text and JSON", "[knobs]") {
  ConvKnobs k;
  CHECK(k.vectors == 1);
  k.vectors = 4;
  k.pixels = 7;
  CHECK(k.vectors * k.pixels == 28);
  CHECK(print_knobs(k) == "vectors=4,pixels=7");
  const auto read = parse_knobs<ConvKnobs>(" pixels = 7, vectors=4 ", "family conv");
  CHECK(read.vectors == 4);
  CHECK(read.pixels == 7);
  CHECK(parse_knobs<ConvKnobs>("pixels=3", "family conv", k).vectors == 4);
  CHECK(knobs_to_json(k).dump() == R"({"pixels":7,"vectors":4})");
  CHECK(print_knobs(knobs_from_json<ConvKnobs>(knobs_to_json(k), "family conv")) == print_knobs(k));
  CHECK(knobs_of<ConvKnobs>()[0] == Knob{"vectors", 1, {1, 2, 4}});
  CHECK(print_knobs(NoKnobs{}).empty());
  CHECK_NOTHROW(parse_knobs<NoKnobs>("", "family relu"));

  const auto message = [](const char* text) {
    return message_of([&] { parse_knobs<ConvKnobs>(text, "family conv"); });
  };
  CHECK(message("vector=4") == "family conv: no knob 'vector' (did you mean 'vectors'?); it has vectors, pixels");
  CHECK(message("vectors=3") == "family conv: knob 'vectors' cannot be 3; it takes 1, 2, 4");
  CHECK(message("pixels=15") == "family conv: knob 'pixels' cannot be 15; it takes 1 to 14");
  CHECK(message("pixels=x") == "family conv: knob 'pixels' needs an integer, not 'x'");
  CHECK(message("pixels=7,") == "family conv: expected a knob after the last ','");
  CHECK(message("pixels") == "family conv: expected knob=value, not 'pixels'");
  CHECK(message("pixels=7,pixels=7") == "family conv: knob 'pixels' is set twice");
  CHECK(message_of([] { knobs_from_json<ConvKnobs>(nlohmann::json{{"pixels", "7"}}, "family conv"); }) ==
        "family conv: 'pixels' must be an integer, not \"7\"");
}

TEST_CASE("reflection over attributes", "[reflect]") {
  const nlohmann::json defaults = reflect::to_json(Attributes{});
  CHECK(
      defaults.dump() ==
      R"({"ceil":false,"groups":2,"label":"a","mode":"linear","pads":[0,0],"scale":"-inf","scales":[],"stride":1,"to":"i8"})");
  const auto read = reflect::from_json<Attributes>(
      nlohmann::json::parse(R"({"stride":2,"pads":[1,2],"scale":0.5,"scales":[1,"inf"],"mode":"nearest","to":"f16"})"),
      "attributes of conv");
  CHECK(read.stride == 2);
  CHECK(read.groups == 2);
  CHECK(read.pads == std::vector<std::int64_t>{1, 2});
  CHECK(read.scales[1] == std::numeric_limits<double>::infinity());
  CHECK(read.mode == Mode::nearest);
  CHECK(read.to == DType::f16);
  CHECK(reflect::to_json(reflect::from_json<Attributes>(defaults, "x")) == defaults);
  CHECK(reflect::member_names<ConvKnobs>() == std::vector<std::string>{"vectors", "pixels"});

  const auto members = reflect::describe<Attributes>();
  REQUIRE(members.size() == 9);
  CHECK(members[0].name == "stride");
  CHECK(members[0].type == "int");
  CHECK(members[2].type == "ints");
  CHECK(members[7].type == "choice");
  CHECK(members[7].choices == std::vector<std::string>{"nearest", "linear"});

  const auto message = [](const char* json) {
    return message_of([&] { reflect::from_json<Attributes>(nlohmann::json::parse(json), "attributes of conv"); });
  };
  CHECK(message(R"({"strid":2})") ==
        "attributes of conv: unknown member 'strid' (did you mean 'stride'?); it has stride, groups, pads, scale, "
        "scales, ceil, label, mode, to");
  CHECK(message(R"({"stride":2.5})") == "attributes of conv: 'stride' must be an integer, not 2.5");
  CHECK(message(R"({"stride":18446744073709551615})") ==
        "attributes of conv: 'stride' must be an integer, not 18446744073709551615");
  CHECK(message(R"({"groups":4294967296})") == "attributes of conv: 'groups' is out of range: 4294967296");
  CHECK(message(R"({"pads":3})") == "attributes of conv: 'pads' must be a list of integers, not 3");
  CHECK(message(R"({"ceil":1})") == "attributes of conv: 'ceil' must be true or false, not 1");
  CHECK(message(R"({"mode":"linea"})") ==
        "attributes of conv: 'mode' cannot be 'linea' (did you mean 'linear'?); it is one of nearest, linear");
  CHECK(message("[]") == "attributes of conv must be an object {\"name\": value, ...}, not []");
}
