#include "tools/stored_records.hpp"

#include <utility>

#include <fmt/format.h>

#include "base/error.hpp"
#include "tools/model.hpp"

namespace heddle::tools {

void add_store_option(CLI::App& app, std::string& url) {
  app.add_option("--records", url, "sqlite:FILE or postgresql://USER@HOST/DATABASE (default: HEDDLE_RECORDS)");
}

RecordStore open_store(const std::string& flag, RecordStore::Open how) {
  const std::string url = records_url(flag);
  if (url.empty())
    throw Error(ErrorCode::invalid_argument, "which records? Name them with --records sqlite:FILE or HEDDLE_RECORDS");
  return RecordStore(url, how);
}

Record find_record(const RecordStore& store, std::int64_t id) {
  auto record = store.find(id);
  if (!record)
    throw Error(ErrorCode::not_found,
                fmt::format("{} has no record {}; `heddle records list` shows those there are", store.name(), id));
  return std::move(*record);
}

}  // namespace heddle::tools
