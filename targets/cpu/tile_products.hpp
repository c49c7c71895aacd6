#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include <Halide.h>

namespace heddle::targets {

/// Part of the key of cached kernels: raised whenever the pass changes what it makes.
constexpr int tile_products_version = 5;

/// A tile as a call loads it: rows of `row_bytes`, `pitch` bytes apart, from byte `first` of a buffer on.
struct TileLoad {
  std::string name;
  std::int64_t rows = 0, row_bytes = 0;
  Halide::Expr first, pitch;
};
std::optional<TileLoad> tile_load_of(const Halide::Internal::Call& call);

/// Sums of products that are left as serial loops -> tile registers and their products (AMX):
///
///   produce acc                                         t0 = tile_zero()
///     acc[...] = 0                                      for c
///     for c                                               t0 = tile_matmul(t0, tile_load(a + ...), tile_load(b + ...))
///       for ko in 0..16  for m in 0..16                 tile_store(acc, t0)
///         for n in 0..16  for k in 0..4
///           acc[n + m * pitch] +=
///               i32(a[k + ko * 4 + m * ...]) * i32(b[k + n * 4 + ko * ...])
///
/// k counts the products of 32 bits: four of u8 and i8, two of bfloat16; the other loops may be shorter, and ko several
/// that run on where the one inside ends. A produced
/// stage may have several such nests, each of which adds to its own tile all along: the tiles stay in registers, of
/// which there are eight. A tile of `a` that several nests read is loaded once.
///
/// A stage that starts with something else is loaded into its tiles; where all rows of a tile start as one and the same
/// of another buffer, a bias, its rows are loaded from there.
///
/// Applied where a stage's nests have this form and make up all of its allocation, and nothing else touches it
/// meanwhile. Throws Error{unsupported} where the tiles of a stage are more than the registers hold.
Halide::Internal::Stmt tile_products(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
