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
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from . import report

KEY = "trust"


class Trust:
    """How much a check does, and where it says what it did.

    Attributes:
        scale: 1 in `make trust`.
        seed: of everything drawn.
    """

    def __init__(self, node: pytest.Item) -> None:
        self.scale: int = node.config.getoption("trust_scale", 1)
        self.seed: int = node.config.getoption("trust_seed", 0)
        self._node = node

    def times(self, usual: int, most: int | None = None) -> int:
        """How often to do a thing that is done so often in `make trust`."""
        wanted = usual * self.scale
        return wanted if most is None else max(usual, min(wanted, most))

    def random(self) -> random.Random:
        """Drawn numbers of this check alone, the same in every run with this seed."""
        return random.Random(f"{self.seed} {self._node.nodeid}")

    def count(self, section: str, name: str, **counts: float | str) -> None:
        """Say what was done: whole numbers are added up."""
        self._node.user_properties.append((KEY, [section, name, counts]))


@pytest.fixture
def trust(request: pytest.FixtureRequest) -> Trust:
    return Trust(request.node)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trust")
    group.addoption("--trust-scale", type=int, default=1, help="how many times as much is done")
    group.addoption("--trust-seed", type=int, default=0, help="of what is drawn")
    group.addoption(
        "--trust-report", type=Path, metavar="FILE", help="write the counts to this .json, and .md"
    )


class Collector:
    """Adds up what the checks of a run say, in the process that hears of all of them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.started = time.time()
        self.sections: report.Sections = {}
        self.checks, self.failed = set[str](), set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            self.checks.add(report.nodeid)
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when == "teardown":
            for key, said in report.user_properties:
                if key == KEY:
                    add(self.sections, *said)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        path: Path = self.config.getoption("trust_report")
        told = report.document(
            self.sections,
            checks=len(self.checks),
            failed=sorted(self.failed),
            scale=self.config.getoption("trust_scale"),
            seed=self.config.getoption("trust_seed"),
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


def pytest_configure(config: pytest.Config) -> None:
    asked = config.getoption("trust_report", None)
    if asked and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config), "trust-report")
