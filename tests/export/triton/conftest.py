"""A Triton repository of a small model, exported once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2.export.exporter import export_checkpoint


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory) -> Path:
    """The folder of a repository with the models charlm and charlm_step; charlm.onnx lies beside it."""
    folder = tmp_path_factory.mktemp("triton")
    made = export_checkpoint(trained(), out=folder / "charlm.onnx", engine="none", triton=folder / "models")
    assert made.triton == (folder / "models" / "charlm_step", folder / "models" / "charlm")
    return folder / "models"


@pytest.fixture
def backend(monkeypatch):
    """Triton's Python backend is there."""
    from .simulator import python_backend

    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", python_backend())
