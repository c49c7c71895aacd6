#include <cmath>

#include "perf/apps/app.hpp"

namespace heddle::perf {

/// `head_size` numbers a token and head, for as many tokens of queries as of keys.
AppPipeline make_attention(int head_size, int tokens) {
  using namespace Halide;
  constexpr int heads = 12;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_size)));
  Var d("d"), j("j"), i("i"), h("h");
  ImageParam q(Float(32), 3, "q"), k(Float(32), 3, "k"), v(Float(32), 3, "v");

  // The algorithm: i numbers queries, j keys.
  Func score("score"), largest("largest"), power("power"), sum("sum"), mixed("mixed"), out("out");
  RDom rd(0, head_size, "rd"), rj(0, tokens, "rj"), rm(0, tokens, "rm"), rs(0, tokens, "rs");
  score(j, i, h) = 0.0f;
  score(j, i, h) += q(rd, i, h) * k(rd, j, h);
  largest(i, h) = Float(32).min();
  largest(i, h) = max(largest(i, h), score(rm, i, h));
  power(j, i, h) = fast_exp((score(j, i, h) - largest(i, h)) * scale);
  sum(i, h) = 0.0f;
  sum(i, h) += power(rs, i, h);
  mixed(d, i, h) = 0.0f;
  mixed(d, i, h) += power(rj, i, h) * v(d, rj, h);
  out(d, i, h) = mixed(d, i, h) / sum(i, h);

  const auto hand = [=](const Machine& machine, int threads) mutable {
    (void)threads;  // a head has as many tasks as blocks of queries
    const int lanes = machine.lanes(4), rows = 4, columns = 2 * lanes, block = std::min(32, tokens);
    Var io("io"), ii("ii"), it("it"), ir("ir"), dt("dt"), dr("dr"), jt("jt"), jr("jr"), l("l"), task("task");
    RVar ro("ro"), ri("ri");
    // Keys lie with their elements together; products of several keys at once want them side by side.
    Func turned = k.in();
    turned.reorder_storage(Var::implicit(1), Var::implicit(0), Var::implicit(2)).compute_at(out, h);
    turned.vectorize(Var::implicit(1), lanes).unroll(Var::implicit(0), 4);
    out.split(i, io, ii, block).split(ii, it, ir, rows).split(d, dt, dr, columns);
    out.reorder(dr, ir, dt, it, io, h).parallel(h).vectorize(dr, lanes).unroll(dr).unroll(ir);
    score.compute_at(out, io).vectorize(j, lanes);
    score.update().split(j, jt, jr, columns).split(i, it, ir, rows).reorder(jr, ir, rd, jt, it);
    score.update().vectorize(jr, lanes).unroll(jr).unroll(ir);
    power.compute_at(out, io).vectorize(j, lanes);
    largest.compute_at(out, io);
    sum.compute_at(out, io);
    for (auto [stage, r] : {std::pair{&largest, rm}, std::pair{&sum, rs}}) {
      Func lanewise = stage->update().split(r, ro, ri, lanes).rfactor(ri, l);
      lanewise.compute_at(*stage, i).vectorize(l, lanes).update().vectorize(l, lanes);
      stage->update().atomic().vectorize(ri, lanes);
    }
    mixed.compute_at(out, dt).vectorize(d, lanes).unroll(d).unroll(i);
    mixed.update().reorder(d, i, rj).vectorize(d, lanes).unroll(d).unroll(i);
  };
  const std::vector<int> shape = {head_size, tokens, heads};
  return {{q, k, v}, {shape, shape, shape}, {score, largest, power, sum, mixed, out}, shape, hand};
}

}  // namespace heddle::perf
