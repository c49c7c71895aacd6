#pragma once
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "dsl/operator.hpp"
#include "dsl/user_module.hpp"

namespace heddle {

/// Every operator that Heddle ships, in alphabetical order. Adding one: its file and its row in catalog.cpp.
std::span<const Operator* const> catalog();

/// The shipped operators and those of user modules.
class Operators {
 public:
  Operators();  ///< the catalog

  /// Adds a user module's operators: a shared library that exports `heddle_operators()`. It stays loaded for the
  /// process's life. Throws Error: not a module, built for another version, or a name that is taken.
  void load(const std::filesystem::path& module);
  void add(const Operator& op);

  const Operator* find(std::string_view name) const;  ///< null if there is none
  const Operator& get(std::string_view name) const;   ///< throws Error{not_found} with the near names
  const std::vector<const Operator*>& all() const { return all_; }

 private:
  std::vector<const Operator*> all_;
};

}  // namespace heddle
