#include "tools/compare_report.hpp"

#include <algorithm>
#include <sstream>

#include <fmt/format.h>

#include "tools/statistics.hpp"
#include "tools/terminal.hpp"

namespace heddle::tools {
namespace {

std::string verdict(const ComparisonReport::Entry& first, const ComparisonReport::Entry& other) {
  const Comparison c = compare_paired(first.seconds, other.seconds);
  const auto range = [&](double low, double high) { return fmt::format("{:.1f} to {:.1f} %", 100 * low, 100 * high); };
  switch (c.verdict) {
    case Verdict::first_is_faster:
      return fmt::format("{:.1f} % slower than {} ({})", 100 * (c.ratio - 1), first.name,
                         range(c.interval.low - 1, c.interval.high - 1));
    case Verdict::second_is_faster:
      return fmt::format("{:.1f} % faster than {} ({})", 100 * (1 - c.ratio), first.name,
                         range(1 - c.interval.high, 1 - c.interval.low));
    case Verdict::no_difference: break;
  }
  const bool noise = c.interval.low <= 1 && 1 <= c.interval.high;
  return fmt::format("no difference from {}: {} ({})", first.name, noise ? "within noise" : "too small to count",
                     range(c.interval.low - 1, c.interval.high - 1));
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// Texts of two entries in columns; what is longer than a column is shortened.
std::string side_by_side(const std::vector<std::string>& titles, const std::vector<std::string>& texts,
                         std::size_t width) {
  std::vector<std::vector<std::string>> columns;
  std::size_t rows = 0;
  for (const auto& text : texts) {
    columns.push_back(lines_of(text));
    rows = std::max(rows, columns.back().size());
  }
  const std::size_t each = width / texts.size() - 2;
  const auto cell = [&](std::string text) {
    if (text.size() > each) text = text.substr(0, each - 2) + "..";
    return fmt::format("{:<{}}  ", text, each);
  };
  std::string out;
  for (const auto& title : titles) out += cell(title);
  out += "\n";
  for (std::size_t r = 0; r < rows; ++r) {
    for (const auto& column : columns) out += cell(r < column.size() ? column[r] : "");
    out.erase(out.find_last_not_of(' ') + 1);
    out += "\n";
  }
  return out;
}

}  // namespace

std::string ComparisonReport::text(bool with_loops) const {
  Table table(
      {{"schedule"}, {"us", true}, {"95 % interval", true}, {"GF/s", true}, {"% peak", true}, {"result"}, {"verdict"}});
  for (const Entry& e : entries) {
    const double middle = median(e.seconds);
    const Interval interval = median_interval(e.seconds);
    table.add({e.name, fmt::format("{:.2f}", middle * 1e6),
               fmt::format("{:.2f} - {:.2f}", interval.low * 1e6, interval.high * 1e6),
               fmt::format("{:.1f}", flops / middle * 1e-9),
               fmt::format("{:.1f}", 100 * flops / middle * 1e-9 / reached()), e.mismatch.empty() ? "right" : "WRONG",
               &e == &entries.front() ? "" : verdict(entries.front(), e)});
  }
  std::string out =
      fmt::format("{}, {} thread{}, {} reach {:.1f} GFLOP/s, copies {:.1f} GB/s\n\n{}", title, threads,
                  threads == 1 ? "" : "s", products_of(numbers), reached(), peak.copy_gbps, table.str(160));
  for (const Entry& e : entries)
    if (!e.mismatch.empty()) out += fmt::format("\n{} is WRONG: {}\n", e.name, e.mismatch);
  std::vector<std::string> titles, schedules, nests;
  for (const Entry& e : entries) {
    titles.push_back(fmt::format("-- {} --", e.name));
    schedules.push_back(e.schedule);
    nests.push_back(e.loops);
  }
  const std::size_t width = std::max<std::size_t>(160, 60 * entries.size());
  out += "\n" + side_by_side(titles, schedules, width);
  if (with_loops) out += "\n" + side_by_side(titles, nests, width);
  return out;
}

nlohmann::json ComparisonReport::json() const {
  nlohmann::json report = {{"name", title},
                           {"threads", threads},
                           {"peak_gflops", reached()},
                           {"peak_bandwidth_gbs", peak.copy_gbps},
                           {"entries", nlohmann::json::array()}};
  for (const Entry& e : entries) {
    const double middle = median(e.seconds);
    const Interval interval = median_interval(e.seconds);
    nlohmann::json entry = {{"name", e.name},
                            {"source", e.source},
                            {"schedule", e.schedule},
                            {"loops", e.loops},
                            {"correct", e.mismatch.empty()},
                            {"mismatch", e.mismatch},
                            {"median_ms", middle * 1e3},
                            {"low_ms", interval.low * 1e3},
                            {"high_ms", interval.high * 1e3},
                            {"samples", e.seconds.size()},
                            {"gflops", flops / middle * 1e-9},
                            {"share_of_peak", flops / middle * 1e-9 / reached()}};
    if (&e != &entries.front()) {
      const Comparison c = compare_paired(entries.front().seconds, e.seconds);
      entry["ratio"] = c.ratio;
      entry["ratio_low"] = c.interval.low;
      entry["ratio_high"] = c.interval.high;
      entry["verdict"] = c.verdict == Verdict::no_difference     ? "no difference"
                         : c.verdict == Verdict::first_is_faster ? "slower"
                                                                 : "faster";
    }
    report["entries"].push_back(entry);
  }
  return report;
}

std::string ComparisonReport::html() const {
  double longest = 0;
  for (const Entry& e : entries) longest = std::max(longest, quantile(e.seconds, 0.9));
  constexpr double width = 640, bar = 22, gap = 26;
  std::string rows, bars, panes;
  double y = 10;
  for (const Entry& e : entries) {
    const double middle = median(e.seconds);
    const Interval interval = median_interval(e.seconds);
    const double share = flops / middle * 1e-9 / reached();
    rows += fmt::format(
        "<tr><td>{}</td><td class=n>{:.2f}</td><td class=n>{:.2f} to {:.2f}</td><td class=n>{:.1f}</td><td "
        "class=n>{:.1f} %</td><td>{}</td><td>{}</td></tr>\n",
        escaped(e.name), middle * 1e6, interval.low * 1e6, interval.high * 1e6, flops / middle * 1e-9, 100 * share,
        e.mismatch.empty() ? "right" : "<b>wrong</b>: " + escaped(e.mismatch),
        &e == &entries.front() ? "" : escaped(verdict(entries.front(), e)));
    bars += fmt::format(
        "<text x=0 y={0:.0f}>{1}</text><rect x=180 y={2:.0f} width={3:.1f} height={4:.0f} class=bar /><line x1={5:.1f} "
        "x2={6:.1f} y1={7:.0f} y2={7:.0f} class=range />"
        "<text x={8:.0f} y={0:.0f}>{9:.2f} us</text>\n",
        y + bar * 0.7, escaped(e.name), y, width * middle / longest, bar,
        180 + width * quantile(e.seconds, 0.1) / longest, 180 + width * quantile(e.seconds, 0.9) / longest, y + bar / 2,
        180 + width + 12, middle * 1e6);
    y += gap + 8;
    panes += fmt::format("<section><h2>{}</h2><p>{}</p><pre>{}</pre><pre>{}</pre></section>\n", escaped(e.name),
                         escaped(e.source), escaped(e.schedule), escaped(e.loops));
  }
  const double limit = flops / (reached() * 1e9);
  const double limit_x = 180 + width * std::min(1.0, limit / longest);
  return fmt::format(R"(<!doctype html><meta charset=utf-8><title>{0}</title>
<style>body{{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1100px;color:#222}}table{{border-collapse:collapse;width:100%}}td,th{{padding:.3em .6em;text-align:left;border-bottom:1px solid #ddd}}
.n{{text-align:right;font-variant-numeric:tabular-nums}}.panes{{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1em}}pre{{background:#f6f6f4;padding:.8em;overflow-x:auto;font-size:12.5px}}
.bar{{fill:#4c78a8}}.range{{stroke:#222;stroke-width:2}}.limit{{stroke:#c0392b;stroke-dasharray:4 3}}svg text{{font-size:13px}}</style>
<h1>{0}</h1><p>{1} thread{2}; {11} reach {3:.1f} GFLOP/s, copies {4:.1f} GB/s, both measured in this run. Bars are medians, lines reach from the 10th to the 90th percentile; the dashed line is the arithmetic limit, {5:.2f} us.</p>
<svg width=960 height={6:.0f} role=img aria-label="median times"><line x1={7:.1f} x2={7:.1f} y1=0 y2={6:.0f} class=limit />{8}</svg>
<table><tr><th>schedule<th class=n>median, us<th class=n>95 % interval<th class=n>GFLOP/s<th class=n>of peak<th>result<th>verdict</tr>
{9}</table><div class=panes>{10}</div>
)",
                     escaped(title), threads, threads == 1 ? "" : "s", reached(), peak.copy_gbps, limit * 1e6, y,
                     limit_x, bars, rows, panes, products_of(numbers));
}

}  // namespace heddle::tools
