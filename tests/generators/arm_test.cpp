#include <sstream>

#include <Halide.h>
#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "base/file.hpp"
#include "tests/generators/support.hpp"

using namespace heddle;
using namespace heddle::test;

namespace {

// Loads a module as the runtime does, with a table that works serially, runs product on the arrays of a file and prints
// the result.
const char* const program = R"(
#include <HalideRuntime.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include "generators/shims/kernel_table.h"
static void* allocate(void* c, size_t n) { (void)c; return aligned_alloc(128, (n + 255) / 128 * 128); }
static void release(void* c, void* p) { (void)c; free(p); }
static int parallel_for(void* c, int (*task)(void*, int, uint8_t*), int min, int extent, uint8_t* closure) {
  for (int i = min; i < min + extent; ++i) { const int r = task(c, i, closure); if (r) return r; }
  return 0;
}
static void error(void* c, const char* text) { (void)c; fprintf(stderr, "%s\n", text); }
static const heddle_kernel_table table = {.allocate = allocate, .release = release, .parallel_for = parallel_for,
                                          .error = error, .print = error};
static halide_buffer_t buffer(float* data, halide_dimension_t* dims, int n) {
  halide_buffer_t b = {0};
  b.host = (uint8_t*)data; b.type.code = halide_type_float; b.type.bits = 32; b.type.lanes = 1;
  b.dimensions = n; b.dim = dims;
  int stride = 1;
  for (int i = 0; i < n; ++i) { dims[i].min = 0; dims[i].stride = stride; stride *= dims[i].extent; }
  return b;
}
int main(int argc, char** argv) {
  (void)argc;
  void* module = dlopen(argv[1], RTLD_NOW);
  if (!module) { fprintf(stderr, "%s\n", dlerror()); return 1; }
  int (*init)(const heddle_kernel_table*, uint32_t) = (int (*)(const heddle_kernel_table*, uint32_t))dlsym(module, "heddle_module_init");
  int (*kernel)(void**) = (int (*)(void**))dlsym(module, argv[2]);
  if (!init || !kernel || init(&table, HEDDLE_KERNEL_TABLE_VERSION)) return 2;
  int m = atoi(argv[4]), k = atoi(argv[5]), n = atoi(argv[6]), panel = atoi(argv[7]);
  const int blocks = (n + panel - 1) / panel;
  float *a = malloc(4ul * m * k), *b = malloc(4ul * k * blocks * panel), *out = malloc(4ul * m * n);
  FILE* file = fopen(argv[3], "rb");
  if (!file || fread(a, 4, (size_t)m * k, file) != (size_t)m * k) return 3;
  if (fread(b, 4, (size_t)k * blocks * panel, file) != (size_t)k * blocks * panel) return 3;
  halide_dimension_t da[2] = {{0, k, 0, 0}, {0, m, 0, 0}}, db[3] = {{0, panel, 0, 0}, {0, k, 0, 0}, {0, blocks, 0, 0}},
                     dout[2] = {{0, n, 0, 0}, {0, m, 0, 0}};
  halide_buffer_t ba = buffer(a, da, 2), bb = buffer(b, db, 3), bout = buffer(out, dout, 2);
  void* context = 0;
  void* arguments[] = {&context, &k, &m, &n, &ba, &bb, &bout};
  const int status = kernel(arguments);
  if (status) return 4;
  for (int i = 0; i < m * n; ++i) printf("%.9g\n", out[i]);
  return 0;
}
)";

}  // namespace

TEST_CASE("arm-64-linux kernels run under qemu and give the reference's numbers") {
  const Extent m = Extent::symbol("M"), k = Extent::symbol("K"), n = Extent::symbol("N");
  const Workload workload = product_workload(m, k, n);
  const KernelRequest r = request(workload, tiled, find_target("arm-64-linux"));
  const TemporaryDirectory directory;
  const auto path = [&](const char* name) { return (directory.path() / name).string(); };
  write_file(path("module.so"), link_module({compile_kernel(r).object}, r.target));
  write_file(path("main.c"), program);
  int status = -1;
  const std::string compiler =
      shell(fmt::format("{} -O1 -std=gnu17 -I {} -isystem {}/halide/include {} -o {} -ldl 2>&1", HEDDLE_AARCH64_CC,
                        HEDDLE_SOURCE_DIR, HEDDLE_SITE_PACKAGES, path("main.c"), path("main")),
            &status);
  INFO(compiler);
  REQUIRE(status == 0);

  for (const Shape& s : {Shape{1, 1, 1}, Shape{5, 7, 45}, Shape{6, 16, 32}}) {
    const std::vector<Array> inputs = {noise({s[0], s[1]}, 1), noise({s[1], s[2]}, 2)};
    std::string bytes;
    const Array packed = pack(inputs[1], workload.inputs()[1], r.implementation.packings.at(0));
    for (const Array* array : {&inputs[0], &packed})
      bytes.append(static_cast<const char*>(array->data()), array->bytes());
    write_file(path("inputs"), bytes);
    std::istringstream lines(
        shell(fmt::format("{} -L /usr/aarch64-linux-gnu {} {} {}_argv {} {} {} {} 16", HEDDLE_QEMU_AARCH64,
                          path("main"), path("module.so"), kernel_symbol(r), path("inputs"), s[0], s[1], s[2]),
              &status));
    REQUIRE(status == 0);
    Array got(DType::f32, {s[0], s[2]});
    for (std::int64_t i = 0; i < got.size(); ++i) {
      double value = 0;
      REQUIRE(lines >> value);
      got.set(i, value);
    }
    CHECK(mismatch(got, workload.reference(inputs)[0], workload.tolerance()) == "");
  }
}
