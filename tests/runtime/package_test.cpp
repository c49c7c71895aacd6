#include <catch2/catch.hpp>
#include <filesystem>

#include "base/error.hpp"
#include "runtime/cpu.hpp"
#include "runtime/model.hpp"
#include "runtime/session.hpp"
#include "tests/runtime/sample_package.hpp"

using namespace heddle;
using Catch::Matchers::Contains;
using runtime::Model;

namespace {

namespace fs = std::filesystem;

void check_refused(const fs::path& path, ErrorCode code, const std::string& message, const std::string& target = "") {
  try {
    Model::load(path, {.target = target});
  } catch (const Error& error) {
    CHECK(error.code() == code);
    CHECK_THAT(error.what(), Contains(message));
    CHECK_THAT(error.what(), Contains(path.string()));
    return;
  }
  FAIL_CHECK("a package was loaded that should have been refused: " << message);
}

/// The manifest after a change, loaded.
void check_contradiction(const std::function<void(plan::Package&)>& damage, const std::string& message,
                         ErrorCode code = ErrorCode::corrupt) {
  const TemporaryDirectory directory;
  plan::Package package = test::sample_package();
  damage(package);
  test::write_sample(package, directory.path());
  check_refused(directory.path(), code, message);
}

void change_byte(const fs::path& path, std::size_t at) {
  std::string bytes = read_file(path);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_file(path, bytes);
}

}  // namespace

TEST_CASE("a package loads", "[package]") {
  const TemporaryDirectory directory;
  test::write_sample(test::sample_package(), directory.path());
  const auto model = Model::load(directory.path());
  CHECK(model->module().target == "sample");
  CHECK(model->package().model == "sample");
  CHECK(model->entry("k_scale") != nullptr);
  CHECK_THROWS_AS(model->entry("k_none"), Error);
}

TEST_CASE("what is no package says so", "[package]") {
  const TemporaryDirectory directory;
  check_refused(directory.path() / "nowhere", ErrorCode::not_found, "there is no package");
  check_refused(directory.path(), ErrorCode::not_found, "no manifest.json");
  write_file(directory.path() / "file", "x");
  check_refused(directory.path() / "file", ErrorCode::not_found, "a package is a directory");
}

TEST_CASE("a damaged package is refused", "[package]") {
  const TemporaryDirectory directory;
  const auto fresh = [&] { test::write_sample(test::sample_package(), directory.path()); };
  fresh();
  change_byte(directory.path() / "cpu/sample.weights", 70);
  check_refused(directory.path(), ErrorCode::corrupt, "'cpu/sample.weights' is not the file that was compiled");
  fresh();
  change_byte(directory.path() / "cpu/sample.so", 5000);
  check_refused(directory.path(), ErrorCode::corrupt, "'cpu/sample.so' is not the file that was compiled");
  fresh();
  fs::resize_file(directory.path() / "cpu/sample.weights", 100);
  check_refused(directory.path(), ErrorCode::corrupt, "has 100 bytes instead of 128");
  fresh();
  fs::remove(directory.path() / "cpu/sample.so");
  check_refused(directory.path(), ErrorCode::not_found, "sample.so");
  fresh();
  change_byte(directory.path() / "manifest.json", 200);
  check_refused(directory.path(), ErrorCode::corrupt, "the manifest");
  fresh();
  fs::resize_file(directory.path() / "manifest.json", 300);
  check_refused(directory.path(), ErrorCode::corrupt, "not JSON");
}

TEST_CASE("large weights are verified too", "[package]") {
  const TemporaryDirectory directory;
  plan::Package package = test::sample_package();
  test::write_sample(package, directory.path());
  std::string weights = test::sample_weights();
  weights.resize(std::size_t{3} << 20);
  write_file(directory.path() / "cpu/sample.weights", weights);
  for (plan::File& file : package.files) {
    const std::string bytes = read_file(directory.path() / file.path);
    file.bytes = bytes.size();
    file.sha256 = plan::checksum(bytes);
  }
  write_file(directory.path() / "manifest.json", plan::to_json(package));
  CHECK_NOTHROW(Model::load(directory.path()));
  change_byte(directory.path() / "cpu/sample.weights", weights.size() - 1);
  check_refused(directory.path(), ErrorCode::corrupt, "checksum differs");
}

TEST_CASE("the best module for this processor is taken", "[package]") {
  plan::Package package = test::sample_package();
  plan::Module other = package.modules[0];
  other.target = "better";
  other.rank = 5;
  package.modules.push_back(other);
  other.target = "impossible";
  other.rank = 9;
  other.features = {"warp_drive", "avx512f"};
  package.modules.push_back(other);
  other.target = "foreign";
  other.features = {};
  other.architecture = "pdp11";
  package.modules.push_back(other);
  const TemporaryDirectory directory;
  test::write_sample(package, directory.path());
  CHECK(Model::load(directory.path())->module().target == "better");
  CHECK(Model::load(directory.path(), {.target = "sample"})->module().target == "sample");
  check_refused(directory.path(), ErrorCode::unsupported, "impossible needs warp_drive", "impossible");
  check_refused(directory.path(), ErrorCode::unsupported, "foreign is for pdp11", "foreign");
  check_refused(directory.path(), ErrorCode::not_found, "did you mean 'better'", "bettr");

  package.modules.erase(package.modules.begin(), package.modules.begin() + 2);
  const TemporaryDirectory none;
  test::write_sample(package, none.path());
  check_refused(none.path(), ErrorCode::unsupported, "impossible needs warp_drive");
  check_refused(none.path(), ErrorCode::unsupported, "foreign is for pdp11, not " + runtime::cpu_architecture());
}

TEST_CASE("a processor's features have the kernel's names", "[package]") {
  // What the kernel lists too: a name of our own would never match a package's.
  const std::string cpuinfo = read_file("/proc/cpuinfo");
  const auto& features = runtime::cpu_features();
  CHECK((features.contains("sse4_1") || features.contains("asimd")));
  for (const std::string& name : features) {
    if (name == "dotprod") continue;  // the kernel says asimddp
    INFO(name);
    CHECK(
        (cpuinfo.find(" " + name + " ") != std::string::npos || cpuinfo.find(" " + name + "\n") != std::string::npos));
  }
  if (runtime::cpu_architecture() == "x86_64") {
    for (const std::string& name : std::vector<std::string>{"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vbmi",
                                                            "avx512_vbmi2", "avx512_vnni", "avx512_bf16", "avx_vnni",
                                                            "bmi1", "bmi2", "amx_tile", "amx_int8", "amx_bf16"}) {
      INFO(name);
      CHECK(features.contains(name) == (cpuinfo.find(" " + name + " ") != std::string::npos));
    }
  }
  CHECK(runtime::missing_features({"warp_drive"}) == std::vector<std::string>{"warp_drive"});
  CHECK(runtime::missing_features({features.begin(), features.end()}).empty());
}

TEST_CASE("a manifest that contradicts itself is refused", "[package]") {
  using Package = plan::Package;
  const auto main = [](Package& p) -> plan::Function& { return p.modules[0].functions[0]; };
  check_contradiction([&](Package& p) { main(p).steps[2].name = "k_none"; }, "there is no kernel 'k_none'");
  check_contradiction(
      [&](Package& p) {
        p.modules[0].kernels[1].name = "k_none";
        main(p).steps[3].name = "k_none";
      },
      "has no kernel 'k_none_argv'");
  check_contradiction([&](Package& p) { main(p).steps[2].inputs[0].value = 77; }, "step 2 'sum of three'");
  check_contradiction([&](Package& p) { main(p).steps[2].symbols = {"Z"}; }, "symbol 'Z' is not declared");
  check_contradiction([&](Package& p) { main(p).values[1].shape[1] = Extent::symbol("Z"); }, "symbol 'Z'");
  check_contradiction([&](Package& p) { main(p).values[3].file_offset = 128; }, "does not lie within the weights");
  check_contradiction([&](Package& p) { main(p).values[3].file_offset = 4; }, "does not lie within the weights");
  check_contradiction([&](Package& p) { main(p).values[3].elements = std::int64_t{1} << 62; }, "within the weights");
  check_contradiction([&](Package& p) { main(p).inputs = {1}; }, "an input is not a value of storage 'input'");
  check_contradiction([&](Package& p) { main(p).inputs = {}; }, "neither an input nor an output");
  check_contradiction([&](Package& p) { main(p).outputs = {99}; }, "an output is not a value");
  check_contradiction([&](Package& p) { main(p).steps[0].outputs[0].value = 3; }, "which is an input or a constant");
  check_contradiction(
      [&](Package& p) {
        main(p).values[2].storage = plan::Storage::alias;
        main(p).values[2].of = 2;
      },
      "an alias shows no value");
  check_contradiction([&](Package& p) { p.files.pop_back(); }, "gives no checksum of");
  check_contradiction([&](Package& p) { p.modules[0].file = "../sample.so"; }, "leads outside the package");
  check_contradiction([&](Package& p) { p.modules.clear(); }, "lists no modules");
  check_contradiction([&](Package& p) { p.modules[0].functions.clear(); }, "there is no function");
  check_contradiction([&](Package& p) { main(p).steps[4].name = "evaluat"; }, "did you mean 'evaluate'",
                      ErrorCode::unsupported);
  check_contradiction([&](Package& p) { main(p).values[1].storage = plan::Storage::heap; }, "not supported",
                      ErrorCode::unsupported);
  check_contradiction([&](Package& p) { main(p).values[1].dtype = DType::string; }, "not supported",
                      ErrorCode::unsupported);
  check_contradiction(
      [&](Package& p) {
        main(p).steps[0].kind = plan::StepKind::call;
        main(p).steps[0].functions = {"main"};
        main(p).steps[0].outputs.push_back(main(p).steps[0].outputs[0]);
      },
      "calls itself");
}

TEST_CASE("an argument beyond its value's memory is found before it runs", "[package]") {
  plan::Package package = test::sample_package();
  package.modules[0].functions[0].values[1].elements = 2 * Extent::symbol("W");
  const TemporaryDirectory directory;
  test::write_sample(package, directory.path());
  runtime::Session session(Model::load(directory.path()));
  try {
    session.prepare({{"W", 8}});
    FAIL("an argument outside its memory was accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::corrupt);
    CHECK_THAT(error.what(), Contains("'padded'"));
  }
}
