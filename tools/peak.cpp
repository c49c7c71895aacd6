#include "tools/peak.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "ops/dot.hpp"
#include "ops/winograd.hpp"
#include "runtime/cpu.hpp"
#include "runtime/memory.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace heddle::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Each returns the operations that it did.
struct Microkernels {
  std::vector<double (*)()> floats, bytes, halves;
};

constexpr int chains = 12;  // latency 4 x two units, and some to spare
constexpr int repetitions = 200000;

#if defined(__x86_64__)
// Inline assembly, because a compiler that sees what these loops compute computes something shorter.
[[gnu::target("avx512f")]] double fma_512() {
  __m512 a[chains];
  for (auto& x : a) x = _mm512_set1_ps(1.0F);
  const __m512 m = _mm512_set1_ps(0.999F), c = _mm512_set1_ps(1e-3F);
  for (int i = 0; i < repetitions; ++i) {
#pragma GCC unroll 12
    for (auto& x : a) asm volatile("vfmadd213ps %2, %1, %0" : "+v"(x) : "v"(m), "v"(c));
  }
  return 16.0 * 2 * chains * repetitions;
}

[[gnu::target("avx2,fma")]] double fma_256() {
  __m256 a[chains];
  for (auto& x : a) x = _mm256_set1_ps(1.0F);
  const __m256 m = _mm256_set1_ps(0.999F), c = _mm256_set1_ps(1e-3F);
  for (int i = 0; i < repetitions; ++i) {
#pragma GCC unroll 12
    for (auto& x : a) asm volatile("vfmadd213ps %2, %1, %0" : "+x"(x) : "x"(m), "x"(c));
  }
  return 8.0 * 2 * chains * repetitions;
}

constexpr int dots = 20, dot_repetitions = 50000;

enum class Numbers { bytes, halves };

/// vpdpbusd or vdpbf16ps.
template <Numbers numbers>
[[gnu::target("avx512f")]] double dots_512() {
  __m512i a[dots];
  for (auto& x : a) x = _mm512_setzero_si512();
  const __m512i b = _mm512_setzero_si512();
  for (int i = 0; i < dot_repetitions; ++i) {
#pragma GCC unroll 20
    for (auto& x : a) {
      if constexpr (numbers == Numbers::bytes) asm volatile("vpdpbusd %1, %1, %0" : "+v"(x) : "v"(b));
      else asm volatile("vdpbf16ps %1, %1, %0" : "+v"(x) : "v"(b));
    }
  }
  return (numbers == Numbers::bytes ? 64.0 : 32.0) * 2 * dots * dot_repetitions;
}

/// Bytes in pairs of 16 bits, where no instruction takes them as they are: two operations for four products.
[[gnu::target("avx2")]] double bytes_256() {
  __m256i a[chains];
  for (auto& x : a) x = _mm256_setzero_si256();
  const __m256i b = _mm256_set1_epi16(1);
  for (int i = 0; i < repetitions / 4; ++i) {
#pragma GCC unroll 12
    for (auto& x : a) {
      __m256i pairs;
      asm volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(x), "=&x"(pairs) : "x"(b));
    }
  }
  return 16.0 * 2 * chains * (repetitions / 4);
}

constexpr int tile_repetitions = 20000;

/// Tiles of 16 rows x 64 bytes, four sums, as their latency asks for.
[[gnu::target("amx-tile")]] void configure_tiles() {
  struct alignas(64) Configuration {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  };
  // Not on the stack: the compiler takes the instruction to read eight bytes, and would write no others.
  static constexpr Configuration tiles = {1, 0, {}, {64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&tiles);
  _tile_zero(4);
  _tile_zero(5);
}

template <Numbers numbers>
[[gnu::target("amx-tile,amx-int8,amx-bf16")]] double products_of_tiles() {
  configure_tiles();
  for (int i = 0; i < tile_repetitions; ++i) {
    if constexpr (numbers == Numbers::bytes) {
      _tile_dpbusd(0, 4, 5);
      _tile_dpbusd(1, 4, 5);
      _tile_dpbusd(2, 4, 5);
      _tile_dpbusd(3, 4, 5);
    } else {
      _tile_dpbf16ps(0, 4, 5);
      _tile_dpbf16ps(1, 4, 5);
      _tile_dpbf16ps(2, 4, 5);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_release();
  return (numbers == Numbers::bytes ? 64.0 : 32.0) * 2 * 4 * 16 * 16 * tile_repetitions;
}

double mul_add_128() {
  __m128 a[chains];
  for (auto& x : a) x = _mm_set1_ps(1.0F);
  const __m128 m = _mm_set1_ps(0.999F), c = _mm_set1_ps(1e-3F);
  for (int i = 0; i < repetitions; ++i) {
#pragma GCC unroll 12
    for (auto& x : a) asm volatile("mulps %1, %0\n\taddps %2, %0" : "+x"(x) : "x"(m), "x"(c));
  }
  return 4.0 * 2 * chains * repetitions;
}

[[gnu::target("avx2")]] void read_256(const std::byte* data, std::size_t bytes) {
  __m256i sums[8] = {};
  for (std::size_t i = 0; i < bytes; i += sizeof sums)
#pragma GCC unroll 8
    for (std::size_t j = 0; j < 8; ++j)
      sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i) + j));
  for (auto& sum : sums) asm volatile("" : : "x"(sum));
}

/// Those that this processor runs.
Microkernels microkernels() {
  const auto has = [](const char* feature) { return runtime::cpu_features().contains(feature); };
  Microkernels all{{mul_add_128}, {}, {}};
  if (has("avx2") && has("fma")) all.floats.push_back(fma_256);
  if (has("avx512f")) all.floats.push_back(fma_512);
  if (has("avx2")) all.bytes.push_back(bytes_256);
  if (has("avx512_vnni")) all.bytes.push_back(dots_512<Numbers::bytes>);
  if (has("amx_int8")) all.bytes.push_back(products_of_tiles<Numbers::bytes>);
  if (has("avx512_bf16")) all.halves.push_back(dots_512<Numbers::halves>);
  if (has("amx_bf16")) all.halves.push_back(products_of_tiles<Numbers::halves>);
  return all;
}
#else
double fma_vector(int width) {
  using Vector = float __attribute__((vector_size(16)));
  Vector a[chains];
  for (auto& x : a) x = Vector{1, 1, 1, 1};
  const Vector m = {0.999F, 0.999F, 0.999F, 0.999F}, c = {1e-3F, 1e-3F, 1e-3F, 1e-3F};
  for (int i = 0; i < repetitions; ++i)
    for (auto& x : a) {
      x = x * m + c;
      asm volatile("" : "+w"(x));
    }
  return 4.0 * 2 * width * repetitions;
}
double fma_128() { return fma_vector(chains); }
Microkernels microkernels() { return {{fma_128}, {}, {}}; }
#endif

void read_by_words(const std::byte* data, std::size_t bytes) {
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i < bytes; i += sizeof sums)
    for (std::size_t j = 0; j < 8; ++j) {
      std::uint64_t word = 0;
      std::memcpy(&word, data + i + j * sizeof word, sizeof word);
      sums[j] ^= word;
    }
  for (auto& sum : sums) asm volatile("" : : "r"(sum));
}

/// Reads `bytes`, a multiple of 256, from memory that is aligned to 32.
void read_all(const std::byte* data, std::size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") != 0) return read_256(data, bytes);
#endif
  read_by_words(data, bytes);
}

std::vector<int> processors() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::vector<int> ids;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &mask)) ids.push_back(i);
  return ids;
}

/// Runs `work` on all threads at once; returns the sum of what they return (units a second each).
double together(int threads, const std::function<double(int)>& work) {
  const auto ids = processors();
  std::atomic<int> ready{0};
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&, t] {
      if (!ids.empty()) {
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET(ids[static_cast<std::size_t>(t) % ids.size()], &own);
        sched_setaffinity(0, sizeof own, &own);
      }
      ready.fetch_add(1);
      while (ready.load() < threads) std::this_thread::yield();
      rates[static_cast<std::size_t>(t)] = work(t);
    });
  for (auto& thread : pool) thread.join();
  double total = 0;
  for (const double rate : rates) total += rate;
  return total;
}

/// A few passes over `bytes`; the best rate in GB/s.
double best_pass(std::size_t bytes, const std::function<void()>& pass) {
  constexpr double least_seconds = 2e-3, shortest = 20e-6;  // below the latter the clock's own cost shows
  const auto time = [&](int passes) {
    const auto start = Clock::now();
    for (int i = 0; i < passes; ++i) pass();
    return seconds_since(start);
  };
  pass();
  const int passes = std::max(1, static_cast<int>(shortest / std::max(time(1), 1e-8)));
  double fastest = time(passes), total = fastest;
  for (int i = 1; i < 3 || total < least_seconds; ++i) {
    const double seconds = time(passes);
    fastest = std::min(fastest, seconds);
    total += seconds;
  }
  return static_cast<double>(bytes) * passes / fastest * 1e-9;
}

}  // namespace

Bandwidth measure_bandwidth(int threads, std::size_t bytes) {
  constexpr std::size_t step = 512;  // so that both halves are whole steps of what reads
  const std::size_t part = std::max(bytes / static_cast<std::size_t>(threads) / step, std::size_t{1}) * step;
  // Kernels' memory has huge pages where the system gives them; on small ones reading waits for page tables.
  std::vector<runtime::Pages> memory(static_cast<std::size_t>(threads));
  const auto own = [&](int t) {
    auto& pages = memory[static_cast<std::size_t>(t)];
    if (pages.size() == 0) {
      pages = runtime::Pages(part);
      std::memset(pages.data(), 1, part);  // pages that nobody has written to are all one page of zeros
    }
    return pages.data();
  };
  Bandwidth bandwidth;
  bandwidth.read_gbps = together(threads, [&](int t) {
    const std::byte* data = own(t);
    return best_pass(part, [&] { read_all(data, part); });
  });
  bandwidth.copy_gbps = together(threads, [&](int t) {
    std::byte* data = own(t);
    return best_pass(part, [&] {
      std::memcpy(data + part / 2, data, part / 2);
      asm volatile("" : : "r"(data) : "memory");
    });
  });
  return bandwidth;
}

namespace {

/// The fastest of them, in 10^9 operations a second; no less than `least`.
double rate_of(const std::vector<double (*)()>& kernels, int threads, double least) {
  for (double (*kernel)() : kernels)
    least = std::max(least, together(threads, [&](int) {
                       double rate = 0;
                       for (int repeat = 0; repeat < 5; ++repeat) {
                         const auto start = Clock::now();
                         const double operations = kernel();
                         rate = std::max(rate, operations / seconds_since(start) * 1e-9);
                       }
                       return rate;
                     }));
  return least;
}

}  // namespace

double Peak::of(DType numbers) const {
  if (size_of(numbers) == 1) return byte_gops;
  return numbers == DType::bf16 ? half_gflops : gflops;
}

std::string products_of(DType numbers) {
  return numbers == DType::f32 ? "FMAs" : fmt::format("products of {}", to_string(numbers));
}

Peak measure_peak(int threads, bool bandwidth) {
  const Microkernels kernels = microkernels();
  Peak peak;
  peak.gflops = rate_of(kernels.floats, threads, 0);
  peak.byte_gops = rate_of(kernels.bytes, threads, peak.gflops);
  peak.half_gflops = rate_of(kernels.halves, threads, peak.gflops);
  if (!bandwidth) return peak;
  // Larger than any cache of the machines this runs on, together.
  const Bandwidth memory = measure_bandwidth(threads, std::size_t{512} << 20);
  peak.read_gbps = memory.read_gbps;
  peak.copy_gbps = memory.copy_gbps;
  return peak;
}

Peak best(const Peak& a, const Peak& b) {
  return {std::max(a.gflops, b.gflops), std::max(a.byte_gops, b.byte_gops), std::max(a.half_gflops, b.half_gflops),
          std::max(a.read_gbps, b.read_gbps), std::max(a.copy_gbps, b.copy_gbps)};
}

bool bounded_by_fma_peak(std::string_view variant) {
  return !ops::saves_operations(variant) && !ops::multiplies_several(variant);
}

Peak peak_after(const Peak& before, int threads, double gflops) {
  Peak peak = best(before, measure_peak(threads, false));
  constexpr int repetitions = 10;
  for (int i = 0; i < repetitions && gflops > largest_valid_share * peak.gflops; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    peak = best(peak, measure_peak(threads, false));
  }
  return peak;
}

void print_invalid_run(double share, std::string_view hint) {
  fmt::print(stderr,
             "heddle: invalid run: {:.1f} % of the measured peak is impossible; the clock changed or the machine is "
             "busy. {}\n",
             share * 100, hint);
}

}  // namespace heddle::tools
