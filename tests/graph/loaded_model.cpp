#include "tests/graph/loaded_model.hpp"

#include <cstring>

#include <catch2/catch.hpp>

#include "graph/interpret.hpp"

namespace heddle::graph {

CompileOptions compile_options() {
  static const TemporaryDirectory cache;
  CompileOptions o;
  o.targets = {host_target()};
  o.cache = cache.path();
  return o;
}

std::vector<Array> run(runtime::Session& session, std::vector<Array> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    session.set_input(i, {inputs[i].dtype(), inputs[i].shape(), inputs[i].mutable_data()});
  session.run();
  std::vector<Array> outputs;
  for (std::size_t o = 0; o < session.model().main().outputs.size(); ++o) {
    const auto tensor = session.output(o);
    Array array(tensor.dtype, tensor.shape);
    if (array.bytes() > 0) std::memcpy(array.mutable_data(), tensor.data, array.bytes());
    outputs.push_back(std::move(array));
  }
  return outputs;
}

LoadedModel::LoadedModel(const Graph& graph, const CompileOptions& options, const runtime::LoadOptions& load)
    : compiled(compile(graph, options)) {
  write_package(compiled, directory.path() / "package");
  model = runtime::Model::load(directory.path() / "package", load);
}

void check_runs(const Graph& graph, const LoadedModel& loaded, const SymbolValues& symbols, double tolerance) {
  runtime::SessionOptions poisoned;
  poisoned.threads = 2;
  poisoned.poison = true;
  runtime::Session session(loaded.model, poisoned);
  for (const std::uint32_t seed : {1U, 2U}) {
    const auto inputs = random_inputs(graph, symbols, seed);
    CHECK(difference(run(session, inputs), interpret(graph, inputs)) < tolerance);
  }
}

Graph convolutions() {
  ModelBuilder m;
  const int x = m.input("x", "f32[1,3,12,12]");
  const int a = m.op("relu", {m.op("conv", {x, m.constant("f32[16,3,3,3]"), m.constant("f32[16]")},
                                   {{"pads", {1, 1, 1, 1}}, {"strides", {2, 2}}})});
  const int b = m.op("relu", {m.op("conv", {a, m.constant("f32[16,16,1,1]"), m.constant("f32[16]")})});
  const int c =
      m.op("relu", {m.op("conv", {b, m.constant("f32[16,16,3,3]"), m.constant("f32[16]")}, {{"pads", {1, 1, 1, 1}}})});
  const int d = m.op("conv", {c, m.constant("f32[16,16,1,1]"), m.constant("f32[16]")});
  const int e = m.op("relu", {m.op("add", {d, a})});
  const int f = m.op("max_pool", {e}, {{"kernel_shape", {3, 3}}, {"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}});
  const int g = m.op("conv", {f, m.constant("f32[16,1,3,3]")}, {{"pads", {1, 1, 1, 1}}, {"group", 16}});
  const int mean = m.op("reduce_mean", {g}, {{"axes", {2, 3}}, {"keepdims", true}});
  const int gate = m.op("sigmoid", {m.op("conv", {mean, m.constant("f32[16,16,1,1]")})});
  const int h = m.op("mul", {g, gate});
  m.output(h, "features");
  const int flat = m.op("reshape", {m.op("reduce_mean", {h}, {{"axes", {2, 3}}})}, {{"shape", {1, 16}}});
  m.output(m.op("softmax", {m.op("matmul", {flat, m.constant("f32[16,10]"), m.constant("f32[10]")})}), "y");
  return m.graph;
}

Graph random_network(std::uint32_t seed) {
  const auto pick = [&](int count) {
    seed = seed * 1664525U + 1013904223U;
    return static_cast<int>((seed >> 16) % static_cast<std::uint32_t>(count));
  };
  ModelBuilder m;
  std::vector<int> values = {m.input("x", "f32[2,4,6,5]"), m.input("y", "f32[2,4,6,5]")};
  for (int i = 0; i < 10; ++i) {
    const int a = values[static_cast<std::size_t>(pick(static_cast<int>(values.size())))];
    const int b = values[static_cast<std::size_t>(pick(static_cast<int>(values.size())))];
    int result = a;
    switch (pick(10)) {
      case 0:
        result = m.op("conv", {a, m.constant("f32[4,4,3,3]"), m.constant("f32[4]")}, {{"pads", {1, 1, 1, 1}}});
        break;
      case 1: result = m.op("conv", {a, m.constant("f32[4,4,1,1]")}); break;
      case 2: result = m.op("add", {a, b}); break;
      case 3: result = m.op("mul", {a, m.op("sigmoid", {m.op("reduce_mean", {b}, {{"axes", {2, 3}}})})}); break;
      case 4: result = m.op("relu", {m.op("add", {a, m.constant("f32[4,1,1]")})}); break;
      case 5: {
        const int t = m.op("transpose", {a}, {{"perm", {0, 2, 3, 1}}});
        result = m.op("transpose", {m.op("matmul", {t, m.constant("f32[4,4]")})}, {{"perm", {0, 3, 1, 2}}});
        break;
      }
      case 6: {
        const int heads =
            m.op("transpose", {m.op("reshape", {a}, {{"shape", {2, 2, 2, 30}}})}, {{"perm", {0, 2, 1, 3}}});
        result = m.op("reshape", {heads}, {{"shape", {2, 4, 6, 5}}});
        break;
      }
      case 7: result = m.op("softmax", {a}, {{"axis", pick(4)}}); break;
      case 8:
        result =
            m.op("slice", {m.op("concat", {a, b}, {{"axis", 1}})}, {{"starts", {2}}, {"ends", {6}}, {"axes", {1}}});
        break;
      case 9: result = m.op("max_pool", {a}, {{"kernel_shape", {3, 3}}, {"pads", {1, 1, 1, 1}}}); break;
    }
    values.push_back(result);
  }
  m.output(values.back(), "last");
  m.output(m.op("tanh", {m.op("reshape", {values[values.size() - 2]}, {{"shape", {8, 30}}})}), "before");
  return m.graph;
}

}  // namespace heddle::graph
