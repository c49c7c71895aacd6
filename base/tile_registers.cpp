#include "base/tile_registers.hpp"

#include <sys/syscall.h>
#include <unistd.h>

namespace heddle {

bool may_use_tile_registers() {
#if defined(__x86_64__)
  constexpr int request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM, Linux 5.16
  constexpr int tile_data = 18;               // the state component's number in XCR0
  return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

}  // namespace heddle
