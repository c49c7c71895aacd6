"""The installed tree is whole: a project outside of it finds Heddle, builds an operator and a kernel, and runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"
TOOLS = Path(sys.executable).parent


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    directory = tmp_path_factory.mktemp("prefix")
    run(TOOLS / "cmake", "--install", BUILD, "--prefix", directory)
    return directory


@pytest.fixture(scope="module")
def project(prefix, tmp_path_factory):
    directory = tmp_path_factory.mktemp("blur")
    run(TOOLS / "cmake", "-S", ROOT / "tests" / "install" / "projects" / "blur", "-B", directory, "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={TOOLS / 'ninja'}", f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
    run(TOOLS / "cmake", "--build", directory)
    return directory


def test_program_runs_from_the_prefix(prefix):
    assert "heddle" in run(prefix / "bin" / "heddle", "--version")


def test_runtime_needs_neither_halide_nor_llvm(prefix):
    library = next((prefix / "lib").glob("**/libheddle_runtime.so"))
    needed = run("ldd", library).lower()
    assert "libc.so" in needed
    assert "halide" not in needed and "llvm" not in needed


def test_c_program_uses_the_runtime(project):
    version, status, message = run(project / "use_runtime").split("\n", 2)
    assert version[0].isdigit()
    assert int(status) != 0
    assert "no/such/package" in message


def test_kernel_of_an_operator_of_ones_own(project):
    assert run(project / "use_blur").strip() == "blur: as the reference says"


def test_program_loads_the_module(prefix, project):
    listed = run(prefix / "bin" / "heddle", "ops", "--ops", project / "blur.ops.so")
    assert "blur" in listed
