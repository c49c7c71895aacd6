#include "runtime/gpu/recorder.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace heddle::runtime::gpu {
namespace {

/// Halide's SPIR-V reads vectors of up to this many bytes, the last of which may reach beyond a buffer's end.
constexpr std::uint64_t widest_access = 16;

constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }

std::uint64_t element_bytes(const halide_buffer_t& buffer) {
  return static_cast<std::uint64_t>((buffer.type.bits + 7) / 8) * buffer.type.lanes;
}

/// Bytes from the first element to the end of the last one. Throws for a buffer that lies before its address.
std::uint64_t span_bytes(const halide_buffer_t& buffer) {
  std::uint64_t last = 0;
  for (int d = 0; d < buffer.dimensions; ++d) {
    const halide_dimension_t& dim = buffer.dim[d];
    if (dim.extent <= 0) return 0;
    if (dim.extent == 1) continue;
    // A binding begins at the address; kernels count from it, downwards too.
    if (dim.stride < 0)
      throw Error(ErrorCode::unsupported,
                  "a buffer runs backwards in memory, which devices cannot be given; the value must be copied first");
    last += static_cast<std::uint64_t>(dim.extent - 1) * static_cast<std::uint64_t>(dim.stride);
  }
  return (last + 1) * element_bytes(buffer);
}

}  // namespace

void Entries::add(const plan::DeviceKernel& kernel, std::shared_ptr<Code> code) {
  kernels_[kernel.kernel][kernel.entry] = {&kernel, std::move(code)};
}

const Entries::Entry* Entries::find(std::string_view kernel, std::string_view entry) const {
  const auto of_kernel = kernels_.find(kernel);
  if (of_kernel == kernels_.end()) return nullptr;
  const auto found = of_kernel->second.find(entry);
  return found == of_kernel->second.end() ? nullptr : &found->second;
}

std::uint64_t ScratchPlan::allocate(std::uint64_t bytes) {
  const std::uint64_t needed = std::max(round_up(bytes, alignment_), alignment_);
  std::uint64_t offset = 0;
  for (const auto& [start, length] : used_) {
    if (start - offset >= needed) break;
    offset = start + length;
  }
  used_[offset] = needed;
  most_ = std::max(most_, offset + needed);
  return offset;
}

bool ScratchPlan::release(std::uint64_t offset) { return used_.erase(offset) == 1; }

Recorder::Recorder(KernelCall& call, const Entries& entries, const DeviceInfo& device,
                   std::span<const std::uint64_t> memory_bytes)
    : call_(call), entries_(entries), device_(device), memory_bytes_(memory_bytes), scratch_(device.alignment) {
  call_.recorder = this;
}

/// Kernels are C: nothing may be thrown through them.
template <class F>
int Recorder::guarded(F&& f) noexcept {
  try {
    return f();
  } catch (const Error& error) {
    call_.fail(error.what());
    if (!error_) error_ = error;
  } catch (const std::exception& error) {
    call_.fail(error.what());
    if (!error_) error_ = Error(ErrorCode::internal, error.what());
  }
  return halide_error_code_device_run_failed;
}

void Recorder::check() const {
  if (error_) throw *error_;
}

int Recorder::allocate(halide_buffer_t& buffer) noexcept {
  return guarded([&] {
    buffer.device = Address{scratch_memory, scratch_.allocate(span_bytes(buffer))}.encoded();
    return 0;
  });
}

int Recorder::release(halide_buffer_t& buffer) noexcept {
  return guarded([&] {
    // A kernel's arguments are asked to be released too, which are not its own.
    const Address address = Address::decode(buffer.device);
    if (address.memory == scratch_memory && !scratch_.release(address.offset))
      throw Error(ErrorCode::internal, "a kernel releases an intermediate that it does not have");
    return 0;
  });
}

Binding Recorder::bind(const halide_buffer_t& buffer, std::uint32_t& memory) const {
  if (buffer.device == 0) throw Error(ErrorCode::internal, "a buffer without device memory is passed to a kernel");
  const Address address = Address::decode(buffer.device);
  memory = address.memory;
  const bool scratch = memory == scratch_memory;
  const std::uint64_t allocated = scratch                         ? scratch_.bytes()
                                  : memory < memory_bytes_.size() ? memory_bytes_[memory]
                                                                  : 0;
  const std::uint64_t bytes = span_bytes(buffer);
  if (address.offset > allocated || bytes > allocated - address.offset)
    throw Error(ErrorCode::internal, fmt::format("{} bytes from {} on are passed to a kernel, of a memory of {}", bytes,
                                                 address.offset, allocated));
  if (address.offset % device_.alignment != 0)
    throw Error(
        ErrorCode::unsupported,
        fmt::format("a buffer begins {} bytes into its memory, and {} takes buffers at multiples of {} only; the "
                    "value must be copied first",
                    address.offset, device_.name, device_.alignment));
  if (bytes > device_.most_buffer_bytes)
    throw Error(ErrorCode::unsupported, fmt::format("a buffer has {} bytes, and kernels on {} see at most {} of one",
                                                    bytes, device_.name, device_.most_buffer_bytes));
  const std::uint64_t readable = std::max(round_up(bytes, widest_access), widest_access);
  return {nullptr, address.offset, std::min(readable, allocated - address.offset)};
}

void Recorder::check_limits(const Launch& launch) const {
  const std::uint64_t threads = std::uint64_t{launch.threads[0]} * launch.threads[1] * launch.threads[2];
  if (threads > static_cast<std::uint64_t>(device_.block_threads))
    throw Error(ErrorCode::unsupported,
                fmt::format("blocks of {}x{}x{} threads are needed and {} has at most {}", launch.threads[0],
                            launch.threads[1], launch.threads[2], device_.name, device_.block_threads));
  std::uint64_t shared = launch.shared_bytes;
  for (const auto& array : launch.kernel->shared)
    if (array.constant == 0) shared += static_cast<std::uint64_t>(array.elements * array.element_bytes);
  if (shared > static_cast<std::uint64_t>(device_.shared_bytes))
    throw Error(ErrorCode::unsupported, fmt::format("{} bytes of shared memory a block are needed and {} has {}",
                                                    shared, device_.name, device_.shared_bytes));
}

int Recorder::launch(const char* kernel, const char* entry, std::span<const int, 3> blocks,
                     std::span<const int, 3> threads, int shared_bytes, const std::size_t* sizes,
                     void* const* arguments, const std::int8_t* is_buffer) noexcept {
  return guarded([&] {
    const Entries::Entry* found = entries_.find(kernel, entry);
    if (found == nullptr)
      throw Error(ErrorCode::corrupt, fmt::format("kernel '{}' launches '{}', which the package's device code does not "
                                                  "have; compile the package again",
                                                  kernel, entry));
    try {
      Launch launch{.kernel = found->kernel, .code = found->code.get()};
      bool empty = false;
      for (std::size_t d = 0; d < 3; ++d) {
        empty = empty || blocks[d] <= 0 || threads[d] <= 0;
        launch.blocks[d] = static_cast<std::uint32_t>(blocks[d]);
        launch.threads[d] = static_cast<std::uint32_t>(threads[d]);
      }
      if (empty) return 0;  // a loop without iterations, over a tensor without elements
      // The host code counts every array, those of fixed size too.
      std::int64_t sized = shared_bytes;
      for (const auto& array : launch.kernel->shared)
        if (array.constant == 0) sized -= array.elements * array.element_bytes;
      launch.shared_bytes = static_cast<std::uint32_t>(std::max<std::int64_t>(sized, 0));
      check_limits(launch);
      std::vector<std::uint32_t> memories;
      for (std::size_t a = 0; sizes[a] != 0; ++a) {
        Launch::Argument& argument = launch.arguments.emplace_back();
        argument.is_buffer = is_buffer[a] != 0;
        if (argument.is_buffer) {
          argument.buffer = bind(*static_cast<const halide_buffer_t*>(arguments[a]), memories.emplace_back());
          continue;
        }
        if (sizes[a] > argument.scalar.size())
          throw Error(ErrorCode::internal, fmt::format("argument {} is a scalar of {} bytes", a, sizes[a]));
        std::memcpy(argument.scalar.data(), arguments[a], sizes[a]);
        argument.scalar_bytes = static_cast<std::uint32_t>(sizes[a]);
      }
      if (memories.size() != found->kernel->access.size())
        throw Error(
            ErrorCode::corrupt,
            fmt::format("the package says that it has {} buffers and it is launched with {}; compile the package "
                        "again",
                        found->kernel->access.size(), memories.size()));
      launches_.push_back(std::move(launch));
      memories_.insert(memories_.end(), memories.begin(), memories.end());
    } catch (const Error& error) {
      throw error.within(fmt::format("the launch of '{}'", entry));
    }
    return 0;
  });
}

std::vector<Launch> Recorder::placed(std::span<const Place> places) const {
  std::vector<Launch> launches = launches_;
  auto memory = memories_.begin();
  for (Launch& launch : launches)
    for (Launch::Argument& argument : launch.arguments) {
      if (!argument.is_buffer) continue;
      const Place& place = places[*memory++];
      argument.buffer.memory = place.memory;
      argument.buffer.offset += place.offset;
    }
  return launches;
}

}  // namespace heddle::runtime::gpu
