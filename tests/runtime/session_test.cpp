#include "runtime/session.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <thread>

#include "base/error.hpp"
#include "tests/runtime/sample_package.hpp"
#include "tests/runtime/session_inputs.hpp"

using namespace heddle;
using Catch::Matchers::Contains;
using runtime::HostTensor;
using runtime::Model;
using runtime::Session;
using runtime::SessionOptions;
using test::error_of;
using test::floats;
using test::numbers;
using test::tensor;

namespace {

std::shared_ptr<const Model> load(const plan::Package& package) {
  const TemporaryDirectory directory;
  test::write_sample(package, directory.path());
  return Model::load(directory.path());
}

std::vector<float> reference(const Array& x) { return test::sample_reference(floats(x)); }

/// The sample with another kernel in place of k_scale.
plan::Package with_kernel(const std::string& name) {
  plan::Package package = test::sample_package();
  package.modules[0].functions[0].steps[3].name = name;
  package.modules[0].kernels[1].name = name;
  return package;
}

}  // namespace

TEST_CASE("one package runs at several widths", "[session]") {
  const auto model = load(test::sample_package());
  for (const int threads : {1, 2}) {
    Session session(model, {.threads = threads, .poison = true});
    // More widths than plans are kept, and back again.
    for (const std::int64_t width : {4, 5, 64, 1000, 7, 8, 9, 10, 11, 12, 13, 4, 1000, 4096}) {
      Array x = numbers(width);
      session.set_input(0, tensor(x));
      session.run();
      CHECK(session.output(0).shape == Shape{2, width});
      CHECK(floats(session.output(0)) == reference(x));
      const HostTensor shape = session.output(1);
      CHECK(shape.dtype == DType::i64);
      const auto* extents = static_cast<const std::int64_t*>(shape.data);
      CHECK(std::vector<std::int64_t>(extents, extents + 3) == std::vector<std::int64_t>{2, width, 2 * width});
    }
  }
}

TEST_CASE("the input may change between runs without being set again", "[session]") {
  Session session(load(test::sample_package()));
  Array x = numbers(16);
  session.set_input(0, tensor(x));
  session.run();
  x.as<float>()[3] = 100;
  session.run();
  CHECK(floats(session.output(0)) == reference(x));
}

TEST_CASE("unaligned inputs and outputs work too", "[session]") {
  Session session(load(test::sample_package()));
  Array memory(DType::f32, {400});
  const Array x = numbers(20);
  float* unaligned = memory.as<float>().data() + 1;
  std::copy(x.as<float>().begin(), x.as<float>().end(), unaligned);
  session.set_input(0, {DType::f32, {2, 20}, unaligned});
  float* to = memory.as<float>().data() + 101;
  session.set_output(0, {DType::f32, {2, 20}, to});
  session.run();
  CHECK(session.output(0).data == to);
  CHECK(floats(session.output(0)) == reference(x));
  CHECK(to[40] == 0);
}

TEST_CASE("an aligned output is written in place", "[session]") {
  Session session(load(test::sample_package()), {.poison = true});
  Array x = numbers(20), out(DType::f32, {2, 20});
  session.set_input(0, tensor(x));
  session.set_output(0, tensor(out));
  session.run();
  CHECK(floats(tensor(out)) == reference(x));
  session.set_output(0, {});
  x.as<float>()[0] = 50;
  session.run();
  CHECK(session.output(0).data != out.data());
  CHECK(floats(session.output(0)) == reference(x));
}

TEST_CASE("inputs that do not fit are refused with what was expected", "[session]") {
  Session session(load(test::sample_package()));
  Array x = numbers(16);

  Error error = error_of([&] { session.run(); });
  CHECK(error.code() == ErrorCode::invalid_argument);
  CHECK_THAT(error.what(), Contains("input 'x' (f32 [2, W]) has not been set"));

  Array integers(DType::i32, {2, 16});
  error = error_of([&] { session.set_input(0, tensor(integers)); });
  CHECK_THAT(error.what(), Contains("input 'x' is f32, not i32"));

  Array flat(DType::f32, {32});
  error = error_of([&] { session.set_input(0, tensor(flat)); });
  CHECK_THAT(error.what(), Contains("does not fit [2, W]"));

  Array three(DType::f32, {3, 16});
  session.set_input(0, tensor(three));
  error = error_of([&] { session.run(); });
  CHECK(error.code() == ErrorCode::invalid_argument);
  CHECK_THAT(error.what(), Contains("input 'x': dimension 0 is 3, expected 2"));

  Array wide(DType::f32, {2, 5000});
  session.set_input(0, tensor(wide));
  error = error_of([&] { session.run(); });
  CHECK_THAT(error.what(), Contains("dimension 1 (W) is 5000, outside 1 to 4096"));

  Array narrow(DType::f32, {2, 3});
  session.set_input(0, tensor(narrow));
  error = error_of([&] { session.run(); });
  CHECK(error.code() == ErrorCode::invalid_argument);
  CHECK_THAT(error.what(), Contains("k_sum3") && Contains("must be at least 4") && Contains("the tile is four wide"));

  CHECK_THROWS_AS(session.output(0), Error);
  session.set_input(0, tensor(x));
  Array small(DType::f32, {2, 4});
  session.set_output(0, tensor(small));
  error = error_of([&] { session.run(); });
  CHECK_THAT(error.what(), Contains("output 'out' has shape 2x16") && Contains("2x4"));

  // And after all that it still works.
  session.set_output(0, {});
  session.run();
  CHECK(floats(session.output(0)) == reference(x));
}

TEST_CASE("dependent dimensions are checked against their expression", "[session]") {
  plan::Package package = test::sample_package();
  plan::Function& main = package.modules[0].functions[0];
  main.values.push_back(test::dense_value("twice", DType::f32, {2 * Extent::symbol("W") + 1}, plan::Storage::input));
  main.inputs.push_back(6);
  Session session(load(package));
  Array x = numbers(16), twice(DType::f32, {32});
  session.set_input(0, tensor(x));
  session.set_input(1, tensor(twice));
  const Error error = error_of([&] { session.run(); });
  CHECK_THAT(error.what(), Contains("input 'twice': dimension 0 is 32, expected 2*W + 1 = 33 (W = 16)"));
}

TEST_CASE("a kernel's error reaches the caller with its message and step", "[session]") {
  Session session(load(with_kernel("k_failing")));
  Array x = numbers(16);
  session.set_input(0, tensor(x));
  for (int again = 0; again < 2; ++again) {
    const Error error = error_of([&] { session.run(); });
    CHECK(error.code() == ErrorCode::internal);
    CHECK_THAT(error.what(),
               Contains("k_failing") && Contains("(width < 3) the width is too large") && Contains("step 3 'scale'"));
    CHECK_THROWS_AS(session.output(0), Error);
  }
}

TEST_CASE("poison shows what a kernel forgot to write", "[session]") {
  Session session(load(with_kernel("k_forgetful")), {.poison = true});
  Array x = numbers(16);
  session.set_input(0, tensor(x));
  for (int again = 0; again < 2; ++again) {
    session.run();
    const auto out = floats(session.output(0));
    CHECK(std::isnan(out[31]));
    CHECK(out[30] == 1);
  }
}

TEST_CASE("asynchronous stages hand over in order; a failing one stops the others", "[session]") {
  for (const int threads : {1, 2}) {
    Session session(load(with_kernel("k_async")), {.threads = threads});
    Array x = numbers(100);
    session.set_input(0, tensor(x));
    for (int again = 0; again < 5; ++again) {
      session.run();
      const auto out = floats(session.output(0));
      for (int i = 0; i < 100; ++i)
        REQUIRE(out[static_cast<std::size_t>(i)] == static_cast<float>((i + 1) * (i + 2) / 2));
    }
    Array failing = numbers(13);
    session.set_input(0, tensor(failing));
    const Error error = error_of([&] { session.run(); });
    CHECK_THAT(error.what(), Contains("the producer fails"));
  }
}

TEST_CASE("independent iterations of a parallel task run once each", "[session]") {
  Session session(load(with_kernel("k_tasks")), {.threads = 2});
  Array x = numbers(300);
  session.set_input(0, tensor(x));
  session.run();
  const auto out = floats(session.output(0));
  for (int i = 0; i < 300; ++i) REQUIRE(out[static_cast<std::size_t>(i)] == static_cast<float>(i));
}

TEST_CASE("steps run in isolation on logical tensors", "[session]") {
  const auto model = load(test::sample_package());
  Session session(model, {.poison = true});
  CHECK_THROWS_AS(session.read(0), Error);
  session.prepare({{"W", 6}});
  CHECK(session.symbols() == SymbolValues{{"W", 6}});

  // The consumer of `padded` sees what was written, its border filled.
  const Array padded = numbers(6);
  session.write(1, padded);
  CHECK(session.read(1) == padded);
  session.run_step(2);
  const auto y = session.read(2);
  CHECK(y.as<float>()[0] == -1 + 1 + 2);
  CHECK(y.as<float>()[5] == 5 + 6 - 1);

  const Array in = numbers(6);
  session.write(0, in);
  session.run_step(0);
  CHECK(session.read(1) == in);
  session.write(2, in);
  session.run_step(3);
  CHECK(session.read(4).as<float>()[7] == 8 * 5);
  session.run_step(4);
  CHECK(session.read(5).as<std::int64_t>()[2] == 12);
  CHECK(session.read(3).as<float>()[1] == 5);

  CHECK_THROWS_AS(session.write(3, Array(DType::f32, {2})), Error);  // a constant
  CHECK_THROWS_AS(session.write(1, Array(DType::f32, {2, 5})), Error);
  CHECK_THROWS_AS(session.prepare({{"W", 5000}}), Error);
  CHECK_THROWS_AS(session.prepare({}), Error);
  CHECK_THROWS_AS(session.run_step(5), Error);

  // Writing an input after a run leaves the caller's memory alone.
  Array x = numbers(6);
  session.set_input(0, tensor(x));
  session.run();
  session.write(0, Array(DType::f32, {2, 6}));
  CHECK(x == numbers(6));
  CHECK(session.read(0) == Array(DType::f32, {2, 6}));
}

TEST_CASE("steps are timed when asked", "[session]") {
  const auto model = load(test::sample_package());
  Array x = numbers(4096);
  Session session(model, {.profile = true});
  session.set_input(0, tensor(x));
  session.run();
  const auto times = session.profile();
  REQUIRE(times.size() == 5);
  for (std::size_t s = 0; s + 1 < times.size(); ++s)
    CHECK(times[s].start_ns + times[s].duration_ns <= times[s + 1].start_ns);
  CHECK(times[2].duration_ns > 0);
  CHECK(session.flops(2) == 4 * 4096);
  CHECK(session.bytes(2) == 4 * (4 * 4096 + 4));
  CHECK(Session(model).profile().empty());
}

TEST_CASE("sessions of one model run at the same time", "[session]") {
  const auto model = load(test::sample_package());
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      Session session(model, {.threads = 2, .pin = t == 0});
      for (int round = 0; round < 200; ++round) {
        Array x = numbers(100 + 10 * t + round % 3);
        session.set_input(0, tensor(x));
        session.run();
        if (floats(session.output(0)) != reference(x)) wrong.fetch_add(1);
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong.load() == 0);
}

TEST_CASE("sessions that never run at the same time may share their intermediates' memory", "[session]") {
  const auto model = load(test::sample_package());
  const auto arena = std::make_shared<runtime::Pages>();
  Session one(model, {.arena = arena}), other(model, {.arena = arena});
  // The wider one makes the memory larger, and the first one has to notice.
  for (const std::int64_t width : {16, 1000, 4096}) {
    Array x = numbers(16), y = numbers(width);
    one.set_input(0, tensor(x));
    other.set_input(0, tensor(y));
    for (int turn = 0; turn < 2; ++turn) {
      one.run();
      CHECK(floats(one.output(0)) == reference(x));
      other.run();
      CHECK(floats(other.output(0)) == reference(y));
      CHECK(arena->size() >= other.arena_bytes());
    }
  }
}

TEST_CASE("one session may be used from several threads", "[session]") {
  const auto model = load(test::sample_package());
  Session session(model, {.threads = 2});
  Array x = numbers(100);
  session.set_input(0, tensor(x));
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        try {
          session.run();
          session.profile();
        } catch (const Error&) {
          failed.fetch_add(1);
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(failed.load() == 0);
  CHECK(floats(session.output(0)) == reference(x));
}

TEST_CASE("a forked child can use a session", "[session]") {
  Session session(load(test::sample_package()), {.threads = 2});
  Array x = numbers(100);
  session.set_input(0, tensor(x));
  session.run();
  const ::pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    session.run();
    ::_exit(floats(session.output(0)) == reference(x) ? 0 : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("outputs that no kernel writes are copied", "[session]") {
  // The outputs: an intermediate with a border, the input itself, a constant, and one output twice.
  plan::Package package = test::sample_package();
  plan::Function& main = package.modules[0].functions[0];
  main.outputs = {4, 5, 1, 0, 3, 4};
  Session session(load(package), {.poison = true});
  Array x = numbers(9);
  session.set_input(0, tensor(x));
  session.run();
  CHECK(floats(session.output(0)) == reference(x));
  CHECK(floats(session.output(2)) == floats(tensor(x)));
  CHECK(floats(session.output(3)) == floats(tensor(x)));
  CHECK(floats(session.output(4)) == std::vector<float>{3, 5});
  CHECK(floats(session.output(5)) == reference(x));
}

TEST_CASE("aliases show the bytes of another value", "[session]") {
  // y seen transposed, copied to an output.
  plan::Package package = test::sample_package();
  plan::Function& main = package.modules[0].functions[0];
  const Extent w = Extent::symbol("W");
  plan::Value alias = test::dense_value("y_transposed", DType::f32, {w, 2}, plan::Storage::alias);
  alias.strides = {1, w};
  alias.of = 2;
  main.values.push_back(alias);
  main.outputs.push_back(6);
  Session session(load(package));
  Array x = numbers(5);
  session.set_input(0, tensor(x));
  session.run();
  const auto y = floats(session.output(2));
  CHECK(session.output(2).shape == Shape{5, 2});
  CHECK(y[0] == -1 + 1 + 2);
  CHECK(y[1] == -1 + 6 + 7);
  CHECK(y[2] == 1 + 2 + 3);
}
