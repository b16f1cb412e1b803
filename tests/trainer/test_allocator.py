"""Memory that is freed stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from p2.trainer import allocator

PROGRAM = """
import resource, sys
import numpy as np
from p2.trainer.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(8):
    np.ones(48 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_memory_is_cleared_once():
    """Eight times 48 MiB, more than glibc keeps by itself: their pages are handed out once, or each time."""
    faults = {}
    for how in ("given back", "kept"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, how],
            capture_output=True,
            text=True,
            check=True,
            env={"NUMPY_MADVISE_HUGEPAGE": "0"},
        )
        faults[how] = int(done.stdout)
    assert faults["given back"] - faults["kept"] > 6 * (48 << 20) // 4096


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_freed_memory()


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "1"))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert not allocator.keep_freed_memory()
