#pragma once
#include <string>

#include <CLI/CLI.hpp>

#include "schedules/records.hpp"

// What the subcommands that look at a store of records share.
namespace heddle::tools {

/// `--records`, the store of the subcommand's work.
void add_store_option(CLI::App& app, std::string& url);

/// The store that the flag or HEDDLE_RECORDS names; throws Error{invalid_argument} where neither does.
RecordStore open_store(const std::string& flag, RecordStore::Open how = RecordStore::Open::existing);

/// Throws Error{not_found}.
Record find_record(const RecordStore& store, std::int64_t id);

}  // namespace heddle::tools
