#include "targets/host.hpp"

#include <sys/utsname.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/tile_registers.hpp"

namespace heddle::targets {

std::set<std::string> features_of_cpuinfo(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    // x86 says "flags", ARM "Features". All cores are taken to be alike: the first one decides.
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::istringstream words(line.substr(colon + 1));
    std::set<std::string> features;
    for (std::string word; words >> word;) features.insert(word);
    return features;
  }
  return {};
}

HostProcessor host_processor() {
  HostProcessor host;
  utsname system{};
  if (::uname(&system) == 0) host.architecture = system.machine;
  std::ostringstream text;
  text << std::ifstream("/proc/cpuinfo").rdbuf();
  host.features = features_of_cpuinfo(text.str());
  // What the processor has is not enough: code for it would not run here.
  if (host.features.contains("amx_tile") && !may_use_tile_registers())
    std::erase_if(host.features, [](const std::string& name) { return name.starts_with("amx_"); });
  if (const char* allowed = std::getenv("HEDDLE_CPU_FEATURES")) {
    std::set<std::string> kept;
    std::istringstream names(allowed);
    for (std::string name; std::getline(names, name, ',');)
      if (host.features.contains(name)) kept.insert(name);
    host.features = kept;
  }
  return host;
}

void measure_caches(Machine& machine, const std::filesystem::path& sysfs) {
  const auto word = [](const std::filesystem::path& path) {
    std::string text;
    std::ifstream(path) >> text;
    return text;
  };
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(sysfs, ignored)) {
    if (!entry.path().filename().string().starts_with("index")) continue;
    if (word(entry.path() / "type") == "Instruction") continue;
    const std::string level = word(entry.path() / "level"), size = word(entry.path() / "size");
    char* suffix = nullptr;
    std::int64_t bytes = std::strtoll(size.c_str(), &suffix, 10);
    if (*suffix == 'K') bytes <<= 10;
    if (*suffix == 'M') bytes <<= 20;
    if (bytes <= 0) continue;
    if (level == "1") machine.l1_bytes = bytes;
    if (level == "2") machine.l2_bytes = bytes;
    if (level == "3") machine.l3_bytes = bytes;
  }
}

}  // namespace heddle::targets
