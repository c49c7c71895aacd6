#include "runtime/vulkan/instance.hpp"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/vulkan/vulkan.hpp"

namespace heddle::runtime::gpu {
namespace {

std::atomic<std::uint64_t> messages = 0;

}  // namespace

std::uint64_t validation_messages() { return messages; }

namespace vulkan {
namespace {

constexpr const char* validation_layer = "VK_LAYER_KHRONOS_validation";

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT* data, void*) {
  ++messages;
  fmt::print(stderr, "Vulkan validation: {}\n", data->pMessage);
  return VK_FALSE;
}

std::string name_of(VkResult result) {
  switch (result) {
    case VK_NOT_READY: return "VK_NOT_READY";
    case VK_TIMEOUT: return "VK_TIMEOUT";
    case VK_INCOMPLETE: return "VK_INCOMPLETE";
    case VK_ERROR_OUT_OF_HOST_MEMORY: return "VK_ERROR_OUT_OF_HOST_MEMORY";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "VK_ERROR_OUT_OF_DEVICE_MEMORY";
    case VK_ERROR_INITIALIZATION_FAILED: return "VK_ERROR_INITIALIZATION_FAILED";
    case VK_ERROR_DEVICE_LOST: return "VK_ERROR_DEVICE_LOST";
    case VK_ERROR_MEMORY_MAP_FAILED: return "VK_ERROR_MEMORY_MAP_FAILED";
    case VK_ERROR_LAYER_NOT_PRESENT: return "VK_ERROR_LAYER_NOT_PRESENT";
    case VK_ERROR_EXTENSION_NOT_PRESENT: return "VK_ERROR_EXTENSION_NOT_PRESENT";
    case VK_ERROR_FEATURE_NOT_PRESENT: return "VK_ERROR_FEATURE_NOT_PRESENT";
    case VK_ERROR_INCOMPATIBLE_DRIVER: return "VK_ERROR_INCOMPATIBLE_DRIVER";
    case VK_ERROR_TOO_MANY_OBJECTS: return "VK_ERROR_TOO_MANY_OBJECTS";
    case VK_ERROR_FRAGMENTED_POOL: return "VK_ERROR_FRAGMENTED_POOL";
    case VK_ERROR_OUT_OF_POOL_MEMORY: return "VK_ERROR_OUT_OF_POOL_MEMORY";
    case VK_ERROR_INVALID_SHADER_NV: return "VK_ERROR_INVALID_SHADER_NV";
    default: return fmt::format("VkResult {}", static_cast<int>(result));
  }
}

bool wants_validation() {
  const char* value = std::getenv("HEDDLE_VULKAN_VALIDATION");
  return value != nullptr && *value != '\0' && std::strcmp(value, "0") != 0;
}

void load() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (volkGetInstanceVersion() == 0 && volkInitialize() != VK_SUCCESS)
    throw Error(ErrorCode::not_found,
                "the Vulkan loader (libvulkan.so.1) is not installed; install your system's package of it (libvulkan1) "
                "and the device's driver");
}

bool has_validation_layer() {
  std::uint32_t count = 0;
  check(vkEnumerateInstanceLayerProperties(&count, nullptr), "list its layers");
  std::vector<VkLayerProperties> layers(count);
  check(vkEnumerateInstanceLayerProperties(&count, layers.data()), "list its layers");
  layers.resize(count);
  for (const VkLayerProperties& layer : layers)
    if (std::strcmp(layer.layerName, validation_layer) == 0) return true;
  return false;
}

}  // namespace

void check(VkResult result, std::string_view what) {
  if (result >= VK_SUCCESS && result != VK_NOT_READY && result != VK_TIMEOUT) return;
  const std::string said = fmt::format("the Vulkan driver failed to {} ({})", what, name_of(result));
  switch (result) {
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
      throw Error(ErrorCode::out_of_memory, said + "; free memory of the device or choose another device");
    case VK_ERROR_OUT_OF_HOST_MEMORY: throw Error(ErrorCode::out_of_memory, said);
    case VK_ERROR_DEVICE_LOST:
      throw Error(ErrorCode::device,
                  said + ": the device was lost; the host's data is intact, but sessions on it must be made anew");
    default: throw Error(ErrorCode::unsupported, said);
  }
}

Instance::Instance(bool validate) {
  load();
  if (volkGetInstanceVersion() < VK_API_VERSION_1_1)
    throw Error(ErrorCode::not_found, "the Vulkan loader knows only Vulkan 1.0; install one of Vulkan 1.3");

  VkApplicationInfo application{.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                .pApplicationName = "heddle",
                                .pEngineName = "heddle",
                                .apiVersion = VK_API_VERSION_1_3};
  VkInstanceCreateInfo info{.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};

  const VkValidationFeatureEnableEXT synchronization = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
  const VkValidationFeaturesEXT features{.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                         .enabledValidationFeatureCount = 1,
                                         .pEnabledValidationFeatures = &synchronization};
  VkDebugUtilsMessengerCreateInfoEXT messenger{.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
                                               .pNext = &features,
                                               .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                                                                  VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
                                               .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT |
                                                              VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                                                              VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
                                               .pfnUserCallback = on_message};
  const char* const extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  if (validate) {
    if (!has_validation_layer())
      throw Error(ErrorCode::not_found,
                  fmt::format("HEDDLE_VULKAN_VALIDATION is set, but the layer {} is not installed; install it (Debian: "
                              "vulkan-validationlayers) or unset the variable",
                              validation_layer));
    info.pNext = &messenger;
    info.enabledLayerCount = 1;
    info.ppEnabledLayerNames = &validation_layer;
    info.enabledExtensionCount = 1;
    info.ppEnabledExtensionNames = &extension;
  }
  const VkResult result = vkCreateInstance(&info, nullptr, &handle_);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
    throw Error(ErrorCode::not_found, "no Vulkan driver is installed; install the one of your device");
  check(result, "create an instance");
  volkLoadInstanceOnly(handle_);
  if (validate) {
    messenger.pNext = nullptr;
    const auto create = reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(
        vkGetInstanceProcAddr(handle_, "vkCreateDebugUtilsMessengerEXT"));
    check(create(handle_, &messenger, nullptr, &messenger_), "report validation messages");
  }
}

Instance::~Instance() {
  if (messenger_ != VK_NULL_HANDLE)
    reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(
        vkGetInstanceProcAddr(handle_, "vkDestroyDebugUtilsMessengerEXT"))(handle_, messenger_, nullptr);
  vkDestroyInstance(handle_, nullptr);
}

Instance& Instance::get() {
  // Never destroyed: at the process's end the drivers may already have cleaned up after themselves.
  static Instance* const instance = new Instance(wants_validation());
  return *instance;
}

}  // namespace vulkan
}  // namespace heddle::runtime::gpu
