"""Kernels beside peers, in turns within one run: a table, a plot and all figures in perf/results.

usage: kernels.py [--list perf/shapes/resnet50.txt ...] [--threads 1 2] [--rounds 5] [--seconds 0.2] [--peers onnxruntime ...]
                  [--match regex] [--continue] [--output perf/results/kernels]

A round times ours and then each peer; medians, p10 and p90 are over the samples of all rounds. Ours is checked against the
reference first, and a peer's result against onnxruntime's, which computes bf16 and bytes in f32. The limit is what
perf/kernels.cpp says: operations at the peak of such products or bytes at the bandwidth of as many bytes, both measured before
and after. A peer that cannot fails with a reason; one without the line's type is not asked.
"""
import argparse
import itertools
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "peers"))
from client import KERNEL_PEERS, KERNEL_TOLERANCE, OPERATORS, TYPES, Peer, PeerError, load_peers, require_peers  # noqa: E402
from measuring import RESULTS, ROOT, SHAPES, about, bar, geometric_mean, keep_rows, markdown_table, on_threads, rate, read_shapes, spread, timing_lock, in_words, write_results  # noqa: E402
from onnx_models import expected, kernel_models, random_inputs  # noqa: E402
from plot import draw  # noqa: E402

PROGRAM = ROOT / "build/release/bin/perf_heddle"
LISTS = [SHAPES / f"{name}.txt" for name in ("resnet50", "mobilenet_v2", "mobilenet_v3", "efficientnet_b0", "bert", "vit", "gpt2", "llama", "deepbench", "int8", "bf16",
                                               "block_weights")]


class Ours:
    """A kernel of Heddle's in a process of its own."""

    def __init__(self, kernel, threads, seconds):
        words = [PROGRAM, "--kernel", str(kernel), "--threads", str(threads), "--seconds", str(seconds)]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.cpus = self.answer()["cpus"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise RuntimeError(self.log.read().strip()[-600:] or f"perf_heddle ended with status {self.process.returncode}")
        return json.loads(line)

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.answer()

    def report(self):
        self.process.stdin.close()
        return self.answer()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def subject_of(kernel, scratch):
    """What peers are told of a kernel: its models, and inputs for all of them; and what they are to compute, if not what the first does."""
    models = kernel_models(kernel.op, kernel.shape, kernel.attributes)
    paths = []
    for i, model in enumerate(models):
        paths.append(str(scratch / f"kernel{i}.onnx"))
        onnx.save(model, paths[-1])
    inputs = random_inputs(models[-1])
    numpy.savez(scratch / "inputs.npz", **inputs)
    subject = {"models": paths, "inputs": str(scratch / "inputs.npz"), "kernel": list(kernel[:3])}
    return subject, None if kernel.type == "f32" else expected(models[-1], inputs)


def measure(kernel, threads, peers, arguments, scratch):
    row = {"kernel": str(kernel), "count": kernel.count, "threads": threads, "peers": {}}
    subject, wanted = subject_of(kernel, scratch)
    tolerance = KERNEL_TOLERANCE[kernel.type]
    peers = [peer for peer in peers if kernel.op in OPERATORS.get(peer.name, [kernel.op])]
    with timing_lock():  # the limits are measured at its start
        ours = Ours(kernel, threads, arguments.seconds)
    try:
        for peer in peers:
            if peer.cpus != ours.cpus:
                peer.close()
                peer.cpus = ours.cpus
        loaded, row["peers"], _ = load_peers(peers, subject, scratch, arguments.limit, wanted)
        row["peers"].update({peer.name: {"fails": f"its output differs by {off:.2g} of the largest"} for peer, off in loaded.items() if not off <= tolerance})
        ready = [peer for peer, off in loaded.items() if off <= tolerance]
        samples = {peer.name: [] for peer in ready}
        for _ in range(arguments.rounds):
            with timing_lock():
                ours.ask("turn")
                for peer in list(ready):
                    try:
                        samples[peer.name] += peer.turn(arguments.seconds)
                    except PeerError as error:
                        ready.remove(peer)
                        row["peers"][peer.name] = {"fails": str(error)}
        with timing_lock():
            ours.ask("limits")
            row.update(ours.report())
    finally:
        ours.close()
    row["peers"].update({peer.name: spread(samples[peer.name]) for peer in ready})
    rate(row)
    return row


def summary(rows):
    """Geometric means, every kernel counted once."""
    shares = [r["share_of_limit"] for r in rows if "share_of_limit" in r]
    ratios = [r["ratio"] for r in rows if "ratio" in r]
    lines = []
    if shares:
        lines.append(f"- share of the limit: {100 * geometric_mean(shares):.0f} % in the geometric mean of {len(shares)} kernels, {100 * min(shares):.0f} % at worst")
    if ratios:
        slower = sum(r < 1 for r in ratios)
        lines.append(f"- best peer's time over ours: {geometric_mean(ratios):.2f} in the geometric mean, {min(ratios):.2f} at worst; {slower} of {len(ratios)} kernels slower than the best peer")
    return lines


def weighted(rows):
    """Milliseconds of all the kernels of a list, each as often as its network has it: ours, and the best peer's of each."""
    timed = [r for r in rows if "ratio" in r]
    return sum(r["count"] * r["median_ms"] for r in timed), sum(r["count"] * r["median_ms"] * r["ratio"] for r in timed)


def cell(entry):
    return f"{entry['median_ms']:.4f}" if "median_ms" in entry else "fails" if entry else "-"


def table(document):
    peers = document["peers"]
    lines = ["# Kernels beside peers", "", f"{document['date']}, {document['processor']}, {document['cores']} cores; `{document['command']}`.",
             "Peers: " + ", ".join(f"{name} {version}" for name, version in peers.items()) + ".", "",
             f"Medians of {document['rounds']} interleaved rounds, ms; p10 and p90 are in the JSON. f32 where a line names no type; peers without it have a -. Ours, oneDNN's",
             "and constants are in the layouts that each likes, arranged outside of the timing; onnxruntime, OpenVINO and ncnn run a model of the one operator,",
             "rearranging of its input and output included; OpenBLAS packs within the call. int8: u8 times i8, a scale a channel, rounded to u8. Limit: operations",
             "at the peak of such products (of f32, FMAs), or bytes at the bandwidth of as many bytes; Winograd may pass it.", ""]
    for source in dict.fromkeys(r["list"] for r in document["rows"]):
        for threads in sorted({r["threads"] for r in document["rows"]}):
            rows = [r for r in document["rows"] if (r["list"], r["threads"]) == (source, threads)]
            if not rows:
                continue
            lines += [f"## {source}, {on_threads(threads)}", ""]
            header = ["kernel", "times", "heddle", "GFLOP/s", "% of limit", *peers, "best peer / heddle", "schedule"]
            body = []
            for r in rows:
                if "failed" in r:
                    body.append([r["kernel"], r["count"], "fails", "", "", *[""] * len(peers), "", ""])
                    continue
                body.append([r["kernel"], r["count"], f"{r['median_ms']:.4f}", f"{r['flops'] / r['median_ms'] * 1e-6:.1f}", f"{100 * r['share_of_limit']:.0f}",
                             *[cell(r["peers"].get(p, {})) for p in peers], f"{r['ratio']:.2f}" if "ratio" in r else "-",
                             r["schedule"] + ("" if r["checked"] else " (not checked)")])
            ours, theirs = weighted(rows)
            lines += [*markdown_table(header, body), "", *summary(rows)]
            if theirs:
                lines.append(f"- all of them as often as listed: {ours:.2f} ms, with the best peer of each {theirs:.2f} ms")
            lines.append("")
    failed = [f"- {r['kernel']}, {r['threads']} threads: {r['failed']}" for r in document["rows"] if "failed" in r]
    if failed:
        lines += ["Ours fails:", "", *failed, ""]
    return lines


def bars(document):
    """What plot.draw draws: share of the limit, ours and the best peer's."""
    groups = {}
    for r in document["rows"]:
        if "failed" in r:
            continue
        name = f"{r['list']}, {on_threads(r['threads'])}"
        groups.setdefault(name, []).append(bar(r["kernel"], r))
    return {"title": f"Kernels on {document['processor']}, {document['date']}", "label": "% of the limit", "groups": groups}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=pathlib.Path, nargs="+", default=LISTS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn of each")
    parser.add_argument("--limit", type=float, default=60, help="seconds in which a peer loads a kernel")
    parser.add_argument("--peers", nargs="*", default=KERNEL_PEERS, choices=KERNEL_PEERS)
    parser.add_argument("--match", default=".", help="regular expression over the lists' lines")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="keep the output's rows; measure those that are missing")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "kernels")
    arguments = parser.parse_args()
    require_peers()
    document = about("kernels.py", sys.argv[1:], rounds=arguments.rounds, peers={name: "" for name in arguments.peers}, rows=[])
    keep_rows(document, arguments, parser)
    known = {(r["list"], r["kernel"], r["threads"]) for r in document["rows"]}
    for threads in arguments.threads:
        peers = {type: [Peer(name, threads, precision=type) for name in arguments.peers if type in TYPES[name]] for type in KERNEL_TOLERANCE}
        try:
            for path in arguments.list:
                for kernel in read_shapes(path):
                    if not re.search(arguments.match, str(kernel)) or (path.stem, str(kernel), threads) in known:
                        continue
                    with tempfile.TemporaryDirectory() as scratch:
                        try:
                            row = measure(kernel, threads, peers.get(kernel.type, []), arguments, pathlib.Path(scratch))
                            print(f"{kernel}, {threads} threads: {row['median_ms']:.4f} ms, {in_words(row)}", flush=True)
                        except RuntimeError as error:
                            row = {"kernel": str(kernel), "count": kernel.count, "threads": threads, "failed": " ".join(str(error).split())}
                            print(f"{kernel}, {threads} threads: {error}", file=sys.stderr, flush=True)
                    document["rows"].append({"list": path.stem, **row})
                    document["peers"].update({peer.name: peer.version for peer in peers.get(kernel.type, []) if peer.version})
                    write_results(arguments.output, document, table(document))  # what is measured so far survives the end of this process
        finally:
            for peer in itertools.chain(*peers.values()):
                peer.close()
    if document["rows"]:
        draw(bars(document), arguments.output.with_suffix(".svg"))
    return 1 if any("failed" in r for r in document["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
