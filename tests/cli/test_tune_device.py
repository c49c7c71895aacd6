"""`heddle tune` for a device: what it finds is checked there, recorded under the device's name, replayed and compiled."""
import json
import os
import pathlib
import sqlite3
import sys

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
from models import heddle  # noqa: E402

SHAPE = "m=16,n=32,k=8"


def tune(directory, target, trials, *more, **options):
    return heddle("tune", "matmul", "--shape", SHAPE, "--target", target, "--seed", "5", "--trials", str(trials),
                  "--records", f"sqlite:{directory}/tune.db", "--json", *more, **options)


def device(api):
    return next(d["name"] for d in json.loads(heddle("targets", "--json").stdout)["devices"] if d["api"] == api)


# Where a driver for processors compiles, a process takes seconds.
@pytest.mark.parametrize("target, trials", [("vulkan", 2), ("opencl", 1)])
def test_found_recorded_replayed_and_compiled(target, trials, tmp_path):
    report = json.loads(tune(tmp_path, target, trials, "--no-families").stdout)
    assert report["target"] == target and device(target) in report["machine"]
    assert len(report["trials"]) == trials
    best = report["trials"][report["best"]]
    assert best["status"] == "ok" and len(best["process_ms"]) >= 5 and report["median_ms"] > 0
    assert "gpu_blocks" in report["schedule"]
    assert "share_of_peak" not in report  # the processor's
    # It goes on where it was: nothing is measured twice.
    again = json.loads(tune(tmp_path, target, trials + 1, "--no-families").stdout)
    assert again["recalled"] == trials
    assert [t["recalled"] for t in again["trials"]] == [True] * trials + [False]

    with sqlite3.connect(f"file:{tmp_path}/tune.db?mode=ro", uri=True) as database:
        rows = database.execute("select id, target, machine from records where status = 'ok'").fetchall()
    assert rows and all(row[1:] == (target, report["machine"]) for row in rows)
    replayed = json.loads(heddle("replay", str(rows[0][0]), "--verify", "--records", f"sqlite:{tmp_path}/tune.db",
                                 "--json").stdout)
    assert replayed["same_kernel"] and replayed["status"] == "ok"
    assert replayed["machine"] == replayed["recorded_machine"] == report["machine"]
    timed = json.loads(heddle("bench", "matmul", "--shape", SHAPE, "--target", target, "--seconds", "0.02", "--json",
                              "--records", f"sqlite:{tmp_path}/tune.db").stdout)
    assert "measured on this machine" in timed["schedule"]


def test_a_model_for_a_device(tmp_path):
    weights = numpy_helper.from_array(numpy.ones((8, 16), numpy.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 16])], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "product.onnx")
    records = f"sqlite:{tmp_path}/tune.db"
    report = json.loads(heddle("tune", tmp_path / "product.onnx", "--target", "vulkan", "--trials", "1", "--records",
                               records, "--json").stdout)
    assert report["trials"] == 1 and [kernel["trials"] for kernel in report["kernels"]] == [1]
    explained = heddle("compile", tmp_path / "product.onnx", "--target", "vulkan", "--records", records, "--explain",
                       "-o", tmp_path / "package")
    assert "record 1 of" in explained.stdout + explained.stderr
    assert "measured on this machine" in explained.stdout + explained.stderr


def test_without_a_device(tmp_path):
    nowhere = os.environ | {"HEDDLE_OPENCL_LIBRARY": "/nowhere/libOpenCL.so.1"}
    done = tune(tmp_path, "opencl", 2, check=False, env=nowhere)
    assert done.returncode != 0
    assert "there is no opencl device here" in done.stderr and "/nowhere/libOpenCL.so.1" in done.stderr
    # An estimate needs none.
    assert "gpu_blocks" in json.loads(tune(tmp_path, "opencl", 0, env=nowhere).stdout)["schedule"]


def test_workers_measure_for_processors(tmp_path):
    done = heddle("tune", "matmul", "--shape", SHAPE, "--target", "vulkan", "--trials", "1", "--remote",
                  "--records", f"sqlite:{tmp_path}/tune.db", check=False)
    assert done.returncode != 0 and "workers measure for processors" in done.stderr
