#pragma once
#include <chrono>
#include <string>
#include <vector>

#include <spdlog/common.h>

namespace heddle::tools {

/// NO_COLOR and pipes get no colour.
spdlog::color_mode colour_mode();

/// A progress bar on a terminal, a line a phase elsewhere; always on stderr. Removed when it is destroyed. `detail` is
/// shown behind the bar; elsewhere a line for each eighth of the total has it.
class Progress {
 public:
  Progress() = default;
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(const std::string& phase, int done, int total, const std::string& detail = {});

 private:
  void clear();
  std::string phase_;
  bool drawn_ = false;
  int eighths_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// A table that fits a terminal of 100 columns: the widest text column is shortened if need be. Numbers (columns whose
/// header ends in nothing but digits below) are right-aligned by `right`.
class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string str(std::size_t width = 100) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace heddle::tools
