#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace heddle::runtime {

/// Anonymous zeroed memory from mmap: page-aligned, and beyond 256 KiB aligned to and backed by huge pages where the
/// system has them. Kept until destruction: memory that malloc returns to the system costs a page fault a page at every
/// use, which is slower than most kernels.
class Pages {
 public:
  Pages() = default;
  explicit Pages(std::size_t bytes);  ///< throws Error{out_of_memory}
  ~Pages();
  Pages(Pages&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Pages& operator=(Pages&& other) noexcept;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }  ///< rounded up to whole pages

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A file mapped read-only. Empty files have no bytes and no mapping.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);  ///< throws Error{not_found} or Error{io} naming the path
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), bytes_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Scratch memory of one thread: a stack of blocks that keeps its memory between uses. Blocks may be released in any
/// order and by any thread; the memory of a block becomes free when all blocks allocated after it are released too,
/// which is how kernels nest their allocations.
class Scratch {
 public:
  static constexpr std::size_t alignment = 128;

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// At least `bytes` bytes aligned to 128, readable for 64 bytes beyond either end; nullptr when memory runs out.
  /// Only the owning thread may call it. `poison`: filled with 0xFF bytes, which are NaNs.
  void* allocate(std::size_t bytes, bool poison = false) noexcept;

  /// `current`: the calling thread's own Scratch. A block of another thread is marked and collected by its owner later.
  static void release(void* memory, const Scratch* current) noexcept;

  std::size_t reserved() const;  ///< bytes held

 private:
  struct Block;

  void collect() noexcept;

  std::vector<Pages> chunks_;
  std::size_t chunk_top_ = 0;  ///< bytes used of the last chunk
  std::size_t wanted_ = 0;     ///< size of the single chunk that would have held everything so far
  Block* last_ = nullptr;
};

}  // namespace heddle::runtime
