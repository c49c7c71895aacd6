#include "runtime/vulkan/recording.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/vulkan/transfer.hpp"

namespace heddle::runtime::gpu::vulkan {
namespace {

constexpr VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
constexpr VkPipelineStageFlags transfer = VK_PIPELINE_STAGE_TRANSFER_BIT;
constexpr VkPipelineStageFlags host = VK_PIPELINE_STAGE_HOST_BIT;

VkAccessFlags writes_of(VkPipelineStageFlags stages) {
  return ((stages & compute) != 0 ? VK_ACCESS_SHADER_WRITE_BIT : 0) |
         ((stages & transfer) != 0 ? VK_ACCESS_TRANSFER_WRITE_BIT : 0);
}

VkAccessFlags accesses_of(VkPipelineStageFlags stages) {
  return writes_of(stages) | ((stages & compute) != 0 ? VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_UNIFORM_READ_BIT : 0) |
         ((stages & transfer) != 0 ? VK_ACCESS_TRANSFER_READ_BIT : 0) |
         ((stages & host) != 0 ? VK_ACCESS_HOST_READ_BIT : 0);
}

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

VulkanMemory& memory_of(const Binding& binding) {
  auto* memory = dynamic_cast<VulkanMemory*>(binding.memory);
  if (memory == nullptr) throw Error(ErrorCode::internal, "a command's memory is not of a Vulkan device");
  if (binding.offset > memory->bytes() || binding.bytes > memory->bytes() - binding.offset)
    throw Error(ErrorCode::internal, fmt::format("bytes {} to {} of a memory of {} are asked for", binding.offset,
                                                 binding.offset + binding.bytes, memory->bytes()));
  return *memory;
}

Hazards::Access access_of(const Binding& binding, bool writes) {
  return {binding.memory, binding.offset, binding.offset + binding.bytes, writes};
}

[[noreturn]] void mismatch(const VulkanCode& code, const std::string& what) {
  throw Error(ErrorCode::corrupt,
              fmt::format("kernel '{}' is launched with {}; compile the package again", code.kernel().entry, what));
}

}  // namespace

Recording::Recording(VulkanProgram& program, const Commands& commands)
    : program_(program), context_(*program.context_), input_(commands) {}

void Recording::run() {
  for (const Launch& launch : input_.launches) prepare(launch);
  write_scalars();
  make_sets();
  if (input_.timestamps) make_timestamps();

  const VolkDeviceTable& call = context_.call();
  const VkCommandBufferBeginInfo begin{.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  context_.check(call.vkBeginCommandBuffer(program_.commands_, &begin), "record commands");
  if (program_.timestamps_ != VK_NULL_HANDLE)
    call.vkCmdResetQueryPool(program_.commands_, program_.timestamps_, 0, 2 * program_.timed_launches_);

  // Programs run one after the other, this one after itself. What the host wrote is seen by what is submitted later.
  barrier(compute | transfer, compute | transfer);
  copy_all(input_.uploads);
  if (!input_.uploads.empty()) barrier(transfer, compute);
  launch_all();
  if (!input_.downloads.empty()) barrier(compute | transfer, transfer);
  copy_all(input_.downloads);
  barrier(compute | transfer, host);
  context_.check(call.vkEndCommandBuffer(program_.commands_), "record commands");

  std::vector<PipelineCache*> caches;
  for (const Prepared& prepared : launches_)
    if (std::ranges::find(caches, &prepared.code->cache()) == caches.end()) caches.push_back(&prepared.code->cache());
  for (PipelineCache* cache : caches) cache->save();
}

void Recording::prepare(const Launch& launch) {
  auto* code = dynamic_cast<VulkanCode*>(launch.code);
  if (code == nullptr) throw Error(ErrorCode::internal, "a launch's code is not of a Vulkan device");
  Prepared prepared{.launch = &launch, .code = code};
  if (std::ranges::find(launch.blocks, 0U) != launch.blocks.end()) {  // nothing to do
    launches_.push_back(std::move(prepared));
    return;
  }
  prepared.pipeline = code->pipeline(launch);

  Set set{.layout = &code->layout()};
  set.scalars = place_scalars(launch, *code, set.scalar_bytes);
  const DeviceInfo& info = context_.physical().info;
  for (const Launch::Argument& argument : launch.arguments) {
    if (!argument.is_buffer) continue;
    const Binding& binding = argument.buffer;
    const std::size_t index = set.buffers.size();
    if (index >= code->kernel().access.size()) mismatch(*code, "more buffers than its manifest lists");
    const VulkanMemory& memory = memory_of(binding);
    if (binding.offset % info.alignment != 0)
      throw Error(ErrorCode::internal, fmt::format("buffer {} of kernel '{}' begins at byte {}, no multiple of {}",
                                                   index, code->kernel().entry, binding.offset, info.alignment));
    if (binding.bytes > info.most_buffer_bytes)
      throw Error(ErrorCode::unsupported,
                  fmt::format("buffer {} of kernel '{}' has {} bytes; kernels on '{}' see at most {}; use a smaller "
                              "batch or model, or another device",
                              index, code->kernel().entry, binding.bytes, info.name, info.most_buffer_bytes));
    // A kernel may read the last vector whole.
    const std::uint64_t range =
        std::min(std::max(round_up(binding.bytes, 16), std::uint64_t{16}), memory.buffer_bytes() - binding.offset);
    set.buffers.push_back({.buffer = memory.buffer(), .offset = binding.offset, .range = range});
    prepared.accesses.push_back(access_of(binding, code->kernel().access[index] != 'r'));
  }
  if (set.buffers.size() != code->kernel().access.size()) mismatch(*code, "fewer buffers than its manifest lists");

  std::vector<std::uint64_t> key = {reinterpret_cast<std::uintptr_t>(set.layout->set), set.scalars, set.scalar_bytes};
  for (std::size_t i = 0; i < set.buffers.size(); ++i)
    key.insert(key.end(), {reinterpret_cast<std::uintptr_t>(prepared.accesses[i].memory), set.buffers[i].offset,
                           set.buffers[i].range});
  const auto [known, is_new] = known_sets_.try_emplace(std::move(key), sets_.size());
  prepared.set = known->second;
  if (is_new) sets_.push_back(std::move(set));
  launches_.push_back(std::move(prepared));
}

std::uint64_t Recording::place_scalars(const Launch& launch, const VulkanCode& code, std::uint64_t& bytes) {
  std::vector<std::byte> block;
  std::size_t count = 0;
  for (const Launch::Argument& argument : launch.arguments) {
    if (argument.is_buffer) continue;
    if (!code.kernel().uniform_block || count >= code.scalars().size())
      mismatch(code, "more scalars than its uniform block has");
    const SpirvModule::Scalar& member = code.scalars()[count++];
    if (member.bytes != argument.scalar_bytes)
      mismatch(code, fmt::format("{} bytes for a scalar of {}", argument.scalar_bytes, member.bytes));
    block.resize(std::max<std::size_t>(block.size(), member.offset + member.bytes));
    std::memcpy(block.data() + member.offset, argument.scalar.data(), member.bytes);
  }
  if (!code.kernel().uniform_block) return 0;
  if (count != code.scalars().size()) mismatch(code, "fewer scalars than its uniform block has");
  block.resize(round_up(block.size(), 16));
  if (block.size() > context_.physical().properties.limits.maxUniformBufferRange)
    mismatch(code, "more scalars than a uniform block may have");
  bytes = block.size();
  const std::uint64_t at =
      round_up(scalars_.size(), context_.physical().properties.limits.minUniformBufferOffsetAlignment);
  const auto [known, is_new] = known_scalars_.try_emplace(block, at);
  if (is_new) {
    scalars_.resize(at);
    scalars_.insert(scalars_.end(), block.begin(), block.end());
  }
  return known->second;
}

void Recording::write_scalars() {
  if (scalars_.empty()) return;
  program_.scalars_ = std::make_unique<VulkanMemory>(program_.context_, scalars_.size(), Use::kernels);
  write(*program_.scalars_, 0, scalars_.data(), scalars_.size());
}

void Recording::make_sets() {
  if (sets_.empty()) return;
  const VolkDeviceTable& call = context_.call();
  std::uint32_t uniform_blocks = 0, buffers = 0;
  for (const Set& set : sets_) {
    uniform_blocks += set.layout->uniform_block ? 1 : 0;
    buffers += set.layout->buffers;
  }
  std::vector<VkDescriptorPoolSize> sizes;
  if (uniform_blocks > 0) sizes.push_back({VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, uniform_blocks});
  if (buffers > 0) sizes.push_back({VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, buffers});
  const VkDescriptorPoolCreateInfo pool{.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                        .maxSets = static_cast<std::uint32_t>(sets_.size()),
                                        .poolSizeCount = static_cast<std::uint32_t>(sizes.size()),
                                        .pPoolSizes = sizes.data()};
  context_.check(call.vkCreateDescriptorPool(context_.device(), &pool, nullptr, &program_.descriptors_),
                 "make descriptors");
  std::vector<VkDescriptorSetLayout> layouts;
  for (const Set& set : sets_) layouts.push_back(set.layout->set);
  std::vector<VkDescriptorSet> handles(sets_.size());
  const VkDescriptorSetAllocateInfo allocation{.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                               .descriptorPool = program_.descriptors_,
                                               .descriptorSetCount = static_cast<std::uint32_t>(layouts.size()),
                                               .pSetLayouts = layouts.data()};
  context_.check(call.vkAllocateDescriptorSets(context_.device(), &allocation, handles.data()), "make descriptors");

  for (std::size_t i = 0; i < sets_.size(); ++i) {
    Set& set = sets_[i];
    set.handle = handles[i];
    std::vector<VkWriteDescriptorSet> writes;
    VkWriteDescriptorSet write{
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = set.handle, .dstBinding = 0, .descriptorCount = 1};
    VkDescriptorBufferInfo block{};
    if (set.layout->uniform_block) {
      block = {.buffer = program_.scalars_->buffer(), .offset = set.scalars, .range = set.scalar_bytes};
      write.descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER;
      write.pBufferInfo = &block;
      writes.push_back(write);
      ++write.dstBinding;
    }
    write.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    for (const VkDescriptorBufferInfo& buffer : set.buffers) {
      write.pBufferInfo = &buffer;
      writes.push_back(write);
      ++write.dstBinding;
    }
    call.vkUpdateDescriptorSets(context_.device(), static_cast<std::uint32_t>(writes.size()), writes.data(), 0,
                                nullptr);
  }
}

void Recording::make_timestamps() {
  if (context_.physical().timestamp_bits == 0 || launches_.empty()) return;
  program_.timed_launches_ = static_cast<std::uint32_t>(launches_.size());
  const VkQueryPoolCreateInfo info{.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                   .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                   .queryCount = 2 * program_.timed_launches_};
  context_.check(context_.call().vkCreateQueryPool(context_.device(), &info, nullptr, &program_.timestamps_),
                 "make timestamps");
}

void Recording::copy_all(std::span<const Copy> copies) {
  Hazards hazards;
  std::vector<VkBufferCopy> regions;
  VkBuffer from = VK_NULL_HANDLE, to = VK_NULL_HANDLE;
  const auto flush = [&] {
    if (!regions.empty())
      context_.call().vkCmdCopyBuffer(program_.commands_, from, to, static_cast<std::uint32_t>(regions.size()),
                                      regions.data());
    regions.clear();
  };
  for (const Copy& copy : copies) {
    const VulkanMemory& source = memory_of(copy.from);
    const VulkanMemory& target = memory_of(copy.to);
    if (copy.from.bytes != copy.to.bytes)
      throw Error(ErrorCode::internal, fmt::format("a copy of {} bytes to {} bytes", copy.from.bytes, copy.to.bytes));
    if (copy.from.bytes == 0) continue;
    const bool ordered = hazards.add(std::array{access_of(copy.from, false), access_of(copy.to, true)});
    if (ordered || source.buffer() != from || target.buffer() != to) flush();
    if (ordered) {
      barrier(transfer, transfer);
      ++program_.barriers_;
    }
    from = source.buffer();
    to = target.buffer();
    regions.push_back({.srcOffset = copy.from.offset, .dstOffset = copy.to.offset, .size = copy.from.bytes});
  }
  flush();
}

void Recording::launch_all() {
  const VolkDeviceTable& call = context_.call();
  const VkCommandBuffer commands = program_.commands_;
  Hazards hazards;
  VkPipeline pipeline = VK_NULL_HANDLE;
  VkDescriptorSet set = VK_NULL_HANDLE;
  const auto timestamp = [&](VkPipelineStageFlagBits stage, std::size_t query) {
    if (program_.timestamps_ != VK_NULL_HANDLE)
      call.vkCmdWriteTimestamp(commands, stage, program_.timestamps_, static_cast<std::uint32_t>(query));
  };
  for (std::size_t i = 0; i < launches_.size(); ++i) {
    const Prepared& prepared = launches_[i];
    if (prepared.pipeline != VK_NULL_HANDLE && hazards.add(prepared.accesses)) {
      barrier(compute, compute);
      ++program_.barriers_;
    }
    timestamp(VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, 2 * i);
    if (prepared.pipeline != VK_NULL_HANDLE) {
      if (prepared.pipeline != pipeline)
        call.vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, prepared.pipeline);
      pipeline = prepared.pipeline;
      // Sets stay bound when the pipeline changes, as long as the layouts are the same; a set has one layout.
      const Set& bound = sets_[prepared.set];
      if (bound.handle != set)
        call.vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, bound.layout->pipeline, 0, 1,
                                     &bound.handle, 0, nullptr);
      set = bound.handle;
      const auto& blocks = prepared.launch->blocks;
      call.vkCmdDispatch(commands, blocks[0], blocks[1], blocks[2]);
    }
    timestamp(VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 2 * i + 1);
  }
}

void Recording::barrier(VkPipelineStageFlags from, VkPipelineStageFlags to) const {
  const VkMemoryBarrier memory{
      .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = writes_of(from), .dstAccessMask = accesses_of(to)};
  context_.call().vkCmdPipelineBarrier(program_.commands_, from, to, 0, 1, &memory, 0, nullptr, 0, nullptr);
}

}  // namespace heddle::runtime::gpu::vulkan
