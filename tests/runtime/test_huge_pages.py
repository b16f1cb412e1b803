"""Which memory is asked to lie on large pages."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.runtime import huge_pages
from p2.runtime.huge_pages import LINE, PAGE, Pool, collapse, large_ranges

MAPS = """\
00400000-00800000 r--p 00000000 08:01 1234                       /usr/bin/python3
10000000-10100000 rw-p 00000000 00:00 0                          [heap]
20000000-20700000 rw-p 00000000 00:00 0
30100000-30900000 rw-p 00000000 00:00 0
40000000-48000000 rw-p 00000000 08:01 99                         /tmp/mapped file
50000000-58000000 r--p 00000000 00:00 0
7ffd00000000-7ffd10000000 rw-p 00000000 00:00 0                  [stack]
"""


def test_whole_pages_of_large_private_memory_only():
    # The file, the read-only range, the stack and what holds fewer than two whole pages are left out.
    assert large_ranges(MAPS) == [(0x20000000, 0x600000), (0x30200000, 0x600000)]


def test_the_memory_keeps_its_contents():
    array = np.arange(8 * PAGE // 4, dtype=np.int32)
    collapse()
    assert (array == np.arange(len(array))).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_system_that_forbids_it_is_left_alone(monkeypatch, tmp_path):
    setting = tmp_path / "enabled"
    setting.write_text("always madvise [never]\n")
    monkeypatch.setattr(huge_pages, "_SETTING", setting)
    monkeypatch.setattr(ctypes, "CDLL", lambda *a, **k: pytest.fail("asked"))
    assert collapse() == 0


def test_a_system_without_the_setting_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(huge_pages, "_SETTING", tmp_path / "missing")
    assert collapse() == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 1000)), max_size=12))
def test_arrays_of_a_pool_are_apart(shapes):
    pool = Pool()
    arrays = [pool.empty(shape, np.float32) for shape in shapes]
    for number, array in enumerate(arrays):
        array[...] = number
        assert array.ctypes.data % LINE == 0 or not array.size
    assert all((array == number).all() for number, array in enumerate(arrays))
    assert [array.shape for array in arrays] == shapes
