#include <array>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "base/error.hpp"
#include "tools/command.hpp"
#include "tools/terminal.hpp"
#include "tools/version.hpp"

namespace heddle::tools {
namespace {

/// Every subcommand, in the order that help lists them. Adding one: its file and its row.
std::array<Command, 16> commands() {
  return {compile_command(), run_command(),     bench_command(),  tune_command(),
          compare_command(), profile_command(), show_command(),   check_command(),
          ops_command(),     targets_command(), kernel_command(), records_command(),
          replay_command(),  worker_command(),  doctor_command(), measure_worker_command()};
}

/// The caller's mistakes are 2, failed work is 1.
int exit_code(const Error& e) {
  switch (e.code()) {
    case ErrorCode::invalid_argument:
    case ErrorCode::not_found: return 2;
    default: return 1;
  }
}

int run(int argc, char** argv) {
  CLI::App app{"Heddle: schedules as values, kernels at the machine's limit, ONNX models compiled to packages",
               "heddle"};
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  app.fallthrough(false);
  bool verbose = false;
  app.add_flag("-v,--verbose", verbose, "log what is being done, to stderr");
  std::function<int()> chosen;
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    const auto action = command.add(*sub);
    sub->callback([&chosen, action] { chosen = action; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  auto logger = spdlog::stderr_color_mt("heddle", colour_mode());
  logger->set_pattern("%^%l%$: %v");
  logger->set_level(verbose ? spdlog::level::debug : spdlog::level::warn);
  spdlog::set_default_logger(logger);
  if (verbose) ::setenv("HEDDLE_LOG", "debug", 0);  // the runtime's, which has no logger
  return chosen();
}

}  // namespace
}  // namespace heddle::tools

int main(int argc, char** argv) {
  try {
    return heddle::tools::run(argc, argv);
  } catch (const heddle::Error& e) {
    fmt::print(stderr, "heddle: {}\n", e.what());
    return heddle::tools::exit_code(e);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "heddle: out of memory\n");
    return 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "heddle: internal error: {}\n", e.what());
    return 1;
  }
}
