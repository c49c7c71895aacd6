#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/element.hpp"

namespace heddle::ops {

/// An attribute of a tabulated operator: a number, or one of some names (its value is then the name's position).
struct Parameter {
  std::string name;
  double initial = 0;
  std::vector<std::string> choices = {};
};

/// Which element types a tabulated operator takes.
enum class Accepts {
  numbers,  ///< integers and floats
  signed_numbers,
  integers,
  floats,         ///< f64 too
  narrow_floats,  ///< f32, f16, bf16: its helpers are f32's
  booleans,
  all,
};
bool accepts(Accepts accepted, DType type);
std::string describe(Accepts accepted);

/// An operator whose attributes are numbers listed in a table's row rather than a struct.
class TableOperator : public Operator {
 public:
  TableOperator(std::string name, std::string summary, std::vector<Parameter> parameters)
      : name_(std::move(name)), summary_(std::move(summary)), parameters_(std::move(parameters)) {}

  std::string_view name() const override { return name_; }
  std::string_view summary() const override { return summary_; }
  OperatorKind kind() const override { return OperatorKind::elementwise; }
  LayoutPreference layout() const override { return LayoutPreference::any; }
  std::vector<reflect::MemberInfo> attributes() const override;
  Json canonical(const Json& attributes) const override;
  std::vector<std::string> dimensions(const Json& attributes, std::span<const TensorType> in) const override;
  std::vector<std::string> variants(const Json&, std::span<const TensorType>) const override { return {"direct"}; }
  Extent flops(const Json&, std::span<const TensorType>, std::span<const TensorType> out) const override {
    return out[0].element_count();
  }

 protected:
  std::vector<double> values(const Json& attributes) const;  ///< in the row's order, defaults filled in; checked

 private:
  std::string name_, summary_;
  std::vector<Parameter> parameters_;
};

/// f16 and bf16 are computed in f32 and rounded once.
Halide::Expr widen(const Halide::Expr& x);

}  // namespace heddle::ops
