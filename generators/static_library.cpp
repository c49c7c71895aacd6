#include "generators/static_library.hpp"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "dsl/halide_error.hpp"
#include "generators/link.hpp"
#include "generators/lower.hpp"
#include "generators/static_header.hpp"
#include "generators/tool.hpp"

namespace heddle {
namespace {

/// As the linked standalone runtime's arrays allow.
constexpr std::size_t most_arguments = 64, most_dimensions = 256;

void check(const StaticLibraryRequest& request) {
  const auto fail = [&](ErrorCode code, const std::string& why) {
    throw Error(code, fmt::format("static library '{}': {}", request.name, why));
  };
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  if (request.name.empty() || !std::ranges::all_of(request.name, is_word) ||
      std::isdigit(static_cast<unsigned char>(request.name[0])) != 0)
    fail(ErrorCode::invalid_argument, "the name becomes a C function's: letters, digits and '_', no digit first");
  if (request.targets.empty()) fail(ErrorCode::invalid_argument, "it needs at least one target");
  for (const Target& target : request.targets)
    if (target.is_gpu())
      fail(ErrorCode::unsupported,
           fmt::format(
               "kernels for {} are launched by the runtime of packages, which a static library goes without; take "
               "a processor's target, or compile a model that holds the operator with --target {}",
               target.name, target.name));
  if (request.implementations.size() != request.targets.size())
    fail(ErrorCode::internal, "one implementation a target is needed");
  for (std::size_t i = 1; i < request.targets.size(); ++i) {
    if (request.targets[i].architecture != request.targets[0].architecture)
      fail(ErrorCode::invalid_argument, fmt::format("{} and {} are different architectures; make a library for each",
                                                    request.targets[0].name, request.targets[i].name));
    if (request.implementations[i].packings != request.implementations[0].packings)
      fail(ErrorCode::invalid_argument, fmt::format("{} and {} pack operands differently, but share one function",
                                                    request.targets[0].name, request.targets[i].name));
  }
  std::size_t dimensions = 0, arguments = request.workload->symbols().size();
  for (const auto& views :
       {request.workload->input_views(request.implementations[0].packings), request.workload->output_views()})
    for (const auto& view : views) {
      dimensions += view.dimensions.size();
      ++arguments;
    }
  if (arguments > most_arguments || dimensions > most_dimensions)
    fail(ErrorCode::unsupported, fmt::format("{} arguments with {} dimensions are too many", arguments, dimensions));
}

/// A target once, the best first.
std::vector<std::size_t> order_of(const std::vector<Target>& targets) {
  std::vector<std::size_t> order;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < targets.size(); ++i)
    if (seen.insert(targets[i].name).second) order.push_back(i);
  std::ranges::stable_sort(order, [&](auto a, auto b) { return targets[a].rank > targets[b].rank; });
  return order;
}

std::string kernel_object(const StaticLibraryRequest& request, std::size_t which) {
  const KernelRequest kernel = {.workload = request.workload,
                                .implementation = request.implementations[which],
                                .target = request.targets[which],
                                .asserts = request.checked,
                                .schedule_file = request.schedule_file};
  std::string object;
  with_halide(kernel, [&] {
    const auto bytes = lower(kernel, static_kernel_symbol(request.name, kernel.target)).compile_to_buffer();
    object.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size_in_bytes());
  });
  if (object.find("halide_do_parallel_tasks") != std::string::npos)
    throw Error(
        ErrorCode::unsupported,
        fmt::format("static library '{}': the schedule has asynchronous stages, which only the runtime of packages "
                    "can run; take async() out",
                    request.name));
  return object;
}

}  // namespace

void write_static_library(const StaticLibraryRequest& request, const std::filesystem::path& directory) {
  check(request);
  const std::string header = static_library_header(request);
  const TemporaryDirectory scratch;
  std::vector<std::string> objects;
  for (const std::size_t which : order_of(request.targets)) objects.push_back(kernel_object(request, which));

  // One object of kernels and shims, of which only the kernels' entries can be seen: any number of these libraries, and
  // a Halide runtime, may meet in one program.
  const auto merged = scratch.path() / "merged.o", kernels = scratch.path() / "kernels.o",
             runtime = scratch.path() / "standalone.o";
  std::vector<std::string> merge = {"-r", "-o", merged.string()};
  for (const auto& path : write_objects(objects, scratch.path())) merge.push_back(path.string());
  merge.push_back(shims_object(request.targets[0]).string());
  run_tool(find_tool(linker()), merge);
  std::vector<std::string> hide = {"--redefine-sym=heddle_module_init=" + static_init_symbol(request.name),
                                   "--keep-global-symbol=heddle_module_init"};
  for (const std::size_t which : order_of(request.targets))
    hide.push_back("--keep-global-symbol=" + static_kernel_symbol(request.name, request.targets[which]) + "_argv");
  hide.insert(hide.end(), {merged.string(), kernels.string()});
  run_tool(find_tool(object_copier()), hide);

  write_file(runtime,
             read_file(standalone_object(request.targets[0])));  // Halide wants an archive's members side by side
  const auto library = scratch.path() / "library.a";
  translate_halide_errors(fmt::format("static library '{}'", request.name), [&] {
    Halide::create_static_library({kernels.string(), runtime.string()}, request.targets[0].halide, library.string(),
                                  /*deterministic=*/true);
  });
  write_file(directory / fmt::format("lib{}.a", request.name), read_file(library));
  write_file(directory / fmt::format("{}.h", request.name), header);
}

std::string static_library_header(const StaticLibraryRequest& request) {
  check(request);
  std::vector<Target> targets;
  for (const std::size_t which : order_of(request.targets)) targets.push_back(request.targets[which]);
  return static_header(request.name, *request.workload, request.implementations[0].packings, targets);
}

Workload symbolic_workload(const Operator& op, const Json& attributes, int threads) {
  const auto cases = op.cases();
  if (cases.empty())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("operator {} has no test case to take operand types from; give their types", op.name()));
  const Case& example = cases.front();
  const Json given = op.canonical(attributes.empty() ? example.attributes : attributes);
  const auto operands = op.operands(given, example.inputs);
  const Range range = {1, 65536};

  // In the order of what they assume: nothing, that dimensions of one name agree, that extents that are equal in the
  // case always are.
  enum class Naming { each, by_name, by_extent };
  for (const Naming naming : {Naming::each, Naming::by_name, Naming::by_extent}) {
    std::vector<TensorType> types;
    SymbolRanges symbols;
    for (std::size_t i = 0; i < example.inputs.size(); ++i) {
      TensorType type = tensor(example.inputs[i].dtype, example.inputs[i].shape);
      const auto names = i < operands.size() && !operands[i].dimensions.empty() ? operands[i].dimensions
                                                                                : default_dimensions(type.rank());
      const std::string role = i < operands.size() ? operands[i].role : fmt::format("x{}", i);
      for (std::size_t d = 0; d < type.shape.size(); ++d) {
        const auto extent = type.shape[d].constant();
        // In capitals: a symbol called like a loop would be taken for it.
        std::string name = names[d];
        std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
        if (naming == Naming::each) name = role + "_" + name;
        if (naming == Naming::by_extent && extent) name = fmt::format("N{}", *extent);
        if (extent) type.shape[d] = Extent::symbol(name);
        for (const auto& symbol : type.shape[d].symbols()) symbols[symbol] = range;
      }
      types.push_back(std::move(type));
    }
    try {
      return Workload::of(op, given, types, symbols, threads);
    } catch (const Error&) {
      // The type rule asks for more.
    }
  }
  SymbolRanges symbols;
  for (const auto& type : example.inputs)
    for (const auto& extent : type.shape)
      for (const auto& symbol : extent.symbols()) symbols[symbol] = range;
  return Workload::of(op, given, example.inputs, symbols, threads);
}

}  // namespace heddle
