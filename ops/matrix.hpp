#pragma once
#include <string>
#include <vector>

namespace heddle::ops {

/// Names of the dimensions of a batch of matrices: {..., b1, b} before the matrix's own two.
std::vector<std::string> matrix_dimensions(int rank, const char* rows, const char* columns);

}  // namespace heddle::ops
