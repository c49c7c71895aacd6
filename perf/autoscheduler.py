"""Schedules found by search beside hand-written ones, Halide's four autoschedulers and onnxruntime, timed in turns.

usage: autoscheduler.py [--cases regex] [--threads 1 2] [--seeds 5] [--trials 0 16 64] [--families] [--continue]
                        [--output perf/results/autoscheduler]

A case's searches come first, without the hand-written families unless --families is given; their winners after each number
of trials are kept. Then one process times all of a case's schedules in turns, and onnxruntime's kernel between its turns.
What is measured is written after each case; a plot comes at the end. Nothing else may run meanwhile.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import onnx

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/models"), str(ROOT / "perf/peers")]
from autoscheduler_cases import CASES  # noqa: E402
from client import Peer, require_peers  # noqa: E402
from measuring import RESULTS, about, geometric_mean, keep_rows, on_threads, spread, timing_lock, write_results  # noqa: E402
from models import HEDDLE  # noqa: E402
from plot import draw  # noqa: E402

SCHEDULERS = pathlib.Path(HEDDLE).parent / "perf_schedulers"
HALIDE = ["Mullapudi2016", "Adams2019", "Li2018", "Anderson2021"]
PEER = "onnxruntime"
TURNS = 10


def output_of(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    # A search that exceeds the peak measured beside it is kept: its schedules are timed again.
    if done.returncode != 0 and "invalid run" not in done.stderr:
        raise RuntimeError(f"{pathlib.Path(program).name} {words[0]}: {done.stderr.strip()[-600:]}")  # the rest names scratch files
    return done.stdout


def what(case, threads, scratch):
    """How heddle tune and perf_schedulers are told of a case."""
    if case.app:
        pipeline = scratch / f"{case.app}.hlpipe"
        output_of(SCHEDULERS, "--app", case.app, "--write-pipeline", pipeline)
        return [pipeline], ["--app", case.app]
    if case.operator:
        op, shape, attribute = case.operator
        rest = ["--shape", shape, *(["--attribute", attribute] if attribute else [])]
        return [op, *rest, "--exact"], ["--operator", op, *rest]
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


def compare(subject, found, threads, arguments, peer_model, scratch):
    words = [str(SCHEDULERS), *map(str, subject), "--threads", str(threads), "--seconds", str(arguments.seconds), "--limit", str(arguments.limit),
             "--turns-on-request", "--autoschedulers", *(arguments.halide or [""])]
    if found:
        words += ["--schedules", *(f"{name}={file}" for name, file in found.items())]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        def answer():
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise RuntimeError(f"{' '.join(words)}: {log.read().strip()[-600:]}")
            return json.loads(line)

        peer = Peer(PEER, threads, answer()["cpus"])
        samples = []
        try:
            if peer_model is not None:
                onnx.save(peer_model, scratch / "peer.onnx")
                peer.load({"models": [str(scratch / "peer.onnx")]})
            for _ in range(TURNS):
                process.stdin.write("\n")
                process.stdin.flush()
                answer()
                if peer_model is not None:
                    with timing_lock():
                        samples += peer.turn(arguments.seconds / TURNS)
        finally:
            peer.close()
        process.stdin.close()
        report = answer()
    if samples:
        report["onnxruntime"] = peer.version
        report["contenders"].append({"name": PEER, "status": "ok", **spread(samples)})
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
    report = compare(subject, found, threads, arguments, case.model() if case.model else None, scratch)
    row.update({key: report[key] for key in ("peak_gflops", "flops", "machine", "target", "onnxruntime") if key in report})
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


def table(document):
    rows, trials = document["rows"], document["trials"]
    columns = [*(f"{t} trials" for t in trials), "hand", PEER, *HALIDE[:3]]
    lines = [f"# Schedules found by search, {document['processor']}", "", f"`{document['command']}`, {document['date']}, {document['cores']} cores, "
             f"{rows[0]['machine'] if rows else ''}, onnxruntime {document['onnxruntime']}, Halide 21." + (f" {document['note']}" if document["note"] else ""), "",
             f"Columns are % of the best known: the fastest of all that was timed for the case, in turns in one run. Found: the median of {document['seeds']} "
             f"seed{'s' if document['seeds'] > 1 else ''}, " + ("hand-written families included." if document["families"] else "without the hand-written families (`--no-families`)."),
             "Constants are packed outside of the timing for found and hand schedules; Halide's autoschedulers get the bare algorithm, in the same layout.",
             "onnxruntime runs the case as a model of its own, rearranging of its inputs and outputs included. Seconds are of one whole search of that",
             "many trials.", ""]
    for threads in sorted({r["threads"] for r in rows}):
        mine = [r for r in rows if r["threads"] == threads]
        lines += [f"## {on_threads(threads)}", "",
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
    return lines


def bars(document):
    """What plot.draw draws: share of the best known, that of most trials and of the best that was not searched."""
    groups = {}
    found = f"{document['trials'][-1]} trials"
    for r in document["rows"]:
        others = {name: ms for name, ms in r["ms"].items() if "trials" not in name}
        if found not in r["ms"] or not others:
            continue
        best, peer = best_known(r)[1], min(others, key=others.get)
        kind = "apps" if r["family"] == "app" else "operators and groups"
        groups.setdefault(f"{kind}, {on_threads(r['threads'])}", []).append(
            {"name": r["case"], "ours": best / r["ms"][found], "best": best / others[peer], "peer": peer})
    return {"title": f"Schedules after {found} on {document['processor']}, {document['date']}", "label": "% of the best known", "groups": groups}


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
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "autoscheduler")
    arguments = parser.parse_args()
    require_peers()
    document = about("autoscheduler.py", sys.argv[1:], trials=sorted(arguments.trials), seeds=arguments.seeds, families=arguments.families, note=arguments.note,
                     onnxruntime="", rows=[])
    arguments.trials = document["trials"]
    keep_rows(document, arguments, parser, ("trials", "seeds", "families", "processor"))
    known = {(r["case"], r["threads"]) for r in document["rows"]}
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
            document["rows"].append(row)
            document["onnxruntime"] = row.pop("onnxruntime", document["onnxruntime"])
            write_results(arguments.output, document, table(document))  # what is measured so far survives the end of this process
            name, best = best_known(row)
            shares = ", ".join(f"{c} {100 * best / row['ms'][c]:.0f} %" for c in (*(f"{t} trials" for t in arguments.trials), "hand", PEER, *HALIDE) if c in row["ms"])
            print(f"{case.name}, {threads} threads: best {best:.3f} ms by {name}; {shares} ({time.perf_counter() - start:.0f} s)", flush=True)
    if bars(document)["groups"]:
        draw(bars(document), arguments.output.with_suffix(".svg"))
    print("\n".join(table(document)))


if __name__ == "__main__":
    main()
