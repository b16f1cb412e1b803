"""Faults planted in a copy of p2, each of which a test has to notice: the tests are tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2.runtime import native

from ..levels import LEVELS
from ..runtime.cuda import emulator
from .conftest import Trust
from .mutation import export, judging, kernels, learning, serving, writing
from .mutation.planting import Mutant, Nursery, traces_of

MUTANTS: tuple[Mutant, ...] = tuple(
    mutant for room in (export, writing, kernels, serving, learning, judging) for mutant in room.MUTANTS
)


def is_possible(mutant: Mutant) -> bool:
    """Whether what the fault is in can run here."""
    if mutant.path.startswith("runtime/cuda"):
        return emulator.compiler() is not None
    if not mutant.path.startswith("runtime/native"):
        return True
    needed = {level for level in ("avx2", "avx512") if f"/{level}/" in mutant.path}
    if any("test_compact.py" in check for check in mutant.checks):
        needed.add("avx512")  # only there are weights kept in 28 bits
    if any("test_levels.py" in check for check in mutant.checks) and len(LEVELS) < 2:
        return False  # nothing to compare
    return needed <= {*LEVELS} and bool(LEVELS)


CHECKS = sorted({check for mutant in MUTANTS if is_possible(mutant) for check in mutant.checks})


@pytest.fixture(scope="module")
def nursery(tmp_path_factory, request) -> Iterator[Nursery]:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    made = Nursery(tmp_path_factory.mktemp("nursery"), shared, native.level() if native.available() else None)
    yield made
    made.close()


TURNS = 2  # `make trust` plants every second fault, which ones its seed says: minutes would not do for all


def is_its_turn(mutant: Mutant, trust: Trust) -> bool:
    everything = trust.scale > 1 or trust.until is not None
    return everything or MUTANTS.index(mutant) % TURNS == trust.seed % TURNS


def test_every_fault_can_be_planted():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40 * TURNS
    for mutant in MUTANTS:
        mutant.planted()


@pytest.mark.parametrize("file", sorted({check.partition("::")[0] for check in CHECKS}))
def test_without_a_fault_they_pass(file, nursery, trust):
    """In the same copy and by the same means."""
    wanted = {check for mutant in MUTANTS if is_its_turn(mutant, trust) for check in mutant.checks}
    checks = [check for check in CHECKS if check in wanted and check.partition("::")[0] == file]
    if not checks:
        pytest.skip("what it notices is not planted this time")
    answer = nursery.run(checks)
    assert answer["code"] == 0, answer["said"]
    assert answer["passed"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_planted_fault_is_noticed(mutant, nursery, trust):
    if not is_its_turn(mutant, trust):
        pytest.skip("another seed's")
    if not is_possible(mutant):
        pytest.skip("what it is in cannot run here")
    with nursery.planted(mutant):
        answers = {check: nursery.run([check], traces_of(mutant)) for check in mutant.checks}
    for check, answer in answers.items():
        assert answer["code"] == 1, f"{check} does not notice it\n{answer['said']}"
    names = ", ".join(answer["failed"].removeprefix("tests/") for answer in answers.values())
    trust.count("Mutants", mutant.name, where=mutant.path, noticed_by=names)
