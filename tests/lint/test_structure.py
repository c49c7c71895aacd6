"""The structure lint finds planted violations, names their place, and accepts what the design allows."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lint"))
import structure  # noqa: E402


@pytest.fixture
def tree(tmp_path):
    """A repository with one header a folder; call it with {path: text} to add files and get the violations."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    headers = {f"{folder}/part.hpp": "#pragma once\n" for folder in structure.FOLDERS}
    headers["runtime/plan.hpp"] = "#pragma once\n"

    def check(files):
        for path, text in {**headers, **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return structure.check(tmp_path)

    return check


# The design's table, said a second time on purpose: a slip in the lint's own data must not pass unseen.
ALLOWED = {
    "base": "",
    "dsl": "base",
    "ops": "base dsl",
    "schedules": "base dsl ops",
    "targets": "base dsl",
    "generators": "base dsl targets",
    "graph": "base dsl ops schedules generators targets",
    "runtime": "base",
    "autoscheduler": "base dsl ops schedules generators targets runtime",
    "tools": "base dsl ops schedules targets generators graph runtime autoscheduler",
}


@pytest.mark.parametrize("folder", ALLOWED)
@pytest.mark.parametrize("other", [name for name in ALLOWED if name != "tools"])
def test_folder_table(tree, folder, other):
    found = tree({f"{folder}/user.cpp": f'// A comment.\n#include "{other}/part.hpp"\n'})
    if other == folder or other in ALLOWED[folder].split():
        assert found == []
    else:
        assert [(v.path, v.line) for v in found] == [(f"{folder}/user.cpp", 2)]
        assert f'{folder}/ must not include "{other}/part.hpp"' in found[0].message


@pytest.mark.parametrize("path, include, refused", [
    ("dsl/a.cpp", "<boost/hana.hpp>", False),
    ("ops/a.cpp", "<boost/hana.hpp>", True),
    ("ops/a.cpp", "<boost/hana/at_key.hpp>", True),
    ("tests/dsl/a_test.cpp", "<boost/hana.hpp>", True),
    ("ops/a.cpp", "<Halide.h>", False),
    ("runtime/a.cpp", "<Halide.h>", True),
    ("base/a.cpp", "<Halide.h>", True),
    ("runtime/host/a.cpp", "<HalideRuntime.h>", False),
    ("graph/a.cpp", '"runtime/plan.hpp"', False),
    ("runtime/a.cpp", '"onnx-ml.pb.h"', True),
    ("schedules/a.cpp", '"onnx-ml.pb.h"', True),
    ("generators/a.cpp", "<llvm/IR/Module.h>", True),
    ("ops/a.cpp", "<heddle/heddle.h>", True),
    ("runtime/a.cpp", '"heddle/heddle.h"', False),
    ("ops/a.cpp", '"dsl/missing.hpp"', True),
    ("dsl/a.cpp", '"part.hpp"', True),
    ("dsl/a.cpp", '"../base/part.hpp"', True),
    ("dsl/a.cpp", "<base/part.hpp>", True),
])
def test_single_headers(tree, path, include, refused):
    found = tree({path: f"#include {include}\n"})
    assert bool(found) == refused, found


def test_macros(tree):
    found = tree({
        "ops/a.cpp": "int x;\n#define REGISTER(x) x\n",
        "tests/main.cpp": "#define CATCH_CONFIG_MAIN\n#define OTHER\n",
        "include/heddle/heddle.h": "#define HEDDLE_API\n",
    })
    assert [(v.path, v.line) for v in found] == [("ops/a.cpp", 2), ("tests/main.cpp", 2)]


def test_programs_in_strings_are_text(tree):
    found = tree({"tests/a_test.cpp": 'auto s = R"(\n#define A\n)";\nauto t = R"x()"\n#define B\n)x";\n#define C\n'})
    assert [(v.line, v.message.split(":")[0]) for v in found] == [(7, "macro C")]


def test_unfinished_work_and_headers(tree):
    found = tree({"ops/a.hpp": "// TODO: the rest\n", "strange/a.cpp": "int x;\n"})
    assert {(v.path, v.message.split(":")[0]) for v in found} == {
        ("ops/a.hpp", "TODO"), ("ops/a.hpp", "a header begins with #pragma once"),
        ("strange/a.cpp", "folder strange/ is not in the table of tools/lint/structure.py")}


def test_long_files_are_warned_of(tree):
    found = tree({"ops/a.cpp": "int x;\n" * (structure.LONG_FILE + 1)})
    assert [v.warning for v in found] == [True]


def test_ignored_files_are_not_read(tree):
    assert tree({".gitignore": "/build/\n", "build/a.cpp": "#define X\n"}) == []


def test_exit_status(tree, tmp_path):
    program = [sys.executable, str(ROOT / "tools" / "lint" / "structure.py"), str(tmp_path)]
    tree({})
    assert subprocess.run(program, capture_output=True).returncode == 0
    tree({"ops/a.cpp": "#define X\n"})
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ops/a.cpp:1: macro X" in done.stdout
