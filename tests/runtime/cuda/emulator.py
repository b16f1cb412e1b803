"""CUDA kernels on this processor: compiled by g++ with `shim/platform.cuh` in place of the kernels' own.

What a GPU would not forgive is a `Fault`: an address beside what was allocated or not aligned, threads that
leave while others wait for them, a grid in which nobody can go on.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SHIM = Path(__file__).parent / "shim"
COMMON = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall"]
KERNELS = [*COMMON, "-fvisibility=hidden", "-Og", "-x", "c++", "-Wno-unknown-pragmas", "-Wno-unused"]
# Checked by `shim/checks.cpp`, so that no library is needed; and by `shim/races.cpp`.
CHECKS = ["-fsanitize=alignment,bounds,shift-exponent"]
RACES = ["-fsanitize=thread", "-DP2_RACES", "-g1"]
FIBRES = [*COMMON, "-O3", "-Wextra", "-Werror", "-shared"]
KEPT_SECONDS = 24 * 3600  # what no test has used for so long is deleted


class Fault(AssertionError):
    """A kernel did what it must not, or cannot be launched."""


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX", "g++"))


def compile(source: Path, defines: Mapping[str, int], cache: Path, races: bool = False) -> Kernels:
    """The kernels of a file.

    Args:
        source: a .cu file that includes ``platform.cuh`` first, and others from beside it.
        defines: macros, as for NVRTC.
        cache: folder where compiled files are kept; several processes may use it at once.
        races: accesses to memory that nothing orders are faults too, which takes much longer.

    Raises:
        Fault: the compiler refuses it.
    """
    macros = [f"-D{name}={value}" for name, value in sorted(defines.items())]
    include = ["-I", str(SHIM), "-include", str(SHIM / "platform.cuh")]
    shim = sorted(SHIM.iterdir())
    # One library of fibres for all kernels: they share their stacks.
    fibres = _made(FIBRES, [path for path in shim if path.suffix == ".cpp"], shim, cache, ".so")
    beside = [*sorted(source.parent.glob("*.cu*")), *shim]
    checks = [*CHECKS, *RACES] if races else CHECKS
    kernels = _made([*KERNELS, *checks, *macros, *_fast(), *include, "-c"], [source], beside, cache, ".o")
    return Kernels(_made(["-shared"] if races else ["-shared", "-s"], [kernels, fibres], [], cache, ".so"))


class Kernels:
    """Compiled kernels, by name."""

    def __init__(self, library: Path) -> None:
        # It does not release the interpreter's lock: one launch at a time.
        self._code = ctypes.PyDLL(str(library))
        self._code.p2_problem.restype = ctypes.c_char_p
        self._library = library

    def __contains__(self, name: str) -> bool:
        return hasattr(self._code, f"{name}_limits")

    def launch(
        self, name: str, blocks: int, threads: int, shared_bytes: int, *arguments: Any, seed: int = 0
    ) -> None:
        """Run a kernel.

        Args:
            name: of the kernel.
            blocks: in the grid.
            threads: of each block, a multiple of 32.
            shared_bytes: of each block.
            arguments: numpy arrays or addresses, integers and floats: at most 8 and 4.
            seed: in which order threads run that do not wait for one another.

        Raises:
            Fault: it did what no kernel may do.
        """
        floats = [value for value in arguments if isinstance(value, float | np.floating)]
        others = [
            value.ctypes.data if isinstance(value, np.ndarray) else int(value)
            for value in arguments
            if not isinstance(value, float | np.floating)
        ]
        done = self._code.p2_emulate(
            getattr(self._code, name),
            getattr(self._code, f"{name}_limits"),
            blocks,
            threads,
            ctypes.c_long(shared_bytes),
            ctypes.c_uint64(seed),
            (ctypes.c_uint64 * 8)(*(value & (1 << 64) - 1 for value in others)),
            (ctypes.c_float * 4)(*floats),
        )
        if not done:
            problem = self._code.p2_problem().decode()
            raise Fault(f"{name}: {re.sub('code (0x[0-9a-f]+), (0x[0-9a-f]+|0)', self._lines, problem)}")

    def _lines(self, places: re.Match[str]) -> str:
        """Lines of the sources for places in the code, where there is a program that tells them."""
        if not shutil.which("addr2line"):
            return places[0]
        command = ["addr2line", "-s", "-i", "-p", "-e", self._library, *places.groups()]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = []
        for place in re.split(r"\n(?! \(inlined by\))", said):
            lines = re.findall(r"[\w.]+:\d+", place)
            own = [line for line in lines if not line.startswith("platform.cuh")]
            found += (own or lines)[:1]
        return " and ".join(found)


def _fast() -> list[str]:
    """A fused multiply-add is a call of the C library where the compiler may not use the instruction."""
    try:
        return ["-mfma"] if " fma " in Path("/proc/cpuinfo").read_text() else []
    except OSError:
        return []


def _made(options: list[str], sources: list[Path], needs: list[Path], cache: Path, suffix: str) -> Path:
    """What the compiler makes of some files, from the cache if it has it."""
    digest = hashlib.sha256(repr((compiler(), options, [path.name for path in sources])).encode())
    for path in [*sources, *needs]:
        digest.update(path.read_bytes())
    target = cache / (digest.hexdigest()[:32] + suffix)
    return _once(target, [*options, *map(str, sources)])


def _once(target: Path, command: list[str]) -> Path:
    """What a command of the compiler makes; of several processes one makes it, and the others wait."""
    if not target.exists():
        with target.with_suffix(f"{target.suffix}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _make(target, command)
    os.utime(target)
    return target


def _make(target: Path, command: list[str]) -> None:
    for path in target.parent.iterdir():
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)
    unfinished = target.with_suffix(f"{target.suffix}.part")
    done = subprocess.run(
        [compiler() or "g++", *command, "-o", str(unfinished)], capture_output=True, text=True
    )
    if done.returncode:
        raise Fault(done.stderr)
    unfinished.replace(target)
