"""Schedules found by search beside hand-written ones, Halide's four autoschedulers and onnxruntime, timed in turns.

usage: autoscheduler.py [--cases regex] [--threads 1 2] [--seeds 5] [--trials 0 16 64] [--families] [--continue]
                        [--output perf/results/autoscheduler]

A case's searches come first, without the hand-written families unless --families is given; their winners after each number
of trials are kept. Then one process times all of a case's schedules in turns, and onnxruntime's kernel between its turns.
What is measured is written after each case. Nothing else may run meanwhile.
"""
import argparse
import fcntl
import json
import math
import os
import pathlib
import re
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
from autoscheduler_cases import CASES  # noqa: E402
from models import HEDDLE  # noqa: E402

SCHEDULERS = pathlib.Path(HEDDLE).parent / "perf_schedulers"
HALIDE = ["Mullapudi2016", "Adams2019", "Li2018", "Anderson2021"]
PEER = "onnxruntime"
TURNS = 10
TIMING_LOCK = "/tmp/heddle-timing.lock"  # held by whoever times a kernel on this machine


def output_of(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    # A search that exceeds the peak measured beside it is kept: its schedules are timed again.
    if done.returncode != 0 and "invalid run" not in done.stderr:
        raise RuntimeError(f"{program} {' '.join(map(str, words))}: {done.stderr.strip()[-600:]}")
    return done.stdout


class Peer:
    """onnxruntime on a case's model, buffers placed beforehand."""

    def __init__(self, model, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        random = numpy.random.default_rng(0)
        self.binding = session.io_binding()
        for value in session.get_inputs():
            array = random.standard_normal(value.shape).astype(numpy.float32)
            self.binding.bind_ortvalue_input(value.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        session.run_with_iobinding(self._with_outputs(session))
        self.session = session
        self.samples = []

    def _with_outputs(self, session):
        names = [o.name for o in session.get_outputs()]
        values = session.run(names, {i.name: numpy.zeros(i.shape, numpy.float32) for i in session.get_inputs()})
        for name, value in zip(names, values):
            self.binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        return self.binding

    def turn(self, seconds):
        run = self.session.run_with_iobinding
        run(self.binding)
        end = time.perf_counter() + seconds
        while True:
            start = time.perf_counter()
            run(self.binding)
            now = time.perf_counter()
            self.samples.append(now - start)
            if now >= end:
                break
        time.sleep(0.02)  # its threads spin for a while


def what(case, threads, scratch):
    """How heddle tune and perf_schedulers are told of a case."""
    if case.app:
        pipeline = scratch / f"{case.app}.hlpipe"
        output_of(SCHEDULERS, "--app", case.app, "--write-pipeline", pipeline)
        return [pipeline], ["--app", case.app]
    if case.operator:
        op, shape, attribute = case.operator
        rest = ["--shape", shape, *(["--attribute", attribute] if attribute else [])]
        return [op, *rest], ["--operator", op, *rest]
    model, document = scratch / "group.onnx", scratch / "group.json"
    onnx.save(case.model(), model)
    output_of(SCHEDULERS, "--model", model, "--threads", threads, "--write-workload", document)
    return [document], ["--workload", document]


def search(case, tune, threads, seed, arguments, scratch):
    """Schedules by number of trials, and what the search took."""
    found, seconds, failures, total = {}, {}, 0, 0
    for trials in arguments.trials:
        file = scratch / f"seed{seed}-trials{trials}.sched"
        start = time.perf_counter()
        report = json.loads(output_of(HEDDLE, "tune", *tune, "--threads", threads, "--trials", trials, "--seed", seed, "--records",
                                      f"sqlite:{scratch}/tune.db", "--output", file, "--json", "--no-transfer",
                                      *([] if arguments.families else ["--no-families"])))
        total += time.perf_counter() - start
        found[trials], seconds[trials] = file, total
        failures = sum(t["status"] != "ok" for t in report["trials"])
    return found, seconds, failures


def compare(case, subject, found, threads, arguments, peer_model):
    words = [str(SCHEDULERS), *map(str, subject), "--threads", str(threads), "--seconds", str(arguments.seconds), "--limit", str(arguments.limit),
             "--turns-on-request", "--autoschedulers", *(arguments.halide or [""])]
    if found:
        words += ["--schedules", *(f"{name}={file}" for name, file in found.items())]
    mask = os.sched_getaffinity(0)
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        def answer():
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise RuntimeError(f"{' '.join(words)}: {log.read().strip()[-600:]}")
            return json.loads(line)

        cpus = answer()["cpus"]
        peer = None
        try:
            os.sched_setaffinity(0, cpus)
            if peer_model is not None:
                peer = Peer(peer_model.SerializeToString(), threads)
            for _ in range(TURNS):
                process.stdin.write("\n")
                process.stdin.flush()
                answer()
                if peer:
                    with open(TIMING_LOCK) as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX)
                        peer.turn(arguments.seconds / TURNS)
        finally:
            os.sched_setaffinity(0, mask)
        process.stdin.close()
        report = answer()
    if peer:
        report["contenders"].append({"name": PEER, "status": "ok", "median_ms": statistics.median(peer.samples) * 1e3, "samples": len(peer.samples)})
    return report


def measure(case, threads, arguments, scratch):
    tune, subject = what(case, threads, scratch)
    row = {"case": case.name, "family": case.family, "threads": threads, "search_s": {}, "failures": 0}
    found = {}
    for seed in range(1, arguments.seeds + 1):
        try:
            files, seconds, failures = search(case, tune, threads, seed, arguments, scratch)
        except RuntimeError as error:
            row["not_found"] = str(error)
            break
        found.update({f"{trials} trials, seed {seed}": file for trials, file in files.items()})
        row["failures"] += failures
        for trials, value in seconds.items():
            row["search_s"].setdefault(str(trials), []).append(value)
    report = compare(case, subject, found, threads, arguments, case.model() if case.model else None)
    row.update({key: report[key] for key in ("peak_gflops", "flops", "machine", "target")})
    row["ms"] = {c["name"]: c["median_ms"] for c in report["contenders"] if c["status"] == "ok"}
    row["without_result"] = {c["name"]: f"{c['status']}: {c['message']}" for c in report["contenders"] if c["status"] != "ok"}
    for name in row["without_result"]:
        if "seed" in name or name == "hand":
            print(f"{case.name}: {name}: {row['without_result'][name]}", file=sys.stderr, flush=True)
    # The median over seeds stands for a search.
    for trials in arguments.trials:
        times = [row["ms"][n] for n in found if n.startswith(f"{trials} trials,") and n in row["ms"]]
        if len(times) == arguments.seeds:
            row["ms"][f"{trials} trials"] = statistics.median(times)
    return row


def geometric_mean(values):
    return math.exp(statistics.mean(math.log(v) for v in values))


def best_known(row):
    """The fastest of all, any seed's winner included."""
    name = min(row["ms"], key=row["ms"].get)
    return name, row["ms"][name]


def summary(rows, columns):
    lines = []
    shares = {c: [(best_known(r)[1] / r["ms"][c], r["case"]) for r in rows if c in r["ms"]] for c in columns}
    cell = lambda values, f: f"{100 * f(values):.0f}" if values else "-"  # noqa: E731
    lines.append("| geometric mean | | |" + "".join(f" {cell([s for s, _ in shares[c]], geometric_mean)} |" for c in columns) + " |")
    lines.append("| worst | | |" + "".join(f" {cell([s for s, _ in shares[c]], min)} |" for c in columns) + " |")
    lines.append("| cases | | |" + "".join(f" {len(shares[c])} |" for c in columns) + " |")
    return lines


def against(rows, found, others):
    """How much faster a search is than others where both have a result."""
    lines = []
    for other in others:
        ratios = [(r["ms"][other] / r["ms"][found], r["case"]) for r in rows if other in r["ms"] and found in r["ms"]]
        if ratios:
            least, where = min(ratios)
            lines.append(f"- {found} against {other}: {geometric_mean([x for x, _ in ratios]):.2f} times as fast in the geometric mean of {len(ratios)} cases, "
                         f"at worst {least:.2f} ({where})")
    return lines


def table(about):
    rows, trials = about["rows"], about["trials"]
    columns = [*(f"{t} trials" for t in trials), "hand", PEER, *HALIDE[:3]]
    lines = [f"# Schedules found by search, {about['processor']}", "", f"`{about['command']}`, {about['date']}, {about['cores']} cores, "
             f"{rows[0]['machine'] if rows else ''}, onnxruntime {onnxruntime.__version__}, Halide 21." + (f" {about['note']}" if about["note"] else ""), "",
             f"Columns are % of the best known: the fastest of all that was timed for the case, in turns in one run. Found: the median of {about['seeds']} "
             f"seed{'s' if about['seeds'] > 1 else ''}, " + ("hand-written families included." if about["families"] else "without the hand-written families (`--no-families`)."),
             "Constants are packed outside of the timing for found and hand schedules; Halide's autoschedulers get the bare algorithm, in the same layout.",
             "onnxruntime runs the case as a model of its own, rearranging of its inputs and outputs included. Seconds are of one whole search of that",
             "many trials.", ""]
    for threads in sorted({r["threads"] for r in rows}):
        mine = [r for r in rows if r["threads"] == threads]
        lines += [f"## {threads} thread{'s' if threads > 1 else ''}", "",
                  "| case | best known, ms | by |" + "".join(f" {c} |" for c in columns) + f" s for {trials[-1]} trials |",
                  "|---|---|---|" + "---|" * len(columns) + "---|"]
        for family in dict.fromkeys(r["family"] for r in mine):
            for r in (r for r in mine if r["family"] == family):
                name, best = best_known(r)
                cells = "".join(f" {100 * best / r['ms'][c]:.0f} |" if c in r["ms"] else " - |" for c in columns)
                seconds = r["search_s"].get(str(trials[-1]))
                lines.append(f"| {r['case']} | {best:.3f} | {name} |{cells} {f'{statistics.median(seconds):.0f}' if seconds else '-'} |")
        for title, part in (("All", mine), ("Operators and groups", [r for r in mine if r["family"] != "app"]), ("Apps", [r for r in mine if r["family"] == "app"])):
            if part:
                lines += [f"| **{title}** | | |" + " |" * (len(columns) + 1), *summary(part, columns)]
        lines.append("")
        apps = [r for r in mine if r["family"] == "app"]
        others = [r for r in mine if r["family"] != "app"]
        for title, part in (("Operators and groups", others), ("Apps", apps)):
            found = [line for t in trials for line in against(part, f"{t} trials", ["hand", PEER, *HALIDE[:3]])]
            if found:
                lines += [f"{title}:", "", *found, ""]
        reasons = [f"- {r['case']}, {n}: {' '.join(m.split())[:300]}" for r in mine for n, m in r["without_result"].items() if n != "Anderson2021"]
        reasons += [f"- {r['case']}, not searched: {' '.join(r['not_found'].split())[-300:]}" for r in mine if "not_found" in r]
        if reasons:
            lines += ["Without a result:", "", *reasons, ""]
    lines += ["Anderson2021, the fourth of Halide's autoschedulers, schedules for GPUs alone."]
    return "\n".join(lines)


def write(about, output):
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    output.with_suffix(".md").write_text(table(about) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=".", help="regular expression over 'family: case'")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=5, help="searches of each case")
    parser.add_argument("--trials", type=int, nargs="+", default=[0, 16, 64])
    parser.add_argument("--seconds", type=float, default=0.5, help="of comparing, each schedule")
    parser.add_argument("--limit", type=float, default=120, help="seconds for each schedule to be made, compiled, checked and run twice")
    parser.add_argument("--halide", nargs="*", default=HALIDE, choices=HALIDE, help="Halide's autoschedulers to compare with")
    parser.add_argument("--families", action="store_true", help="the search knows the hand-written families too")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="keep the output's rows; measure the cases that are missing")
    parser.add_argument("--note", default="", help="a sentence about the run for the table: what else the machine did")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "perf/results/autoscheduler")
    arguments = parser.parse_args()
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    about = {"command": " ".join(["perf/autoscheduler.py", *sys.argv[1:]]), "processor": processor, "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"),
             "trials": sorted(arguments.trials), "seeds": arguments.seeds, "families": arguments.families, "note": arguments.note, "rows": []}
    arguments.trials = about["trials"]
    if arguments.go_on and arguments.output.with_suffix(".json").exists():
        before = json.loads(arguments.output.with_suffix(".json").read_text())
        for key in ("trials", "seeds", "families", "processor"):
            if before[key] != about[key]:
                parser.error(f"{arguments.output}.json was measured with {key} {before[key]}, not {about[key]}: another --output")
        about["rows"] = before["rows"]
    known = {(r["case"], r["threads"]) for r in about["rows"]}
    for threads in arguments.threads:
        for case in CASES:
            if not re.search(arguments.cases, f"{case.family}: {case.name}") or (case.name, threads) in known:
                continue
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    row = measure(case, threads, arguments, pathlib.Path(scratch))
                except RuntimeError as error:
                    print(f"{case.name}, {threads} threads: {error}", file=sys.stderr, flush=True)
                    continue
            about["rows"].append(row)
            write(about, arguments.output)  # what is measured so far survives the end of this process
            name, best = best_known(row)
            shares = ", ".join(f"{c} {100 * best / row['ms'][c]:.0f} %" for c in (*(f"{t} trials" for t in arguments.trials), "hand", PEER, *HALIDE) if c in row["ms"])
            print(f"{case.name}, {threads} threads: best {best:.3f} ms by {name}; {shares} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(table(about))


if __name__ == "__main__":
    main()
