"""Each kernel of a model against onnxruntime's tensor for it, then the whole model, by `heddle check`."""
import json

import numpy
import onnx

from models import heddle, random_inputs, reference


def dims(entry):
    return [word for dim in entry.dims for word in ("--dim", dim)]


def check_kernels(entry, tmp_path, cache, *options):
    model = onnx.load(entry.path)
    inputs = random_inputs(entry, model)
    numpy.savez(tmp_path / "inputs.npz", **inputs)
    numpy.savez(tmp_path / "reference.npz", **reference(model, inputs, intermediates=True))
    words = [entry.path, *dims(entry), *options, "--cache", cache, "--input", tmp_path / "inputs.npz", "--reference", tmp_path / "reference.npz", "--json"]
    done = heddle("check", *words, check=False)
    report = json.loads(done.stdout) if done.stdout else {"steps": [done.stderr]}
    wrong = [s for s in report["steps"] if not isinstance(s, dict) or s["verdict"] == "WRONG"]
    told = " ".join([str(entry.path), *dims(entry), *options])
    assert done.returncode == 0, f"{wrong[:5]}\nreplay: heddle check {told} --input ... --reference ..."
    assert report["checked"] > report["without_reference"], "most kernels must have a counterpart in the reference"

    # A step spoilt at random must be noticed, or the check above means nothing.
    spoilt = heddle("check", *words, "--spoil", "--seed", "3", check=False)
    assert spoilt.returncode == 1
    assert any(s["verdict"] == "WRONG" for s in json.loads(spoilt.stdout)["steps"])
