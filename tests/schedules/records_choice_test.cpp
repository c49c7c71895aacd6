// Which record a workload is compiled with.
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <sstream>

#include "base/error.hpp"
#include "base/file.hpp"
#include "ops/catalog.hpp"
#include "schedules/family.hpp"
#include "schedules/records.hpp"
#include "targets/target.hpp"
#include "tests/schedules/record_fixture.hpp"

namespace heddle {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

Workload product(const Extent& m) {
  SymbolRanges ranges;
  for (const auto& symbol : m.symbols()) ranges[symbol] = {1, 512};
  return Workload::of(Operators().get("matmul"), Json::object(),
                      {tensor(DType::f32, {m, 64}), tensor(DType::f32, {64, 32})}, ranges, 2);
}

const std::string good = "variant direct\nout.split(n, no, ni, 8).vectorize(ni)\n";

/// What the log said while it lived.
class Log {
 public:
  Log() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_;
};

/// A store with records of one workload.
class Records {
 public:
  Records() : store((directory_.path() / "tune.db").string()) {}

  std::int64_t add(const Workload& workload, const std::string& machine, double seconds,
                   const std::string& schedule = good) {
    Record record = testing::trial(next_++, machine, seconds);
    record.workload = workload.text();
    record.target = "x86-64-linux-avx2";
    record.implementation = schedule;
    record.requirements = requirements;
    return store.add(record);
  }

 private:
  TemporaryDirectory directory_;
  int next_ = 0;

 public:
  RecordStore store;
  std::string requirements;
};

const std::string here = "AMD EPYC 7763, 32 KiB L1, 512 KiB L2";

Machine avx2() { return find_target("x86-64-linux-avx2").machine; }

TEST_CASE("machines are alike by their caches and makers", "[records]") {
  CHECK(machine_distance(here, here) == 0);
  const double sibling = machine_distance(here, "AMD EPYC 7543, 32 KiB L1, 512 KiB L2");
  const double larger = machine_distance(here, "AMD EPYC 9654, 32 KiB L1, 1024 KiB L2");
  const double foreign = machine_distance(here, "Intel Xeon Platinum 8488C, 48 KiB L1, 2048 KiB L2");
  CHECK(0 < sibling);
  CHECK(sibling < larger);
  CHECK(larger < foreign);
  CHECK(machine_distance(here, "AMD EPYC 9654, 32 KiB L1, 1024 KiB L2") ==
        Approx(machine_distance("AMD EPYC 9654, 32 KiB L1, 1024 KiB L2", here)));
  CHECK(machine_distance("", here) > 0);
  CHECK(machine_distance(here, here + ", 256 MiB L3") > 0);
  // This one has a name of that form.
  const std::string name = machine_name();
  CHECK_FALSE(name.empty());
  CHECK(name == machine_name());
  CHECK_THAT(name, !Contains("(R)") && !Contains("  ") && !Contains("@"));
}

TEST_CASE("the best record of this machine is chosen, else of the nearest one", "[records]") {
  const Workload w = product(128);
  Records records;
  CHECK_FALSE(choose_record(records.store, w, avx2(), here).has_value());
  records.add(product(64), here, 1e-6);  // another workload
  CHECK_FALSE(choose_record(records.store, w, avx2(), here).has_value());

  const auto far = records.add(w, "Intel Xeon Platinum 8488C, 48 KiB L1, 2048 KiB L2", 1e-6);
  CHECK(choose_record(records.store, w, avx2(), here)->record.id == far);
  records.add(w, "AMD EPYC 7543, 32 KiB L1, 512 KiB L2", 3e-6);
  const auto near = records.add(w, "AMD EPYC 7543, 32 KiB L1, 512 KiB L2", 2e-6);
  const auto nearest = choose_record(records.store, w, avx2(), here).value();
  CHECK(nearest.record.id == near);
  CHECK(nearest.choice.source == "record " + std::to_string(near) + " of " + records.store.name() +
                                     ", measured on the nearest machine (AMD EPYC 7543, 32 KiB L1, 512 KiB L2)");
  const auto own = records.add(w, here, 5e-6);
  const auto exact = choose_record(records.store, w, avx2(), here).value();
  CHECK(exact.record.id == own);
  CHECK(exact.choice.source ==
        "record " + std::to_string(own) + " of " + records.store.name() + ", measured on this machine");
  CHECK(exact.choice.implementation.print() == Implementation::parse(good).print());

  CHECK_FALSE(choose_record(records.store, w, find_target("x86-64-linux-avx512").machine, here).has_value());
}

TEST_CASE("a record that no longer fits is passed over with a warning", "[records]") {
  const Workload w = product(128);
  Records records;
  const auto garbled = records.add(w, here, 1e-6, "out.splt(x");
  const auto renamed = records.add(w, here, 2e-6, "variant direct\nouter.vectorize(x, 8)\n");
  const Log log;
  CHECK_FALSE(choose_record(records.store, w, avx2(), here).has_value());
  const auto fits = records.add(w, here, 3e-6);
  CHECK(choose_record(records.store, w, avx2(), here)->record.id == fits);
  for (const auto id : {garbled, renamed})
    CHECK_THAT(log.text(),
               Contains("record " + std::to_string(id) + " of " + records.store.name() + " no longer fits matmul"));
  CHECK_THAT(log.text(), Contains("did you mean") && !Contains("record " + std::to_string(fits) + " of"));
}

TEST_CASE("where extents vary a record has to say what its schedule needs", "[records]") {
  const Workload w = product(Extent::symbol("M"));
  Records records;
  const Log log;
  records.add(w, here, 1e-6);
  CHECK_FALSE(choose_record(records.store, w, avx2(), here).has_value());
  CHECK_THAT(log.text(), Contains("does not say which extents"));
  records.requirements =
      print_requirements({{ScheduleRequirement::Kind::at_least, Extent::symbol("M"), 8, "rows of a tile"}});
  records.add(w, here, 2e-6);
  const auto found = choose_record(records.store, w, avx2(), here).value();
  REQUIRE(found.choice.requirements.size() == 1);
  CHECK(found.choice.requirements[0].right == Extent(8));
}

TEST_CASE("choose takes a file, then a record, then a family", "[records]") {
  const Workload w = product(128);
  Records records;
  CHECK_THAT(choose(w, avx2(), {}, &records.store).source, StartsWith("family matmul_packed"));
  records.add(w, here, 1e-6);
  CHECK_THAT(choose(w, avx2(), {}, &records.store).source, StartsWith("record 1 of sqlite:"));
  CHECK_THAT(choose(w, avx2()).source, StartsWith("family matmul_packed"));
  const TemporaryDirectory directory;
  const auto file = directory.path() / "a.sched";
  write_file(file, good);
  CHECK(choose(w, avx2(), file, &records.store).source == "file " + file.string());
}

}  // namespace
}  // namespace heddle
