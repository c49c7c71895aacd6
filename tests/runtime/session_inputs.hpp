#pragma once
#include <catch2/catch.hpp>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/array.hpp"
#include "base/error.hpp"
#include "runtime/session.hpp"

// What tests of sessions give them, and how they look at what comes back.
namespace heddle::test {

/// [2, width]: 1, 2, 3...
inline Array numbers(std::int64_t width) {
  Array x(DType::f32, {2, width});
  auto values = x.as<float>();
  std::iota(values.begin(), values.end(), 1.0F);
  return x;
}

inline runtime::HostTensor tensor(Array& array) { return {array.dtype(), array.shape(), array.mutable_data()}; }

inline std::vector<float> floats(const Array& array) {
  const auto values = array.as<float>();
  return {values.begin(), values.end()};
}

inline std::vector<float> floats(const runtime::HostTensor& tensor) {
  const auto* data = static_cast<const float*>(tensor.data);
  return {data, data + element_count(tensor.shape)};
}

/// The error of f, which must throw one.
template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error was thrown");
  return {ErrorCode::internal, ""};
}

}  // namespace heddle::test
