"""Everything of p2 that reads a file, or what somebody else hands over."""

from __future__ import annotations

import pytest

from . import read_documents, read_models, read_requests, read_sources
from .reading import Reader

ALL: tuple[Reader, ...] = (
    *read_models.READERS,
    *read_sources.READERS,
    *read_documents.READERS,
    *read_requests.READERS,
)


def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture is drawn: that takes longer than all the rest."""
    from p2.bench import plots

    for name in ("of_run", "of_model"):
        monkeypatch.setattr(plots, name, lambda *_: [])
    monkeypatch.setattr("p2.practical.page_parts.inline", lambda _: "<svg ></svg>")
