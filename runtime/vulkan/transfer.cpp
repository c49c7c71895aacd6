#include "runtime/vulkan/transfer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/vulkan/program.hpp"

namespace heddle::runtime::gpu::vulkan {
namespace {

// Two pieces are under way at a time: the host copies one while the device copies the other.
constexpr std::uint64_t piece_bytes = 8 << 20;

void must_fit(const VulkanMemory& memory, std::uint64_t offset, std::uint64_t bytes) {
  memory.context().must_live();
  if (offset > memory.bytes() || bytes > memory.bytes() - offset)
    throw Error(ErrorCode::internal,
                fmt::format("bytes {} to {} of a memory of {} are asked for", offset, offset + bytes, memory.bytes()));
}

/// A piece of staging memory with the commands that copy it.
struct Piece {
  std::unique_ptr<VulkanMemory> staging;
  std::unique_ptr<VulkanProgram> program;
  std::uint64_t at = 0, bytes = 0;
};

}  // namespace

void write(VulkanMemory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) {
  must_fit(to, offset, bytes);
  if (bytes == 0) return;
  if (to.host() != nullptr) {
    std::memcpy(to.host() + offset, from, bytes);
    return;
  }
  std::array<Piece, 2> pieces;
  for (std::uint64_t at = 0, i = 0; at < bytes; at += piece_bytes, ++i) {
    Piece& piece = pieces[i % 2];
    if (piece.program) piece.program->wait();
    piece.bytes = std::min(piece_bytes, bytes - at);
    if (!piece.staging) piece.staging = std::make_unique<VulkanMemory>(to.shared_context(), piece.bytes, Use::staging);
    std::memcpy(piece.staging->host(), static_cast<const std::byte*>(from) + at, piece.bytes);
    const Copy copy{{piece.staging.get(), 0, piece.bytes}, {&to, offset + at, piece.bytes}};
    piece.program = std::make_unique<VulkanProgram>(to.shared_context(), Commands{.uploads = {copy}});
    piece.program->submit();
  }
  for (Piece& piece : pieces)
    if (piece.program) piece.program->wait();
}

void read(const VulkanMemory& from, std::uint64_t offset, void* to, std::uint64_t bytes) {
  must_fit(from, offset, bytes);
  if (bytes == 0) return;
  if (from.host() != nullptr) {
    std::memcpy(to, from.host() + offset, bytes);
    return;
  }
  std::array<Piece, 2> pieces;
  const auto finish = [&](Piece& piece) {
    if (!piece.program) return;
    piece.program->wait();
    std::memcpy(static_cast<std::byte*>(to) + piece.at, piece.staging->host(), piece.bytes);
  };
  // A copy only reads its source, but commands name memory that they might write.
  auto* source = const_cast<VulkanMemory*>(&from);
  std::uint64_t i = 0;
  for (std::uint64_t at = 0; at < bytes; at += piece_bytes, ++i) {
    Piece& piece = pieces[i % 2];
    finish(piece);
    piece.at = at;
    piece.bytes = std::min(piece_bytes, bytes - at);
    if (!piece.staging)
      piece.staging = std::make_unique<VulkanMemory>(from.shared_context(), piece.bytes, Use::staging);
    const Copy copy{{source, offset + at, piece.bytes}, {piece.staging.get(), 0, piece.bytes}};
    piece.program = std::make_unique<VulkanProgram>(from.shared_context(), Commands{.downloads = {copy}});
    piece.program->submit();
  }
  for (Piece& piece : pieces) finish(piece);
}

}  // namespace heddle::runtime::gpu::vulkan
