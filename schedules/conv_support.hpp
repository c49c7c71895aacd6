#pragma once
#include <functional>
#include <string>
#include <vector>

#include "schedules/support.hpp"

// What the families of convolutions share.
namespace heddle::schedules {

/// A convolution in two dimensions of data with its channels innermost.
bool is_two_dimensional_conv(const Workload& workload);

std::int64_t groups(const Workload& workload);

/// One filter for each channel.
bool is_depthwise(const Workload& workload);

/// Whether vectors of output channels never reach from one group into the next, where the input's index would differ
/// from lane to lane.
bool blocks_lie_in_groups(const Workload& workload, const Machine& machine);

/// Whether the convolution can be computed in that form.
bool has_variant(const Workload& workload, const std::string& variant);

/// A convolution's operands, by number.
constexpr std::size_t weights_operand = 1, bias_operand = 2;

/// Whether the weights, and the bias if there is one, are known beforehand, so that they can be stored in another form.
bool weights_are_packable(const Workload& workload);

/// A tile of accumulators, `vectors` of channels x (`pixels` x `rows`), and how tiles follow one another: all blocks of
/// channels inside of a tile of pixels, or all pixels inside of a block.
struct ConvTile {
  BOOST_HANA_DEFINE_STRUCT(ConvTile, (std::int64_t, vectors), (std::int64_t, pixels), (std::int64_t, rows),
                           (std::int64_t, tasks), (std::int64_t, blocks_inside));
};

/// Those that `fits(vectors, broadcasts, machine)` says the registers hold.
std::vector<ConvTile> conv_tiles(const Workload& workload, const Machine& machine, FitsRegisters fits);

/// Along spatial dimension `d`, 0: down, 1: across.
std::int64_t stride(const Workload& workload, std::size_t d);
std::int64_t dilation(const Workload& workload, std::size_t d);

/// Elements of the input along spatial dimension `d` (0: down, 1: across) that so many results side by side read.
std::int64_t reach(const Workload& workload, std::int64_t outputs, std::size_t d);

/// Of the input that one tile reads.
std::int64_t tile_input_bytes(const Workload& workload, const ConvTile& tile);

/// The share of the multipliers' rate that a tile reaches if so many bytes of weights pass by between two uses of one.
using ConvRate = std::function<double(const ConvTile& tile, std::int64_t passing)>;

/// The analytic choice. `steps`: of a sum, each reading a vector of weights for a vector of results; `registers`: the
/// share that those of so many vectors x broadcasts reach while nothing else holds them up.
ConvTile best_conv_tile(const Workload& workload, const Machine& machine, const std::vector<ConvTile>& candidates,
                        std::int64_t steps, const ConvRate& rate_of);
ConvTile best_conv_tile(const Workload& workload, const Machine& machine, const std::vector<ConvTile>& candidates,
                        std::int64_t steps, TileRate registers);

/// Schedules `out` in such tiles and the start of `acc`; its update is the caller's.
void schedule_conv_tiles(Schedule& schedule, const Workload& workload, const Machine& machine, const ConvTile& tile);

/// Floats in such tiles: weights and bias packed by blocks of output channels, a sum's `channels` of the input
/// innermost.
Implementation make_conv_tiles(const Workload& workload, const Machine& machine, const ConvTile& tile,
                               std::int64_t channels);

/// A tile of `pixels` x `rows` accumulators, each a vector of channels with a filter each.
struct DepthwiseTile {
  std::int64_t pixels = 1, rows = 1;
};

/// Those that the registers hold and the result fills.
std::vector<DepthwiseTile> depthwise_tiles(const Workload& workload, const Machine& machine);

/// By what a tile computes for each element that it loads; only ratios mean something.
double depthwise_rate(const Workload& workload, const Machine& machine, const DepthwiseTile& tile);

/// Schedules `acc` in such tiles, inside of a loop of `out`.
void schedule_depthwise_sums(Schedule& schedule, const Workload& workload, std::int64_t lanes, const std::string& loop);

/// The padded copy of the input that the algorithm makes where the operand has no border of its own.
void schedule_padding(Schedule& schedule, const std::vector<std::string>& roles, const Machine& machine);

}  // namespace heddle::schedules
