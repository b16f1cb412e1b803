"""Everything of p2 that reads a file, or what somebody else hands over."""

from __future__ import annotations

from . import read_documents, read_models, read_requests, read_sources
from .reading import Reader

ALL: tuple[Reader, ...] = (
    *read_models.READERS,
    *read_sources.READERS,
    *read_documents.READERS,
    *read_requests.READERS,
)
