"""What the pages share on which a model writes: their look, and what their fields and buttons do."""

from __future__ import annotations

from importlib import resources

SHARED = {
    "page.css": "/* contract/page.css */\n",
    "page.js": "/* contract/page.js */\n",
    "sliders.html": "<!-- contract/sliders.html -->\n",
    "buttons.html": "<!-- contract/buttons.html -->\n",
}


def filled(page: str) -> str:
    """A page with each shared file in the place of the comment that names it."""
    for name, comment in SHARED.items():
        shared = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
        page = page.replace(comment, shared)
    return page
