"""ONNX models of single operators and of small groups, as peers are given them."""
import json

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from measuring import pairs

OPSET = 17


def weights(seed, *shape):
    return numpy.random.default_rng(seed).standard_normal(shape, dtype=numpy.float32) / numpy.float32(numpy.sqrt(numpy.prod(shape[1:]) or 1))


class Builder:
    """A model with one output, node by node."""

    def __init__(self, opset=OPSET):
        self.nodes, self.inputs, self.constants, self.opset = [], [], [], opset

    def input(self, name, *shape):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(numpy.asarray(array), name))
        return name

    def node(self, kind, *operands, **attributes):
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [result], **attributes))
        return result

    def conv(self, x, ci, co, k, s=1, p=0, groups=1, d=1):
        kh, kw = (k, k) if isinstance(k, int) else k
        n = len(self.constants)
        w = self.constant(f"w{n}", weights(n, co, ci // groups, kh, kw))
        b = self.constant(f"b{n}", weights(n + 1, co))
        return self.node("Conv", x, w, b, kernel_shape=[kh, kw], strides=[s, s], pads=[p] * 4, dilations=[d, d], group=groups)

    def matmul(self, x, k, n):
        return self.node("MatMul", x, self.constant(f"w{len(self.constants)}", weights(k, k, n)))

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

    def finish(self, result):
        output = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "case", self.inputs, [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
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


def _conv(shape):
    v = {key: int(n) for key, n in pairs(shape).items()}
    h = v["h"]
    g = Builder()
    x = g.input("x", v.get("n", 1), v["ci"], h, v.get("w", h))
    k = (v.get("kh", v.get("k")), v.get("kw", v.get("k")))
    return [g.finish(g.conv(x, v["ci"], v["co"], k, v.get("s", 1), v.get("p", 0), v.get("groups", 1), v.get("d", 1)))]


def _matmul(shape):
    v = {key: int(n) for key, n in pairs(shape).items()}
    m, n, k, b = v["m"], v["n"], v["k"], v.get("b", 1)
    g = Builder()
    if b > 1:
        return [g.finish(g.node("MatMul", g.input("a", b, m, k), g.input("b", b, k, n)))]
    return [g.finish(g.matmul(g.input("a", m, k), k, n))]


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


WRITTEN_OUT = {"conv": _conv, "matmul": _matmul, "attention": _attention, "gelu": _gelu, "swish": _swish}


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
