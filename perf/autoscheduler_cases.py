"""What perf/autoscheduler.py compares schedules on: operators of the catalog, groups of operators that become one kernel, and apps.

Each operator and group is an ONNX model of its own too, which peers run and groups are made from.
"""
import dataclasses

import numpy

from onnx_models import Builder, kernel_models


@dataclasses.dataclass(frozen=True)
class Case:
    family: str
    name: str
    operator: tuple = ()    # (operator, --shape, --attribute) of heddle tune
    model: object = None    # () -> onnx.ModelProto
    app: str = ""           # of perf/apps


def of_operator(family, name, op, shape, attributes=""):
    return Case(family, name, (op, shape, attributes), lambda: kernel_models(op, shape, attributes)[0])


def matmul(m, n, k, b=1):
    batch = f"b={b}," if b > 1 else ""
    return of_operator("matmul", f"matmul {batch}{m}x{n}x{k}", "matmul", f"{batch}m={m},n={n},k={k}")


def conv(ci, h, co, k, s=1, groups=1):
    shape = f"ci={ci},h={h},co={co},k={k},s={s},p={(k - 1) // 2},groups={groups}"
    kind = "depthwise" if groups > 1 else "conv"
    return of_operator(kind, f"{kind} {ci}@{h} to {co}, {k}x{k}" + (f" stride {s}" if s > 1 else ""), "conv", shape)


def attention():
    """What the app `attention` computes, as a peer is given it."""
    return kernel_models("attention", ",".join(f"{name}=f32[1,12,128,64]" for name in "qkv"))[-1]


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
    of_operator("softmax", "softmax 12x128x128", "softmax", "x=f32[12,128,128]"),
    of_operator("layer norm", "layer norm 128x768", "layer_norm", "x=f32[1,128,768],scale=f32[768]"),
    Case("attention", "attention 12x128x64", app="attention", model=attention),
    of_operator("pooling", "max pool 64@112, 3x3 stride 2", "max_pool", "x=f32[1,64,112,112]", "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]"),
    of_operator("elementwise", "add 64@56", "add", "a=f32[1,64,56,56],b=f32[1,64,56,56]"),
    *[Case("fused group", make.__name__.replace("_", " "), model=make) for make in GROUPS],
    *[Case("app", name, app=name) for name in APPS],
]
