"""Halide's serialised pipelines and fused groups at the command line: tuned, compared, timed, compiled, and their
records built again and checked."""
import json
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import time

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
from models import HEDDLE, heddle  # noqa: E402

PROGRAMS = pathlib.Path(HEDDLE).parent


def written(program, *arguments):
    done = subprocess.run([PROGRAMS / program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A pipeline's file, a fused group's document, and a search of four trials of each and of an operator."""
    if not (PROGRAMS / "perf_schedulers").exists():
        pytest.skip("perf_schedulers, which writes the pipeline, is not built")
    directory = tmp_path_factory.mktemp("pipelines")
    written("perf_schedulers", "--app", "unsharp_mask", "--width", "80", "--height", "48", "--write-pipeline",
            directory / "unsharp.hlpipe")
    weights = numpy_helper.from_array(numpy.linspace(-1, 1, 24 * 16, dtype=numpy.float32).reshape(16, 24), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 16])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 24])], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), directory / "group.onnx")
    written("perf_schedulers", "--model", directory / "group.onnx", "--write-workload", directory / "group.json")
    return directory


SUBJECTS = {
    "pipeline": lambda work: [work / "unsharp.hlpipe"],
    "group": lambda work: [work / "group.json"],
    "operator": lambda work: ["matmul", "--shape", "m=8,n=24,k=16"],
}


@pytest.fixture(scope="module", params=sorted(SUBJECTS))
def tuned(request, work):
    """What was tuned, its report, its schedule's file and where the records are."""
    subject = SUBJECTS[request.param](work)
    schedule, records = work / f"{request.param}.sched", f"sqlite:{work / request.param}.db"
    done = heddle("tune", *subject, "--threads", "1", "--trials", "4", "--records", records, "--output", schedule, "--json", check=False)
    # Against so small a piece of work the peak says nothing on a busy machine.
    assert done.returncode == 0 or "invalid run" in done.stderr, done.stderr
    return subject, json.loads(done.stdout), schedule, records


def test_replay_builds_checks_and_times(tuned):
    _, report, _, records = tuned
    assert {t["status"] for t in report["trials"]} == {"ok"}
    best = json.loads(heddle("records", "best", "--records", records, "--json").stdout)[0]["id"]
    verified = json.loads(heddle("replay", best, "--records", records, "--verify", "--json").stdout)
    assert verified["status"] == "ok" and verified["same_kernel"] and verified["seconds"] > 0
    assert verified["key"] == verified["recorded_key"] != ""
    assert ", the same as recorded" in heddle("replay", best, "--records", records).stdout


def test_replay_tells_a_record_of_other_work(tuned, tmp_path):
    """A schedule that does not compute what its record says is found out; so is a workload that has changed."""
    _, _, _, records = tuned
    copy = tmp_path / "copy.db"
    heddle("records", "export", tmp_path / "all.txt", "--records", records)
    heddle("records", "import", tmp_path / "all.txt", "--records", f"sqlite:{copy}")
    with sqlite3.connect(copy) as database:
        database.execute("update records set implementation = 'out.vectorize(nowhere, 8)' where id = 1")
        database.execute("update records set workload = workload || ' and more' where id = 2")
    failed = heddle("replay", "1", "--records", f"sqlite:{copy}", "--verify", check=False)
    assert failed.returncode == 1 and "nowhere" in failed.stdout + failed.stderr
    failed = heddle("replay", "2", "--records", f"sqlite:{copy}", "--verify", check=False)
    assert failed.returncode == 1 and "have changed since record 2" in failed.stderr


def test_pipeline_is_timed_compared_and_compiled(work, tmp_path):
    pipeline = work / "unsharp.hlpipe"
    records, schedule = f"sqlite:{tmp_path}/tune.db", tmp_path / "found.sched"
    heddle("tune", pipeline, "--threads", "1", "--trials", "3", "--records", records, "--output", schedule)
    header = tmp_path / "found.h"
    heddle("tune", pipeline, "--threads", "1", "--trials", "3", "--records", records, "--output", header)
    assert re.search(r"void schedule_\w*unsharp\w*\(", header.read_text())

    timed = json.loads(heddle("bench", pipeline, "--threads", "1", "--implementation", schedule, "--seconds", "0.05", "--json",
                              check=False).stdout)
    assert timed["median_ms"] > 0 and str(schedule) in timed["schedule"]
    compared = json.loads(heddle("compare", pipeline, "--threads", "1", "--schedules", "hand", schedule, "--seconds", "0.05",
                                 "--json", check=False).stdout)
    assert [entry["correct"] for entry in compared["entries"]] == [True, True]

    heddle("kernel", pipeline, "--threads", "1", "--schedule", schedule, "-o", tmp_path / "library")
    assert (tmp_path / "library/libunsharp.a").stat().st_size > 0
    assert "unsharp" in (tmp_path / "library/unsharp.h").read_text()


@pytest.mark.parametrize("command", [["tune", "--trials", "1"], ["bench"], ["compare", "--schedules", "hand"],
                                     ["kernel", "-o", "library"]])
def test_files_that_are_no_pipelines(command, tmp_path):
    (tmp_path / "bad.hlpipe").write_bytes(b"HLPIPE" + bytes(range(200)))
    for name, message in (("bad.hlpipe", "bad.hlpipe"), ("absent.hlpipe", "absent.hlpipe")):
        failed = heddle(command[0], tmp_path / name, *command[1:], check=False, cwd=tmp_path)
        assert failed.returncode in (1, 2) and message in failed.stderr
        assert not list(tmp_path.glob("library/*"))


def catches(process, number):
    mask = re.search(r"^SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)[1]
    return int(mask, 16) >> (number - 1) & 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_ends_the_weighing_of_a_long_pipeline(work, number, tmp_path):
    written("perf_schedulers", "--app", "local_laplacian", "--write-pipeline", tmp_path / "long.hlpipe")
    search = subprocess.Popen([HEDDLE, "tune", tmp_path / "long.hlpipe", "--threads", "1", "--trials", "0", "--records",
                               f"sqlite:{tmp_path}/tune.db"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while not catches(search, number):
        assert search.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    time.sleep(0.5)
    begun = time.monotonic()
    search.send_signal(number)
    _, errors = search.communicate(timeout=120)
    assert search.returncode == 130 and "the same command goes on from there" in errors
    assert time.monotonic() - begun < 3  # much less where nothing else runs
