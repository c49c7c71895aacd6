"""ONNX's own tests of its quantised operators: one node each, with the results that the standard gives."""
import pathlib
import re

import numpy
import onnx
import onnx.numpy_helper
import pytest

from models import heddle

NODES = pathlib.Path(onnx.__file__).parent / "backend/test/data/node"
PREFIXES = ("quantizelinear", "dequantizelinear", "dynamicquantizelinear", "qlinearconv", "qlinearmatmul", "convinteger", "matmulinteger")
TESTS = sorted(folder.name for prefix in PREFIXES for folder in NODES.glob(f"test_{prefix}*"))
NARROW = ("e4m3fn", "e5m2", "float4e2m1", "int4", "uint4", "int2", "uint2")  # element types that Heddle does not have


WRAPPED = "qlinearmatmul_[23]D_int8"  # what does not fit wraps around in these results, where the standard's text has it saturate


def is_narrow(name):
    return any(name.endswith(part) or f"_{part}_" in name for part in NARROW)


def tensor(path, value):
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return value.name, onnx.numpy_helper.to_array(proto)


def words_of(name, folder):
    """--input words for the test's data, which goes to `folder`."""
    graph = onnx.load(NODES / name / "model.onnx").graph
    words = []
    for i, value in enumerate(graph.input):
        key, array = tensor(NODES / name / f"test_data_set_0/input_{i}.pb", value)
        numpy.save(folder / f"{key}.npy", array)
        words += ["--input", f"{key}={folder / key}.npy"]
    return words, [tensor(NODES / name / f"test_data_set_0/output_{i}.pb", value) for i, value in enumerate(graph.output)]


def test_there_are_tests_of_every_operator():
    for prefix in PREFIXES:
        assert any(name.startswith(f"test_{prefix}") and not is_narrow(name) for name in TESTS), prefix


@pytest.mark.parametrize("name", [name for name in TESTS if not is_narrow(name)])
def test_the_standard_s_results(name, tmp_path):
    words, wanted = words_of(name, tmp_path)
    heddle("run", NODES / name / "model.onnx", "--cache", tmp_path / "cache", *words, "--output", tmp_path / "out")
    for key, want in wanted:
        got = numpy.load(tmp_path / "out" / f"{key}.npy")
        assert got.dtype == want.dtype and got.shape == want.shape
        if numpy.issubdtype(want.dtype, numpy.integer):
            if re.search(WRAPPED, name):
                limits = numpy.iinfo(want.dtype)
                assert (got != want).any() and numpy.isin(got[got != want], [limits.min, limits.max]).all()
                continue
            # None of these has a quotient half-way between two integers that f32 could round to the other.
            numpy.testing.assert_array_equal(got, want)
        else:
            # The last bit of a product: f16's and f32's.
            numpy.testing.assert_allclose(got, want, rtol=2.0 * numpy.finfo(want.dtype).eps)


@pytest.mark.parametrize("name", [name for name in TESTS if is_narrow(name)])
def test_narrow_types_are_refused_by_name(name, tmp_path):
    done = heddle("compile", NODES / name / "model.onnx", "-o", tmp_path / "package", "--cache", tmp_path / "cache", check=False)
    assert done.returncode == 1
    assert "element type" in done.stderr and "is not supported" in done.stderr, done.stderr
