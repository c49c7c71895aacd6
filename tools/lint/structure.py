#!/usr/bin/env python3
"""Checks what the compiler cannot: which folder includes which, and the few rules that keep the code plain.

usage: structure.py [ROOT]     prints `file:line: message` for each violation; exit status 1 if there is one.

The rules are the data below; docs/architecture.md explains them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Folder -> folders whose headers it may include. Every folder may include itself and base. Data flows one way.
FOLDERS = {
    "base": [],
    "dsl": [],
    "ops": ["dsl"],
    "schedules": ["dsl", "ops"],
    "targets": ["dsl"],
    "generators": ["dsl", "targets"],
    "graph": ["dsl", "ops", "schedules", "generators", "targets"],
    "runtime": [],
    "autoscheduler": ["dsl", "ops", "schedules", "generators", "targets", "runtime"],
    "plugin": ["dsl", "ops", "targets", "tools"],
    "tools": ["*"],
    "tests": ["*"],
    "perf": ["*"],
    "python": [],
    "include": ["dsl"],
    "cmake": [],
    "examples": ["dsl"],
}

# Single headers that a folder may include although the table above does not give it their folder.
EXTRA_HEADERS = {
    "graph": [r"runtime/plan\w*\.hpp"],
    # The C table through which a kernel's module and whoever loads it speak: a header without dependencies.
    "runtime": [r"generators/shims/kernel_table\.h"],
}

# Folders that implement or use the installed C API (include/heddle/).
PUBLIC_API_USERS = ["runtime", "tools", "tests", "perf", "python", "include", "examples"]

# Headers from outside -> (folders that may include them, why not elsewhere). Paths are matched from the start.
OUTSIDE = [
    (r"boost/hana", ["dsl"], "only dsl/ uses Boost.Hana, so that the rest reads as plain C++"),
    (r"Halide\.h$", ["dsl", "ops", "schedules", "targets", "generators", "graph", "autoscheduler", "tools", "plugin", "tests",
                     "perf", "cmake", "examples"],
     "base/ and runtime/ are shipped without Halide"),
    (r"HalideRuntime\w*\.h$", ["runtime", "targets", "generators", "autoscheduler", "tests", "perf", "tools"],
     "only those who call or emit compiled kernels know Halide's ABI"),
    (r"HalideBuffer\.h$", ["generators", "tests", "perf"], "the runtime uses halide_buffer_t itself"),
    (r"(onnx|google/protobuf)", ["graph", "tools", "tests"], "only the reader knows the model's file format"),
    (r"llvm(-c)?/", [], "LLVM is inside Halide and never called by us"),
    (r"xgboost/", ["autoscheduler"], "only the search's cost model learns"),
    (r"(soci/|libpq)", ["schedules", "tests"], "only the store of records speaks SQL"),
    (r"catch2/", ["tests"], "the test framework belongs into tests/"),
    (r"benchmark/", ["perf"], "the benchmark framework belongs into perf/"),
    (r"CLI/", ["tools", "tests", "perf"], "only programs parse a command line"),
]

# Files (by prefix) -> macros that may be defined there. Everywhere else #define is refused.
MACROS = {
    "tests/main.cpp": [r"CATCH_CONFIG_MAIN"],
    "include/heddle/": [r"HEDDLE_\w+"],   # a C header has no other way to mark what it exports
    "generators/shims/": [r"HEDDLE_\w+"],       # the guards of C headers
    "generators/standalone/": [r"HEDDLE_\w+"],
}

LONG_FILE = 600  # lines; a warning, not an error

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
RAW_STRING = re.compile(r'R"(?P<mark>[^\s()\\]{0,16})\(.*?\)(?P=mark)"', re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s*(?P<kind>[<"])(?P<path>[^>"]+)[>"]')
DEFINE = re.compile(r"^\s*#\s*define\s+(?P<name>\w+)")

SOURCE_SUFFIXES = {".cpp", ".hpp", ".c", ".h"}
# Programs and projects that tests compile as a user would: the folder rules are ours, not theirs.
USER_CODE = re.compile(r"^tests/.*/(data|modules|projects)/")


@dataclass(frozen=True)
class Violation:
    path: str
    line: int
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {'warning: ' if self.warning else ''}{self.message}"


def check_include(root: Path, path: str, line: int, kind: str, included: str) -> list[Violation]:
    folder = path.split("/", 1)[0]
    other = included.split("/", 1)[0]
    found = []

    def refuse(message: str) -> None:
        found.append(Violation(path, line, message))

    for pattern, allowed, reason in OUTSIDE:
        if re.match(pattern, included) and folder not in allowed:
            refuse(f"{folder}/ must not include <{included}>: {reason}")

    if included.startswith("heddle/"):
        if folder not in PUBLIC_API_USERS:
            refuse(f'{folder}/ must not include "{included}": the C API is for users and for the runtime behind it')
    elif other in FOLDERS and "/" in included:
        if kind == "<":
            refuse(f'include "{included}" with quotes: it is ours')
        if not (root / included).exists():
            refuse(f'"{included}" does not exist')
        allowed = [folder, "base", *FOLDERS[folder]]
        extra = any(re.fullmatch(pattern, included) for pattern in EXTRA_HEADERS.get(folder, []))
        if "*" not in allowed and other not in allowed and not extra:
            names = ", ".join(sorted(set(allowed) - {folder}))
            refuse(f'{folder}/ must not include "{included}": of our folders it may include {names} alone')
    elif kind == '"' and "/" not in included or included.startswith("."):
        own = Path(path).parent / included
        if (root / own).exists():
            refuse(f'include "{own.as_posix()}" by its path from the repository root, not "{included}"')
    return found


def check_file(root: Path, path: str) -> list[Violation]:
    text = (root / path).read_text(encoding="utf-8", errors="replace")
    # Programs that tests write out are text here, not code of ours; lines keep their numbers.
    text = RAW_STRING.sub(lambda match: '""' + "\n" * match[0].count("\n"), text)
    lines = text.splitlines()
    folder = path.split("/", 1)[0]
    found: list[Violation] = []

    for number, line in enumerate(lines, 1):
        if match := INCLUDE.match(line):
            if not USER_CODE.match(path):
                found += check_include(root, path, number, match["kind"], match["path"])
        elif (match := DEFINE.match(line)) and not USER_CODE.match(path):
            allowed = [name for prefix, names in MACROS.items() if path.startswith(prefix) for name in names]
            if not any(re.fullmatch(name, match["name"]) for name in allowed):
                found.append(Violation(path, number, f"macro {match['name']}: use a function, a template or a constant"))
        if match := UNFINISHED.search(line):
            found.append(Violation(path, number, f"{match[1]}: finish it, or open an issue"))

    if path.endswith(".hpp") and "#pragma once" not in lines:
        found.append(Violation(path, 1, "a header begins with #pragma once"))
    if folder not in FOLDERS:
        found.append(Violation(path, 1, f"folder {folder}/ is not in the table of tools/lint/structure.py"))
    if len(lines) > LONG_FILE:
        found.append(Violation(path, LONG_FILE, f"{len(lines)} lines: split it by subject", warning=True))
    return found


def source_files(root: Path) -> list[str]:
    """Sources that git tracks or would track, so that neither build/ nor .venv/ is looked at."""
    # Git refuses a checkout that somebody else owns, which is how containers see one.
    command = ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "--cached", "--others",
               "--exclude-standard", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(path for path in set(listed)
                  if Path(path).suffix in SOURCE_SUFFIXES and "/" in path and (root / path).is_file())


def check(root: Path) -> list[Violation]:
    return [violation for path in source_files(root) for violation in check_file(root, path)]


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    found = check(root)
    for violation in found:
        print(violation)
    errors = sum(not violation.warning for violation in found)
    print(f"structure: {len(source_files(root))} files, {errors} violations, {len(found) - errors} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
