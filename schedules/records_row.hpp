#pragma once
#include <string>

#include "schedules/records.hpp"

namespace heddle::schedules {

/// Calls `f(name, member)` for every member of a record but its id: the columns of the table and the members of the
/// text form, in this one order.
template <class SomeRecord, class F>
void for_each_member(SomeRecord& record, F f) {
  f("search", record.search);
  f("trial", record.trial);
  f("workload", record.workload);
  f("workload_json", record.workload_json);
  f("name", record.name);
  f("anchor", record.anchor);
  f("target", record.target);
  f("machine", record.machine);
  f("threads", record.threads);
  f("implementation", record.implementation);
  f("requirements", record.requirements);
  f("point", record.point);
  f("origin", record.origin);
  f("status", record.status);
  f("message", record.message);
  f("seconds", record.seconds);
  f("incumbent_seconds", record.incumbent_seconds);
  f("median_seconds", record.median_seconds);
  f("process_seconds", record.process_seconds);
  f("compile_seconds", record.compile_seconds);
  f("kernel_key", record.kernel_key);
  f("versions", record.versions);
  f("created", record.created);
}

/// One JSON object a line, sorted, without ids, behind a line that names the format.
std::string records_to_text(std::vector<Record> records);
/// Throws Error{invalid_argument} with file and line.
std::vector<Record> records_from_text(const std::string& text, const std::string& file);

}  // namespace heddle::schedules
