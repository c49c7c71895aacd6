#include "autoscheduler/measure_quiet.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

#include "runtime/cpu.hpp"

namespace heddle::autoscheduler {
namespace {

// Not the user's own temporary directory: every process of the machine has to meet here.
constexpr const char* lock_path = "/tmp/heddle-timing.lock";

}  // namespace

Division divide_processors(int threads) {
  const runtime::CpuList list = runtime::available_cpus();
  // One of each core comes first in the list.
  const auto cores = std::min(static_cast<std::size_t>(std::max(list.cores, 1)), list.cpus.size());
  const std::vector<int> own(list.cpus.begin(), list.cpus.begin() + static_cast<std::ptrdiff_t>(cores));
  const auto wanted = static_cast<std::size_t>(std::max(threads, 1));
  if (wanted >= cores) return {.timing = list.cpus, .compiling = own, .overlap = false};
  // The last ones: interrupts and other programs prefer the first.
  const auto cut = own.end() - static_cast<std::ptrdiff_t>(wanted);
  return {.timing = {cut, own.end()}, .compiling = {own.begin(), cut}, .overlap = true};
}

TimingLock::TimingLock() {
  // Another user's file may be opened, but not with O_CREAT in a directory that all may write to.
  int fd = ::open(lock_path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) fd = ::open(lock_path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) fd = ::open(lock_path, O_RDONLY | O_CLOEXEC);
  file_ = Descriptor(fd);
}

bool TimingLock::lock(int operation) {
  // Where there is no such file, for lack of rights or of /tmp, there is nobody to wait for either.
  if (!file_ || held_ == operation) return true;
  while (::flock(file_.get(), operation | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return true;
    // A lock that is converted is lost where the new one is refused.
    held_ = 0;
    return false;
  }
  held_ = operation;
  return true;
}

bool TimingLock::try_exclusive() { return lock(LOCK_EX); }
bool TimingLock::try_shared() { return lock(LOCK_SH); }

void TimingLock::unlock() {
  if (file_ && held_ != 0) ::flock(file_.get(), LOCK_UN);
  held_ = 0;
}

}  // namespace heddle::autoscheduler
