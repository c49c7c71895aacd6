"""Whole models beside onnxruntime, in turns within one run. Writes a table and the samples to perf/results.

usage: models.py [--models resnet50 ...] [--threads 1 2] [--rounds 5] [--output perf/results/models]
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/models"))
from models import HEDDLE, MODELS, random_inputs  # noqa: E402


def time_onnxruntime(session, inputs, seconds):
    session.run(None, inputs)
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 10:
        start = time.perf_counter()
        session.run(None, inputs)
        samples.append(time.perf_counter() - start)
    return samples


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def measure(name, threads, rounds, seconds, scratch):
    entry = MODELS[name]
    model = onnx.load(entry.path)
    inputs = random_inputs(entry, model)
    numpy.savez(scratch / "inputs.npz", **inputs)
    package = scratch / f"{name}-{threads}"
    dims = [word for dim in entry.dims for word in ("--dim", dim)]
    start = time.perf_counter()
    subprocess.run([HEDDLE, "compile", entry.path, "-o", package, "--threads", str(threads), *dims], check=True, capture_output=True)
    compiled = time.perf_counter() - start
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(entry.path), options, providers=["CPUExecutionProvider"])
    ours, theirs, shares = [], [], []
    for _ in range(rounds):
        theirs.append(statistics.median(time_onnxruntime(session, inputs, seconds)))
        done = subprocess.run([HEDDLE, "bench", package, "--input", scratch / "inputs.npz", "--threads", str(threads), "--seconds", str(seconds), "--json"],
                              capture_output=True, text=True)
        report = json.loads(done.stdout)
        ours.append(report["median_ms"] / 1e3)
        shares.append(report["share_of_peak"])
    return {"model": name, "threads": threads, "heddle_ms": statistics.median(ours) * 1e3, "onnxruntime_ms": statistics.median(theirs) * 1e3,
            "ratio": statistics.median(theirs) / statistics.median(ours), "share_of_peak": statistics.median(shares), "compile_s": compiled,
            "heddle_rounds_ms": [t * 1e3 for t in ours], "onnxruntime_rounds_ms": [t * 1e3 for t in theirs]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["resnet50", "mobilenet_v2", "bert_base_s128"], choices=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "perf/results/models")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.models:
            for threads in arguments.threads:
                rows.append(measure(name, threads, arguments.rounds, arguments.seconds, pathlib.Path(scratch)))
                r = rows[-1]
                print(f"{name:20} {threads} threads  heddle {r['heddle_ms']:8.2f} ms  onnxruntime {r['onnxruntime_ms']:8.2f} ms  "
                      f"{r['ratio']:.2f}x  {100 * r['share_of_peak']:.0f} % of peak", flush=True)
    command = "perf/models.py " + " ".join(sys.argv[1:])
    about = {"command": command.strip(), "processor": processor(), "cores": os.cpu_count(), "onnxruntime": onnxruntime.__version__,
             "date": time.strftime("%Y-%m-%d"), "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    table = [f"# Models beside onnxruntime {onnxruntime.__version__}", "",
             f"{about['date']}, {about['processor']}, {about['cores']} cores; `{about['command']}`; medians of {arguments.rounds} interleaved rounds.", "",
             "| model | threads | heddle, ms | onnxruntime, ms | onnxruntime / heddle | share of FMA peak |", "|---|---|---|---|---|---|"]
    table += [f"| {r['model']} | {r['threads']} | {r['heddle_ms']:.2f} | {r['onnxruntime_ms']:.2f} | {r['ratio']:.2f} | {100 * r['share_of_peak']:.0f} % |" for r in rows]
    arguments.output.with_suffix(".md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
