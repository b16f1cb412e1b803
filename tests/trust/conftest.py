"""What the checks of trust have in common: how much each does, and a report of what they did.

A check is a pytest test in a file ``tests/trust/check_*.py``: `make trust` runs those (minutes), `make soak`
runs them fifty times as long, `make test` none of them. Quick tests of their tools are in ``test_*.py`` here.
To add one::

    def test_kills_of_train(trust, tmp_path):
        for number in range(trust.times(20)):  # 20 in `make trust`, 1,000 in `make soak`
            ...  # assert what must hold: a fault is a failed test, not a count
        trust.count("Kills", "train", killed=20, resumed=20)

``trust.times(20, most=100)`` grows to 100 only. Draw from ``trust.random()``: the report names the seed,
which `make soak` chooses anew. Counts of one section and name add up, over tests and processes; a float is
the largest of those given, a text the last. A section becomes a table, a name a row of it, see `report.py`.
A check takes 30 seconds at most, for two processes share them: parametrize.

With ``--trust-minutes`` each check has a share of the time (``pytest.mark.weight``, see `budget.py`), and
goes on until it is over or there is nothing more to try: loop over ``trust.turns(20)``, or hand on
``trust.until``.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import report
from .budget import WEIGHT, Budget

KEY = "trust"
ALONE = 0.85  # of a limited time: what one thing may take that is to last


class Trust:
    """How much a check does, and where it says what it did.

    Args:
        node: the check.
        budget: of the time; None: it is not limited.

    Attributes:
        scale: 1 in `make trust`.
        seed: of everything drawn.
        until: when this check's share of the time is over, in seconds of the epoch; None: it has no end.
    """

    def __init__(self, node: pytest.Item, budget: Budget | None) -> None:
        self.scale: int = node.config.getoption("trust_scale", 1)
        self.seed: int = node.config.getoption("trust_seed", 0)
        self.until = None if budget is None else budget.begin(node.nodeid)
        self._node, self._budget = node, budget

    def times(self, usual: int, most: int | None = None) -> int:
        """How often to do a thing that is done so often in `make trust`."""
        wanted = usual * self.scale
        return wanted if most is None else max(usual, min(wanted, most))

    def turns(self, usual: int, most: int | None = None) -> Iterator[int]:
        """Count to `times`; where time is limited, to `most` until the check's share of it is over."""
        limit = self.times(usual, most) if self.until is None else most
        for turn in itertools.count():
            if (limit is not None and turn >= limit) or (turn and self.until and time.time() >= self.until):
                return
            yield turn

    def part(self, share: float) -> float | None:
        """When so much of what is left of this check's time is over; None: it has no end."""
        return None if self.until is None else time.time() + share * max(0.0, self.until - time.time())

    def lasting(self, usual: float, most: float) -> float:
        """Seconds for a thing that is to last: `usual` in `make trust`, else `most`, where there is time."""
        if self._budget is None:
            return usual if self.scale == 1 else most
        seconds = min(most, ALONE * self._budget.seconds)
        self._budget.begin(self._node.nodeid, seconds)
        return seconds

    def random(self) -> random.Random:
        """Drawn numbers of this check alone, the same in every run with this seed."""
        return random.Random(f"{self.seed} {self._node.nodeid}")

    def count(self, section: str, name: str, **counts: float | str) -> None:
        """Say what was done: whole numbers are added up."""
        self._node.user_properties.append((KEY, [section, name, counts]))


@pytest.fixture(scope="session")
def budget(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Budget | None:
    """The time of all checks, where it is limited."""
    if not (minutes := request.config.getoption("trust_minutes", None)):
        return None
    weights = {item.nodeid: weight(item) for item in request.session.items}
    base = tmp_path_factory.getbasetemp()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    ledger = (base.parent if worker else base) / "time.json"
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    return Budget(ledger, 60 * minutes, weights, worker or "", workers)


@pytest.fixture(autouse=True)
def trust(request: pytest.FixtureRequest, budget: Budget | None) -> Trust:
    return Trust(request.node, budget)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trust")
    group.addoption("--trust-scale", type=int, default=1, help="how many times as much is done")
    group.addoption("--trust-minutes", type=float, help="share out so much time instead")
    group.addoption("--trust-seed", type=int, default=0, help="of what is drawn")
    group.addoption(
        "--trust-report", type=Path, metavar="FILE", help="write the counts to this .json, and .md"
    )


class Collector:
    """Adds up what the checks of a run say, in the process that hears of all of them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.started = time.time()
        self.commit = report.commit_here()
        self.sections: report.Sections = {}
        self.checks, self.failed = set[str](), set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (report.when == "call" and not report.skipped) or report.failed:
            self.checks.add(report.nodeid)
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when == "teardown":
            said = [told for key, told in report.user_properties if key == KEY]
            for one in said:
                add(self.sections, *one)
            if said and self.is_long:
                self.pytest_sessionfinish()  # what is killed later has told so much
                self.say(said)

    @property
    def is_long(self) -> bool:
        return bool(self.config.getoption("trust_scale") > 1 or self.config.getoption("trust_minutes"))

    def say(self, said: list[tuple[str, str, dict[str, float | str]]]) -> None:
        """A line for each row that a check has added to."""
        shown = self.config.pluginmanager.getplugin("terminalreporter")
        shown.ensure_newline()
        for section, name in dict.fromkeys((section, name) for section, name, _ in said):
            rows = self.sections[section]
            counts = ", ".join(f"{report.cell(value)} {key}" for key, value in rows[name].items())
            shown.write_line(f"{(time.time() - self.started) / 60:.1f} min: {section}, {name}: {counts}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        path: Path = self.config.getoption("trust_report")
        told = report.document(
            self.sections,
            checks=len(self.checks),
            failed=sorted(self.failed),
            scale=self.config.getoption("trust_scale"),
            minutes=self.config.getoption("trust_minutes"),
            seed=self.config.getoption("trust_seed"),
            commit=self.commit,
            started=self.started,
        )
        report.write(told, path)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        path: Path = self.config.getoption("trust_report")
        terminalreporter.write_line("")
        terminalreporter.write_line(path.with_suffix(".md").read_text(encoding="utf-8"))
        terminalreporter.write_line(f"wrote {path}")


def add(sections: report.Sections, section: str, name: str, counts: dict[str, float | str]) -> None:
    """Add what a check said to what others said of the same thing."""
    row = sections.setdefault(section, {}).setdefault(name, {})
    for key, value in counts.items():
        old = row.get(key, value)
        if isinstance(value, int) and isinstance(old, int) and key in row:
            row[key] = old + value
        elif isinstance(value, float) and isinstance(old, int | float):
            row[key] = max(old, value)
        else:
            row[key] = value


def weight(item: pytest.Item) -> float:
    """Of a check: its share of the time is by it."""
    marked = item.get_closest_marker("weight")
    return WEIGHT if marked is None else float(marked.args[0])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("trust_minutes", None):
        items.sort(key=weight, reverse=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "weight: a check's share of --trust-minutes is by this")
    asked = config.getoption("trust_report", None)
    if asked and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config), "trust-report")
