"""oneDNN and OpenBLAS on single operators, through their C interfaces: weights are packed and layouts chosen outside the timing."""
import ctypes
import importlib.util
import pathlib
import sys

import numpy
import onnx

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from measuring import numbers  # noqa: E402


def constants_of(model):
    return {c.name: onnx.numpy_helper.to_array(c) for c in onnx.load(model).graph.initializer}


def weights_of(model):
    return next(iter(constants_of(model).values()))


def requantization(constants):
    """What a quantised model's sums are to be multiplied with, by channel."""
    return constants["x_scale"] * constants["w_scale"] / constants["y_scale"]


class OpenBlas:
    """cblas_sgemm and, for one row, cblas_sgemv. The library packs within each call: it has no other interface."""

    def __init__(self, threads):
        package = pathlib.Path(importlib.util.find_spec("scipy_openblas32").origin).parent
        self.library = ctypes.CDLL(str(package / "lib/libscipy_openblas.so"))
        self.library.scipy_openblas_set_num_threads(threads)
        self.library.scipy_openblas_get_config.restype = ctypes.c_char_p
        self.version = self.library.scipy_openblas_get_config().decode().split()[1]

    def load_kernel(self, _, shape, attributes, model, inputs):
        v = numbers(shape)
        m, n, k, batches = v["m"], v["n"], v["k"], v.get("b", 1)
        a = numpy.ascontiguousarray(inputs["a"])
        b = numpy.ascontiguousarray(inputs["b"] if batches > 1 else weights_of(model))
        c = numpy.zeros((batches, m, n), numpy.float32)
        rows, plain, transposed, one, zero = 101, 111, 112, ctypes.c_float(1), ctypes.c_float(0)
        at = lambda array, offset: ctypes.c_void_p(array.ctypes.data + 4 * offset)  # noqa: E731
        if m == 1 and batches == 1:
            function = self.library.scipy_cblas_sgemv
            words = [(rows, transposed, k, n, one, at(b, 0), n, at(a, 0), 1, zero, at(c, 0), 1)]
        else:
            function = self.library.scipy_cblas_sgemm
            words = [(rows, plain, plain, m, n, k, one, at(a, i * m * k), k, at(b, i * k * n), n, zero, at(c, i * m * n), n) for i in range(batches)]
        self.keep = (a, b, c)

        def run():
            for arguments in words:
                function(*arguments)
        run()
        return run, [c.copy()]


class Argument(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_int), ("memory", ctypes.c_void_p)]


class OneDnn:
    """Convolutions and matrix products, in the layouts that oneDNN asks for; Winograd where it has it. Of bytes: u8 times i8 and a
    scale a channel, rounded to u8."""

    DTYPES = {"bfloat16": 2, "float32": 3, "int8": 5, "uint8": 6}
    ANY, INFERENCE, AUTO, DIRECT, ALLOCATE = 1, 96, 3, 1, ctypes.c_void_p(-1)
    SRC, DST, WEIGHTS, BIAS, SCALES = 1, 17, 33, 41, 4096 | 33
    QUERY = {SRC: 129, WEIGHTS: 131, DST: 133}

    class Version(ctypes.Structure):
        _fields_ = [(name, ctypes.c_int) for name in ("major", "minor", "patch")]

    def __init__(self, threads):
        # The thread count is OMP_NUM_THREADS, which whoever started this process has set.
        self.library = ctypes.CDLL(str(pathlib.Path(sys.prefix) / "lib/libdnnl.so.3"))
        self.library.dnnl_version.restype = ctypes.POINTER(self.Version)
        version = self.library.dnnl_version().contents
        self.version = f"{version.major}.{version.minor}.{version.patch}"
        self.library.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
        self.engine = self._new("dnnl_engine_create", ctypes.c_int(1), ctypes.c_size_t(0))
        self.stream = self._new("dnnl_stream_create", self.engine, ctypes.c_uint(1))
        self.loaded = []

    def _call(self, name, *words):
        status = getattr(self.library, name)(*words)
        if status != 0:
            raise RuntimeError(f"{name}: " + {1: "out of memory", 2: "invalid arguments", 3: "unimplemented"}.get(status, f"status {status}"))

    def _new(self, name, *words):
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *words)
        return handle

    @staticmethod
    def _dims(values):
        return (ctypes.c_int64 * len(values))(*values)

    def _any(self, shape, dtype):
        return self._new("dnnl_memory_desc_create_with_tag", len(shape), self._dims(shape), self.DTYPES[dtype.name], self.ANY)

    def _plain(self, shape, dtype):
        strides = [int(numpy.prod(shape[i + 1:])) for i in range(len(shape))]
        return self._new("dnnl_memory_desc_create_with_strides", len(shape), self._dims(shape), self.DTYPES[dtype.name], self._dims(strides))

    def _scaled_by_channel(self, dimensions):
        """The attribute of a primitive whose weights have a scale for each index of these dimensions of theirs."""
        attribute = self._new("dnnl_primitive_attr_create")
        self._call("dnnl_primitive_attr_set_scales_mask", attribute, self.WEIGHTS, sum(1 << d for d in dimensions))
        return attribute

    def _memory(self, descriptor, array=None):
        handle = self.ALLOCATE if array is None else ctypes.c_void_p(array.ctypes.data)
        memory = self._new("dnnl_memory_create", descriptor, self.engine, handle)
        self.loaded.append(("dnnl_memory_destroy", memory))
        return memory

    def _execute(self, primitive, memories):
        arguments = (Argument * len(memories))(*(Argument(arg, memory) for arg, memory in memories.items()))
        self._call("dnnl_primitive_execute", primitive, self.stream, len(memories), arguments)
        self._call("dnnl_stream_wait", self.stream)

    def _reorder(self, source, source_md, target, target_md):
        description = self._new("dnnl_reorder_primitive_desc_create", source_md, self.engine, target_md, self.engine, None)
        self._execute(self._new("dnnl_primitive_create", description), {self.SRC: source, self.DST: target})

    def load_kernel(self, op, shape, _, model, inputs):
        while self.loaded:
            name, handle = self.loaded.pop()
            self._call(name, handle)
        if op == "conv":
            description, arrays, result = self._conv(numbers(shape), model, inputs)
        else:
            description, arrays, result = self._matmul(numbers(shape), model, inputs)
        memories = {}
        for arg, array in arrays.items():
            array = numpy.ascontiguousarray(array)
            plain = self._plain(array.shape, array.dtype)
            if arg in (self.BIAS, self.SCALES):
                memories[arg] = self._memory(plain)
                self._reorder(self._memory(plain, array), plain, memories[arg], plain)
                continue
            wanted = ctypes.c_void_p(self.library.dnnl_primitive_desc_query_md(description, self.QUERY[arg], 0))
            memories[arg] = self._memory(wanted)
            self._reorder(self._memory(plain, array), plain, memories[arg], wanted)
        wanted = ctypes.c_void_p(self.library.dnnl_primitive_desc_query_md(description, self.QUERY[self.DST], 0))
        memories[self.DST] = self._memory(wanted)
        primitive = self._new("dnnl_primitive_create", description)
        self.loaded.append(("dnnl_primitive_destroy", primitive))
        arguments = (Argument * len(memories))(*(Argument(arg, memory) for arg, memory in memories.items()))
        execute, wait, stream, count = self.library.dnnl_primitive_execute, self.library.dnnl_stream_wait, self.stream, len(memories)

        def run():
            execute(primitive, stream, count, arguments)
            wait(stream)
        self._execute(primitive, memories)
        output = numpy.zeros(result, arrays[self.SRC].dtype)
        plain = self._plain(result, output.dtype)
        self._reorder(memories[self.DST], wanted, self._memory(plain, output), plain)
        return run, [output]

    def _conv(self, v, model, inputs):
        constants = constants_of(model)
        weights, bias = list(constants.values())[:2]
        x = inputs["x"]
        s, p, d, groups = v.get("s", 1), v.get("p", 0), v.get("d", 1), v.get("groups", 1)
        result = [x.shape[0], weights.shape[0], *((x.shape[i] + 2 * p - d * (weights.shape[i] - 1) - 1) // s + 1 for i in (2, 3))]
        if groups > 1:
            weights = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
        arrays, attribute = {self.SRC: x, self.WEIGHTS: weights, self.BIAS: bias}, None
        if weights.dtype == numpy.int8:
            arrays[self.SCALES] = requantization(constants)
            arrays[self.BIAS] = bias.astype(numpy.float32) * arrays[self.SCALES]
            attribute = self._scaled_by_channel([0, 1] if groups > 1 else [0])
        words = [self._any(x.shape, x.dtype), self._any(weights.shape, weights.dtype), self._plain(bias.shape, arrays[self.BIAS].dtype), self._any(result, x.dtype),
                 self._dims([s, s]), self._dims([d - 1, d - 1]), self._dims([p, p]), self._dims([p, p]), attribute]
        description = self._new("dnnl_convolution_forward_primitive_desc_create", self.engine, self.INFERENCE, self.AUTO, *words)
        return description, arrays, result

    def _matmul(self, v, model, inputs):
        a = inputs["a"]
        b = inputs["b"] if v.get("b", 1) > 1 else weights_of(model)
        result = [*a.shape[:-1], b.shape[-1]]
        arrays, attribute = {self.SRC: a, self.WEIGHTS: b}, None
        if b.dtype == numpy.int8:
            arrays[self.SCALES] = requantization(constants_of(model)).reshape(-1)
            attribute = self._scaled_by_channel([1] if arrays[self.SCALES].size > 1 else [])
        words = [self._any(a.shape, a.dtype), self._any(b.shape, b.dtype), None, self._any(result, a.dtype), attribute]
        return self._new("dnnl_matmul_primitive_desc_create", self.engine, *words), arrays, result
