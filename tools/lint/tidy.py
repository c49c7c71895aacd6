#!/usr/bin/env python3
"""Runs clang-tidy on files of a configured build, several at once.

usage: tidy.py --build build/release [--jobs N] FILE...

The build's compile commands are GCC's: options that clang does not know and the precompiled header are taken out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TIDY = "clang-tidy-19"
# Options of GCC that clang does not know, and the precompiled header that it cannot read.
DROPPED = {"-fpch-preprocess", "-Winvalid-pch", "-Werror", "-Wno-maybe-uninitialized", "-Wno-restrict",
           "-fno-semantic-interposition"}


def clang_arguments(command: str) -> list[str]:
    """The arguments of a GCC compile command that matter to clang-tidy: language, includes and definitions."""
    words = shlex.split(command)
    kept, skip = [], False
    for word in words[next(i for i, w in enumerate(words) if w.endswith(("g++", "c++", "gcc"))) + 1:]:
        if skip:
            skip = False
        elif word in ("-include", "-o", "-c"):
            skip = True
        elif word not in DROPPED and not word.startswith("-W"):
            kept.append(word)
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()

    commands = {Path(entry["file"]).resolve(): entry
                for entry in json.loads((arguments.build / "compile_commands.json").read_text())}
    files = [file.resolve() for file in arguments.files if file.resolve() in commands]

    def tidy(file: Path) -> tuple[Path, int, str]:
        entry = commands[file]
        done = subprocess.run([TIDY, "--quiet", str(file), "--", *clang_arguments(entry["command"])],
                              cwd=entry["directory"], capture_output=True, text=True)
        # Standard error only counts the warnings suppressed in system headers, unless the file did not compile.
        return file, done.returncode, done.stdout

    failed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for file, status, text in pool.map(tidy, files):
            if status != 0:
                failed += 1
                print(f"tidy: {file}", text, sep="\n", flush=True)
    print(f"tidy: {len(files)} files, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
