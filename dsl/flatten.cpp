#include "dsl/flatten.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

namespace heddle {
namespace {

bool is_one(const Extent& extent) { return extent == Extent(1); }

Extent product(const std::vector<Extent>& extents) {
  return std::accumulate(extents.begin(), extents.end(), Extent(1),
                         [](const Extent& a, const Extent& b) { return a * b; });
}

/// Types of every value, inputs first; node results row-major.
std::vector<TensorType> infer_types(const Composition& c) {
  std::vector<TensorType> types;
  for (const auto& input : c.inputs) types.push_back(input.type);
  for (const auto& node : c.nodes) {
    std::vector<TensorType> in;
    for (const int operand : node.operands) in.push_back(types.at(static_cast<std::size_t>(operand)));
    for (auto& type : node.op->infer(node.attributes, in)) {
      type.layout = {};
      types.push_back(std::move(type));
    }
  }
  return types;
}

/// A rewrite is only taken if the operators agree: the results must have the shapes that it meant them to have. An
/// operator whose attributes speak of dimensions is thereby left alone where they no longer fit.
std::optional<Composition> checked(Composition c, const std::vector<TensorType>& outputs) {
  try {
    const auto types = infer_types(c);
    for (std::size_t i = 0; i < c.outputs.size(); ++i) {
      const TensorType& type = types.at(static_cast<std::size_t>(c.outputs[i]));
      if (type.shape != outputs[i].shape || type.dtype != outputs[i].dtype) return std::nullopt;
      c.output_layouts[i] = outputs[i].layout;
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  return c;
}

bool speaks_of_dimensions(const Json& attributes) {
  return std::any_of(attributes.items().begin(), attributes.items().end(), [](const auto& item) {
    return item.key() == "axis" || item.key() == "axes" || item.key() == "shape" || item.key() == "perm";
  });
}

bool all_elementwise_except(const Composition& c, int anchor) {
  for (std::size_t n = 0; n < c.nodes.size(); ++n) {
    if (static_cast<int>(n) == anchor) continue;
    const auto& node = c.nodes[n];
    if (node.op->kind() != OperatorKind::elementwise || speaks_of_dimensions(node.attributes)) return false;
    // Its operands follow the second dimension rather than the last.
    if (node.op->name() == "batch_norm") return false;
  }
  return true;
}

/// A value in memory as a walk through the loops: which loop each of its dimensions follows.
struct Walker {
  TensorType type;
  std::vector<int> loops;  ///< per dimension
};

/// Walkers of rank r follow the last r of the given loops, as broadcasting aligns them.
std::optional<Walker> aligned(const TensorType& type, const std::vector<int>& loops) {
  if (type.shape.size() > loops.size()) return std::nullopt;
  return Walker{type, {loops.end() - static_cast<std::ptrdiff_t>(type.shape.size()), loops.end()}};
}

/// Merges loops that every walker passes in one stride.
class Merge {
 public:
  /// `order`: the loops in memory order, outermost first. Loops of different `classes` stay apart.
  Merge(const std::vector<Extent>& extents, const std::vector<int>& order, const std::vector<int>& classes,
        const std::vector<Walker>& walkers) {
    for (const int loop : order) {
      const auto l = static_cast<std::size_t>(loop);
      if (is_one(extents[l]) &&
          std::none_of(walkers.begin(), walkers.end(), [&](const Walker& w) { return bordered(w, loop); }))
        continue;
      if (!merged_.empty() && classes[static_cast<std::size_t>(merged_.back().back())] == classes[l] &&
          std::all_of(walkers.begin(), walkers.end(),
                      [&](const Walker& w) { return one_stride(w, extents, merged_.back(), loop); }))
        merged_.back().push_back(loop);
      else merged_.push_back({loop});
    }
  }

  const std::vector<std::vector<int>>& loops() const { return merged_; }

  /// The walker's type in the merged loops; `kept`: those its dimensions are, in order (a reduction drops some).
  /// Leading dimensions of 1 are left out where `strip` says so.
  TensorType apply(const Walker& w, const std::vector<int>& kept, bool strip) const {
    TensorType type{w.type.dtype, {}, {}};
    std::vector<Border> borders;
    std::vector<std::pair<int, int>> order;  // position in the walker's memory, new dimension
    const auto memory = w.type.order();
    for (const int m : kept) {
      Extent extent = 1;
      Border border;
      int position = -1;
      Extent inner = 1;
      const auto& loops = merged_[static_cast<std::size_t>(m)];
      for (auto loop = loops.rbegin(); loop != loops.rend(); ++loop) {
        const int d = dimension(w, *loop);
        if (d < 0) continue;
        extent = extent * w.type.shape[static_cast<std::size_t>(d)];
        const Border b = w.type.border(d);
        if (b != Border{}) border = {b.before * inner.value(), b.after * inner.value()};
        inner = inner * w.type.shape[static_cast<std::size_t>(d)];
        position = static_cast<int>(std::find(memory.begin(), memory.end(), d) - memory.begin());
      }
      order.emplace_back(is_one(extent) && border == Border{} ? -1 : position, static_cast<int>(type.shape.size()));
      type.shape.push_back(extent);
      borders.push_back(border);
    }
    std::stable_sort(order.begin(), order.end());
    for (const auto& [position, d] : order) type.layout.order.push_back(d);
    type.layout.border = borders;
    type.layout.border_value = w.type.layout.border_value;
    simplify(type);
    if (!strip || type.has_border()) return type;
    std::size_t ones = 0;
    while (ones < type.shape.size() && is_one(type.shape[ones])) ++ones;
    type.shape.erase(type.shape.begin(), type.shape.begin() + static_cast<std::ptrdiff_t>(ones));
    std::erase_if(type.layout.order, [&](int d) { return d < static_cast<int>(ones); });
    for (int& d : type.layout.order) d -= static_cast<int>(ones);
    return type;
  }

 private:
  static int dimension(const Walker& w, int loop) {
    const auto found = std::find(w.loops.begin(), w.loops.end(), loop);
    return found == w.loops.end() ? -1 : static_cast<int>(found - w.loops.begin());
  }

  static bool bordered(const Walker& w, int loop) {
    const int d = dimension(w, loop);
    return d >= 0 && w.type.border(d) != Border{};
  }

  /// Row-major is said by no order at all; extents of 1 may stand anywhere.
  static void simplify(TensorType& type) {
    std::vector<int> order;
    for (const int d : type.layout.order)
      if (!is_one(type.shape[static_cast<std::size_t>(d)]) || type.border(d) != Border{}) order.push_back(d);
    if (std::is_sorted(order.begin(), order.end())) type.layout.order.clear();
    if (!type.has_border()) type.layout.border.clear(), type.layout.border_value = 0;
  }

  static bool one_stride(const Walker& w, const std::vector<Extent>& extents, const std::vector<int>& outer,
                         int inner) {
    const int in = dimension(w, inner), out = dimension(w, outer.back());
    const auto repeats = [&](int d, int loop) {
      return d < 0 ||
             (is_one(w.type.shape[static_cast<std::size_t>(d)]) && !is_one(extents[static_cast<std::size_t>(loop)]));
    };
    const bool in_repeats = repeats(in, inner), out_repeats = repeats(out, outer.back());
    if (in_repeats || out_repeats) return in_repeats && out_repeats;
    if (w.type.border(in) != Border{}) return false;
    const auto strides = w.type.strides();
    const Extent& extent = w.type.shape[static_cast<std::size_t>(in)];
    if (!(strides[static_cast<std::size_t>(out)] == strides[static_cast<std::size_t>(in)] * extent)) return false;
    // A border becomes one of whole inner rows, which have to be a number.
    return w.type.border(out) == Border{} || extent.is_constant();
  }

  std::vector<std::vector<int>> merged_;
};

std::vector<int> iota(int count) {
  std::vector<int> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

/// The inputs that nodes from `first` to before `last` read.
std::set<int> inputs_read(const Composition& c, int first, int last) {
  std::set<int> read;
  for (int n = first; n < last; ++n)
    for (const int operand : c.nodes[static_cast<std::size_t>(n)].operands)
      if (operand < static_cast<int>(c.inputs.size())) read.insert(operand);
  return read;
}

std::vector<TensorType> output_types(const Composition& c, const std::vector<TensorType>& types) {
  std::vector<TensorType> outputs;
  for (std::size_t i = 0; i < c.outputs.size(); ++i) {
    outputs.push_back(types.at(static_cast<std::size_t>(c.outputs[i])));
    if (i < c.output_layouts.size()) outputs.back().layout = c.output_layouts[i];
  }
  return outputs;
}

const Composition::Node& anchor_of(const Composition& c) { return c.nodes.at(static_cast<std::size_t>(c.anchor)); }

std::int64_t integer(const Json& attributes, const char* name, std::int64_t otherwise) {
  const auto found = attributes.find(name);
  return found == attributes.end() || !found->is_number() ? otherwise : found->get<std::int64_t>();
}

std::vector<std::int64_t> integers(const Json& attributes, const char* name) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? std::vector<std::int64_t>{} : found->get<std::vector<std::int64_t>>();
}

/// Which dimensions of the anchor's first operand a reduction runs along, and the attributes that say the same of
/// merged ones.
struct Reduced {
  std::set<int> dims;
  bool keeps_rank = true;
  bool one_axis = false;    ///< the attribute `axis` names one dimension
  bool to_the_end = false;  ///< the attribute `axis` names the first of the last dimensions
};

std::optional<Reduced> reduced_dimensions(const Composition::Node& anchor, const std::vector<TensorType>& types) {
  const int rank = types[static_cast<std::size_t>(anchor.operands[0])].rank();
  const auto normal = [&](std::int64_t axis) { return static_cast<int>(axis < 0 ? axis + rank : axis); };
  Reduced reduced;
  if (anchor.attributes.contains("axes")) {
    for (const std::int64_t axis : integers(anchor.attributes, "axes")) reduced.dims.insert(normal(axis));
    if (reduced.dims.empty())
      for (int d = 0; d < rank; ++d) reduced.dims.insert(d);
    reduced.keeps_rank =
        anchor.op->infer(anchor.attributes, std::span(&types[static_cast<std::size_t>(anchor.operands[0])], 1))[0]
            .rank() == rank;
  } else if (anchor.attributes.contains("axis")) {
    const int axis = normal(integer(anchor.attributes, "axis", -1));
    reduced.to_the_end = anchor.op->name() == "layer_norm" || anchor.op->name() == "rms_norm";
    reduced.one_axis = !reduced.to_the_end;
    for (int d = axis; d < (reduced.to_the_end ? rank : axis + 1); ++d) reduced.dims.insert(d);
  } else {
    return std::nullopt;
  }
  return reduced;
}

}  // namespace

Composition flatten_elementwise(const Composition& c) {
  if (c.outputs.size() != 1 || !all_elementwise_except(c, -1)) return c;
  const auto types = infer_types(c);
  const TensorType out = output_types(c, types)[0];
  const auto loops = iota(out.rank());
  std::vector<Walker> walkers;
  for (const auto& input : c.inputs) {
    const auto walker = aligned(input.type, loops);
    if (!walker) return c;
    walkers.push_back(*walker);
  }
  walkers.push_back({out, loops});
  const Merge merge(out.shape, out.order(), std::vector<int>(out.shape.size(), 0), walkers);
  const auto kept = iota(static_cast<int>(merge.loops().size()));
  Composition result = c;
  result.output_layouts.resize(1);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) result.inputs[i].type = merge.apply(walkers[i], kept, true);
  TensorType flat = merge.apply(walkers.back(), kept, false);
  if (flat.shape.empty()) {
    // One element: a loop over it suits every schedule better than none.
    flat.shape = {1};
    result.inputs[0].type.shape = {1};
  }
  return checked(std::move(result), {flat}).value_or(c);
}

Composition flatten_reduction(const Composition& c) {
  const auto& anchor = anchor_of(c);
  if (anchor.op->kind() != OperatorKind::reduction || c.outputs.size() != 1 || !all_elementwise_except(c, c.anchor))
    return c;
  const auto types = infer_types(c);
  const auto reduced = reduced_dimensions(anchor, types);
  if (!reduced) return c;
  const TensorType& x = types[static_cast<std::size_t>(anchor.operands[0])];
  const TensorType out = output_types(c, types)[0];
  const auto loops = iota(x.rank());
  std::vector<int> left;  // loops of the result
  for (const int loop : loops)
    if (reduced->keeps_rank || !reduced->dims.contains(loop)) left.push_back(loop);
  if (static_cast<int>(left.size()) != out.rank() || left.empty()) return c;

  // Operands before the anchor and the anchor's own align with x, those after it with the result.
  const auto before = inputs_read(c, 0, c.anchor + 1);
  const auto after = inputs_read(c, c.anchor + 1, static_cast<int>(c.nodes.size()));
  std::vector<Walker> walkers;
  std::vector<int> order = loops;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const bool is_before = before.contains(static_cast<int>(i)), is_after = after.contains(static_cast<int>(i));
    if (is_before && is_after && !reduced->keeps_rank) return c;
    const auto walker = aligned(c.inputs[i].type, is_before ? loops : left);
    if (!walker) return c;
    walkers.push_back(*walker);
    // The loops' order is that of the first operand of full rank.
    if (is_before && c.inputs[i].type.shape == x.shape && order == loops) order = c.inputs[i].type.order();
  }
  walkers.push_back({out, left});

  std::vector<int> classes;
  for (const int loop : loops) classes.push_back(reduced->dims.contains(loop) ? 1 : 0);
  const Merge merge(x.shape, order, classes, walkers);
  std::vector<int> all = iota(static_cast<int>(merge.loops().size())), axes, kept;
  for (const int m : all) {
    const bool is_reduced = reduced->dims.contains(merge.loops()[static_cast<std::size_t>(m)][0]);
    if (is_reduced) axes.push_back(m);
    if (reduced->keeps_rank || !is_reduced) kept.push_back(m);
  }
  if (axes.empty() || kept.empty()) return c;
  if (reduced->one_axis && axes.size() != 1) return c;
  if (reduced->to_the_end && (axes.size() != 1 || axes[0] != all.back())) return c;

  Composition result = c;
  result.output_layouts.resize(1);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const bool is_before = before.contains(static_cast<int>(i));
    const bool is_x = c.inputs[i].type.shape == x.shape && is_before;
    result.inputs[i].type = merge.apply(walkers[i], is_before ? all : kept, !is_x);
  }
  auto& attributes = result.nodes[static_cast<std::size_t>(c.anchor)].attributes;
  if (attributes.contains("axes")) attributes["axes"] = axes;
  else attributes["axis"] = reduced->to_the_end ? -1 : axes[0] == all.back() ? -1 : axes[0];
  return checked(std::move(result), {merge.apply(walkers.back(), kept, false)}).value_or(c);
}

bool is_pointwise(const Json& attributes, const TensorType& weights) {
  const auto is_all = [&](const char* name, std::int64_t value) {
    const auto all = integers(attributes, name);
    return std::all_of(all.begin(), all.end(), [&](std::int64_t v) { return v == value; });
  };
  return is_all("strides", 1) && is_all("pads", 0) &&
         std::all_of(weights.shape.begin() + 2, weights.shape.end(), is_one);
}

Composition flatten_pointwise(const Composition& c) {
  const auto& anchor = anchor_of(c);
  if (anchor.op->name() != "conv" || c.outputs.size() != 1 || !all_elementwise_except(c, c.anchor)) return c;
  const auto types = infer_types(c);
  const int xi = anchor.operands[0];
  if (xi >= static_cast<int>(c.inputs.size())) return c;
  const TensorType& x = c.inputs[static_cast<std::size_t>(xi)].type;
  if (!is_pointwise(anchor.attributes, types[static_cast<std::size_t>(anchor.operands[1])])) return c;
  const TensorType out = output_types(c, types)[0];
  const int rank = x.rank();
  // Between pixels other channels may lie: what matters is that all pixels are one stride apart.
  const auto dense = [&](const TensorType& type) {
    for (int d = 0; d < type.rank(); ++d)
      if (d != 1 && type.border(d) != Border{}) return false;
    return type.order() == channels_last(rank);
  };
  if (!dense(x) || !dense(out)) return c;

  Extent pixels = x.shape[0];
  for (int d = 2; d < rank; ++d) pixels = pixels * x.shape[static_cast<std::size_t>(d)];
  const auto flat = [&](const TensorType& type) {
    TensorType result = type;
    for (int d = 0; d < rank; ++d)
      if (d != 1) result.shape[static_cast<std::size_t>(d)] = d == rank - 1 ? pixels : Extent(1);
    return result;
  };
  Composition result = c;
  result.output_layouts.resize(1);
  std::set<int> weights(anchor.operands.begin() + 1, anchor.operands.end());
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const TensorType& type = c.inputs[i].type;
    if (static_cast<int>(i) == xi) {
      result.inputs[i].type = flat(type);
    } else if (!weights.contains(static_cast<int>(i))) {
      if (type.shape == out.shape) {
        if (!dense(type)) return c;
        result.inputs[i].type = flat(type);
        continue;
      }
      // Otherwise it must be the same for every pixel.
      for (int d = 0; d < type.rank(); ++d)
        if (d != type.rank() - (rank - 1) && !is_one(type.shape[static_cast<std::size_t>(d)])) return c;
    }
  }
  return checked(std::move(result), {flat(out)}).value_or(c);
}

Composition flatten_matmul(const Composition& c) {
  const auto& anchor = anchor_of(c);
  const bool in_blocks = anchor.op->name() == "matmul_blocks";
  if ((anchor.op->name() != "matmul" && !in_blocks) || c.outputs.size() != 1 || !all_elementwise_except(c, c.anchor))
    return c;
  const auto types = infer_types(c);
  const int inputs = static_cast<int>(c.inputs.size());
  const int ai = anchor.operands[0], bi = anchor.operands[1];
  if (ai >= inputs || bi >= inputs || ai == bi) return c;
  // What belongs to all rows alike; weights in blocks are no batch of matrices.
  const std::set<int> weights(anchor.operands.begin() + 1,
                              in_blocks ? anchor.operands.end() : anchor.operands.begin() + 1);
  const TensorType& a = c.inputs[static_cast<std::size_t>(ai)].type;
  const TensorType& b = c.inputs[static_cast<std::size_t>(bi)].type;
  const TensorType out = output_types(c, types)[0];
  if (a.rank() < 2 || b.rank() < 2 || out.rank() == 2 || anchor.attributes.value("transpose_a", false)) return c;
  for (int d = 0; d < b.rank() - 2 && !in_blocks; ++d)
    if (!is_one(b.shape[static_cast<std::size_t>(d)])) return c;
  // Behind each row there may be a gap: what matters is that all rows are one stride apart.
  const auto in_rows = [](const TensorType& type) {
    const auto order = type.order();
    for (int d = 0; d + 1 < type.rank(); ++d)
      if (type.border(d) != Border{}) return false;
    return std::is_sorted(order.begin(), order.end());
  };
  if (!in_rows(a) || !in_rows(b) || b.has_border() || !in_rows(out)) return c;
  // Everything but the last dimension becomes rows.
  const auto flat = [](const TensorType& type) {
    TensorType rows{type.dtype, {product({type.shape.begin(), type.shape.end() - 1}), type.shape.back()}, {}};
    if (type.has_border()) {
      rows.layout.border = {{}, type.border(type.rank() - 1)};
      rows.layout.border_value = type.layout.border_value;
    }
    return rows;
  };
  Composition result = c;
  result.output_layouts.resize(1);
  for (int i = 0; i < inputs; ++i) {
    const TensorType& type = c.inputs[static_cast<std::size_t>(i)].type;
    auto& to = result.inputs[static_cast<std::size_t>(i)].type;
    if (weights.contains(i)) {
      if (i == ai) return c;
    } else if (i == ai) {
      to = flat(type);
    } else if (i == bi) {
      to.shape = {type.shape.end() - 2, type.shape.end()};
      to.layout = {};
    } else if (type.shape == out.shape && in_rows(type)) {
      to = flat(type);
    } else {
      // The same for every row.
      for (int d = 0; d + 1 < type.rank(); ++d)
        if (!is_one(type.shape[static_cast<std::size_t>(d)])) return c;
      if (type.rank() > 1) to = TensorType{type.dtype, {type.shape.back()}, {}};
    }
  }
  return checked(std::move(result), {flat(out)}).value_or(c);
}

Composition flatten(const Composition& composition) {
  Composition c = composition;
  c.output_layouts.resize(c.outputs.size());
  switch (c.nodes.at(static_cast<std::size_t>(c.anchor)).op->kind()) {
    case OperatorKind::elementwise: return flatten_elementwise(c);
    case OperatorKind::reduction: return flatten_reduction(c);
    case OperatorKind::window: return flatten_pointwise(c);
    case OperatorKind::contraction: return flatten_matmul(c);
    case OperatorKind::movement: break;
  }
  return c;
}

}  // namespace heddle
