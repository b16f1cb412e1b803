"""Figures of the experiments: SVG files, which a page takes in without their paper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract.errors import P2Error
from ..contract.files import read_text, write_bytes
from ..trainer import drawing as pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Drawing]:
    """An empty figure, in inches, that is at `path` after the block; the same data give the same file.

    Raises:
        P2Error: the file cannot be written.
    """
    with pictures.canvas(width, height) as figure:
        yield figure
    write_bytes(path, pictures.alone(pictures.svg(figure, path.name)).encode())


def inline(path: Path) -> str:
    """A figure's ``<svg>`` element, for a page.

    Raises:
        P2Error: the file is missing.
    """
    if not path.is_file():
        raise P2Error(f"the picture {path} is missing: `p2 practical report` draws it again")
    return pictures.element(read_text(path))
