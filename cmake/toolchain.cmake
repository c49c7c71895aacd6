# Compiler settings that hold for every target. They have to be the same everywhere: the precompiled Halide header is
# shared, and GCC refuses a precompiled header that was made with other options.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 17)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_LINK_DEPENDS_NO_SHARED ON)  # a changed library does not relink the twenty programs that use it

if(CMAKE_PROJECT_NAME STREQUAL PROJECT_NAME)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
  set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
endif()

set(CMAKE_INSTALL_RPATH "$ORIGIN;$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

# Programs too are compiled with -fPIC rather than -fPIE, so that they can use the libraries' precompiled header.
add_compile_options(-fPIC)
# Symbols of our own libraries are never replaced from outside, so calls within a library need no indirection.
add_compile_options(-fno-semantic-interposition)

add_compile_options(
  -Wall -Wextra -Wpedantic -Wshadow=local -Werror
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
  $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
  $<$<COMPILE_LANGUAGE:CXX>:-Wextra-semi>
  # Designated initialisers leave the other members at their defaults on purpose.
  -Wno-missing-field-initializers
  # GCC 12 reports these in correct code; inlined std::string, std::vector and std::optional are the usual places.
  -Wno-maybe-uninitialized -Wno-array-bounds -Wno-restrict
  $<$<COMPILE_LANGUAGE:CXX>:-Wno-stringop-overflow>
  $<$<COMPILE_LANGUAGE:CXX>:-Wno-stringop-overread>
  # ABI notes about vectors passed by value concern nobody: every part is compiled with the same compiler.
  -Wno-psabi)

# The compile side spends its time in Halide and LLVM and the tests in kernels: -O2 makes neither faster, and the build a
# third longer. What runs beside kernels or measures the machine asks for it by these options. Where Halide's header is
# precompiled it cannot be asked for: GCC 12 crashes on code that it finds there with other options.
set(HEDDLE_SPEED_OPTIONS "$<$<CONFIG:Release>:-O2>")

option(HEDDLE_SANITIZE "Build with the address and undefined-behaviour sanitizers" OFF)
if(HEDDLE_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

find_program(HEDDLE_MOLD mold)
if(HEDDLE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

find_program(HEDDLE_CCACHE ccache)
if(HEDDLE_CCACHE)
  # ccache needs to be told that a precompiled header may differ in its time stamps.
  foreach(language C CXX)
    set(CMAKE_${language}_COMPILER_LAUNCHER
        env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime "${HEDDLE_CCACHE}")
  endforeach()
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
endif()
