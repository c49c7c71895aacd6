#include "runtime/memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t huge_page = std::size_t{2} << 20;
/// First-level buffers of translations hold 64 pages or more: what takes no more of them gains nothing by huge ones.
constexpr std::size_t always_translated = 64 * page;

constexpr std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

}  // namespace

Pages::Pages(std::size_t bytes) {
  if (bytes == 0) return;
  const bool huge = bytes > always_translated;
  bytes_ = round_up(bytes, huge ? huge_page : page);
  // mmap aligns to small pages only: map more than needed and return what lies around the aligned part.
  const std::size_t mapped = huge ? bytes_ + huge_page : bytes_;
  void* memory =
      bytes_ < bytes ? MAP_FAILED : ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(ErrorCode::out_of_memory, fmt::format("cannot allocate {} bytes: {}", bytes, std::strerror(ENOMEM)));
  auto* start = static_cast<std::byte*>(memory);
  if (huge) {
    const std::size_t before =
        round_up(reinterpret_cast<std::uintptr_t>(start), huge_page) - reinterpret_cast<std::uintptr_t>(start);
    if (before > 0) ::munmap(start, before);
    if (before < huge_page) ::munmap(start + before + bytes_, huge_page - before);
    start += before;
    ::madvise(start, bytes_, MADV_HUGEPAGE);
  }
  data_ = start;
}

Pages::~Pages() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const auto fail = [&](int error) {
    throw Error(error == ENOENT ? ErrorCode::not_found : ErrorCode::io,
                fmt::format("cannot read '{}': {}", path.string(), std::strerror(error)));
  };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(errno);
  struct ::stat status{};
  int error = ::fstat(fd, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : 0;
  if (error == 0 && status.st_size > 0) {
    void* memory = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED) {
      error = errno;
    } else {
      data_ = static_cast<std::byte*>(memory);
      bytes_ = static_cast<std::size_t>(status.st_size);
      // Takes effect where the file system keeps huge pages, and then on what is read from now on: weights in small
      // pages cost BERT a quarter of its speed. Refused elsewhere, which is no error.
      ::madvise(data_, bytes_, MADV_HUGEPAGE);
      // Populated at once: a fault a page while hashing or in the first run costs several times as much. (Kernels
      // before 5.14 refuse; pages come one by one then.)
      ::madvise(data_, bytes_, MADV_POPULATE_READ);
    }
  }
  ::close(fd);
  if (error != 0) fail(error);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

/// Lies right before a block's bytes and takes one alignment unit, so that they stay aligned and readable before.
struct alignas(Scratch::alignment) Scratch::Block {
  Scratch* owner;
  Block* previous;
  std::size_t chunk;  ///< index of the chunk it lies in
  std::size_t start;  ///< offset of the block in its chunk
  std::atomic<bool> released;
};

void* Scratch::allocate(std::size_t bytes, bool poison) noexcept {
  constexpr std::size_t first_chunk = std::size_t{256} << 10;
  constexpr std::size_t readable_behind = 64;
  collect();
  if (bytes > (std::size_t{1} << 46)) return nullptr;
  const std::size_t needed = sizeof(Block) + round_up(bytes + readable_behind, alignment);
  if (chunks_.empty() || chunk_top_ + needed > chunks_.back().size()) {
    const std::size_t grown = chunks_.empty() ? first_chunk : 2 * chunks_.back().size();
    try {
      chunks_.reserve(chunks_.size() + 1);
      chunks_.emplace_back(std::max({needed, grown, last_ == nullptr ? wanted_ : std::size_t{0}}));
    } catch (...) {
      return nullptr;
    }
    chunk_top_ = 0;
  }
  auto* block = new (chunks_.back().data() + chunk_top_)
      Block{.owner = this, .previous = last_, .chunk = chunks_.size() - 1, .start = chunk_top_, .released = false};
  chunk_top_ += needed;
  last_ = block;
  auto* memory = reinterpret_cast<std::byte*>(block) + sizeof(Block);
  if (poison) std::memset(memory, 0xFF, bytes);
  return memory;
}

void Scratch::release(void* memory, const Scratch* current) noexcept {
  auto* block = reinterpret_cast<Block*>(static_cast<std::byte*>(memory) - sizeof(Block));
  Scratch* owner = block->owner;
  block->released.store(true, std::memory_order_release);
  if (owner == current) owner->collect();
}

void Scratch::collect() noexcept {
  while (last_ != nullptr && last_->released.load(std::memory_order_acquire)) {
    // Chunks are filled in order, so only the last one has a top; nothing lies in it if the newest block does not.
    chunk_top_ = last_->chunk + 1 == chunks_.size() ? last_->start : 0;
    last_ = last_->previous;
    // One chunk survives an empty stack, and the next one will be large enough for all that was needed this time.
    if (last_ == nullptr && chunks_.size() > 1) {
      wanted_ = 0;
      for (const Pages& pages : chunks_) wanted_ += pages.size();
      chunks_.clear();
      chunk_top_ = 0;
    }
  }
}

std::size_t Scratch::reserved() const {
  std::size_t total = 0;
  for (const Pages& pages : chunks_) total += pages.size();
  return total;
}

}  // namespace heddle::runtime
