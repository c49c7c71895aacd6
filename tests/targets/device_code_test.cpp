#include "targets/gpu/device_code.hpp"

#include <functional>
#include <sstream>

#include <Halide.h>
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "targets/gpu/opencl_source.hpp"
#include "targets/gpu/passes.hpp"
#include "targets/gpu/spirv.hpp"
#include "targets/target.hpp"

using namespace heddle;
using namespace heddle::targets;
using Catch::Contains;

namespace {

/// Scalars of two sizes, symbolic extents, an intermediate of its own, a sum, shared memory whose size comes with the
/// launch: entries for scaled, for sum's start and update, and for out.
Halide::Module lowered(DeviceApi api) {
  using namespace Halide;
  Var x("x"), y("y"), xo, yo, xi, yi;
  ImageParam a(Float(32), 2, "a");
  Param<float> scale("scale");
  Param<std::uint16_t> shift("shift");
  Param<std::int32_t> count("count");
  RDom r(0, count);
  Func scaled("scaled"), staged("staged"), sum("sum"), out("out");
  scaled(x, y) = a(x, y) * scale;
  staged(x, y) = scaled(x, y) + 1.0f;
  sum(x, y) = 0.0f;
  sum(x, y) += scaled(x + r, y);
  out(x, y) = sum(x, y) + staged(x, y) * staged(x + 1, y) + cast<float>(shift);
  const auto tail = TailStrategy::GuardWithIf;
  scaled.compute_root().gpu_tile(x, y, xo, yo, xi, yi, 16, 4, tail);
  sum.compute_root().gpu_tile(x, y, xo, yo, xi, yi, 16, 4, tail);
  sum.update().gpu_tile(x, y, xo, yo, xi, yi, 16, 4, tail);
  out.gpu_tile(x, y, xo, yo, xi, yi, 16, 4, tail);
  staged.compute_at(out, xo).gpu_threads(x, y);
  return Pipeline(out).compile_to_module({a, scale, shift, count}, "kernel",
                                         find_target(to_string(api)).halide.with_feature(Halide::Target::NoAsserts));
}

std::vector<std::string> names(const DeviceCode& code) {
  std::vector<std::string> all;
  for (const auto& entry : code.entries) all.push_back(entry.name);
  return all;
}

std::string printed(const Halide::Module& module) {
  std::ostringstream out;
  out << module;
  return out.str();
}

/// The bytes in which Halide holds a module's device code.
std::vector<std::uint8_t> container(const Halide::Module& module, DeviceApi api) {
  for (const auto& buffer : module.buffers())
    if (buffer.name() == std::string(to_string(api)) + "_gpu_source_kernels")
      return {static_cast<const std::uint8_t*>(buffer.data()),
              static_cast<const std::uint8_t*>(buffer.data()) + buffer.size_in_bytes()};
  FAIL("no device code");
  return {};
}

ErrorCode code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.code();
  }
  FAIL("nothing was thrown");
  return {};
}

}  // namespace

TEST_CASE("Entries are what the host code launches, with what each buffer is used for") {
  const DeviceApi api = GENERATE(DeviceApi::opencl, DeviceApi::vulkan);
  INFO(to_string(api));
  Halide::Module module = lowered(api);
  const std::size_t embedded = container(module, api).size();
  const DeviceCode code = extract_device_code(module, api, "k_name");
  CHECK(code.api == api);
  CHECK(names(code) == std::vector<std::string>{"k0", "k1", "k2", "k3"});
  // scaled: a -> scaled; sum: its start, then scaled added to it; out: scaled and sum read.
  CHECK(code.entries.at(0).access == "rw");
  CHECK(code.entries.at(1).access == "w");
  CHECK(code.entries.at(2).access == "rb");
  CHECK(code.entries.at(3).access == "wrr");

  const std::string host = printed(module);
  for (const auto& name : names(code)) CHECK_THAT(host, Contains("\"" + name + "\""));
  CHECK_THAT(host, !Contains("_kernel_"));
  const auto left = container(module, api);
  CHECK(std::string(left.begin(), left.end()) == std::string("k_name") + '\0');
  CHECK(embedded > 1000);

  // The host code without the code is still code.
  const auto object = module.compile_to_buffer();
  const std::string bytes(reinterpret_cast<const char*>(object.data()), object.size_in_bytes());
  CHECK_THAT(bytes, Contains("k_name") && Contains("halide_" + std::string(to_string(api)) + "_run"));
}

TEST_CASE("OpenCL C is one source of all entries") {
  Halide::Module module = lowered(DeviceApi::opencl);
  const DeviceCode code = extract_device_code(module, DeviceApi::opencl, "k_name");
  for (const auto& entry : code.entries) {
    CHECK_THAT(code.source, Contains("__kernel void " + entry.name + "(\n"));
    CHECK(entry.code.empty());
    CHECK_FALSE(entry.uniform_block);
  }
  CHECK_THAT(code.source, Contains("_scaled") && Contains("__local int16*") && Contains("const ushort _shift"));
  CHECK_THAT(code.source, !Contains("cl_khr_fp64") && !Contains("_at_least_one_kernel") && !Contains("$"));
}

TEST_CASE("SPIR-V is a valid module an entry, with its blocks, arrays and constants") {
  Halide::Module module = lowered(DeviceApi::vulkan);
  const DeviceCode code = extract_device_code(module, DeviceApi::vulkan, "k_name");
  CHECK(code.source.empty());
  for (const auto& entry : code.entries) {
    CHECK(spirv_fault(spirv_words(entry.code)) == "");
    CHECK(entry.uniform_block);
    const std::string text = disassemble(entry.code);
    CHECK_THAT(text, Contains("OpEntryPoint GLCompute %" + entry.name + " \"" + entry.name + "\""));
    const bool says_read_only = text.find("NonWritable") != text.npos;
    CHECK(says_read_only == (entry.access.find('r') != entry.access.npos));
  }
  CHECK(code.entries[0].shared.empty());
  CHECK(code.entries[0].block_constants == std::array<int, 3>{0, 0, 0});
  // out's rows and staged's shared memory are as long as they turn out to be.
  REQUIRE(code.entries[3].shared.size() == 1);
  CHECK(code.entries[3].shared[0].constant > 0);
  CHECK(code.entries[3].shared[0].element_bytes == 4);
  for (const int constant : code.entries[3].block_constants) CHECK(constant > 0);
}

TEST_CASE("What Halide leaves out of SPIR-V or says wrongly is mended") {
  using namespace Halide;
  const auto text = [](const Type& type, const std::function<Expr(const Expr&)>& f) {
    Var x("x"), xo, xi;
    ImageParam a(type, 1, "a");
    Func out("out");
    out(x) = f(a(x));
    out.gpu_tile(x, xo, xi, 16, TailStrategy::GuardWithIf);
    Module module = Pipeline(out).compile_to_module(
        {a}, "kernel", find_target("vulkan").halide.with_feature(Halide::Target::NoAsserts));
    const std::string code = extract_device_code(module, DeviceApi::vulkan, "k").entries.at(0).code;
    CHECK(spirv_fault(spirv_words(code)) == "");
    return disassemble(code);
  };
  CHECK_THAT(text(Float(16), [](const Expr& e) { return e + e; }),
             Contains("OpCapability StorageBuffer16BitAccess") && Contains("\"SPV_KHR_16bit_storage\""));
  CHECK_THAT(text(UInt(8), [](const Expr& e) { return e + e; }),
             Contains("OpCapability StorageBuffer8BitAccess") && Contains("\"SPV_KHR_8bit_storage\""));
  CHECK_THAT(text(Float(32), [](const Expr& e) { return e + e; }), !Contains("Storage") && !Contains("OpExtension"));
  // Comparing truths is not comparing numbers.
  CHECK_THAT(text(Float(32), [](const Expr& e) { return select((e > 1.0f) != (e < 5.0f), e, -e); }),
             Contains("OpLogicalEqual") && !Contains("OpIEqual"));
}

TEST_CASE("Strict arithmetic is exact in SPIR-V, and no other") {
  using namespace Halide;
  const auto text = [](const std::function<Expr(const Expr&)>& f) {
    Var x("x"), xo, xi, v;
    ImageParam a(Float(32), 1, "a");
    Func out("out");
    out(x) = f(a(x));
    out.bound(x, 0, 256).split(x, xo, v, 4).vectorize(v).gpu_tile(xo, xo, xi, 16);
    Pipeline pipeline(out);
    add_gpu_passes(pipeline, *find_target("vulkan").machine.gpu);
    Module module =
        pipeline.compile_to_module({a}, "kernel", find_target("vulkan").halide.with_feature(Halide::Target::NoAsserts));
    const std::string code = extract_device_code(module, DeviceApi::vulkan, "k").entries.at(0).code;
    CHECK(spirv_fault(spirv_words(code)) == "");
    return disassemble(code);
  };
  const auto count = [](const std::string& where, const std::string& what) {
    int n = 0;
    for (std::size_t at = where.find(what); at != where.npos; at = where.find(what, at + 1)) ++n;
    return n;
  };
  // The sum, the difference and the quotient, in one place each; the product by 3 is none of them.
  const std::string strict = text([](const Expr& e) { return strict_float(e / ((1.0f + e) - 1.0f)) * 3.0f; });
  CHECK(count(strict, " NoContraction") == 3);
  CHECK(count(strict, " FMin ") == 0);
  const std::string free = text([](const Expr& e) { return e / ((1.5f + e) * e - 1.0f) * 3.0f; });
  CHECK(count(free, " NoContraction") == 0);
  CHECK(count(free, "OpFDiv") == 1);
}

TEST_CASE("Equal pipelines give equal code, whatever was compiled before") {
  const DeviceApi api = GENERATE(DeviceApi::opencl, DeviceApi::vulkan);
  const DeviceApi other = api == DeviceApi::opencl ? DeviceApi::vulkan : DeviceApi::opencl;
  // Temporaries are sorted by their names, and t99 comes after t100: the compiler makes names of one length first.
  for (int i = 0; i < 1000000; ++i) Halide::Internal::unique_name('t');
  Halide::Module first = lowered(api);
  const DeviceCode code = extract_device_code(first, api, "k_name");
  for (int i = 0; i < 12; ++i) lowered(i % 4 == 0 ? api : other);
  Halide::Module again = lowered(api);
  const DeviceCode second = extract_device_code(again, api, "k_name");
  CHECK(second.source == code.source);
  REQUIRE(names(second) == names(code));
  for (std::size_t i = 0; i < code.entries.size(); ++i)
    if (api == DeviceApi::vulkan) CHECK(disassemble(second.entries[i].code) == disassemble(code.entries[i].code));
  CHECK(second == code);
}

TEST_CASE("Code that Halide did not write is an error") {
  const std::vector<std::uint8_t> good = container(lowered(DeviceApi::vulkan), DeviceApi::vulkan);
  CHECK(read_halide_container(good).size() == 4);
  const auto refused = [](const std::vector<std::uint8_t>& bytes) {
    return code_of([&] {
             for (const auto& kernel : read_halide_container(bytes)) {
               finish_spirv(kernel.module, "k0", kernel.uniform_blocks,
                            buffer_access(kernel.module, kernel.uniform_blocks, kernel.storage_buffers));
               if (!spirv_fault(kernel.module).empty()) throw Error(ErrorCode::internal, "invalid");
             }
           }) == ErrorCode::internal;
  };
  CHECK(refused({}));
  CHECK(refused({0, 0, 0, 0}));
  for (std::size_t size = 1; size < good.size(); size += 37) CHECK(refused({good.begin(), good.begin() + size}));
  auto longer = good;
  longer.resize(good.size() + 4);
  CHECK(refused(longer));
  // Any word may be anything: an error or another module, and never a crash.
  for (std::size_t word = 0; word < good.size() / 4; ++word)
    for (const int value : {0x00, 0x7f, 0xff}) {
      auto bytes = good;
      for (int byte = 0; byte < 4; ++byte) bytes[4 * word + byte] = static_cast<std::uint8_t>(value);
      try {
        for (const auto& kernel : read_halide_container(bytes))
          finish_spirv(kernel.module, "k0", kernel.uniform_blocks,
                       buffer_access(kernel.module, kernel.uniform_blocks, kernel.storage_buffers));
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::internal);
      }
    }

  const auto source = container(lowered(DeviceApi::opencl), DeviceApi::opencl);
  const std::string text(source.begin(), source.end());
  CHECK(finish_opencl(text).entries.size() == 4);
  CHECK(code_of([&] { finish_opencl(""); }) == ErrorCode::internal);
  CHECK(code_of([&] { finish_opencl(text.substr(0, text.size() / 2)); }) == ErrorCode::internal);
  CHECK(code_of([&] { finish_opencl("__kernel void f(\n"); }) == ErrorCode::internal);
  CHECK(code_of([] { disassemble("abc"); }) == ErrorCode::invalid_argument);
  CHECK(code_of([] { disassemble("abcdefgh"); }) == ErrorCode::invalid_argument);
}

TEST_CASE("Access to buffers is read from OpenCL C's statements") {
  const auto access = [](const std::string& body) {
    return finish_opencl(
               "\n__kernel void f(\n __address_space__a float *restrict _a,\n const int _n,\n"
               " __address_space__b const float *restrict _b,\n __local int16* __shared)\n{\n" +
               body + "} // kernel f\n")
        .entries.at(0)
        .access;
  };
  CHECK(access(" _a[_1] = _2;\n") == "wr");
  CHECK(access(" ((__address_space__a float4 *)_a)[_1] = _2;\n") == "wr");
  CHECK(access(" vstore4(_2,0, (__address_space__a float*)_a + _1);\n") == "wr");
  CHECK(access(" float _2 = _a[_1];\n") == "rr");
  CHECK(access(" float4 _2 = vload4(0, (__address_space__a float*)_a + _1);\n") == "rr");
  CHECK(access(" _V0.s1 = ((__address_space__a float*)_a)[_1.s1];\n") == "rr");
  CHECK(access(" float _2 = _a[_1];\n _a[_1] = _2;\n") == "br");
  CHECK(access(" atomic_add(&_a[_1],_2);\n") == "br");
  CHECK(access(" _a[_1] = _a[_2];\n") == "br");
  CHECK(access(" int _1 = 0;\n") == "br");
}

TEST_CASE("Names of OpenCL C lose their counters and stay apart") {
  const std::string text =
      "\n__kernel void _kernel_f__3(\n __address_space__a__7 const float *restrict _a__7,\n"
      " __address_space__a__9 const float *restrict _a__9,\n const int _a_stride_1,\n const int _t814,\n"
      " __local int16* __shared)\n{\n // produce h$12\n int _933 = _t814;\n int _934 = _933;\n} // kernel "
      "_kernel_f__3\n";
  const std::string finished = finish_opencl(text).text;
  CHECK_THAT(finished, Contains("__kernel void k0(") && Contains("} // kernel k0"));
  CHECK_THAT(finished, Contains("__address_space__a const float *restrict _a,"));
  CHECK_THAT(finished, Contains("__address_space__a_2 const float *restrict _a_2,"));
  CHECK_THAT(finished, Contains("const int _a_stride_1,") && Contains("const int _t0,"));
  CHECK_THAT(finished, Contains("// produce h\n") && Contains("int _0 = _t0;") && Contains("int _1 = _0;"));
}

TEST_CASE("A kernel without device loops, or with some stages left on the processor, is refused") {
  using namespace Halide;
  Var x("x"), xo, xi;
  for (const DeviceApi api : {DeviceApi::opencl, DeviceApi::vulkan}) {
    const Halide::Target target = find_target(to_string(api)).halide.with_feature(Halide::Target::NoAsserts);
    ImageParam a(Float(32), 1, "a");
    Func alone("alone"), first("first"), second("second");
    alone(x) = a(x) + 1.0f;
    Module none = Pipeline(alone).compile_to_module({a}, "kernel", target);
    CHECK_THROWS_WITH(extract_device_code(none, api, "k_name"), Contains("nothing of kernel k_name runs on a device"));

    first(x) = a(x) + 1.0f;
    second(x) = first(x) + first(x + 1);
    first.compute_root();
    second.gpu_tile(x, xo, xi, 16, TailStrategy::GuardWithIf);
    Module mixed = Pipeline(second).compile_to_module({a}, "kernel", target);
    CHECK_THROWS_WITH(extract_device_code(mixed, api, "k_name"),
                      Contains("'first") && Contains("is computed on the processor"));
    CHECK(code_of([&] { extract_device_code(mixed, api, "k_name"); }) == ErrorCode::unsupported);
  }
}
