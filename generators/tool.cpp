#include "generators/tool.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"

extern char** environ;

namespace heddle {
namespace {

bool runs(const std::filesystem::path& path) { return !path.empty() && ::access(path.c_str(), X_OK) == 0; }

}  // namespace

Tool linker() { return {"ld.lld", "HEDDLE_LLD", HEDDLE_DEFAULT_LLD, "lld-19"}; }

Tool object_copier() {
  // Installed by the same package as objdump, whose place the build knows.
  const std::string dump = HEDDLE_DEFAULT_OBJDUMP;
  const std::size_t at = dump.rfind("objdump");
  const std::string path = at == std::string::npos ? "" : dump.substr(0, at) + "objcopy" + dump.substr(at + 7);
  return {"llvm-objcopy", "HEDDLE_OBJCOPY", path, "llvm-19"};
}

std::filesystem::path find_tool(const Tool& tool) {
  if (const char* path = std::getenv(tool.environment.c_str()); path != nullptr && *path != '\0') {
    if (runs(path)) return path;
    throw Error(ErrorCode::not_found, fmt::format("{} says that {} is '{}', which is no program that can be run",
                                                  tool.environment, tool.name, path));
  }
  if (runs(tool.built_with)) return tool.built_with;
  const char* variable = std::getenv("PATH");
  std::istringstream directories(variable != nullptr ? variable : "/usr/bin");
  for (std::string directory; std::getline(directories, directory, ':');)
    for (const auto& name : {tool.name + "-19", tool.name})
      if (const auto path = std::filesystem::path(directory) / name; runs(path)) return path;
  throw Error(ErrorCode::not_found,
              fmt::format("the program {} is not there: install the package {}, or set {} to its path", tool.name,
                          tool.package, tool.environment));
}

void run_tool(const std::filesystem::path& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {program.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw Error(ErrorCode::io, fmt::format("cannot run {}: {}", program.string(), std::strerror(errno)));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  pid_t child = 0;
  const int refused = ::posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string output;
  if (refused == 0) {
    std::array<char, 4096> part{};
    for (ssize_t n = 0; (n = ::read(ends[0], part.data(), part.size())) > 0 || (n < 0 && errno == EINTR);)
      if (n > 0) output.append(part.data(), static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  if (refused != 0)
    throw Error(ErrorCode::io, fmt::format("cannot run {}: {}", program.string(), std::strerror(refused)));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const std::string how = WIFSIGNALED(status) ? fmt::format("died of signal {}", WTERMSIG(status))
                                              : fmt::format("failed with status {}", WEXITSTATUS(status));
  throw Error(ErrorCode::internal, fmt::format("{} {}:\n{}", program.filename().string(), how, output));
}

std::filesystem::path support_file(const std::string& name) {
  std::filesystem::path directory;
  if (const char* given = std::getenv("HEDDLE_SHIMS"); given != nullptr && *given != '\0') {
    directory = given;
  } else {
    Dl_info library{};
    if (::dladdr(reinterpret_cast<const void*>(&support_file), &library) != 0 && library.dli_fname != nullptr)
      directory = std::filesystem::absolute(library.dli_fname).parent_path() / "heddle";
  }
  std::filesystem::path path = directory / name;
  if (!std::filesystem::exists(path))
    throw Error(
        ErrorCode::not_found,
        fmt::format("'{}' is not there: Heddle's installation is incomplete; build the target heddle_shims or set "
                    "HEDDLE_SHIMS to the directory that holds {}",
                    path.string(), name));
  return path;
}

}  // namespace heddle
