"""Where caches lie, and that none of their troubles reaches anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2.contract.plan import TENSORRT
from p2.runtime.cache import cache_path, folder, read_cache, write_cache


@pytest.mark.parametrize(
    ("named", "expected"), [("/x/cache", "/x/cache/p2"), ("", "~/.cache/p2"), ("relative", "~/.cache/p2")]
)
def test_the_folder_follows_xdg(named, expected, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert folder() == Path(expected).expanduser()


def test_a_cache_of_its_own_for_each_version_and_gpu(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    path = cache_path("timing", TENSORRT, "10.13.3.9", "NVIDIA H100 80GB HBM3")
    assert path == Path("/x/p2/tensorrt-10.13.3.9/timing-nvidia-h100-80gb-hbm3.bin")


def test_what_was_kept_is_read_and_trouble_is_nothing(tmp_path):
    path = tmp_path / "deep" / "c.bin"
    assert read_cache(path) == b""
    write_cache(path, b"abc")
    assert read_cache(path) == b"abc"
    assert [file.name for file in path.parent.iterdir()] == ["c.bin"]
    write_cache(path / "below-a-file", b"x")
    assert read_cache(path / "below-a-file") == b""
