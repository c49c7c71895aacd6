"""What perf/autoscheduler.py compares schedules on: operators of the catalog, groups of operators that become one kernel, and apps.

Each operator and group is an ONNX model of its own too, which peers run and groups are made from.
"""
import dataclasses

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


@dataclasses.dataclass(frozen=True)
class Case:
    family: str
    name: str
    operator: tuple = ()    # (operator, --shape, --attribute) of heddle tune
    model: object = None    # () -> onnx.ModelProto
    app: str = ""           # of perf/apps


def weights(seed, *shape):
    return numpy.random.default_rng(seed).standard_normal(shape, dtype=numpy.float32) / numpy.float32(numpy.sqrt(numpy.prod(shape[1:]) or 1))


class Builder:
    """A model with one output, node by node."""

    def __init__(self):
        self.nodes, self.inputs, self.constants = [], [], []

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

    def conv(self, x, ci, co, k, s=1, p=0, groups=1):
        n = len(self.constants)
        w = self.constant(f"w{n}", weights(n, co, ci // groups, k, k))
        b = self.constant(f"b{n}", weights(n + 1, co))
        return self.node("Conv", x, w, b, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4, group=groups)

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
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model)


def matmul(m, n, k, b=1):
    def model():
        g = Builder()
        if b == 1:
            return g.finish(g.matmul(g.input("a", m, k), k, n))
        return g.finish(g.node("MatMul", g.input("a", b, m, k), g.input("b", b, k, n)))
    batch = f"b={b}," if b > 1 else ""
    return Case("matmul", f"matmul {batch}{m}x{n}x{k}", ("matmul", f"{batch}m={m},n={n},k={k}", ""), model)


def conv(ci, h, co, k, s=1, groups=1):
    p = (k - 1) // 2
    def model():
        g = Builder()
        return g.finish(g.conv(g.input("x", 1, ci, h, h), ci, co, k, s, p, groups))
    shape = f"ci={ci},h={h},co={co},k={k},s={s},p={p},groups={groups}"
    kind = "depthwise" if groups > 1 else "conv"
    return Case(kind, f"{kind} {ci}@{h} to {co}, {k}x{k}" + (f" stride {s}" if s > 1 else ""), ("conv", shape, ""), model)


def softmax():
    g = Builder()
    return g.finish(g.node("Softmax", g.input("x", 12, 128, 128), axis=-1))


def layer_norm():
    g = Builder()
    return g.finish(g.norm(g.input("x", 1, 128, 768), 768))


def max_pool():
    g = Builder()
    return g.finish(g.node("MaxPool", g.input("x", 1, 64, 112, 112), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))


def add():
    g = Builder()
    return g.finish(g.node("Add", g.input("a", 1, 64, 56, 56), g.input("b", 1, 64, 56, 56)))


def attention():
    """What the app `attention` computes, as a peer is given it."""
    g = Builder()
    q, k, v = (g.input(name, 1, 12, 128, 64) for name in "qkv")
    score = g.node("Mul", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2])), g.constant("scale", numpy.float32(0.125)))
    return g.finish(g.node("MatMul", g.node("Softmax", score, axis=-1), v))


def conv_relu():
    g = Builder()
    return g.finish(g.node("Relu", g.conv(g.input("x", 1, 64, 56, 56), 64, 64, 3, p=1)))


def conv_add_relu():
    g = Builder()
    result = g.conv(g.input("x", 1, 64, 56, 56), 64, 256, 1)
    return g.finish(g.node("Relu", g.node("Add", result, g.input("residual", 1, 256, 56, 56))))


def conv_silu():
    g = Builder()
    result = g.conv(g.input("x", 1, 32, 112, 112), 32, 96, 1)
    return g.finish(g.node("Mul", result, g.node("Sigmoid", result)))


def conv_sigmoid():
    g = Builder()
    return g.finish(g.node("Sigmoid", g.conv(g.input("x", 1, 256, 14, 14), 256, 256, 3, p=1)))


def depthwise_relu6():
    g = Builder()
    result = g.conv(g.input("x", 1, 192, 28, 28), 192, 192, 3, p=1, groups=192)
    return g.finish(g.node("Clip", result, g.constant("least", numpy.float32(0)), g.constant("most", numpy.float32(6))))


def matmul_bias_gelu():
    g = Builder()
    return g.finish(g.gelu(g.bias(g.matmul(g.input("a", 128, 768), 768, 3072), 3072)))


def matmul_bias_add():
    g = Builder()
    result = g.bias(g.matmul(g.input("a", 128, 3072), 3072, 768), 768)
    return g.finish(g.node("Add", result, g.input("residual", 128, 768)))


def matmul_bias_tanh():
    g = Builder()
    return g.finish(g.node("Tanh", g.bias(g.matmul(g.input("a", 197, 768), 768, 768), 768)))


def matmul_bias_gate():
    g = Builder()
    gate = g.node("Sigmoid", g.bias(g.matmul(g.input("a", 128, 768), 768, 768), 768))
    return g.finish(g.node("Mul", gate, g.input("gated", 128, 768)))


def add_mul_relu():
    g = Builder()
    total = g.node("Add", g.input("a", 1, 64, 56, 56), g.input("b", 1, 64, 56, 56))
    return g.finish(g.node("Relu", g.node("Mul", total, g.input("c", 1, 64, 1, 1))))


GROUPS = [conv_relu, conv_add_relu, conv_silu, conv_sigmoid, depthwise_relu6, matmul_bias_gelu, matmul_bias_add, matmul_bias_tanh, matmul_bias_gate,
          add_mul_relu]
APPS = ["bilateral_grid", "camera_pipe", "histogram_equalisation", "local_laplacian", "max_filter", "non_local_means", "stencil_chain", "unsharp_mask"]

CASES = [
    matmul(128, 768, 768), matmul(128, 3072, 768), matmul(197, 768, 768), matmul(512, 512, 512), matmul(128, 128, 64, b=12),
    conv(3, 224, 64, 7, 2), conv(64, 56, 64, 1), conv(64, 56, 64, 3), conv(64, 56, 256, 1), conv(128, 28, 128, 3), conv(512, 28, 128, 1),
    conv(256, 14, 256, 3), conv(1024, 14, 256, 1), conv(512, 7, 512, 3), conv(2048, 7, 512, 1),
    conv(32, 112, 32, 3, groups=32), conv(144, 56, 144, 3, 2, 144), conv(192, 28, 192, 3, groups=192), conv(960, 7, 960, 3, groups=960),
    Case("softmax", "softmax 12x128x128", ("softmax", "x=f32[12,128,128]", ""), softmax),
    Case("layer norm", "layer norm 128x768", ("layer_norm", "x=f32[1,128,768],scale=f32[768]", ""), layer_norm),
    Case("attention", "attention 12x128x64", app="attention", model=attention),
    Case("pooling", "max pool 64@112, 3x3 stride 2",
         ("max_pool", "x=f32[1,64,112,112]", "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]"), max_pool),
    Case("elementwise", "add 64@56", ("add", "a=f32[1,64,56,56],b=f32[1,64,56,56]", ""), add),
    *[Case("fused group", make.__name__.replace("_", " "), model=make) for make in GROUPS],
    *[Case("app", name, app=name) for name in APPS],
]
