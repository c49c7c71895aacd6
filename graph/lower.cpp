#include "graph/lower.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/attributes.hpp"
#include "graph/groups.hpp"
#include "graph/layout.hpp"
#include "graph/transfers.hpp"

namespace heddle::graph {
namespace {

plan::Argument argument_of(int value, const BufferView& view) {
  plan::Argument argument{value, {}, view.offset};
  for (const auto& d : view.dimensions) argument.dimensions.push_back({d.min, d.extent, d.stride});
  return argument;
}

plan::Value value_of(const Value& value) {
  const TensorType& type = value.type;
  plan::Value v;
  v.name = value.name;
  v.origin = value.origin;
  v.dtype = type.dtype;
  v.shape = type.shape;
  v.strides = type.strides();
  if (type.has_border())
    for (int d = 0; d < type.rank(); ++d) {
      v.border_before.push_back(type.border(d).before);
      v.border_after.push_back(type.border(d).after);
    }
  v.border_value = type.layout.border_value;
  v.offset = type.origin();
  v.elements = type.allocated_elements();
  return v;
}

class Lowering {
 public:
  Lowering(const GroupedGraph& source, const std::vector<ChosenKernel>& kernels, Weights& weights)
      : g_(source.graph),
        groups_(source.groups),
        kernels_(kernels),
        weights_(weights),
        consumers_(source.graph.consumers()),
        numbers_(source.graph.values.size(), -1) {
    f_.name = "main";
  }

  plan::Function run() {
    for (const int v : g_.inputs) {
      const int number = add(v, plan::Storage::input);
      f_.inputs.push_back(number);
    }
    std::vector<const ChosenKernel*> kernels;  // parallel to the groups
    std::vector<Side> sides;
    auto next_kernel = kernels_.begin();
    for (const Group& group : groups_) {
      const bool kernel = group.kind == Group::Kind::kernel;
      kernels.push_back(kernel ? &*next_kernel++ : nullptr);
      const bool on_device = kernel && kernels.back()->on_device();
      const bool only_seen = group.kind == Group::Kind::view || group.kind == Group::Kind::join;
      sides.push_back(only_seen ? Side::either : on_device ? Side::device : Side::host);
      if (group.kind == Group::Kind::join)
        for (const int v : group.inputs) whole_[v] = group.outputs[0];
    }
    for (const std::size_t g : order_by_side(groups_, sides)) {
      switch (groups_[g].kind) {
        case Group::Kind::view: add_view(groups_[g]); break;
        case Group::Kind::join: break;  // its first operand made the place
        case Group::Kind::host: add_host(groups_[g]); break;
        case Group::Kind::kernel: add_kernel(groups_[g], *kernels[g]); break;
      }
    }
    for (const int v : g_.outputs) f_.outputs.push_back(number(v));
    crossing_ = crossing_values(f_, holders_);
    place_outputs();
    reuse_operands();
    add_transfers(f_, holders_);
    return std::move(f_);
  }

 private:
  plan::Value& at(int number) { return f_.values.at(static_cast<std::size_t>(number)); }

  int add(int v, plan::Storage storage) {
    plan::Value value = value_of(g_.value(v));
    value.storage = storage;
    f_.values.push_back(std::move(value));
    const int number = static_cast<int>(f_.values.size()) - 1;
    const bool everywhere = storage == plan::Storage::input || storage == plan::Storage::constant;
    holders_.push_back(everywhere ? -1 : number);
    return numbers_.at(static_cast<std::size_t>(v)) = number;
  }

  /// The plan's value for a graph's value; constants come into being when first used.
  int number(int v) {
    int& number = numbers_.at(static_cast<std::size_t>(v));
    if (number >= 0) return number;
    const Value& value = g_.value(v);
    if (!value.constant)
      throw Error(ErrorCode::internal, fmt::format("value '{}' is used before a step makes it", value.name));
    number = add(v, plan::Storage::constant);
    at(number).file_offset = weights_.add(lay_out(*value.constant, value.type));
    return number;
  }

  bool read_by_a_window(int v) const {
    return std::ranges::any_of(consumers_[static_cast<std::size_t>(v)], [&](int reader) {
      return wanted_border(g_.nodes[static_cast<std::size_t>(reader)]).has_value();
    });
  }

  /// What a kernel makes: memory of its own, or a part of a joined value, whose memory is then there for all parts. New
  /// memory with a border that a window reads goes to `bordered`.
  int add_result(int v, std::vector<int>& bordered) {
    const auto whole = whole_.find(v);
    if (whole == whole_.end()) {
      const int value = add(v, plan::Storage::arena);
      if (g_.value(v).type.has_border() && read_by_a_window(v)) bordered.push_back(value);
      return value;
    }
    int of = numbers_.at(static_cast<std::size_t>(whole->second));
    if (of < 0) of = add_result(whole->second, bordered);
    const int part = add(v, plan::Storage::alias);
    at(part).of = root(of);
    return part;
  }

  void add_view(const Group& group) {
    const int of = number(group.inputs[0]);
    const int view = add(group.outputs[0], plan::Storage::alias);
    at(view).of = of;
    holders_[static_cast<std::size_t>(view)] = holders_[static_cast<std::size_t>(of)];
  }

  void add_host(const Group& group) {
    const Value& value = g_.value(group.outputs[0]);
    plan::Step step;
    step.kind = plan::StepKind::host;
    step.name = "evaluate";
    step.label = value.name;
    Json values = Json::array();
    for (const Extent& extent : value.extents.value()) values.push_back(extent);
    step.attributes = Json{{"values", values}}.dump();
    step.outputs.push_back({add(group.outputs[0], plan::Storage::arena), {}, 0});
    f_.steps.push_back(std::move(step));
  }

  int packed_constant(int v, const TensorType& type, const OperandInfo& info, const Packing& packing,
                      const BufferView& view) {
    const Value& value = g_.value(v);
    if (!value.constant)
      throw Error(ErrorCode::internal,
                  fmt::format("the chosen schedule packs operand '{}' ('{}'), which is made at run time", info.role,
                              value.name));
    if (!is_row_major(value.type))
      throw Error(ErrorCode::internal, fmt::format("constant '{}' to be packed is not row-major", value.name));
    std::string text = packing.form.empty() ? "" : " " + packing.form;
    for (const auto& block : packing.blocks) text += fmt::format(" {}:{}", block.dimension, block.size);
    const auto [found, is_new] = packed_.try_emplace(
        {v, text + " " + type.str() + fmt::format("{}", fmt::join(info.packing_order, ",")), info.role}, -1);
    if (!is_new) return found->second;
    Shape shape;
    for (const Extent& extent : type.shape) shape.push_back(extent.value());
    const Array packed = pack(value.constant->reshaped(shape), info, packing);
    plan::Value to;
    to.name = fmt::format("{} packed {}{}", value.name, info.role, text);
    while (!names_.insert(to.name).second) to.name += "'";
    to.dtype = view.dtype;
    for (auto d = view.dimensions.rbegin(); d != view.dimensions.rend(); ++d) {
      to.shape.push_back(d->extent);
      to.strides.push_back(d->stride);
    }
    to.elements = view.elements;
    to.storage = plan::Storage::constant;
    to.file_offset = weights_.add({static_cast<const char*>(packed.data()), packed.bytes()});
    f_.values.push_back(std::move(to));
    holders_.push_back(-1);
    return found->second = static_cast<int>(f_.values.size()) - 1;
  }

  void add_kernel(const Group& group, const ChosenKernel& kernel) {
    const Workload& w = group.workload.value();
    const auto& packings = kernel.choice.implementation.packings;
    plan::Step step;
    step.kind = plan::StepKind::kernel;
    step.name = kernel.symbol;
    step.label = label(group, g_);
    step.on_device = kernel.on_device();
    step.symbols = w.symbols();
    step.flops = w.flops();
    step.bytes = w.bytes();
    const auto inputs = w.input_views(packings);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const OperandInfo& info = w.inputs()[i];
      const auto packing =
          std::find_if(packings.begin(), packings.end(), [&](const Packing& p) { return p.operand == info.role; });
      const int value = packing == packings.end()
                            ? number(group.inputs[i])
                            : packed_constant(group.inputs[i], w.value_types()[i], info, *packing, inputs[i]);
      step.inputs.push_back(argument_of(value, inputs[i]));
    }
    const auto outputs = w.output_views();
    std::vector<int> bordered;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      step.outputs.push_back(argument_of(add_result(group.outputs[i], bordered), outputs[i]));
    if (step.on_device) check_bindable(step);
    const auto& nodes = w.composition().nodes;
    const bool elementwise = std::all_of(nodes.begin(), nodes.end(),
                                         [](const auto& n) { return n.op->kind() == OperatorKind::elementwise; });
    if (elementwise && outputs.size() == 1 && writes_once(kernel.choice.implementation.schedule))
      in_place_.insert(static_cast<int>(f_.steps.size()));
    f_.steps.push_back(std::move(step));
    // The arena's bytes are used again and again: a border holds what the last user left there.
    for (const int value : bordered) {
      plan::Step fill;
      fill.kind = plan::StepKind::fill_border;
      fill.name = "fill_border";
      fill.label = "border of " + at(value).name;
      fill.outputs.push_back({value, {}, 0});
      f_.steps.push_back(std::move(fill));
    }
  }

  /// A device's buffers begin at multiples of its alignment, so a view must begin where its allocation does: true
  /// without borders.
  void check_bindable(const plan::Step& step) {
    for (const auto* list : {&step.inputs, &step.outputs})
      for (const plan::Argument& argument : *list)
        if (!(argument.offset == Extent(0)) || !(at(argument.value).offset == Extent(0)))
          throw Error(ErrorCode::internal, fmt::format("'{}' reaches the device's kernel of {} with an offset",
                                                       at(argument.value).name, step.label));
  }

  int root(int number) {
    while (at(number).storage == plan::Storage::alias) number = at(number).of;
    return number;
  }

  /// Results are written straight into the caller's memory where they are made in the arena. A result that is seen
  /// through views is made in the caller's memory too. The runtime copies what is left: inputs, constants, and values
  /// that are returned twice.
  void place_outputs() {
    for (const int output : f_.outputs) {
      const int made = root(output);
      plan::Value& value = at(made);
      if (value.storage != plan::Storage::arena || !value.border_before.empty()) continue;
      // What steps of both sides touch needs a place on both.
      if (crossing_.contains(made)) continue;
      if (made == output) {
        value.storage = plan::Storage::output;
        continue;
      }
      if (!(value.elements == at(output).elements)) continue;
      at(output).storage = plan::Storage::output;
      at(output).of = -1;
      value.storage = plan::Storage::alias;
      value.of = output;
    }
  }

  /// An elementwise result takes the bytes of an operand that nobody needs any more, if both lie alike.
  void reuse_operands() {
    std::map<int, int> last_use;  // by root
    for (std::size_t s = 0; s < f_.steps.size(); ++s)
      for (const auto* list : {&f_.steps[s].inputs, &f_.steps[s].outputs})
        for (const auto& argument : *list) last_use[root(argument.value)] = static_cast<int>(s);
    for (const int output : f_.outputs) last_use[root(output)] = static_cast<int>(f_.steps.size());
    std::map<int, bool> on_device;  // where a value's step ran
    for (const plan::Step& step : f_.steps)
      for (const plan::Argument& out : step.outputs) on_device[out.value] = step.on_device;
    for (const int s : in_place_) {
      const plan::Step& step = f_.steps[static_cast<std::size_t>(s)];
      const plan::Argument& out = step.outputs[0];
      const int result = out.value;
      if (at(result).storage != plan::Storage::arena) continue;
      for (const plan::Argument& in : step.inputs) {
        const int bytes = root(in.value);
        if (at(bytes).storage != plan::Storage::arena || last_use[bytes] != s) continue;
        const auto made = on_device.find(holders_[static_cast<std::size_t>(in.value)]);
        if (made == on_device.end() || made->second != step.on_device) continue;  // only copied to this side
        if (at(bytes).dtype != at(result).dtype || !(at(bytes).elements == at(result).elements)) continue;
        // Every operand over these bytes must be read only where the result is written.
        const bool safe = std::all_of(step.inputs.begin(), step.inputs.end(), [&](const plan::Argument& other) {
          return root(other.value) != bytes || sees_the_same(other, out);
        });
        if (!safe) continue;
        at(result).storage = plan::Storage::alias;
        at(result).of = bytes;
        last_use[bytes] = last_use[result];
        break;
      }
    }
  }

  /// An input's view includes its border, an output's does not: compared is where element (0, ..., 0) lies.
  static bool sees_the_same(const plan::Argument& in, const plan::Argument& out) {
    if (in.dimensions.size() != out.dimensions.size()) return false;
    Extent in_origin = in.offset, out_origin = out.offset;
    for (std::size_t d = 0; d < in.dimensions.size(); ++d) {
      const auto &a = in.dimensions[d], &b = out.dimensions[d];
      const bool one = b.extent == Extent(1);
      if (!one && !(a.stride == b.stride)) return false;
      // An extent of 1 where the result has more is broadcast: read again after it was overwritten.
      if (a.extent == Extent(1) && !one) return false;
      in_origin = in_origin - a.min * a.stride;
      out_origin = out_origin - b.min * b.stride;
    }
    return in_origin == out_origin;
  }

  const Graph& g_;
  const std::vector<Group>& groups_;
  const std::vector<ChosenKernel>& kernels_;
  Weights& weights_;
  std::vector<std::vector<int>> consumers_;
  plan::Function f_;
  std::vector<int> numbers_;
  std::map<int, int> whole_;  ///< the joined value that a value is a part of
  std::map<std::tuple<int, std::string, std::string>, int> packed_;
  std::set<std::string> names_;
  std::set<int> in_place_;    ///< steps that may write over an operand
  std::vector<int> holders_;  ///< see crossing_values
  std::set<int> crossing_;    ///< values that are needed on both sides
};

}  // namespace

bool writes_once(const Schedule& schedule) {
  static const std::set<std::string> splitting = {"split",    "tile",   "vectorize", "unroll",
                                                  "parallel", "serial", "gpu_tile"};
  static const std::set<std::string> guarded = {"GuardWithIf", "Predicate", "PredicateStores"};
  static const std::set<std::string> tails = {"GuardWithIf",          "Predicate",       "PredicateLoads",
                                              "PredicateStores",      "RoundUp",         "ShiftInwards",
                                              "ShiftInwardsAndBlend", "RoundUpAndBlend", "Auto"};
  for (const auto& line : schedule.lines) {
    if (line.stage != "out") return false;  // a stage of its own may read ahead
    for (const auto& directive : line.directives) {
      if (!splitting.contains(directive.name)) continue;
      // Without a factor (an integer) it splits nothing.
      bool splits = false, safe = false, named = false;
      for (const auto& argument : directive.arguments) {
        if (std::holds_alternative<std::int64_t>(argument.value)) splits = true;
        else if (const auto& text = std::get<std::string>(argument.value); tails.contains(text)) {
          named = true;
          safe = guarded.contains(text);
        }
      }
      const bool always_splits = directive.name == "split" || directive.name.ends_with("tile");
      if ((splits || always_splits || named) && !safe) return false;
    }
  }
  return true;
}

plan::Function lower(const GroupedGraph& source, const std::vector<ChosenKernel>& kernels, Weights& weights) {
  return Lowering(source, kernels, weights).run();
}

}  // namespace heddle::graph
