"""`heddle records`, `heddle replay`, and compiling with what a store of records holds."""
import json
import os
import pathlib
import sys

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
from models import heddle  # noqa: E402

SCHEDULE = "variant direct\nout.split(n, no, ni, 8, GuardWithIf).vectorize(ni)\n"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model of one product, its kernel's workload and target, and a file with records of it."""
    directory = tmp_path_factory.mktemp("records")
    weights = numpy_helper.from_array(numpy.ones((16, 24), numpy.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 16])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 24])], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), directory / "m.onnx")
    report = json.loads(heddle("compile", directory / "m.onnx", "-o", directory / "p", "--threads", "1", "--json",
                               "--cache", directory / "cache").stdout)
    kernel = next(k for k in report["targets"][0]["kernels"] if "matmul" in k["workload"])
    common = {"search": "s", "workload": kernel["workload"], "workload_json": "{}", "name": "matmul", "anchor": "matmul",
              "target": report["targets"][0]["target"], "threads": 1, "requirements": "[]", "point": "", "origin": "random",
              "incumbent_seconds": [], "process_seconds": [], "compile_seconds": 0.1, "kernel_key": "k", "versions": "{}",
              "created": "2026-01-01T00:00:00Z", "machine": "a machine", "message": ""}
    records = [
        {**common, "trial": 0, "implementation": SCHEDULE, "status": "ok", "seconds": [2e-6], "median_seconds": 2e-6},
        {**common, "trial": 1, "implementation": "out.vectorize(x)", "status": "rejected", "seconds": [],
         "median_seconds": 0, "message": "no dimension 'x'"},
        {**common, "trial": 2, "implementation": SCHEDULE, "status": "ok", "seconds": [3e-6], "median_seconds": 3e-6},
    ]
    lines = ['{"heddle_records":1}'] + [json.dumps(r) for r in records]
    (directory / "records.txt").write_text("\n".join(lines) + "\n")
    return directory


@pytest.fixture()
def store(work, tmp_path):
    url = f"sqlite:{tmp_path / 'tune.db'}"
    assert "3 of the records were new" in heddle("records", "import", work / "records.txt", "--records", url).stdout
    return url


def test_list_and_best(store):
    rows = json.loads(heddle("records", "list", "--records", store, "--json").stdout)
    assert [r["status"] for r in rows] == ["ok", "rejected", "ok"]
    assert [r["id"] for r in rows] == [1, 2, 3]
    best = json.loads(heddle("records", "best", "--records", store, "--json").stdout)
    assert [r["id"] for r in best] == [1]
    table = heddle("records", "list", "--records", store, "--status", "rejected").stdout
    assert "rejected" in table and "3.00" not in table
    assert all(len(line) <= 100 for line in heddle("records", "list", "--records", store).stdout.splitlines())
    assert "no such records" in heddle("records", "list", "--records", store, "--operator", "conv").stdout


def test_show(store):
    text = heddle("records", "show", "2", "--records", store).stdout
    assert "no dimension 'x'" in text and "out.vectorize(x)" in text
    failed = heddle("records", "show", "9", "--records", store, check=False)
    assert failed.returncode == 2 and "has no record 9" in failed.stderr


def test_export_is_stable(store, tmp_path):
    heddle("records", "export", tmp_path / "a.txt", "--records", store)
    again = f"sqlite:{tmp_path / 'again.db'}"
    heddle("records", "import", tmp_path / "a.txt", "--records", again)
    heddle("records", "export", tmp_path / "b.txt", "--records", again)
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    assert "0 of the records were new" in heddle("records", "import", tmp_path / "a.txt", "--records", store).stdout


def test_prune(store):
    assert json.loads(heddle("records", "prune", "--keep", "1", "--records", store, "--json").stdout) == {"removed": 2}
    assert len(json.loads(heddle("records", "list", "--records", store, "--json").stdout)) == 1


def test_bad_calls(store, tmp_path, monkeypatch):
    monkeypatch.delenv("HEDDLE_RECORDS", raising=False)
    failed = heddle("records", "list", check=False)
    assert failed.returncode == 2 and "which records?" in failed.stderr
    failed = heddle("records", "list", "--records", tmp_path / "none.db", check=False)
    assert failed.returncode == 2 and "there is no such file" in failed.stderr
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "bad.txt").write_text("nonsense\n")
    failed = heddle("records", "import", tmp_path / "bad.txt", "--records", store, check=False)
    assert failed.returncode == 2 and "bad.txt:1:" in failed.stderr


def test_compile_takes_the_record(work, store, tmp_path):
    done = heddle("compile", work / "m.onnx", "-o", tmp_path / "p", "--threads", "1", "--records", store, "--explain",
                  "--cache", work / "cache")
    assert f"record 1 of {store}, measured on the nearest machine (a machine)" in done.stdout
    shown = heddle("show", work / "m.onnx", "--stage", "schedule", "--threads", "1", "--records", store,
                   "--cache", work / "cache").stdout
    assert "out.split(n, no, ni, 8, GuardWithIf).vectorize(ni)" in shown
    assert json.loads((tmp_path / "p" / "manifest.json").read_text()) is not None
    # It computes what the hand-written schedule does.
    numpy.save(tmp_path / "x.npy", numpy.arange(128, dtype=numpy.float32).reshape(8, 16))
    outputs = []
    for name, package in (("record", tmp_path / "p"), ("hand", work / "p")):
        heddle("run", package, "--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / name)
        outputs.append(numpy.load(tmp_path / name / "y.npy"))
    numpy.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5)


def test_environment_and_file_before_record(work, store, tmp_path):
    (tmp_path / "mine.sched").write_text(SCHEDULE)
    done = heddle("compile", work / "m.onnx", "-o", tmp_path / "p", "--threads", "1", "--explain", "--schedule",
                  f"matmul={tmp_path / 'mine.sched'}", "--cache", work / "cache", env={**os.environ, "HEDDLE_RECORDS": store})
    assert f"file {tmp_path / 'mine.sched'}" in done.stdout and "record 1" not in done.stdout
    done = heddle("compile", work / "m.onnx", "-o", tmp_path / "p", "--threads", "1", "--explain",
                  "--cache", work / "cache", env={**os.environ, "HEDDLE_RECORDS": store})
    assert "record 1 of" in done.stdout


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A store that a short search has filled, and its best record."""
    url = f"sqlite:{tmp_path_factory.mktemp('tuned') / 'tune.db'}"
    heddle("tune", "matmul", "--shape", "m=32,n=64,k=1", "--threads", "1", "--trials", "4", "--records", url)
    return url, json.loads(heddle("records", "best", "--records", url, "--json").stdout)[0]


def test_replay(tuned):
    url, best = tuned
    report = json.loads(heddle("replay", best["id"], "--records", url, "--verify", "--json").stdout)
    assert report["same_kernel"] and report["status"] == "ok"
    assert 0 < report["seconds"] < 1 and report["recorded_seconds"] > 0
    text = heddle("replay", best["id"], "--records", url).stdout
    assert "the same as recorded" in text and "time" not in text


def test_replay_of_what_does_not_fit(tuned, tmp_path):
    url, best = tuned
    best = {name: value for name, value in best.items() if name != "id"}
    broken = {**best, "search": "broken", "implementation": "variant direct\nout.vectorize(nowhere, 8)\n"}
    other = {**best, "search": "other", "workload": best["workload"] + " of old"}
    (tmp_path / "b.txt").write_text('{"heddle_records":1}\n' + "".join(json.dumps(r) + "\n" for r in (broken, other)))
    again = f"sqlite:{tmp_path / 'b.db'}"
    heddle("records", "import", tmp_path / "b.txt", "--records", again)
    failed = heddle("replay", "1", "--records", again, "--verify", check=False)
    assert failed.returncode == 1 and "rejected" in failed.stdout and "nowhere" in failed.stdout
    failed = heddle("replay", "2", "--records", again, "--verify", check=False)
    assert failed.returncode == 1 and "the operators have changed since record 2" in failed.stderr
    assert heddle("replay", "3", "--records", again, check=False).returncode == 2


def test_bench_takes_what_tune_found(tuned):
    url, best = tuned
    common = ["bench", "matmul", "--shape", "m=32,n=64,k=1", "--threads", "1", "--records", url, "--json"]
    assert json.loads(heddle(*common, "--seconds", "0.05", check=False).stdout)["schedule"] == \
        f"record {best['id']} of {url}, measured on this machine"
    hand = json.loads(heddle(*common, "--seconds", "0.05", "--implementation", "hand", check=False).stdout)
    assert hand["schedule"].startswith("family ")
