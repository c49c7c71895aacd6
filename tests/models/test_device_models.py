"""Whole models on devices, OpenCL (PoCL) and Vulkan (lavapipe, with validation): from the file to onnxruntime's outputs."""
import json
import os

import numpy
import onnx
import pytest

from models import FILLED, MODELS, Model, heddle, random_inputs, reference

APIS = ["opencl", "vulkan"]

# Of the largest output. Sums of up to 3072 products in another order than onnxruntime's, through some fifty layers; a few
# 1e-6 on the devices that were measured.
TOLERANCE = 1e-4

# Almost all of the time is the drivers' compilers. BERT's twelve layers are alike, so that one has them compile as much as
# all. The recogniser of PP-OCR has 55 programs, some of which take PoCL's half a minute: too long to be here.
DEVICE_MODELS = {
    "mobilenet_v2": MODELS["mobilenet_v2"],
    "bert_layer": Model(FILLED / "bert_base_s128.onnx", integers=MODELS["bert_base_s128"].integers, until="layer_norm_2"),
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

    # Nothing on the processor: a step that stayed there would be right without a device.
    for module in json.loads((package / "manifest.json").read_text())["modules"]:
        assert all(step.get("on_device") for step in module["functions"][0]["steps"] if step["kind"] == "kernel"), module["target"]
    environment = dict(os.environ, HEDDLE_CACHE=str(tmp_path / "cache"), HEDDLE_VULKAN_VALIDATION="1")
    inputs = random_inputs(entry, model)
    expected = reference(model, inputs, intermediates=False)
    for api in APIS:
        got = run(package, api, inputs, tmp_path / api, environment)
        for output in model.graph.output:
            want, array = expected[output.name], got[output.name.replace("/", "_")]
            assert array.shape == want.shape
            assert numpy.abs(array - want).max() <= TOLERANCE * numpy.abs(want).max(), f"{output.name} on {api}"
