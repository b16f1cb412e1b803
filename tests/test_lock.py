"""What is pinned: by hashes, and at the lower bounds."""

from __future__ import annotations

import re
import tomllib
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


def test_the_oldest_versions_are_the_lower_bounds():
    """Of what runs on a CPU; PyTorch's is lower than what was tested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][name] for name in ("train", "cpu", "serve", "keras", "data")]
    wanted = [re.match(r"([\w-]+)>=([\d.]+)", one) for one in sum(extras, project["dependencies"])]
    bounds = {one[1]: numbers(one[2]) for one in wanted if one}
    oldest = {name: numbers(version) for name, version in pins("constraints-oldest.txt").items()}
    assert bounds.pop("torch") < oldest.pop("torch")
    assert oldest == bounds


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, f"{version}.0.0".split(".")))[:3]
