"""One small model for the tests of the checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2.gpu_check.models import Files, card_of, make

HIDDEN = 24


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the models, with an LSTM in float32 and int8."""
    folder = tmp_path_factory.mktemp("models")
    files = Files(folder / f"lstm-{HIDDEN}")
    files.folder.mkdir()
    assert set(make(files, card_of("lstm", "after", HIDDEN), ("float32", "int8"))["bytes"]) == {
        "float32",
        "int8",
    }
    return folder


@pytest.fixture(scope="session")
def files(models: Path) -> Files:
    """Where its files lie."""
    return Files(models / f"lstm-{HIDDEN}")
