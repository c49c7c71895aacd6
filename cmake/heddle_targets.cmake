# How a folder becomes a library, and a folder of tests a program.
#
# The compile side (base, dsl, ops, schedules, targets, generators) is a set of shared libraries: the heddle program, the
# tests and user modules loaded into them then share one copy of the code, and a change relinks one small library. The
# graph compiler and the runtime's inside are static, since only programs of ours link them; what users ship is
# libheddle_runtime.so, built from the same objects with nothing but the C API visible.
#
# Folders without sources yet make no target, and nothing links to a target that is not there.

# The sources of the current folder (and its sub-folders), picked up as they appear.
function(heddle_glob_sources output)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  set(${output} "${sources}" PARENT_SCOPE)
endfunction()

# Links those of the given libraries that exist. Names with :: are always required.
function(heddle_link target visibility)
  foreach(library IN LISTS ARGN)
    if(library MATCHES "::" OR TARGET ${library})
      target_link_libraries(${target} ${visibility} ${library})
    endif()
  endforeach()
endfunction()

# heddle_add_library(NAME kind [HALIDE] [LINK libraries...] [PRIVATE_LINK libraries...])
# Makes heddle_NAME of the current folder's sources. HALIDE: it includes Halide.h, so it takes the precompiled header.
function(heddle_add_library name kind)
  cmake_parse_arguments(PARSE_ARGV 2 arg "HALIDE" "" "LINK;PRIVATE_LINK")
  heddle_glob_sources(sources)
  if(NOT sources)
    return()
  endif()
  add_library(heddle_${name} ${kind} ${sources})
  set_target_properties(heddle_${name} PROPERTIES DEFINE_SYMBOL "")
  target_include_directories(heddle_${name} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")
  heddle_link(heddle_${name} PUBLIC ${arg_LINK})
  heddle_link(heddle_${name} PRIVATE ${arg_PRIVATE_LINK})
  if(arg_HALIDE)
    heddle_use_pch(heddle_${name})
  endif()
endfunction()

# Halide.h costs two seconds a translation unit; compiled once, it costs a tenth of that.
add_library(heddle_pch OBJECT "${CMAKE_CURRENT_LIST_DIR}/pch.cpp")
target_link_libraries(heddle_pch PUBLIC Halide::Halide Threads::Threads fmt::fmt nlohmann_json::nlohmann_json)
target_precompile_headers(heddle_pch PRIVATE "${CMAKE_CURRENT_LIST_DIR}/pch.hpp")

function(heddle_use_pch target)
  target_link_libraries(${target} PRIVATE Halide::Halide fmt::fmt nlohmann_json::nlohmann_json)
  target_precompile_headers(${target} REUSE_FROM heddle_pch)
endfunction()
