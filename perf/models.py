"""Whole models beside onnxruntime, OpenVINO and ncnn, in turns within one run: a table, a plot and all figures in perf/results.

usage: models.py [--models resnet50 ...] [--threads 1 2] [--precision bf16] [--rounds 5] [--seconds 1] [--peers onnxruntime ...]
                 [--continue] [--output perf/results/models]

A round times ours, in a process of its own, and then each peer; what is told is the median over rounds of a round's median,
p10 and p90. Results are compared with onnxruntime's in f32. A model's limit is the larger of its arithmetic at the FMA peak, 3x3
convolutions of stride 1 counted at 2.8 times the peak, products of bytes and of bf16 at theirs, and its weights at the speed at
which memory is read.

With --precision bf16 ours is compiled so and OpenVINO told so; the other peers have no bf16 and are left out.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/models"), str(ROOT / "perf/peers")]
from models import HEDDLE, MODELS, graph_inputs, random_inputs, reference  # noqa: E402
from client import GRAPH_PEERS, PEERS_OF, TOLERANCE, Peer, PeerError, load_peers, off_by, require_peers  # noqa: E402
from measuring import RESULTS, about, bar, geometric_mean, keep_rows, markdown_table, on_threads, rate, spread, timing_lock, in_words, write_results  # noqa: E402
from model_limits import Peaks, count  # noqa: E402
from plot import draw  # noqa: E402

EXTENTS = {"ocr_det": {"x": (1, 3, 640, 640)}}  # where tests run a smaller input than people do


def heddle(*words, cpus=None):
    pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    done = subprocess.run([HEDDLE, *map(str, words)], capture_output=True, text=True, preexec_fn=pin)
    # A share of the peak above 1 is possible with Winograd.
    if done.returncode != 0 and "invalid run" not in done.stderr:
        raise RuntimeError(f"heddle {' '.join(map(str, words))}: {done.stderr.strip()[-400:]}")
    return done.stdout


def fixed_dims(model, inputs):
    """--dim words that give symbolic extents the inputs'."""
    words = []
    for value in graph_inputs(model):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                words += ["--dim", f"{value.name}:{axis}={inputs[value.name].shape[axis]}"]
    return words


def prepare(name, precision, scratch):
    """The model's work, and what ours and peers are told of it."""
    entry = MODELS[name]
    if name in EXTENTS:
        entry.shapes = {key: [extents] for key, extents in EXTENTS[name].items()}
    model = entry.load()
    inputs = random_inputs(entry, model)
    numpy.savez(scratch / "inputs.npz", **inputs)
    measured = lambda: {key: list(array.shape) for key, array in reference(model, inputs, True).items()}  # noqa: E731
    work = count(model, {key: list(array.shape) for key, array in inputs.items()}, measured, precision)
    outputs = [o.name for o in model.graph.output]
    told = {"path": str(entry.path), "dims": fixed_dims(model, inputs), "work": work, "outputs": outputs, "wanted": None}
    if precision != "f32":  # no peer's results are what is wanted
        exact = reference(model, inputs, False)
        told["wanted"] = {f"arr_{i}": exact[output] for i, output in enumerate(outputs)}
    return {**told, "subject": {"models": [str(entry.path)], "inputs": str(scratch / "inputs.npz")}}


def off_by_ours(package, told, scratch, wanted):
    """The largest difference of ours, relative to the largest of what onnxruntime gives."""
    folder = scratch / "outputs"
    heddle("run", package, "--input", scratch / "inputs.npz", "--output", folder)
    arrays = [numpy.load(folder / f"{output.replace('/', '_')}.npy") for output in told["outputs"]]
    numpy.savez(scratch / "heddle.npz", *arrays)
    return off_by(scratch / "heddle.npz", wanted)


def over_rounds(rounds):
    return {key: statistics.median(r[key] for r in rounds) for key in ("median_ms", "p10_ms", "p90_ms")}


def measure(name, told, threads, peers, arguments, scratch):
    row = {"model": name, "threads": threads}
    package = scratch / f"{name}-{threads}"
    start = time.perf_counter()
    heddle("compile", told["path"], "-o", package, "--threads", threads, "--precision", arguments.precision, *told["dims"])
    row["compile_s"] = time.perf_counter() - start
    loaded, fails, wanted = load_peers(peers, told["subject"], scratch, arguments.limit, told["wanted"])
    ready = list(loaded)
    if wanted is not None:
        row["off_by"] = off_by_ours(package, told, scratch, wanted)
    reports, rounds = [], {peer.name: [] for peer in ready}
    for _ in range(arguments.rounds):
        with timing_lock():
            words = ["bench", package, "--input", scratch / "inputs.npz", "--threads", threads, "--seconds", arguments.seconds, "--json"]
            reports.append(json.loads(heddle(*words, cpus=peers[0].cpus if peers else None)))
            for peer in list(ready):
                try:
                    rounds[peer.name].append(spread(peer.turn(arguments.seconds)))
                except PeerError as error:
                    ready.remove(peer)
                    fails[peer.name] = {"fails": str(error)}
    row.update(over_rounds(reports))
    row["peers"] = {**fails, **{peer.name: {**over_rounds(rounds[peer.name]), "off_by": loaded[peer],
                                                     "rounds_ms": [r["median_ms"] for r in rounds[peer.name]]} for peer in ready}}
    row["rounds_ms"] = [r["median_ms"] for r in reports]
    # Measured before and after each of ours.
    peak, byte_peak, half_peak, read = (max(r[key] for r in reports) for key in ("peak_gflops", "peak_byte_gops", "peak_half_gflops", "peak_read_gbs"))
    work = told["work"]
    row.update({"flops": work.flops, "winograd_flops": work.winograd_flops, "weight_bytes": work.weight_bytes, "peak_gflops": peak, "peak_byte_gops": byte_peak,
                "peak_half_gflops": half_peak, "read_gbs": read, "limit_ms": work.limit_seconds(Peaks(peak, byte_peak, half_peak), read) * 1e3})
    rate(row)
    return row


def cell(entry, tolerance):
    """A star where a peer computes something else: its time still counts, since little of a model explains such a difference."""
    if "median_ms" not in entry:
        return "fails" if entry else "-"
    return f"{entry['median_ms']:.2f}" + ("" if entry["off_by"] <= tolerance else "*")


def off_by_cell(entry):
    return f"{entry['off_by']:.1e}" if "off_by" in entry else "-"


def summary(rows):
    shares, ratios = [r["share_of_limit"] for r in rows], [r["ratio"] for r in rows if "ratio" in r]
    lines = [f"- share of the limit: {100 * geometric_mean(shares):.0f} % in the geometric mean of {len(shares)} models, {100 * min(shares):.0f} % at worst"]
    if ratios:
        lines.append(f"- best peer's time over ours: {geometric_mean(ratios):.2f} in the geometric mean, {min(ratios):.2f} at worst")
    return lines


def table(document):
    peers, precision = document["peers"], document["precision"]
    tolerance = TOLERANCE[precision]
    narrow = precision != "f32"
    multiples = "3x3 convolutions of stride 1 at 2.8 times the peak" + (f", products of bytes and other ones of {precision} at theirs" if narrow else ", products of bytes at theirs")
    lines = ["# Models beside peers", "", f"{document['date']}, {document['processor']}, {document['cores']} cores; `{document['command']}`.",
             "Peers: " + ", ".join(f"{name} {version}" for name, version in peers.items()) + f"; all in {precision}."
             + (" The other peers compute in f32 alone." if narrow else ""), "",
             f"Medians over {document['rounds']} interleaved rounds, ms (p10 and p90 are in the JSON). Limit: the larger of arithmetic at the peak of FMAs,",
             f"{multiples}, and weights at the speed at which memory is read.",
             "Off by: the largest difference from onnxruntime's output in f32, relative to the largest output.", ""]
    for threads in sorted({r["threads"] for r in document["rows"]}):
        mine = [r for r in document["rows"] if r["threads"] == threads]
        done = [r for r in mine if "failed" not in r]
        lines += [f"## {on_threads(threads)}", ""]
        if done:
            names = {"peak_gflops": "FMA peak {:.1f} GFLOP/s", "peak_byte_gops": "products of bytes {:.0f}", "peak_half_gflops": "of bf16 {:.0f}", "read_gbs": "reading {:.1f} GB/s"}
            known = {key: [r[key] for r in done if key in r] for key in names}  # rows of older results have no peaks but FMAs'
            lines += [", ".join(names[key].format(statistics.median(values)) for key, values in known.items() if values) + ".", ""]
        header = ["model", "GFLOP", "3x3 part", "weights, MB", "limit", "heddle", "% of limit", *peers, "best peer / heddle", "off by", *([f"{p} off by" for p in peers] if narrow else []), "compile, s"]
        body = [[r["model"], f"{r['flops'] * 1e-9:.2f}", f"{r['winograd_flops'] * 1e-9:.2f}", f"{r['weight_bytes'] * 1e-6:.1f}", f"{r['limit_ms']:.2f}",
                 f"{r['median_ms']:.2f}", f"{100 * r['share_of_limit']:.0f}", *[cell(r["peers"].get(p, {}), tolerance) for p in peers],
                 f"{r['ratio']:.2f}" if "ratio" in r else "-", off_by_cell(r), *([off_by_cell(r["peers"].get(p, {})) for p in peers] if narrow else []), f"{r['compile_s']:.1f}"] for r in done]
        body += [[r["model"], *[""] * 4, "fails", *[""] * (len(header) - 6)] for r in mine if "failed" in r]
        lines += [*markdown_table(header, body), "", *(summary(done) if done else []), ""]
    reasons = [f"- {r['model']}, {r['threads']} threads: {r['failed']}" for r in document["rows"] if "failed" in r]
    reasons += list(dict.fromkeys(f"- {r['model']}, {peer}: {entry['fails'][:200]}" for r in document["rows"] for peer, entry in r.get("peers", {}).items() if "fails" in entry))
    starred = list(dict.fromkeys(f"- {r['model']}, {peer}: off by {entry['off_by']:.2g} of the largest" for r in document["rows"]
                                 for peer, entry in r.get("peers", {}).items() if not entry.get("off_by", 0) <= tolerance))
    if starred:
        lines += ["With another result than onnxruntime's (*):", "", *starred, ""]
    if reasons:
        lines += ["Without a result:", "", *reasons, ""]
    return lines


def bars(document):
    groups = {}
    for r in document["rows"]:
        if "failed" not in r:
            groups.setdefault(on_threads(r["threads"]), []).append(bar(r["model"], r))
    return {"title": f"Models on {document['processor']}, {document['date']}", "label": "% of the limit", "groups": groups}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--precision", default="f32", choices=list(PEERS_OF), help="of data between kernels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn of each")
    parser.add_argument("--limit", type=float, default=300, help="seconds in which a peer loads a model")
    parser.add_argument("--peers", nargs="*", choices=GRAPH_PEERS, help="default: those that have the precision")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="keep the output's rows; measure those that are missing")
    parser.add_argument("--output", type=pathlib.Path, help="default: perf/results/models, or models-bf16")
    arguments = parser.parse_args()
    known_peers = PEERS_OF[arguments.precision]
    arguments.peers = known_peers if arguments.peers is None else arguments.peers
    if others := [peer for peer in arguments.peers if peer not in known_peers]:
        parser.error(f"{', '.join(others)}: no {arguments.precision} there; only {', '.join(known_peers)}")
    arguments.output = arguments.output or RESULTS / ("models" if arguments.precision == "f32" else f"models-{arguments.precision}")
    if arguments.peers:
        require_peers()
    document = about("models.py", sys.argv[1:], rounds=arguments.rounds, precision=arguments.precision, peers={name: "" for name in arguments.peers}, rows=[])
    keep_rows(document, arguments, parser, ("processor", "precision"))
    known = {(r["model"], r["threads"]) for r in document["rows"]}
    groups = {threads: [Peer(name, threads, sorted(os.sched_getaffinity(0))[-threads:], arguments.precision) for name in arguments.peers] for threads in arguments.threads}
    try:
        for name in arguments.models:
            with tempfile.TemporaryDirectory() as folder:
                scratch, told = pathlib.Path(folder), None
                for threads, peers in groups.items():
                    if (name, threads) in known:
                        continue
                    try:
                        told = told or prepare(name, arguments.precision, scratch)
                        row = measure(name, told, threads, peers, arguments, scratch)
                        print(f"{name}, {threads} threads: {row['median_ms']:.2f} ms, {in_words(row)}", flush=True)
                    except (RuntimeError, ValueError) as error:
                        row = {"model": name, "threads": threads, "failed": " ".join(str(error).split())}
                        print(f"{name}, {threads} threads: {error}", file=sys.stderr, flush=True)
                    document["rows"].append(row)
                    document["peers"].update({peer.name: peer.version for peer in peers if peer.version})
                    write_results(arguments.output, document, table(document))  # what is measured so far survives the end of this process
    finally:
        for peers in groups.values():
            for peer in peers:
                peer.close()
    if any("failed" not in r for r in document["rows"]) and arguments.peers:
        draw(bars(document), arguments.output.with_suffix(".svg"))
    return 1 if any("failed" in r for r in document["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
