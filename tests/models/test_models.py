"""Real models, compiled and run: each kernel against onnxruntime's tensor for it, then the whole model."""

import numpy
import onnx
import pytest

from kernel_check import check_kernels, dims
from models import MODELS, graph_inputs, heddle, random_inputs, reference


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_and_the_whole_model_agree_with_onnxruntime(name, tmp_path, cache):
    entry = MODELS[name]
    if not entry.path.exists():
        pytest.skip(f"{entry.path} is not there: run ./dev setup")
    check_kernels(entry, tmp_path, cache)


@pytest.mark.parametrize("name", [n for n, m in MODELS.items() if m.shapes])
def test_one_package_runs_several_sizes(name, tmp_path, cache):
    entry = MODELS[name]
    model = onnx.load(entry.path)
    heddle("compile", entry.path, "-o", tmp_path / "package", *dims(entry), "--cache", cache)
    for which in range(len(next(iter(entry.shapes.values())))):
        inputs = random_inputs(entry, model, which)
        expected = reference(model, inputs, intermediates=False)
        for key, array in inputs.items():
            numpy.save(tmp_path / f"{key}.npy", array)
        heddle("run", tmp_path / "package", *[w for key in inputs for w in ("--input", f"{key}={tmp_path / key}.npy")], "--output", tmp_path)
        for output in model.graph.output:
            got = numpy.load(tmp_path / (output.name.replace("/", "_") + ".npy"))
            want = expected[output.name]
            assert got.shape == want.shape
            assert numpy.abs(got - want).max() <= 1e-3 * numpy.abs(want).max()


def test_light_models_give_the_outputs_that_their_authors_recorded(tmp_path, cache):
    """The onnx wheel ships outputs for inputs that its backend tests define: all elements computed from their index."""
    entry = MODELS["light_squeezenet"]
    model = onnx.load(entry.path)
    value = graph_inputs(model)[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    count = numpy.prod(shape)
    data = (numpy.arange(count).reshape(shape).astype(numpy.float32) / count).astype(numpy.float32)
    numpy.save(tmp_path / "x.npy", data)
    heddle("run", entry.path, "--cache", cache, "--input", f"{value.name}={tmp_path / 'x.npy'}", "--output", tmp_path)
    name = model.graph.output[0].name
    got = numpy.load(tmp_path / (name.replace("/", "_") + ".npy"))
    want = reference(model, {value.name: data}, intermediates=False)[name]
    assert numpy.abs(got - want).max() <= 1e-3 * numpy.abs(want).max()
