#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "graph/passes/rewrite.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {
namespace {

struct Scaled {
  int x;
  double scale;
};

/// Through multiplications by and divisions by numbers.
Scaled without_scales(const Rewriter& r, Scaled s) {
  for (;;) {
    const Node* node = r.producer(s.x);
    if (node == nullptr || (node->op->name() != "mul" && node->op->name() != "div")) return s;
    const bool quotient = node->op->name() == "div";
    const std::size_t number = !quotient && r.scalar(node->inputs[0]) ? 0 : 1;
    const auto scalar = r.scalar(node->inputs[number]);
    const int x = node->inputs[1 - number];
    if (!scalar || *scalar == 0 || r.type(x).shape != r.type(s.x).shape) return s;
    s = {x, quotient ? s.scale / *scalar : s.scale * *scalar};
  }
}

bool transposes(const Node& matmul, const char* flag) { return matmul.attributes.at(flag).get<bool>(); }

/// softmax along the last dimension whose result only `reader` sees, which may pass through where(is_nan(p), 0, p).
const Node* weights(const Rewriter& r, int id) {
  if (!r.used_once(id)) return nullptr;
  int uses = 1;
  if (const Node* where = r.producer(id, "where")) {
    const Node* is_nan = r.producer(where->inputs[0], "is_nan");
    if (is_nan == nullptr || !r.used_once(where->inputs[0]) || is_nan->inputs[0] != where->inputs[2] ||
        r.scalar(where->inputs[1]) != 0.0)
      return nullptr;
    id = where->inputs[2];
    uses = 2;
  }
  const Node* softmax = r.producer(id, "softmax");
  if (softmax == nullptr || r.uses(id) != uses || softmax->attributes.at("log").get<bool>()) return nullptr;
  const int axis = softmax->attributes.at("axis").get<int>();
  return axis == -1 || axis == r.type(id).rank() - 1 ? softmax : nullptr;
}

/// What the softmax reads: scale * product + mask.
struct Logits {
  const Node* product = nullptr;
  double scale = 1;
  int mask = -1;       ///< added to the scores
  int condition = -1;  ///< or: a logit is `masked` where this is `masked_where`
  bool masked_where = false;
  double masked = 0;
};

/// A number so low that a float of a logit's size is lost in a sum with it.
bool is_minus_infinity(const std::optional<double>& x) { return x && *x <= -1e9; }

std::optional<Logits> logits(const Rewriter& r, int id) {
  Logits found;
  const auto take = [&](int x) {
    if (!r.used_once(x)) return false;
    const Scaled scaled = without_scales(r, {x, 1});
    const Node* product = r.producer(scaled.x, "matmul");
    if (product == nullptr || transposes(*product, "transpose_a")) return false;
    // All that lies between has one reader each, or it would be computed twice.
    for (int at = x; at != scaled.x;) {
      const Node* node = r.producer(at);
      at = r.scalar(node->inputs[0]) && node->op->name() == "mul" ? node->inputs[1] : node->inputs[0];
      if (!r.used_once(at)) return false;
    }
    found.product = product;
    found.scale = scaled.scale;
    return true;
  };
  const std::vector<Extent>& shape = r.type(id).shape;
  if (take(id)) return found;
  if (!r.used_once(id)) return std::nullopt;
  if (const Node* sum = r.producer(id, "add"))
    for (const std::size_t i : {std::size_t(0), std::size_t(1)})
      if (r.type(sum->inputs[i]).shape == shape && take(sum->inputs[i])) {
        found.mask = sum->inputs[1 - i];
        return found;
      }
  if (const Node* where = r.producer(id, "where"))
    for (const std::size_t i : {std::size_t(1), std::size_t(2)})
      if (r.type(where->inputs[i]).shape == shape && is_minus_infinity(r.scalar(where->inputs[3 - i])) &&
          take(where->inputs[i])) {
        found.condition = where->inputs[0];
        found.masked_where = i == 2;
        found.masked = *r.scalar(where->inputs[3 - i]);
        return found;
      }
  return std::nullopt;
}

class Fuser {
 public:
  Fuser(Rewriter& r, const Operators& operators, const Node& node) : r_(r), operators_(operators), node_(node) {}

  std::optional<int> run() {
    const std::vector<int> in = r_.operands(node_);
    if (node_.op->name() != "matmul" || in.size() != 2 || transposes(node_, "transpose_a") ||
        transposes(node_, "transpose_b"))
      return std::nullopt;
    const Node* softmax = weights(r_, in[0]);
    if (softmax == nullptr) return std::nullopt;
    const auto found = logits(r_, softmax->inputs[0]);
    if (!found || found->product->inputs.size() != 2) return std::nullopt;
    const bool keys_in_rows = transposes(*found->product, "transpose_b");
    const Scaled q = without_scales(r_, {found->product->inputs[0], found->scale});
    const Scaled k = without_scales(r_, {found->product->inputs[1], q.scale});
    const int v = in[1];
    if (!fits(q.x, k.x, v, keys_in_rows) || !std::isfinite(k.scale) || k.scale == 0) return std::nullopt;
    const Logits parts = *found;  // adding nodes moves what it points to
    const int rank = r_.type(q.x).rank();

    std::vector<int> operands = {q.x, keys_in_rows ? k.x : rows_of(k.x), v};
    if (parts.mask >= 0) operands.push_back(parts.mask);
    if (parts.condition >= 0) operands.push_back(mask_of(parts));
    if (rank == 4) return add("attention", {{"scale", k.scale}}, operands);
    for (std::size_t i = 0; i < 3; ++i)
      operands[i] = add("reshape", {{"shape", in_rank_4(operands[i])}}, {operands[i]});
    const int result = add("attention", {{"scale", k.scale}}, operands);
    return add("reshape", {{"shape", shape_of(node_.outputs[0])}}, {result});
  }

 private:
  int add(std::string_view op, const Json& attributes, std::vector<int> inputs) {
    return r_.add(operators_.get(op), attributes, std::move(inputs), node_.name);
  }

  /// Ranks 3 and 4 of fixed depth, nothing broadcast.
  bool fits(int q, int k, int v, bool keys_in_rows) const {
    const TensorType &qt = r_.type(q), &kt = r_.type(k), &vt = r_.type(v);
    const int rank = qt.rank();
    if ((rank != 3 && rank != 4) || kt.rank() != rank || vt.rank() != rank) return false;
    if (qt.dtype != DType::f32 || kt.dtype != DType::f32 || vt.dtype != DType::f32) return false;
    const auto last = static_cast<std::size_t>(rank - 1);
    for (std::size_t d = 0; d + 1 < last; ++d)
      if (qt.shape[d] != kt.shape[d] || qt.shape[d] != vt.shape[d]) return false;
    const Extent& keys = kt.shape[keys_in_rows ? last - 1 : last];
    return qt.shape[last].is_constant() && vt.shape[last].is_constant() && vt.shape[last - 1] == keys;
  }

  Json shape_of(int id) const {
    Json shape = Json::array();
    for (const Extent& extent : r_.type(id).shape) shape.push_back(extent);
    return shape;
  }

  Json in_rank_4(int id) const {
    Json shape = shape_of(id);
    shape.insert(shape.begin(), Json(Extent(1)));
    return shape;
  }

  /// Whether a node swaps the last two dimensions and leaves the others where they are.
  static bool swaps_last(const Node& transpose, int rank) {
    auto perm = transpose.attributes.at("perm").get<std::vector<std::int64_t>>();
    std::vector<std::int64_t> swapped(static_cast<std::size_t>(rank));
    std::iota(swapped.begin(), swapped.end(), 0);
    if (rank < 2 || perm.size() != swapped.size()) return false;
    std::swap(swapped[swapped.size() - 1], swapped[swapped.size() - 2]);
    return perm == swapped;
  }

  /// What a transposed operand was made of, with or without heads and batch merged on the way; else its transpose.
  int rows_of(int transposed) {
    const TensorType& type = r_.type(transposed);
    const int rank = type.rank();
    std::vector<Extent> shape = type.shape;
    std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
    if (const Node* direct = r_.producer(transposed, "transpose"); direct != nullptr && swaps_last(*direct, rank))
      return direct->inputs[0];
    if (const Node* split = r_.producer(transposed, "reshape")) {
      const Node* swap = r_.producer(split->inputs[0], "transpose");
      const Node* merge = swap != nullptr ? r_.producer(swap->inputs[0], "reshape") : nullptr;
      if (merge != nullptr && r_.type(merge->inputs[0]).shape == shape) {
        const auto& merged = r_.type(swap->inputs[0]).shape;
        if (swaps_last(*swap, static_cast<int>(merged.size())) &&
            merged[merged.size() - 1] == shape[shape.size() - 1] &&
            merged[merged.size() - 2] == shape[shape.size() - 2])
          return merge->inputs[0];
      }
    }
    Json perm = Json::array();
    for (int d = 0; d + 2 < rank; ++d) perm.push_back(d);
    perm.push_back(rank - 1);
    perm.push_back(rank - 2);
    return add("transpose", {{"perm", perm}}, {transposed});
  }

  /// 0 where a logit stays, the low number where it does not.
  int mask_of(const Logits& parts) {
    const auto scalar = [&](double value) {
      Array array(DType::f32, {});
      array.set(0, value);
      return array;
    };
    const double yes = parts.masked_where ? parts.masked : 0, no = parts.masked_where ? 0 : parts.masked;
    if (const auto& condition = r_.constant(parts.condition)) {
      Array mask(DType::f32, condition->shape());
      for (std::int64_t i = 0; i < mask.size(); ++i) mask.set(i, condition->at(i) != 0 ? yes : no);
      return r_.add_constant(std::move(mask), node_.name + "~mask");
    }
    const int kept = r_.add_constant(scalar(yes), node_.name + "~yes");
    const int other = r_.add_constant(scalar(no), node_.name + "~no");
    return add("where", Json::object(), {parts.condition, kept, other});
  }

  Rewriter& r_;
  const Operators& operators_;
  const Node& node_;
};

}  // namespace

/// Before: y = matmul(softmax(scale * matmul(q, transpose(k)) + mask), v). After: y = attention(q, k, v, mask).
///
/// The scale may stand at q, at k, at the scores or in several of these places. Instead of a mask that is added there
/// may be where(condition, scores, -inf) in either order; where(is_nan(p), 0, p) after the softmax is what attention
/// does by itself with rows that see nothing. (Where the model has no such step those rows were NaN and become zeros.)
Graph fuse_attention(const Graph& graph) {
  const Operators operators;
  return rewrite_nodes(graph, [&](Rewriter& r, const Node& node) { return Fuser(r, operators, node).run(); });
}

}  // namespace heddle::graph
