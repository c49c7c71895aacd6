#include "tests/schedules/record_fixture.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <exception>
#include <vector>

#include <fmt/format.h>

namespace heddle::testing {

Record trial(int number, const std::string& machine, double seconds) {
  Record record;
  record.search = "search 1";
  record.trial = number;
  record.workload = "%0:f32[8,8]; %1:const f32[8,8]; %2*=matmul(0,1); ->%2:f32[8,8]; threads=2";
  record.workload_json = "{}";
  record.name = "matmul";
  record.anchor = "matmul_of_test";
  record.target = "x86-64-linux-avx2";
  record.machine = machine;
  record.threads = 2;
  record.implementation = "variant direct\nout.split(x, xo, xi, 8).vectorize(xi)\n";
  record.point = R"({"sketch":"tile"})";
  record.origin = "default";
  record.status = "ok";
  record.seconds = {seconds};
  record.median_seconds = seconds;
  record.kernel_key = fmt::format("key {}", number);
  record.versions = R"({"heddle":"0"})";
  return record;
}

void write_from_processes(const std::string& url, int processes, int trials) {
  std::vector<pid_t> children;
  for (int p = 0; p < processes; ++p) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    int status = 0;
    try {
      RecordStore store(url);
      Record record = trial(0, "machine", 1);
      for (int t = 0; t < trials; ++t) {
        record.search = fmt::format("process {}", p);
        record.trial = t;
        store.add(record);
        record.search = "shared";
        store.add(record);
      }
    } catch (const std::exception& e) {
      fmt::print(stderr, "process {}: {}\n", p, e.what());
      status = 1;
    }
    ::_exit(status);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  const RecordStore store(url, RecordStore::Open::existing);
  for (int p = 0; p < processes; ++p)
    CHECK(store.list({.search = fmt::format("process {}", p)}).size() == static_cast<std::size_t>(trials));
  CHECK(store.list({.search = "shared"}).size() == static_cast<std::size_t>(trials));
}

}  // namespace heddle::testing
