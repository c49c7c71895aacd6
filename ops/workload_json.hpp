#pragma once
#include "dsl/workload.hpp"
#include "ops/catalog.hpp"

namespace heddle {

/// A workload as a document, for records and for workers on other machines; from_json(to_json(w)).text() == w.text().
/// Operators are named, so whoever reads it needs the same user modules.
Json workload_to_json(const Workload& workload);
/// Throws Error{invalid_argument} for a document that describes no workload, or one whose types the operators of this
/// program no longer infer; Error{not_found} for an operator that `operators` does not have.
Workload workload_from_json(const Json& json, const Operators& operators);

}  // namespace heddle
