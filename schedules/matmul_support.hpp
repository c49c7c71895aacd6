#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "schedules/support.hpp"

// What the families of matrix products share.
namespace heddle::schedules {

/// A result whose columns are a known number and innermost in memory.
bool has_columns_innermost(const Workload& workload);

/// A product of two matrices with such a result.
bool is_matmul(const Workload& workload);

/// A matrix known beforehand.
bool b_is_packable(const Workload& workload);

/// Adds c to the packings where it is a row known beforehand. False where there is a c that stays as it is: it cannot
/// be read beyond the last column.
bool pack_bias(Implementation& implementation, const Workload& workload, std::int64_t block);

/// The number of products in a sum.
Extent products_depth(const Workload& workload);

/// A tile of accumulators, `vectors` of columns x `rows`.
struct MatmulTile {
  BOOST_HANA_DEFINE_STRUCT(MatmulTile, (std::int64_t, vectors), (std::int64_t, rows), (std::int64_t, tasks));
};

/// Those that `fits(vectors, broadcasts, machine)` says the registers hold.
std::vector<MatmulTile> matmul_tiles(const Workload& workload, const Machine& machine, FitsRegisters fits);

/// The share of the multipliers' rate that a tile reaches if so many bytes of columns pass by between two uses of one.
using MatmulRate = std::function<double(const MatmulTile& tile, std::int64_t passing)>;

/// The analytic choice. `registers`: the share that those of so many vectors x rows reach while nothing else holds them
/// up.
MatmulTile best_matmul_tile(const Workload& workload, const Machine& machine, const std::vector<MatmulTile>& candidates,
                            const MatmulRate& rate_of);
MatmulTile best_matmul_tile(const Workload& workload, const Machine& machine, const std::vector<MatmulTile>& candidates,
                            TileRate registers);

/// Dimensions before the matrix's own two, innermost first.
std::vector<std::string> batch_loops(const Workload& workload);

/// Schedules `out` in such tiles and the start of `acc`; its update is the caller's. `padded`: columns beyond the last
/// may be computed too; else a tile may be no wider than the columns, and the last one begins earlier.
void schedule_matmul_tiles(Schedule& schedule, const Workload& workload, const Machine& machine, const MatmulTile& tile,
                           bool padded);

/// A tile that takes `depth` of k at a time.
struct PanelTile {
  BOOST_HANA_DEFINE_STRUCT(PanelTile, (std::int64_t, vectors), (std::int64_t, rows), (std::int64_t, depth),
                           (std::int64_t, tasks));
};

/// Whether schedule_matmul_panels() computes no row beyond the last: only then may the rows' operand end there.
bool panels_have_all_rows(const Workload& workload, const Machine& machine, const PanelTile& tile);

/// Schedules `out` in panels of columns and the whole of `acc`: the rows of a task pass over one piece of k after the
/// other, so that a piece is in cache for all of them. Columns beyond the last are computed too, and rows up to a whole
/// tile.
void schedule_matmul_panels(Schedule& schedule, const Workload& workload, const Machine& machine,
                            const PanelTile& tile);

}  // namespace heddle::schedules
