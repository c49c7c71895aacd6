"""Programs without Heddle run a package's kernels through plain Vulkan and plain OpenCL, and get what onnxruntime gets."""
import pathlib
import re
import subprocess
import sys

import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
from models import ROOT, heddle  # noqa: E402

EXAMPLES = ROOT / "examples"
BUILD = {
    "vulkan": ["c++", "-std=c++20", "-O1", "-Wall", "-Werror", EXAMPLES / "standalone_vulkan/main.cpp", "-lvulkan"],
    "opencl": ["cc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-DCL_TARGET_OPENCL_VERSION=120",
               EXAMPLES / "standalone_opencl/main.c", "-l:libOpenCL.so.1", "-lm"],
}


def write_model(path):
    """Several kernels, some with several entries, and weights."""
    random = numpy.random.default_rng(1)

    def weights(name, *shape):
        return numpy_helper.from_array(random.standard_normal(shape).astype(numpy.float32) * 0.3, name)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [weights("w", 8, 3, 3, 3), weights("b", 8)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=["vulkan", "opencl"])
def program(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / request.param
    done = subprocess.run([*map(str, BUILD[request.param]), "-o", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return request.param, path


def run(path, *words):
    return subprocess.run([path, *map(str, words)], capture_output=True, text=True)


def test_runs_a_package_without_heddle(program, tmp_path, cache):
    api, path = program
    model, package = write_model(tmp_path / "m.onnx"), tmp_path / "package"
    heddle("compile", model, "-o", package, "--target", api, "--cache", cache)
    x = numpy.random.default_rng(2).standard_normal((1, 3, 9, 10)).astype(numpy.float32)
    y, = onnxruntime.InferenceSession(str(model)).run(None, {"x": x})
    x.tofile(tmp_path / "x.bin")
    y.tofile(tmp_path / "y.bin")
    done = run(path, package, "in", "x", tmp_path / "x.bin", "expect", "y", tmp_path / "y.bin",
               "out", "y", tmp_path / "got.bin")
    assert done.returncode == 0, done.stdout + done.stderr
    numpy.testing.assert_allclose(numpy.fromfile(tmp_path / "got.bin", numpy.float32).reshape(y.shape), y, atol=1e-5)
    assert int(re.search(r"(\d+) launches", done.stdout)[1]) >= 4

    # The comparison can fail.
    (y + 0.01).astype(numpy.float32).tofile(tmp_path / "y.bin")
    assert run(path, package, "in", "x", tmp_path / "x.bin", "expect", "y", tmp_path / "y.bin").returncode == 1


def test_says_what_is_wrong(program, tmp_path, cache):
    api, path = program
    model, package = write_model(tmp_path / "m.onnx"), tmp_path / "package"
    heddle("compile", model, "-o", package, "--target", api, "--cache", cache)

    def message(*words):
        done = run(path, package, *words)
        assert done.returncode == 1
        return done.stderr

    (tmp_path / "short.bin").write_bytes(b"1234")
    assert "size" in message("in", "x", tmp_path / "short.bin")
    assert "no tensor" in message("in", "z", tmp_path / "short.bin")
    assert "cannot read" in message("in", "x", tmp_path / "none.bin")
    launches = package / api / "launches.json"
    launches.write_text(launches.read_text().replace('"version": 1', '"version": 2'))
    assert "another version" in message()


def test_shipped_spirv_is_valid(tmp_path, cache):
    package = tmp_path / "package"
    heddle("compile", write_model(tmp_path / "m.onnx"), "-o", package, "--target", "vulkan", "--cache", cache)
    files = sorted((package / "vulkan").glob("*.spv"))
    assert len(files) >= 4
    for file in files:
        done = subprocess.run(["spirv-val", "--target-env", "vulkan1.3", file], capture_output=True, text=True)
        assert done.returncode == 0, f"{file}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("target,stage,has", [("vulkan", "spirv", "OpEntryPoint GLCompute %k0"),
                                              ("opencl", "opencl", "__kernel void k0("),
                                              ("cpu,opencl", "opencl", "__kernel void k0("),
                                              ("vulkan", "asm", "halide_vulkan_run")])
def test_show(target, stage, has, tmp_path, cache):
    model = write_model(tmp_path / "m.onnx")
    assert has in heddle("show", model, "--target", target, "--stage", stage, "--cache", cache).stdout
    done = heddle("show", model, "--target", "cpu", "--stage", "spirv", "--cache", cache, check=False)
    assert done.returncode == 2 and "compile with --target vulkan" in done.stderr
