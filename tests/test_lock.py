"""The lock holds the versions of constraints.txt, a hash for each at least, and no torch."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    found = [re.match(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines]
    return {re.sub(r"[-_.]+", "-", one[1]).lower(): one[2] for one in found if one}


def test_the_lock_agrees_with_the_constraints():
    locked, wanted = pins("requirements.lock"), pins("constraints.txt")
    torch = wanted.pop("torch")
    assert locked == wanted
    head, *entries = re.split(r"\n(?=\w)", (ROOT / "requirements.lock").read_text())
    assert f"pip install torch=={torch} " in head
    for entry in entries:
        assert re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\n?", entry), entry
