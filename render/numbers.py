"""How reports print numbers and names: few digits, a unit, nothing that a page or a screen cannot show."""

from __future__ import annotations

import unicodedata

NOTHING = "–"  # shown in place of a figure that was not measured


def number(value: float | None) -> str:
    """Three significant digits, thousands separated."""
    if value is None:
        return NOTHING
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def ratio(value: float | None) -> str:
    """``27.3×``."""
    return NOTHING if value is None else f"{number(value)}×"


def percent(value: float | None) -> str:
    """A fraction as ``93.1 %``."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def size(value: float | None) -> str:
    """Bytes in binary units, ``48.2 MiB``."""
    if value is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{number(value)} {unit}"
        value /= 1024
    return f"{number(value)} GiB"


def seconds(value: float | None) -> str:
    """``0.312 s``."""
    return NOTHING if value is None else f"{number(value)} s"


def printable(text: str) -> str:
    """`text` on one line, with what no file or screen can show (controls, lone surrogates) replaced."""
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
