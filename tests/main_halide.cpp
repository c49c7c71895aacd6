// Halide's errors are no std::exception: without this, Catch2 could only say that something unknown was thrown.
#include <Halide.h>

#include <catch2/catch.hpp>

CATCH_TRANSLATE_EXCEPTION(const Halide::Error& error) { return std::string("Halide::Error: ") + error.what(); }
