#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "dsl/operator.hpp"

namespace heddle::autoscheduler {

/// An open file descriptor, closed at the end.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// A file without a name, in memory. Throws Error{io}.
Descriptor anonymous_file(const char* label);

/// What a file holds: all of it, or its end if that is more than `most` bytes.
std::string contents(int fd, std::size_t most = std::size_t{1} << 30);

/// Writes everything, however often the system takes a part or is interrupted; false if nobody reads any more.
bool write_all(int fd, std::string_view bytes);

/// JSON documents, one a line, over a socket or a pair of pipes that others own.
class Channel {
 public:
  Channel(int in, int out) : in_(in), out_(out) {}

  /// False if the other end is gone.
  bool send(const Json& document);

  /// Waits for the next document; nothing once the other end is gone. Throws Error{corrupt} for a line that is none.
  std::optional<Json> receive();

  /// A document that has arrived already, without waiting.
  std::optional<Json> take();
  /// Reads what there is, waiting for something; false once the other end is gone.
  bool fill();

  int in() const { return in_; }
  int out() const { return out_; }

 private:
  int in_, out_;
  std::string buffer_;
};

/// Seconds of a clock that no one sets.
double now_seconds();

}  // namespace heddle::autoscheduler
