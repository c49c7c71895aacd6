"""Schedules found by search beside the hand-written ones: every search checked, its winner timed in turns with the hand schedule.

usage: autoscheduler.py [--cases regex] [--threads 1 2] [--seeds 1 2 3] [--trials 0 16 64] [--with-families]
                        [--output perf/results/autoscheduler]

For each case and seed one search is made, without the hand-written families unless asked for; after 0 (the analytic
estimate alone), 16 and 64 trials its winner is kept. `heddle compare` then times hand and winners in turns in one
process. Ratios are time by hand over time by search: above 1 the search is faster. Nothing else may run meanwhile.
"""
import argparse
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/models"))
from models import HEDDLE  # noqa: E402

# (operator, --shape, --attribute)
CASES = [
    ("matmul", "m=128,n=768,k=768", ""), ("matmul", "m=128,n=3072,k=768", ""), ("matmul", "m=197,n=768,k=768", ""),
    ("matmul", "b=12,m=128,n=128,k=64", ""),
    ("conv", "ci=3,h=224,co=64,k=7,s=2,p=3", ""), ("conv", "ci=64,h=56,co=64,k=1", ""), ("conv", "ci=64,h=56,co=64,k=3,p=1", ""),
    ("conv", "ci=64,h=56,co=256,k=1", ""), ("conv", "ci=128,h=28,co=128,k=3,p=1", ""), ("conv", "ci=256,h=14,co=256,k=3,p=1", ""),
    ("conv", "ci=1024,h=14,co=256,k=1", ""), ("conv", "ci=512,h=7,co=512,k=3,p=1", ""),
    ("conv", "ci=192,h=28,co=192,k=3,p=1,groups=192", ""), ("conv", "ci=144,h=56,co=144,k=3,s=2,p=1,groups=144", ""),
    ("softmax", "x=f32[12,128,128]", ""), ("layer_norm", "x=f32[1,128,768],scale=f32[768]", ""),
    ("max_pool", "x=f32[1,64,112,112]", "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]"), ("add", "a=f32[1,64,56,56],b=f32[1,64,56,56]", ""),
]


def heddle(*words):
    done = subprocess.run([HEDDLE, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"heddle {' '.join(map(str, words))}: {done.stderr.strip()[-600:]}")
    return done.stdout


def measure(case, threads, seed, arguments, scratch):
    op, shape, attribute = case
    base = [op, "--shape", shape, *(["--attribute", attribute] if attribute else []), "--threads", threads]
    row = {"op": op, "shape": shape, "threads": threads, "seed": seed, "search_s": {}, "ratio": {}, "share": {}, "failures": 0}
    files = []
    for trials in arguments.trials:
        output = scratch / f"trials{trials}.sched"
        start = time.perf_counter()
        words = ["tune", *base, "--trials", trials, "--seed", seed, "--records", f"sqlite:{scratch}/tune.db", "--output", output, "--json"]
        report = json.loads(heddle(*words, *([] if arguments.with_families else ["--no-families"])))
        row["search_s"][trials] = time.perf_counter() - start
        row["failures"] = sum(t["status"] != "ok" for t in report["trials"])
        files.append(output)
    compared = json.loads(heddle("compare", *base, "--schedules", "hand", *files, "--seconds", arguments.seconds, "--json"))
    hand, *found = compared["entries"]
    row["peak_gflops"], row["hand_share"], row["hand_ms"] = compared["peak_gflops"], hand["share_of_peak"], hand["median_ms"]
    for trials, entry in zip(arguments.trials, found):
        if not entry["correct"]:
            raise RuntimeError(f"{op} {shape}: a schedule that was found is wrong: {entry['mismatch']}")
        row["ratio"][trials] = hand["median_ms"] / entry["median_ms"]
        row["share"][trials] = entry["share_of_peak"]
    return row


def geometric_mean(values):
    return math.exp(statistics.mean(math.log(v) for v in values))


def table(rows, arguments, processor):
    lines = [f"# Schedules found by search, {processor}", "",
             f"`perf/autoscheduler.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}; medians over seeds {', '.join(map(str, arguments.seeds))}.",
             "", "Time of the hand-written schedule over time of the one found: above 1 the search is faster. Shares are of the FMA",
             "peak measured in the same process."
             + ("" if arguments.with_families else " The search knew none of the hand-written families (`--no-families`)."), ""]
    for threads in arguments.threads:
        mine = [r for r in rows if r["threads"] == threads]
        if not mine:
            continue
        head = "".join(f" {t} trials |" for t in arguments.trials)
        lines += [f"## {threads} thread{'s' if threads > 1 else ''}", "", f"| case | hand, ms | hand, % of peak |{head} best, % of peak | s a search |",
                  "|---|---|---|" + "---|" * len(arguments.trials) + "---|---|"]
        medians = {t: [] for t in arguments.trials}
        for op, shape in dict.fromkeys((r["op"], r["shape"]) for r in mine):
            seeds = [r for r in mine if (r["op"], r["shape"]) == (op, shape)]
            cells = ""
            for t in arguments.trials:
                middle = statistics.median(r["ratio"][t] for r in seeds)
                medians[t].append(middle)
                cells += f" {middle:.2f} |"
            share = max(max(r["share"].values()) for r in seeds)
            last = arguments.trials[-1]
            lines.append(f"| {op} {shape} | {statistics.median(r['hand_ms'] for r in seeds):.3f} | {100 * statistics.median(r['hand_share'] for r in seeds):.0f} |"
                         f"{cells} {100 * share:.0f} | {statistics.median(r['search_s'][last] for r in seeds):.0f} |")
        lines.append("| geometric mean | | |" + "".join(f" {geometric_mean(medians[t]):.2f} |" for t in arguments.trials) + " | |")
        lines.append("| worst | | |" + "".join(f" {min(medians[t]):.2f} |" for t in arguments.trials) + " | |")
        lines.append("")
    return "\n".join(lines)


def write(rows, arguments, processor):
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps({"command": sys.argv[1:], "processor": processor, "rows": rows}, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(table(rows, arguments, processor) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=".", help="regular expression over 'operator shape'")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--trials", type=int, nargs="+", default=[0, 16, 64])
    parser.add_argument("--seconds", type=float, default=0.5, help="of comparing, each schedule")
    parser.add_argument("--with-families", action="store_true", help="the search knows the hand-written families too")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "perf/results/autoscheduler")
    arguments = parser.parse_args()
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    rows = []
    for threads in arguments.threads:
        for case in CASES:
            if not re.search(arguments.cases, f"{case[0]} {case[1]}"):
                continue
            for seed in arguments.seeds:
                with tempfile.TemporaryDirectory() as scratch:
                    rows.append(measure(case, threads, seed, arguments, pathlib.Path(scratch)))
                row = rows[-1]
                found = ", ".join(f"{t}: {row['ratio'][t]:.2f}" for t in arguments.trials)
                write(rows, arguments, processor)  # what is measured so far survives the end of this process
                print(f"{row['op']} {row['shape']}, {threads} threads, seed {seed}: {found} ({row['failures']} failures, {sum(row['search_s'].values()):.0f} s)", flush=True)
    print(table(rows, arguments, processor))


if __name__ == "__main__":
    main()
