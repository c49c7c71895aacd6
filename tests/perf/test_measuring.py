"""Lists of shapes, models made of them, limits, and what is written of results."""
import json
import os
import pathlib
import subprocess
import sys

import ml_dtypes
import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "perf"), str(ROOT / "perf/peers")]
import client  # noqa: E402
import kernels  # noqa: E402
import measuring  # noqa: E402
import model_limits  # noqa: E402
import onnx_models  # noqa: E402
import plot  # noqa: E402

PROGRAM = ROOT / "build/release/bin/perf_heddle"
LISTS = sorted((ROOT / "perf/shapes").glob("*.txt"))


def test_lines_of_lists():
    assert measuring.parse_shape("conv ci=64,h=56,co=64,k=1 *3") == ("conv", "ci=64,h=56,co=64,k=1", "", 3)
    pool = measuring.parse_shape("max_pool x=f32[1,8,4,4] kernel_shape=[2,2],strides=[2,2]")
    assert (pool.attributes, pool.count) == ("kernel_shape=[2,2],strides=[2,2]", 1)
    assert str(pool) == "max_pool x=f32[1,8,4,4] kernel_shape=[2,2],strides=[2,2]"
    for wrong in ("conv", "conv ci=1 *0", "conv ci=1 *x", "conv ci=1 a=1 b=2"):
        with pytest.raises(ValueError):
            measuring.parse_shape(wrong)


def test_types_of_lines():
    assert measuring.parse_shape("matmul m=4,n=16,k=8,type=bf16").type == "bf16"
    assert measuring.parse_shape("matmul m=4,n=16,k=8").type == measuring.parse_shape("softmax x=f32[4,33]").type == "f32"
    assert measuring.numbers("m=4,n=16,type=int8") == {"m": 4, "n": 16}
    with pytest.raises(ValueError, match="int4: expected one of f32, bf16, int8"):
        onnx_models.kernel_models("matmul", "m=4,n=16,k=8,type=int4")
    assert set(client.KERNEL_TOLERANCE) == set(onnx_models.ELEMENTS) == {type for types in client.TYPES.values() for type in types}


def test_pairs_keep_brackets_together():
    assert measuring.pairs("q=f32[1,2],k=f32[3]") == {"q": "f32[1,2]", "k": "f32[3]"}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_lists_have_no_line_twice_and_models_of_every_operator(path):
    shapes = measuring.read_shapes(path)
    assert shapes
    assert len({s[:3] for s in shapes}) == len(shapes)
    # The first of each operator: weights of all of them are gigabytes.
    for s in {s.op: s for s in reversed(shapes)}.values():
        for model in onnx_models.kernel_models(*s[:3]):
            onnx.checker.check_model(model)


def run(model, inputs):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


@pytest.mark.parametrize("line", ["attention q=f32[1,2,5,4],k=f32[1,2,7,4],v=f32[1,2,7,4],mask=f32[5,7]", "gelu x=f32[3,5]"])
def test_models_of_one_operator_agree(line):
    models = onnx_models.kernel_models(*measuring.parse_shape(line)[:3])
    random = numpy.random.default_rng(0)
    inputs = {i.name: random.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim]).astype(numpy.float32) for i in models[0].graph.input}
    numpy.testing.assert_allclose(run(models[0], inputs), run(models[1], inputs), atol=1e-5)


SHAPES_OF_LAYERS = ["conv ci=8,h=6,co=8,k=3,p=1", "conv ci=8,h=6,co=8,k=3,groups=8", "matmul m=5,n=7,k=33", "matmul b=2,m=5,n=7,k=9"]


@pytest.mark.parametrize("line", SHAPES_OF_LAYERS)
def test_layers_of_bytes(line, tmp_path):
    """What runtimes make of the model, products of bytes, is a step away at most from the same in f32."""
    subject, wanted = kernels.subject_of(measuring.parse_shape(f"{line},type=int8"), tmp_path)
    model, = subject["models"]
    inputs = client.load_arrays(subject["inputs"])
    got = run(onnx.load(model), inputs)
    assert got.dtype == numpy.uint8 and 0.2 < (got > 0).mean() < 0.8
    numpy.savez(tmp_path / "got.npz", got)
    assert client.off_by(tmp_path / "got.npz", wanted) <= client.KERNEL_TOLERANCE["int8"]
    numpy.savez(tmp_path / "got.npz", numpy.where(got > 2, got - 2, 2))
    assert client.off_by(tmp_path / "got.npz", wanted) > client.KERNEL_TOLERANCE["int8"]


@pytest.mark.parametrize("line", SHAPES_OF_LAYERS)
def test_layers_of_bf16(line, tmp_path):
    subject, wanted = kernels.subject_of(measuring.parse_shape(f"{line},type=bf16"), tmp_path)
    onnx.checker.check_model(onnx.load(subject["models"][0]), full_check=True)
    inputs = client.load_arrays(subject["inputs"])
    assert {array.dtype for array in inputs.values()} == {numpy.dtype(ml_dtypes.bfloat16)}
    assert wanted["arr_0"].dtype == numpy.float32
    # Rounded once it is what a peer should give.
    numpy.savez(tmp_path / "got.npz", wanted["arr_0"].astype(ml_dtypes.bfloat16))
    assert 0 < client.off_by(tmp_path / "got.npz", wanted) <= client.KERNEL_TOLERANCE["bf16"]
    numpy.savez(tmp_path / "got.npz", wanted["arr_0"] * 1.01)
    assert client.off_by(tmp_path / "got.npz", wanted) > client.KERNEL_TOLERANCE["bf16"]


def test_f32_is_compared_with_the_first_peer(tmp_path):
    assert kernels.subject_of(measuring.parse_shape("matmul m=4,n=16,k=8"), tmp_path)[1] is None


def test_operators_without_a_model_are_refused():
    with pytest.raises(ValueError, match="bit_shift"):
        onnx_models.kernel_models("bit_shift", "a=f32[1]")


def test_work_of_a_model():
    """A 3x3 convolution of stride 1, one of stride 2 after it, a depthwise one, and a product whose weights are computed on the spot."""
    g = onnx_models.Builder()
    x = g.conv(g.input("x", 1, 4, 8, 8), 4, 6, 3, p=1)
    x = g.conv(x, 6, 8, 3, s=2, p=1)
    x = g.conv(x, 8, 8, 3, p=1, groups=8)
    x = g.node("Reshape", x, g.constant("shape", numpy.array([1, 128], numpy.int64)))
    w = g.node("ConstantOfShape", g.constant("extents", numpy.array([128, 10], numpy.int64)))
    model = g.finish(g.node("MatMul", x, w))
    work = model_limits.count(model, {"x": [1, 4, 8, 8]})
    winograd = 2 * 64 * 6 * 4 * 9
    assert work.winograd_flops == winograd
    assert work.flops == winograd + 2 * 16 * 8 * 6 * 9 + 2 * 16 * 8 * 9 + 2 * 128 * 10
    assert work.weight_bytes == 4 * (6 * 4 * 9 + 8 * 6 * 9 + 8 * 9 + 128 * 10)
    halves = model_limits.count(model, {"x": [1, 4, 8, 8]}, precision="bf16")
    assert (halves.flops, halves.half_flops, halves.weight_bytes) == (work.flops, work.flops - winograd, work.weight_bytes / 2)


def test_limit_is_the_larger_bound():
    work = model_limits.Work(flops=10e9 + 2.8e9, winograd_flops=2.8e9, weight_bytes=4e9)
    peaks = model_limits.Peaks(floats=100, bytes=400, halves=200)
    assert work.limit_seconds(peaks, read_gbs=1000) == pytest.approx(0.11)
    assert work.limit_seconds(model_limits.Peaks(1e6, 1e6, 1e6), read_gbs=10) == pytest.approx(0.4)
    halves = model_limits.Work(flops=10e9, winograd_flops=0, weight_bytes=0, half_flops=10e9)
    assert halves.limit_seconds(peaks, read_gbs=1000) == pytest.approx(0.05)
    squares = model_limits.Work(flops=2.8e9, winograd_flops=2.8e9, weight_bytes=0, narrow=True)
    assert squares.limit_seconds(peaks, read_gbs=1000) == pytest.approx(0.01)
    assert squares.limit_seconds(model_limits.Peaks(floats=100, bytes=400, halves=1400), read_gbs=1000) == pytest.approx(0.002)
    quantised = model_limits.Work(flops=10e9, winograd_flops=0, weight_bytes=0, byte_flops=10e9)
    assert quantised.limit_seconds(peaks, read_gbs=1000) == pytest.approx(0.025)


def test_work_of_symbolic_extents():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16])
    w = onnx.numpy_helper.from_array(numpy.zeros((16, 4), numpy.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert model_limits.count(model, {"x": [5, 16]}).flops == 2 * 5 * 16 * 4
    # Where inference does not get through, what was measured says it, or the node is named.
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    hidden = onnx.ModelProto.FromString(model.SerializeToString())
    hidden.graph.node.insert(0, helper.make_node("Unknown", ["x"], ["h"], domain="elsewhere"))
    hidden.graph.node[1].input[0] = "h"
    hidden.opset_import.append(helper.make_opsetid("elsewhere", 1))
    assert model_limits.count(hidden, {"x": [5, 16]}, lambda: {"h": [5, 16], "y": [5, 4]}).flops == 640
    with pytest.raises(ValueError, match="MatMul"):
        model_limits.count(hidden, {"x": [5, 16]})


def test_spread_and_best_peer():
    spread = measuring.spread([i / 1000 for i in range(1, 101)])
    assert (spread["median_ms"], spread["p10_ms"], spread["p90_ms"]) == (pytest.approx(50.5), pytest.approx(11), pytest.approx(91))
    assert measuring.best_peer({"a": {"median_ms": 2}, "b": {"median_ms": 1}, "c": {"fails": "why"}}) == ("b", 1)
    assert measuring.best_peer({"c": {"fails": "why"}}) is None


DOCUMENT = {"date": "2026-01-01", "processor": "P", "cores": 2, "command": "c", "rounds": 1, "peers": {"a": "1", "b": "2"}, "rows": [
    {"list": "l", "kernel": "conv x", "count": 3, "threads": 1, "median_ms": 2.0, "limit_ms": 1.0, "share_of_limit": 0.5, "flops": 1e9, "checked": True,
     "schedule": "s", "best_peer": "a", "ratio": 1.5, "peers": {"a": {"median_ms": 3.0}, "b": {"fails": "why"}}},
    {"list": "l", "kernel": "conv y", "count": 1, "threads": 1, "failed": "because", "peers": {}}]}


def test_table_of_kernels():
    text = "\n".join(kernels.table(DOCUMENT))
    assert "| conv x | 3 | 2.0000 | 500.0 | 50 | 3.0000 | fails | 1.50 | s |" in text
    assert "6.00 ms, with the best peer of each 9.00 ms" in text
    assert "conv y, 1 threads: because" in text
    (entry,), = kernels.bars(DOCUMENT)["groups"].values()
    assert (entry["ours"], entry["best"], entry["peer"]) == (0.5, pytest.approx(1 / 3), "a")


def test_panels_of_a_plot_stay_readable():
    parts = list(plot.panels({"g": list(range(100)), "h": [1]}))
    assert [title for title, _ in parts] == ["g (1)", "g (2)", "g (3)", "h"]
    assert sum(len(entries) for _, entries in parts) == 101


def test_off_by(tmp_path):
    numpy.savez(tmp_path / "got.npz", numpy.array([[1.0, 2.1]]))
    assert client.off_by(tmp_path / "got.npz", {"arr_0": numpy.array([1.0, 2.0])}) == pytest.approx(0.05)
    with pytest.raises(client.PeerError, match="elements"):
        client.off_by(tmp_path / "got.npz", {"arr_0": numpy.zeros(3)})
    numpy.savez(tmp_path / "bad.npz", numpy.array([numpy.nan]))
    assert client.off_by(tmp_path / "bad.npz", {"arr_0": numpy.ones(1)}) == float("inf")


class TestPeer:
    """A peer's process: a script that speaks its protocol stands for it."""

    @pytest.fixture
    def peer(self, tmp_path, monkeypatch):
        def make(script):
            worker = tmp_path / "worker.py"
            worker.write_text("import json, os, sys, time\nprint(json.dumps({'version': '7'}), flush=True)\n" + script)
            monkeypatch.setattr(client, "WORKER", worker)
            monkeypatch.setattr(client, "PYTHON", sys.executable)
            return client.Peer("it", 1)
        return make

    def test_answers(self, peer):
        with peer("for line in sys.stdin:\n print(json.dumps({'samples': [0.5]} if 'turn' in line else {}), flush=True)\n") as it:
            it.load({})
            assert (it.version, it.turn(0.1)) == ("7", [0.5])

    def test_its_reason_is_told(self, peer):
        with peer("for line in sys.stdin:\n print(json.dumps({'fails': 'no such layer'}), flush=True)\n") as it, pytest.raises(client.PeerError, match="no such layer"):
            it.load({})

    def test_its_death_is_told_and_the_next_load_starts_anew(self, peer):
        with peer("sys.stdin.readline()\nprint('out of luck', file=sys.stderr, flush=True)\nos.abort()\n") as it:
            for _ in range(2):
                with pytest.raises(client.PeerError, match="SIGABRT: .*out of luck"):
                    it.load({})

    def test_it_may_not_take_for_ever(self, peer):
        with peer("time.sleep(60)\n") as it, pytest.raises(client.PeerError, match="no answer within"):
            it.load({}, timeout=0.2)


@pytest.mark.skipif(not PROGRAM.exists(), reason="perf_heddle is not built")
class TestProgram:
    def test_turns_on_request(self):
        done = subprocess.run([PROGRAM, "--kernel", "matmul m=4,n=16,k=8 *3", "--threads", "1", "--seconds", "0"], input="turn\nlimits\nturn\n", capture_output=True,
                              text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        ready, first, _, second, report = map(json.loads, done.stdout.splitlines())
        assert ready["ready"] and set(ready["cpus"]) <= os.sched_getaffinity(0)
        assert report["samples"] == first["samples"] + second["samples"]
        assert report["flops"] >= 2 * 4 * 16 * 8 and report["checked"] and report["schedule"]
        rate = max(report["read_gbs"], report["copy_gbs"])
        assert report["limit_ms"] == pytest.approx(max(report["flops"] / report["peak_gflops"], report["bytes"] / rate) * 1e-6)

    def test_peaks_follow_the_type(self):
        peak = {}
        for type in onnx_models.ELEMENTS:
            done = subprocess.run([PROGRAM, "--kernel", f"matmul m=4,n=16,k=8,type={type}", "--threads", "1", "--seconds", "0"], input="turn\nlimits\n",
                                  capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            report = json.loads(done.stdout.splitlines()[-1])
            assert report["checked"]
            peak[type] = report["peak_gflops"]
        # Where no instruction is faster they are FMAs', measured another time.
        assert min(peak["bf16"], peak["int8"]) > 0.5 * peak["f32"]

    @pytest.mark.parametrize("line, message", [("conv", "expected OPERATOR SHAPE"), ("conv ci=1 *x", "no count"), ("cnov ci=1", "cnov"),
                                               ("matmul m=1,n=1,k=1,type=int4", "it has f32, bf16, int8")])
    def test_wrong_lines_are_named(self, line, message):
        done = subprocess.run([PROGRAM, "--kernel", line, "--threads", "1"], input="", capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert message in done.stderr
