# Everything that Heddle is built from. Halide comes from the wheel in the virtual environment, the rest from Debian.

set(HEDDLE_VENV "${CMAKE_CURRENT_SOURCE_DIR}/.venv" CACHE PATH "Virtual environment that holds the Halide and onnx wheels")
file(GLOB HEDDLE_SITE_PACKAGES LIST_DIRECTORIES true "${HEDDLE_VENV}/lib/python3*/site-packages")
if(HEDDLE_SITE_PACKAGES)
  list(GET HEDDLE_SITE_PACKAGES 0 HEDDLE_SITE_PACKAGES)
  # CMake does not look into lib64 on Debian, so both packages are named. A remembered place may be gone: another Python.
  foreach(package Halide HalideHelpers)
    if(NOT EXISTS "${${package}_DIR}")
      set(${package}_DIR "${HEDDLE_SITE_PACKAGES}/halide/lib64/cmake/${package}" CACHE PATH "" FORCE)
    endif()
  endforeach()
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(Halide 21.0.0 EXACT CONFIG REQUIRED COMPONENTS Halide shared)
find_package(Boost CONFIG REQUIRED COMPONENTS headers)  # Hana
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Protobuf REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(Catch2 2.13 REQUIRED)
find_package(benchmark REQUIRED)

# Neither hwloc nor xxHash has a CMake package.
find_path(HEDDLE_HWLOC_INCLUDE_DIR hwloc.h REQUIRED)
find_library(HEDDLE_HWLOC_LIBRARY hwloc REQUIRED)
add_library(hwloc::hwloc SHARED IMPORTED GLOBAL)
set_target_properties(hwloc::hwloc PROPERTIES
  IMPORTED_LOCATION "${HEDDLE_HWLOC_LIBRARY}"
  INTERFACE_INCLUDE_DIRECTORIES "${HEDDLE_HWLOC_INCLUDE_DIR}")
# Debian's CMake package of libzip asks for programs that it does not install.
find_path(HEDDLE_ZIP_INCLUDE_DIR zip.h REQUIRED)
find_library(HEDDLE_ZIP_LIBRARY zip REQUIRED)
add_library(libzip::zip SHARED IMPORTED GLOBAL)
set_target_properties(libzip::zip PROPERTIES
  IMPORTED_LOCATION "${HEDDLE_ZIP_LIBRARY}"
  INTERFACE_INCLUDE_DIRECTORIES "${HEDDLE_ZIP_INCLUDE_DIR}")
# Debian's CMake package of XGBoost asks for a program that it does not install.
find_path(HEDDLE_XGBOOST_INCLUDE_DIR xgboost/c_api.h REQUIRED)
find_library(HEDDLE_XGBOOST_LIBRARY xgboost REQUIRED)
add_library(xgboost::xgboost SHARED IMPORTED GLOBAL)
set_target_properties(xgboost::xgboost PROPERTIES
  IMPORTED_LOCATION "${HEDDLE_XGBOOST_LIBRARY}"
  INTERFACE_INCLUDE_DIRECTORIES "${HEDDLE_XGBOOST_INCLUDE_DIR}")

# xxHash is used as a header: what users ship then needs one library less.
find_path(HEDDLE_XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
add_library(xxhash::xxhash INTERFACE IMPORTED GLOBAL)
set_target_properties(xxhash::xxhash PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${HEDDLE_XXHASH_INCLUDE_DIR}"
  INTERFACE_COMPILE_OPTIONS "-DXXH_INLINE_ALL=")

# Debian's SOCI has no CMake package. Its back ends are linked, not left to SOCI to find by name at run time.
find_path(HEDDLE_SOCI_INCLUDE_DIR soci/soci.h REQUIRED)
find_path(HEDDLE_LIBPQ_INCLUDE_DIR libpq-fe.h PATH_SUFFIXES postgresql REQUIRED)
find_library(HEDDLE_LIBPQ_LIBRARY pq REQUIRED)
foreach(part IN ITEMS core sqlite3 postgresql)
  find_library(HEDDLE_SOCI_${part}_LIBRARY soci_${part} REQUIRED)
  add_library(soci::${part} SHARED IMPORTED GLOBAL)
  set_target_properties(soci::${part} PROPERTIES
    IMPORTED_LOCATION "${HEDDLE_SOCI_${part}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${HEDDLE_SOCI_INCLUDE_DIR};${HEDDLE_LIBPQ_INCLUDE_DIR}")
endforeach()
target_link_libraries(soci::postgresql INTERFACE "${HEDDLE_LIBPQ_LIBRARY}")

find_package(SPIRV-Tools REQUIRED)

# Neither driver is linked: a program with Heddle's runtime starts where there is none. volk's functions come from the
# loader at run time; OpenCL's are found by runtime/opencl.
find_path(HEDDLE_VOLK_INCLUDE_DIR volk.h REQUIRED)
find_path(HEDDLE_OPENCL_INCLUDE_DIR CL/cl.h REQUIRED)
add_library(volk::volk INTERFACE IMPORTED GLOBAL)
set_target_properties(volk::volk PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${HEDDLE_VOLK_INCLUDE_DIR}"
  INTERFACE_COMPILE_OPTIONS "-DVK_NO_PROTOTYPES")
add_library(opencl::headers INTERFACE IMPORTED GLOBAL)
set_target_properties(opencl::headers PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${HEDDLE_OPENCL_INCLUDE_DIR}"
  INTERFACE_COMPILE_OPTIONS "-DCL_TARGET_OPENCL_VERSION=300")

# Programs that Heddle runs: the linker for kernels, and what inspects or executes the linked code.
find_program(HEDDLE_LLD NAMES ld.lld-19 ld.lld REQUIRED)
find_program(HEDDLE_OBJDUMP NAMES llvm-objdump-19 llvm-objdump REQUIRED)
find_program(HEDDLE_LLVM_MCA NAMES llvm-mca-19 llvm-mca REQUIRED)
find_program(HEDDLE_QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static REQUIRED)
find_program(HEDDLE_AARCH64_CC NAMES aarch64-linux-gnu-gcc REQUIRED)
find_program(HEDDLE_AARCH64_CXX NAMES aarch64-linux-gnu-g++ REQUIRED)
