#include "runtime/gpu/workspace.hpp"

namespace heddle::runtime::gpu {

std::vector<std::shared_ptr<Memory>> Workspace::memories(std::span<const std::uint64_t> bytes) {
  std::vector<std::shared_ptr<Memory>> result;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == memories_.size()) memories_.emplace_back();
    if (memories_[i] == nullptr || memories_[i]->bytes() < bytes[i]) {
      memories_[i].reset();  // first, so that both need not fit
      memories_[i] = device_.allocate(bytes[i]);
    }
    result.push_back(memories_[i]);
  }
  return result;
}

std::shared_ptr<Memory> Workspace::staging(std::uint64_t bytes) {
  if (staging_ == nullptr || staging_->bytes() < bytes) {
    staging_.reset();
    staging_ = device_.allocate_staging(bytes);
  }
  return staging_;
}

void Workspace::clear() {
  memories_.clear();
  staging_.reset();
}

}  // namespace heddle::runtime::gpu
