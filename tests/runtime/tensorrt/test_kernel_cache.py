"""Kernels compiled by TensorRT-RTX are there again the next time."""

from __future__ import annotations

import numpy as np

FILE = "tensorrt-rtx-1.7.1.116/kernels-nvidia-test.bin"


def run_once(bench, **how):
    loaded = bench(**how)
    state = loaded.engine.zero_state(1)
    loaded.engine.feed(state, np.array([[1, 2]]))
    loaded.engine.close()


def test_kernels_are_kept_and_given_back(bench, cache_folder):
    run_once(bench)
    assert (cache_folder / FILE).read_bytes() == b"k"
    run_once(bench)  # what was kept comes first
    assert (cache_folder / FILE).read_bytes() == b"kk"


def test_a_cache_that_does_not_fit_is_replaced(bench, cache_folder):
    run_once(bench)
    (cache_folder / FILE).write_bytes(b"of another driver")
    run_once(bench, refuses={"cache"})
    assert (cache_folder / FILE).read_bytes() == b"k"


def test_tensorrt_has_none(bench, cache_folder):
    run_once(bench, flavour="tensorrt")
    assert not cache_folder.exists()


def test_nothing_is_written_where_nothing_ran(bench, cache_folder):
    bench().engine.close()
    assert not cache_folder.exists()
