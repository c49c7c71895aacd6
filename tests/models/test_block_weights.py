"""Products with weights of few bits, a scale a block: ONNX Runtime's MatMulNBits, and DequantizeLinear with blocks before
a MatMul, beside onnxruntime."""
import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import heddle

RANDOM = numpy.random.default_rng(1)
TOLERANCE = 2e-5  # of the largest result: sums of 200 products, in another order


def packed(numbers, bits):
    """Numbers of the last dimension next to one another in bytes, the first in the low bits; whole bytes a row."""
    if bits == 8:
        return numbers.astype(numpy.uint8)
    even = numpy.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, numbers.shape[-1] % 2)]).astype(numpy.uint8)
    return even[..., 0::2] | even[..., 1::2] << 4


def run_both(model, folder, **inputs):
    path = folder / "model.onnx"
    onnx.checker.check_model(model)
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    # Otherwise it makes a MatMulNBits of DequantizeLinear and MatMul that rounds the activations to bytes.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    want = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, inputs)
    words = []
    for name, array in inputs.items():
        numpy.save(folder / f"{name}.npy", array)
        words += ["--input", f"{name}={folder / name}.npy"]
    heddle("run", path, "--cache", folder / "cache", *words, "--output", folder / "out")
    for value, wanted in zip(model.graph.output, want):
        got = numpy.load(folder / "out" / f"{value.name}.npy")
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        assert numpy.abs(got - wanted).max() <= TOLERANCE * numpy.abs(wanted).max()
    graph = heddle("show", path, "--stage", "graph", "--target", "cpu").stdout
    assert "matmul_blocks" in graph, graph
    return graph


def model_of(nodes, initializers, shape, columns, opset):
    graph = helper.make_graph(
        nodes,
        "weights",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape[:-1], columns])],
        initializers,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def activations(*shape):
    return RANDOM.standard_normal(shape, dtype=numpy.float32)


@pytest.mark.parametrize("bits", (4, 8))
@pytest.mark.parametrize("zeros", (False, True))
@pytest.mark.parametrize("shape, block, columns, bias", (((1, 96), 32, 40, False), ((2, 5, 200), 16, 33, True), ((40, 64), 32, 24, False)))
def test_matmul_n_bits(bits, zeros, shape, block, columns, bias, tmp_path):
    depth = shape[-1]
    blocks = -(-depth // block)
    numbers = RANDOM.integers(0, 2**bits, (columns, blocks, block))
    weights = {
        "b": packed(numbers, bits),
        "scales": RANDOM.uniform(0.01, 0.1, (columns * blocks)).astype(numpy.float32),
        "zeros": packed(RANDOM.integers(0, 2**bits, (columns, blocks)), bits).reshape(-1),
        "bias": activations(columns),
    }
    names = ["a", "b", "scales", "zeros" if zeros else "", "", "bias" if bias else ""]
    while not names[-1]:
        names.pop()
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", K=depth, N=columns, bits=bits, block_size=block)
    held = [numpy_helper.from_array(array, name) for name, array in weights.items() if name in names]
    run_both(model_of([node], held, shape, columns, 21), tmp_path, a=activations(*shape))


def test_a_g_idx_that_reorders_is_refused(tmp_path):
    held = {"b": numpy.zeros((3, 2, 8), numpy.uint8), "scales": numpy.ones(6, numpy.float32), "g": numpy.arange(32)[::-1].astype(numpy.int32) // 16}
    node = helper.make_node("MatMulNBits", ["a", "b", "scales", "", "g"], ["y"], domain="com.microsoft", K=32, N=3, bits=4, block_size=16)
    onnx.save(model_of([node], [numpy_helper.from_array(a, n) for n, a in held.items()], (1, 32), 3, 21), tmp_path / "model.onnx")
    done = heddle("compile", tmp_path / "model.onnx", "-o", tmp_path / "package", check=False)
    assert done.returncode == 1 and "g_idx" in done.stderr, done.stderr


@pytest.mark.parametrize("kind, low, high", (("UINT4", 0, 15), ("INT4", -8, 7), ("UINT8", 0, 255), ("INT8", -128, 127)))
@pytest.mark.parametrize("by_columns", (False, True))
def test_dequantize_linear_with_blocks(kind, low, high, by_columns, tmp_path):
    depth, columns, block = 64, 20, 16
    axis = 1 if by_columns else 0
    shape, scales = [depth, columns], [depth // block, columns]
    if by_columns:
        shape, scales = shape[::-1], scales[::-1]
    numbers = RANDOM.integers(low, high, shape, endpoint=True)
    numbers.flat[:2] = low, high
    zeros = RANDOM.integers(low, high, scales, endpoint=True)

    def integers(name, array):
        return helper.make_tensor(name, getattr(TensorProto, kind), array.shape, array.flatten().tolist())

    held = [integers("w", numbers), integers("z", zeros), numpy_helper.from_array(RANDOM.uniform(0.01, 0.1, scales).astype(numpy.float32), "s"), numpy_helper.from_array(activations(columns), "bias")]
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"], axis=axis, block_size=block)]
    if by_columns:
        nodes += [helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0])]
    nodes += [helper.make_node("MatMul", ["a", "t" if by_columns else "f"], ["p"]), helper.make_node("Add", ["p", "bias"], ["y"])]
    graph = run_both(model_of(nodes, held, (1, 3, depth), columns, 21), tmp_path, a=activations(1, 3, depth))
    assert f"u8[{columns},{depth // block},{block * (4 if '4' in kind else 8) // 8}]" in graph, graph


def test_4_bit_integers_elsewhere_are_refused(tmp_path):
    held = [helper.make_tensor("w", TensorProto.INT4, [4], [1, -2, 3, 4])]
    nodes = [helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT), helper.make_node("Add", ["a", "c"], ["y"])]
    onnx.save(model_of(nodes, held, (1, 4), 4, 21), tmp_path / "model.onnx")
    done = heddle("compile", tmp_path / "model.onnx", "-o", tmp_path / "package", check=False)
    assert done.returncode == 1 and "4-bit integers" in done.stderr, done.stderr
