#include <unistd.h>

#include "autoscheduler/measure_job.hpp"
#include "tools/command.hpp"

namespace heddle::tools {

Command measure_worker_command() {
  return {.name = "measure-worker",
          .summary = "measure candidates for a search, which starts this itself",
          .add = [](CLI::App& app) {
            app.group("");  // no part of the help: it speaks to programs
            return std::function<int()>([] { return autoscheduler::serve_measurer(STDIN_FILENO, STDOUT_FILENO); });
          }};
}

}  // namespace heddle::tools
