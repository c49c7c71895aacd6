#include <memory>

#include <fmt/format.h>
#include <spirv-tools/libspirv.h>

#include "base/error.hpp"
#include "targets/gpu/spirv.hpp"

namespace heddle::targets {
namespace {

using Context = std::unique_ptr<spv_context_t, decltype(&spvContextDestroy)>;
using Diagnostic = std::unique_ptr<spv_diagnostic_t, decltype(&spvDiagnosticDestroy)>;

Context vulkan_1_3() { return {spvContextCreate(SPV_ENV_VULKAN_1_3), spvContextDestroy}; }

std::string message(spv_result_t result, spv_diagnostic given) {
  const Diagnostic diagnostic(given, spvDiagnosticDestroy);
  if (result == SPV_SUCCESS) return "";
  if (diagnostic && diagnostic->error != nullptr) return diagnostic->error;
  return fmt::format("SPIRV-Tools refuse it with status {}", static_cast<int>(result));
}

}  // namespace

std::string spirv_fault(const SpirvWords& module) {
  const Context context = vulkan_1_3();
  spv_diagnostic diagnostic = nullptr;
  const spv_result_t result = spvValidateBinary(context.get(), module.data(), module.size(), &diagnostic);
  return message(result, diagnostic);
}

std::string disassemble(const std::string& spirv) {
  const SpirvWords words = spirv_words(spirv);
  const Context context = vulkan_1_3();
  spv_text text = nullptr;
  spv_diagnostic diagnostic = nullptr;
  const spv_result_t result =
      spvBinaryToText(context.get(), words.data(), words.size(),
                      SPV_BINARY_TO_TEXT_OPTION_INDENT | SPV_BINARY_TO_TEXT_OPTION_FRIENDLY_NAMES, &text, &diagnostic);
  const std::unique_ptr<spv_text_t, decltype(&spvTextDestroy)> owned(text, spvTextDestroy);
  const std::string fault = message(result, diagnostic);
  if (!fault.empty()) throw Error(ErrorCode::invalid_argument, fmt::format("these bytes are no SPIR-V: {}", fault));
  return {text->str, text->length};
}

}  // namespace heddle::targets
