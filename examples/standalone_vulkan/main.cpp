// Runs a model that Heddle compiled with --target vulkan through plain Vulkan: neither Heddle nor Halide is here, only
// the package's files. vulkan/launches.json, which fixed shapes have, says what to do with them; docs/launches.md and
// docs/gpu.md explain it.
//
//   c++ -std=c++20 -O2 main.cpp -lvulkan -o standalone_vulkan      (needs nlohmann's json.hpp)
//   standalone_vulkan PACKAGE in NAME FILE ... [out NAME FILE ...] [expect NAME FILE ...]
//
// FILEs hold a tensor's bytes, row-major. `out` writes one, `expect` compares (f32) and fails if it differs.
#include <vulkan/vulkan.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using Bytes = std::vector<char>;
using Json = nlohmann::json;

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

void check(VkResult result, const char* what) {
  if (result != VK_SUCCESS) throw std::runtime_error(std::string(what) + ": VkResult " + std::to_string(result));
}

// --- The launches, as the file gives them ---

struct Range {
  std::string memory;
  std::uint64_t offset = 0, bytes = 0;
};
struct Tensor {
  std::string dtype;
  Range range;
};
struct Launch {
  std::string entry, file;
  std::array<std::uint32_t, 3> blocks{};
  std::vector<VkSpecializationMapEntry> constant_entries;
  std::vector<std::uint32_t> constants;
  Bytes uniform;               // binding 0, if there is one
  std::vector<Range> buffers;  // the next bindings
};
struct Program {
  std::string weights;                            // the file that fills the memory of this name
  std::map<std::string, std::uint64_t> memories;  // bytes
  std::map<std::string, Tensor> inputs, outputs;
  std::vector<Launch> launches;
};

Bytes from_hexadecimal(const std::string& digits) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  return bytes;
}

Range read_range(const Json& json) { return {json.at("memory"), json.at("offset"), json.at("bytes")}; }

Launch read_launch(const Json& json) {
  Launch launch;
  launch.entry = json.at("entry");
  launch.file = json.at("file");
  launch.blocks = json.at("blocks");
  // The threads of a block are in the code, or among these.
  const Json constants = json.value("specialisation", Json::object());
  for (const auto& [id, value] : constants.items()) {
    launch.constant_entries.push_back(
        {static_cast<std::uint32_t>(std::stoul(id)), static_cast<std::uint32_t>(4 * launch.constants.size()), 4});
    launch.constants.push_back(value);
  }
  // Scalars come with the largest first, so they follow one another without gaps.
  for (const Json& argument : json.at("arguments")) {
    if (!argument.contains("scalar")) {
      launch.buffers.push_back(read_range(argument));
      continue;
    }
    const Bytes scalar = from_hexadecimal(argument["scalar"]);
    launch.uniform.insert(launch.uniform.end(), scalar.begin(), scalar.end());
  }
  if (json.at("uniform_block").get<bool>() == launch.uniform.empty())
    throw std::runtime_error("entry " + launch.entry + " has a uniform block without scalars, or scalars without one");
  return launch;
}

Program read_program(const std::string& package) {
  const Bytes text = read_file(package + "/vulkan/launches.json");
  const Json json = Json::parse(text);
  if (json.at("format") != "heddle-launches" || json.at("version") != 1 || json.at("device") != "vulkan")
    throw std::runtime_error("vulkan/launches.json is of another version, or for another device");
  Program program;
  program.weights = json.at("weights");
  for (const auto& [name, bytes] : json.at("memories").items()) program.memories[name] = bytes;
  const auto read_tensors = [&](const char* list, std::map<std::string, Tensor>& tensors) {
    for (const Json& tensor : json.at(list)) {
      const Range range = read_range(tensor);
      tensors[tensor.at("name")] = {tensor.at("dtype"), range};
      // Inputs and outputs have memories of their own, where they are not the arena's or constants.
      std::uint64_t& bytes = program.memories[range.memory];
      bytes = std::max(bytes, range.offset + range.bytes);
    }
  };
  read_tensors("inputs", program.inputs);
  read_tensors("outputs", program.outputs);
  for (const Json& step : json.at("steps"))
    for (const Json& launch : step.at("launches")) program.launches.push_back(read_launch(launch));
  return program;
}

// --- Vulkan ---

class Gpu {
 public:
  Gpu() {
    VkApplicationInfo application{VK_STRUCTURE_TYPE_APPLICATION_INFO};
    application.apiVersion = VK_API_VERSION_1_3;
    VkInstanceCreateInfo create{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
    create.pApplicationInfo = &application;
    check(vkCreateInstance(&create, nullptr, &instance_), "vkCreateInstance");
    std::uint32_t count = 1;
    vkEnumeratePhysicalDevices(instance_, &count, &physical_);
    if (count == 0) throw std::runtime_error("there is no Vulkan device");
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical_, &properties);
    std::printf("on %s\n", properties.deviceName);
    make_device();
    vkGetDeviceQueue(device, family_, 0, &queue_);
    VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    pool.queueFamilyIndex = family_;
    check(vkCreateCommandPool(device, &pool, nullptr, &pool_), "vkCreateCommandPool");
  }

  ~Gpu() {
    vkDestroyCommandPool(device, pool_, nullptr);
    vkDestroyDevice(device, nullptr);
    vkDestroyInstance(instance_, nullptr);
  }
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  VkDevice device = nullptr;

  struct Buffer {
    VkBuffer buffer = nullptr;
    VkDeviceMemory memory = nullptr;
    char* host = nullptr;
  };

  /// Memory that both sides see: simple, and on a discrete GPU slow. A real program would keep its memories on the
  /// device and copy inputs and outputs.
  Buffer make_buffer(std::uint64_t bytes, VkBufferUsageFlags usage) const {
    Buffer made;
    VkBufferCreateInfo create{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
    create.size = std::max<std::uint64_t>(bytes, 16);
    create.usage = usage;
    check(vkCreateBuffer(device, &create, nullptr, &made.buffer), "vkCreateBuffer");
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(device, made.buffer, &needs);
    VkPhysicalDeviceMemoryProperties types;
    vkGetPhysicalDeviceMemoryProperties(physical_, &types);
    constexpr VkMemoryPropertyFlags seen = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkMemoryAllocateInfo allocate{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
    allocate.allocationSize = needs.size;
    while ((needs.memoryTypeBits >> allocate.memoryTypeIndex & 1) == 0 ||
           (types.memoryTypes[allocate.memoryTypeIndex].propertyFlags & seen) != seen)
      if (++allocate.memoryTypeIndex == types.memoryTypeCount)
        throw std::runtime_error("no memory that both sides see");
    check(vkAllocateMemory(device, &allocate, nullptr, &made.memory), "vkAllocateMemory");
    check(vkBindBufferMemory(device, made.buffer, made.memory, 0), "vkBindBufferMemory");
    void* host = nullptr;
    check(vkMapMemory(device, made.memory, 0, VK_WHOLE_SIZE, 0, &host), "vkMapMemory");
    made.host = static_cast<char*>(host);
    return made;
  }
  void destroy(const Buffer& buffer) const {
    vkDestroyBuffer(device, buffer.buffer, nullptr);
    vkFreeMemory(device, buffer.memory, nullptr);
  }

  VkCommandBuffer begin() const {
    VkCommandBufferAllocateInfo allocate{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
    allocate.commandPool = pool_;
    allocate.commandBufferCount = 1;
    VkCommandBuffer commands = nullptr;
    check(vkAllocateCommandBuffers(device, &allocate, &commands), "vkAllocateCommandBuffers");
    const VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    check(vkBeginCommandBuffer(commands, &info), "vkBeginCommandBuffer");
    return commands;
  }
  void run(VkCommandBuffer commands) const {
    check(vkEndCommandBuffer(commands), "vkEndCommandBuffer");
    VkSubmitInfo submit{VK_STRUCTURE_TYPE_SUBMIT_INFO};
    submit.commandBufferCount = 1;
    submit.pCommandBuffers = &commands;
    check(vkQueueSubmit(queue_, 1, &submit, nullptr), "vkQueueSubmit");
    check(vkQueueWaitIdle(queue_), "vkQueueWaitIdle");
  }

 private:
  VkInstance instance_ = nullptr;
  VkPhysicalDevice physical_ = nullptr;
  VkQueue queue_ = nullptr;
  VkCommandPool pool_ = nullptr;
  std::uint32_t family_ = 0;

  /// With every feature that it has: kernels say in their capabilities which they need.
  void make_device() {
    VkPhysicalDeviceVulkan13Features f13{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
    VkPhysicalDeviceVulkan12Features f12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, &f13};
    VkPhysicalDeviceVulkan11Features f11{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, &f12};
    VkPhysicalDeviceFeatures2 features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &f11};
    vkGetPhysicalDeviceFeatures2(physical_, &features);
    features.features.robustBufferAccess = VK_FALSE;  // costs time, and kernels stay within their buffers
    std::uint32_t count = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(physical_, &count, nullptr);
    std::vector<VkQueueFamilyProperties> families(count);
    vkGetPhysicalDeviceQueueFamilyProperties(physical_, &count, families.data());
    while (family_ < count && (families[family_].queueFlags & VK_QUEUE_COMPUTE_BIT) == 0) ++family_;
    if (family_ == count) throw std::runtime_error("the device does not compute");
    const float priority = 1;
    VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
    queue.queueFamilyIndex = family_;
    queue.queueCount = 1;
    queue.pQueuePriorities = &priority;
    VkDeviceCreateInfo create{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &features};
    create.queueCreateInfoCount = 1;
    create.pQueueCreateInfos = &queue;
    check(vkCreateDevice(physical_, &create, nullptr, &device), "vkCreateDevice");
  }
};

using Memories = std::map<std::string, Gpu::Buffer>;

/// One launch's shader, pipeline and descriptors. They live as long as the program runs.
class Kernel {
 public:
  Kernel(const Gpu& gpu, const std::string& package, const Launch& launch, const Memories& memories)
      : gpu_(gpu), launch_(launch) {
    const Bytes code = read_file(package + "/" + launch.file);
    VkShaderModuleCreateInfo shader{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
    std::vector<std::uint32_t> words(code.size() / 4);
    std::memcpy(words.data(), code.data(), 4 * words.size());
    shader.codeSize = 4 * words.size();
    shader.pCode = words.data();
    check(vkCreateShaderModule(gpu.device, &shader, nullptr, &shader_), "vkCreateShaderModule");

    std::vector<VkDescriptorSetLayoutBinding> bindings;
    if (!launch.uniform.empty())
      bindings.push_back({0, VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr});
    for (std::size_t i = 0; i < launch.buffers.size(); ++i)
      bindings.push_back({static_cast<std::uint32_t>(bindings.size()), VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
                          VK_SHADER_STAGE_COMPUTE_BIT, nullptr});
    VkDescriptorSetLayoutCreateInfo set{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO};
    set.bindingCount = static_cast<std::uint32_t>(bindings.size());
    set.pBindings = bindings.data();
    check(vkCreateDescriptorSetLayout(gpu.device, &set, nullptr, &set_layout_), "vkCreateDescriptorSetLayout");
    VkPipelineLayoutCreateInfo layout{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
    layout.setLayoutCount = 1;
    layout.pSetLayouts = &set_layout_;
    check(vkCreatePipelineLayout(gpu.device, &layout, nullptr, &layout_), "vkCreatePipelineLayout");

    const VkSpecializationInfo constants{static_cast<std::uint32_t>(launch.constants.size()),
                                         launch.constant_entries.data(), 4 * launch.constants.size(),
                                         launch.constants.data()};
    VkComputePipelineCreateInfo pipeline{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
    pipeline.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
    pipeline.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
    pipeline.stage.module = shader_;
    pipeline.stage.pName = launch.entry.c_str();
    pipeline.stage.pSpecializationInfo = launch.constants.empty() ? nullptr : &constants;
    pipeline.layout = layout_;
    check(vkCreateComputePipelines(gpu.device, nullptr, 1, &pipeline, nullptr, &pipeline_), "vkCreateComputePipelines");
    describe(bindings, memories);
  }

  ~Kernel() {
    vkDestroyDescriptorPool(gpu_.device, pool_, nullptr);
    vkDestroyPipeline(gpu_.device, pipeline_, nullptr);
    vkDestroyPipelineLayout(gpu_.device, layout_, nullptr);
    vkDestroyDescriptorSetLayout(gpu_.device, set_layout_, nullptr);
    vkDestroyShaderModule(gpu_.device, shader_, nullptr);
    if (uniform_.buffer != nullptr) gpu_.destroy(uniform_);
  }
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  void record(VkCommandBuffer commands) const {
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline_);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout_, 0, 1, &set_, 0, nullptr);
    vkCmdDispatch(commands, launch_.blocks[0], launch_.blocks[1], launch_.blocks[2]);
  }

 private:
  void describe(const std::vector<VkDescriptorSetLayoutBinding>& bindings, const Memories& memories) {
    std::vector<VkDescriptorPoolSize> sizes;
    for (const auto& binding : bindings) sizes.push_back({binding.descriptorType, 1});
    VkDescriptorPoolCreateInfo pool{VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO};
    pool.maxSets = 1;
    pool.poolSizeCount = static_cast<std::uint32_t>(sizes.size());
    pool.pPoolSizes = sizes.data();
    check(vkCreateDescriptorPool(gpu_.device, &pool, nullptr, &pool_), "vkCreateDescriptorPool");
    VkDescriptorSetAllocateInfo allocate{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO};
    allocate.descriptorPool = pool_;
    allocate.descriptorSetCount = 1;
    allocate.pSetLayouts = &set_layout_;
    check(vkAllocateDescriptorSets(gpu_.device, &allocate, &set_), "vkAllocateDescriptorSets");

    const auto write = [&](std::uint32_t binding, VkDescriptorType type, const VkDescriptorBufferInfo& buffer) {
      VkWriteDescriptorSet w{VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET};
      w.dstSet = set_;
      w.dstBinding = binding;
      w.descriptorCount = 1;
      w.descriptorType = type;
      w.pBufferInfo = &buffer;
      vkUpdateDescriptorSets(gpu_.device, 1, &w, 0, nullptr);
    };
    if (!launch_.uniform.empty()) {
      // A block ends at a multiple of 16 bytes.
      const std::uint64_t bytes = (launch_.uniform.size() + 15) / 16 * 16;
      uniform_ = gpu_.make_buffer(bytes, VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT);
      std::memcpy(uniform_.host, launch_.uniform.data(), launch_.uniform.size());
      write(0, VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, {uniform_.buffer, 0, bytes});
    }
    std::uint32_t binding = launch_.uniform.empty() ? 0 : 1;
    for (const Range& range : launch_.buffers)
      write(binding++, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            {memories.at(range.memory).buffer, range.offset, range.bytes});
  }

  const Gpu& gpu_;
  const Launch& launch_;
  VkShaderModule shader_ = nullptr;
  VkDescriptorSetLayout set_layout_ = nullptr;
  VkPipelineLayout layout_ = nullptr;
  VkPipeline pipeline_ = nullptr;
  VkDescriptorPool pool_ = nullptr;
  VkDescriptorSet set_ = nullptr;
  Gpu::Buffer uniform_;
};

/// Every launch after all that came before. A program in a hurry would order only those of which one writes what the
/// other touches: manifest.json says of each entry which buffers it writes.
void wait_for_writes(VkCommandBuffer commands, VkPipelineStageFlags by, VkAccessFlags accesses) {
  VkMemoryBarrier barrier{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT;
  barrier.dstAccessMask = accesses;
  vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, by, 0, 1, &barrier, 0, nullptr, 0, nullptr);
}

const Tensor& find(const std::map<std::string, Tensor>& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw std::runtime_error("the model has no tensor '" + name + "' there");
  return found->second;
}

bool equals(const std::string& name, const char* got, const Bytes& want) {
  float worst = 0, largest = 0;
  for (std::size_t i = 0; i + 4 <= want.size(); i += 4) {
    float a = 0, b = 0;
    std::memcpy(&a, got + i, 4);
    std::memcpy(&b, want.data() + i, 4);
    const float difference = std::abs(a - b);
    worst = difference <= worst ? worst : difference;  // a NaN is worse than anything
    largest = std::max(largest, std::abs(b));
  }
  std::printf("%s: differs by %g at most, of %g\n", name.c_str(), worst, largest);
  return worst <= 1e-4F * std::max(largest, 1.0F);
}

bool run(const std::string& package, const Program& program, const std::vector<std::string>& words) {
  const Gpu gpu;
  const Bytes weights = read_file(package + "/" + program.weights);
  Memories memories;
  for (const auto& [name, bytes] : program.memories)
    memories[name] = gpu.make_buffer(bytes, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT);
  memories["weights"] = gpu.make_buffer(weights.size(), VK_BUFFER_USAGE_STORAGE_BUFFER_BIT);
  std::memcpy(memories["weights"].host, weights.data(), weights.size());
  for (std::size_t i = 0; i + 2 < words.size(); i += 3) {
    if (words[i] != "in") continue;
    const Tensor& tensor = find(program.inputs, words[i + 1]);
    const Bytes data = read_file(words[i + 2]);
    if (data.size() != tensor.range.bytes) throw std::runtime_error(words[i + 2] + " is not of the input's size");
    std::memcpy(memories.at(tensor.range.memory).host + tensor.range.offset, data.data(), data.size());
  }

  bool good = true;
  {
    std::vector<std::unique_ptr<Kernel>> kernels;
    const VkCommandBuffer commands = gpu.begin();
    for (const Launch& launch : program.launches) {
      kernels.push_back(std::make_unique<Kernel>(gpu, package, launch, memories));
      if (kernels.size() > 1)
        wait_for_writes(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                        VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
      kernels.back()->record(commands);
    }
    wait_for_writes(commands, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    gpu.run(commands);
    std::printf("%zu launches\n", kernels.size());
  }

  for (std::size_t i = 0; i + 2 < words.size(); i += 3) {
    if (words[i] == "in") continue;
    const Tensor& tensor = find(program.outputs, words[i + 1]);
    const char* data = memories.at(tensor.range.memory).host + tensor.range.offset;
    if (words[i] == "out") {
      std::ofstream file(words[i + 2], std::ios::binary);
      if (!file.write(data, static_cast<std::streamsize>(tensor.range.bytes)))
        throw std::runtime_error("cannot write " + words[i + 2]);
      continue;
    }
    const Bytes want = read_file(words[i + 2]);
    if (want.size() != tensor.range.bytes || tensor.dtype != "f32")
      throw std::runtime_error(words[i + 2] + " cannot be compared with a tensor of " + tensor.dtype);
    good = equals(words[i + 1], data, want) && good;
  }
  for (const auto& [name, memory] : memories) gpu.destroy(memory);
  return good;
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  if (words.size() % 3 != 1) {
    std::fprintf(stderr, "usage: %s PACKAGE {in|out|expect NAME FILE}...\n", arguments[0]);
    return 2;
  }
  try {
    return run(words[0], read_program(words[0]), {words.begin() + 1, words.end()}) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
