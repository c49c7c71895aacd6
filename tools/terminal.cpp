#include "tools/terminal.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

namespace heddle::tools {
namespace {

bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) != 0; }

}  // namespace

spdlog::color_mode colour_mode() {
  const char* no_color = std::getenv("NO_COLOR");
  return no_color != nullptr && *no_color != '\0' ? spdlog::color_mode::never : spdlog::color_mode::automatic;
}

void Progress::update(const std::string& phase, int done, int total, const std::string& detail) {
  if (!stderr_is_terminal()) {
    if (phase != phase_) fmt::print(stderr, "{}{}\n", phase, total > 1 ? fmt::format(" ({})", total) : "");
    const int eighths = total > 0 ? 8 * done / total : 0;
    if (!detail.empty() && phase == phase_ && eighths > eighths_)
      fmt::print(stderr, "{} {}/{}  {}\n", phase, done, total, detail);
    eighths_ = eighths;
    phase_ = phase;
    return;
  }
  phase_ = phase;
  constexpr int width = 30;
  const int filled = total > 0 ? width * done / total : 0;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  fmt::print(stderr, "\r\033[K{:<18} [{:#<{}}{:.<{}}] {}/{}  {:.1f} s  {}", phase, "", filled, "", width - filled, done,
             total, seconds, detail);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) fmt::print(stderr, "\r\033[K");
  drawn_ = false;
}

Progress::~Progress() { clear(); }

std::string Table::str(std::size_t width) const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t w = columns_[c].title.size();
    for (const auto& row : rows_) w = std::max(w, row.at(c).size());
    widths.push_back(w);
  }
  std::size_t total = widths.empty() ? 0 : 2 * (widths.size() - 1);
  for (const std::size_t w : widths) total += w;
  if (total > width) {
    const auto widest = std::max_element(widths.begin(), widths.end());
    const std::size_t excess = total - width;
    *widest = std::max<std::size_t>(12, *widest > excess ? *widest - excess : 0);
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      std::string cell = cells[c];
      if (cell.size() > widths[c]) cell = cell.substr(0, widths[c] - 2) + "..";
      text += (c > 0 ? "  " : "") +
              (columns_[c].right ? fmt::format("{:>{}}", cell, widths[c]) : fmt::format("{:<{}}", cell, widths[c]));
    }
    return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  };
  std::vector<std::string> titles, rule;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    titles.push_back(columns_[c].title);
    rule.emplace_back(widths[c], '-');
  }
  std::string text = line(titles) + line(rule);
  for (const auto& row : rows_) text += line(row);
  return text;
}

}  // namespace heddle::tools
