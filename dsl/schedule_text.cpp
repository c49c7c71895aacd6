#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "dsl/schedule.hpp"
#include "dsl/schedule_expression.hpp"
#include "dsl/schedule_table.hpp"

// Text to values and back. The grammar is in docs/schedule.md.
namespace heddle {
namespace {

/// One line without its comment, read from left to right.
class LineReader {
 public:
  LineReader(std::string_view text, int line) : text_(without_comment(text)), line_(line) { skip(); }

  bool done() const { return at_ >= text_.size(); }
  SourcePosition here() const { return {line_, static_cast<int>(at_) + 1}; }

  void skip() {
    while (!done() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
  }

  bool eat(char c) {
    skip();
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool at(char c) {
    skip();
    return !done() && text_[at_] == c;
  }

  std::string name(std::string_view what) {
    skip();
    if (done()) fail(fmt::format("expected {} before the line ends", what));
    if (!is_name_start(text_[at_])) fail(fmt::format("expected {}, not '{}'", what, shown()));
    const std::size_t begin = at_;
    while (!done() && is_name_char(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  /// Characters up to the next blank.
  std::string word() {
    skip();
    const std::size_t begin = at_;
    while (!done() && text_[at_] != ' ' && text_[at_] != '\t' && text_[at_] != '\r') ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  /// An argument's text: up to the comma or parenthesis that ends it, without blanks around.
  ScheduleArgument argument() {
    skip();
    ScheduleArgument a;
    a.position = here();
    const std::size_t begin = at_;
    bool quoted = false;
    for (int depth = 0; !done(); ++at_) {
      const char c = text_[at_];
      if (c == '"') quoted = !quoted;
      if (quoted) continue;
      if (c == '(') ++depth;
      if (depth == 0 && (c == ',' || c == ')')) break;
      if (c == ')') --depth;
    }
    if (quoted) fail("the text has no closing '\"'", a.position);
    std::string_view raw = text_.substr(begin, at_ - begin);
    while (!raw.empty() && (raw.back() == ' ' || raw.back() == '\t' || raw.back() == '\r')) raw.remove_suffix(1);
    if (raw.empty() && !done()) fail(fmt::format("expected an argument, not '{}'", shown()));
    a.value = std::string(raw);
    return a;
  }

  [[noreturn]] void fail(const std::string& message) const { fail(message, here()); }
  [[noreturn]] void fail(const std::string& message, SourcePosition position) const {
    throw ScheduleProblem{position, message};
  }

  /// The next character as a message can show it.
  std::string shown() const {
    const auto c = static_cast<unsigned char>(text_[at_]);
    return c >= 0x20 && c < 0x7f ? std::string(1, text_[at_]) : fmt::format("\\x{:02x}", c);
  }

 private:
  static std::string_view without_comment(std::string_view text) {
    bool quoted = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '"') quoted = !quoted;
      if (text[i] == '#' && !quoted) return text.substr(0, i);
    }
    return text;
  }

  std::string_view text_;
  int line_;
  std::size_t at_ = 0;
};

int read_update(LineReader& in) {
  if (in.eat(')')) return 0;  // Halide's short form for the first update
  const SourcePosition position = in.here();
  ScheduleArgument number = in.argument();
  const auto& text = std::get<std::string>(number.value);
  if (text.empty() || text.size() > 3 || text.find_first_not_of("0123456789") != std::string::npos)
    in.fail(fmt::format("update takes the number of the update, 0 for the first, not '{}'", text), position);
  if (!in.eat(')')) in.fail("expected ')' after the update's number");
  return std::stoi(text);
}

std::vector<ScheduleArgument> read_arguments(LineReader& in) {
  std::vector<ScheduleArgument> arguments;
  if (in.eat(')')) return arguments;
  while (true) {
    arguments.push_back(in.argument());
    if (in.eat(')')) return arguments;
    if (!in.eat(',')) in.fail("expected ',' or ')' before the line ends");
  }
}

ScheduleLine read_line(LineReader& in) {
  ScheduleLine line;
  line.position = in.here();
  line.stage = in.name("a stage's name");
  // A name that a '(' follows is the first directive; those before it are the stage's qualified name.
  while (!in.done()) {
    in.skip();
    if (in.done()) break;
    if (in.at('(') && line.directives.empty() && line.update < 0)
      in.fail(fmt::format("expected a stage before '{}(': write STAGE.{}(...)", line.stage, line.stage), line.position);
    if (!in.eat('.')) in.fail(fmt::format("expected '.' and a directive, not '{}'", in.shown()));
    in.skip();
    const SourcePosition position = in.here();
    std::string name = in.name("a directive's name");
    const bool first = line.directives.empty() && line.update < 0;
    if (!in.eat('(')) {
      if (!first) in.fail(fmt::format("expected '(' after '{}'", name));
      line.stage += "." + name;
      continue;
    }
    if (name == "update") {
      if (!first) in.fail("update(N) stands right behind the stage's name", position);
      line.update = read_update(in);
      continue;
    }
    Directive directive{std::move(name), {}, position};
    // An unknown name is reported before what its arguments lack.
    const auto names = directive_names();
    if (std::find(names.begin(), names.end(), directive.name) == names.end()) {
      auto candidates = names;
      candidates.emplace_back("update");
      in.fail(fmt::format("no directive '{}'{}", directive.name, did_you_mean(directive.name, candidates)), position);
    }
    directive.arguments = read_arguments(in);
    line.directives.push_back(std::move(directive));
  }
  canonicalize(line);
  return line;
}

bool is_variant_name(std::string_view text) {
  return !text.empty() && is_name_start(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_name_char(c) || c == '-'; });
}

std::int64_t read_block_size(LineReader& in, const std::string& text, SourcePosition position) {
  std::int64_t size = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') in.fail(fmt::format("'{}' is not a block's size", text), position);
    size = size * 10 + (c - '0');
    if (size > kScheduleIntegerMax) in.fail("the block's size is too large: it must fit 32 bits", position);
  }
  if (size < 1) in.fail("a block's size must be at least 1", position);
  return size;
}

Packing read_packing(LineReader& in) {
  Packing packing;
  in.skip();
  const SourcePosition start = in.here();
  packing.operand = in.word();
  if (!is_qualified_name(packing.operand)) in.fail("pack needs an operand and its blocks: pack w co:64", start);
  for (in.skip(); !in.done(); in.skip()) {
    const SourcePosition position = in.here();
    const std::string word = in.word();
    const std::size_t colon = word.find(':');
    if (colon == std::string::npos && packing.form.empty() && packing.blocks.empty() && is_name(word)) {
      packing.form = word;
      continue;
    }
    const std::string dimension = word.substr(0, colon);
    if (colon == std::string::npos || !is_name(dimension) || colon + 1 == word.size())
      in.fail(fmt::format("expected a dimension and a block's size such as co:64, not '{}'", word), position);
    for (const auto& block : packing.blocks)
      if (block.dimension == dimension) in.fail(fmt::format("'{}' is blocked twice", dimension), position);
    const SourcePosition of_size{position.line, position.column + static_cast<int>(colon) + 1};
    packing.blocks.push_back({dimension, read_block_size(in, word.substr(colon + 1), of_size)});
  }
  if (packing.blocks.empty() && packing.form.empty())
    in.fail(fmt::format("pack {} needs at least one block such as co:64", packing.operand));
  return packing;
}

/// A line that starts with `variant` or `pack` and goes on with a word belongs to an implementation's head; with a '.'
/// or '(' it would be a stage of that name.
bool starts_head(std::string_view line, std::string_view keyword) {
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos || line.substr(begin, keyword.size()) != keyword) return false;
  line.remove_prefix(begin + keyword.size());
  const std::size_t next = line.find_first_not_of(" \t");
  return next == std::string_view::npos || line[next] == '#' || line[next] == '\r' || (next > 0 && line[next] != '.');
}

template <class F>
void for_each_line(std::string_view text, std::string_view file, F f) {
  try {
    for (int number = 1; !text.empty(); ++number) {
      const std::size_t end = text.find('\n');
      f(text.substr(0, end), number);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
  } catch (const ScheduleProblem& problem) {
    throw_problem(file, problem);
  }
}

std::string print(const ScheduleArgument& argument) {
  if (const auto* integer = std::get_if<std::int64_t>(&argument.value)) return std::to_string(*integer);
  return std::get<std::string>(argument.value);
}

}  // namespace

std::string to_string(const Directive& directive) {
  std::string text = directive.name + "(";
  for (std::size_t i = 0; i < directive.arguments.size(); ++i)
    text += (i > 0 ? ", " : "") + print(directive.arguments[i]);
  return text + ")";
}

std::string Schedule::print() const {
  std::string text;
  for (const auto& line : lines) {
    text += line.stage;
    if (line.update >= 0) text += fmt::format(".update({})", line.update);
    for (const auto& directive : line.directives) text += "." + to_string(directive);
    text += "\n";
  }
  return text;
}

Schedule Schedule::parse(std::string_view text, std::string_view file) {
  Schedule schedule;
  for_each_line(text, file, [&](std::string_view line, int number) {
    LineReader in(line, number);
    if (in.done()) return;
    for (const std::string_view keyword : {"variant", "pack"})
      if (starts_head(line, keyword))
        in.fail(fmt::format("'{}' belongs to an implementation; here only a schedule's lines can stand", keyword));
    schedule.lines.push_back(read_line(in));
  });
  return schedule;
}

std::string Implementation::print() const {
  std::string text = "variant " + variant + "\n";
  for (const auto& packing : packings) {
    text += "pack " + packing.operand;
    if (!packing.form.empty()) text += " " + packing.form;
    for (const auto& block : packing.blocks) text += fmt::format(" {}:{}", block.dimension, block.size);
    text += "\n";
  }
  return text + schedule.print();
}

Implementation Implementation::parse(std::string_view text, std::string_view file) {
  Implementation implementation;
  bool has_variant = false;
  for_each_line(text, file, [&](std::string_view line, int number) {
    LineReader in(line, number);
    if (in.done()) return;
    const SourcePosition start = in.here();
    const bool variant = starts_head(line, "variant");
    if (!variant && !starts_head(line, "pack")) {
      implementation.schedule.lines.push_back(read_line(in));
      return;
    }
    in.word();
    if (!implementation.schedule.lines.empty())
      in.fail("variant and pack stand before the schedule's first line", start);
    if (!variant) {
      in.skip();
      const SourcePosition position = in.here();
      Packing packing = read_packing(in);
      for (const auto& other : implementation.packings)
        if (other.operand == packing.operand)
          in.fail(fmt::format("operand '{}' is packed twice", packing.operand), position);
      implementation.packings.push_back(std::move(packing));
      return;
    }
    if (has_variant) in.fail("a second variant: an implementation has one", start);
    has_variant = true;
    in.skip();
    const SourcePosition position = in.here();
    implementation.variant = in.word();
    if (!is_variant_name(implementation.variant))
      in.fail("variant needs a name of letters, digits, '_' and '-', such as direct", position);
    in.skip();
    if (!in.done()) in.fail(fmt::format("unexpected '{}' after the variant's name", in.shown()));
  });
  return implementation;
}

}  // namespace heddle
