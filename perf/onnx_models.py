"""ONNX models of single operators and of small groups, as peers are given them."""
import json

import ml_dtypes
import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from measuring import numbers, pairs

OPSET = 17
OPSET_BF16 = 22  # the first whose convolutions take it
ELEMENTS = {"f32": TensorProto.FLOAT, "bf16": TensorProto.BFLOAT16, "int8": TensorProto.UINT8}  # of a layer's data


BYTE_WEIGHTS = 63   # the largest: processors that add two products in 16 bits would saturate with larger ones
DATA_SCALE = 1 / 255


def weights(seed, *shape):
    return numpy.random.default_rng(seed).standard_normal(shape, dtype=numpy.float32) / numpy.float32(numpy.sqrt(numpy.prod(shape[1:]) or 1))


class Builder:
    """A model with one output, node by node. Layers of bytes lie between DequantizeLinear and QuantizeLinear, which all runtimes
    make one kernel of; their data's zero point is 0, as behind a ReLU."""

    def __init__(self, opset=OPSET, type="f32"):
        self.nodes, self.inputs, self.constants, self.opset, self.type = [], [], [], OPSET_BF16 if type == "bf16" else opset, type
        self.domains = [""]

    def input(self, name, *shape, element=None):
        self.inputs.append(helper.make_tensor_value_info(name, element or ELEMENTS[self.type], shape))
        return name

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(numpy.asarray(array), name))
        return name

    def node(self, kind, *operands, domain="", **attributes):
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [result], domain=domain, **attributes))
        self.domains = list(dict.fromkeys([*self.domains, domain]))
        return result

    def conv(self, x, ci, co, k, s=1, p=0, groups=1, d=1):
        kh, kw = (k, k) if isinstance(k, int) else k
        n = len(self.constants)
        extents, attributes = (co, ci // groups, kh, kw), {"kernel_shape": [kh, kw], "strides": [s, s], "pads": [p] * 4, "dilations": [d, d], "group": groups}
        if self.type == "int8":
            w, w_scale = self.byte_weights(extents, 0)
            b = self.constant("b", numpy.random.default_rng(1).integers(-5000, 5000, co, numpy.int32))
            b = self.dequantized(b, "b_scale", numpy.float32(DATA_SCALE) * w_scale, numpy.zeros(co, numpy.int32), axis=0)
            w = self.dequantized(w, "w_scale", w_scale, numpy.zeros(co, numpy.int8), axis=0)
            return self.quantized(self.node("Conv", self.dequantized(x, "x_scale", DATA_SCALE, numpy.uint8(0)), w, b, **attributes))
        w = self.constant(f"w{n}", self.narrow(weights(n, *extents)))
        b = self.constant(f"b{n}", self.narrow(weights(n + 1, co)))
        return self.node("Conv", x, w, b, **attributes)

    def matmul(self, x, k, n):
        if self.type == "int8":
            w, w_scale = self.byte_weights((k, n), 1)
            return self.byte_product(x, self.dequantized(w, "w_scale", w_scale, numpy.zeros(n, numpy.int8), axis=1))
        return self.node("MatMul", x, self.constant(f"w{len(self.constants)}", self.narrow(weights(k, k, n))))

    def narrow(self, array):
        return array.astype(ml_dtypes.bfloat16) if self.type == "bf16" else array

    def byte_weights(self, shape, channel):
        """Weights and a scale a channel that gives results of about 1."""
        random = numpy.random.default_rng(0)
        w = random.integers(-BYTE_WEIGHTS, BYTE_WEIGHTS + 1, shape, numpy.int8)
        scale = random.uniform(1, 2, shape[channel]) / (21 * numpy.sqrt(w.size / shape[channel]))
        return self.constant("w", w), scale.astype(numpy.float32)

    def byte_product(self, a, b):
        return self.quantized(self.node("MatMul", self.dequantized(a, "x_scale", DATA_SCALE, numpy.uint8(0)), b))

    def dequantized(self, x, name, scale, zero, **attributes):
        return self.node("DequantizeLinear", x, self.constant(name, numpy.float32(scale)), self.constant(f"{name}_zero", zero), **attributes)

    def quantized(self, x):
        return self.node("QuantizeLinear", x, self.constant("y_scale", numpy.float32(4 / 255)), self.constant("y_zero", numpy.uint8(0)))

    def bias(self, x, n):
        return self.node("Add", x, self.constant(f"b{len(self.constants)}", weights(n, n)))

    def norm(self, x, n):
        scale = self.constant(f"s{len(self.constants)}", weights(n, n))
        return self.node("LayerNormalization", x, scale, axis=-1, epsilon=1e-5)

    def gelu(self, x):
        half, one = self.constant("half", numpy.float32(0.5)), self.constant("one", numpy.float32(1))
        root = self.constant("root", numpy.float32(2 ** 0.5))
        grown = self.node("Add", self.node("Erf", self.node("Div", x, root)), one)
        return self.node("Mul", self.node("Mul", x, grown), half)

    def finish(self, result, shape=None):
        """`shape`: of a result that ONNX's own inference does not know."""
        output = helper.make_tensor_value_info(result, ELEMENTS[self.type], shape)
        graph = helper.make_graph(self.nodes, "case", self.inputs, [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 1 if domain else self.opset) for domain in self.domains])
        model.ir_version = 8 if self.opset <= OPSET else 10
        return onnx.shape_inference.infer_shapes(model)


# Operators that ONNX has as one node of the same attributes: its name, and the operands that are constants in a model.
SAME = {
    "softmax": ("Softmax", ()), "layer_norm": ("LayerNormalization", ("scale", "b")), "max_pool": ("MaxPool", ()), "average_pool": ("AveragePool", ()),
    "reduce_mean": ("ReduceMean", ()), "transpose": ("Transpose", ()), "hard_swish": ("HardSwish", ()), "relu": ("Relu", ()), "sigmoid": ("Sigmoid", ()),
    "tanh": ("Tanh", ()), "add": ("Add", ()), "mul": ("Mul", ()), "concat": ("Concat", ()), "erf": ("Erf", ()), "exp": ("Exp", ()),
}
DEFAULTS = {"softmax": {"axis": -1}, "layer_norm": {"axis": -1, "epsilon": 1e-5}}  # where ONNX's are not Heddle's


def operands(shape):
    """'x=f32[2,3],...' -> {'x': [2, 3], ...}"""
    found = {}
    for role, text in pairs(shape).items():
        if not text.startswith("f32["):
            raise ValueError(f"{role}={text}: peers are given f32 alone")
        found[role] = [int(n) for n in text[4:-1].split(",")]
    return found


def attribute_values(text):
    def value(word):
        try:
            return json.loads(word)
        except json.JSONDecodeError:
            return word
    return {name: value(word) for name, word in pairs(text).items()}


def _layer(shape):
    type = pairs(shape).get("type", "f32")
    if type not in ELEMENTS:
        raise ValueError(f"type={type}: expected one of {', '.join(ELEMENTS)}")
    return numbers(shape), Builder(type=type)


def _conv(shape):
    v, g = _layer(shape)
    h = v["h"]
    x = g.input("x", v.get("n", 1), v["ci"], h, v.get("w", h))
    k = (v.get("kh", v.get("k")), v.get("kw", v.get("k")))
    return [g.finish(g.conv(x, v["ci"], v["co"], k, v.get("s", 1), v.get("p", 0), v.get("groups", 1), v.get("d", 1)))]


def _matmul(shape):
    v, g = _layer(shape)
    m, n, k, b = v["m"], v["n"], v["k"], v.get("b", 1)
    if b > 1 and g.type == "int8":
        right = g.dequantized(g.input("b", b, k, n, element=TensorProto.INT8), "w_scale", 1 / (21 * k ** 0.5), numpy.int8(0))
        return [g.finish(g.byte_product(g.input("a", b, m, k), right))]
    if b > 1:
        return [g.finish(g.node("MatMul", g.input("a", b, m, k), g.input("b", b, k, n)))]
    return [g.finish(g.matmul(g.input("a", m, k), k, n))]


def _matmul_blocks(shape):
    v, g = _layer(shape)
    m, n, k, bits, block = v["m"], v["n"], v["k"], v.get("bits", 4), v.get("block", 32)
    blocks = -(-k // block)
    b = g.constant("w", numpy.random.default_rng(0).integers(0, 256, (n, blocks, block * bits // 8), numpy.uint8))
    scale = g.constant("w_scale", weights(1, n * blocks) / 2 ** bits)
    return [g.finish(g.node("MatMulNBits", g.input("a", m, k), b, scale, domain="com.microsoft", K=k, N=n, bits=bits, block_size=block), (m, n))]


def _attention(shape):
    """The operator of opset 23, for those who have it; else what exporters write."""
    roles = operands(shape)
    whole = Builder(23)
    one = whole.finish(whole.node("Attention", *(whole.input(role, *extents) for role, extents in roles.items())))
    g = Builder()
    q, k, v, *mask = (g.input(role, *extents) for role, extents in roles.items())
    score = g.node("Mul", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2])), g.constant("scale", numpy.float32(roles["q"][3] ** -0.5)))
    if mask:
        score = g.node("Add", score, mask[0])
    return [one, g.finish(g.node("MatMul", g.node("Softmax", score, axis=-1), v))]


def _gelu(shape, approximate="none"):
    (x, extents), = operands(shape).items()
    whole, g = Builder(20), Builder()
    one = whole.finish(whole.node("Gelu", whole.input(x, *extents), approximate=approximate))
    return [one] if approximate == "tanh" else [one, g.finish(g.gelu(g.input(x, *extents)))]


def _swish(shape):
    (x, extents), = operands(shape).items()
    g = Builder()
    g.input(x, *extents)
    return [g.finish(g.node("Mul", x, g.node("Sigmoid", x)))]


WRITTEN_OUT = {"conv": _conv, "matmul": _matmul, "matmul_blocks": _matmul_blocks, "attention": _attention, "gelu": _gelu, "swish": _swish}


def kernel_models(op, shape, attributes=""):
    """Models that compute what the operator computes; a peer is given the first that it takes. ValueError: ONNX has none."""
    values = attribute_values(attributes)
    if op in WRITTEN_OUT:
        return WRITTEN_OUT[op](shape, **values)
    if op not in SAME:
        raise ValueError(f"no model of {op} is known; add it to perf/onnx_models.py")
    kind, constants = SAME[op]
    g = Builder()
    names = [g.constant(role, weights(i, *extents)) if role in constants else g.input(role, *extents) for i, (role, extents) in enumerate(operands(shape).items())]
    return [g.finish(g.node(kind, *names, **{**DEFAULTS.get(op, {}), **values}))]


def random_inputs(model):
    """Of a kernel's model: floats around 0, all bytes of data, weights' bytes."""
    random = numpy.random.default_rng(0)
    draw = {TensorProto.FLOAT: lambda shape: random.standard_normal(shape, numpy.float32),
            TensorProto.BFLOAT16: lambda shape: random.standard_normal(shape, numpy.float32).astype(ml_dtypes.bfloat16),
            TensorProto.UINT8: lambda shape: random.integers(0, 256, shape, numpy.uint8),
            TensorProto.INT8: lambda shape: random.integers(-BYTE_WEIGHTS, BYTE_WEIGHTS + 1, shape, numpy.int8)}
    return {i.name: draw[i.type.tensor_type.elem_type]([d.dim_value for d in i.type.tensor_type.shape.dim]) for i in model.graph.input}


def widened(model):
    """The same of f32 where it was of bf16, numbers and all."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for value in [*wide.graph.input, *wide.graph.value_info, *wide.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for constant in wide.graph.initializer:
        if constant.data_type == TensorProto.BFLOAT16:
            constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant).astype(numpy.float32), constant.name))
    return wide


def expected(model, inputs):
    """What a kernel's model gives, bf16 and bytes computed in f32, as peers' outputs are called."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # or bytes would be multiplied
    session = onnxruntime.InferenceSession(widened(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    wide = {name: array.astype(numpy.float32) if array.dtype == ml_dtypes.bfloat16 else array for name, array in inputs.items()}
    return {f"arr_{i}": array for i, array in enumerate(session.run(None, wide))}
