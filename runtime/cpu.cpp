#include "runtime/cpu.hpp"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "base/tile_registers.hpp"

namespace heddle::runtime {
namespace {

std::set<std::string> detect() {
  std::set<std::string> found;
  const auto add = [&](const char* name, bool present) {
    if (present) found.insert(name);
  };
#if defined(__x86_64__)
  // The compiler's built-in also asks whether the system saves the registers.
  __builtin_cpu_init();
  add("sse4_1", __builtin_cpu_supports("sse4.1") != 0);
  add("sse4_2", __builtin_cpu_supports("sse4.2") != 0);
  add("avx", __builtin_cpu_supports("avx") != 0);
  add("avx2", __builtin_cpu_supports("avx2") != 0);
  add("fma", __builtin_cpu_supports("fma") != 0);
  add("f16c", __builtin_cpu_supports("f16c") != 0);
  add("bmi1", __builtin_cpu_supports("bmi") != 0);
  add("bmi2", __builtin_cpu_supports("bmi2") != 0);
  add("avx512f", __builtin_cpu_supports("avx512f") != 0);
  add("avx512cd", __builtin_cpu_supports("avx512cd") != 0);
  add("avx512bw", __builtin_cpu_supports("avx512bw") != 0);
  add("avx512dq", __builtin_cpu_supports("avx512dq") != 0);
  add("avx512vl", __builtin_cpu_supports("avx512vl") != 0);
  add("avx512ifma", __builtin_cpu_supports("avx512ifma") != 0);
  add("avx512vbmi", __builtin_cpu_supports("avx512vbmi") != 0);
  add("avx512_vbmi2", __builtin_cpu_supports("avx512vbmi2") != 0);
  add("avx512_vnni", __builtin_cpu_supports("avx512vnni") != 0);
  add("avx512_bitalg", __builtin_cpu_supports("avx512bitalg") != 0);
  add("avx512_vpopcntdq", __builtin_cpu_supports("avx512vpopcntdq") != 0);
  add("avx512_bf16", __builtin_cpu_supports("avx512bf16") != 0);
  add("avx_vnni", __builtin_cpu_supports("avxvnni") != 0);
  if (__builtin_cpu_supports("amx-tile") != 0 && may_use_tile_registers()) {
    add("amx_tile", true);
    add("amx_int8", __builtin_cpu_supports("amx-int8") != 0);
    add("amx_bf16", __builtin_cpu_supports("amx-bf16") != 0);
  }
#elif defined(__aarch64__)
  // Bits of the Linux ABI; the C library's header may be older than the processor.
  const unsigned long hwcap = ::getauxval(AT_HWCAP);
  const unsigned long hwcap2 = ::getauxval(AT_HWCAP2);
  add("asimd", (hwcap >> 1 & 1) != 0);
  add("atomics", (hwcap >> 8 & 1) != 0);
  add("fphp", (hwcap >> 9 & 1) != 0);
  add("asimdhp", (hwcap >> 10 & 1) != 0);
  add("dotprod", (hwcap >> 20 & 1) != 0);
  add("asimddp", (hwcap >> 20 & 1) != 0);
  add("sve", (hwcap >> 22 & 1) != 0);
  add("sve2", (hwcap2 >> 1 & 1) != 0);
  add("i8mm", (hwcap2 >> 13 & 1) != 0);
  add("bf16", (hwcap2 >> 14 & 1) != 0);
#endif
  if (const char* allowed = std::getenv("HEDDLE_CPU_FEATURES")) {
    std::set<std::string> kept;
    std::istringstream names(allowed);
    for (std::string name; std::getline(names, name, ',');)
      if (found.contains(name)) kept.insert(name);
    return kept;
  }
  return found;
}

int read_topology(int cpu, const char* what) {
  std::ifstream in(fmt::format("/sys/devices/system/cpu/cpu{}/topology/{}", cpu, what));
  int value = -1;
  in >> value;
  return value;
}

/// Processors' worth of time that the process's control group may use: containers are limited this way rather than by a
/// mask. A thread beyond it would only use up what the others need.
int cpu_quota(int unlimited) {
  std::string group = "/";
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::")) group = line.substr(3);
  int quota = unlimited;
  // A limit holds for all groups below it.
  for (;; group.resize(group.rfind('/'))) {
    std::ifstream limit("/sys/fs/cgroup" + group + "/cpu.max");
    double time = 0, period = 0;
    if (limit >> time >> period && period > 0) quota = std::min(quota, static_cast<int>(std::ceil(time / period)));
    if (group.empty() || group.rfind('/') == std::string::npos) return std::max(quota, 1);
  }
}

}  // namespace

std::string cpu_architecture() {
  struct ::utsname name{};
  return ::uname(&name) == 0 ? name.machine : "unknown";
}

const std::set<std::string>& cpu_features() {
  static const std::set<std::string> features = detect();
  return features;
}

std::vector<std::string> missing_features(const std::vector<std::string>& needed) {
  std::vector<std::string> missing;
  std::copy_if(needed.begin(), needed.end(), std::back_inserter(missing),
               [](const std::string& name) { return !cpu_features().contains(name); });
  return missing;
}

CpuList available_cpus() {
  // The mask of the process, which is its first thread's: the calling thread may have been pinned by its program.
  std::vector<::cpu_set_t> mask(1);
  int error = 0;
  do {
    std::fill(mask.begin(), mask.end(), ::cpu_set_t{});
    error = ::sched_getaffinity(::getpid(), mask.size() * sizeof(::cpu_set_t), mask.data()) == 0 ? 0 : errno;
    if (error == EINVAL) mask.resize(2 * mask.size());
  } while (error == EINVAL && mask.size() < 64);
  CpuList list;
  std::vector<int> hyper_threads;
  std::set<std::pair<int, int>> cores;
  const std::size_t bytes = mask.size() * sizeof(::cpu_set_t);
  for (std::size_t cpu = 0; error == 0 && cpu < 8 * bytes; ++cpu) {
    if (!CPU_ISSET_S(cpu, bytes, mask.data())) continue;
    const int id = static_cast<int>(cpu);
    const int core = read_topology(id, "core_id");
    const bool first = core < 0 || cores.insert({read_topology(id, "physical_package_id"), core}).second;
    (first ? list.cpus : hyper_threads).push_back(id);
  }
  if (list.cpus.empty()) list.cpus.push_back(-1);
  list.cores = cpu_quota(static_cast<int>(list.cpus.size()));
  list.cpus.insert(list.cpus.end(), hyper_threads.begin(), hyper_threads.end());
  return list;
}

}  // namespace heddle::runtime
