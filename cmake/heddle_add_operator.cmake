# heddle_add_operator(NAME blur SOURCE blur.cpp SCHEDULE blur.sched TARGETS host x86-64-linux-avx2)
#
# SOURCE defines operators and exports them through heddle_operators(); NAME is the one to compile. Makes
#   NAME          a static library: the kernel for each of TARGETS, chosen among at run time, with the header NAME.h
#   NAME_module   the user module, a shared library that `heddle compile --ops`, `bench` and `tune` load
#
# The options of `heddle kernel` that describe the kernel's inputs (extents, attributes) follow after ARGUMENTS.
function(heddle_add_operator)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;SOURCE;SCHEDULE" "TARGETS;ARGUMENTS")
  foreach(required IN ITEMS NAME SOURCE)
    if(NOT arg_${required})
      message(FATAL_ERROR "heddle_add_operator: ${required} is missing")
    endif()
  endforeach()
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "heddle_add_operator(NAME ${arg_NAME}): what is '${arg_UNPARSED_ARGUMENTS}'?")
  endif()
  if(NOT arg_TARGETS)
    set(arg_TARGETS host)
  endif()

  set(module ${arg_NAME}_module)
  add_library(${module} MODULE "${arg_SOURCE}")
  target_link_libraries(${module} PRIVATE heddle::dsl)
  target_compile_features(${module} PRIVATE cxx_std_20)
  set_target_properties(${module} PROPERTIES PREFIX "" OUTPUT_NAME "${arg_NAME}.ops")

  set(directory "${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.kernel")
  set(library "${directory}/lib${arg_NAME}.a")
  set(header "${directory}/${arg_NAME}.h")
  list(JOIN arg_TARGETS "," targets)
  set(schedule_arguments)
  set(schedule_file)
  if(arg_SCHEDULE)
    cmake_path(ABSOLUTE_PATH arg_SCHEDULE BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" OUTPUT_VARIABLE schedule_file)
    set(schedule_arguments --schedule "${schedule_file}")
  endif()
  add_custom_command(
    OUTPUT "${library}" "${header}"
    COMMAND heddle::heddle kernel "${arg_NAME}" --ops "$<TARGET_FILE:${module}>" ${schedule_arguments}
            --target "${targets}" -o "${directory}" ${arg_ARGUMENTS}
    DEPENDS ${module} heddle::heddle ${schedule_file}
    COMMENT "Compiling the operator ${arg_NAME} for ${targets}"
    VERBATIM)
  add_custom_target(${arg_NAME}_kernel DEPENDS "${library}" "${header}")

  add_library(${arg_NAME} STATIC IMPORTED GLOBAL)
  file(MAKE_DIRECTORY "${directory}")  # CMake refuses an include directory that is not there yet
  set_target_properties(${arg_NAME} PROPERTIES
    IMPORTED_LOCATION "${library}"
    INTERFACE_INCLUDE_DIRECTORIES "${directory}")
  find_package(Threads REQUIRED)
  target_link_libraries(${arg_NAME} INTERFACE Threads::Threads ${CMAKE_DL_LIBS})
  add_dependencies(${arg_NAME} ${arg_NAME}_kernel)
endfunction()
