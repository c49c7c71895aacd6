"""`heddle tune`: what it finds can be used, and however it ends, the same command goes on without a trial twice."""
import json
import signal
import sqlite3
import subprocess
import sys
import pathlib
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
from models import HEDDLE, heddle  # noqa: E402

SHAPE = "m=32,n=64,k=1"  # a store for every product: at most half the FMA peak, so that no run is invalid on a noisy machine
COMMON = ["tune", "matmul", "--shape", SHAPE, "--threads", "1", "--seed", "3", "--no-families", "--json"]


def command(directory, trials):
    return [*COMMON, "--trials", str(trials), "--records", f"sqlite:{directory}/tune.db"]


def stored(directory):
    """(search, trial, when it was stored) of every trial; nothing before the file has its tables."""
    file = directory / "tune.db"
    if not file.exists():
        return []
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5) as database:
            return database.execute("select search, trial, created from records order by id").fetchall()
    except sqlite3.OperationalError:
        return []


def interrupt(directory, number, least):
    """Starts a search, sends it a signal once it has stored `least` trials, and returns its exit code and stderr."""
    process = subprocess.Popen([HEDDLE, *command(directory, 200)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    limit = time.monotonic() + 300
    while len(stored(directory)) < least:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_goes_on_after(number, tmp_path):
    code, errors = interrupt(tmp_path, number, least=10)
    before = stored(tmp_path)
    assert 10 <= len(before) < 200
    if number == signal.SIGINT:
        assert code == 130
        assert f"stopped after {len(before)} of 200 trials" in errors
    trials = len(before) + 3
    done = heddle(*command(tmp_path, trials))
    assert f"{len(before)} trials of this search are in" in done.stderr
    report = json.loads(done.stdout)
    assert report["recalled"] == len(before)
    assert [trial["number"] for trial in report["trials"]] == list(range(trials))
    assert [trial["recalled"] for trial in report["trials"]] == [True] * len(before) + [False] * 3
    after = stored(tmp_path)
    assert after[:len(before)] == before  # nothing of what was there has been touched
    assert [trial for _, trial, _ in after] == list(range(trials))
    assert {search for search, _, _ in after} == {report["search"]}
    # All of it is there now: only read.
    again = json.loads(heddle(*command(tmp_path, trials)).stdout)
    assert again["recalled"] == trials
    assert again["schedule"] == report["schedule"] and again["median_ms"] == report["median_ms"]
    assert stored(tmp_path) == after


def test_winner_is_a_schedule_that_bench_takes(tmp_path):
    file = tmp_path / "best.sched"
    report = json.loads(heddle(*command(tmp_path, 10), "--output", file).stdout)
    best = report["trials"][report["best"]]
    assert best["status"] == "ok" and len(best["process_ms"]) >= 5
    assert report["median_ms"] > 0 and report["gflops"] > 0 and 0 < report["share_of_peak"]
    text = file.read_text()
    assert text.startswith("# matmul") and report["search"] in text
    assert text.endswith(report["schedule"])
    timed = json.loads(heddle("bench", "matmul", "--shape", SHAPE, "--threads", "1", "--implementation", file,
                              "--seconds", "0.05", "--json", "--cache", tmp_path / "cache", check=False).stdout)
    assert str(file) in timed["schedule"]
    # Another process, but not another kernel: the one that was recorded.
    record = json.loads(heddle("records", "list", "--search", report["search"], "--records", f"sqlite:{tmp_path}/tune.db",
                               "--json").stdout)[report["best"]]
    assert record["trial"] == report["best"] and record["status"] == "ok"
    assert [kernel.stem for kernel in (tmp_path / "cache").rglob("*.o")] == [record["kernel_key"]]


def test_bench_takes_a_schedule_where_copies_surround_the_kernel(tmp_path):
    conv = ["conv", "--shape", "ci=16,h=9,co=16,k=3,p=1,groups=16", "--threads", "1"]
    found = tmp_path / "found.sched"
    heddle("tune", *conv, "--trials", "0", "--no-families", "--records", f"sqlite:{tmp_path}/tune.db", "--output", found)
    for schedule in (found, f"conv={found}"):
        timed = heddle("bench", *conv, "--schedule", schedule, "--seconds", "0.01", "--json", check=False)
        assert str(found) in json.loads(timed.stdout)["schedule"], timed.stderr


def test_begins_with_what_other_searches_have_found(tmp_path):
    def tune(seed, trials, *more):
        arguments = command(tmp_path, trials)
        arguments[arguments.index("--seed") + 1] = str(seed)
        return json.loads(heddle(*arguments, *more).stdout)

    def origins(report):
        return [t["origin"] for t in report["trials"] if t["origin"].startswith("record")]

    first = tune(3, 12)
    assert origins(first) == []
    fastest = json.loads(heddle("records", "list", "--fastest", "--status", "ok", "--records", f"sqlite:{tmp_path}/tune.db",
                                "--json").stdout)
    second = tune(4, 4)
    assert second["trials"][0]["origin"] == "default"
    default = next(record for record in fastest if record["trial"] == 0)
    # The default may be the fastest found; it is not tried twice.
    best = next(record for record in fastest if record["point"] != default["point"])
    assert origins(second)[0] == f"record {best['id']}" == second["trials"][1]["origin"]
    # It goes on with the same ones, whatever was recorded meanwhile.
    tune(5, 12)
    again = tune(4, 9)
    assert again["recalled"] == 4 and origins(again) == origins(second) and again["search"] == second["search"]
    assert [t["point"] for t in again["trials"][:4]] == [t["point"] for t in second["trials"]]
    # Pruning takes trials away; what is left says how to go on.
    heddle("records", "prune", "--keep", "2", "--records", f"sqlite:{tmp_path}/tune.db")
    assert len(tune(4, 9)["trials"]) == 9
    assert origins(tune(4, 3, "--no-transfer")) == []


def test_two_threads(tmp_path):
    """The schedule has work for both, what is kept says so, and what asks for another number does not get it."""
    shape, records = "m=96,n=128,k=1", f"sqlite:{tmp_path}/tune.db"
    report = json.loads(heddle("tune", "matmul", "--shape", shape, "--threads", "2", "--trials", "5", "--no-families", "--json",
                               "--records", records).stdout)
    assert report["threads"] == 2 and len(report["trials"]) == 5
    assert report["trials"][report["best"]]["status"] == "ok" and ".parallel(" in report["schedule"]
    with sqlite3.connect(tmp_path / "tune.db") as database:
        assert database.execute("select distinct threads from records").fetchall() == [(2,)]
        assert database.execute("select count(*) from records where implementation not like '%.parallel(%'").fetchone() == (0,)
        assert database.execute("select count(*) from records where process_median > 0").fetchone()[0] >= 1
    chosen = lambda threads: json.loads(heddle("bench", "matmul", "--shape", shape, "--threads", threads, "--records",  # noqa: E731
                                               records, "--seconds", "0.05", "--json", check=False).stdout)["schedule"]
    assert "record" in chosen(2) and "record" not in chosen(1)


def test_without_trials_nothing_is_measured(tmp_path):
    report = json.loads(heddle(*command(tmp_path, 0)).stdout)
    assert report["trials"] == [] and "median_ms" not in report
    assert report["estimate_ms"] > 0 and "out." in report["schedule"]
    assert stored(tmp_path) == []


def test_table_of_the_best(tmp_path):
    arguments = [a for a in command(tmp_path, 9) if a != "--json"]
    done = heddle(*arguments)
    assert "9 trials" in done.stdout and "% of the" in done.stdout and "fresh ms" in done.stdout
    assert "out." in done.stdout
    assert "tuning" in done.stderr  # plain lines where there is no terminal
    assert "\r" not in done.stderr


@pytest.mark.parametrize("arguments, message", [
    (["tune", "matmul"], "--shape"),
    (["tune", "matmull", "--shape", SHAPE], "matmul"),
    ([*COMMON, "--trials", "-1"], "--trials"),
    ([*COMMON, "--time", "soon"], "--time"),
    ([*COMMON, "--target", "cpu,opencl"], "one target"),
    ([*COMMON, "--records", "nothing://here"], "nothing://here"),
])
def test_calls_that_are_wrong(arguments, message, tmp_path):
    done = heddle(*arguments, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
