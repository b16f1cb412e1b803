"""What lies where an export is to go: its own earlier files are replaced, those of any other model are kept.

Files move by hard links: they stay whole under one name or the other, whenever the program may be killed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..contract.card import Card
from ..contract.errors import ContractError, P2Error
from ..contract.files import reading, sha256_of, write_atomically
from ..contract.plan import read_sidecar, sidecar_path
from ..runtime.step_file import open_step


@dataclass(frozen=True)
class Held:
    """Which model a file holds: the weights, and how they were rounded.

    A graph that a tool rewrote since its export is nobody's but its own.
    """

    checkpoint: str
    precision: str

    @classmethod
    def of(cls, card: Card) -> Held:
        """What a file with this card holds."""
        return cls(card.checkpoint_sha256, card.precision)


@dataclass(frozen=True)
class Place:
    """The three files of one export.

    Attributes:
        onnx: the step graph; the plan and its sidecar lie beside it under the same name.
    """

    onnx: Path

    @property
    def plan(self) -> Path:
        """The plan beside it."""
        return self.onnx.with_suffix(".plan")

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """Graph, sidecar, plan: in this order nothing is ever beside what it does not belong to."""
        return self.onnx, sidecar_path(self.plan), self.plan

    def held(self) -> tuple[Held | None, Held | None]:
        """What the graph and the plan are of; None where there is none.

        Raises:
            P2Error: p2 did not make one of them, or cannot read it back.
        """
        onnx, sidecar, plan = self.files
        graph = compiled = None
        if onnx.exists():
            with _ours(onnx):
                step = open_step(onnx)
                graph = (
                    Held.of(step.card)
                    if step.probe is None
                    else Held(f"changed {sha256_of(onnx)}", step.card.precision)
                )
        if plan.exists() or sidecar.exists():
            with _ours(plan if plan.exists() else sidecar):
                compiled = Held.of(read_sidecar(plan).card)
        return graph, compiled


def make_room(path: Path, card: Card, new: Path, say: Callable[[str], None]) -> None:
    """Clear the place of a graph that is about to be renamed to `path`.

    Files of another model, of another precision or another checkpoint, are kept beside it under a name with
    their precision; a plan that was not built from the new graph is gone before that graph is there.

    Args:
        path: where the graph will be.
        card: its model.
        new: the graph, finished, under another name.
        say: receives a line about what was kept or removed.

    Raises:
        P2Error: a file there was not made by p2, or the file system refused.
    """
    place, mine = Place(path), Held.of(card)
    graph, compiled = place.held()
    if not place.plan.exists():
        compiled = None  # a sidecar alone describes nothing
    for other in dict.fromkeys(held for held in (graph, compiled) if held not in (None, mine)):
        assert other is not None
        mine_too = [place.onnx] if graph == other else []
        mine_too += [file for file in place.files[1:] if compiled == other and file.exists()]
        kept = _keep(place, other, mine_too)
        what = "of another checkpoint"
        if other.checkpoint == mine.checkpoint:
            what = other.precision
        elif other.checkpoint.startswith("changed"):
            what = "changed after its export"
        say(f"{mine_too[0].name} was {what}: kept as {kept}")
    sidecar, plan = place.files[1:]
    if compiled == mine and plan.exists() and read_sidecar(plan).onnx_sha256 == sha256_of(new):
        return
    stale = plan.exists() and compiled == mine
    for file in (plan, sidecar):
        file.unlink(missing_ok=True)
    if stale:
        say(f"removed {plan}, which was built from an earlier export")


def _keep(place: Place, other: Held, present: list[Path]) -> Path:
    """Give files a second name, with their precision in it; returns that of the first of them."""
    stem = f"{place.onnx.name.removesuffix('.onnx')}.{other.precision}"
    for number in itertools.count(1):
        aside = Place(place.onnx.with_name(f"{stem}{f'.{number}' if number > 1 else ''}.onnx"))
        with contextlib.suppress(P2Error):  # taken by what is not p2's
            if set(aside.held()) <= {None, other}:
                break
    pairs = {file: target for file, target in zip(place.files, aside.files, strict=True) if file in present}
    target = pairs.get(place.onnx)
    if target and target.exists() and sha256_of(target) != sha256_of(place.onnx):
        for file in reversed(aside.files[1:]):  # built from the graph that goes
            file.unlink(missing_ok=True)
    for file, target in pairs.items():
        _link(file, target)
    return pairs[present[0]]


def _link(file: Path, target: Path) -> None:
    if target.exists():
        if target.samefile(file):
            return
    else:
        with contextlib.suppress(OSError):  # this file system has no links
            os.link(file, target)
            return
    with file.open("rb") as source:
        write_atomically(target, lambda copy: shutil.copyfileobj(source, copy))


@contextlib.contextmanager
def _ours(path: Path) -> Iterator[None]:
    try:
        with reading(path):
            yield
    except ContractError as error:
        raise P2Error(
            f"{path} is there already, and is no file that p2 can read back: move it away, or name another"
            " with --out"
        ) from error
