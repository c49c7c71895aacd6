"""What those who measure share: lists of shapes, the lock of those who time, statistics, and how results are written."""
import contextlib
import fcntl
import json
import math
import os
import pathlib
import platform
import re
import statistics
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "perf/results"
SHAPES = ROOT / "perf/shapes"
TIMING_LOCK = "/tmp/heddle-timing.lock"  # held by whoever times a kernel on this machine, Heddle's own programs too


class Shape(typing.NamedTuple):
    """A line of a list: OPERATOR SHAPE [ATTRIBUTES] [*COUNT], the first three as `heddle bench` takes them."""
    op: str
    shape: str
    attributes: str = ""
    count: int = 1  # how often its network has it

    def __str__(self):
        return " ".join(word for word in self[:3] if word)

    @property
    def type(self):
        return pairs(self.shape).get("type", "f32")


def parse_shape(line):
    words = line.split()
    count = 1
    if len(words) > 2 and words[-1].startswith("*"):
        if not re.fullmatch(r"\*[1-9][0-9]*", words[-1]):
            raise ValueError(f"'{line}': {words[-1]} is no count; write *3")
        count = int(words.pop()[1:])
    if len(words) not in (2, 3):
        raise ValueError(f"'{line}': expected OPERATOR SHAPE [ATTRIBUTES] [*COUNT], as in 'conv ci=64,h=56,co=64,k=1 *3'")
    return Shape(*words, *([""] if len(words) == 2 else []), count)


def read_shapes(path):
    lines = (line.split("#")[0].strip() for line in pathlib.Path(path).read_text().splitlines())
    return [parse_shape(line) for line in lines if line]


def pairs(text):
    """'a=1,b=f32[2,3]' -> {'a': '1', 'b': 'f32[2,3]'}: commas inside brackets belong to the value."""
    return dict(item.split("=", 1) for item in re.split(r",(?![^\[]*\])", text) if item)


def numbers(shape):
    """'m=4,n=16,type=int8' -> {'m': 4, 'n': 16}"""
    return {key: int(value) for key, value in pairs(shape).items() if key != "type"}


@contextlib.contextmanager
def timing_lock():
    with open(TIMING_LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def processor():
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def about(program, words, **more):
    """What every file of results begins with."""
    return {"command": " ".join([f"perf/{program}", *words]), "processor": processor(), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"), **more}


def keep_rows(document, arguments, parser, same=("processor",)):
    """--continue: the rows of the output are the document's, if they were measured in the same way."""
    path = arguments.output.with_suffix(".json")
    if not arguments.go_on or not path.exists():
        return
    before = json.loads(path.read_text())
    for key in same:
        if before.get(key, document[key]) != document[key]:  # results of before there was such a choice have no key
            parser.error(f"{path} was measured with {key} {before[key]}, not {document[key]}: another --output")
    document["rows"] = before["rows"]
    if "peers" in document:
        document["peers"] = {**before["peers"], **document["peers"]}


def geometric_mean(values):
    return math.exp(statistics.mean(math.log(v) for v in values))


def spread(seconds):
    """Median and deciles of samples, in milliseconds."""
    ordered = sorted(seconds)
    at = lambda q: ordered[min(int(q * len(ordered)), len(ordered) - 1)] * 1e3  # noqa: E731
    return {"median_ms": statistics.median(ordered) * 1e3, "p10_ms": at(0.1), "p90_ms": at(0.9), "samples": len(ordered)}


def best_peer(peers):
    """(name, median in ms) of the fastest in {name: {"median_ms": ...} or {"fails": reason}}, or None."""
    timed = [(entry["median_ms"], name) for name, entry in peers.items() if "median_ms" in entry]
    return min(timed)[::-1] if timed else None


def rate(row):
    """Adds a row's share of its limit, and how much faster ours is than the best peer."""
    row["share_of_limit"] = row["limit_ms"] / row["median_ms"]
    if best := best_peer(row["peers"]):
        row["best_peer"], row["ratio"] = best[0], best[1] / row["median_ms"]


def in_words(row):
    """A rated row in words."""
    return f"{100 * row['share_of_limit']:.0f} % of the limit" + (f", {row['ratio']:.2f} times as fast as {row['best_peer']}" if "ratio" in row else "")


def bar(name, row):
    """What plot.draw draws of a rated row: shares of the limit, ours and the best peer's."""
    best = row["share_of_limit"] / row["ratio"] if "ratio" in row else None
    return {"name": name, "ours": row["share_of_limit"], "best": best, "peer": row.get("best_peer", "")}


def on_threads(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"


def markdown_table(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def write_results(output, document, lines):
    """OUTPUT.json and OUTPUT.md."""
    output = pathlib.Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    output.with_suffix(".md").write_text("\n".join(lines).rstrip("\n") + "\n")
