#include "dsl/operator.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "dsl/pipeline.hpp"

namespace heddle {

Halide::Type halide_type(DType type) {
  switch (type) {
    case DType::f32: return Halide::Float(32);
    case DType::f64: return Halide::Float(64);
    case DType::f16: return Halide::Float(16);
    case DType::bf16: return Halide::BFloat(16);
    case DType::i8: return Halide::Int(8);
    case DType::u8: return Halide::UInt(8);
    case DType::i16: return Halide::Int(16);
    case DType::u16: return Halide::UInt(16);
    case DType::i32: return Halide::Int(32);
    case DType::u32: return Halide::UInt(32);
    case DType::i64: return Halide::Int(64);
    case DType::u64: return Halide::UInt(64);
    case DType::boolean: return Halide::UInt(8);  // one byte, 0 or 1: vectors of bits are slow and fragile
    case DType::string: break;
  }
  throw Error(ErrorCode::unsupported, "kernels work on numbers, not strings; a host operator has to do this");
}

const std::vector<double>& float_extremes() {
  static const std::vector<double> values = {
      std::numeric_limits<double>::infinity(),  -std::numeric_limits<double>::infinity(),
      std::numeric_limits<double>::quiet_NaN(), -0.0,
      std::numeric_limits<float>::max(),        std::numeric_limits<float>::lowest(),
      std::numeric_limits<float>::min(),
  };
  return values;
}

Halide::Expr Operand::at(const std::vector<Halide::Expr>& logical_index) const {
  if (logical_index.size() != type.shape.size())
    throw Error(ErrorCode::internal,
                fmt::format("an operand of rank {} is indexed by {} expressions", type.rank(), logical_index.size()));
  return func(std::vector<Halide::Expr>(logical_index.rbegin(), logical_index.rend()));
}

Halide::Expr Operand::nearest(std::vector<Halide::Expr> logical_index) const {
  for (std::size_t d = 0; d < readable.size() && d < logical_index.size(); ++d)
    logical_index[d] = Halide::clamp(logical_index[d], 0, readable[d] - 1);
  return at(logical_index);
}

Halide::Expr Operand::broadcast(const std::vector<Halide::Expr>& logical_index) const {
  const std::size_t rank = type.shape.size();
  if (logical_index.size() < rank)
    throw Error(ErrorCode::internal, "an operand of higher rank cannot broadcast to a result of lower rank");
  std::vector<Halide::Expr> index;
  for (std::size_t d = 0; d < rank; ++d) {
    const bool repeated = type.shape[d] == Extent(1);
    index.push_back(repeated ? Halide::Expr(0) : logical_index[logical_index.size() - rank + d]);
  }
  return at(index);
}

Reduction::Reduction(const std::vector<Dimension>& innermost_first, const std::string& name) {
  Halide::Region region;
  for (const auto& dimension : innermost_first) region.emplace_back(0, dimension.extent);
  domain_ = Halide::RDom(region, name);
  for (std::size_t i = 0; i < innermost_first.size(); ++i)
    names_[domain_[static_cast<int>(i)].name()] = innermost_first[i].name;
}

Halide::RVar Reduction::operator[](std::string_view name) const {
  for (int i = 0; i < domain_.dimensions(); ++i)
    if (names_.at(domain_[i].name()) == name) return domain_[i];
  throw Error(ErrorCode::internal, fmt::format("no reduction dimension '{}'", name));
}

std::vector<Halide::Var> Algorithm::arguments() const { return {loops.rbegin(), loops.rend()}; }

std::vector<Halide::Expr> Algorithm::index() const { return {loops.begin(), loops.end()}; }

Halide::Expr Algorithm::extent(const Extent& e) const { return to_expr(e, symbols); }

Halide::Var Algorithm::loop(std::string_view name) const {
  for (const auto& v : loops)
    if (v.name() == name) return v;
  throw Error(ErrorCode::internal, fmt::format("the output has no dimension '{}'", name));
}

Reduction Algorithm::reduce(const std::vector<Reduction::Dimension>& innermost_first) {
  Reduction reduction(innermost_first, reductions == 0 ? "r" : fmt::format("r{}", reductions));
  ++reductions;
  reduction_names.insert(reduction.names().begin(), reduction.names().end());
  return reduction;
}

std::vector<TensorType> types_of(std::span<const Array> arrays) {
  std::vector<TensorType> types;
  for (const auto& array : arrays) {
    TensorType type{array.dtype(), {}, {}};
    for (const std::int64_t extent : array.shape()) type.shape.emplace_back(extent);
    types.push_back(std::move(type));
  }
  return types;
}

std::vector<Array> Operator::evaluate(const Json& attributes, std::span<const Array> in) const {
  const auto types = infer(attributes, types_of(in));
  std::vector<Array> out;
  for (const auto& type : types) {
    Shape shape;
    for (const auto& extent : type.shape) shape.push_back(extent.value());
    out.emplace_back(type.dtype, std::move(shape));
  }
  reference(attributes, in, out);
  return out;
}

Json Operator::bind(const Json& attributes, const std::map<std::string, Extent>& replacements) const {
  Json bound = attributes;
  const auto replace = [&](Json& extent) { extent = extent.get<Extent>().substitute(replacements); };
  for (const auto& member : this->attributes()) {
    const auto found = bound.find(member.name);
    if (found == bound.end()) continue;
    if (member.type == "extent") replace(*found);
    if (member.type == "extents")
      for (auto& extent : *found) replace(extent);
  }
  return bound;
}

std::vector<Extent> broadcast_shapes(std::span<const TensorType> in) {
  std::size_t rank = 0;
  for (const auto& type : in) rank = std::max(rank, type.shape.size());
  std::vector<Extent> shape(rank, 1);
  for (const auto& type : in)
    for (std::size_t d = 0; d < type.shape.size(); ++d) {
      Extent& to = shape[rank - type.shape.size() + d];
      const Extent& from = type.shape[d];
      if (to == Extent(1)) to = from;
      else if (!(from == Extent(1)) && !(from == to)) {
        std::vector<std::string> shapes;
        for (const auto& t : in) shapes.push_back(t.str());
        throw Error(ErrorCode::invalid_argument, fmt::format("shapes do not broadcast: {} ({} against {})",
                                                             fmt::join(shapes, ", "), from.str(), to.str()));
      }
    }
  return shape;
}

}  // namespace heddle
