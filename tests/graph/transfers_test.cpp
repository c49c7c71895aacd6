// Which side each step of a module for a device runs on, and what is copied between them. Nothing here is compiled or
// run: the plan is followed step by step.
#include <algorithm>
#include <map>
#include <set>

#include <catch2/catch.hpp>

#include "graph/kernels.hpp"
#include "graph/lower.hpp"
#include "graph/transfers.hpp"
#include "tests/graph/model_builder.hpp"

namespace heddle::graph {
namespace {

using plan::StepKind;

/// A predicate that keeps kernels of one operator on the processor.
std::function<std::string(const Workload&, const Target&)> keep(std::string name) {
  return [name](const Workload& w, const Target&) {
    return w.anchor().op->name() == name ? name + " stays" : std::string();
  };
}

struct Planned {
  GroupedGraph source;
  std::vector<ChosenKernel> kernels;
  plan::Function main;
};

Planned planned(const Graph& graph, const CompileOptions& options, const char* target = "opencl") {
  Planned p;
  p.source = prepare(graph, find_target(target), {.threads = 2});
  p.kernels = choose_kernels(p.source, find_target(target), options);
  Weights weights;
  p.main = lower(p.source, p.kernels, weights);
  return p;
}

int count(const plan::Function& f, StepKind kind) {
  return static_cast<int>(
      std::count_if(f.steps.begin(), f.steps.end(), [&](const plan::Step& s) { return s.kind == kind; }));
}

/// What each step is, in order: the anchor's name for kernels on the device, with `@` for those on the host.
std::vector<std::string> order(const plan::Function& f) {
  std::vector<std::string> names;
  for (const plan::Step& step : f.steps) {
    if (step.kind != StepKind::kernel) {
      names.push_back(step.name);
      continue;
    }
    const auto open = step.label.find('(') + 1;
    names.push_back((step.on_device ? "" : "@") + step.label.substr(open, step.label.find_first_of("+)", open) - open));
  }
  return names;
}

/// Follows the bytes of every allocation on both sides: each step must read, on its side, what was written last.
/// Returns how often work changes sides.
int check_sides(const plan::Function& f) {
  const auto root = [&](int v) {
    while (f.values[static_cast<std::size_t>(v)].storage == plan::Storage::alias)
      v = f.values[static_cast<std::size_t>(v)].of;
    return v;
  };
  struct Content {
    int latest = -1, host = -1, device = -1;  // the steps that wrote it; -1: as it was given
  };
  std::map<int, Content> contents;
  int changes = 0;
  bool on_device = false;
  for (std::size_t s = 0; s < f.steps.size(); ++s) {
    const plan::Step& step = f.steps[s];
    INFO("step " << s << " " << step.label);
    if (step.kind == StepKind::upload || step.kind == StepKind::download) {
      REQUIRE(step.inputs.size() == 1);
      CHECK(step.outputs.empty());
      Content& content = contents[root(step.inputs[0].value)];
      const bool up = step.kind == StepKind::upload;
      CHECK((up ? content.host : content.device) == content.latest);
      CHECK((up ? content.device : content.host) != content.latest);  // or nothing had to be copied
      content.host = content.device = content.latest;
      // The runtime's copies are between the arenas.
      CHECK(f.values[static_cast<std::size_t>(root(step.inputs[0].value))].storage == plan::Storage::arena);
      continue;
    }
    if (step.on_device != on_device) ++changes;
    on_device = step.on_device;
    for (const auto& argument : step.inputs) {
      const Content& content = contents[root(argument.value)];
      CHECK((step.on_device ? content.device : content.host) == content.latest);
    }
    for (const auto& argument : step.outputs) {
      Content& content = contents[root(argument.value)];
      content.latest = static_cast<int>(s);
      (step.on_device ? content.device : content.host) = content.latest;
    }
  }
  return changes;
}

/// Transfers that any plan needs: the values made on one side and read on the other.
std::size_t needed_transfers(const Planned& p) {
  std::map<int, bool> made;  // graph values by side, views traced
  std::set<int> needed;
  std::size_t k = 0;
  std::map<int, int> viewed;
  const auto origin = [&](int v) {
    while (viewed.contains(v)) v = viewed[v];
    return v;
  };
  for (const Group& group : p.source.groups) {
    if (group.kind == Group::Kind::view) {
      viewed[group.outputs[0]] = group.inputs[0];
      continue;
    }
    const bool device = group.kind == Group::Kind::kernel && p.kernels[k++].on_device();
    for (const int v : group.inputs)
      if (const auto from = made.find(origin(v)); from != made.end() && from->second != device)
        needed.insert(origin(v));
    for (const int v : group.outputs) made[v] = device;
  }
  return needed.size();
}

TEST_CASE("what the device cannot run is computed beside it, with one copy a value") {
  ModelBuilder m;
  const int x = m.input("x", "f32[8,16]");
  const int a = m.op("matmul", {x, m.constant("f32[16,16]")});
  const int b = m.op("softmax", {a});
  const int c = m.op("softmax", {m.op("transpose", {a}, {{"perm", {1, 0}}})}, {{"axis", 0}});
  const int d = m.op("matmul", {b, m.op("transpose", {c}, {{"perm", {1, 0}}})}, {{"transpose_b", true}});
  m.output(d, "y");
  CompileOptions options;
  options.keep_on_host = keep("softmax");
  const Planned p = planned(m.graph, options);
  check_sides(p.main);
  CHECK(count(p.main, StepKind::download) == 1);  // read twice, once through a view
  CHECK(count(p.main, StepKind::upload) == 2);
  // The host's kernels are the processor's, with its schedules.
  for (const ChosenKernel& kernel : p.kernels) {
    const bool softmax = kernel.request.workload->anchor().op->name() == "softmax";
    CHECK(kernel.on_device() != softmax);
    CHECK(kernel.obstacle == (softmax ? "softmax stays" : ""));
    CHECK(kernel.request.target.name == (softmax ? companion_target(find_target("opencl")).name : "opencl"));
  }
  const auto names = order(p.main);
  CHECK(names.front() == "matmul");
  CHECK(names[1] == "download");
  CHECK(names[2] == "@softmax");
  CHECK(names.back() == "matmul");
}

TEST_CASE("work of one side stays together") {
  // Two branches, each device, host, device: the sides take turns once, not once a branch.
  ModelBuilder m;
  const int x = m.input("x", "f32[8,16]");
  std::vector<int> branches;
  for (int i = 0; i < 3; ++i)
    branches.push_back(
        m.op("matmul", {m.op("softmax", {m.op("matmul", {x, m.constant("f32[16,16]")})}), m.constant("f32[16,16]")}));
  m.output(m.op("add", {m.op("add", {branches[0], branches[1]}), branches[2]}), "y");
  CompileOptions options;
  options.keep_on_host = keep("softmax");
  const Planned p = planned(m.graph, options);
  CHECK(check_sides(p.main) == 3);
  CHECK(order(p.main).front() == "matmul");
}

TEST_CASE("steps of the host that need nothing come first") {
  // A group of the host whose value a kernel reads.
  std::vector<Group> groups(3);
  groups[0].kind = Group::Kind::kernel;
  groups[0].outputs = {10};
  groups[1].kind = Group::Kind::host;
  groups[1].outputs = {11};
  groups[2].kind = Group::Kind::kernel;
  groups[2].inputs = {10, 11};
  groups[2].outputs = {12};
  CHECK(order_by_side(groups, {Side::device, Side::host, Side::device}) == std::vector<std::size_t>{1, 0, 2});
}

TEST_CASE("what a device's language cannot say stays on the processor, and says so") {
  ModelBuilder m;
  const int a = m.op("matmul", {m.input("x", "f64[4,8]"), m.constant("f64[8,8]")});
  m.output(m.op("matmul", {m.op("softmax", {a}), m.constant("f64[8,4]")}), "y");
  const Planned vulkan = planned(m.graph, {}, "vulkan");
  check_sides(vulkan.main);
  CHECK(order(vulkan.main) == std::vector<std::string>{"matmul", "download", "@softmax", "upload", "matmul"});
  for (const ChosenKernel& kernel : vulkan.kernels)
    CHECK((kernel.obstacle.find("exp of doubles") != std::string::npos) != kernel.on_device());
  const Planned opencl = planned(m.graph, {}, "opencl");
  CHECK(order(opencl.main) == std::vector<std::string>{"matmul", "softmax", "matmul"});
}

TEST_CASE("with one side the groups' order is kept") {
  ModelBuilder m;
  int x = m.input("x", "f32[8,8]");
  for (int i = 0; i < 4; ++i) x = m.op("softmax", {m.op("matmul", {x, m.constant("f32[8,8]")})});
  m.output(x, "y");
  for (const char* target : {"opencl", "vulkan"}) {
    const Planned p = planned(m.graph, {}, target);
    CHECK(check_sides(p.main) == 1);
    CHECK(count(p.main, StepKind::upload) + count(p.main, StepKind::download) == 0);
    CHECK(std::all_of(p.main.steps.begin(), p.main.steps.end(), [](const auto& s) { return s.on_device; }));
  }
  CompileOptions options;
  options.keep_on_host = [](const Workload&, const Target&) { return std::string("nothing runs there"); };
  const Planned host = planned(m.graph, options);
  CHECK(check_sides(host.main) == 0);
  CHECK(count(host.main, StepKind::upload) + count(host.main, StepKind::download) == 0);
}

TEST_CASE("bytes are taken over only from the same side") {
  ModelBuilder m;
  const int x = m.input("x", "f32[8,16]");
  const int a = m.op("matmul", {x, m.constant("f32[16,16]")});
  const int b = m.op("softmax", {a});
  // sigmoid is the last to read b, which lies on the host; tanh the last to read c, which lies beside it.
  const int c = m.op("concat", {b, b}, {{"axis", 1}});
  const int d = m.op("slice", {m.op("sigmoid", {b})}, {{"starts", {0}}, {"ends", {4}}, {"axes", {0}}});
  m.output(m.op("matmul", {m.op("tanh", {c}), m.constant("f32[32,16]")}), "y");
  m.output(d, "z");
  CompileOptions options;
  options.keep_on_host = keep("softmax");
  const Planned p = planned(m.graph, options);
  check_sides(p.main);
  std::map<int, bool> made;
  for (const auto& step : p.main.steps)
    for (const auto& out : step.outputs) made[out.value] = step.on_device;
  for (std::size_t v = 0; v < p.main.values.size(); ++v) {
    const auto& value = p.main.values[v];
    if (value.storage != plan::Storage::alias) continue;
    const auto on = made.find(static_cast<int>(v)), of = made.find(value.of);
    if (on != made.end() && of != made.end()) CHECK(on->second == of->second);
  }
}

/// Chains and branches of kernels, any of which may be kept on the host.
Graph random_branches(std::uint32_t& seed) {
  const auto pick = [&](std::size_t count) {
    seed = seed * 1664525U + 1013904223U;
    return static_cast<std::size_t>(seed >> 16) % count;
  };
  ModelBuilder m;
  std::vector<int> values = {m.input("x", "f32[6,6]"), m.input("y", "f32[6,6]")};
  for (int i = 0; i < 14; ++i) {
    const int a = values[pick(values.size())], b = values[pick(values.size())];
    switch (pick(6)) {
      case 0: values.push_back(m.op("matmul", {a, m.constant("f32[6,6]")})); break;
      case 1: values.push_back(m.op("softmax", {a})); break;
      case 2: values.push_back(m.op("add", {a, b})); break;
      case 3: values.push_back(m.op("transpose", {a}, {{"perm", {1, 0}}})); break;
      case 4: values.push_back(m.op("sigmoid", {a})); break;
      case 5:
        values.push_back(
            m.op("slice", {m.op("concat", {a, b}, {{"axis", 0}})}, {{"starts", {3}}, {"ends", {9}}, {"axes", {0}}}));
        break;
    }
  }
  for (std::size_t i = 0; i < 3; ++i) m.output(values[values.size() - 1 - i]);
  return m.graph;
}

TEST_CASE("any kernels may stay on the host") {
  std::uint32_t seed = 5;
  for (int round = 0; round < 12; ++round) {
    const Graph graph = random_branches(seed);
    CompileOptions options;
    std::map<std::string, bool> stays;  // by the kernel's work
    options.keep_on_host = [&](const Workload& w, const Target&) {
      const auto [found, is_new] = stays.try_emplace(w.text());
      seed = seed * 1664525U + 1013904223U;
      if (is_new) found->second = (seed >> 16) % 2 == 0;
      return found->second ? std::string("by chance") : std::string();
    };
    INFO("round " << round);
    const Planned p = planned(graph, options);
    check_sides(p.main);
    CHECK(static_cast<std::size_t>(count(p.main, StepKind::upload) + count(p.main, StepKind::download)) ==
          needed_transfers(p));
  }
}

}  // namespace
}  // namespace heddle::graph
