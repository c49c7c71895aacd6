# What `./dev install PREFIX` lays out:
#   bin/heddle                    the program
#   lib/libheddle_runtime.so      what programs that run packages link
#   lib/libheddle_{base,dsl}.so   what user modules link; the program's other libraries beside them
#   lib/libautoschedule_heddle.so the autoscheduler as Halide's programs load it
#   lib/heddle/                   objects linked into every kernel, and the declarations of static libraries' headers
#   include/heddle/               the C API; under it base/ and dsl/ for operators of one's own
#   lib/cmake/heddle/             find_package(heddle): heddle::runtime, heddle::dsl, heddle_add_operator()
include(CMakePackageConfigHelpers)

set(config_directory "${CMAKE_INSTALL_LIBDIR}/cmake/heddle")
set(exported)
foreach(target IN ITEMS heddle_base heddle_dsl heddle_runtime heddle)
  if(TARGET ${target})
    list(APPEND exported ${target})
  endif()
endforeach()
set(inside)
foreach(target IN ITEMS heddle_ops heddle_schedules heddle_targets heddle_generators)
  if(TARGET ${target})
    list(APPEND inside ${target})
  endif()
endforeach()

foreach(target IN LISTS exported)
  string(REPLACE "heddle_" "" short_name ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${short_name})
  # The same names within the build, so that heddle_add_operator() works in both places.
  get_target_property(type ${target} TYPE)
  if(type STREQUAL EXECUTABLE)
    add_executable(heddle::${short_name} ALIAS ${target})
  else()
    add_library(heddle::${short_name} ALIAS ${target})
  endif()
endforeach()

# Halide stays in the virtual environment that it was found in. CMake adds no library directory inside the checkout to
# the run path by itself. What users ship, the runtime and base, is not to know of it.
get_target_property(halide_library Halide::Halide LOCATION)
cmake_path(GET halide_library PARENT_PATH halide_directory)
foreach(target IN LISTS exported inside)
  if(NOT target MATCHES "^heddle_(runtime|base)$")
    set_property(TARGET ${target} APPEND PROPERTY INSTALL_RPATH "${halide_directory}")
  endif()
endforeach()

install(TARGETS ${exported} EXPORT heddle
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
if(inside)
  install(TARGETS ${inside} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
if(TARGET autoschedule_heddle)
  set_property(TARGET autoschedule_heddle APPEND PROPERTY INSTALL_RPATH "${halide_directory}")
  install(TARGETS autoschedule_heddle LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
if(TARGET heddle_shims)
  install(DIRECTORY "${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/heddle" DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    FILES_MATCHING PATTERN "*.o" PATTERN "*.h")
endif()
install(DIRECTORY include/heddle DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
# Operators include "dsl/operator.hpp" whether they are built here or against the installed tree.
install(DIRECTORY base dsl DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/heddle" FILES_MATCHING PATTERN "*.hpp")
foreach(target IN ITEMS heddle_base heddle_dsl)
  if(TARGET ${target})
    target_include_directories(${target} SYSTEM INTERFACE
      "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
      "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/heddle>")
  endif()
endforeach()

install(EXPORT heddle NAMESPACE heddle:: DESTINATION "${config_directory}" FILE heddleTargets.cmake)
configure_package_config_file(cmake/heddleConfig.cmake.in "${PROJECT_BINARY_DIR}/heddleConfig.cmake"
  INSTALL_DESTINATION "${config_directory}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/heddleConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/heddleConfig.cmake" "${PROJECT_BINARY_DIR}/heddleConfigVersion.cmake"
  cmake/heddle_add_operator.cmake
  DESTINATION "${config_directory}")
