#pragma once
#include <set>
#include <string>
#include <vector>

namespace heddle::runtime {

/// The machine's architecture as `uname -m` says: "x86_64", "aarch64".
std::string cpu_architecture();

/// What this processor (and the operating system) can execute, in the kernel's /proc/cpuinfo words.
/// x86_64: sse4_1, sse4_2, avx, avx2, fma, f16c, bmi1, bmi2, avx512f, avx512cd, avx512bw, avx512dq, avx512vl,
/// avx512ifma, avx512vbmi, avx512_vbmi2, avx512_vnni, avx512_bitalg, avx512_vpopcntdq, avx512_bf16, avx_vnni, amx_tile,
/// amx_int8, amx_bf16 (which the process then has the system's permission for). aarch64: asimd, fphp, asimdhp, atomics,
/// dotprod (also as asimddp), i8mm, bf16, sve, sve2. The environment variable HEDDLE_CPU_FEATURES, a comma-separated
/// list, hides all that it does not name: a package's modules for lesser machines can be tried on a better one.
const std::set<std::string>& cpu_features();

/// Of `needed`, what this processor lacks.
std::vector<std::string> missing_features(const std::vector<std::string>& needed);

/// The processors of the process's affinity mask, one of each physical core first, hyper-threads behind.
struct CpuList {
  std::vector<int> cpus;
  int cores = 1;  ///< physical ones, as far as the process's control group grants it so much processor time
};
CpuList available_cpus();

}  // namespace heddle::runtime
