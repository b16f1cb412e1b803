"""The C files: each header by itself, no circles, and nothing visible but what Python calls."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2.runtime import native
from p2.runtime.native import binding

from . import emulated

FOLDER = Path(native.__file__).resolve().parent
HEADERS, SOURCES = sorted(FOLDER.rglob("*.h")), sorted(FOLDER.rglob("*.c"))
# What every level includes after its own vectors.
LANES = sorted(FOLDER.glob("lanes/*.h"))
MOST_PARAMETERS = 8

# A function at the margin of a line, with its parameters. What Python calls takes its arrays one by one, each
# checked.
FUNCTION = re.compile(r"^(?:[\w*]+[ *]+)+(\w+)\(([^()]*)\)\s*[{;]", re.MULTILINE)

pytestmark = pytest.mark.skipif(not SOURCES, reason="p2 was installed without its C files")


def code(path: Path) -> str:
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)


def included(path: Path) -> list[Path]:
    names = re.findall(r'^#include "(.+)"', code(path), re.MULTILINE)
    return [(path.parent / name).resolve() for name in names]


# Folders of levels, by the compiler of their machines.
MACHINES = {"gcc": [*binding.levels()] if native.available() else [], emulated.COMPILER: ["neon"]}


@pytest.mark.parametrize("compiler", MACHINES)
def test_every_header_compiles_alone_and_without_a_warning(compiler):
    flags = ["-O3", "-pthread", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    levels = [path.parent for path in FOLDER.glob("*/level.c")]
    here = [folder for folder in levels if folder.name in MACHINES[compiler]]
    if shutil.which(compiler) is None or not here:
        pytest.skip(f"there is no {compiler} here, or no level of its")
    common = [path for path in HEADERS if path.parent not in levels and compiler == "gcc"]
    for header in common + [path for path in HEADERS if path.parent in here]:
        before = ["-include", str(here[0] / "vectors.h")] if header in LANES else []
        checks = [compiler, *flags, "-fsyntax-only", *before, "-x", "c", str(header)]
        done = subprocess.run(checks, capture_output=True, text=True)
        assert done.returncode == 0, f"{header}: {done.stderr}"


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_header_has_a_guard_of_its_name(header):
    name = "_".join(["P2", *header.relative_to(FOLDER).with_suffix("").parts, "H"]).upper()
    lines = [line for line in code(header).splitlines() if line.strip()]
    assert lines[:2] == [f"#ifndef {name}", f"#define {name}"]
    assert lines[-1] == "#endif"


def test_no_header_includes_itself_in_a_circle():
    left = {path: set(included(path)) for path in HEADERS}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_only_headers_are_included_and_a_source_begins_with_its_own():
    for path in [*HEADERS, *SOURCES]:
        assert set(included(path)) <= {*HEADERS}, path
        own = path.with_suffix(".h")
        assert path.suffix == ".h" or own not in HEADERS or included(path)[0] == own, path


def test_functions_take_few_parameters():
    found = 0
    for path in [*HEADERS, *SOURCES]:
        for name, parameters in FUNCTION.findall(code(path)):
            found += 1
            assert name.startswith("p2_") or parameters.count(",") < MOST_PARAMETERS, f"{path.name}: {name}"
    assert found > 50


def test_types_are_in_one_header():
    for path in HEADERS:
        defined = re.findall(r"^typedef struct", code(path), re.MULTILINE)
        assert path.name == "types.h" or not defined, path.name


@pytest.mark.skipif(not native.available(), reason="the decoder was not compiled")
def test_only_what_python_calls_is_visible():
    library = binding.library()
    assert library is not None
    names = {name for path in SOURCES for name, _ in FUNCTION.findall(code(path))}
    visible = {name for name in names if exported(library, name)}
    assert visible == {name for name in names if name.startswith("p2_")}
    assert len(visible) == 8


def exported(library: ctypes.CDLL, name: str) -> bool:
    try:
        ctypes.c_char.in_dll(library, name)
    except ValueError:
        return False
    return True
