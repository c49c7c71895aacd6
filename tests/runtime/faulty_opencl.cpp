#include "tests/runtime/faulty_opencl.hpp"

#include <dlfcn.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "tests/runtime/sample_package.hpp"

namespace heddle::test {
namespace {

/// Compiled once a process; it stays loaded, as drivers do.
const std::string& library_path() {
  static const TemporaryDirectory directory;
  static const std::string path = [] {
    const std::string library = (directory.path() / "faulty_opencl.so").string();
    const auto result = run_command("cc -std=gnu11 -O1 -shared -fPIC -DCL_TARGET_OPENCL_VERSION=300 '" HEDDLE_SOURCE_DIR
                                    "/tests/runtime/data/faulty_opencl.c' -o '" +
                                    library + "' -Wl,--no-as-needed -l:libOpenCL.so.1 -ldl");
    if (result.status != 0) throw Error(ErrorCode::internal, "compiling the faulty loader failed:\n" + result.output);
    return library;
  }();
  return path;
}

}  // namespace

FaultyOpenCl::FaultyOpenCl(Fault fault) {
  void* library = ::dlopen(library_path().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw Error(ErrorCode::internal, ::dlerror());
  fault_ = static_cast<int*>(::dlsym(library, "opencl_fault"));
  sources_ = static_cast<int*>(::dlsym(library, "opencl_sources"));
  environment_.emplace("HEDDLE_OPENCL_LIBRARY", library_path().c_str());
  set(fault);
}

FaultyOpenCl::~FaultyOpenCl() { set(works); }

}  // namespace heddle::test
