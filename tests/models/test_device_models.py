"""Whole models on devices, OpenCL (PoCL) and Vulkan (lavapipe, with validation): from the file to onnxruntime's outputs."""
import json
import os

import numpy
import onnx
import pytest

from models import FILLED, MODELS, Model, graph_inputs, heddle, ocr, random_inputs, reference, shortened

APIS = ["opencl", "vulkan"]

# Of the largest output. Sums of up to 3072 products in another order than onnxruntime's, through some fifty layers, are
# off by a few 1e-6; a wrong kernel is off by more than 1e-1.
TOLERANCE = 1e-4

# A narrow line of text, and two of BERT's twelve layers, which are alike: what drivers compile is the same, and that is
# most of the time.
DEVICE_MODELS = {
    "mobilenet_v2": MODELS["mobilenet_v2"],
    "ocr_rec": Model(ocr("ch_PP-OCRv4_rec_infer.onnx"), {"x": [(1, 3, 48, 64), (2, 3, 48, 33)]}, ["x:0=1:2", "x:2=48", "x:3=32:96"]),
    "bert_two_layers": Model(FILLED / "bert_base_s128.onnx", integers=MODELS["bert_base_s128"].integers, until="layer_norm_4"),
}


def run(package, target, inputs, folder, device_environment):
    folder.mkdir()
    numpy.savez(folder / "inputs.npz", **inputs)
    done = heddle("run", package, "--target", target, "--input", folder / "inputs.npz", "--output", folder, env=device_environment)
    assert "Vulkan validation" not in done.stderr, done.stderr
    return {file.stem: numpy.load(file) for file in folder.glob("*.npy")}


@pytest.mark.parametrize("name", DEVICE_MODELS)
def test_whole_models_on_devices_agree_with_onnxruntime(name, tmp_path):
    entry = DEVICE_MODELS[name]
    if not entry.path.exists():
        pytest.skip(f"{entry.path} is not there: run ./dev setup")
    model = entry.load()
    onnx.save(model, tmp_path / "model.onnx")
    dims = [word for dim in entry.dims for word in ("--dim", dim)]
    package = tmp_path / "package"
    heddle("compile", tmp_path / "model.onnx", "-o", package, *dims, "--target", ",".join(APIS), "--cache", tmp_path / "cache")

    modules = {module["device"]: module for module in json.loads((package / "manifest.json").read_text())["modules"]}
    environment = dict(os.environ, HEDDLE_CACHE=str(tmp_path / "cache"), HEDDLE_VULKAN_VALIDATION="1")
    sizes = len(next(iter(entry.shapes.values()), [None]))
    for which in range(sizes):
        inputs = random_inputs(entry, model, which)
        expected = reference(model, inputs, intermediates=False)
        for api in APIS:
            got = run(package, api, inputs, tmp_path / f"{api}{which}", environment)
            for output in model.graph.output:
                want, array = expected[output.name], got[output.name.replace("/", "_")]
                assert array.shape == want.shape
                assert numpy.abs(array - want).max() <= TOLERANCE * numpy.abs(want).max(), f"{output.name} on {api}"
