"""./dev says what is missing, does no set-up work twice, and starts quickly."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(directory, *arguments, **environment):
    return subprocess.run([str(directory / "dev"), *arguments], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PIP_NO_INDEX": "1", "NO_COLOR": "1", **environment})


@pytest.fixture
def checkout(tmp_path):
    """A folder with ./dev in it whose packages are installed already; and programs that stand for the system's."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    shutil.copy(ROOT / "dev", directory)
    (directory / "packages.txt").write_text("bash  # always there\n")
    (directory / "requirements.txt").write_text("")
    return directory


def fake_programs(directory, **scripts):
    """A PATH in which the named programs are shell scripts."""
    programs = directory.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name, script in scripts.items():
        program = programs / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def test_second_call_does_nothing(checkout):
    first = run(checkout, "setup")
    assert first.returncode == 0, first.stderr
    assert "making the virtual environment" in first.stderr
    start = time.monotonic()
    second = run(checkout, "setup")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert time.monotonic() - start < 2


def test_missing_debian_package_is_named(checkout):
    (checkout / "packages.txt").write_text("bash\nheddle-no-such-package  # why\n")
    log = checkout.parent / "apt.log"
    path = fake_programs(checkout, apt_get=f'echo "$@" >>{log}; [ "$1" = update ]', id="echo 0")
    done = run(checkout, "setup", PATH=path)
    assert done.returncode == 1
    assert "installing Debian packages: heddle-no-such-package" in done.stderr
    assert "apt-get could not install: heddle-no-such-package" in done.stderr
    assert log.read_text().splitlines()[0].startswith("update")  # the list is fetched only now that it is needed


def test_sudo_is_used_by_others_than_root(checkout):
    (checkout / "packages.txt").write_text("heddle-no-such-package\n")
    log = checkout.parent / "sudo.log"
    path = fake_programs(checkout, sudo=f'echo "$@" >>{log}; exit 1', id="echo 1000", apt_get="exit 9")
    done = run(checkout, "setup", PATH=path)
    assert done.returncode == 1
    assert log.read_text().startswith("apt-get update")


def test_missing_python_package_is_named(checkout):
    (checkout / "requirements.txt").write_text("heddle-no-such-package==1.0\n")
    done = run(checkout, "setup")
    assert done.returncode == 1
    assert "heddle-no-such-package==1.0" in done.stderr
    assert "pip could not install requirements.txt" in done.stderr
    assert not (checkout / ".venv" / ".stamp").exists()  # the next call tries again


def test_peers_are_installed_when_asked_for_alone(checkout):
    requirements = checkout / "perf" / "peers" / "requirements.txt"
    requirements.parent.mkdir(parents=True)
    requirements.write_text("")
    assert run(checkout, "setup").returncode == 0
    assert not (checkout / ".venv-peers").exists()
    first = run(checkout, "peers")
    assert first.returncode == 0, first.stderr
    assert "making the virtual environment .venv-peers" in first.stderr
    second = run(checkout, "peers")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    requirements.write_text("heddle-no-such-package==1.0\n")
    third = run(checkout, "peers")
    assert third.returncode == 1
    assert "pip could not install perf/peers/requirements.txt" in third.stderr


def test_models_are_filled_once(checkout):
    stripped = checkout.parent / "stripped"
    stripped.mkdir()
    (stripped / "fill.py").write_text("import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read() + ' filled')\n")
    (stripped / "resnet50.onnx").write_text("graph")
    done = run(checkout, "setup", HEDDLE_MODELS=str(stripped))
    assert done.returncode == 0, done.stderr
    model = checkout / "build" / "models" / "resnet50.onnx"
    assert model.read_text() == "graph filled"
    model.write_text("kept")
    assert "filling" not in run(checkout, "setup", HEDDLE_MODELS=str(stripped)).stderr
    assert model.read_text() == "kept"


def test_unknown_command(checkout):
    done = run(checkout, "tset")
    assert done.returncode == 1
    assert "unknown command 'tset'" in done.stderr
    assert "./dev COMMAND" in done.stderr
