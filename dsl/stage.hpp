#pragma once
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <Halide.h>

#include "dsl/schedule.hpp"

namespace heddle {

/// Records directives in a Schedule under the names that Halide's Func and Stage give them:
///
///   Schedule s;
///   s["out"].split("co", "coo", "coi", 64).reorder("coi", "x", "coo").vectorize("coi", 16);
///   s["acc"].update(0).unroll("ci", 2);
///   Stage wide = s["out"].specialize("W >= 64");  // the general loops stay as they were
///   wide.parallel("y");
///
/// A handle appends to the line that it opened as long as that is the schedule's last; afterwards it opens another one,
/// so the text's order is the order of the calls. It must not outlive the schedule. Malformed arguments are an
/// Error{invalid_argument} at once; names are looked up by apply().
class Stage {
 public:
  /// An argument: a number as an integer or an expression's text, a name as a text.
  class Argument {
   public:
    Argument(std::integral auto value) : value_(static_cast<std::int64_t>(value)) {}  // NOLINT: reads like Halide
    Argument(std::string value) : value_(std::move(value)) {}                         // NOLINT
    Argument(std::string_view value) : value_(std::string(value)) {}                  // NOLINT
    Argument(const char* value) : value_(std::string(value)) {}                       // NOLINT
    Argument(Halide::TailStrategy value);                                             // NOLINT
    Argument(Halide::MemoryType value);                                               // NOLINT
    Argument(Halide::Partition value);                                                // NOLINT
    Argument(Halide::LoopAlignStrategy value);                                        // NOLINT
    Argument(Halide::PrefetchBoundStrategy value);                                    // NOLINT

   private:
    friend class Stage;
    std::variant<std::int64_t, std::string> value_;
  };
  using Arg = const Argument&;
  using Name = std::string_view;
  using Tail = Halide::TailStrategy;

  Stage(Schedule& schedule, std::string_view role) : schedule_(&schedule), role_(role) {}

  const std::string& role() const { return role_; }

  /// The update with this number; directives that follow schedule it.
  Stage update(int number = 0) const;

  // Loops.
  Stage& split(Name old, Name outer, Name inner, Arg factor, Tail tail = Tail::Auto) {
    return record("split", {old, outer, inner, factor, tail});
  }
  Stage& fuse(Name inner, Name outer, Name fused) { return record("fuse", {inner, outer, fused}); }
  template <std::convertible_to<Name>... Names>
  Stage& reorder(Name innermost, const Names&... outer) {
    return record("reorder", {innermost, Name(outer)...});
  }
  Stage& reorder(const std::vector<std::string>& innermost_first) { return record("reorder", list(innermost_first)); }
  Stage& tile(Name x, Name y, Name xo, Name yo, Name xi, Name yi, Arg xf, Arg yf, Tail tail = Tail::Auto) {
    return record("tile", {x, y, xo, yo, xi, yi, xf, yf, tail});
  }
  Stage& rename(Name old, Name fresh) { return record("rename", {old, fresh}); }
  /// The new stage; `role` in the text.
  Stage rfactor(Name r, Name u, Name role) { return created(role, "rfactor", {r, u, role}); }
  Stage rfactor(Name r1, Name u1, Name r2, Name u2, Name role) {
    return created(role, "rfactor", {r1, u1, r2, u2, role});
  }
  Stage rfactor(Name r1, Name u1, Name r2, Name u2, Name r3, Name u3, Name role) {
    return created(role, "rfactor", {r1, u1, r2, u2, r3, u3, role});
  }
  /// The specialised copy of the loops as they are now.
  Stage specialize(std::string_view condition);
  void specialize_fail(std::string_view message);

  // How loops run.
  Stage& vectorize(Name v) { return record("vectorize", {v}); }
  Stage& vectorize(Name v, Arg factor, Tail tail = Tail::Auto) { return record("vectorize", {v, factor, tail}); }
  Stage& unroll(Name v) { return record("unroll", {v}); }
  Stage& unroll(Name v, Arg factor, Tail tail = Tail::Auto) { return record("unroll", {v, factor, tail}); }
  Stage& parallel(Name v) { return record("parallel", {v}); }
  Stage& parallel(Name v, Arg task, Tail tail = Tail::Auto) { return record("parallel", {v, task, tail}); }
  Stage& serial(Name v) { return record("serial", {v}); }
  Stage& atomic(bool override_associativity_test = false) {
    return record("atomic", {override_associativity_test ? "true" : "false"});
  }
  Stage& allow_race_conditions() { return record("allow_race_conditions", {}); }
  Stage& partition(Name v, Halide::Partition policy) { return record("partition", {v, policy}); }
  Stage& prefetch(Name what, Name at, Name from, Arg offset = 1,
                  Halide::PrefetchBoundStrategy bounds = Halide::PrefetchBoundStrategy::GuardWithIf) {
    return record("prefetch", {what, at, from, offset, bounds});
  }
  template <std::convertible_to<Name>... Names>
  Stage& gpu_blocks(Name x, const Names&... yz) {
    return record("gpu_blocks", {x, Name(yz)...});
  }
  template <std::convertible_to<Name>... Names>
  Stage& gpu_threads(Name x, const Names&... yz) {
    return record("gpu_threads", {x, Name(yz)...});
  }
  Stage& gpu_lanes(Name v) { return record("gpu_lanes", {v}); }
  Stage& gpu_single_thread() { return record("gpu_single_thread", {}); }
  Stage& gpu_tile(Name x, Name bx, Name tx, Arg nx, Tail tail = Tail::Auto) {
    return record("gpu_tile", {x, bx, tx, nx, tail});
  }
  Stage& gpu_tile(Name x, Name y, Name bx, Name by, Name tx, Name ty, Arg nx, Arg ny, Tail tail = Tail::Auto) {
    return record("gpu_tile", {x, y, bx, by, tx, ty, nx, ny, tail});
  }
  Stage& gpu_tile(Name x, Name y, Name z, Name bx, Name by, Name bz, Name tx, Name ty, Name tz, Arg nx, Arg ny, Arg nz,
                  Tail tail = Tail::Auto) {
    return record("gpu_tile", {x, y, z, bx, by, bz, tx, ty, tz, nx, ny, nz, tail});
  }

  // Where the stage is computed and stored.
  Stage& compute_root() { return record("compute_root", {}); }
  Stage& compute_at(Name stage, Name v) { return record("compute_at", {stage, v}); }
  Stage& compute_inline() { return record("compute_inline", {}); }
  /// `definition`: a stage, or its update such as "acc.update(0)".
  Stage& compute_with(Name definition, Name v, Halide::LoopAlignStrategy align = Halide::LoopAlignStrategy::Auto) {
    return record("compute_with", {definition, v, align});
  }
  Stage& store_root() { return record("store_root", {}); }
  Stage& store_at(Name stage, Name v) { return record("store_at", {stage, v}); }
  Stage& store_in(Halide::MemoryType memory) { return record("store_in", {memory}); }
  Stage& hoist_storage(Name stage, Name v) { return record("hoist_storage", {stage, v}); }
  Stage& hoist_storage_root() { return record("hoist_storage_root", {}); }
  /// The copy that the consumers (none: all of them) read instead; `role` in the text.
  template <std::convertible_to<Name>... Names>
  Stage in(Name role, const Names&... consumers) {
    return created(role, "in", {role, Name(consumers)...});
  }
  Stage& async() { return record("async", {}); }
  Stage& ring_buffer(Arg n) { return record("ring_buffer", {n}); }

  // The region and its storage.
  Stage& bound(Name v, Arg min, Arg extent) { return record("bound", {v, min, extent}); }
  Stage& bound_extent(Name v, Arg extent) { return record("bound_extent", {v, extent}); }
  Stage& align_bounds(Name v, Arg modulus, Arg remainder = 0) {
    return record("align_bounds", {v, modulus, remainder});
  }
  Stage& align_extent(Name v, Arg modulus) { return record("align_extent", {v, modulus}); }
  template <std::convertible_to<Name>... Names>
  Stage& reorder_storage(Name innermost, const Names&... outer) {
    return record("reorder_storage", {innermost, Name(outer)...});
  }
  Stage& reorder_storage(const std::vector<std::string>& innermost_first) {
    return record("reorder_storage", list(innermost_first));
  }
  Stage& align_storage(Name v, Arg n) { return record("align_storage", {v, n}); }
  Stage& fold_storage(Name v, Arg n, bool forward = true) {
    return record("fold_storage", {v, n, forward ? "true" : "false"});
  }
  Stage& bound_storage(Name v, Arg n) { return record("bound_storage", {v, n}); }

 private:
  using Arguments = std::vector<Argument>;
  static Arguments list(const std::vector<std::string>& names) { return {names.begin(), names.end()}; }

  Stage& record(std::string_view directive, const Arguments& arguments);
  Stage created(Name role, std::string_view directive, const Arguments& arguments);
  ScheduleLine& line();

  Schedule* schedule_;
  std::string role_;
  int update_ = -1;
  std::vector<Directive> specialisations_;  ///< opened before what this handle schedules
  std::size_t line_ = static_cast<std::size_t>(-1);
};

}  // namespace heddle
