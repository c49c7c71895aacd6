#include "targets/gpu/opencl_source.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::targets {
namespace {

/// Halide's macros for the address space of the buffer whose name follows.
constexpr std::string_view space_prefix = "__address_space_";

[[noreturn]] void fail(const std::string& why) {
  throw Error(ErrorCode::internal, fmt::format("Halide's OpenCL C is not as expected: {}", why));
}

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }
bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$'; }

/// The text cut into words and what is between them.
std::vector<std::string_view> tokens(std::string_view text) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at + 1;
    while (end < text.size() && is_word(text[end]) == is_word(text[at])) ++end;
    parts.push_back(text.substr(at, end - at));
    at = end;
  }
  return parts;
}

std::size_t count(const std::vector<std::string_view>& words, std::string_view word) {
  std::size_t n = 0;
  for (const auto& w : words) n += w == word ? 1 : 0;
  return n;
}

/// "_blur__7_stride_1" -> "_blur_stride_1": Halide numbers the second thing of a name blur$7, and writes '$' as "__".
std::string without_counters(std::string_view name) {
  std::string clean;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '$' || (name.substr(i).starts_with("__") && i > 0)) {
      std::size_t end = i + (name[i] == '$' ? 1 : 2);
      const std::size_t digits = end;
      while (end < name.size() && is_digit(name[end])) ++end;
      if (end > digits && (end == name.size() || !is_word(name[end]) || name[end] == '_')) {
        i = end - 1;
        continue;
      }
    }
    clean += name[i];
  }
  return clean;
}

/// Names of Halide's variables that depend on the request alone. They begin with '_' and a letter or digit, which
/// nothing else does.
class Names {
 public:
  explicit Names(const std::vector<std::string_view>& words) {
    for (const auto& word : words)
      if (without_counters(word) == word && !is_variable(word)) given_.emplace(word);
  }

  void set(std::string_view from, const std::string& to) { names_[std::string(from)] = to; }

  std::string of(std::string_view word) {
    if (word.starts_with(space_prefix)) return std::string(space_prefix) + of(word.substr(space_prefix.size()));
    const auto known = names_.find(word);
    if (known != names_.end()) return known->second;
    std::string name = without_counters(word);
    if (is_variable(word)) {
      name = is_temporary(word) ? numbered("_", word) : with_parts_numbered(name);
      std::string candidate = name;
      for (int again = 2; !given_.insert(candidate).second; ++again) candidate = fmt::format("{}_{}", name, again);
      name = candidate;
    }
    names_.emplace(word, name);
    return name;
  }

 private:
  std::map<std::string, std::string, std::less<>> names_, parts_;
  std::set<std::string, std::less<>> given_;
  std::map<std::string, int> counts_;

  static bool is_variable(std::string_view word) { return word.size() > 1 && word[0] == '_' && word[1] != '_'; }
  static bool is_temporary(std::string_view word) { return word.find_first_not_of("0123456789", 1) == word.npos; }

  std::string numbered(const std::string& kind, std::string_view what) {
    const auto [part, fresh] = parts_.try_emplace(std::string(what));
    if (fresh) part->second = fmt::format("{}{}", kind, counts_[kind]++);
    return part->second;
  }

  /// "_blur_s0_x_v65" -> "_blur_s0_x_v0": what Halide names by a letter and a count, functions, reductions, temporaries
  /// and loops, is numbered as it appears.
  std::string with_parts_numbered(const std::string& name) {
    std::string result;
    for (std::size_t at = 0; at < name.size();) {
      const std::size_t end = std::min(name.find('_', at + 1), name.size());
      const std::string_view part = std::string_view(name).substr(at, end - at);  // with the '_' before it
      const bool counted = part.size() > 2 && std::string_view("frtvV").find(part[1]) != std::string_view::npos &&
                           part.find_first_not_of("0123456789", 2) == part.npos;
      result += counted ? numbered(std::string(part.substr(0, 2)), part) : std::string(part);
      at = end;
    }
    return result;
  }
};

/// Removes every line that begins with `start`.
void remove_lines(std::string& text, std::string_view start) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    if (std::string_view(text).substr(at).starts_with(start)) text.erase(at, end - at);
    else at = end;
  }
}

std::string_view trimmed(std::string_view text) {
  const std::size_t start = text.find_first_not_of(" \n"), end = text.find_last_not_of(" \n");
  return start == text.npos ? std::string_view() : text.substr(start, end - start + 1);
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + separator.size();
  }
  return parts;
}

/// What the lines of a kernel do to a buffer that is not const. Halide puts every load into a variable of its own and
/// every store into a line of its own, whose other operands are variables.
char access_of(std::string_view buffer, std::string_view body) {
  bool reads = false, writes = false;
  for (const std::string_view line : split(body, "\n")) {
    const std::string_view statement = trimmed(line);
    const std::size_t uses = count(tokens(statement), buffer);
    if (uses == 0 || statement.starts_with("//")) continue;
    const bool by_cast = statement.starts_with("((") && statement.find("] = ") != statement.npos;
    const bool stores = statement.starts_with(fmt::format("{}[", buffer)) || by_cast || statement.starts_with("vstore");
    const bool atomic = statement.find("atomic_") != statement.npos || statement.find("atom_") != statement.npos;
    writes = writes || stores || atomic;
    reads = reads || !stores || atomic || uses > 1;
  }
  if (reads == writes) return 'b';
  return reads ? 'r' : 'w';
}

/// Reads one kernel, whose prototype's name starts at `at`.
OpenclEntry read_entry(std::string_view text, std::size_t at) {
  const std::size_t open = text.find('(', at), close = text.find(")\n{", at);
  if (open == text.npos || close == text.npos || close < open) fail("a kernel has no prototype");
  OpenclEntry entry;
  entry.halide_name = text.substr(at, open - at);
  const std::size_t end = text.find(fmt::format("}} // kernel {}\n", entry.halide_name), close);
  if (end == text.npos) fail(fmt::format("kernel {} has no end", entry.halide_name));
  const auto arguments = split(text.substr(open + 1, close - open - 1), ",\n");
  if (!trimmed(arguments.back()).starts_with("__local "))
    fail(fmt::format("kernel {} has no local memory as its last argument", entry.halide_name));
  for (const auto& given : arguments) {
    const std::string_view argument = trimmed(given);
    if (argument.find("image") != argument.npos && argument.find("d_t ") != argument.npos)
      fail(fmt::format("kernel {} takes an image", entry.halide_name));
    if (!argument.starts_with(space_prefix)) continue;
    const std::string_view name = argument.substr(argument.rfind(' ') + 1);
    const bool constant = argument.find(" const ") != argument.npos;
    entry.access += constant ? 'r' : access_of(name, text.substr(close, end - close));
  }
  return entry;
}

}  // namespace

OpenclSource finish_opencl(const std::string& halide_text) {
  std::string text = halide_text.substr(0, halide_text.find('\0'));
  // Of use to Halide's own runtime alone: the target's name, and a kernel for programs that have none.
  remove_lines(text, "/*OpenCL C ");
  remove_lines(text, "__kernel void _at_least_one_kernel");
  // Drivers for devices without f64 refuse or warn, although no kernel may use it.
  if (text.find("double") == text.npos) remove_lines(text, "#pragma OPENCL EXTENSION cl_khr_fp64");

  OpenclSource source;
  constexpr std::string_view prototype = "\n__kernel void ";
  for (std::size_t at = 0; (at = text.find(prototype, at)) != text.npos;) {
    at += prototype.size();
    source.entries.push_back(read_entry(text, at));
  }
  if (source.entries.empty()) fail("there is no kernel in it");

  const auto words = tokens(text);
  Names names(words);
  for (std::size_t i = 0; i < source.entries.size(); ++i) {
    source.entries[i].name = fmt::format("k{}", i);
    names.set(source.entries[i].halide_name, source.entries[i].name);
  }
  for (const auto& word : words) source.text += is_word(word[0]) ? names.of(word) : std::string(word);
  return source;
}

}  // namespace heddle::targets
