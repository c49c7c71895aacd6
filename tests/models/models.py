"""The real models that tests run on, and what onnxruntime makes of them."""
import os
import pathlib
import subprocess

import numpy
import onnx
import onnx.utils
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEDDLE = os.environ.get("HEDDLE", str(ROOT / "build/release/bin/heddle"))
FILLED = ROOT / "build/models"
LIGHT = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"


def ocr(name: str) -> pathlib.Path:
    import importlib.util

    package = pathlib.Path(importlib.util.find_spec("rapidocr_onnxruntime").origin).parent
    return package / "models" / name


class Model:
    def __init__(self, path, shapes=None, dims=(), integers=None, pictures=False, until=None):
        self.path = pathlib.Path(path)
        self.shapes = shapes or {}       # input name -> list of shapes to run, where the model's own are symbolic
        self.dims = list(dims)           # --dim flags
        self.integers = integers or {}   # input name -> exclusive upper bound
        self.pictures = pictures         # pictures of text: on noise a detector's outputs are all next to nothing
        self.until = until               # the tensor that is the output, if not the model's own

    def load(self) -> onnx.ModelProto:
        model = onnx.load(self.path)
        return shortened(model, self.until) if self.until else model


MODELS = {
    "resnet50": Model(FILLED / "resnet50.onnx"),
    # QDQ: its tensors of bytes may be off by a step where a float is half-way between two, three after a residual sum.
    "resnet50_int8": Model(FILLED / "resnet50_int8.onnx"),
    "mobilenet_v2": Model(FILLED / "mobilenet_v2.onnx"),
    "efficientnet_b0": Model(FILLED / "efficientnet_b0.onnx"),
    "bert_base_s128": Model(FILLED / "bert_base_s128.onnx", integers={"input_ids": 30000, "attention_mask": 2, "token_type_ids": 2}),
    "gpt2_s64": Model(FILLED / "gpt2_s64.onnx", integers={"input_ids": 50000}),
    "ocr_rec": Model(ocr("ch_PP-OCRv4_rec_infer.onnx"), {"x": [(1, 3, 48, 320), (2, 3, 48, 161)]}, ["x:0=1:4", "x:2=48", "x:3=32:640"]),
    "ocr_cls": Model(ocr("ch_ppocr_mobile_v2.0_cls_infer.onnx"), {"x": [(1, 3, 48, 192), (3, 3, 48, 192)]}, ["x:0=1:4", "x:2=48", "x:3=192"]),
    "ocr_det": Model(ocr("ch_PP-OCRv4_det_infer.onnx"), {"x": [(1, 3, 320, 320), (1, 3, 96, 352)]}, ["x:0=1", "x:2=32:960:32", "x:3=32:960:32"], pictures=True),
}
for light in sorted(LIGHT.glob("light_*.onnx")):
    MODELS[light.stem] = Model(light)


def heddle(*arguments, check=True, **options):
    done = subprocess.run([HEDDLE, *map(str, arguments)], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"heddle {' '.join(map(str, arguments))}\nexited with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def graph_inputs(model: onnx.ModelProto):
    constants = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constants]


def shortened(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """The model up to the tensor `output`, with all of its inputs."""
    return onnx.utils.Extractor(model).extract_model([i.name for i in graph_inputs(model)], [output])


def random_inputs(entry: Model, model: onnx.ModelProto, which: int = 0, seed: int = 0) -> dict[str, numpy.ndarray]:
    random = numpy.random.default_rng(seed)
    arrays = {}
    for value in graph_inputs(model):
        shape = entry.shapes[value.name][which] if value.name in entry.shapes else tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            arrays[value.name] = random.integers(0, entry.integers[value.name], shape, dtype=numpy.int64)
        elif entry.pictures:
            arrays[value.name] = picture_of_text(shape)
        else:
            arrays[value.name] = random.standard_normal(shape).astype(numpy.float32)
    return arrays


def picture_of_text(shape) -> numpy.ndarray:
    """Lines of text as PP-OCR wants its input: blue first, (value / 255 - 0.5) / 0.5."""
    from PIL import Image, ImageDraw, ImageFont

    batch, _, height, width = shape
    image = Image.new("RGB", (width, height), "white")
    font = ImageFont.truetype("DejaVuSans.ttf", 22)
    for line in range(height // 40):
        ImageDraw.Draw(image).text((10, 8 + 40 * line), f"line {line} of some text", fill="black", font=font)
    pixels = numpy.asarray(image, dtype=numpy.float32)[:, :, ::-1].transpose(2, 0, 1)
    return numpy.ascontiguousarray(numpy.repeat(((pixels / 255 - 0.5) / 0.5)[None], batch, axis=0))


def with_intermediates(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, every tensor that depends on an input an output."""
    known = {o.name for o in model.graph.output}
    varying = {i.name for i in graph_inputs(model)}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    for node in model.graph.node:
        if not varying.intersection(node.input):
            continue  # weights computed on the spot: hundreds of megabytes in the light models
        varying.update(node.output)
        for name in node.output:
            if name and name not in known:
                exposed.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
    return exposed


def reference(model: onnx.ModelProto, inputs: dict[str, numpy.ndarray], intermediates: bool) -> dict[str, numpy.ndarray]:
    options = onnxruntime.SessionOptions()
    # Optimised graphs have fewer tensors to look at; the unoptimised one has them all.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession((with_intermediates(model) if intermediates else model).SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    results = dict(zip(names, session.run(names, inputs)))
    results.update(inputs)
    return {name: array for name, array in results.items() if isinstance(array, numpy.ndarray)}
