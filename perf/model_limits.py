"""What bounds a model's time: its arithmetic and the weights that are read, counted from its graph."""
import dataclasses
import math

import onnx

WINOGRAD = 2.8  # times the FMA peak at which 3x3 convolutions of stride 1 are counted


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What products of such numbers reach on the machine, 10^9 operations a second."""
    floats: float
    bytes: float
    halves: float


@dataclasses.dataclass(frozen=True)
class Work:
    flops: float           # of convolutions and products, a multiply-add being two
    winograd_flops: float  # the part of them that is dense 3x3 convolutions of stride 1
    weight_bytes: float    # of their constant operands, as they are stored: in bytes where they are quantised
    byte_flops: float = 0  # the part of the operations whose operands are both dequantised
    half_flops: float = 0  # the part whose operands are bf16, but for what could be Winograd's
    narrow: bool = False   # whether the latter are bf16 too: then the faster of both ways counts

    def limit_seconds(self, peaks, read_gbs):
        """No shorter: the arithmetic at the peaks, or the weights at the speed at which memory is read."""
        plain = self.flops - self.winograd_flops - self.byte_flops - self.half_flops
        winograd = max(WINOGRAD * peaks.floats, peaks.halves if self.narrow else 0)
        arithmetic = plain / peaks.floats + self.winograd_flops / winograd + self.byte_flops / peaks.bytes + self.half_flops / peaks.halves
        return max(arithmetic, self.weight_bytes / read_gbs) * 1e-9


def _attribute(node, name, default):
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _is_winograd(node, weight):
    spatial = weight[2:]
    ones = [1] * len(spatial)
    return (spatial == [3, 3] and list(_attribute(node, "strides", ones)) == ones and list(_attribute(node, "dilations", ones)) == ones
            and _attribute(node, "group", 1) == 1)


def _flops(node, operands, result):
    """Of a convolution or product; 0 of anything else, which is bound by memory or hidden."""
    kind = node.op_type
    if kind == "Conv":
        return 2 * math.prod(result) * math.prod(operands[1][1:])
    if kind == "ConvTranspose":
        return 2 * math.prod(operands[0]) * math.prod(operands[1][1:])
    if kind == "MatMul":
        return 2 * math.prod(result) * operands[0][-1]
    if kind == "Gemm":
        return 2 * math.prod(result) * operands[0][0 if _attribute(node, "transA", 0) else 1]
    return 0


def _shapes(model, inputs):
    """Extents of every tensor whose extents are known, with the inputs' extents as given."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in inputs:
            del value.type.tensor_type.shape.dim[:]
            for extent in inputs[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = extent
    # What a file claims of its intermediates may be symbolic; it is inferred anew.
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = [d.dim_value for d in dims]
    shapes.update({c.name: list(c.dims) for c in graph.initializer})
    return shapes


def count(model, inputs, measured=None, precision="f32"):
    """inputs: {name: extents}. precision: of floats, f32 or bf16. measured: () -> {name: extents} of intermediates, asked where inference does not get through.
    Raises ValueError naming a node whose extents nobody knows. Subgraphs are not counted."""
    shapes, asked = _shapes(model, inputs), measured is None
    varying = set(inputs)
    flops = winograd = weights = of_bytes = of_halves = 0
    float_bytes = {"f32": 4, "bf16": 2}[precision]
    counted, dequantised = set(), set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            dequantised.update(node.output)
        varies = bool(varying.intersection(node.input))
        if varies:
            varying.update(node.output)
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm") or not varies:
            continue
        names = [*node.input[:2], node.output[0]]
        if not asked and any(name not in shapes for name in names):
            shapes.update(measured())
            asked = True
        for name in names:
            if name not in shapes:
                raise ValueError(f"the extents of {name}, at {node.op_type} {node.name}, are not known")
        operation = _flops(node, [shapes[name] for name in names[:2]], shapes[names[2]])
        flops += operation
        if dequantised.issuperset(node.input[:2]):
            of_bytes += operation
        elif node.op_type == "Conv" and _is_winograd(node, shapes[names[1]]):
            winograd += operation
        elif precision == "bf16":
            of_halves += operation
        for name in names[:2]:
            if name not in varying and name not in counted:
                counted.add(name)
                weights += (1 if name in dequantised else float_bytes) * math.prod(shapes[name])
    return Work(flops, winograd, weights, of_bytes, of_halves, precision == "bf16")
