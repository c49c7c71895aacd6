#include "tests/support/postgresql.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>

namespace heddle::testing {
namespace {

using namespace std::chrono_literals;

/// Whom Debian's package makes for the server, if we are root; nobody otherwise.
const passwd* server_user() { return ::geteuid() == 0 ? ::getpwnam("postgres") : nullptr; }

void give_to_server(const std::filesystem::path& path) {
  if (const passwd* user = server_user())
    if (::chown(path.c_str(), user->pw_uid, user->pw_gid) != 0)
      throw std::runtime_error("cannot chown " + path.string());
}

}  // namespace

std::optional<std::filesystem::path> PostgresServer::programs() {
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", ignored))
    if (std::filesystem::exists(version.path() / "bin" / "postgres")) found.push_back(version.path() / "bin");
  if (found.empty()) return std::nullopt;
  return *std::ranges::max_element(found);
}

PostgresServer::PostgresServer() : programs_(programs().value()) {
  give_to_server(directory_.path());
  const auto password = directory_.path() / "password";
  write_file(password, "secret\n");
  give_to_server(password);
  const pid_t made = launch({"initdb", "--pgdata", directory_.path() / "data", "--username", "heddle", "--auth",
                             "scram-sha-256", "--pwfile", password, "--encoding", "UTF8", "--no-sync"});
  int status = 0;
  ::waitpid(made, &status, 0);
  if (status != 0) throw std::runtime_error("initdb failed:\n" + read_file(directory_.path() / "log"));
  start();
}

PostgresServer::~PostgresServer() {
  if (server_ != 0) stop(SIGQUIT);
}

std::string PostgresServer::url(const std::string& password) const {
  return "postgresql://heddle:" + password + "@/postgres?host=" + directory_.path().string();
}

void PostgresServer::start() {
  server_ = launch({"postgres", "-D", directory_.path() / "data", "-k", directory_.path(), "-c",
                    "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"});
  for (const auto until = std::chrono::steady_clock::now() + 60s; std::chrono::steady_clock::now() < until;) {
    const pid_t asked = launch({"pg_isready", "--host", directory_.path(), "--quiet"});
    int status = 0;
    ::waitpid(asked, &status, 0);
    if (status == 0) return;
    if (::waitpid(server_, &status, WNOHANG) == server_) break;
    std::this_thread::sleep_for(50ms);
  }
  throw std::runtime_error("PostgreSQL did not start:\n" + read_file(directory_.path() / "log"));
}

void PostgresServer::stop(int signal) {
  ::kill(server_, signal);
  ::waitpid(server_, nullptr, 0);
  server_ = 0;
}

pid_t PostgresServer::launch(const std::vector<std::string>& command) const {
  const std::string program = programs_ / command.front();
  const std::string log = directory_.path() / "log";
  const passwd* user = server_user();
  const pid_t child = ::fork();
  if (child != 0) return child;
  if (user != nullptr && (::setgroups(0, nullptr) != 0 || ::setgid(user->pw_gid) != 0 || ::setuid(user->pw_uid) != 0))
    ::_exit(126);
  ::prctl(PR_SET_PDEATHSIG, SIGINT);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(out, STDERR_FILENO);
  std::vector<char*> arguments;
  for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  if (::chdir("/") == 0) ::execv(program.c_str(), arguments.data());
  ::_exit(127);
}

}  // namespace heddle::testing
