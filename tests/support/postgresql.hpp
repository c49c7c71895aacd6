#pragma once
#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file.hpp"

namespace heddle::testing {

/// A PostgreSQL server of a test's own: a fresh cluster in a temporary directory, reached over a Unix socket there with
/// a password. It ends with the object, and with this process however that ends.
class PostgresServer {
 public:
  /// The folder of Debian's server programs; nothing where none is installed.
  static std::optional<std::filesystem::path> programs();

  PostgresServer();
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  std::string url(const std::string& password = "secret") const;
  void stop(int signal);  ///< SIGINT: as an administrator does; SIGKILL: as a power cut does to it and its children
  void start();

 private:
  /// A child with the rights of an ordinary user, which the server insists on; it dies with us.
  pid_t launch(const std::vector<std::string>& command) const;

  TemporaryDirectory directory_;
  std::filesystem::path programs_;
  pid_t server_ = 0;
};

}  // namespace heddle::testing
