#pragma once
#include <functional>
#include <span>
#include <string>

#include <CLI/CLI.hpp>

namespace heddle::tools {

/// One subcommand, one file. `add` declares its options on the given app and returns what to run once they are parsed;
/// the result is the process's exit code (0 done, 1 the work failed, 2 the call is wrong; errors thrown become 1 or 2).
struct Command {
  std::string name;
  std::string summary;
  std::function<std::function<int()>(CLI::App&)> add;
};

Command bench_command();
Command check_command();
Command compare_command();
Command compile_command();
Command doctor_command();
Command kernel_command();
Command measure_worker_command();
Command ops_command();
Command profile_command();
Command records_command();
Command replay_command();
Command run_command();
Command show_command();
Command targets_command();
Command tune_command();
Command worker_command();

}  // namespace heddle::tools
