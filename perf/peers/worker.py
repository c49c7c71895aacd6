"""A peer's process: loads what it is told to and times it on command. Run by perf/peers/client.py in .venv-peers.

usage: worker.py NAME THREADS CPUS PRECISION, then lines of JSON on the standard input, each answered with one.
"""
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy

from client import TYPES, load_arrays

SHORTEST = 20e-6  # below this the clock's own cost shows


class OnnxRuntime:
    def __init__(self, threads):
        import onnxruntime
        self.module, self.threads, self.version = onnxruntime, threads, onnxruntime.__version__

    def load(self, model, inputs):
        options = self.module.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        session = self.module.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        if inputs is None:
            random = numpy.random.default_rng(0)
            inputs = {i.name: random.standard_normal(i.shape).astype(numpy.float32) for i in session.get_inputs()}
        values = session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})
        # Bound buffers: nothing is allocated or copied while time runs.
        binding = session.io_binding()
        self.keep = []
        for bind, ports, arrays in ((binding.bind_ortvalue_input, session.get_inputs(), [inputs[i.name] for i in session.get_inputs()]),
                                    (binding.bind_ortvalue_output, session.get_outputs(), values)):
            for port, array in zip(ports, arrays):
                value = self.module.OrtValue.ortvalue_from_numpy(array)
                self.keep.append(value)
                bind(port.name, value)
        run = session.run_with_iobinding
        return (lambda: run(binding)), values


class OpenVino:
    def __init__(self, threads, precision):
        import openvino
        self.module, self.version = openvino, openvino.__version__.split("-")[0]
        self.core = openvino.Core()
        # The group size: or it would make bytes of the data that is multiplied with weights of few bits, whatever the precision.
        self.options = {"INFERENCE_PRECISION_HINT": precision, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_NUM_THREADS": threads,
                        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}

    def load(self, model, inputs):
        graph = self.core.read_model(model)
        if inputs is not None:
            graph.reshape({port: self.module.PartialShape(list(inputs[port.get_any_name()].shape)) for port in graph.inputs})
        request = self.core.compile_model(graph, "CPU", self.options).create_infer_request()
        random = numpy.random.default_rng(0)
        self.keep = []
        for port in request.model_inputs:
            array = inputs[port.get_any_name()] if inputs is not None else random.standard_normal(list(port.shape)).astype(numpy.float32)
            self.keep.append(numpy.ascontiguousarray(array))
            request.set_tensor(port, self._tensor(self.keep[-1]))
        request.infer()

        def run():
            request.start_async()
            request.wait()
        return run, [self._array(tensor) for tensor in request.output_tensors]

    # It has bf16, numpy has not: it takes the bytes as any type of two, and gives them as f16.
    def _tensor(self, array):
        if array.dtype == ml_dtypes.bfloat16:
            return self.module.Tensor(array.view(numpy.uint16), array.shape, self.module.Type.bf16)
        return self.module.Tensor(array, shared_memory=True)

    def _array(self, tensor):
        array = numpy.array(tensor.data)
        return array.view(ml_dtypes.bfloat16) if tensor.element_type == self.module.Type.bf16 else array


class Ncnn:
    """Winograd and packed layouts as by default, half-precision storage off: f32 as everybody here."""

    def __init__(self, threads):
        import ncnn
        self.module, self.threads, self.version = ncnn, threads, ncnn.__version__

    def load(self, model, inputs):
        import onnx
        proto = onnx.load(model)
        constants = {c.name for c in proto.graph.initializer}
        ports = [i for i in proto.graph.input if i.name not in constants]
        names = [i.name for i in ports]
        with tempfile.TemporaryDirectory() as scratch:
            if len(ports) < len(proto.graph.input):  # old models list constants as inputs, and pnnx believes them
                del proto.graph.input[:]
                proto.graph.input.extend(ports)
                model = f"{scratch}/inputs.onnx"
                onnx.save(proto, model)
            del proto
            stem = self._convert(model, pathlib.Path(scratch), [inputs[n] for n in names])
            script = (stem.parent / f"{stem.name}_ncnn.py").read_text()
            net = self.module.Net()
            net.opt.num_threads = self.threads
            net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
            if net.load_param(f"{stem}.ncnn.param") != 0 or net.load_model(f"{stem}.ncnn.bin") != 0:
                raise RuntimeError("ncnn does not load what pnnx wrote: it holds a layer that ncnn has not")
        # The converter's own example says which axis is the batch, which ncnn has none of.
        axes = {name: int(axis) for name, axis in re.findall(r'ex\.input\("(in\d+)", ncnn\.Mat\(\w+\.numpy\(\), batch_index=(\d+)\)', script)}
        mats = []
        for i, name in enumerate(names):
            array = numpy.ascontiguousarray(inputs[name])
            if array.dtype != numpy.float32:
                array = array.astype(numpy.int32)
            mats.append((f"in{i}", self.module.Mat(array, batch_index=axes.get(f"in{i}", 233)).clone()))
        outputs = re.findall(r'ex\.extract\("(out\d+)"\)', script)

        def run():
            with net.create_extractor() as extractor:
                for name, mat in mats:
                    extractor.input(name, mat)
                results = [extractor.extract(name) for name in outputs]
            if any(status != 0 for status, _ in results):
                raise RuntimeError("ncnn stops within the model: a layer does not take its operands")
            return results
        self.keep = net
        return run, [numpy.array(mat) for _, mat in run()]

    @staticmethod
    def _convert(model, scratch, arrays):
        program = pathlib.Path(importlib.util.find_spec("pnnx").origin).with_name("pnnx")  # the module itself would want torch
        link = scratch / "model.onnx"
        link.symlink_to(model)
        kinds = {"float32": "f32", "int64": "i64", "int32": "i32"}
        shapes = ",".join(f"[{','.join(map(str, a.shape))}]{kinds[str(a.dtype)]}" for a in arrays)
        done = subprocess.run([program, link, f"inputshape={shapes}", "fp16=0"], cwd=scratch, capture_output=True, text=True, errors="replace")
        stem = scratch / "model"
        if not pathlib.Path(f"{stem}.ncnn.param").exists():
            raise RuntimeError(f"pnnx converts it not (status {done.returncode}): {' '.join((done.stdout + done.stderr)[-300:].split())}")
        return stem


def make(name, threads, precision):
    if precision not in TYPES[name]:
        raise ValueError(f"{name} has no {precision}")
    if name == "openvino":
        return OpenVino(threads, "f32" if precision == "int8" else precision)  # of what is not quantised
    if name in ("onednn", "openblas"):
        import primitives
        return {"onednn": primitives.OneDnn, "openblas": primitives.OpenBlas}[name](threads)
    return {"onnxruntime": OnnxRuntime, "ncnn": Ncnn}[name](threads)


def load(peer, subject):
    inputs = load_arrays(subject["inputs"]) if subject.get("inputs") else None
    if hasattr(peer, "load_kernel"):
        run, values = peer.load_kernel(*subject["kernel"], subject["models"][0], inputs)
    else:
        reasons = []
        for model in subject["models"]:
            try:
                run, values = peer.load(model, inputs)
                break
            except Exception as error:  # whatever a peer throws is its reason
                reasons.append(" ".join(str(error).split())[:400])
        else:
            raise RuntimeError("; ".join(reasons))
    if subject.get("outputs"):
        numpy.savez(subject["outputs"], *values)
    return run


def turn(run, seconds):
    start = time.perf_counter()
    run()
    once = time.perf_counter() - start
    repeats = 1 if once >= SHORTEST else int(SHORTEST / max(once, 1e-8)) + 1
    samples, end = [], time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        now = time.perf_counter()
        samples.append((now - start) / repeats)
        if now >= end:
            return samples


def main():
    name, threads, cpus, precision = sys.argv[1], int(sys.argv[2]), [int(c) for c in sys.argv[3].split(",") if c], sys.argv[4]
    if cpus:
        os.sched_setaffinity(0, cpus)
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(document):
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    peer = make(name, threads, precision)
    answer({"version": peer.version})
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                run = None  # the one before is let go first
                run = load(peer, request["load"])
                answer({})
            else:
                samples = turn(run, request["turn"])
                time.sleep(0.02)  # its threads spin for a while
                answer({"samples": samples})
        except Exception as error:
            answer({"fails": " ".join(f"{error}".split())[:600] or type(error).__name__})


if __name__ == "__main__":
    main()
