#pragma once
#include "schedules/family.hpp"

// The rows of the table in families.cpp: one function a family, each in the file of its kind.
namespace heddle::schedules {

Family conv_winograd();
Family conv_direct();
Family conv_depthwise();
Family conv_expanded();
Family conv_grouped();
Family conv_transpose();
Family conv_matrix_tiles();
Family conv_dot();
Family matmul_matrix_tiles();
Family matmul_dot();
Family matmul_words();
Family matmul_panels();
Family matmul_packed();
Family matmul_plain();
Family attention_fused();
Family rows();
Family window_channels();
Family elementwise();
Family any();
Family gpu_rows();
Family gpu_window();
Family gpu_transpose();
Family gpu_elementwise();
Family gpu_matmul();
Family gpu_conv();
Family gpu_depthwise();
Family gpu_any();

}  // namespace heddle::schedules
