"""ONNX Runtime for the web: from npm, once for each checkout; and stand-ins for its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from p2.contract import locks
from p2.contract.errors import P2Error
from p2.contract.files import write_bytes
from p2.export.web import ort_web

STAND_INS = {name: f"// {name}\n".encode() for name in ort_web.FILES}


@pytest.fixture(scope="session")
def runtime(request) -> Path:
    """A folder with the files of onnxruntime-web; skips where they are neither kept nor to be had."""
    kept = Path(request.config.cache.mkdir(f"onnxruntime-web-{ort_web.VERSION}"))
    with (kept / "lock").open("w") as lock:
        locks.grab(lock.fileno(), wait=True)  # one process of the tests is enough
        try:
            ort_web.find(kept)
        except P2Error:
            try:
                found = ort_web.find(None)
            except P2Error as error:
                pytest.skip(str(error))
            for name, data in found.items():
                write_bytes(kept / name, data)
    return kept


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A folder with files that have the names and, as `ort_web` is told, the hashes."""
    folder = tmp_path / "ort"
    folder.mkdir()
    for name, data in STAND_INS.items():
        (folder / name).write_bytes(data)
        monkeypatch.setitem(ort_web.FILES, name, hashlib.sha256(data).hexdigest())
    return folder
