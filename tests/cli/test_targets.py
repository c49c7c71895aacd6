"""`heddle targets` and `heddle doctor` list the devices of both interfaces, or say why there are none."""
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
from models import heddle  # noqa: E402

NOWHERE = {"HEDDLE_OPENCL_LIBRARY": "/nowhere/libOpenCL.so.1"}


def report(**options):
    return json.loads(heddle("targets", "--json", **options).stdout)


def test_json():
    found = report()
    assert {"opencl", "vulkan"} < {target["target"] for target in found["targets"]}
    assert sum(target["host"] for target in found["targets"]) == 1
    for api in ("opencl", "vulkan"):
        devices = [device for device in found["devices"] if device["api"] == api]
        assert devices or found["no_devices"][api]
        assert [device["index"] for device in devices] == list(range(len(devices)))
        for device in devices:
            assert device["name"] and device["driver"]
            assert device["kind"] in ("cpu", "integrated", "discrete", "other")
            assert device["memory_bytes"] >= device["most_allocation_bytes"] > 0
            assert device["block_threads"] >= 64 and device["shared_bytes"] >= 16384
            assert set(device["types"]) <= {"f16", "f64", "int8", "int16", "int64"}
    assert any(device["api"] == "opencl" for device in found["devices"])


def test_text_names_every_device():
    text = heddle("targets").stdout
    for device in report()["devices"]:
        assert f"{device['api']} {device['index']}" in text
    assert "<- cpu" in text


def test_reason_without_a_loader():
    found = report(env=os.environ | NOWHERE)
    assert not any(device["api"] == "opencl" for device in found["devices"])
    assert "/nowhere/libOpenCL.so.1" in found["no_devices"]["opencl"]
    text = heddle("targets", env=os.environ | NOWHERE).stdout
    assert "no device for opencl" in text and "/nowhere/libOpenCL.so.1" in text


def test_doctor_names_devices():
    name = next(device["name"] for device in report()["devices"] if device["api"] == "opencl")
    findings = {finding["check"]: finding for finding in json.loads(heddle("doctor", "--json").stdout)}
    assert name in findings["opencl devices"]["detail"]
    without = json.loads(heddle("doctor", "--json", env=os.environ | NOWHERE).stdout)
    finding = next(finding for finding in without if finding["check"] == "opencl devices")
    assert finding["good"] and "/nowhere/libOpenCL.so.1" in finding["detail"]
