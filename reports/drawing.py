"""Pictures of the reports: one look, and SVG that can stand beside others in a page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from .numbers import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULES = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": "#333840",
    "xtick.color": "#555b63",
    "ytick.color": "#555b63",
    "xtick.minor.bottom": False,
    "ytick.minor.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def svg(figure: Figure, salt: str) -> str:
    """The figure as one ``<svg>`` element that can stand beside others in a page.

    Identifiers are hashed with a salt, since a page has one name space; header, metadata and size go.
    """
    import matplotlib

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**RULES, "svg.hashsalt": printable(salt)}):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    head, end, rest = text.partition(">")
    head = re.sub(r' (?:width|height|version)="[^"]*"', "", head)
    return f'{head} role="img"{end}{rest}'.strip()
