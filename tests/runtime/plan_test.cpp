#include "runtime/plan.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.hpp"
#include "base/file.hpp"
#include "tests/runtime/sample_package.hpp"

using namespace heddle;
using Catch::Matchers::Contains;
using nlohmann::json;

namespace {

/// The manifest without its own checksum, so that a test can change it.
json open_manifest() {
  json j = json::parse(plan::to_json(test::sample_package()));
  j.erase("checksum");
  return j;
}

ErrorCode code_of(const std::string& text, std::string* message = nullptr) {
  try {
    plan::from_json(text);
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  FAIL("a damaged manifest was read: " << text.substr(0, 200));
  return ErrorCode::internal;
}

}  // namespace

TEST_CASE("a manifest survives writing and reading", "[plan]") {
  plan::Package package = test::sample_package();
  plan::Value& value = package.modules[0].functions[0].values[1];
  for (const double border :
       {0.0, 1.5, -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()}) {
    value.border_value = border;
    const std::string text = plan::to_json(package);
    const plan::Package read = plan::from_json(text);
    CHECK(plan::to_json(read) == text);
    CHECK(read.modules[0].functions[0].values[1].border_value == border);
  }
  value.border_value = std::nan("");
  CHECK(std::isnan(plan::from_json(plan::to_json(package)).modules[0].functions[0].values[1].border_value));

  const plan::Package read = plan::from_json(plan::to_json(package));
  const plan::Function& before = package.modules[0].functions[0];
  const plan::Function& after = read.modules[0].functions[0];
  REQUIRE(after.values.size() == before.values.size());
  for (std::size_t v = 0; v < before.values.size(); ++v) {
    CHECK(after.values[v].name == before.values[v].name);
    CHECK(after.values[v].origin == before.values[v].origin);
    CHECK(after.values[v].dtype == before.values[v].dtype);
    CHECK(after.values[v].shape == before.values[v].shape);
    CHECK(after.values[v].strides == before.values[v].strides);
    CHECK(after.values[v].border_before == before.values[v].border_before);
    CHECK(after.values[v].border_after == before.values[v].border_after);
    CHECK(after.values[v].offset == before.values[v].offset);
    CHECK(after.values[v].elements == before.values[v].elements);
    CHECK(after.values[v].storage == before.values[v].storage);
    CHECK(after.values[v].of == before.values[v].of);
    CHECK(after.values[v].file_offset == before.values[v].file_offset);
  }
  CHECK(after.inputs == before.inputs);
  CHECK(after.outputs == before.outputs);
  REQUIRE(after.steps.size() == before.steps.size());
  CHECK(after.steps[2].symbols == before.steps[2].symbols);
  CHECK(after.steps[2].flops == before.steps[2].flops);
  CHECK(after.steps[2].inputs[0].dimensions[0].extent == before.steps[2].inputs[0].dimensions[0].extent);
  REQUIRE(read.modules[0].kernels.size() == package.modules[0].kernels.size());
  CHECK(read.modules[0].kernels[0].preconditions[0].left == package.modules[0].kernels[0].preconditions[0].left);
  CHECK(read.symbols[0].max == package.symbols[0].max);
}

TEST_CASE("fixed extents are written as JSON integers, others as their text", "[plan]") {
  const json j = open_manifest();
  const json& shape = j["modules"][0]["functions"][0]["values"][0]["shape"];
  CHECK(shape[0] == 2);
  CHECK(shape[1] == "W");
}

TEST_CASE("a damaged manifest is refused with the field's name", "[plan]") {
  const auto refused = [](const std::function<void(json&)>& damage, const std::string& field) {
    json j = open_manifest();
    damage(j);
    std::string message;
    CHECK(code_of(j.dump(), &message) == ErrorCode::corrupt);
    CHECK_THAT(message, Contains(field));
  };
  refused([](json& j) { j.erase("version"); }, "version is missing");
  refused([](json& j) { j.erase("symbols"); }, "symbols is missing");
  refused([](json& j) { j["modules"] = 3; }, "modules is not a list");
  refused([](json& j) { j["modules"][0]["rank"] = "high"; }, "modules[0].rank is not an integer");
  refused([](json& j) { j["modules"][0]["functions"][0]["values"][1]["dtype"] = "f33"; },
          "modules[0].functions[0].values[1].dtype");
  refused([](json& j) { j["modules"][0]["functions"][0]["values"][1]["shape"][1] = "W +"; },
          "modules[0].functions[0].values[1].shape[1]");
  refused([](json& j) { j["modules"][0]["functions"][0]["values"][1]["strides"] = json::array({1}); },
          "values[1].strides has 1 entries for 2 dimensions");
  refused([](json& j) { j["modules"][0]["functions"][0]["values"][1]["storage"] = "attic"; },
          "storage has the unknown value 'attic'");
  refused([](json& j) { j["modules"][0]["functions"][0]["values"][1]["border_before"] = json::array({-1, 0}); },
          "border_before[0]");
  refused([](json& j) { j["modules"][0]["functions"][0]["steps"][0]["kind"] = "dance"; }, "steps[0].kind");
  refused(
      [](json& j) { j["modules"][0]["functions"][0]["steps"][2]["inputs"][0]["dimensions"][0] = json::array({0, 1}); },
      "steps[2].inputs[0].dimensions[0] is not a list of 3");
  refused([](json& j) { j["modules"][0]["functions"][0]["inputs"][0] = 5000000000; }, "inputs[0] is 5000000000");
  refused([](json& j) { j["symbols"][0]["min"] = 10000000; }, "symbols[0].min is greater than max");
  refused([](json& j) { j["files"][0]["bytes"] = -1; }, "files[0].bytes");
}

TEST_CASE("a manifest of another version says what to update", "[plan]") {
  json j = open_manifest();
  j["version"] = plan::Package::current_version + 1;
  std::string message;
  CHECK(code_of(j.dump(), &message) == ErrorCode::unsupported);
  CHECK_THAT(message, Contains("update Heddle"));
}

TEST_CASE("a manifest that was changed after it was written is refused", "[plan]") {
  std::string text = plan::to_json(test::sample_package());
  const auto at = text.find("\"rank\":");
  REQUIRE(at != std::string::npos);
  text[at + 7] = text[at + 7] == '7' ? '8' : '7';
  std::string message;
  CHECK(code_of(text, &message) == ErrorCode::corrupt);
  CHECK_THAT(message, Contains("changed"));
}

TEST_CASE("cut or garbled manifests give an error, never anything else", "[plan]") {
  const std::string whole = plan::to_json(test::sample_package());
  for (std::size_t length = 0; length + 2 < whole.size(); length += 97)
    CHECK(code_of(whole.substr(0, length)) == ErrorCode::corrupt);
  CHECK(code_of("") == ErrorCode::corrupt);
  CHECK(code_of("[1, 2]") == ErrorCode::corrupt);

  const std::string open = open_manifest().dump();
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    std::string text = open;
    for (int change = 0; change < 3; ++change) text[random() % text.size()] = static_cast<char>(random() % 256);
    try {
      plan::from_json(text);
    } catch (const Error& error) {
      CHECK((error.code() == ErrorCode::corrupt || error.code() == ErrorCode::unsupported));
    }
  }
}

TEST_CASE("checksums are SHA-256 for small files and XXH3 for large ones", "[plan]") {
  CHECK(plan::checksum("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::string large((std::size_t{1} << 20) + 1, 'x');
  const std::string sum = plan::checksum(large);
  CHECK_THAT(sum, Catch::Matchers::StartsWith("xxh3:"));
  large[77777] = 'y';
  CHECK(plan::checksum(large) != sum);
}
