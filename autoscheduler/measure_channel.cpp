#include "autoscheduler/measure_channel.hpp"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::autoscheduler {

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor anonymous_file(const char* label) {
  Descriptor file(::memfd_create(label, MFD_CLOEXEC));
  if (!file) throw Error(ErrorCode::io, fmt::format("cannot make a file in memory: {}", std::strerror(errno)));
  return file;
}

std::string contents(int fd, std::size_t most) {
  struct ::stat status{};
  if (::fstat(fd, &status) != 0) return "";
  const auto size = static_cast<std::size_t>(status.st_size);
  const std::size_t begin = size > most ? size - most : 0;
  std::string bytes(size - begin, '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ::ssize_t n = ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<::off_t>(begin + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    // A reader that is gone must not end the writer. Only sockets can be asked for that.
    ::ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK) n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool Channel::send(const Json& document) {
  // Messages quote what other programs wrote, which need not be UTF-8.
  return write_all(out_, document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

bool Channel::fill() {
  std::array<char, 1 << 16> part{};
  for (;;) {
    const ::ssize_t n = ::read(in_, part.data(), part.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    buffer_.append(part.data(), static_cast<std::size_t>(n));
    return true;
  }
}

std::optional<Json> Channel::take() {
  const std::size_t end = buffer_.find('\n');
  if (end == std::string::npos) return std::nullopt;
  Json document = Json::parse(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
  if (document.is_discarded())
    throw Error(ErrorCode::corrupt,
                fmt::format("not a line of JSON: '{}'", buffer_.substr(0, std::min<std::size_t>(end, 200))));
  buffer_.erase(0, end + 1);
  return document;
}

std::optional<Json> Channel::receive() {
  for (;;) {
    if (auto document = take()) return document;
    if (!fill()) return std::nullopt;
  }
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace heddle::autoscheduler
