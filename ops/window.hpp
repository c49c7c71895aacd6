#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <Halide.h>

#include "dsl/operator.hpp"

// Windows that slide over the spatial dimensions of (n, c, spatial...): convolution and pooling in 1, 2 and 3
// dimensions.
namespace heddle::ops {

/// How a window slides, a value per spatial dimension.
struct Window {
  std::vector<std::int64_t> kernel, strides, dilations, before, after;
  bool ceil_mode = false;  ///< a last window that starts inside the tensor may stick out at its end

  std::size_t rank() const { return kernel.size(); }

  /// Elements from a window's first tap to its last, both counted.
  std::int64_t reach(std::size_t d) const { return (kernel[d] - 1) * dilations[d] + 1; }
};

/// Checks the attributes, as ONNX writes them (`pads`: all beginnings, then all ends), and fills in what is empty:
/// strides and dilations 1, pads 0.
Window make_window(const std::vector<std::int64_t>& kernel, const std::vector<std::int64_t>& strides,
                   const std::vector<std::int64_t>& dilations, const std::vector<std::int64_t>& pads);

/// What no element is below: it does not change a maximum. -infinity for floats.
double lowest(DType type);

/// How many windows fit; throws Error{invalid_argument} if none does.
Extent output_extent(const Window& window, std::size_t d, const Extent& in);

/// Names of the spatial dimensions: {x}, {y, x} or {z, y, x}, each behind `prefix`.
std::vector<std::string> spatial_names(std::size_t rank, const std::string& prefix = "");

/// Reads a window's operand, where it may lie outside as well. If the operand's border holds what the window sees
/// there, the operand itself is read; otherwise the stage `padded` is defined, which returns `exterior` outside.
class WindowInput {
 public:
  WindowInput(Halide::Func& padded, const Operand& x, const Window& window, const TensorType& out, double exterior,
              const std::string& channel_name);

  /// As above for the algorithm's first operand, but `padded` is always defined, and by updates: of the operand's own
  /// elements (over the reduction `column`), of the edges beside them (`edge`) and of whole rows beyond it (`beyond`),
  /// where windows reach there. So stages of the same kernel that make the operand are asked for its elements alone,
  /// and can be computed in whole register tiles; rows are pure in all updates, and can slide.
  WindowInput(Halide::Func& padded, Algorithm& a, const Window& window, double exterior,
              const std::string& channel_name);

  /// Tap `tap` of the window at `position`: both one expression per spatial dimension.
  Halide::Expr at(const Halide::Expr& n, const Halide::Expr& c, const std::vector<Halide::Expr>& position,
                  const std::vector<Halide::Expr>& tap) const;

  /// The element at input coordinates, which may lie outside.
  Halide::Expr element(const Halide::Expr& n, const Halide::Expr& c,
                       const std::vector<Halide::Expr>& coordinates) const;

  /// The coordinate that `at` reads, before any padding.
  Halide::Expr coordinate(std::size_t d, const Halide::Expr& position, const Halide::Expr& tap) const;

 private:
  /// The spatial dimensions along which windows read what memory does not hold.
  std::vector<bool> guarded(const TensorType& out, double exterior) const;

  const Operand& x_;
  const Window& window_;
  Halide::Func padded_;              ///< undefined: read x_
  std::vector<int> argument_order_;  ///< of padded_: logical dimensions, innermost first
};

/// True if a window may read outside the operand along that dimension.
bool reads_outside(const Window& window, std::size_t d, const Extent& in, const Extent& out);

/// Logical dimensions of a type, innermost in memory first: the order in which a stage that follows it is stored.
std::vector<int> innermost_first(const TensorType& type);

}  // namespace heddle::ops
