#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/host/host.hpp"

namespace heddle::runtime {
namespace {

constexpr std::array operators = {
    HostOperator{"evaluate", bind_evaluate},
};

}  // namespace

std::span<const HostOperator> host_operators() { return operators; }

const HostOperator& host_operator(std::string_view name) {
  std::vector<std::string> names;
  for (const HostOperator& op : operators) {
    if (op.name == name) return op;
    names.emplace_back(op.name);
  }
  throw Error(ErrorCode::unsupported,
              fmt::format("the runtime has no host operator '{}'{}: a newer Heddle wrote the package", name,
                          did_you_mean(name, names)));
}

}  // namespace heddle::runtime
