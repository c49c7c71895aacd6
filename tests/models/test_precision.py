"""--precision bf16 and f16: data is stored in 16 bits, sums are kept in f32, inputs and outputs stay f32."""
import json

import numpy
import onnx
import pytest

from kernel_check import check_kernels
from models import MODELS, heddle, random_inputs

UNIT = {"bf16": 2.0**-8, "f16": 2.0**-11}  # what rounding to nearest is off by at most, relative
# The other light models hold values beyond 65504, which is all that f16 has.
PAIRS = [("light_squeezenet", "bf16"), ("light_shufflenet", "bf16"), ("light_shufflenet", "f16"), ("mobilenet_v2", "f16"),
         ("bert_base_s128", "bf16"), ("bert_base_s128", "f16")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name, precision", PAIRS)
def test_every_kernel_and_the_whole_model_are_off_by_roundings_alone(name, precision, tmp_path, cache):
    entry = MODELS[name]
    if not entry.path.exists():
        pytest.skip(f"{entry.path} is not there: run ./dev setup")
    check_kernels(entry, tmp_path, cache, "--precision", precision)


@pytest.mark.parametrize("precision", UNIT)
def test_a_transformer_in_narrow_floats_is_close_to_itself_in_f32(precision, tmp_path, cache):
    entry = MODELS["bert_base_s128"]
    if not entry.path.exists():
        pytest.skip(f"{entry.path} is not there: run ./dev setup")
    model = onnx.load(entry.path)
    numpy.savez(tmp_path / "inputs.npz", **random_inputs(entry, model))
    results = {}
    for kind in ("f32", precision):
        package = tmp_path / kind
        heddle("compile", entry.path, "-o", package, "--precision", kind, "--cache", cache)
        heddle("run", package, "--input", tmp_path / "inputs.npz", "--output", package / "out")
        results[kind] = [numpy.load(package / "out" / f"{o.name}.npy") for o in model.graph.output]
        manifest = json.loads((package / "manifest.json").read_text())
        assert json.loads(manifest["provenance"])["precision"] == kind
    # 100 kernels round one after the other, each at random: sqrt(100) roundings.
    for got, want in zip(results[precision], results["f32"]):
        assert got.dtype == want.dtype == numpy.float32
        assert 0 < numpy.abs(got - want).max() <= 10 * UNIT[precision] * numpy.abs(want).max()


def test_weights_are_stored_in_bf16_where_the_processor_multiplies_it(tmp_path, cache):
    def bytes_of_weights(precision):
        package = tmp_path / precision
        heddle("compile", MODELS["light_squeezenet"].path, "-o", package, "--precision", precision, "--target", "x86-64-linux-avx512_zen4", "--cache", cache)
        return sum(file.stat().st_size for file in package.rglob("*.weights"))
    assert bytes_of_weights("bf16") < 0.55 * bytes_of_weights("f32")


def test_other_precisions_are_refused(tmp_path):
    done = heddle("compile", MODELS["light_squeezenet"].path, "-o", tmp_path / "package", "--precision", "f64", check=False)
    assert done.returncode == 2
    assert "--precision" in done.stderr and "bf16" in done.stderr, done.stderr
