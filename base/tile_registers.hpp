#pragma once

namespace heddle {

/// Whether this process may use AMX's tile registers, which it asks the system for: Linux saves their 8 KiB only for
/// processes that did, and others get a signal at the first tile instruction. It refuses where a thread's alternative
/// signal stack is too small for them, under some sandboxes, and where there are none.
bool may_use_tile_registers();

}  // namespace heddle
